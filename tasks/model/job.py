"""A document on its way: what it is, how far it has come, and what proves that it arrived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from tasks.model.document import Document
from tasks.model.errors import Code
from tasks.model.route import Stage, Step


class Assurance(StrEnum):
    """What `delivered` rests on: the provider's own record, or its durable acceptance."""

    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Record:
    """The provider's record of a document: its id there, and its address where there is one.

    `shared`: it was there before, and this document is only put into it, as others may be: no job may claim it, and it
    is no job's own to go on with. `version` tells what it holds from what it held before, where the provider says.
    """

    id: str
    url: str | None = None
    shared: bool = False
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """A presigned S3 POST: `fields` verbatim and in the order in which they must be sent.

    `record` is there where the provider has made its record before the upload, which then completes it.
    """

    url: str
    fields: Mapping[str, str]
    record: Record | None = None

    @property
    def key(self) -> str | None:
        return next((v for k, v in self.fields.items() if k.lower() == "key"), None)


@dataclass(frozen=True, slots=True)
class Stored:
    """What an upload told us: where it landed and what went by.

    `etag_verified` is True when the ETag equals the MD5 of the bytes sent, False when it differs or cannot be one.
    `form_url` is the address of the form that it was posted with: the form itself is gone once it has served.
    """

    key: str
    etag: str | None
    etag_verified: bool
    sha256: str
    md5: str
    location: str | None = None
    form_url: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What became known on the way; sealed in the ledger, since keys and snapshots tell about patients.

    `snapshot` holds the ids of the records that the patient had before presign; `key` is the S3 key of the form.
    `record` is known from when the provider has made it, which may be before it proves anything. `provider` is the
    provider's own: ids fixed beforehand, when it was first tried. `remarks` are sentences for the receipt.
    """

    form: Form | None = None
    snapshot: tuple[str, ...] | None = None
    key: str | None = None
    stored: Stored | None = None
    record: Record | None = None
    provider: Mapping[str, Any] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed. `message` is safe anywhere; `detail` (the provider's words) only beside the file."""

    code: Code
    message: str
    hint: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One document and how far it has come, as the ledger had it when it was read.

    `committed` is true from the commit point on: the last block of the creating request may have left.
    `times` holds when each stage was reached. `attempts` counts how often it was tried: 1 when all went well.
    `failures` counts tries since the last progress that ended in a delay (`failing_since`), `presigns` forms obtained,
    `looks` polls without a result; `provider_calls` counts requests to the provider and its storage.
    `blocked_since`: when it first parked its account, since it was last stored or looked for without a refusal.
    `sha256` is the digest of the bytes that went by, or of the document as it lay there when its answer was lost.
    `unknown_step`: the step whose outcome nobody saw, to be repeated when a look has found nothing.
    `looked`: its last commit was looked for, long enough, and found to have led to nothing; that was the one of which
    job.json was told at `looked_for`.
    `sent_before`: an earlier sending, of unknown outcome, is repeated with the same ids. `held`: only a human can say
    what became of it. `scope` is under which the provider's records are claimed, an HMAC.
    `long_look`: taken up again after an outcome that nobody saw, so looked for during a day before it is sent again.
    `sick_before` is how long the account had been parked or down, in seconds, when the stage was reached.
    """

    id: str
    provider: str
    stage: Stage
    step: Step
    document: Document
    facts: Facts
    created_at: datetime
    updated_at: datetime
    next_at: datetime | None = None
    committed: bool = False
    unknown_since: datetime | None = None
    failing_since: datetime | None = None
    attempts: int = 0
    failures: int = 0
    presigns: int = 0
    polls: int = 0
    provider_calls: int = 0
    times: Mapping[str, datetime] = field(default_factory=dict)
    failure: Failure | None = None
    resolved_by_human: bool = False
    blocked_since: datetime | None = None
    reconciled: bool = False
    reconciled_commit_at: datetime | None = None
    long_reconciliation: bool = False
    duplicate_of: str | None = None
    closed: frozenset[str] = frozenset()
    sha256: str | None = None
    redis_run: str = ""
    open_seconds_before: float = 0.0
    unknown_step: Step = Step.NONE
    earlier_sending_unknown: bool = False
    needs_person: bool = False
    scope: str = ""

    @property
    def account(self) -> str:
        return self.document.account

    @property
    def code(self) -> Code | None:
        if self.failure:
            return self.failure.code
        return Code.DUPLICATE if self.duplicate_of else None


_WITHOUT_RECORD_YET = (Code.NOT_CONFIRMED, Code.OUTCOME_UNKNOWN)


def outcome_open(job: Job) -> bool:
    """Whether nobody knows what became of a failed job: its name stays its own, and its document continues it."""
    return job.stage is Stage.FAILED and job.code in _WITHOUT_RECORD_YET and job.unknown_since is not None


def still_reconciling(job: Job) -> bool:
    """Whether the failure may yet turn into a delivery by itself."""
    return outcome_open(job) and not job.needs_person
