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
from tasks.model.errors import UNCERTAIN_CODES
from tasks.model.job import Job, Record, Statement
from tasks.model.route import Stage, Step
from tasks.model.times import to_ms
from tasks.runtime import Runtime
from worker.cli.commands.dismiss import dismiss_job
from worker.cli.commands.retry.command import retries_of
from worker.cli.commands.retry.failed_documents import NotRetried
from worker.cli.commands.retry.targets import Target


class Act(StrEnum):
    SEND_AGAIN = "send_again"  # a document of unknown outcome is searched for first
    IN_CHART = "in_chart"
    NOT_IN_CHART = "not_in_chart"  # sent at once, without a search
    DISMISS = "dismiss"
    CANCEL = "cancel"


class Outcome(StrEnum):
    DONE = "done"
    CHANGED = "changed"  # since the page was shown
    NOT_FITTING = "not_fitting"  # this act is none for a document in this state
    REFUSED = "refused"  # `Done.why` says why
    RECORD_TAKEN = "record_taken"  # the record proves another document
    TOO_LATE = "too_late"


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
    # In English, for REFUSED; it may name the file.
    why: str = ""


def acts_for(job: Job, *, trying_again_helps: bool = True) -> Sequence[Act]:
    """The acts that fit a document, the likeliest first."""
    if job.stage in (Stage.FAILED, Stage.CANCELLED):
        dismiss = () if job.dismissal else (Act.DISMISS,)
        if job.stage is Stage.FAILED and job.code in UNCERTAIN_CODES:
            return (Act.IN_CHART, Act.NOT_IN_CHART, *dismiss)
        return (Act.SEND_AGAIN, *dismiss) if trying_again_helps else (*dismiss, Act.SEND_AGAIN)
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
        if act not in acts_for(job):
            return Done(job.id, Outcome.NOT_FITTING)
        try:
            return self._do(act, job, Statement(user, datetime.now(UTC), note), record)
        finally:
            self._changed()

    def _do(self, act: Act, job: Job, statement: Statement, record: str) -> Done:
        match act:
            case Act.SEND_AGAIN | Act.NOT_IN_CHART:
                return self._send_again(job, at_once=act is Act.NOT_IN_CHART)
            case Act.IN_CHART:
                move = moves.resolve_delivered(job, Record(record) if record else None, statement)
                return self._take_over(job, move, closing=True)
            case Act.DISMISS:
                return self._dismiss(job, statement)
            case Act.CANCEL:
                return self._take_over(job, moves.cancel(job), closing=True)

    def _send_again(self, job: Job, *, at_once: bool) -> Done:
        try:
            self._retries.carry_out(self._retries.plan(Target(job.id, job), send_again=at_once))
        except NotRetried as reason:
            return Done(job.id, Outcome.REFUSED, str(reason))
        return Done(job.id, Outcome.DONE)

    def _dismiss(self, job: Job, statement: Statement) -> Done:
        try:
            dismiss_job(self._runtime, job, statement)
        except click.ClickException as reason:
            return Done(job.id, Outcome.REFUSED, reason.message)
        return Done(job.id, Outcome.DONE)

    def _take_over(self, job: Job, move: moves.Move, *, closing: bool = False) -> Done:
        match self._ledger.take_over(job, move):
            case "ok":
                if closing:
                    with suppress(*REDIS_ERRORS):  # a feeder sends it within a lease
                        self._runtime.send_closing(job.id)
                return Done(job.id, Outcome.DONE)
            case "owned_by_another":
                return Done(job.id, Outcome.RECORD_TAKEN)
            case "committed":
                return Done(job.id, Outcome.TOO_LATE)
        return Done(job.id, Outcome.CHANGED)
