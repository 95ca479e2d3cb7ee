"""A document on its way: what it is, how far it has come, and what proves that it arrived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from tasks.model.document import Document
from tasks.model.errors import UNCERTAIN_CODES, Code
from tasks.model.route import Stage, Step


class Assurance(StrEnum):
    """What `delivered` rests on."""

    CONFIRMED = "confirmed"  # the provider's own record
    ACCEPTED = "accepted"  # the provider's durable acceptance; it gives no later sign


# Record, Form, Stored, Facts and Failure are sealed in the ledger by field name. A renamed field would make the jobs of
# an earlier version unreadable.


@dataclass(frozen=True, slots=True)
class Record:
    """The provider's record of a document."""

    id: str
    # Its address, where the provider gives one.
    url: str | None = None
    # It existed before, and this document is only put into it, as others may be. So no single job owns it.
    shared: bool = False
    # Changes when the record's content changes, where the provider has such a value.
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Form:
    """A presigned S3 POST."""

    url: str
    # Sent verbatim and in this order.
    fields: Mapping[str, str]
    # Set where the provider makes its record before the upload, which then completes it.
    record: Record | None = None

    @property
    def key(self) -> str | None:
        return next((v for k, v in self.fields.items() if k.lower() == "key"), None)


@dataclass(frozen=True, slots=True)
class Stored:
    """What an upload told us: where the document is stored, and which bytes were sent."""

    key: str
    etag: str | None
    # True if the ETag is the MD5 of the bytes sent. False if it differs, or is not an MD5 at all.
    etag_verified: bool
    # Both digests are of the bytes sent, in hexadecimal.
    sha256: str
    md5: str
    location: str | None = None
    # The address of the form. The form itself is dropped once it has been used.
    form_url: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What became known on the way. Sealed in the ledger: keys and snapshots tell about patients."""

    form: Form | None = None
    # Ids of the records that the patient had before presign. A search ignores them.
    snapshot: tuple[str, ...] | None = None
    # The S3 key of the form.
    key: str | None = None
    stored: Stored | None = None
    # Known once the provider has made it, which may be before it proves anything.
    record: Record | None = None
    # The provider's own, such as ids that it fixed before the first try.
    provider: Mapping[str, Any] = field(default_factory=dict)
    # Sentences for the receipt: the provider's, or about its record.
    remarks: tuple[str, ...] = ()
    # Sentences for the receipt, about the document's content.
    content_remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed."""

    code: Code
    # Our own sentence, without patient data: safe in logs and results.
    message: str
    # What a person should do next.
    hint: str = ""
    # The provider's words. They may name the patient, so they are shown only beside the file and in the terminal.
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One document and how far it has come, as the ledger had it when it was read."""

    id: str
    # The kind of provider, such as "cliniko".
    provider: str
    stage: Stage
    # What happens next.
    step: Step
    document: Document
    facts: Facts

    # --- when, by Redis's clock: for people ---
    created_at: datetime
    updated_at: datetime
    # When its due entry is due. None when no work is left.
    next_at: datetime | None = None
    # When each stage was reached.
    times: Mapping[str, datetime] = field(default_factory=dict)

    # --- since when, by the ledger's clock: for what is decided ---
    # It has been in its stage.
    in_stage_since: datetime | None = None
    # The first of the failures in a row. The retry budget runs from here.
    failing_since: datetime | None = None
    # When it first parked its account. Cleared when it is stored, or when a search is not refused.
    blocked_since: datetime | None = None
    # For how long the account had been parked or down in total, in seconds, when the stage was reached.
    unusable_seconds_before: float = 0.0

    # --- how often ---
    # Tries at the document: 1 when all went well.
    attempts: int = 0
    # Tries since the last progress that ended in a delay. The back-off grows with it.
    failures: int = 0
    # Forms obtained.
    presigns: int = 0
    # Searches at the provider that found nothing.
    searches: int = 0
    # Requests to the provider and its storage.
    provider_calls: int = 0

    # --- the unknown outcome ---
    # The last block of the creating request may have left. Set at the commit point.
    committed: bool = False
    # Since when it is unknown whether the document arrived, by the ledger's clock.
    unknown_since: datetime | None = None
    # The step whose outcome is unknown. Repeated when the search has found nothing.
    unknown_step: Step = Step.NONE
    # An earlier sending has an unknown outcome, and is repeated with the same ids.
    earlier_sending_unknown: bool = False
    # When job.json was told of the commit that is searched for since `unknown_since`. It tells commits apart.
    searched_commit_at: datetime | None = None
    # The last commit was searched for until the deadline, and led to nothing.
    reconciled: bool = False
    # When job.json was told of that commit. A later commit in job.json was not searched for yet.
    reconciled_commit_at: datetime | None = None
    # Continued after a failure of unknown outcome: searched for during a day before it is sent again.
    day_of_searching: bool = False
    # Only a person can find out whether it arrived.
    needs_person: bool = False
    # The run id of the Redis in which it was presigned. Another one now means that a commit may be forgotten.
    redis_run: str = ""
    # The HMAC under which the owners of the provider's records are kept: of the patient, or of the account.
    scope: str = ""

    # --- how it ended ---
    failure: Failure | None = None
    # The job that delivered the same document before.
    duplicate_of: str | None = None
    # `delivered` rests on what a person found in the chart.
    resolved_by_human: bool = False
    # The digest of the bytes sent. If the upload's answer was lost, of the document where it lies.
    sha256: str | None = None
    # The closing steps that are done.
    closed: frozenset[str] = frozenset()

    @property
    def account(self) -> str:
        return self.document.account

    @property
    def code(self) -> Code | None:
        if self.failure:
            return self.failure.code
        return Code.DUPLICATE if self.duplicate_of else None


def outcome_open(job: Job) -> bool:
    """True for a failed job that may still be delivered. It keeps its name, and the same document continues it."""
    # Once the slow search has ended, `unknown_since` is empty: the code stays, the question is answered.
    return job.stage is Stage.FAILED and job.code in UNCERTAIN_CODES and job.unknown_since is not None


def still_reconciling(job: Job) -> bool:
    """True for a failed job that a search may turn into a delivery, without a person."""
    return outcome_open(job) and not job.needs_person
