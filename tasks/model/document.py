"""What a caller asks for: a document to deliver, or the labels of one that is already in the chart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from config.producers import SHARED


class Door(StrEnum):
    """Where a document came in."""

    INBOX = "inbox"
    SEND = "send"  # `chartpost send`
    STREAM = "stream"
    CELERY = "celery"
    COMMAND = "command"  # `chartpost relabel`: no document, so no folder

    @property
    def has_folder(self) -> bool:
        """True if the file itself is in our care, in `processing/<job id>/`."""
        return self in (Door.INBOX, Door.SEND)


class Place(StrEnum):
    """Who has the document's bytes."""

    SENDER = "sender"  # its sender, at `source`
    FOLDER = "folder"  # we, in processing/<job id>/
    STAGED = "staged"  # we, in the storage of s3.stage_inbox


# Label, Relabeling and Document are sealed in the ledger by field name. A renamed field would make the jobs of an
# earlier version unreadable.


@dataclass(frozen=True, slots=True)
class LabelCoding:
    """System, code and display of a FHIR Coding (https://hl7.org/fhir/R4/datatypes.html#Coding)."""

    system: str
    code: str
    display: str | None = None


@dataclass(frozen=True, slots=True, repr=False)
class Label:
    """One security label, a CodeableConcept: its first coding, and any further ones of the same meaning."""

    system: str
    code: str
    display: str | None = None
    further: tuple[LabelCoding, ...] = ()

    @property
    def codings(self) -> tuple[LabelCoding, ...]:
        return (LabelCoding(self.system, self.code, self.display), *self.further)

    def __repr__(self) -> str:
        # A label of one coding as earlier versions wrote it: they have stored the fingerprints of relabelings.
        further = f", further={self.further!r}" if self.further else ""
        return f"Label(system={self.system!r}, code={self.code!r}, display={self.display!r}{further})"


@dataclass(frozen=True, slots=True)
class Relabeling:
    """The whole new list of security labels for a document that the provider already has."""

    document_id: str
    labels: tuple[Label, ...]
    # How it is sent: "resource" (a DocumentReference with only its labels) or "json-patch" (RFC 6902).
    payload: str = "resource"
    # Its caller said so, and may: the list may leave out the label that blocks the document. Without repr, so that the
    # fingerprints of relabelings stay as earlier versions have stored them.
    allow_unblock: bool = field(default=False, repr=False)


@dataclass(frozen=True, slots=True)
class Document:
    """What must be delivered. Patient data: sealed wherever it rests outside our folders."""

    account: str
    # None where the provider needs no patient, and for relabelings.
    patient_id: str | None
    # A file:// or s3:// address, at which only a document that lies with its sender is read. Empty for relabelings
    # and in what job.json says, which lies beside its document.
    source: str
    # The name that the provider is given.
    file_name: str
    size_bytes: int
    # What must not change while we send: inode, size and mtime of a file, ETag of an object.
    identity: str = ""
    door: Door = Door.CELERY
    # None: the type follows from the name's suffix.
    content_type: str | None = None
    description: str | None = None
    # Options of the provider, as the public contract lists them.
    options: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    callback_url: str | None = None
    # Send it although its end is missing: its sender says that it is right.
    as_it_is: bool = False
    # Remove the source after delivery.
    delete_source: bool = False
    # The entry of the intake stream that asked for it.
    stream_id: str | None = None
    # The machine whose folders hold a document that is in our care (`folders.machines`).
    home: str | None = None
    # How often the document was taken up again after it had failed. An error file of an earlier round does not end this
    # one.
    round: int = 0
    # Set: nothing is sent but these labels, and there is no file.
    relabeling: Relabeling | None = None
    # None in jobs of an earlier version: `place_of` finds it.
    place: Place | None = None
    # The producer of the settings that sent it. None: it came from the operator (the inbox, the command line), or when
    # the settings had no producers.
    producer: str | None = None

    @property
    def in_order(self) -> bool:
        """True if it replaces what another has set: the one that was asked for last must be sent last."""
        return self.relabeling is not None or bool(self.options.get("document_id"))

    @property
    def bound_to(self) -> str | None:
        """The machine that alone can work on it, since its file lies in that machine's folders. None: any can."""
        # A document that was staged to S3 can be read everywhere; only the closing of its files needs its machine.
        return self.home if self.door.has_folder and not self.source.startswith("s3://") else None

    def place_of(self, job_id: str) -> Place:
        """Who has its bytes, as the document of this job."""
        if self.place:
            return self.place
        # An earlier version: the address tells. A document in our care that continued another job may lie with a
        # sender all the same. What came from a caller never lies with us, whatever address it names.
        if self.door.has_folder and self.source.startswith("s3://") and self.home is not None:
            return Place.STAGED
        ours = self.door.has_folder and f"/processing/{job_id}/" in self.source
        return Place.FOLDER if ours else Place.SENDER


def same_producer(one: Document, other: Document) -> bool:
    """True if either document's sender may know of the other's job and continue it."""
    # The shared doors are those of everybody, from before there were producers.
    return (one.producer or SHARED) == (other.producer or SHARED)
