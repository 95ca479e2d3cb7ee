"""A file system that does not tell `Scan.pdf` from `SCAN.PDF`, as those of Windows and macOS, and shares of them.

`python -m tests.folding_fs FOLDER` mounts one, in memory and without hard links, and serves it until its input ends.
It speaks the kernel's FUSE protocol (linux/fuse.h, 7.x) by itself: the kernel then treats it as any disk.
"""

from __future__ import annotations

import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_ROOT = 1
_BLOCK = 1 << 17
_REQUEST = struct.Struct("<IIQQIIII")  # length, opcode, unique, node, uid, gid, pid, padding
_ANSWER = struct.Struct("<IiQ")
_ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
_ENTRY = struct.Struct("<QQQQII")
_SETATTR = struct.Struct("<IIQQQQQQIIIIIIII")
_OPEN = struct.Struct("<QII")
_READ = struct.Struct("<QQIIQII")
_MNT_DETACH = 2


class NoFoldingDisk(Exception):
    """Nothing can be mounted here; says why."""


@dataclass
class Node:
    """A file or a folder; `names` are a folder's, by their folded form: the name as it was given, and its node."""

    mode: int
    content: bytearray = field(default_factory=bytearray)
    names: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    modified_ns: int = field(default_factory=time.time_ns)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.mode)


