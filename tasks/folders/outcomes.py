"""Documents on their way out of our care: into delivered/ with a receipt, or into failed/ with an error file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tasks.folders import durable
from tasks.folders.companions import ClosedDocument, CompanionFolder, Outcome, read_companion
from tasks.folders.disk_names import clean
from tasks.folders.job_folder import JobFolder
from tasks.folders.job_json import JobFile, job_file_in
from tasks.folders.layout import Folders
from tasks.folders.set_aside import SentDocument, remark_of, set_aside


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
            patient_id = job_file.patient_id if job_file else patient_id
            in_first_round = job.document and job_file and job_file.round == 0
            # In its first round a document cannot have failed; searching would read all the patient's error files.
            failed = None if in_first_round else self._folders.error_files.find(job_id, account, patient_id)
            document = job.document or (failed.document if failed and failed.document.exists() else None)
            name = _disk_name(job, job_file, failed, receipt)
            if changed := self._set_aside_from(job, job_file, document, sent, {**receipt, "file_name": name}):
                remarks = [*receipt.get("remarks", ()), remark_of(job_id, changed.size_bytes)]
                receipt = {**receipt, "remarks": remarks}
            beside = None if changed else document
            closed = _close(self._folders.receipts, job, Outcome(job_id, account, patient_id, name, receipt, beside))
            if changed and document:
                set_aside(self._folders, changed, document)
            # Last the error file, then the job's folder: until then a repetition still finds what it needs.
            drop_stale_error_file(failed, job)
            job.remove()
            return closed

    def _set_aside_from(
        self,
        job: JobFolder,
        job_file: JobFile | None,
        document: Path | None,
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
            job_file = JobFile(job.job_id, account, patient_id, clean(name), name, 0, received_at=datetime.now(UTC))
        job_file = replace(job_file, set_aside=True, size_bytes=sent.size_bytes)
        if job.document:  # what lies in failed/ is not moved by any other closing
            job.write(job_file)
        return job_file

    def fail(self, job_id: str, account: str, patient_id: str | None, error: Mapping[str, Any]) -> Path:
        """Write the error file into failed/ and move the document and its sidecar beside it.

        An error file of this round that was written before gets the new content. Returns where the document is, or
        would be.
        """
        job = self._folders.job_folder(job_id)
        with job.lock():
            job_file = job.read_if_possible()
            # With job.json in it, the document can be sent again even when the job has left Redis.
            content = {**error, "job_file": job_file.to_json()} if job_file else error
            outcome = Outcome(
                job_id,
                account,
                job_file.patient_id if job_file else patient_id,
                _disk_name(job, job_file, None, error),
                content,
                job.document,
                job.sidecar,
                job_file.round if job_file else 0,
            )
            closed = _close(self._folders.error_files, job, outcome)
            self._folders.error_files.amend(closed, error, job_id)
            job.remove()
            return closed.document

    def find_error_file(self, job_id: str, account: str, patient_id: str | None) -> ClosedDocument | None:
        """Where a failed job's error file is, and its document unless a person has moved it."""
        return self._folders.error_files.find(job_id, account, patient_id)

    def find_receipt(self, job_id: str, account: str, patient_id: str | None) -> Mapping[str, Any] | None:
        """The receipt of a job in delivered/, if it is there."""
        closed = self._folders.receipts.find(job_id, account, patient_id)
        return read_companion(closed.companion) if closed else None

    def receipts(self) -> Iterator[tuple[ClosedDocument, dict[str, Any]]]:
        """Every receipt in delivered/, with its content."""
        return self._folders.receipts.all()

    def error_files(self) -> Iterator[tuple[ClosedDocument, dict[str, Any]]]:
        """Every error file in failed/, with its content."""
        return self._folders.error_files.all()


def drop_stale_error_file(failed: ClosedDocument | None, job: JobFolder) -> None:
    """Remove the error file of a document that is not in failed/ any more, or is in our care as well."""
    if failed is None:
        return
    if failed.document.exists():
        # In both places: a person has copied it to the inbox, or a kill came before it was removed from failed/.
        # If the content differs, a person has changed it: that document is theirs, and stays with its error file.
        if not (job.document and durable.same_content(failed.document, job.document)):
            return
        failed.document.unlink()
    if job.document and not job.sidecar:
        with suppress(FileNotFoundError):
            job.take_sidecar(failed.sidecar)
    failed.sidecar.unlink(missing_ok=True)
    # Last: while the error file is there, a repetition finds the rest by it.
    failed.companion.unlink(missing_ok=True)


def _close(companions: CompanionFolder, job: JobFolder, outcome: Outcome) -> ClosedDocument:
    # Everything was done before, and only the ledger did not learn of it. job.json has gone, and with it the name that
    # the document has on disk, so that only a search by the job's id finds it.
    done_before = not job.path.exists() and outcome.document is None
    closed = companions.find(outcome.job_id, outcome.account, outcome.patient_id) if done_before else None
    return closed or companions.put(outcome)


def _disk_name(
    job: JobFolder, job_file: JobFile | None, failed: ClosedDocument | None, companion: Mapping[str, Any]
) -> str:
    """The document's name as it came, from the best source that is left."""
    if job_file:
        return job_file.disk_name
    if failed:
        kept = job_file_in(read_companion(failed.companion))
        return kept.disk_name if kept else failed.document.name
    document = job.document
    return document.name if document else clean(str(companion["file_name"])).replace("/", "_")
