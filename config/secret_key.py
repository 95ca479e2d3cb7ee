"""The secret key for a machine whose settings name none: made once, kept in `data_dir/secret_key`."""

import os
import secrets
from pathlib import Path

from config.data_dir import make_data_dir
from config.errors import SettingsError

KEY_BYTES = 32
_LOST = (
    "{path} is missing, and {earlier} is from before: restore the secret key from a backup of data_dir, or set "
    'secret_key. If it is lost for good, follow "The secret key is lost" in docs/operations.md.'
)


def read_or_make_key(data_dir: Path) -> str:
    """The key kept in `data_dir`, which is made if missing. Processes that call this at once all get the same key.

    Raises SettingsError if the file cannot be made or read, or holds nothing; and if it is missing although there is
    data from before: what was sealed under a lost key can be opened with no other.
    """
    path = data_dir / "secret_key"
    try:
        if not path.exists():
            if earlier := _earlier_data(data_dir):
                raise SettingsError([_LOST.format(path=path, earlier=earlier)])
            make_data_dir(data_dir)
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


def _earlier_data(data_dir: Path) -> Path | None:
    """What shows that chartpost has worked here before: the embedded server's file, or a document in our care."""
    # The server is started after the key was made, so that its own first files never count as earlier data.
    places = (data_dir / "valkey" / "appendonlydir", data_dir / "processing")
    return next((entry for place in places if place.is_dir() for entry in place.iterdir()), None)


def _make(path: Path) -> None:
    """Put a new key at `path`, unless another process was faster."""
    draft = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # Unlike a rename, a link never replaces the key that another process has just put there. The content is
            # on disk already, so a crash leaves the whole key or none.
            path.hardlink_to(draft)
        except FileExistsError:
            return
    finally:
        draft.unlink()
    # The new name itself is on disk only after its folder was synced.
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
