"""How far a job has come, what happens to it next, and the way through both that a provider has for a document."""

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
    # The step of closing a job that has ended: its files, result, callback and event.
    NOTIFY = "notify"
    NONE = ""  # no work is left


class OnUnknownOutcome(StrEnum):
    """What follows when we did not see the outcome of a sending. It depends on what the provider offers."""

    RECONCILE = "reconcile"  # search for the record before anything is sent again
    RESEND = "resend"  # send with the same ids, by which the provider recognises the document
    HOLD = "hold"  # wait for a person: the provider offers no search and recognises nothing


@dataclass(frozen=True, slots=True)
class Route:
    """How a provider takes one document."""

    # Those between received and delivered, in order.
    stages: tuple[Stage, ...] = (Stage.PRESIGNED, Stage.STORED)
    # The step that a new job begins with.
    first: Step = Step.PRESIGN
    # One search serves all documents of a patient that wait.
    together: bool = True
    # The provider's records are known by the account, not by a patient.
    account_wide: bool = False
    on_unknown_outcome: OnUnknownOutcome = OnUnknownOutcome.RECONCILE

    @property
    def upload_creates(self) -> bool:
        """True if the upload alone makes a document in the chart. Where it must be registered, that makes it."""
        return Stage.REGISTERED not in self.stages

    def stage_before(self, step: Step) -> Stage:
        """The stage from which a step starts on this route."""
        before = {Step.POST: Stage.PRESIGNED, Step.REGISTER: Stage.STORED}.get(step, Stage.RECEIVED)
        # A route may begin with that step, and then lacks the stage that others have before it.
        return before if before in self.stages else Stage.RECEIVED
