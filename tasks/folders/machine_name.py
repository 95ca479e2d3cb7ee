"""This machine's name in the ledger: it says whose folders hold a document that was staged to S3."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from uuid import uuid4

from tasks.folders import durable


def machine_name(data_dir: Path) -> str:
    """The name, made once and kept in `data_dir`: it stays the same when the host name changes."""
    path = data_dir / "machine"
    with suppress(FileNotFoundError):
        return path.read_text().strip()
    data_dir.mkdir(parents=True, exist_ok=True)
    # Two processes may make a name at the same moment, each with a draft of its own: the first name counts for both.
    with suppress(FileExistsError):
        durable.write_new(path, f"{uuid4()}\n".encode(), data_dir / f"machine.{uuid4()}", 0o666)
    return path.read_text().strip()
