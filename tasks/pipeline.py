"""One step of one job: read, act, record the move.

Every step may run twice, be killed anywhere, or run beside its twin; the guarded moves of the ledger make that
harmless. What a step raises says what happens next, all in `tasks.aftermath`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import structlog

from tasks.accounts import Account, Accounts
from tasks.aftermath import Aftermath
from tasks.care import Care
from tasks.errors import LeaseLost, OutcomeUnknown, PresignAgain, RetryLater, StageError
from tasks.job import Facts, Job, Stage, Step, Stored
from tasks.keeper import Grip, Keeper
from tasks.ledger import AWAY, Hold, Ledger, NotStarted
from tasks.results import Results
from tasks.transfer import post

log = structlog.get_logger()

_NAME_WAIT_SECONDS = 30.0
_SLOWEST_BYTES_PER_SECOND = 50_000


@dataclass(frozen=True, slots=True)
class Ran:
    """What running a step led to: may the chain go on, and whose closing is to be started at once."""

    forward: bool = False
    finished: tuple[str, ...] = ()


class Pipeline:
    def __init__(
        self,
        *,
        ledger: Ledger,
        keeper: Keeper,
        accounts: Accounts,
        care: Care,
        results: Results,
        aftermath: Aftermath,
        stopping: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._keeper = keeper
        self._accounts = accounts
        self._care = care
        self._results = results
        self._aftermath = aftermath
        self._stopping = stopping

    def run(self, step: Step, job_id: str) -> Ran:
        """Run a step if it is still to be run. Raises Redis's errors, and what nobody foresaw."""
        started = self._ledger.start(job_id, step)
        if isinstance(started, NotStarted):
            log.info("step_not_started", job=job_id, step=step, why=started.why)
            return Ran()
        account = self._accounts[started[0].job.account]
        account.start_counting()
        acts: dict[Step, Callable[[list[Hold], Account, Grip], Ran]] = {
            Step.PRESIGN: self._presign,
            Step.POST: self._post,
            Step.CONFIRM: self._confirm,
        }
        with self._keeper.holding(started) as grip:
            try:
                return acts[step](started, account, grip)
            except LeaseLost as error:
                log.info("lease_lost", job=job_id, step=step, account=account.name, why=str(error))
                return Ran()
            except StageError as error:
                return Ran(finished=self._aftermath.of(error, started, account))
            except AWAY:
                raise
            except Exception as error:  # noqa: BLE001, a fault of ours in one document must not hold up the others
                log.error("step_crashed", job=job_id, step=step, **crash_site(error))
                crashed = RetryLater(f"The step crashed with {type(error).__name__}; the log names the place.")
                return Ran(finished=self._aftermath.of(crashed, started, account))

    # --- presign -----------------------------------------------------------------------------------------------

    def _presign(self, holds: list[Hold], account: Account, grip: Grip) -> Ran:
        hold, job = holds[0], holds[0].job
        account.provider.check(job.document)
        if not self._reserved(hold, account):
            return Ran()
        wary = account.settings.duplicates == "skip" or job.document.idempotency_key
        if wary and self._skipped_as_duplicate(hold, account, grip):
            return Ran(finished=(job.id,))
        facts = self._facts_before_sending(job, account)
        grip.check()
        form = account.provider.presign(job)
        facts = replace(facts, form=form, key=form.key)
        self._ledger.presigned(hold, facts, self._ledger.redis_run(), account.counted())
        log.info("job_presigned", job=job.id, account=job.account)
        self._results.progress(job, Stage.PRESIGNED)
        return Ran(forward=True)

    def _reserved(self, hold: Hold, account: Account) -> bool:
        """Two documents of one name for one patient never fly at once: their records could not be told apart."""
        holder = self._ledger.reserve_name(hold.job)
        if holder == hold.job.id:
            return True
        self._ledger.deferred(hold, _NAME_WAIT_SECONDS, account.counted())
        log.info("job_waits_for_name", job=hold.job.id, account=hold.job.account, holder=holder)
        return False

    def _skipped_as_duplicate(self, hold: Hold, account: Account, grip: Grip) -> bool:
        sent = self._ledger.sent_before(hold.job.document)
        if not sent:
            return False
        earlier_id = sent.get(self._care.sha256(hold.job, grip.check))
        earlier = self._ledger.get(earlier_id) if earlier_id else None
        if earlier is None or earlier.facts.record is None or earlier.id == hold.job.id:
            return False
        if not account.provider.still_there(hold.job.document, earlier.facts.record):
            return False
        self._ledger.duplicate(hold, earlier, account.counted())
        log.info("job_skipped_as_duplicate", job=hold.job.id, account=hold.job.account, earlier=earlier.id)
        return True

    def _facts_before_sending(self, job: Job, account: Account) -> Facts:
        facts = account.provider.before_sending(job)
        if facts.snapshot is None:
            return facts
        # A snapshot may be some seconds old and shared: what was proven since is no candidate for this job.
        return replace(facts, snapshot=tuple(sorted({*facts.snapshot, *self._ledger.claims(job.document)})))

    # --- post --------------------------------------------------------------------------------------------------

    def _post(self, holds: list[Hold], account: Account, grip: Grip) -> Ran:
        hold, job = holds[0], holds[0].job
        if job.committed or (not job.looked and self._perhaps_sent_before(job)):
            raise OutcomeUnknown("An earlier attempt may have passed the commit point.")
        if job.facts.form is None:
            raise PresignAgain("The ledger has no form for this job.")
        stored = _Transfer(self._ledger, self._care, hold, account, grip, self._stopping).run()
        facts = replace(job.facts, stored=stored, form=None)
        self._ledger.stored(hold, facts, Step.CONFIRM, account.settings.confirm.first_seconds, account.counted())
        log.info("job_stored", job=job.id, account=job.account, etag_verified=stored.etag_verified)
        self._results.progress(job, Stage.STORED)
        return Ran(forward=True)

    def _perhaps_sent_before(self, job: Job) -> bool:
        """Whether the ledger may have forgotten a commit: our own folder knows, else a changed Redis is suspect."""
        on_disk = self._care.committed_on_disk(job)
        if on_disk is not None:
            return on_disk
        return job.redis_run != self._ledger.redis_run()

    # --- confirm -----------------------------------------------------------------------------------------------

    def _confirm(self, holds: list[Hold], account: Account, grip: Grip) -> Ran:
        jobs = [hold.job for hold in holds]
        found = account.provider.look(jobs, self._ledger.claims(jobs[0].document))
        grip.check()
        finished = []
        calls = account.counted()
        for hold in holds:
            calls_of_this, calls = calls, 0
            record = found[hold.job.id].record if hold.job.id in found else None
            try:
                if record and self._ledger.delivered(hold, record, calls_of_this, self._sha256(hold, grip)):
                    log.info("job_delivered", job=hold.job.id, account=account.name, record=record.id)
                    finished.append(hold.job.id)
                elif self._aftermath.of_a_look_without_result(hold, account, calls_of_this):
                    finished.append(hold.job.id)
            except LeaseLost as error:
                log.info("lease_lost", job=hold.job.id, step=Step.CONFIRM, account=account.name, why=str(error))
        return Ran(finished=tuple(finished))

    def _sha256(self, hold: Hold, grip: Grip) -> str | None:
        """The digest that went by, or of the document as it lies here when the upload's answer was lost."""
        if hold.job.facts.stored:
            return hold.job.facts.stored.sha256
        try:
            return self._care.sha256(hold.job, grip.check)
        except LeaseLost:
            raise
        except StageError:
            return None


