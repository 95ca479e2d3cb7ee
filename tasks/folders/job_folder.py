"""`processing/<job id>/`: one document in our care, its job.json, and how it comes in from the inbox.

A claim writes job.json, moves the sidecar, and then the document, by one rename. So a folder without a document is
an unfinished claim, whose file is still where it was (or an end whose last step is missing).
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from tasks.folders import durable
from tasks.folders.durable import ChangedMeanwhile, FileIdentity
from tasks.folders.job_json import JobFile, from_bytes, to_bytes
from tasks.model.errors import Code, DocumentRefused

OURS = ".chartpost-"  # whatever begins so is no document
JOB_FILE = "job.json"
_LOCK = OURS + "lock"
_DRAFT = OURS + "draft"
_SIDECAR = OURS + "sidecar"
_COPY = OURS + "copy"
_TAKING = OURS + "taking"  # names the inbox file on another file system that is being copied
_INSTEAD = "document"  # the name in our care of a document that is called as our own files are
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class JobFolder:
    """The folder of one job; it need not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.job_id = path.name

    @property
    def document(self) -> Path | None:
        """The document, under whatever name it lies here."""
        with suppress(FileNotFoundError):
            return next((entry for entry in self.path.iterdir() if not _is_ours(entry.name)), None)
        return None

    @property
    def sidecar(self) -> Path | None:
        path = self.path / _SIDECAR
        return path if path.exists() else None

    @property
    def draft(self) -> Path:
        return self.path / _DRAFT

    def place_for(self, disk_name: str) -> Path:
        """Where a document of this name is to lie."""
        return self.path / (_INSTEAD if _is_ours(disk_name) else disk_name)

    def read(self) -> JobFile:
        """job.json. Raises FileNotFoundError and JobFileDamaged."""
        return JobFile.from_json(from_bytes((self.path / JOB_FILE).read_bytes()))

    def write(self, job_file: JobFile) -> None:
        durable.replace(self.path / JOB_FILE, to_bytes(job_file.to_json()), self.draft, 0o600)

    @contextmanager
    def lock(self, *, make: bool = False, wait: bool = True) -> Iterator[None]:
        """Nobody else is at work on this folder, in any process, while the block runs; the kernel sees to it.

        A folder that is missing stays so unless `make`. Raises BlockingIOError instead of waiting if not `wait`.
        """
        lock = self._lock(make=make, wait=wait)
        try:
            yield
        finally:
            if lock is not None:
                os.close(lock)

    def take_sidecar(self, path: Path) -> None:
        durable.move_new(path, self.path / _SIDECAR, self.draft)

    def return_sidecar(self, path: Path) -> None:
        """Put the sidecar back where it was, unless another one has come there."""
        if self.sidecar:
            with suppress(FileExistsError, FileNotFoundError):
                durable.move_new(self.path / _SIDECAR, path, path.with_name(OURS + self.job_id))

    def take(self, path: Path, seen: FileIdentity) -> Path:
        """Bring the document in; it must still be the file that was seen.

        Raises ChangedMeanwhile and OSError; the document is then where it was.
        """
        target = self.place_for(path.name)
        try:
            path.rename(target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._take_over(path, target, seen)
        else:
            _keep_if_same(target, path, seen)
            durable.sync_folder(self.path)
        return target

    def adopt(self, source: Path | BinaryIO, job_file: JobFile) -> Path:
        """Copy a regular file in; job.json gets the size of what was copied.

        Raises DocumentRefused (`file_missing`, `not_a_regular_file`, `file_changed`) and OSError.
        """
        copy, target = self.path / _COPY, self.place_for(job_file.disk_name)
        size_bytes = _copy_of(source, copy)
        self.write(replace(job_file, size_bytes=size_bytes))
        copy.rename(target)
        durable.sync_folder(self.path)
        return target

    def finish_copy(self) -> None:
        """Go on with a copy from another file system that a kill has interrupted."""
        note = self.path / _TAKING
        if note.exists():
            original = Path(os.fsdecode(bytes.fromhex(json.loads(note.read_bytes())["path"])))
            self._bring_over(original.with_name(OURS + self.job_id), self.place_for(original.name))

    def remove(self) -> None:
        """Remove the folder with what is ours in it, job.json last; if a document lies here, nothing."""
        if not self.path.is_dir() or self.document:
            return
        ours = [path for path in self.path.iterdir() if path.name not in (JOB_FILE, _LOCK)]
        for path in (*ours, self.path / JOB_FILE, self.path / _LOCK):
            path.unlink(missing_ok=True)
        with suppress(OSError):  # somebody waits for the lock and has made it anew: the next tidying finds it empty
            self.path.rmdir()

    def _take_over(self, path: Path, target: Path, seen: FileIdentity) -> None:
        """Bring the document in from another file system.

        It is first renamed where it lies, to a hidden name: from then on it is ours alone and cannot be claimed a
        second time, and a folder that does not let us remove it is noticed before there are two. The note that is
        written before that lets `finish_copy` go on after a kill: with the copy while the hidden file is there,
        with nothing otherwise, since it goes only when the copy is durable.
        """
        aside = path.with_name(OURS + self.job_id)
        note = {"path": os.fsencode(path).hex()}
        durable.replace(self.path / _TAKING, json.dumps(note).encode(), self.draft, 0o600)
        path.rename(aside)
        _keep_if_same(aside, path, seen)
        try:
            self._bring_over(aside, target)
        except (OSError, ChangedMeanwhile):
            _give_back(aside, path)
            raise

    def _bring_over(self, aside: Path, target: Path) -> None:
        if aside.exists() and not target.exists():
            durable.copy(aside, self.path / _COPY)
            (self.path / _COPY).rename(target)
            durable.sync_folder(self.path)
        with suppress(OSError):  # a hidden file that stays is only untidy; the document is ours
            aside.unlink(missing_ok=True)
        (self.path / _TAKING).unlink()

    def _lock(self, *, make: bool, wait: bool) -> int | None:
        """The open lock file; None if the folder is missing. Made anew when it was removed while we waited for it."""
        while True:
            if make:
                durable.make_folder(self.path, 0o700)
            try:
                lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError:
                if make:
                    continue
                return None
            try:
                _lock_file(lock, wait=wait)
                if os.path.samestat(os.fstat(lock), (self.path / _LOCK).stat()):
                    return lock
            except FileNotFoundError:
                pass
            except OSError:
                os.close(lock)
                raise
            os.close(lock)


def _lock_file(lock: int, *, wait: bool) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in _NO_LOCKS:  # without locks, every step being repeatable has to do
            raise


def _is_ours(name: str) -> bool:
    folded = name.casefold()  # on some disks JOB.JSON and job.json are one file
    return folded == JOB_FILE or folded.startswith(OURS)


def _keep_if_same(moved: Path, path: Path, seen: FileIdentity) -> None:
    """Raises ChangedMeanwhile, after giving back what was moved, if it is not what was seen under its name."""
    if FileIdentity.at(moved) != seen:
        _give_back(moved, path)
        raise ChangedMeanwhile("The file was replaced while it was being claimed.")


def _give_back(moved: Path, path: Path) -> None:
    """Put a file back. If yet another has come there it stays where it is now, and its claim is finished later."""
    with suppress(FileExistsError):
        durable.move_new(moved, path, path.with_name(OURS + "returned"))


def _copy_of(source: Path | BinaryIO, copy: Path) -> int:
    """Copy a regular file; returns its size in bytes. Raises DocumentRefused and OSError."""
    try:
        with _opened(source) as file:
            return durable.copy_stream(file, copy).size_bytes
    except FileNotFoundError as error:
        raise DocumentRefused(Code.FILE_MISSING, "The file is not there.") from error
    except ChangedMeanwhile as error:
        raise DocumentRefused(Code.FILE_CHANGED, str(error), hint="Send it once it is complete.") from error


@contextmanager
def _opened(source: Path | BinaryIO) -> Iterator[BinaryIO]:
    """The source as an open file. A stream is left open; a pipe is refused without waiting for somebody to write."""
    if not isinstance(source, Path):
        _check_regular(source.fileno())
        yield source
        return
    descriptor = os.open(source, os.O_RDONLY | os.O_NONBLOCK)
    try:
        _check_regular(descriptor)
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def _check_regular(descriptor: int) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        raise DocumentRefused(Code.NOT_A_REGULAR_FILE, "Only a regular file can be sent.")
