"""Documents on their way out of our care: into delivered/ with a receipt, or into failed/ with an error file."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.late_log import LateLog
from tasks.folders import durable
from tasks.folders.companions import DEEPEST, ClosedDocument, CompanionFolder, Outcome
from tasks.folders.disk_names import beside, clean
from tasks.folders.job_folder import OURS, JobFolder
from tasks.folders.job_json import JobFile, job_file_in
from tasks.folders.layout import Folders
from tasks.folders.notes import ENDINGS, NOT_SENT, NoteText, is_note_of
from tasks.folders.set_aside import SentDocument, remark_of, set_aside
from tasks.model.document import Document, Door
from tasks.sources.entries import Entry, OpenFolder, Place, one_name, opened_below

log = LateLog(__name__)


class Outcomes:
    """Closes the documents of jobs that have ended, and finds them again. Every step may be repeated."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    def deliver(
        self,
        job_id: str,
        account: str,
        patient_id: str | None,
        receipt: Mapping[str, Any],
        sent: SentDocument | None = None,
    ) -> ClosedDocument:
        """Write the receipt into delivered/ and move the document beside it.

        A document that had failed is taken from failed/, and its error file is removed. If a person has moved the
        document away, the receipt is written alone. So it is if the document is not what was `sent` any more: it is
        then set aside, and the receipt says so. Returns where the document is, or would be.
        """
        job = self._folders.job_folder(job_id)
        with job.lock():
            job_file = job.read_if_possible()
            # As found on disk: the name of the patient's folder may not be UTF-8, and then the ledger has another text.
            patient_id = job_file.document.patient_id if job_file else patient_id
            in_first_round = job.document and job_file and job_file.document.round == 0
            # In its first round a document cannot have failed; searching would read all the patient's error files.
            failed = None if in_first_round else self._folders.error_files.find(job_id, account, patient_id)
            name = _disk_name(job, job_file, failed, receipt)
            with self._document_in_failed(failed, sent) as document_in_failed:
                document = job.document or document_in_failed
                if changed := self._set_aside_from(job, job_file, document, sent, {**receipt, "file_name": name}):
                    remarks = [*receipt.get("remarks", ()), remark_of(job_id, changed.document.size_bytes)]
                    receipt = {**receipt, "remarks": remarks}
                outcome = Outcome(job_id, account, patient_id, name, receipt, None if changed else document)
                closed = _close(self._folders.receipts, job, outcome, receipts=True)
                if changed and document:
                    set_aside(self._folders, changed, document)
            # Last the error file, then the job's folder: until then a repetition still finds what it needs.
            drop_stale_error_file(self._folders, failed, job)
            job.remove()
            return closed

    @contextmanager
    def _document_in_failed(self, failed: ClosedDocument | None, sent: SentDocument | None) -> Iterator[Entry | None]:
        """The document beside an error file, if it is there. Raises OSError.

        An error file that is not believed may name any document: it must be what was sent.
        """
        if failed is None:
            yield None
            return
        with self._folders.error_files.opened(failed) as folder:
            document = folder.entry(failed.document.name)
            is_it = document.is_file() and (failed.believed or (sent is not None and sent.is_at(document)))
            yield document if is_it else None

    def _set_aside_from(
        self,
        job: JobFolder,
        job_file: JobFile | None,
        document: Place | None,
        sent: SentDocument | None,
        receipt: Mapping[str, Any],
    ) -> JobFile | None:
        """The job.json of a document that is not what was sent any more; None if it still is, or is not here."""
        if job_file and job_file.set_aside:
            return job_file
        if document is None or sent is None or sent.is_at(document):
            return None
        if job_file is None:
            name = str(receipt["file_name"])
            account, patient_id = receipt["account"], receipt["patient_id"]
            rebuilt = Document(account, patient_id, source="", file_name=clean(name), size_bytes=0, door=Door.INBOX)
            job_file = JobFile(job.job_id, rebuilt, name, received_at=datetime.now(UTC))
        job_file = replace(job_file.with_document(size_bytes=sent.size_bytes), set_aside=True)
        if job.document:  # what lies in failed/ is not moved by any other closing
            job.write(job_file)
        return job_file

    def fail(
        self,
        job_id: str,
        account: str,
        patient_id: str | None,
        error: Mapping[str, Any],
        notes: Callable[[str], Mapping[str, NoteText]] = lambda _: {},
    ) -> Path:
        """Write the error file into failed/ and move the document and its sidecar beside it.

        An error file of this round that was written before gets the new content. `notes` gives the notes for people, by
        what the document is called there. Returns where the document is, or would be.
        """
        job = self._folders.job_folder(job_id)
        with job.lock():
            job_file = job.read_if_possible()
            # With job.json in it, the document can be sent again even when the job has left Redis.
            content = {**error, "job_file": job_file.to_json()} if job_file else error
            outcome = Outcome(
                job_id,
                account,
                job_file.document.patient_id if job_file else patient_id,
                _disk_name(job, job_file, None, error),
                content,
                job.document,
                job.sidecar,
                job_file.document.round if job_file else 0,
            )
            closed = _close(self._folders.error_files, job, outcome)
            self._folders.error_files.amend(closed, error, outcome)
            self._put_notes(closed, job_id, notes(closed.document.name))
            job.remove()
            return closed.document

    def tell(
        self,
        job_id: str,
        account: str,
        patient_id: str | None,
        error: Mapping[str, Any],
        notes: Callable[[str], Mapping[str, NoteText]] | None = None,
    ) -> bool:
        """Let an error file that lies here say this, too; False if it does not lie here, or is not believed.

        `notes` as for `fail`. Without them there will be none any more: they would say what is over.
        """
        with self._folders.job_folder(job_id).lock():
            closed = self._folders.error_files.find(job_id, account, patient_id)
            if closed is None or not closed.believed:
                return False
            outcome = Outcome(job_id, account, patient_id, closed.document.name, error)
            self._folders.error_files.amend(closed, error, outcome)
            if notes is not None:
                self._put_notes(closed, job_id, notes(closed.document.name))
                return True
            with self._folders.error_files.opened(closed) as folder:
                self._folders.notes.remove(folder, closed.document.name, NOT_SENT, job_id)
            return True

    def _put_notes(self, closed: ClosedDocument, job_id: str, texts: Mapping[str, NoteText]) -> None:
        """Write the notes beside a document in failed/; none if a person has moved it away since."""
        # A note is not worth holding the closing up for: where it cannot be written, the error file tells the same.
        try:
            with self._folders.error_files.opened(closed) as folder:
                if folder.entry(closed.document.name).exists():
                    draft = folder.entry(OURS + job_id)
                    self._folders.notes.put(folder, closed.document.name, NOT_SENT, job_id, texts, draft)
        except OSError as error:
            log.warning("note_not_written", job=job_id, error=errno.errorcode.get(error.errno or 0, "OSError"))

    def drop_stale_notes(self) -> int:
        """Remove the notes in failed/ whose documents are there no more; returns how many."""
        dropped = 0
        with suppress(FileNotFoundError), OpenFolder.of(self._folders.failed) as root:
            for path, folders, names, descriptor in os.fwalk(dir_fd=root.descriptor):
                if path.count("/") >= DEEPEST:
                    folders.clear()
                folder, here = OpenFolder(descriptor, self._folders.failed / path), frozenset(names)
                for name in names:
                    if NOT_SENT in name and name.endswith(ENDINGS) and not _has_document(name, here):
                        with suppress(OSError):  # somebody else's folder
                            dropped += self._folders.notes.remove_note(folder.entry(name))
        return dropped

    def find_error_file(self, job_id: str, account: str, patient_id: str | None) -> ClosedDocument | None:
        """Where a failed job's error file is, and its document unless a person has moved it."""
        return self._folders.error_files.find(job_id, account, patient_id)

    def find_receipt(self, job_id: str, account: str, patient_id: str | None) -> Mapping[str, Any] | None:
        """The receipt of a job in delivered/, if it is there and bears our signature."""
        closed = self._folders.receipts.find(job_id, account, patient_id)
        return closed.content if closed and closed.believed else None

    def receipts(self) -> Iterator[ClosedDocument]:
        """Every receipt in delivered/."""
        return self._folders.receipts.all()

    def error_files(self) -> Iterator[ClosedDocument]:
        """Every error file in failed/."""
        return self._folders.error_files.all()

    def closed_at(self, path: Path) -> ClosedDocument | None:
        """What was closed where this file of delivered/ or failed/ lies, or lay: a document or what is beside it.

        None for a file elsewhere. Raises OSError.
        """
        for companions in (self._folders.receipts, self._folders.error_files):
            if path.is_relative_to(companions.root):
                return companions.at(path)
        return None

    def closed_as(self, document_name: str) -> Iterator[ClosedDocument]:
        """Every document of this name in failed/ and delivered/."""
        yield from self._folders.error_files.all(document_name)
        yield from self._folders.receipts.all(document_name)

    def remove_delivered(self, delivered: ClosedDocument, *, before: float) -> bool:
        """Remove a document and its receipt, if the receipt was written before this time. Raises OSError."""
        with self._folders.receipts.opened(delivered) as folder:
            receipt = folder.entry(delivered.companion.name)
            # The receipt's age counts: the document keeps the time of its scan, which may be years ago.
            if receipt.status().st_mtime >= before:
                return False
            # The receipt goes last, so that a kill in between leaves something that the next sweep finds.
            folder.entry(delivered.document.name).unlink(missing_ok=True)
            receipt.unlink()
            return True


