"""The end of the embedded server's append-only file, which a power cut may leave cut or filled with zeros.

A file system may have noted the file's new size before the bytes themselves: then the end reads as zeros. Valkey does
not start with such a file. It would start with a command that is cut, and drop it without a copy; but a damaged length
in the middle looks the same to it, and then it drops everything that follows. So `aof-load-truncated` is off, and the
end is mended here. The format: a manifest that names the parts, and in the last part commands in RESP
(https://valkey.io/topics/persistence/, https://valkey.io/topics/protocol/).
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path

_MANIFEST = "appendonly.aof.manifest"
_LONGEST_NUMBER = 24  # bytes of a line with a number in it
_UNFINISHED_NUMBER = re.compile(rb"[*$]\d*\r?")
_COMMAND_BEGINS = re.compile(rb"\r\n\*\d+\r\n\$\d+\r\n")
_COPY_BYTES = 1 << 20


class DamagedFile(Exception):
    """The file is damaged elsewhere than at its end. Nothing was changed; the message names the place."""


@dataclass(frozen=True, slots=True)
class Mended:
    file: Path
    # Where the file ends now, in bytes.
    offset: int
    dropped_bytes: int
    # What was cut off. Appended to the file, it makes what was there before.
    kept: Path


class _End(Enum):
    CLEAN = auto()
    UNFINISHED = auto()
    WRONG = auto()


def mend_end(folder: Path, keep_in: Path) -> Mended | None:
    """Cut off what is unfinished or zero at the end of the append-only file in `folder`; None if nothing is.

    What is cut off is first copied into `keep_in`. Raises DamagedFile and OSError.
    """
    file = _last_part(folder)
    if file is None or not file.stat().st_size:
        return None
    with file.open("r+b") as opened:
        offset = _good_until(opened.fileno(), file)
        size = os.fstat(opened.fileno()).st_size
        if offset == size:
            return None
        kept = _free_name(keep_in / f"{file.name}.from-{offset}")
        opened.seek(offset)
        with kept.open("xb") as copy:
            kept.chmod(0o600)
            shutil.copyfileobj(opened, copy, _COPY_BYTES)
            copy.flush()
            os.fsync(copy.fileno())
        opened.truncate(offset)
        os.fsync(opened.fileno())
    return Mended(file, offset, size - offset, kept)


def _last_part(folder: Path) -> Path | None:
    """The part that was being written to: only its end can be unfinished."""
    try:
        lines = (folder / _MANIFEST).read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return None
    incremental = [line.split()[1] for line in lines if re.fullmatch(r"file \S+ seq \d+ type i", line.strip())]
    return folder / incremental[-1] if incremental else None


def _good_until(descriptor: int, file: Path) -> int:
    """Where the last whole command ends that is not in an unfinished transaction. Raises DamagedFile."""
    with mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ) as data:
        offset, end = _read(data, len(data))
        if end is _End.WRONG:
            # Perhaps only because of zeros at the end.
            offset, end = _read(data, _without_zeros(data))
        if end is _End.WRONG:
            raise DamagedFile(f"{file} is damaged at byte {offset} or soon after it, and not only at its end")
        return offset


def _read(data: mmap.mmap, size: int) -> tuple[int, _End]:
    """Read commands up to `size`. Returns where the last good one ends, and what comes after it."""
    position = good = 0
    in_transaction = False
    while position < size:
        try:
            name, position = _command(data, position, size)
        except EOFError:
            return good, _End.UNFINISHED
        except ValueError:
            return good, _End.WRONG
        if name == b"MULTI":
            in_transaction = True
        elif name in (b"EXEC", b"DISCARD"):
            in_transaction = False
        if not in_transaction:
            good = position
    return good, _End.UNFINISHED if in_transaction else _End.CLEAN


def _command(data: mmap.mmap, position: int, size: int) -> tuple[bytes, int]:
    """A command's name and its end. Raises EOFError if it is cut at `size`, ValueError if it is no command."""
    if data[position : position + 1] == b"#":  # a remark, such as a time
        end = data.find(b"\n", position, size)
        if end < 0:
            raise EOFError
        return b"", end + 1
    count, position = _number(b"*", data, position, size)
    name = b""
    for part in range(count):
        length, position = _number(b"$", data, position, size)
        end = position + length
        if end + 2 > size:
            # If whole commands follow, this one is not cut: its length is damaged.
            if _COMMAND_BEGINS.search(data, position, size):
                raise ValueError
            raise EOFError
        if data[end : end + 2] != b"\r\n":
            raise ValueError
        if part == 0:
            name = data[position:end].upper()
        position = end + 2
    return name, position


def _number(mark: bytes, data: mmap.mmap, position: int, size: int) -> tuple[int, int]:
    """The number in a line such as `$12`, and the line's end. Raises as `_command` does."""
    line = data[position : min(size, position + _LONGEST_NUMBER)]
    if line and not line.startswith(mark):
        raise ValueError
    digits, ended, _ = line.partition(b"\r\n")
    if not ended:
        if position + len(line) == size and (not line or _UNFINISHED_NUMBER.fullmatch(line)):
            raise EOFError
        raise ValueError
    if not digits[1:].isdigit():
        raise ValueError
    return int(digits[1:]), position + len(digits) + 2


def _without_zeros(data: mmap.mmap) -> int:
    """The size without the zeros at the end."""
    size = len(data)
    while size:
        start = max(0, size - _COPY_BYTES)
        rest = data[start:size].rstrip(b"\0")
        if rest:
            return start + len(rest)
        size = start
    return 0


def _free_name(path: Path) -> Path:
    number, free = 1, path
    while free.exists():
        number, free = number + 1, path.with_name(f"{path.name}.{number}")
    return free
