"""TODO"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


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


class OnUnknownOutcome(StrEnum):
    """What follows on an outcome that nobody saw, by what the provider offers."""

    RECONCILE = "reconcile"  # for the record, before anything is sent again
    RESEND = "resend"  # with the same ids, by which the provider knows it again
    HOLD = "hold"  # for a human


@dataclass(frozen=True, slots=True)
class Route:
    """How a provider takes one document.

    `stages` lie between received and delivered, in order; `first` is the step that it begins with. `together`: one
    look serves all of a patient's documents. `account_wide`: its records are known by the account, not by a patient.
    """

    stages: tuple[Stage, ...] = (Stage.PRESIGNED, Stage.STORED)
    first: Step = Step.PRESIGN
    together: bool = True
    account_wide: bool = False
    on_unknown_outcome: OnUnknownOutcome = OnUnknownOutcome.RECONCILE

    @property
    def upload_creates(self) -> bool:
        """Whether an upload by itself makes a document in the chart; where one must be registered, it means nothing."""
        return Stage.REGISTERED not in self.stages

    def stage_before(self, step: Step) -> Stage:
        """The stage from which a step starts."""
        before = _STAGES_BEFORE.get(step, Stage.RECEIVED)
        return before if before in self.stages else Stage.RECEIVED


_STAGES_BEFORE = {Step.POST: Stage.PRESIGNED, Step.REGISTER: Stage.STORED}
