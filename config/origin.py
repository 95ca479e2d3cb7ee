"""Where the settings of a process came from, and whether the files with their secrets have changed since."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True, slots=True)
class FileStamp:
    """A file as it was at one moment: device, inode, size in bytes and time of change in ns; None if it was missing."""

    path: Path
    seen: tuple[int, int, int, int] | None

    @classmethod
    def of(cls, path: Path) -> Self:
        try:
            # Of what a symlink leads to: Kubernetes replaces a secret by turning a link in its path.
            status = path.stat()
        except (OSError, ValueError):
            return cls(path, None)
        return cls(path, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))

    def now(self) -> Self:
        """The same file as it is at this moment."""
        return self.of(self.path)


@dataclass(frozen=True, slots=True)
class Origin:
    """`file` is the settings file that was read. `secret_files` hold secrets, `ca_files` authorities to trust."""

    file: Path | None = None
    secret_files: tuple[FileStamp, ...] = ()
    ca_files: tuple[FileStamp, ...] = ()

    def __str__(self) -> str:
        if self.file:
            return f"Settings file: {self.file.absolute()}."
        return (
            "No settings file was read: neither --config nor $CHARTPOST_CONFIG names one, and there is no "
            f"{Path('chartpost.toml').absolute()}."
        )