class _Transfer:
    """One attempt at the upload of one job, with its commit point."""

    def __init__(
        self, ledger: Ledger, care: Care, hold: Hold, account: Account, grip: Grip, stopping: threading.Event
    ) -> None:
        self._ledger = ledger
        self._care = care
        self._hold = hold
        self._account = account
        self._grip = grip
        self._stopping = stopping
        self._committed = False
        self._deadline = time.monotonic() + 120 + hold.job.document.size_bytes / _SLOWEST_BYTES_PER_SECOND

    def run(self) -> Stored:
        job, form = self._hold.job, self._hold.job.facts.form
        assert form is not None  # noqa: S101, the caller has looked
        settings = self._account.settings
        try:
            with self._care.open(job) as source:
                return post(
                    form,
                    source,
                    job.document.file_name,
                    client=self._account.storage_client(),
                    allowed_hosts=settings.upload_hosts,
                    insecure=settings.insecure,
                    commit=self._commit,
                    beat=self._beat,
                    on_call=self._account.count_call,
                )
        except (OutcomeUnknown, LeaseLost):
            raise
        except StageError:
            # Answered, or cut, in a way that says for certain: not stored.
            if self._committed:
                self._take_back()
            raise

    def _beat(self) -> None:
        self._grip.check()
        if self._committed:
            return
        if self._stopping.is_set():
            raise RetryLater("The worker is stopping; another continues.", after_seconds=0)
        if time.monotonic() > self._deadline:
            raise RetryLater("The upload took too long and was cut.", unreachable=True)

    def _commit(self) -> None:
        self._beat()
        asked_at = time.monotonic()
        self._ledger.committed(self._hold)
        self._committed = True
        try:
            self._care.note_commit(self._hold.job)
        except OSError as error:
            raise RetryLater(f"job.json cannot be written ({type(error).__name__}); nothing was sent.") from error
        if time.monotonic() - asked_at > self._ledger.lease_seconds / 2:
            raise RetryLater("The commit took so long that the lease may be gone; nothing was sent.", after_seconds=0)

    def _take_back(self) -> None:
        self._care.note_commit_undone(self._hold.job)
        self._ledger.uncommitted(self._hold)


def crash_site(error: BaseException) -> dict[str, str]:
    """The class of an exception and where it was raised, without its words, which may name the patient."""
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    place = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else ""
    return {"error": type(error).__name__, "place": place}