class FoldingDisk:
    """Answers the kernel's requests, one after the other."""

    def __init__(self) -> None:
        self._nodes = {_ROOT: Node(stat.S_IFDIR | 0o777)}
        self._next = _ROOT + 1
        # The numbers are linux/fuse.h's.
        self._acts: dict[int, Callable[[int, bytes], bytes]] = {
            1: lambda node, body: self._entry(self._found(node, _name(body))),
            3: lambda node, _: struct.pack("<QII", 1, 0, 0) + self._attr(node),
            4: self._set_attributes,
            9: lambda node, body: self._make(node, body[8:], stat.S_IFDIR | 0o777),
            10: lambda node, body: self._remove(node, _name(body)),
            11: lambda node, body: self._remove(node, _name(body)),
            12: lambda node, body: self._rename(node, struct.unpack_from("<Q", body)[0], body[8:], replace=True),
            14: self._open,
            15: self._read,
            16: self._write,
            17: lambda *_: (
                struct.pack("<QQQQQIIII", 1 << 20, 1 << 19, 1 << 19, 1 << 20, 1 << 19, 4096, 255, 4096, 0) + bytes(24)
            ),
            18: _done,
            20: _done,
            25: _done,
            26: lambda *_: struct.pack("<IIIIHHIIHHI", 7, 31, _BLOCK, 0, 12, 10, _BLOCK, 1, 0, 0, 0) + bytes(24),
            27: self._open,
            28: self._list,
            29: _done,
            30: _done,
            35: self._create,
            45: self._rename_with_flags,
        }

    def serve(self, device: int) -> None:
        while True:
            try:
                request = os.read(device, _BLOCK + 4096)
            except OSError as error:
                if error.errno == errno.ENODEV:  # unmounted
                    return
                continue
            _, opcode, unique, node, *_ = _REQUEST.unpack_from(request)
            if opcode in (2, 36, 42):  # forget, interrupt: no answer
                continue
            os.write(device, self._answer(opcode, unique, node, request[_REQUEST.size :]))

    def _answer(self, opcode: int, unique: int, node: int, body: bytes) -> bytes:
        try:
            answer = self._acts[opcode](node, body)
        except KeyError:
            return _ANSWER.pack(_ANSWER.size, -errno.ENOSYS, unique)
        except OSError as error:
            return _ANSWER.pack(_ANSWER.size, -(error.errno or errno.EIO), unique)
        return _ANSWER.pack(_ANSWER.size + len(answer), 0, unique) + answer

    # --- names -------------------------------------------------------------------------------------------------

    def _found(self, folder: int, name: bytes) -> int:
        known = self._nodes[folder].names.get(_folded(name))
        if known is None:
            raise FileNotFoundError(errno.ENOENT, "")
        return known[1]

    def _make(self, folder: int, name: bytes, mode: int) -> bytes:
        name = _name(name)
        names = self._nodes[folder].names
        if _folded(name) in names:
            raise FileExistsError(errno.EEXIST, "")
        made, self._next = self._next, self._next + 1
        self._nodes[made] = Node(mode)
        names[_folded(name)] = (name, made)
        return self._entry(made)

    def _create(self, folder: int, body: bytes) -> bytes:
        flags, mode = struct.unpack_from("<II", body)
        name = _name(body[16:])
        if _folded(name) not in self._nodes[folder].names:
            return self._make(folder, name + b"\0", stat.S_IFREG | mode & 0o777) + _OPEN.pack(0, 0, 0)
        if flags & os.O_EXCL:
            raise FileExistsError(errno.EEXIST, "")
        return self._entry(self._found(folder, name)) + _OPEN.pack(0, 0, 0)

    def _remove(self, folder: int, name: bytes) -> bytes:
        if self._nodes[self._found(folder, name)].names:
            raise OSError(errno.ENOTEMPTY, "")
        del self._nodes[folder].names[_folded(name)]
        return b""

    def _rename(self, folder: int, to: int, both: bytes, *, replace: bool) -> bytes:
        old, new, _ = both.split(b"\0", 2)
        moved = self._found(folder, old)
        standing = self._nodes[to].names.get(_folded(new))
        if standing and standing[1] != moved and not replace:
            raise FileExistsError(errno.EEXIST, "")
        del self._nodes[folder].names[_folded(old)]
        self._nodes[to].names[_folded(new)] = (new, moved)
        return b""

    def _rename_with_flags(self, folder: int, body: bytes) -> bytes:
        to, flags, _ = struct.unpack_from("<QII", body)
        if flags & ~1:
            raise OSError(errno.EINVAL, "")
        return self._rename(folder, to, body[16:], replace=not flags & 1)

    def _list(self, folder: int, body: bytes) -> bytes:
        _, offset, size, *_ = _READ.unpack_from(body)
        listed = b""
        for place, (name, node) in list(enumerate(self._nodes[folder].names.values(), start=1))[offset:]:
            record = struct.pack("<QQII", node, place, len(name), self._nodes[node].mode >> 12) + name
            record += bytes(-len(record) % 8)
            if len(listed) + len(record) > size:
                break
            listed += record
        return listed

    # --- content -----------------------------------------------------------------------------------------------

    def _open(self, node: int, body: bytes) -> bytes:
        if struct.unpack_from("<I", body)[0] & os.O_TRUNC:
            self._nodes[node].content.clear()
        return _OPEN.pack(0, 0, 0)

    def _read(self, node: int, body: bytes) -> bytes:
        _, offset, size, *_ = _READ.unpack_from(body)
        return bytes(self._nodes[node].content[offset : offset + size])

    def _write(self, node: int, body: bytes) -> bytes:
        _, offset, size, *_ = _READ.unpack_from(body)
        content, written = self._nodes[node].content, body[_READ.size : _READ.size + size]
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + size] = written
        self._nodes[node].modified_ns = time.time_ns()
        return struct.pack("<II", size, 0)

    def _set_attributes(self, node: int, body: bytes) -> bytes:
        valid, _, _, size, _, _, mtime, _, _, mtime_ns, _, mode, *_ = _SETATTR.unpack_from(body)
        found = self._nodes[node]
        if valid & 1:
            found.mode = stat.S_IFMT(found.mode) | stat.S_IMODE(mode)
        if valid & 8:
            del found.content[size:]
            found.content.extend(bytes(size - len(found.content)))
        if valid & 0x20:
            found.modified_ns = time.time_ns() if valid & 0x100 else mtime * 1_000_000_000 + mtime_ns
        return struct.pack("<QII", 1, 0, 0) + self._attr(node)

    def _entry(self, node: int) -> bytes:
        return _ENTRY.pack(node, 0, 0, 0, 0, 0) + self._attr(node)

    def _attr(self, node: int) -> bytes:
        found = self._nodes[node]
        seconds, rest = divmod(found.modified_ns, 1_000_000_000)
        size, links = len(found.content), 2 if found.is_folder else 1
        times = (seconds, seconds, seconds, rest, rest, rest)
        return _ATTR.pack(node, size, size // 512, *times, found.mode, links, os.getuid(), os.getgid(), 0, 4096, 0)


def _done(*_: object) -> bytes:
    return b""


def _name(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


def _folded(name: bytes) -> bytes:
    return os.fsencode(os.fsdecode(name).casefold())


def main() -> None:
    folder = sys.argv[1]
    libc = ctypes.CDLL(None, use_errno=True)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={os.getuid()},group_id={os.getgid()},default_permissions"
    if libc.mount(b"folding", folder.encode(), b"fuse", 0, options.encode()):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    threading.Thread(target=FoldingDisk().serve, args=(device,), daemon=True).start()
    sys.stdout.write("mounted\n")
    sys.stdout.flush()
    sys.stdin.read()
    libc.umount2(folder.encode(), _MNT_DETACH)


@contextmanager
def folding_disk(folder: Path) -> Iterator[Path]:
    """The folder, which must exist, as such a disk. Needs root, or whatever else may mount. Raises NoFoldingDisk."""
    command = [sys.executable, "-m", "tests.folding_fs", str(folder)]
    serving = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with serving:
        if not serving.stdout or serving.stdout.readline() != "mounted\n":
            raise NoFoldingDisk((serving.stderr.read() if serving.stderr else "").strip().rpartition("\n")[2])
        try:
            yield folder
        finally:
            if serving.stdin:
                serving.stdin.close()
            serving.wait(10)


if __name__ == "__main__":
    main()
