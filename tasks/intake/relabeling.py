"""From a relabel request to an open job, which replaces the whole list of a document's security labels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from tasks.intake.admission import Admission
from tasks.intake.producers import Producer
from tasks.intake.requests import RelabelRequest, RequestedLabel, read_relabel_request
from tasks.ledger.ledger import Opened
from tasks.model.document import Document, Door, Label, LabelCoding, Place, Relabeling
from tasks.model.errors import DocumentRefused, invalid_request
from tasks.providers.base import Relabels

# https://utviklerportal.nhn.no, Patch Document Reference: the label "Sperret"
BLOCKING_SYSTEM, BLOCKING_CODE = "urn:oid:2.16.578.1.12.4.1.1.9603", "NORS"


class RelabelAdmission:
    """Opens relabelings in the ledger. Every call may be repeated under the same id."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission

    def open_call(self, job_id: str, fields: Mapping[str, Any], producer: Producer, door: Door = Door.CELERY) -> Opened:
        """Open the job of a relabeling. Raises DocumentRefused where not even a failed job can be opened."""
        request = read_relabel_request(fields)
        document = relabeling_of(request, door, producer)
        try:
            self.admit(request, document, producer)
        except DocumentRefused as refusal:
            if not self._admission.lists_refusals(request.account, producer):
                raise
            self._admission.open_refused(job_id, document, refusal)
            return Opened("opened", job_id)
        return self._admission.open_admitted(job_id, document)

    def admit(self, request: RelabelRequest, document: Document, producer: Producer) -> None:
        """Raises DocumentRefused, with the public contract's code, for labels that must not or cannot be set."""
        account = self._admission.account(request.account, producer)
        if not isinstance(account.provider, Relabels):
            raise invalid_request("The documents of this account's provider have no labels to be changed.")
        self._admission.check_callback(request.callback_url)
        if request.allow_unblock and not producer.may_unblock:
            check_blocks(request.labels, "and its producer may not send such a list")
        check_unblocking(document)
        account.provider.check(document)


def check_unblocking(document: Document) -> None:
    """Raises DocumentRefused for labels that unblock a document, unless their caller has said so and may."""
    relabeling = document.relabeling
    # A list replaces the whole list before it. A caller that only forgets NORS would open a blocked document to every
    # reader, so leaving it out must be said.
    if relabeling and not relabeling.allow_unblock:
        check_blocks(relabeling.labels, "and the call does not allow that")


def check_blocks(labels: Iterable[Label | RequestedLabel], why: str) -> None:
    if not any(blocks(label) for label in labels):
        raise invalid_request(
            f"The new labels leave out NORS, which blocks a document, {why}.",
            "Add the label NORS, or say allow_unblock (--allow-unblock) if all readers may open the document.",
        )


def blocks(label: Label | RequestedLabel) -> bool:
    """True for the label that blocks a document from being read ("Sperret")."""
    return any((coding.system, coding.code) == (BLOCKING_SYSTEM, BLOCKING_CODE) for coding in label.codings)


def label_of(label: RequestedLabel) -> Label:
    further = tuple(LabelCoding(coding.system, coding.code, coding.display) for coding in label.further)
    return Label(label.system, label.code, label.display, further)


def relabeling_of(request: RelabelRequest, door: Door, producer: Producer) -> Document:
    """The labels as a job carries them: a document without a file."""
    labels = tuple(label_of(label) for label in request.labels)
    return Document(
        account=request.account,
        patient_id=None,
        source="",
        file_name="",
        size_bytes=0,
        door=door,
        idempotency_key=request.idempotency_key,
        callback_url=request.callback_url,
        relabeling=Relabeling(
            request.document_id, labels, request.payload, allow_unblock=request.allow_unblock and producer.may_unblock
        ),
        place=Place.SENDER,
        producer=producer.name,
    )
