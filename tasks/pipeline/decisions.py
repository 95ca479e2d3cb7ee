"""What may follow for a job, as values, and the case from which one is chosen.

`recovery` and `reconciliation` choose; they read and write nothing. `consequences` carries out what they chose.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from config.accounts import Confirm
from config.settings import Retry
from tasks.ledger.lease import Lease
from tasks.model.backoff import Chance
from tasks.model.job import Failure, Job
from tasks.model.route import OnUnknownOutcome, Route

# --- the case --------------------------------------------------------------------------------------------------------


class Inquiries(Protocol):
    """What a decision may ask. Each question costs a call, so it is asked only where the answer decides."""

    def waited(self, since: datetime) -> timedelta:
        """How long the job has waited since then, without the time in which its account was parked or down."""
        ...

    def others_got_through(self, since: datetime) -> bool:
        """True if a document of the account has been stored or delivered since then."""
        ...

    def probe_works(self) -> bool:
        """True if the account's probe succeeds now: one cheap call that needs no document."""
        ...

    def committed_at(self) -> datetime | None:
        """When job.json was told of the last commit. None if it knows of none, or cannot be read."""
        ...


@dataclass(frozen=True, slots=True)
class Case:
    """One job whose step has not led on, and what its account's settings and its route say."""

    # The job as it was when the step started, and when that was.
    lease: Lease
    route: Route
    retry: Retry
    confirm: Confirm
    ask: Inquiries
    chance: Chance = random.random

    @property
    def job(self) -> Job:
        return self.lease.job

    @property
    def now(self) -> datetime:
        """By the ledger's clock."""
        return self.lease.now

    def has_waited(self, since: datetime, patience: timedelta) -> bool:
        """Whether the job has waited so long since then, without the time in which its account could not be used."""
        # Most have not, whatever that time was: then nothing need be asked.
        return self.now - since >= patience and self.ask.waited(since) >= patience

    @property
    def on_unknown_outcome(self) -> OnUnknownOutcome:
        return self.route.on_unknown_outcome


# --- the job's account -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Throttle:
    """The account's whole limit group waits."""

    seconds: float
    # Empty: its limit of requests is used up.
    reason: str


@dataclass(frozen=True, slots=True)
class CountUnreachable:
    """The provider did not answer. After several times in a row the account is down."""

    reason: str


@dataclass(frozen=True, slots=True)
class Remark:
    """The account's status says it for a while. Nothing is stopped."""

    sentence: str


@dataclass(frozen=True, slots=True)
class Park:
    """Nothing is sent for the account until a probe succeeds."""

    reason: str


AccountDecision = Throttle | CountUnreachable | Remark | Park

# --- the job goes on -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """The same step again, later."""

    seconds: float
    reason: str
    # False: it waits because it was asked to, which costs no budget and adds nothing to the back-off.
    is_failure: bool = True


@dataclass(frozen=True, slots=True)
class PresignAgainAfter:
    """Back to presign, for another form."""

    seconds: float
    reason: str
    # Why the account is parked first. Empty: it is not.
    parks: str = ""


@dataclass(frozen=True, slots=True)
class WaitForAccount:
    """It waits untouched until its account works, and then for so long."""

    seconds: float = 0.0
    # Why the account is parked again first. Empty: it is parked already.
    parks: str = ""


@dataclass(frozen=True, slots=True)
class Reconcile:
    """Search for the record, for the first time after so many seconds, before anything is sent again."""

    seconds: float


@dataclass(frozen=True, slots=True)
class RepeatAfter:
    """The same request with the same ids, by which the provider recognises the document."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SearchAgain:
    """The search found nothing: the next one later."""

    seconds: float
    # From now on the search is for another commit, of which job.json was told then.
    another_commit_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class SearchAgainAfterFailure:
    """The provider could not be searched: the next try later."""

    seconds: float


@dataclass(frozen=True, slots=True)
class SendAgain:
    """The search found nothing until its deadline: the step whose outcome is unknown again."""

    # When job.json was told of the commit that was searched for.
    reconciled_commit_at: datetime | None


# --- the job has ended -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FailWith:
    """It has failed for good. Its name is free for another document."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class FailUnconfirmed:
    """No confirmation in time: it has failed for now. Its name stays taken, since a slow search goes on."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class HoldForPerson:
    """Only a person can find out whether it arrived. It waits in failed/ until one has said so."""

    failure: Failure
    # Why it is not tried any longer, for the log. Empty: it could not be tried again at all.
    gave_up: str = ""


@dataclass(frozen=True, slots=True)
class EndSlowSearch:
    """The failure of a failed job is final, and its name is free."""

    failure: Failure
    # False: the search has ended early, by what it found.
    day_is_over: bool = True


Ending = FailWith | FailUnconfirmed | HoldForPerson | EndSlowSearch
Decision = (
    RetryAfter
    | PresignAgainAfter
    | WaitForAccount
    | Reconcile
    | RepeatAfter
    | SearchAgain
    | SearchAgainAfterFailure
    | SendAgain
    | Ending
)
