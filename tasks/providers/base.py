"""What every provider offers to the pipeline. One file or folder per provider implements it.

All of them are laid out alike: construction and limits, before any call, sending, finding, records for people, and then
private parts in the order of their use. A provider that has more than one file keeps the types of its answers, and what
their statuses mean, in `answers.py`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from tasks.http.commit_gate import CommitGate
from tasks.model.document import Document
from tasks.model.errors import DocumentRefused
from tasks.model.job import Assurance, Facts, Form, Job, Record, Stored
from tasks.model.route import Route, Stage
from tasks.sources.base import OpenSource


class DocumentGate(CommitGate, Protocol):
    """What a creating step is given: its document, and the gate that its last block must pass."""

    def open(self) -> OpenSource:
        """A fresh stream of the document, a context manager. Raises DocumentRefused and RetryLater."""
        ...


class Provider(Protocol):
    """One account at one provider.

    Methods that call the provider raise `RetryLater`, `DocumentRefused`, `AccountBlocked` and `OutcomeUnknown` of
    `model.errors`; any other error is our fault. The protocols below say what else a provider can do: each step of the
    pipeline needs one of them.
    """

    kind: str
    # The stages that it has between received and delivered, in order. A single document may skip some.
    stages: tuple[Stage, ...]
    assurance: Assurance

    @property
    def limit_group(self) -> str:
        """That of its settings."""
        ...

    def route(self, document: Document) -> Route:
        """The stages that this document passes; always the same for the same document."""
        ...

    def check(self, document: Document) -> None:
        """Raises DocumentRefused for what the provider could never take. Makes no call."""
        ...

    def before_sending(self, job: Job) -> Facts:
        """The job's facts with all that `find` will need: ids that are there before, ids that are fixed beforehand.

        Called before anything is created, since a lost answer or a kill may follow.
        """
        ...

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str], *, thorough: bool = False) -> Mapping[str, Found]:
        """Search for the jobs' records: job id -> Found, for those that are there.

        All jobs are of one patient where the route says `together`, else there is one. `owners` maps the id of each
        record that proves a job already to that job's id. `thorough`: what is not found will be sent again, so nothing
        that was read before counts, and RetryLater is raised where the provider does not show all that it has.
        """
        ...

    def still_there(self, document: Document, record: Record) -> bool:
        """Whether an earlier record still stands. A duplicate is skipped only if it does."""
        ...

    def probe(self) -> None:
        """A cheap call that needs no document. Raises AccountBlocked or RetryLater while the account does not work."""
        ...


@runtime_checkable
class TakesForms(Protocol):
    """Documents go to S3 with a form that the provider hands out (steps presign and post)."""

    # Whether obtaining a form creates something in the chart, so that it must not be repeated blindly.
    presign_creates: bool

    def sent_name(self, document: Document) -> str:
        """The file name that goes with the upload."""
        ...

    def presign(self, job: Job, gate: DocumentGate) -> Form:
        """Obtain a form. `gate` guards the call if that creates something; a job with a record gets a form for it."""
        ...


@runtime_checkable
class Stores(Protocol):
    """The provider's own API takes the bytes (step post)."""

    def store(self, job: Job, gate: DocumentGate) -> Stored:
        """Upload the document. May be repeated: only registering creates something in the chart."""
        ...


@runtime_checkable
class Registers(Protocol):
    """The provider is told of the document, which creates it in the chart (step register)."""

    def register(self, job: Job, gate: DocumentGate) -> Registered:
        """Register the document. `facts.stored` is missing if Redis was wiped: raise PresignAgain to start over."""
        ...


@runtime_checkable
class Relabels(Protocol):
    """The labels of a document in the chart can be replaced (step register)."""

    def relabel(self, job: Job, gate: DocumentGate) -> Relabeled:
        """Replace all labels. An unknown outcome is RetryLater, since repeating the call changes nothing.

        It still needs `gate`: a worker that has lost its lease could undo a later change.
        """
        ...


