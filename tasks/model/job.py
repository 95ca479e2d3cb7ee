"""A document on its way: what it is, how far it has come, and what proves that it arrived."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

from tasks.model.document import Document
from tasks.model.errors import UNCERTAIN_CODES, About, Code
from tasks.model.route import Stage, Step


class Assurance(StrEnum):
    """What `delivered` rests on."""

    CONFIRMED = "confirmed"  # the provider's own record
    ACCEPTED = "accepted"  # the provider's durable acceptance; it gives no later sign


@dataclass(frozen=True, slots=True)
class Statement:
    """What a person has said of a job."""

    by: str
    at: datetime
    # Why; it may name the patient.
    note: str = ""


# Record, Form, Stored, Facts, Failure and Statement are sealed in the ledger by field name. A renamed field would make
# the jobs of an earlier version unreadable.


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
    # Both digests are of the bytes sent, in hexadecimal. `md5` is empty where the form has S3 encrypt the file with a
    # key of KMS or of the customer: the ETag is not an MD5 then, and nothing else needs one.
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
    # Who has found it in the chart, of a job that a person has resolved.
    resolution: Statement | None = None
    # What `delivered` rests on, where that is less than what the provider usually gives.
    assurance: Assurance | None = None


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
    # What of the document is wrong, where the code alone does not say it.
    about: About | None = None


@dataclass(frozen=True, slots=True)
class Since:
    """Since when something holds, by the ledger's clock: for what is decided."""

    # It has been in its stage.
    stage: datetime | None = None
    # The first of the failures in a row. The retry budget runs from here.
    failing: datetime | None = None
    # When it first parked its account. Cleared when it is stored, or when a search is not refused.
    blocked: datetime | None = None
    # When the last search began that found nothing. Only since it was stored, or since it was registered.
    last_search: datetime | None = None
    # For how long the account had been parked or down in total, in seconds, when the stage was reached.
    unusable_seconds_before: float = 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """How often something has happened to a job."""

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


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """What is not known of the sending: whether the document may be in the chart, and how far a search for it has come.

    A known outcome clears all of it but `was_unknown` and what was reconciled.
    """

    # The last block of the creating request may have left. Set at the commit point.
    committed: bool = False
    # An earlier sending has an unknown outcome, and is repeated with the same ids.
    earlier_sending_unknown: bool = False
    # The step whose outcome is unknown. Repeated when the search has found nothing.
    unknown_step: Step = Step.NONE
    # Since when it is unknown whether the document arrived, by the ledger's clock.
    unknown_since: datetime | None = None
    # The outcome of a request was unknown once, whatever the search for it has found.
    was_unknown: bool = False
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

    @property
    def perhaps_sent(self) -> bool:
        """True once a try may have created something: this one, or an earlier one of unknown outcome."""
        return self.committed or self.earlier_sending_unknown

    @property
    def outcome_unknown(self) -> bool:
        """True while the outcome of a step is unknown and searched for."""
        return self.unknown_step is not Step.NONE

    def has_reconciled(self, commit_at: datetime | None) -> bool:
        """True if the commit that job.json was told of then was searched for until the deadline, and led to nothing."""
        return self.reconciled and commit_at == self.reconciled_commit_at


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

    # --- what decides how it goes on ---
    since: Since = Since()
    counts: Counts = Counts()
    uncertainty: Uncertainty = Uncertainty()
    # The lane of its due entry.
    lane: str = ""
    # The HMAC under which the owners of the provider's records are kept: of the patient, or of the account.
    scope: str = ""

    # --- how it ended ---
    failure: Failure | None = None
    # A person has dealt with the failure: it needs no attention any more.
    dismissal: Statement | None = None
    # The job that delivered the same document before.
    duplicate_of: str | None = None
    # Another producer's, which must not be told of it.
    duplicate_hidden: bool = False
    # `delivered` rests on what a person found in the chart.
    resolved_by_human: bool = False
    # The digest of the bytes sent. If the upload's answer was lost, of the document where it lies.
    sha256: str | None = None
    # The closing steps that are done.
    closed: frozenset[str] = frozenset()
    # The step of its closing that has failed last, and the kind of error. Empty if none has.
    closing_error: str = ""

    @property
    def account(self) -> str:
        return self.document.account

    @property
    def code(self) -> Code | None:
        if self.failure:
            return self.failure.code
        return Code.DUPLICATE if self.duplicate_of else None

    @property
    def may_have_arrived(self) -> bool:
        """True if the document may be in the chart by a try whose outcome is unknown. Labels are simply set again."""
        return self.uncertainty.perhaps_sent and not self.document.relabeling

    @property
    def outcome_open(self) -> bool:
        """True for a failed job that may still be delivered. It keeps its name, and the same document continues it."""
        # Once the slow search has ended, `unknown_since` is empty: the code stays, the question is answered.
        uncertain = self.code in UNCERTAIN_CODES and self.uncertainty.unknown_since is not None
        return self.stage is Stage.FAILED and uncertain

    @property
    def still_reconciling(self) -> bool:
        """True for a failed job that a search may turn into a delivery, without a person."""
        return self.outcome_open and not self.uncertainty.needs_person
