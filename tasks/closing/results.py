"""What a Celery caller's AsyncResult shows: the stage while the job runs, the receipt or DocumentFailed at the end.

Celery keeps results in the clear, so nothing here names patient, file or storage key.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import structlog
from celery import Celery, states
from kombu.utils.encoding import bytes_to_str

from tasks.closing.receipts import public_receipt
from tasks.ledger.keys import PREFIX
from tasks.ledger.ledger import Ledger
from tasks.ledger.moves import Shown, ShownOutcome
from tasks.ledger.script_loader import load_script
from tasks.model.document import Door
from tasks.model.errors import Code
from tasks.model.job import Job
from tasks.model.route import Stage

log = structlog.get_logger()

_ANY_CALL = str(UUID(int=0))


class DocumentFailed(Exception):
    """Raised at a Celery caller whose document failed; `args` are `(code, message)`."""


class Results:
    def __init__(self, app: Celery, ledger: Ledger) -> None:
        self._app = app
        self._ledger = ledger
        self._refuse_call = load_script(ledger.redis, "refuse_call")
        self._show = load_script(ledger.redis, "show_result")
        # What callers see of a stage: the same for all of them.
        self._stages: dict[Stage, ShownOutcome] = {}

    def progress(self, job: Job, stage: Stage) -> Shown | None:
        """What the caller sees from the move to this stage on; None if nobody waits for a result."""
        if job.document.door is not Door.CELERY:
            return None
        if stage not in self._stages:
            self._stages[stage] = self._as_stored({"stage": str(stage)}, stage.upper())
        return self._stages[stage].of(job.id)

    def final(self, job: Job) -> ShownOutcome | None:
        """What callers see of the outcome, for the move that closes the job; None while it has none."""
        outcome = self._outcome(job)
        return replace(outcome, called=job.document.door is Door.CELERY) if outcome else None

    def outcome(self, task_id: str, job: Job) -> None:
        """Show the outcome of a job, if it has one, to a call that asked for the same after that job was closed."""
        outcome = self._outcome(job)
        if outcome:
            shown = outcome.of(task_id)
            self._show(args=[shown.key, shown.text, shown.seconds])

    def _outcome(self, job: Job) -> ShownOutcome | None:
        if job.stage is Stage.DELIVERED:
            return self._as_stored(public_receipt(job), states.SUCCESS)
        if job.failure:
            # Its message alone: the provider's words, in `detail`, may name the patient.
            return self._as_stored(DocumentFailed(str(job.failure.code), job.failure.message), states.FAILURE)
        return None

    def refuse_call(self, task_id: str, code: Code, message: str) -> bool:
        """Show that a call was refused, unless the ledger has a job of its id. False then.

        Another's call may come under the id of a job: whoever waits for that job must not be told that it has failed.
        Raises Redis's errors.
        """
        failed = self._as_stored(DocumentFailed(str(code), message), states.FAILURE).of(task_id)
        return bool(self._refuse_call(args=[PREFIX, task_id, failed.key, failed.text, failed.seconds]))

    def _as_stored(self, result: Any, state: str) -> ShownOutcome:
        """A result as Celery's `store_result` writes it. Our scripts write it, in one step with what it tells of."""
        backend: Any = self._app.backend
        meta = backend._get_result_meta(backend.encode_result(result, state), state, None, None)
        # The id comes last, so nothing of the result can be mistaken for it.
        text_head, _, text_tail = backend.encode({**meta, "task_id": _ANY_CALL}).rpartition(_ANY_CALL)
        key_head = bytes_to_str(backend.get_key_for_task(_ANY_CALL)).removesuffix(_ANY_CALL)
        return ShownOutcome(key_head, text_head, text_tail, int(backend.expires))
