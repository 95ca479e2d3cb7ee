"""What the buttons do: the same as the commands, for one document or several.

A button carries what its page showed (`Shown`): a document that has changed since is left alone, and the person is
told. So a page that stood open over lunch does no harm, and neither do two tabs, or a button that is pressed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

import click

from tasks.ledger import moves
from tasks.ledger.redis import REDIS_ERRORS
from tasks.model.errors import UNCERTAIN_CODES, Code
from tasks.model.job import Job, Record, Statement
from tasks.model.route import Stage, Step
from tasks.model.times import to_ms
from tasks.runtime import Runtime
from tasks.wording.explanation import Again
from worker.cli.commands.dismiss import dismiss_job
from worker.cli.commands.retry.command import retries_of
from worker.cli.commands.retry.failed_documents import NotRetried
from worker.cli.commands.retry.targets import Target


class Act(StrEnum):
    SEND_AGAIN = "send_again"  # a document of unknown outcome is searched for first
    AS_IT_IS = "as_it_is"  # the same, even if its end is missing
    IN_CHART = "in_chart"
    NOT_IN_CHART = "not_in_chart"  # sent at once, without a search
    DISMISS = "dismiss"
    CANCEL = "cancel"


class Outcome(StrEnum):
    DONE = "done"
    CHANGED = "changed"  # since the page was shown
    NOT_FITTING = "not_fitting"  # this act is none for a document in this state
    RECORD_TAKEN = "record_taken"  # the record proves another document
    TOO_LATE = "too_late"
    BUSY = "busy"  # its files are still being moved
    # --- it cannot be sent again (`WhyNot`) ---
    FILE_AWAY = "file_away"
    NOT_BELIEVED = "not_believed"
    FAULTY = "faulty"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Shown:
    """A document as a page showed it."""

    job_id: str
    # How and when it had ended, and whether that was dealt with. A search that goes on by itself does not change it.
    state: str

    @classmethod
    def of(cls, job: Job) -> Shown:
        if not job.stage.final:
            return cls(job.id, "open")
        ended_at = job.times.get(job.stage, job.created_at)
        return cls(job.id, f"{job.stage}-{to_ms(ended_at)}{'-dealt-with' if job.dismissal else ''}")

    @classmethod
    def read(cls, text: str) -> Shown:
        """Raises ValueError."""
        job_id, at, state = text.rpartition("@")
        if not at:
            raise ValueError("names no document")
        return cls(job_id, state)

    def __str__(self) -> str:
        return f"{self.job_id}@{self.state}"


@dataclass(frozen=True, slots=True)
class Done:
    """What came of an act for one document."""

    job_id: str
    outcome: Outcome


def acts_for(job: Job, again: Again = Again.HELPS) -> Sequence[Act]:
    """The acts that fit a document, the likeliest first. `again`: whether it helps to send it again as it is."""
    if job.stage in (Stage.FAILED, Stage.CANCELLED):
        dismiss = () if job.dismissal else (Act.DISMISS,)
        if job.stage is Stage.FAILED and job.code in UNCERTAIN_CODES:
            # What was not confirmed is searched for all the same.
            search = (Act.SEND_AGAIN,) if job.code is Code.OUTCOME_UNKNOWN and again is Again.HELPS else ()
            return (Act.IN_CHART, Act.NOT_IN_CHART, *search, *dismiss)
        if job.code is Code.FILE_INCOMPLETE:
            return (*dismiss, Act.AS_IT_IS)
        match again:
            case Again.HELPS:
                return (Act.SEND_AGAIN, *dismiss)
            case Again.LATER:
                return (*dismiss, Act.SEND_AGAIN)
        return dismiss
    # What may have arrived cannot be stopped any more.
    if job.stage.final or job.uncertainty.committed or job.step is Step.CONFIRM:
        return ()
    return (Act.CANCEL,)


class Acts:
    """`changed` is called after each act that changed something."""

    def __init__(self, runtime: Runtime, changed: Callable[[], None]) -> None:
        self._runtime = runtime
        self._ledger = runtime.ledger
        self._retries = retries_of(runtime)
        self._changed = changed

    def do(self, act: Act, shown: Shown, user: str, note: str = "", record: str = "") -> Done:
        """Raises REDIS_ERRORS and OSError. `note` and `record` may name the patient."""
        job = self._ledger.get(shown.job_id)
        if job is None or Shown.of(job) != shown:
            return Done(shown.job_id, Outcome.CHANGED)
        # Which buttons a page had depends on more, such as the provider; what the job allows is the same.
        if not any(act in acts_for(job, again) for again in Again):
            return Done(job.id, Outcome.NOT_FITTING)
        try:
            return self._do(act, job, Statement(user, datetime.now(UTC), note), record)
        finally:
            self._changed()

    def _do(self, act: Act, job: Job, statement: Statement, record: str) -> Done:
        match act:
            case Act.SEND_AGAIN | Act.NOT_IN_CHART | Act.AS_IT_IS:
                return self._send_again(job, at_once=act is Act.NOT_IN_CHART, as_it_is=act is Act.AS_IT_IS)
            case Act.IN_CHART:
                move = moves.resolve_delivered(job, Record(record) if record else None, statement)
                return self._take_over(job, move)
            case Act.DISMISS:
                return self._dismiss(job, statement)
            case Act.CANCEL:
                return self._take_over(job, moves.cancel(job))

    def _send_again(self, job: Job, *, at_once: bool, as_it_is: bool) -> Done:
        try:
            plan = self._retries.plan(Target(job.id, job), send_again=at_once, as_it_is=as_it_is)
            self._retries.carry_out(plan)
        except NotRetried as reason:
            return Done(job.id, Outcome(reason.why))
        return Done(job.id, Outcome.DONE)

    def _dismiss(self, job: Job, statement: Statement) -> Done:
        if "files" not in job.closed:
            return Done(job.id, Outcome.BUSY)
        try:
            dismiss_job(self._runtime, job, statement)
        except click.ClickException:
            return Done(job.id, Outcome.CHANGED)
        return Done(job.id, Outcome.DONE)

    def _take_over(self, job: Job, move: moves.Move) -> Done:
        match self._ledger.take_over(job, move):
            case "ok":
                with suppress(*REDIS_ERRORS):  # a feeder sends it within a lease
                    self._runtime.send_closing(job.id)
                return Done(job.id, Outcome.DONE)
            case "owned_by_another":
                return Done(job.id, Outcome.RECORD_TAKEN)
            case "committed":
                return Done(job.id, Outcome.TOO_LATE)
        return Done(job.id, Outcome.CHANGED)
