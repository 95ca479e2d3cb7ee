"""The secret key of a machine that was given none: made once, kept in `data_dir/secret_key`."""

import os
import secrets
from pathlib import Path

from config.errors import SettingsError

KEY_BYTES = 32


def read_or_make_key(data_dir: Path) -> str:
    """The key kept in `data_dir` (which is made if need be). All processes that call this at once get the same one.

    Raises SettingsError if the file cannot be made or read, or holds nothing.
    """
    path = data_dir / "secret_key"
    try:
        if not path.exists():
            data_dir.mkdir(parents=True, exist_ok=True)
            _make(path)
        key = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not text"
        raise SettingsError(
            [f"{path} cannot be made or read ({reason}): correct that, or set secret_key or CHARTPOST_SECRET_KEY."]
        ) from error
    if not key:
        raise SettingsError([f"{path} is empty: restore it, or remove it and everything that Redis holds."])
    return key


def _make(path: Path) -> None:
    """Put a new key at `path` unless another process was faster.

    The link is what makes it whole or absent: it never replaces a file, and what it shows has been synced.
    """
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
