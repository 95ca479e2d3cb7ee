"""One step of one job: read, act, record the move.

Every step may run twice, be killed anywhere, or run beside its twin; the guarded moves of the ledger make that
harmless. What a step raises says what happens next, all in `tasks.pipeline.recovery`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import structlog

from config.redaction import crash_site
from tasks.accounts.account import Account, Accounts
from tasks.closing.results import Results
from tasks.folders.commit_log import Care
from tasks.ledger.lease import Hold, NotStarted
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import AWAY
from tasks.ledger.renewal import Grip, Keeper
from tasks.model.errors import LeaseLost, OutcomeUnknown, PresignAgain, RetryLater, StageError
from tasks.model.job import Facts, Job, Stored
from tasks.model.route import Stage, Step, Unseen
from tasks.pipeline.commit_point import Attempt
from tasks.pipeline.post import _harmless_unless
from tasks.pipeline.preflight import _NAME_WAIT_SECONDS
from tasks.pipeline.recovery import Aftermath
from tasks.pipeline.step import Ran, _able
from tasks.providers.base import Found, Registers, Relabels, Stores, TakesForms
from tasks.transfer.upload import post

log = structlog.get_logger()


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
            Step.REGISTER: self._register,
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

    # --- before anything is sent -------------------------------------------------------------------------------

    def _let_in(self, hold: Hold, account: Account, grip: Grip) -> Ran | None:
        """What comes before the first thing that is sent: None if it may go on, else what became of it."""
        job = hold.job
        if job.stage is not Stage.RECEIVED:
            return None
        account.provider.check(job.document)
        if not self._reserved(hold, account):
            return Ran()
        wary = account.settings.duplicates == "skip" or job.document.idempotency_key
        if wary and not job.sent_before and self._skipped_as_duplicate(hold, account, grip):
            return Ran(finished=(job.id,))
        return None

    def _reserved(self, hold: Hold, account: Account) -> bool:
        """Two documents of one name for one patient never fly at once: their records could not be told apart."""
        holder = self._ledger.reserve_name(hold.job)
        if holder == hold.job.id:
            return True
        self._ledger.deferred(hold, _NAME_WAIT_SECONDS, account.counted())
        log.info("job_waits_for_name", job=hold.job.id, account=hold.job.account, holder=holder)
        return False

    def _skipped_as_duplicate(self, hold: Hold, account: Account, grip: Grip) -> bool:
        if hold.job.document.relabeling:
            return False
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
        return replace(facts, snapshot=tuple(sorted({*facts.snapshot, *self._ledger.claims(job)})))

    def _attempt(self, hold: Hold, grip: Grip, facts: Facts | None = None, *, creates: bool = True) -> Attempt:
        attempt = Attempt(self._ledger, self._care, hold, grip, self._stopping, creates=creates)
        attempt.facts = facts
        return attempt

    def _not_twice(self, job: Job) -> None:
        """Raises OutcomeUnknown where this step may have created something already."""
        if job.committed or self._perhaps_sent_before(job):
            raise OutcomeUnknown("An earlier attempt may have passed the commit point.")

    def _perhaps_sent_before(self, job: Job) -> bool:
        """Whether the ledger may have forgotten a commit: our own folder knows, else a changed Redis is suspect."""
        on_disk = self._care.committed_on_disk(job)
        if on_disk is not None:
            return on_disk
        return bool(job.redis_run) and job.redis_run != self._ledger.redis_run()

    # --- presign -----------------------------------------------------------------------------------------------

    def _presign(self, holds: list[Hold], account: Account, grip: Grip) -> Ran:
        hold, job = holds[0], holds[0].job
        provider = _able(account.provider, TakesForms)
        if (ended := self._let_in(hold, account, grip)) is not None:
            return ended
        if provider.presign_creates:
            job = self._with_its_record(job)
        facts = self._facts_before_sending(job, account)
        grip.check()
        attempt = self._attempt(hold, grip, facts)
        with attempt.taking_back():
            form = provider.presign(replace(job, facts=facts), attempt)
        facts = replace(facts, form=form, key=form.key, record=form.record)
        grip.check()  # before job.json, which knows no tokens
        if form.record and form.record != job.facts.record:
            self._care.note_record(job, form.record)
        if not self._ledger.presigned(hold, facts, self._ledger.redis_run(), account.counted()):
            self._care.note_record_lost(job)
            raise OutcomeUnknown("The record that was made for it is another job's by now.")
        log.info("job_presigned", job=job.id, account=job.account)
        self._results.progress(job, Stage.PRESIGNED)
        return Ran(forward=True)

    def _with_its_record(self, job: Job) -> Job:
        """The job with the record that the provider has made for it, if any: another would be a second document."""
        record = job.facts.record or self._care.record_on_disk(job)
        if record is None:
            self._not_twice(job)
        return replace(job, facts=replace(job.facts, record=record))

    # --- post --------------------------------------------------------------------------------------------------

    def _post(self, holds: list[Hold], account: Account, grip: Grip) -> Ran:
        hold, job = holds[0], holds[0].job
        route = account.provider.route(job.document)
        if (ended := self._let_in(hold, account, grip)) is not None:
            return ended
        if isinstance(account.provider, Stores):
            stored = account.provider.store(job, self._attempt(hold, grip))
        else:
            self._not_twice(job)
            with _harmless_unless(route.upload_creates):
                stored = self._posted(hold, account, grip, creates=route.upload_creates)
        facts = replace(job.facts, stored=stored, form=None)
        then = Step.REGISTER if Stage.REGISTERED in route.stages else Step.CONFIRM
        self._ledger.stored(hold, facts, then, account.settings.confirm.first_seconds, account.counted())
        log.info("job_stored", job=job.id, account=job.account, etag_verified=stored.etag_verified)
        self._results.progress(job, Stage.STORED)
        return Ran(forward=True)

    def _posted(self, hold: Hold, account: Account, grip: Grip, *, creates: bool) -> Stored:
        """The document, posted to S3 with its form."""
        job, form, settings = hold.job, hold.job.facts.form, account.settings
        if form is None:
            raise PresignAgain("The ledger has no form for this job.")
        attempt = self._attempt(hold, grip, creates=creates)
        with attempt.taking_back(), attempt.open() as source:
            return post(
                form,
                source,
                _able(account.provider, TakesForms).sent_name(job.document),
                client=account.storage_client(),
                allowed_hosts=settings.upload_hosts,
                insecure=settings.insecure,
                guard=attempt,
                on_call=account.count_call,
            )

    # --- register ----------------------------------------------------------------------------------------------

    def _register(self, holds: list[Hold], account: Account, grip: Grip) -> Ran:
        hold, job = holds[0], holds[0].job
        if (ended := self._let_in(hold, account, grip)) is not None:
            return ended
        if job.document.relabeling:
            return self._relabel(hold, account, grip)
        provider = _able(account.provider, Registers)
        if account.provider.route(job.document).unseen is not Unseen.RESEND:
            self._not_twice(job)
        facts = account.provider.before_sending(job) if job.stage is Stage.RECEIVED else job.facts
        attempt = self._attempt(hold, grip, facts)
        with attempt.taking_back():
            registered = provider.register(replace(job, facts=facts), attempt)
        facts = replace(facts, record=registered.record, remarks=registered.remarks)
        if registered.stored:
            facts = replace(facts, stored=registered.stored)
        if registered.processed:
            return self._delivered(hold, account, facts)
        if not self._ledger.registered(hold, facts, account.settings.confirm.first_seconds, account.counted()):
            raise OutcomeUnknown("The record that the provider named proves another document.")
        log.info("job_registered", job=job.id, account=job.account, record=registered.record.id)
        self._results.progress(job, Stage.REGISTERED)
        return Ran(forward=True)

    def _delivered(self, hold: Hold, account: Account, facts: Facts) -> Ran:
        """The provider gave its record, or accepted for good, in answer to the registering itself."""
        job, record = hold.job, facts.record
        assert record is not None  # noqa: S101, the caller has it
        sha256 = facts.stored.sha256 if facts.stored else None
        passed = Stage.REGISTERED
        if not self._ledger.delivered(hold, record, account.counted(), sha256, facts=facts, passed=passed):
            raise OutcomeUnknown("The record that the provider named proves another document.")
        log.info("job_delivered", job=job.id, account=account.name, record=record.id)
        return Ran(finished=(job.id,))

    def _relabel(self, hold: Hold, account: Account, grip: Grip) -> Ran:
        """The whole new list each time, so that repeating it after a lost answer changes nothing.

        A worker that holds the job no more must not do it, though: a later list may have been set by then.
        """
        job, provider = hold.job, _able(account.provider, Relabels)
        attempt = self._attempt(hold, grip)
        with attempt.taking_back():
            relabeled = provider.relabel(job, attempt)
        facts = replace(job.facts, remarks=relabeled.remarks)
        self._ledger.delivered(hold, relabeled.record, account.counted(), None, facts=facts)
        log.info("job_relabeled", job=job.id, account=account.name)
        return Ran(finished=(job.id,))

    # --- confirm -----------------------------------------------------------------------------------------------

    def _confirm(self, holds: list[Hold], account: Account, grip: Grip) -> Ran:
        jobs = [hold.job for hold in holds]
        looks = account.provider.route(jobs[0].document).unseen is Unseen.LOOK
        found = account.provider.look(jobs, self._ledger.claims(jobs[0])) if looks else {}
        grip.check()
        finished = []
        calls = account.counted()
        for hold in holds:
            calls_of_this, calls = calls, 0
            try:
                if self._settled(hold, found.get(hold.job.id), account, grip, calls_of_this):
                    finished.append(hold.job.id)
            except LeaseLost as error:
                log.info("lease_lost", job=hold.job.id, step=Step.CONFIRM, account=account.name, why=str(error))
        return Ran(finished=tuple(finished))

    def _settled(self, hold: Hold, found: Found | None, account: Account, grip: Grip, calls: int) -> bool:
        """Record what a look has found of a job. True when the job has ended."""
        job = hold.job
        if found and found.fault:
            return self._aftermath.of_a_faulty_record(found.fault, hold, calls)
        if found:
            facts = replace(job.facts, record=found.record, remarks=found.remarks)
            if found.stage is Stage.DELIVERED:
                if self._ledger.delivered(hold, found.record, calls, self._sha256(hold, grip), facts=facts):
                    log.info("job_delivered", job=job.id, account=account.name, record=found.record.id)
                    return True
            elif self._moved_on(hold, found, facts, account, calls):
                return False
        return self._aftermath.of_a_look_without_result(hold, account, calls)

    def _moved_on(self, hold: Hold, found: Found, facts: Facts, account: Account, calls: int) -> bool:
        """Whether the look has found out how far a job had come whose outcome nobody saw."""
        job = hold.job
        if not job.unknown_step or job.stage.final:
            return False
        if found.stage is Stage.REGISTERED:
            moved = self._ledger.registered(hold, facts, account.settings.confirm.first_seconds, calls)
        else:
            self._care.note_record(job, found.record)
            moved = self._ledger.place_found(hold, facts, calls)
            if not moved:
                self._care.note_record_lost(job)
        if moved:
            log.info("job_found", job=job.id, account=account.name, stage=found.stage)
        return moved

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
