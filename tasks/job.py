"""A document on its way: what it is, how far it has come, and what proves that it arrived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from tasks.errors import Code


class Stage(StrEnum):
    """How far a job has come; each is a past fact."""

    RECEIVED = "received"
    PRESIGNED = "presigned"
    STORED = "stored"
    REGISTERED = "registered"
    DELIVERED = "delivered"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        return self in (Stage.DELIVERED, Stage.FAILED, Stage.CANCELLED)


class Step(StrEnum):
    """What happens to a job next; the Celery task is `chartpost.<step>`."""

    PRESIGN = "presign"
    POST = "post"
    REGISTER = "register"
    CONFIRM = "confirm"
    NOTIFY = "notify"
    NONE = ""


class Door(StrEnum):
    """Where a document came in."""

    INBOX = "inbox"
    SEND = "send"
    STREAM = "stream"
    CELERY = "celery"

    @property
    def has_folder(self) -> bool:
        """Whether the file itself lies in our care, in `processing/<job id>/`."""
        return self in (Door.INBOX, Door.SEND)


class Assurance(StrEnum):
    """What `delivered` rests on: the provider's own record, or its durable acceptance."""

    CONFIRMED = "confirmed"
    ACCEPTED = "accepted"


@dataclass(frozen=True, slots=True)
class Document:
    """What is to be delivered. Patient data: sealed wherever it rests outside our folders.

    `source` is a `file://` or `s3://` address; `identity` is what must not change while we send (inode, size and
    mtime of a file, ETag of an object). `stream_id` is the entry of the intake stream that it came by. `home` names
    the machine whose folders hold a document that was staged to S3.
    """

    account: str
    patient_id: str | None
    source: str
    file_name: str
    size_bytes: int
    identity: str = ""
    door: Door = Door.CELERY
    content_type: str | None = None
    description: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    idempotency_key: str | None = None
    callback_url: str | None = None
    delete_source: bool = False
    stream_id: str | None = None
    home: str | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """A presigned S3 POST: `fields` verbatim and in the order in which they must be sent."""

    url: str
    fields: Mapping[str, str]

    @property
    def key(self) -> str | None:
        return next((v for k, v in self.fields.items() if k.lower() == "key"), None)


@dataclass(frozen=True, slots=True)
class Stored:
    """What an upload told us: where it landed and what went by.

    `etag_verified` is True when the ETag equals the MD5 of the bytes sent, False when it differs or cannot be one.
    """

    key: str
    etag: str | None
    etag_verified: bool
    sha256: str
    md5: str
    location: str | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """The provider's record of a document: its id there, and its address where there is one."""

    id: str
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What became known on the way; sealed in the ledger, since keys and snapshots tell about patients.

    `snapshot` holds the ids of the records that the patient had before presign; `key` is the S3 key of the form.
    `provider` is the provider's own: ids fixed beforehand, tokens put into descriptions.
    """

    form: Form | None = None
    snapshot: tuple[str, ...] | None = None
    key: str | None = None
    stored: Stored | None = None
    record: Record | None = None
    provider: Mapping[str, Any] = field(default_factory=dict)


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
    `looked`: its last commit was looked for, long enough, and found to have led to nothing.
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
    looks: int = 0
    provider_calls: int = 0
    times: Mapping[str, datetime] = field(default_factory=dict)
    failure: Failure | None = None
    resolved_by_human: bool = False
    blocked_since: datetime | None = None
    looked: bool = False
    long_look: bool = False
    duplicate_of: str | None = None
    closed: frozenset[str] = frozenset()
    sha256: str | None = None
    redis_run: str = ""
    sick_before: float = 0.0

    @property
    def account(self) -> str:
        return self.document.account

    @property
    def code(self) -> Code | None:
        if self.failure:
            return self.failure.code
        return Code.DUPLICATE if self.duplicate_of else None
