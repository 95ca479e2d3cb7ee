"""A document that changed after it was sent: what was sent has arrived, and the changed file becomes a job of its own.

Beside the receipt in delivered/ it would be taken for what was sent. So it goes to failed/ with `file_changed`. These
steps may each be repeated after a kill:

1.  job.json notes the id of that other job. From now on no closing moves the file to delivered/.
2.  The receipt is written alone, with a remark that names the other job.
3.  processing/<that id>/ gets a job.json which says why it fails, and then the file.

The watcher then finds a document whose job the ledger does not know, and opens its job as failed.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, replace
from uuid import UUID, uuid5

from tasks.folders import durable
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.model.errors import Code
from tasks.model.job import Failure
from tasks.sources.entries import Place, entry
from tasks.sources.files import identity_of


@dataclass(frozen=True, slots=True)
class SentDocument:
    """What was sent, as the ledger knows it."""

    size_bytes: int
    identity: str  # as the source had it; of a staged document it is the copy's
    sha256: str | None

    def is_at(self, place: Place) -> bool:
        """Whether this file still is what was sent. Reads it only if it may have changed. Raises OSError."""
        now = entry(place).status()
        if identity_of(now) == self.identity:
            return True
        if self.sha256:
            with os.fdopen(entry(place).open(), "rb") as file:
                return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256
        # Nobody saw the bytes that were sent. A move to another disk changes the inode alone.
        _, _, *modified = self.identity.split(":") if self.identity.count(":") == 2 else ("", "")
        return now.st_size == self.size_bytes and modified in ([], [str(now.st_mtime_ns)])


def id_after_change(job_id: str) -> str:
    """The id of the job under which the changed document of a job goes on; always the same."""
    return str(uuid5(UUID(job_id), "changed"))


def remark_of(job_id: str, size_bytes: int) -> str:
    """What the receipt says. `size_bytes` is what was sent."""
    return (
        f"The file changed after it was sent: what arrived are the {size_bytes} bytes of this receipt. "
        f"The changed file is in failed/, as job {id_after_change(job_id)}."
    )


def set_aside(folders: Folders, job_file: JobFile, document: Place) -> None:
    """Let the changed document go on under its own id. Does nothing if an earlier try has done so. Raises OSError."""
    job_id = id_after_change(job_file.job_id)
    folder = folders.job_folder(job_id)
    with folder.lock(make=True):
        if not entry(document).exists():
            return
        sent, now_bytes = job_file.document, entry(document).status().st_size
        # A job of its own: the idempotency key, the callback and the rounds are the first one's.
        changed = replace(
            sent, size_bytes=now_bytes, idempotency_key=None, callback_url=None, as_it_is=False, round=0, home=None
        )
        folder.write(
            JobFile(
                job_id,
                changed,
                job_file.disk_name,
                job_file.received_at,
                name_by_pattern=job_file.name_by_pattern,
                in_account_folder=job_file.in_account_folder,
                refused=_failure(sent.size_bytes, now_bytes),
            )
        )
        durable.move_new(document, folder.document_path(job_file.disk_name), folder.draft)


def _failure(sent_bytes: int, now_bytes: int) -> Failure:
    return Failure(
        Code.FILE_CHANGED,
        f"The file changed after it was sent: {sent_bytes} bytes have arrived, and now it has {now_bytes}.",
        "Compare it with the document in the chart. If something is missing there, move this file back to the inbox: "
        "it is then sent as a document of its own.",
    )
