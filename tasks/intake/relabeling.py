"""From a relabel request to an open job, which replaces the whole list of a document's security labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.intake.admission import Admission
from tasks.intake.requests import RelabelRequest, RequestedLabel, read_relabel_request
from tasks.ledger.ledger import Opened
from tasks.model.document import Document, Door, Label, Relabeling
from tasks.model.errors import DocumentRefused, invalid_request
from tasks.providers.base import Relabels

# https://utviklerportal.nhn.no, Patch Document Reference: the label "Sperret"
BLOCKING_SYSTEM, BLOCKING_CODE = "urn:oid:2.16.578.1.12.4.1.1.9603", "NORS"


class RelabelAdmission:
    """Opens relabelings in the ledger. Every call may be repeated under the same id."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def open_call(self, job_id: str, fields: Mapping[str, Any], door: Door = Door.CELERY) -> Opened:
        """Open the job of a relabeling. Raises DocumentRefused where not even a failed job can be opened."""
        request = read_relabel_request(fields)
        document = relabeling_of(request, door)
        try:
            self.admit(request, document)
        except DocumentRefused as refusal:
            self._admission.open_refused(job_id, document, refusal)
            return Opened("opened", job_id)
        return self._admission.open_admitted(job_id, document)

    def admit(self, request: RelabelRequest, document: Document) -> None:
        """Raises DocumentRefused, with the public contract's code, for labels that must not or cannot be set."""
        account = self._admission.account(request.account)
        if not isinstance(account.provider, Relabels):
            raise invalid_request("The documents of this account's provider have no labels to be changed.")
        self._admission.check_callback(request.callback_url)
        # A list replaces the whole list before it. A caller that only forgets NORS would open a blocked document to
        # every reader, so leaving it out must be said.
        if not request.allow_unblock and not any(blocks(label) for label in request.labels):
            raise invalid_request(
                "The new labels leave out NORS, which blocks a document, and the call does not allow that.",
                "Add the label NORS, or say allow_unblock (--allow-unblock) if all readers may open the document.",
            )
        account.provider.check(document)


def blocks(label: RequestedLabel) -> bool:
    """True for the label that blocks a document from being read ("Sperret")."""
    return (label.system, label.code) == (BLOCKING_SYSTEM, BLOCKING_CODE)


def relabeling_of(request: RelabelRequest, door: Door) -> Document:
    """The labels as a job carries them: a document without a file."""
    labels = tuple(Label(label.system, label.code, label.display) for label in request.labels)
    return Document(
        account=request.account,
        patient_id=None,
        source="",
        file_name="",
        size_bytes=0,
        door=door,
        idempotency_key=request.idempotency_key,
        callback_url=request.callback_url,
        relabeling=Relabeling(request.document_id, labels, request.payload),
    )