def drop_notes_left_behind(folders: Folders, account: str, patient_id: str | None, disk_name: str) -> None:
    """Remove the notes in failed/ of a document that has come back by the inbox.

    Those that lie elsewhere, since it came back under another patient or name, `drop_stale_notes` removes later.
    """
    with suppress(OSError, ValueError):
        path = folders.failed / one_name(account) / (one_name(patient_id) if patient_id else "")
        with opened_below(folders.failed, path) as folder:
            if not folder.entry(disk_name).exists():
                for ending in ENDINGS:
                    folders.notes.remove_note(folder.entry(beside(disk_name, "", NOT_SENT + ending)))


def _has_document(note: str, names: Collection[str]) -> bool:
    """True if a document among these names is the one that a note of this name belongs to."""
    stem = note.rpartition(NOT_SENT)[0]
    # Most are found by name; only a cut or tagged one is compared with every name.
    return stem in names or any(is_note_of(note, name) for name in names if name != note)


def drop_stale_error_file(folders: Folders, failed: ClosedDocument | None, job: JobFolder) -> None:
    """Remove the error file of a document that is not in failed/ any more, or is in our care as well."""
    if failed is None:
        return
    with suppress(FileNotFoundError), folders.error_files.opened(failed) as folder:
        document, sidecar = folder.entry(failed.document.name), folder.entry(failed.sidecar.name)
        if document.exists():
            # In both places: a person has copied it to the inbox, or a kill came before it was removed from failed/.
            # If the content differs, a person has changed it: that document is theirs, and stays with its error file.
            if not (job.document and durable.same_content(document, job.document)):
                return
            document.unlink()
        if job.document and not job.sidecar:
            with suppress(FileNotFoundError):
                job.take_sidecar(sidecar)
        sidecar.unlink(missing_ok=True)
        with suppress(PermissionError):  # of a folder that people have taken from us: the document is what counts
            folders.notes.remove(folder, failed.document.name, NOT_SENT, str(failed.content["job_id"]))
        # Last: while the error file is there, a repetition finds the rest by it.
        folder.entry(failed.companion.name).unlink(missing_ok=True)


def _close(companions: CompanionFolder, job: JobFolder, outcome: Outcome, *, receipts: bool = False) -> ClosedDocument:
    # Everything was done before, and only the ledger did not learn of it. job.json has gone, and with it the name that
    # the document has on disk, so that only a search by the job's id finds it.
    done_before = not job.path.exists() and outcome.document is None
    closed = companions.find(outcome.job_id, outcome.account, outcome.patient_id) if done_before else None
    # A receipt that is not believed may be anybody's. An error file gets the new content, and no signature.
    return closed if closed and (closed.believed or not receipts) else companions.put(outcome)


def _disk_name(
    job: JobFolder, job_file: JobFile | None, failed: ClosedDocument | None, companion: Mapping[str, Any]
) -> str:
    """The document's name as it came, from the best source that is left."""
    if job_file:
        return job_file.disk_name
    if failed:
        kept = job_file_in(failed.content) if failed.believed else None
        return kept.disk_name if kept else failed.document.name
    document = job.document
    return document.name if document else clean(str(companion["file_name"])).replace("/", "_")
