"""Documents that come back from failed/ into our care."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from tasks.folders.claims import ClaimedDocument, Claims
from tasks.folders.companions import read_companion
from tasks.folders.job_json import job_file_in
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.folders.staging import Staging
from tasks.model.document import Document
from tasks.model.errors import DocumentRefused, RetryLater
from worker.inbox.claim import InboxClaims
from worker.inbox.opening import JobOpener
from worker.inbox.sidecar import Sidecar

# What job.json says of a document of which nothing was sent.
_NOTHING_SENT: dict[str, Any] = {
    "committed": False,
    "unknown_since": None,
    "snapshot": None,
    "key": None,
    "provider_facts": {},
}


class NotRetried(Exception):
    """Why a document is not sent again, as the end of a sentence."""


@contextmanager
def refusals_as_not_retried() -> Iterator[None]:
    """Raise NotRetried for a document or sidecar that cannot be read."""
    try:
        yield
    except DocumentRefused as refusal:
        raise NotRetried(f"{refusal.message} {refusal.hint}".strip()) from None
    except RetryLater as error:
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

    def check(self, job_id: str, account: str, patient_id: str | None) -> None:
        """Raises NotRetried for a document that cannot come back from failed/ as it lies there."""
        error_file = self._outcomes.find_error_file(job_id, account, patient_id)
        if error_file is None or not error_file.document.exists():
            raise NotRetried("its file is not in failed/ on this machine; put it into the inbox instead.")
        if error_file.sidecar.exists():
            # A sidecar that is still faulty keeps its document in failed/: it must not go out without what it asks for.
            with refusals_as_not_retried():
                Sidecar.read(error_file.sidecar)
        elif job_file := job_file_in(read_companion(error_file.companion)):
            with refusals_as_not_retried():
                self._inbox_claims.check_names(job_file)

    def reopen(self, job_id: str, account: str, patient_id: str | None) -> ClaimedDocument:
        """Bring the document back from failed/. Raises NotRetried."""
        self.check(job_id, account, patient_id)
        try:
            return self._claims.reopen_failed(job_id, account, patient_id)
        except FileNotFoundError:
            raise NotRetried("its file is not in failed/ on this machine; put it into the inbox instead.") from None

    def forget_sending(self, document: ClaimedDocument) -> ClaimedDocument:
        """Let job.json say that nothing was sent yet, so that the document is not searched for."""
        if self._staging:
            self._staging.remove(document.job_id)  # workers on other machines keep their notes of it there
        return replace(document, job_file=self._folders.update_job_file(document.job_id, **_NOTHING_SENT))

    def let_go_as_it_is(self, document: ClaimedDocument) -> ClaimedDocument:
        """Let job.json say that the document is sent even if its end is missing."""
        return replace(document, job_file=self._folders.update_job_file(document.job_id, as_it_is=True))

    def locate(self, document: ClaimedDocument) -> Document:
        """The document as its sidecar asks for it now, where workers can read it. Raises NotRetried."""
        with refusals_as_not_retried():
            document = self._inbox_claims.reread_sidecar(document)
            _, located = self._opener.locate(document.job_file, document.path)
        return located