@runtime_checkable
class KeepsRecords(Protocol):
    """The records of the chart can be listed and shown, for people at a terminal and for programs."""

    def check_query(self, query: RecordQuery) -> None:
        """Raises DocumentRefused (`invalid_request`) for what these lists cannot be asked for. Makes no call."""
        ...

    def records(self, query: RecordQuery) -> Iterator[ChartRecord]:
        """The records that fit, in the provider's order, while their pages are read. At most one page is in memory.

        Raises DocumentRefused for an unknown patient, and RetryLater for a list that does not add up at its end.
        """
        ...

    def record(self, record_id: str) -> ChartRecord:
        """One record. Raises DocumentRefused if there is none."""
        ...


@runtime_checkable
class GivesFiles(Protocol):
    """The file of a record can be downloaded."""

    def download(self, record_id: str, take: Callable[[bytes], object], *, most_bytes: int) -> GivenFile:
        """Give all blocks of the record's file to `take`. What was given counts only if this returns.

        Raises DocumentRefused if there is no such record or no file yet, if it has more than `most_bytes`, or if what
        came is not the file; AccountBlocked if it lies at a host that is not allowed.
        """
        ...


@runtime_checkable
class ArchivesRecords(Protocol):
    def archive(self, record_id: str) -> None:
        """Hide a record from the chart; the provider keeps it. Raises DocumentRefused if there is none."""
        ...


@runtime_checkable
class DeletesRecords(Protocol):
    def delete(self, record_id: str) -> None:
        """Remove a record and its file for good. Raises DocumentRefused if there is none."""
        ...


@runtime_checkable
class RenamesRecords(Protocol):
    def rename(self, record_id: str, file_name: str) -> ChartRecord:
        """Give a record's file another name. Raises DocumentRefused if there is no record, or the name will not do."""
        ...


# --- results ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """The provider's record of a job's document, as a search has found it."""

    record: Record
    # What it proves. Delivered: our document is in it. Registered: it is being processed. Received: it is there without
    # our document, which may be sent into it at once.
    stage: Stage = Stage.DELIVERED
    # Sentences for the receipt.
    remarks: tuple[str, ...] = ()
    # Set if the provider has made something of the upload that is not our document.
    fault: DocumentRefused | None = None
    # Set if the record may be the document's and is not proven to be: a sentence that says why, and names the record.
    doubt: str = ""


@dataclass(frozen=True, slots=True)
class Registered:
    """The provider's answer to `register`."""

    record: Record
    # True if the provider has nothing left to do, so that no search needs to confirm it.
    processed: bool
    # Set if the bytes went along with this call.
    stored: Stored | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Relabeled:
    """The record, whose labels are now those that were asked for."""

    record: Record
    remarks: tuple[str, ...] = ()


# --- records, for people ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RecordQuery:
    """Which records of a chart to list. `check_query` refuses what a provider's lists cannot be asked for."""

    # None: those of all patients.
    patient_id: str | None = None
    case_id: str | None = None
    # In the provider's own words; all of them must hold.
    filters: tuple[str, ...] = ()
    # In the provider's own words; None: its usual order.
    sort: str | None = None
    # Only archived records, instead of only those that are not.
    archived: bool = False
    # This page alone, from 1; None: all of them, one after the other.
    page: int | None = None
    # Records a page; None: as many as the provider allows.
    per_page: int | None = None
    # Also what costs a call for each record, such as PracSuite's file names.
    whole: bool = True
    # Called with seconds when the account's limit of calls is used up.
    wait: Callable[[float], object] = time.sleep


@dataclass(frozen=True, slots=True, kw_only=True)
class ChartRecord:
    """A record as people and programs see it. None: the provider does not say. Times are as the provider writes them.

    It never holds an address that opens the file without the account's keys.
    """

    id: str
    file_name: str | None = None
    description: str | None = None
    content_type: str | None = None
    size_bytes: int | None = None
    created_at: str | None = None
    processed_at: str | None = None
    # Whether the provider has finished with the upload, so that there is a file.
    processed: bool | None = None
    archived: bool | None = None
    url: str | None = None
    updated_at: str | None = None
    pinned_at: str | None = None
    patient_id: str | None = None
    # Who has put it there.
    user_id: str | None = None
    # Where the provider gives the file out to whoever has the keys.
    content_url: str | None = None

    def fields(self) -> dict[str, Any]:
        """As the public contract has it."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class GivenFile:
    """A file that was downloaded whole."""

    size_bytes: int
    # As storage gave it, without quotes.
    etag: str | None = None
