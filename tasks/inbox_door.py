"""The inbox's way into the ledger: a claimed file becomes a job, and what a wiped Redis forgot becomes one again."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import structlog

from tasks.doors import continues, open_refused
from tasks.errors import Code, DocumentRefused
from tasks.intake import check_file_name, check_patient_id
from tasks.job import Document, Facts, Stage
from tasks.job_file import JobFile
from tasks.process import Process
from tasks.receipt import still_looking
from tasks.sources import file_address
from tasks.staging import machine

log = structlog.get_logger()


class InboxDoor:
    """What the watcher tells; each call may be repeated, and raises Redis's errors when Redis is away."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def open(self, job_id: str, job_file: JobFile, path: Path) -> None:
        """Open the job of a document that lies in our care at `path`. One that cannot be sent fails at once."""
        if job_file.refused:
            refused = job_file.refused
            refusal = DocumentRefused(refused.code, refused.message, hint=refused.hint, detail=refused.detail)
            self.refuse(job_id, job_file, path, refusal)
            return
        document = document_of(job_file, path)
        try:
            job_file, document = self._staged(job_file, path, self._checked(document))
        except DocumentRefused as refusal:
            self.refuse(job_id, job_file, path, refusal)
            return
        if not self._continued(job_id, document):
            self._open(job_id, job_file, document)

    def refuse(self, job_id: str, job_file: JobFile, path: Path, refusal: DocumentRefused) -> None:
        """Open the job as failed; its closing moves the file to `failed/`."""
        open_refused(self._process, job_id, document_of(job_file, path), refusal)

    def known(self, job_id: str) -> bool:
        return self._process.ledger.known(job_id)

    def earlier(self, account: str, patient_id: str | None, file_name: str, path: Path) -> str | None:
        """The job that this file continues: the same bytes, name and patient, and its outcome still open."""
        if account not in self._process.accounts:
            return None
        document = Document(account, patient_id, file_address(path), file_name, path.stat().st_size)
        earlier = continues(self._process, document)
        return earlier.id if earlier else None

    def _checked(self, document: Document) -> Document:
        """The document as it lies there. Raises DocumentRefused."""
        check_patient_id(document.patient_id)
        check_file_name(document.file_name)
        located = self._process.care.sources.locate(document.source)
        document = replace(document, size_bytes=located.size_bytes, identity=located.identity)
        self._process.accounts[document.account].provider.check(document)
        return document

    def _staged(self, job_file: JobFile, path: Path, document: Document) -> tuple[JobFile, Document]:
        """The document as workers elsewhere read it, and the job.json that they have written beside it."""
        staging = self._process.staging
        if staging is None:
            return job_file, document
        with suppress(DocumentRefused):  # not there yet
            job_file = staging.read_job_file(job_file.job_id)
        source = staging.put(job_file, path)
        identity = self._process.care.sources.locate(source).identity
        home = machine(self._process.settings.data_dir)
        return job_file, replace(document, source=source, identity=identity, home=home)

    def _continued(self, job_id: str, document: Document) -> bool:
        """Whether this is a failed job's document that has come back."""
        job = self._process.ledger.get(job_id)
        if job is None or job.stage is not Stage.FAILED:
            return False
        again = self._process.ledger.retry_looking if still_looking(job) else self._process.ledger.retry
        why = again(job, document)
        log.info("job_continued", job=job_id, account=document.account, why=why)
        return True

    def _open(self, job_id: str, job_file: JobFile, document: Document) -> None:
        ledger, provider = self._process.ledger, self._process.accounts[document.account].provider.kind
        maybe_sent = facts_of(job_file) if job_file.committed else None
        opened = ledger.open(job_id, document, provider, maybe_sent=maybe_sent)
        if opened.kind == "conflict":
            refusal = DocumentRefused(Code.INVALID_REQUEST, "This idempotency key was used for another document.")
            open_refused(self._process, job_id, document, refusal)
        elif opened.kind == "same":
            # The file is in our care and needs a job of its own, which will find out that it is a duplicate.
            self._process.ledger.unalias(job_id, opened.job_id)
            opened = ledger.open(job_id, document, provider, maybe_sent=maybe_sent, reserve_key=False)
        log.info("job_opened", job=job_id, account=document.account, door=document.door, kind=opened.kind)


def document_of(job_file: JobFile, path: Path) -> Document:
    return Document(
        account=job_file.account,
        patient_id=job_file.patient_id,
        source=file_address(path),
        file_name=job_file.file_name,
        size_bytes=job_file.size_bytes,
        door=job_file.door,
        content_type=job_file.content_type,
        description=job_file.description,
        options=job_file.options,
        idempotency_key=job_file.idempotency_key,
        callback_url=job_file.callback_url,
    )


def facts_of(job_file: JobFile) -> Facts:
    """What a look needs, as it was written down before the last block could leave."""
    return Facts(snapshot=job_file.snapshot, key=job_file.key, provider=job_file.provider_facts)
