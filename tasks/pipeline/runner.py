"""Runs one step of one job: start it in the ledger, act, record the move; and then the steps that follow at once.

Every step may run twice, be killed anywhere, or run beside its twin. The ledger's guarded moves make that harmless.
What a step raises says what happens next; `recovery` decides it, and `consequences` carries it out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import timedelta

import structlog

from config.redaction import crash_site
from tasks.accounts.account import Account, Accounts
from tasks.ledger import moves
from tasks.ledger.lease import Lease, NotStarted
from tasks.ledger.redis import REDIS_ERRORS
from tasks.ledger.renewal import LeaseRenewer, prompt_seconds
from tasks.model.errors import LeaseLost, RetryLater, StepError
from tasks.model.route import Step
from tasks.pipeline.confirm import Confirm
from tasks.pipeline.consequences import Consequences
from tasks.pipeline.post import Post
from tasks.pipeline.preflight import Preflight
from tasks.pipeline.presign import Presign
from tasks.pipeline.register import Register
from tasks.pipeline.slot_reserve import SlotReserve
from tasks.pipeline.step import StepContext, StepResult
from tasks.sources.base import missing

log = structlog.get_logger()

Announced = Callable[[Lease], AbstractContextManager[Callable[[StepResult], None]]]
"""Tells others that the job's step runs, while the block runs; and to what it has led, when that is called."""


@contextmanager
def _unannounced(lease: Lease) -> Iterator[Callable[[StepResult], None]]:
    yield lambda result: None


class StepRunner:
    def __init__(
        self,
        context: StepContext,
        accounts: Accounts,
        lease_renewer: LeaseRenewer,
        consequences: Consequences,
        reserve: SlotReserve,
    ) -> None:
        preflight = Preflight(context)
        self._ledger = context.ledger
        self._commit_log = context.commit_log
        self._accounts = accounts
        self._lease_renewer = lease_renewer
        self._consequences = consequences
        self._reserve = reserve
        self._confirm = Confirm(context, consequences)
        self._steps: dict[Step, Presign | Post | Register] = {
            Step.PRESIGN: Presign(context, preflight),
            Step.POST: Post(context, preflight),
            Step.REGISTER: Register(context, preflight),
        }

    def run(self, step: Step, job_id: str, announced: Announced = _unannounced) -> StepResult:
        """Run a step unless it was done already, and the steps that follow it at once. Raises REDIS_ERRORS.

        Each further step is run within `announced`.
        """
        leases = self._ledger.start(job_id, step)
        if isinstance(leases, NotStarted):
            log.info("step_not_started", job=job_id, step=step, why=leases.why)
            return StepResult()
        account = self._accounts.get(leases[0].job.account)
        if account is None:
            # Another installation on the same Redis may have it in its settings. The lease runs out, and another worker
            # gets the job.
            log.warning("account_not_in_settings", job=job_id, step=step, account=leases[0].job.account)
            return StepResult()
        result = self._run_in_slot(step, leases, account)
        while result.goes_on:
            lease = result.goes_on
            with announced(lease) as note_result:
                result = self._run_in_slot(lease.job.step, [lease], account)
                note_result(result)
        return result

    def _run_in_slot(self, step: Step, leases: Sequence[Lease], account: Account) -> StepResult:
        with self._reserve.slot(account.name, prompt_seconds(leases[0], self._ledger.lease_seconds)) as free:
            if not free:
                return self._put_back(step, leases)
            return self._run(step, leases, account)

    def _put_back(self, step: Step, leases: Sequence[Lease]) -> StepResult:
        log.info("slot_kept_for_others", job=leases[0].job.id, step=step, account=leases[0].job.account)
        with suppress(LeaseLost):
            for lease in leases:
                self._ledger.apply(lease, moves.put_back(lease.job, self._ledger.lease_seconds / 3))
        return StepResult()

    def _run(self, step: Step, leases: Sequence[Lease], account: Account) -> StepResult:
        job_id = leases[0].job.id
        account.start_counting()
        with self._lease_renewer.renewing(leases) as renewal:
            try:
                if step is Step.CONFIRM:
                    return self._confirm.run(leases, account, renewal)
                # Else its bucket would be one from which nothing is taken, and the document would fail.
                self._commit_log.require_staging(leases[0].job)
                self._check_folder(leases[0])
                return self._steps[step].run(leases[0], account, renewal)
            except LeaseLost as error:
                log.info("lease_lost", job=job_id, step=step, account=account.name, why=str(error))
                return StepResult()
            except StepError as error:
                return StepResult(to_close_by_message=self._consequences.of_error(error, leases, account))
            except REDIS_ERRORS:
                raise
            except Exception as error:  # noqa: BLE001, our own fault with one document must not stop the others
                log.error("step_crashed", job=job_id, step=step, **crash_site(error))
                crashed = RetryLater(f"The step crashed with {type(error).__name__}; the log names the place.")
                return StepResult(to_close_by_message=self._consequences.of_error(crashed, leases, account))

    def _check_folder(self, lease: Lease) -> None:
        """Raises RetryLater, and after a lease DocumentRefused, if the document's folder is not on this machine.

        Nothing must be sent then: its job.json would not tell of it, nor does it tell what was sent before.
        """
        if not self._commit_log.folder_is_missing(lease.job):
            return
        # Another machine's folders may have borne this one's name until a moment ago (`folders.machines`). Its watcher
        # binds the job to itself.
        since = lease.job.since.failing
        if since is None or lease.now - since < timedelta(seconds=self._ledger.lease_seconds):
            raise RetryLater("Its folder in processing/ is not on this machine.")
        raise missing()
