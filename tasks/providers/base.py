"""What every provider is to the pipeline; one file per provider implements it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from tasks.job import Assurance, Document, Facts, Form, Job, Record, Stage


@dataclass(frozen=True, slots=True)
class Found:
    """The provider's record of a job's document, as a look found it."""

    record: Record


class Memory(Protocol):
    """A small sealed cache in Redis, shared by all workers; a miss costs a provider call, never correctness.

    `topic` and `key` may hold patient data: they are stored only as an HMAC, the value sealed.
    """

    def recall(self, topic: str, key: str) -> str | None: ...

    def remember(self, topic: str, key: str, value: str, seconds: float) -> None: ...


class Provider(Protocol):
    """One account at one provider.

    Every method that talks to the provider raises `RetryLater`, `DocumentRefused`, `AccountBlocked` or
    `OutcomeUnknown` of `tasks.errors` and nothing else that is foreseen.
    """

    kind: str
    stages: tuple[Stage, ...]
    """The stages it has between received and delivered, in order."""
    assurance: Assurance
    patient_required: bool

    @property
    def limit_group(self) -> str:
        """Accounts with the same group share the provider's rate limit; never a secret itself."""
        ...

    def check(self, document: Document) -> None:
        """Refuse, before any call, what the provider could never take. Raises DocumentRefused."""
        ...

    def before_sending(self, job: Job) -> Facts:
        """Gather what a later look will need (ids present, ids fixed beforehand) before anything is created."""
        ...

    def presign(self, job: Job) -> Form:
        """Obtain the form for the upload."""
        ...

    def look(self, jobs: Sequence[Job], claimed: Mapping[str, str]) -> Mapping[str, Found]:
        """Which of these jobs, all of one patient, the provider has a record of: job id -> Found.

        `claimed` maps record ids of this patient that already prove a job to that job's id.
        """
        ...

    def still_there(self, document: Document, record: Record) -> bool:
        """Whether an earlier record of this patient still stands (one look, for duplicates)."""
        ...

    def probe(self) -> None:
        """A cheap call that needs no document: raises AccountBlocked or RetryLater while the account is unwell."""
        ...
