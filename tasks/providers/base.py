"""What every provider is to the pipeline; one file per provider implements it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol, runtime_checkable

from tasks.http.commit_gate import CommitGate
from tasks.model.document import Document
from tasks.model.errors import DocumentRefused
from tasks.model.job import Assurance, Facts, Form, Job, Record, Stored
from tasks.model.route import Route, Stage
from tasks.sources.base import OpenSource


@dataclass(frozen=True, slots=True)
class Found:
    """The provider's record of a job's document, as a look found it.

    `stage` is what it proves: delivered; registered (it is being processed); or received (the record is there, and
    does not hold our document yet: that may be sent into it at once). `remarks` are sentences for the receipt. With
    `fault` the provider has made something of it that is not our document.
    """

    record: Record
    stage: Stage = Stage.DELIVERED
    remarks: tuple[str, ...] = ()
    fault: DocumentRefused | None = None


@dataclass(frozen=True, slots=True)
class Registered:
    """What the provider answered to the registering. `processed`: nothing more is to be waited for.

    `stored` tells of the bytes where they went along with this call.
    """

    record: Record
    processed: bool
    stored: Stored | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relabeled:
    """The record whose labels are now what was asked for."""

    record: Record
    remarks: tuple[str, ...] = ()


class Cache(Protocol):
    """A small sealed cache in Redis, shared by all workers; a miss costs a provider call, never correctness.

    `topic` and `key` may hold patient data: they are stored only as an HMAC, the value sealed.
    """

    def get(self, topic: str, key: str) -> str | None: ...

    def put(self, topic: str, key: str, value: str, seconds: float) -> None: ...

    def lock(self, topic: str, key: str, seconds: float) -> AbstractContextManager[None]:
        """Nobody else is in a block of this topic and key, in any worker, for at most so many seconds.

        Waits for its turn that long. What is done inside must be harmless when two do it all the same.
        """
        ...


class DocumentGate(CommitGate, Protocol):
    """One try at a step that creates something; its document, and its commit point."""

    def open(self) -> OpenSource:
        """A fresh stream of the document, a context manager. Raises DocumentRefused and RetryLater."""
        ...


class Provider(Protocol):
    """One account at one provider.

    Every method that talks to the provider raises `RetryLater`, `DocumentRefused`, `AccountBlocked` or
    `OutcomeUnknown` of `model.errors` and nothing else that is foreseen. What a provider is able to besides stands in
    the protocols below; each step needs one of them.
    """

    kind: str
    assurance: Assurance
    stages: tuple[Stage, ...]
    """All stages that it has between received and delivered, in order; a document may have fewer."""

    @property
    def limit_group(self) -> str:
        """Accounts with the same group share the provider's rate limit; never a secret itself."""
        ...

    def route(self, document: Document) -> Route:
        """How it takes this document; the same for the same document, always."""
        ...

    def check(self, document: Document) -> None:
        """Refuse, before any call, what the provider could never take. Raises DocumentRefused."""
        ...

    def before_sending(self, job: Job) -> Facts:
        """Gather what a later look will need (ids present, ids fixed beforehand) before anything is created."""
        ...

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str]) -> Mapping[str, Found]:
        """Which of these jobs the provider has a record of: job id -> Found.

        The jobs are all of one patient where the route says `together`, else there is one. `claimed` maps record ids
        of the same scope that already prove a job to that job's id.
        """
        ...

    def still_there(self, document: Document, record: Record) -> bool:
        """Whether an earlier record still stands (one look, for duplicates)."""
        ...

    def probe(self) -> None:
        """A cheap call that needs no document: raises AccountBlocked or RetryLater while the account is unwell."""
        ...


@runtime_checkable
class TakesForms(Protocol):
    """Documents go to S3 with a form that the provider hands out (step presign, then post)."""

    presign_creates: bool
    """Whether obtaining a form makes something in the chart, so that it must not be repeated blindly."""

    def presign(self, job: Job, gate: DocumentGate) -> Form:
        """Obtain the form for the upload; the job has the facts that were gathered just before.

        `attempt` guards the call where that creates something. A job whose facts have a record already gets a form for
        that one.
        """
        ...

    def sent_name(self, document: Document) -> str:
        """The file name that goes with the upload."""
        ...


@runtime_checkable
class Stores(Protocol):
    """The provider's own API takes the bytes (step post). Repeating it harms nothing: only registering creates."""

    def store(self, job: Job, gate: DocumentGate) -> Stored: ...


@runtime_checkable
class Registers(Protocol):
    """The provider is told of the document, which creates it in the chart (step register).

    What was uploaded before means nothing by itself. After an outcome that nobody saw and a wiped ledger `facts.stored`
    may be missing: `PresignAgain` begins anew.
    """

    def register(self, job: Job, gate: DocumentGate) -> Registered: ...


@runtime_checkable
class Relabels(Protocol):
    """The labels of a document that is there can be replaced (step register)."""

    def relabel(self, job: Job, gate: DocumentGate) -> Relabeled:
        """Set the whole new list. Repeating it changes nothing, but coming late it would undo a later change.

        So `attempt` guards the call, and an outcome that nobody saw is RetryLater.
        """
        ...


@runtime_checkable
class KeepsRecords(Protocol):
    """The records of the chart can be listed, shown and archived, for people at a terminal."""

    def records(self, patient_id: str, *, case_id: str | None = None) -> Sequence[Mapping[str, Any]]: ...

    def record(self, record_id: str) -> Mapping[str, Any]: ...

    def archive(self, record_id: str) -> None: ...


def fingerprint(*secrets: str) -> str:
    """Tells accounts with different keys apart, and shows none of them."""
    return sha256("\0".join(secrets).encode()).hexdigest()[:12]
