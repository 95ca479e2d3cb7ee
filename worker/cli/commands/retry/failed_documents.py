"""Documents that come back from failed/ into our care."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import StrEnum
from typing import Any

from tasks.folders.claims import ClaimedDocument, Claims, NotBelieved
from tasks.folders.job_json import JobFile, JobFileTooNew, job_file_in
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.folders.staging import Staging
from tasks.model.document import Document
from tasks.model.errors import DocumentRefused, RetryLater
from tasks.model.job import Job
from worker.inbox.claim import InboxClaims
from worker.inbox.opening import JobOpener, commit_of
from worker.inbox.sidecar import Sidecar

_FILE_AWAY = "its file is not in failed/ on this machine; put it into the inbox instead."
# What the commit in job.json says of a document of which nothing was sent. A record that was made for it stays.
_NOTHING_SENT: dict[str, Any] = {
    "stands": False,
    "noted_at": None,
    "snapshot": None,
    "key": None,
    "provider_facts": {},
}


class WhyNot(StrEnum):
    """Why a document is not sent again, for who shows it in words of its own."""

    FILE_AWAY = "file_away"  # it does not lie in failed/ on this machine
    NOT_BELIEVED = "not_believed"  # what lies beside it does not bear our signature
    FAULTY = "faulty"  # the document or its sidecar cannot be sent as it is
    BUSY = "busy"  # it is still being moved
    CHANGED = "changed"  # since it was read
    OTHER = "other"


class NotRetried(Exception):
    """Why a document is not sent again, as the end of a sentence."""

    def __init__(self, message: str, why: WhyNot = WhyNot.OTHER) -> None:
        super().__init__(message)
        self.why = why


@contextmanager
def refusals_as_not_retried() -> Iterator[None]:
    """Raise NotRetried for a document or sidecar that cannot be read."""
    try:
        yield
    except DocumentRefused as refusal:
        raise NotRetried(f"{refusal.message} {refusal.hint}".strip(), WhyNot.FAULTY) from None
    except RetryLater as error:
        raise NotRetried(str(error)) from None


@contextmanager
def _not_retried_for_the_folder() -> Iterator[None]:
    """Raise NotRetried where people have taken our right to a folder, or a newer version must go on.

    The others are sent again all the same.
    """
    try:
        yield
    except PermissionError:
        raise NotRetried("its folder in failed/ cannot be read or written by this user.") from None
    except JobFileTooNew as error:
        raise NotRetried(str(error)) from None


class FailedDocuments:
    """`staging` is None unless `s3.stage_inbox` is set."""

    def __init__(
        self,
        *,
        folders: Folders,
        claims: Claims,
        outcomes: Outcomes,
        staging: Staging | None,
        opener: JobOpener,
        inbox_claims: InboxClaims,
    ) -> None:
        self._folders = folders
        self._claims = claims
        self._outcomes = outcomes
        self._staging = staging
        self._opener = opener
        self._inbox_claims = inbox_claims

    def check(self, job_id: str, account: str, patient_id: str | None, job: Job | None) -> None:
        """Raises NotRetried for a document that cannot come back from failed/ as it lies there.

        `job` is what the ledger knows of it: without it, the error file must be believed. A document that an earlier
        command has brought back, which was killed before the job went on, needs no error file.
        """
        with _not_retried_for_the_folder():
            error_file = self._outcomes.find_error_file(job_id, account, patient_id)
            if error_file is None or not error_file.document.exists():
                # The ledger is asked again: since `job` was read, another process may have let it go on.
                if self._opener.has_come_back(job_id):
                    return
                raise NotRetried(_FILE_AWAY, WhyNot.FILE_AWAY)
        if job is None and not error_file.believed:
            raise NotRetried(str(NotBelieved()), WhyNot.NOT_BELIEVED)
        if error_file.sidecar.exists():
            # A sidecar that is still faulty keeps its document in failed/: it must not go out without what it asks for.
            with refusals_as_not_retried():
                Sidecar.read(error_file.sidecar)
        elif error_file.believed:
            with _not_retried_for_the_folder():
                job_file = job_file_in(error_file.content)
            if job_file:
                with refusals_as_not_retried():
                    self._inbox_claims.check_names(job_file)

    def reopen(self, job_id: str, account: str, patient_id: str | None, job: Job | None) -> ClaimedDocument:
        """Bring the document back from failed/. Raises NotRetried."""
        self.check(job_id, account, patient_id, job)
        try:
            with _not_retried_for_the_folder():
                return self._claims.reopen_failed(job_id, account, patient_id, _job_file_of(job) if job else None)
        except NotBelieved as error:
            raise NotRetried(str(error), WhyNot.NOT_BELIEVED) from None
        except FileNotFoundError:
            raise NotRetried(_FILE_AWAY, WhyNot.FILE_AWAY) from None

    def forget_sending(self, document: ClaimedDocument) -> ClaimedDocument:
        """Let job.json say that nothing was sent yet, so that the document is not searched for.

        Only the commit that the document came back with is forgotten. A later one is of a worker: the watcher has let
        the job go on since.
        """
        if self._staging:
            self._staging.remove(document.job_id)  # workers on other machines keep their notes of it there

        def nothing_sent(noted: JobFile) -> JobFile:
            return noted.with_commit(**_NOTHING_SENT) if noted.commit == document.job_file.commit else noted

        return replace(document, job_file=self._folders.change_job_file(document.job_id, nothing_sent))

    def let_go_as_it_is(self, document: ClaimedDocument) -> ClaimedDocument:
        """Let job.json say that the document is sent even if its end is missing."""
        return replace(document, job_file=self._folders.update_document(document.job_id, as_it_is=True))

    def locate(self, document: ClaimedDocument) -> Document:
        """The document as its sidecar asks for it now, where workers can read it. Raises NotRetried."""
        with refusals_as_not_retried():
            document = self._inbox_claims.reread_sidecar(document)
            _, located = self._opener.locate(document.job_file, document.path)
        return located


def _job_file_of(job: Job) -> JobFile:
    """The job.json of a document, by what the ledger knows of it: its error file may be of an earlier version."""
    return JobFile(
        job_id=job.id,
        document=replace(job.document, home=None),  # which only a staged copy's job.json says
        disk_name=job.document.file_name,
        received_at=job.created_at,
        commit=commit_of(job),
        content_remarks=job.facts.content_remarks,
    )
