"""`processing/<job id>/`: one document in our care, its job.json and its sidecar, and how the document gets there.

A claim takes these steps. A kill leaves what the last of them has done, and the next run settles it:

1.  The folder and job.json are written. The document is still in the inbox: the claim is undone.
2.  The sidecar is moved here. The document is still in the inbox: the sidecar goes back to it.
3.  The document is moved here, by one rename. From now on it is ours: if the ledger does not know the job, it is
    opened again.

So a folder without a document is an unfinished claim, or a closing of which only the last step is missing.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import BinaryIO

from tasks.folders import durable
from tasks.folders.durable import ChangedMeanwhile, FileIdentity, StillWritten
from tasks.folders.job_json import JobFile, JobFileTooNew, from_bytes, to_bytes
from tasks.model.errors import Code, DocumentRefused
from tasks.sources.entries import Entry, OpenFolder, Place, entry

OURS = ".chartpost-"  # the names of our hidden files begin so; the inbox ignores hidden files
JOB_FILE = "job.json"
_LOCK = OURS + "lock"
_DRAFT = OURS + "draft"
_SIDECAR = OURS + "sidecar"
_COPY = OURS + "copy"
_MOVE_NOTE = OURS + "taking"  # names the inbox file that is being copied from another file system
_OTHER_NAME = "document"  # for a document that is called as one of our own files
_NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS)


class JobFolder:
    """The folder of one job. It need not exist. `open_folder` opens a folder of the inbox again, by its path."""

    def __init__(self, path: Path, open_folder: Callable[[Path], AbstractContextManager[OpenFolder]]) -> None:
        self.path = path
        self._open_folder = open_folder
        self.job_id = path.name

    @property
    def document(self) -> Path | None:
        """The document, under whatever name it has here."""
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

    def document_path(self, disk_name: str) -> Path:
        """Where a document of this name belongs."""
        return self.path / (_OTHER_NAME if _is_ours(disk_name) else disk_name)

    def read(self) -> JobFile:
        """job.json. Raises FileNotFoundError, JobFileDamaged and JobFileTooNew."""
        return JobFile.from_json(from_bytes((self.path / JOB_FILE).read_bytes()))

    def read_if_possible(self) -> JobFile | None:
        """job.json; None if it is missing or damaged, so that its document can be closed all the same.

        Raises JobFileTooNew.
        """
        try:
            return self.read()
        except JobFileTooNew:
            raise
        except OSError:
            return None

    def write(self, job_file: JobFile) -> None:
        durable.replace(self.path / JOB_FILE, to_bytes(job_file.to_json()), self.draft, 0o600)

    @contextmanager
    def lock(self, *, make: bool = False, wait: bool = True) -> Iterator[None]:
        """Keep every other process out of this folder while the block runs; a killed holder lets go.

        A missing folder stays missing, without a lock, unless `make`. Without `wait`, raises BlockingIOError.
        """
        lock = self._open_lock(make=make, wait=wait)
        try:
            yield
        finally:
            if lock is not None:
                os.close(lock)

    def take_sidecar(self, place: Entry) -> None:
        durable.move_new(place, self.path / _SIDECAR, self.draft)

    def return_sidecar(self, path: Path) -> None:
        """Put the sidecar back where it was, unless another one is there now."""
        if self.sidecar:
            with suppress(FileExistsError, FileNotFoundError), self._open_folder(path.parent) as folder:
                durable.move_new(self.path / _SIDECAR, folder.entry(path.name), folder.entry(OURS + self.job_id))

    def take(self, folder: OpenFolder, name: str, seen: FileIdentity, has_writer: Callable[[Place], bool]) -> Path:
        """Move the document here; it must still be the file that was seen, and nobody may have it open for writing.

        Raises ChangedMeanwhile, StillWritten and OSError; the document is then where it was.
        """
        place, target = folder.entry(name), self.document_path(name)
        try:
            # A rename may overwrite. Here nothing has the name: the caller has checked that, under the lock.
            place.rename(entry(target))
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            self._take_from_other_disk(folder, name, target, seen, has_writer)
        else:
            # Checked after the rename and not before: a check before it could be true and the next moment false.
            # Once the file is here no program of another user can open it any more.
            _give_back_unless_same(entry(target), place, seen, has_writer)
            durable.sync_folder(self.path)
        return target

    def adopt(self, source: Path | BinaryIO, job_file: JobFile) -> Path:
        """Copy a regular file here; job.json gets the size that was copied.

        Raises DocumentRefused (`file_missing`, `not_a_regular_file`, `file_changed`) and OSError.
        """
        copy, target = self.path / _COPY, self.document_path(job_file.disk_name)
        size_bytes = _copy_regular_file(source, copy)
        self.write(job_file.with_document(size_bytes=size_bytes))
        # Last: until the copy has its name there is no document here, and a kill leaves a folder to be removed.
        copy.rename(target)
        durable.sync_folder(self.path)
        return target

    def finish_copy(self) -> None:
        """Go on with a copy from another file system that a kill has interrupted."""
        note = self.path / _MOVE_NOTE
        if note.exists():
            original = Path(os.fsdecode(bytes.fromhex(json.loads(note.read_bytes())["path"])))
            try:
                with self._open_folder(original.parent) as folder:
                    self._bring_over(folder.entry(OURS + self.job_id), self.document_path(original.name))
            except (FileNotFoundError, ValueError):
                note.unlink(missing_ok=True)  # the folder has gone, and the hidden file with it

    def remove(self) -> None:
        """Remove the folder and our own files in it. Does nothing if a document is here."""
        if not self.path.is_dir() or self.document:
            return
        others = [path for path in self.path.iterdir() if path.name not in (JOB_FILE, _LOCK)]
        # job.json goes after everything else that it explains, and the lock goes last: we still hold it.
        for path in (*others, self.path / JOB_FILE, self.path / _LOCK):
            path.unlink(missing_ok=True)
        # It fails if another process waited for the lock and has made a new one: the next sweep finds an empty folder.
        with suppress(OSError):
            self.path.rmdir()

    def _open_lock(self, *, make: bool, wait: bool) -> int | None:
        """The open lock file; None if the folder is missing."""
        while True:
            if make:
                durable.make_folder(self.path, 0o700)
            try:
                lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            except FileNotFoundError:
                if make:  # the folder was removed since: make it again
                    continue
                return None
            try:
                _flock(lock, wait=wait)
                # While we waited the holder may have removed the folder: the lock of a removed file keeps no one out.
                if os.path.samestat(os.fstat(lock), (self.path / _LOCK).stat()):
                    return lock
            except FileNotFoundError:
                pass
            except OSError:
                os.close(lock)
                raise
            os.close(lock)

    # --- from another file system ----------------------------------------------------------------------------------

    def _take_from_other_disk(
        self, folder: OpenFolder, name: str, target: Path, seen: FileIdentity, has_writer: Callable[[Place], bool]
    ) -> None:
        free = os.statvfs(self.path)
        if seen.size_bytes > free.f_bavail * free.f_frsize:  # it may be sparse, and have no such size where it is
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        # First the note of where the document was. It lets `finish_copy` go on after a kill: while the hidden file
        # exists it copies it; afterwards there is nothing to do, since that file goes only when the copy is durable.
        note = {"path": os.fsencode(folder.path / name).hex()}  # the bytes, since a path may not be UTF-8
        durable.replace(self.path / _MOVE_NOTE, json.dumps(note).encode(), self.draft, 0o600)
        # Then the document is hidden where it is. From here on no other claim can take it; and a folder from which we
        # may not remove it shows now, and not when there are two of it.
        place, hidden = folder.entry(name), folder.entry(OURS + self.job_id)
        place.rename(hidden)
        _give_back_unless_same(hidden, place, seen, has_writer)
        try:
            self._bring_over(hidden, target)
        except (OSError, ChangedMeanwhile):
            _give_back(hidden, place)
            raise

    def _bring_over(self, hidden: Entry, target: Path) -> None:
        if hidden.exists() and not target.exists():
            durable.copy(hidden, self.path / _COPY)
            (self.path / _COPY).rename(target)
            durable.sync_folder(self.path)
        # The document is ours now; a hidden file that cannot be removed is only untidy.
        with suppress(OSError):
            hidden.unlink(missing_ok=True)
        (self.path / _MOVE_NOTE).unlink()


def _flock(lock: int, *, wait: bool) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        # Some network shares have no locks. There we rely on every step being repeatable.
        if error.errno not in _NO_LOCKS:
            raise


def _is_ours(name: str) -> bool:
    folded = name.casefold()  # on some disks JOB.JSON and job.json are one file
    return folded == JOB_FILE or folded.startswith(OURS)


def _give_back_unless_same(moved: Entry, place: Entry, seen: FileIdentity, has_writer: Callable[[Place], bool]) -> None:
    """Raises ChangedMeanwhile if what was moved from `place` is not the file that was seen there, or is being written.

    A writer does not notice the move: it goes on with the same file under its old name.
    """
    # The writer is looked for first: one that has closed the file since has changed it by then.
    written = has_writer(moved)
    if FileIdentity.at(moved) != seen:
        _give_back(moved, place)
        raise ChangedMeanwhile("The file was replaced while it was being claimed.")
    if written:
        _give_back(moved, place)
        raise StillWritten("Another program has the file open for writing.")


def _give_back(moved: Entry, place: Entry) -> None:
    # If another file has its name by now it stays where it was moved to, and its claim is finished later.
    with suppress(FileExistsError):
        durable.move_new(moved, place, place.beside(OURS + "returned"))


def _copy_regular_file(source: Path | BinaryIO, copy: Path) -> int:
    """Copy a regular file; returns its size in bytes. A stream is left open. Raises DocumentRefused and OSError."""
    refusal = DocumentRefused(Code.NOT_A_REGULAR_FILE, "Only a regular file can be sent.")
    try:
        with _opened(source) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise refusal
            return durable.copy_stream(file, copy).size_bytes
    except IsADirectoryError:
        raise refusal from None
    except FileNotFoundError as error:
        raise DocumentRefused(Code.FILE_MISSING, "The file is not there.") from error
    except ChangedMeanwhile as error:
        raise DocumentRefused(Code.FILE_CHANGED, str(error), hint="Send it once it is complete.") from error


def _opened(source: Path | BinaryIO) -> AbstractContextManager[BinaryIO]:
    if not isinstance(source, Path):
        return nullcontext(source)
    # Without NONBLOCK, opening a pipe would wait until another program writes to it.
    return open(source, "rb", opener=lambda path, flags: os.open(path, flags | os.O_NONBLOCK))
