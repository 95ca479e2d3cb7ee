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
from tasks.ledger.lease import Lease, NotStarted
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import AWAY
from tasks.ledger.renewal import LeaseRenewer, Renewal
from tasks.model.errors import LeaseLost, OutcomeUnknown, PresignAgain, RetryLater, StageError
from tasks.model.job import Facts, Job, Stored
from tasks.model.route import OnUnknownOutcome, Stage, Step
from tasks.pipeline.commit_point import CommitPoint
from tasks.pipeline.post import _harmless_unless
from tasks.pipeline.preflight import _NAME_WAIT_SECONDS
from tasks.pipeline.recovery import Recovery
from tasks.pipeline.step import StepResult, _able
from tasks.providers.base import Found, Registers, Relabels, Stores, TakesForms
from tasks.transfer.upload import post

log = structlog.get_logger()


class Pipeline:
    def __init__(
        self,
        *,
        ledger: Ledger,
        lease_renewer: LeaseRenewer,
        accounts: Accounts,
        care: Care,
        results: Results,
        recovery: Recovery,
        stopping: threading.Event,
    ) -> None:
        self._ledger = ledger
        self._lease_renewer = lease_renewer
        self._accounts = accounts
        self._care = care
        self._results = results
        self._recovery = recovery
        self._stopping = stopping

    def run(self, step: Step, job_id: str) -> StepResult:
        """Run a step if it is still to be run. Raises Redis's errors, and what nobody foresaw."""
        started = self._ledger.start(job_id, step)
        if isinstance(started, NotStarted):
            log.info("step_not_started", job=job_id, step=step, why=started.why)
            return StepResult()
        account = self._accounts[started[0].job.account]
        account.start_counting()
        acts: dict[Step, Callable[[list[Lease], Account, Renewal], StepResult]] = {
            Step.PRESIGN: self._presign,
            Step.POST: self._post,
            Step.REGISTER: self._register,
            Step.CONFIRM: self._confirm,
        }
        with self._lease_renewer.renewing(started) as renewal:
            try:
                return acts[step](started, account, renewal)
            except LeaseLost as error:
                log.info("lease_lost", job=job_id, step=step, account=account.name, why=str(error))
                return StepResult()
            except StageError as error:
                return StepResult(finished=self._recovery.of(error, started, account))
            except AWAY:
                raise
            except Exception as error:  # noqa: BLE001, a fault of ours in one document must not hold up the others
                log.error("step_crashed", job=job_id, step=step, **crash_site(error))
                crashed = RetryLater(f"The step crashed with {type(error).__name__}; the log names the place.")
                return StepResult(finished=self._recovery.of(crashed, started, account))

    # --- before anything is sent -------------------------------------------------------------------------------

    def _let_in(self, lease: Lease, account: Account, renewal: Renewal) -> StepResult | None:
        """What comes before the first thing that is sent: None if it may go on, else what became of it."""
        job = lease.job
        if job.stage is not Stage.RECEIVED:
            return None
        account.provider.check(job.document)
        if not self._reserved(lease, account):
            return StepResult()
        wary = account.settings.duplicates == "skip" or job.document.idempotency_key
        if wary and not job.earlier_sending_unknown and self._skipped_as_duplicate(lease, account, renewal):
            return StepResult(finished=(job.id,))
        return None

    def _reserved(self, lease: Lease, account: Account) -> bool:
        """Two documents of one name for one patient never fly at once: their records could not be told apart."""
        holder = self._ledger.reserve_name(lease.job)
        if holder == lease.job.id:
            return True
        self._ledger.deferred(lease, _NAME_WAIT_SECONDS, account.counted())
        log.info("job_waits_for_name", job=lease.job.id, account=lease.job.account, holder=holder)
        return False

    def _skipped_as_duplicate(self, lease: Lease, account: Account, renewal: Renewal) -> bool:
        if lease.job.document.relabeling:
            return False
        sent = self._ledger.earlier_deliveries(lease.job.document)
        if not sent:
            return False
        earlier_id = sent.get(self._care.sha256(lease.job, renewal.check))
        earlier = self._ledger.get(earlier_id) if earlier_id else None
        if earlier is None or earlier.facts.record is None or earlier.id == lease.job.id:
            return False
        if not account.provider.still_there(lease.job.document, earlier.facts.record):
            return False
        self._ledger.duplicate(lease, earlier, account.counted())
        log.info("job_skipped_as_duplicate", job=lease.job.id, account=lease.job.account, earlier=earlier.id)
        return True

    def _facts_before_sending(self, job: Job, account: Account) -> Facts:
        facts = account.provider.before_sending(job)
        if facts.snapshot is None:
            return facts
        # A snapshot may be some seconds old and shared: what was proven since is no candidate for this job.
        return replace(facts, snapshot=tuple(sorted({*facts.snapshot, *self._ledger.record_owners(job)})))

    def _commit_point(
        self, lease: Lease, renewal: Renewal, facts: Facts | None = None, *, creates: bool = True
    ) -> CommitPoint:
        commit_point = CommitPoint(self._ledger, self._care, lease, renewal, self._stopping, creates=creates)
        commit_point.facts = facts
        return commit_point

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

    def _presign(self, leases: list[Lease], account: Account, renewal: Renewal) -> StepResult:
        lease, job = leases[0], leases[0].job
        provider = _able(account.provider, TakesForms)
        if (ended := self._let_in(lease, account, renewal)) is not None:
            return ended
        if provider.presign_creates:
            job = self._with_its_record(job)
        facts = self._facts_before_sending(job, account)
        renewal.check()
        commit_point = self._commit_point(lease, renewal, facts)
        with commit_point.taking_back():
            form = provider.presign(replace(job, facts=facts), commit_point)
        facts = replace(facts, form=form, key=form.key, record=form.record)
        renewal.check()  # before job.json, which knows no tokens
        if form.record and form.record != job.facts.record:
            self._care.note_record(job, form.record)
        if not self._ledger.presigned(lease, facts, self._ledger.redis_run(), account.counted()):
            self._care.note_record_lost(job)
            raise OutcomeUnknown("The record that was made for it is another job's by now.")
        log.info("job_presigned", job=job.id, account=job.account)
        self._results.progress(job, Stage.PRESIGNED)
        return StepResult(forward=True)

    def _with_its_record(self, job: Job) -> Job:
        """The job with the record that the provider has made for it, if any: another would be a second document."""
        record = job.facts.record or self._care.record_on_disk(job)
        if record is None:
            self._not_twice(job)
        return replace(job, facts=replace(job.facts, record=record))

    # --- post --------------------------------------------------------------------------------------------------

    def _post(self, leases: list[Lease], account: Account, renewal: Renewal) -> StepResult:
        lease, job = leases[0], leases[0].job
        route = account.provider.route(job.document)
        if (ended := self._let_in(lease, account, renewal)) is not None:
            return ended
        if isinstance(account.provider, Stores):
            stored = account.provider.store(job, self._commit_point(lease, renewal))
        else:
            self._not_twice(job)
            with _harmless_unless(route.upload_creates):
                stored = self._posted(lease, account, renewal, creates=route.upload_creates)
        facts = replace(job.facts, stored=stored, form=None)
        then = Step.REGISTER if Stage.REGISTERED in route.stages else Step.CONFIRM
        self._ledger.stored(lease, facts, then, account.settings.confirm.first_seconds, account.counted())
        log.info("job_stored", job=job.id, account=job.account, etag_verified=stored.etag_verified)
        self._results.progress(job, Stage.STORED)
        return StepResult(forward=True)

    def _posted(self, lease: Lease, account: Account, renewal: Renewal, *, creates: bool) -> Stored:
        """The document, posted to S3 with its form."""
        job, form, settings = lease.job, lease.job.facts.form, account.settings
        if form is None:
            raise PresignAgain("The ledger has no form for this job.")
        commit_point = self._commit_point(lease, renewal, creates=creates)
        with commit_point.taking_back(), commit_point.open() as source:
            return post(
                form,
                source,
                _able(account.provider, TakesForms).sent_name(job.document),
                client=account.storage_client(),
                allowed_hosts=settings.upload_hosts,
                insecure=settings.insecure,
                gate=commit_point,
                on_call=account.count_call,
            )

    # --- register ----------------------------------------------------------------------------------------------

    def _register(self, leases: list[Lease], account: Account, renewal: Renewal) -> StepResult:
        lease, job = leases[0], leases[0].job
        if (ended := self._let_in(lease, account, renewal)) is not None:
            return ended
        if job.document.relabeling:
            return self._relabel(lease, account, renewal)
        provider = _able(account.provider, Registers)
        if account.provider.route(job.document).on_unknown_outcome is not OnUnknownOutcome.RESEND:
            self._not_twice(job)
        facts = account.provider.before_sending(job) if job.stage is Stage.RECEIVED else job.facts
        commit_point = self._commit_point(lease, renewal, facts)
        with commit_point.taking_back():
            registered = provider.register(replace(job, facts=facts), commit_point)
        facts = replace(facts, record=registered.record, remarks=registered.remarks)
        if registered.stored:
            facts = replace(facts, stored=registered.stored)
        if registered.processed:
            return self._delivered(lease, account, facts)
        if not self._ledger.registered(lease, facts, account.settings.confirm.first_seconds, account.counted()):
            raise OutcomeUnknown("The record that the provider named proves another document.")
        log.info("job_registered", job=job.id, account=job.account, record=registered.record.id)
        self._results.progress(job, Stage.REGISTERED)
        return StepResult(forward=True)

    def _delivered(self, lease: Lease, account: Account, facts: Facts) -> StepResult:
        """The provider gave its record, or accepted for good, in answer to the registering itself."""
        job, record = lease.job, facts.record
        assert record is not None  # noqa: S101, the caller has it
        sha256 = facts.stored.sha256 if facts.stored else None
        passed = Stage.REGISTERED
        if not self._ledger.delivered(lease, record, account.counted(), sha256, facts=facts, passed=passed):
            raise OutcomeUnknown("The record that the provider named proves another document.")
        log.info("job_delivered", job=job.id, account=account.name, record=record.id)
        return StepResult(finished=(job.id,))

    def _relabel(self, lease: Lease, account: Account, renewal: Renewal) -> StepResult:
        """The whole new list each time, so that repeating it after a lost answer changes nothing.

        A worker that holds the job no more must not do it, though: a later list may have been set by then.
        """
        job, provider = lease.job, _able(account.provider, Relabels)
        commit_point = self._commit_point(lease, renewal)
        with commit_point.taking_back():
            relabeled = provider.relabel(job, commit_point)
        facts = replace(job.facts, remarks=relabeled.remarks)
        self._ledger.delivered(lease, relabeled.record, account.counted(), None, facts=facts)
        log.info("job_relabeled", job=job.id, account=account.name)
        return StepResult(finished=(job.id,))

    # --- confirm -----------------------------------------------------------------------------------------------

    def _confirm(self, leases: list[Lease], account: Account, renewal: Renewal) -> StepResult:
        jobs = [lease.job for lease in leases]
        looks = account.provider.route(jobs[0].document).on_unknown_outcome is OnUnknownOutcome.RECONCILE
        found = account.provider.find(jobs, self._ledger.record_owners(jobs[0])) if looks else {}
        renewal.check()
        finished = []
        calls = account.counted()
        for lease in leases:
            calls_of_this, calls = calls, 0
            try:
                if self._settled(lease, found.get(lease.job.id), account, renewal, calls_of_this):
                    finished.append(lease.job.id)
            except LeaseLost as error:
                log.info("lease_lost", job=lease.job.id, step=Step.CONFIRM, account=account.name, why=str(error))
        return StepResult(finished=tuple(finished))

    def _settled(self, lease: Lease, found: Found | None, account: Account, renewal: Renewal, calls: int) -> bool:
        """Record what a look has found of a job. True when the job has ended."""
        job = lease.job
        if found and found.fault:
            return self._recovery.of_a_faulty_record(found.fault, lease, calls)
        if found:
            facts = replace(job.facts, record=found.record, remarks=found.remarks)
            if found.stage is Stage.DELIVERED:
                if self._ledger.delivered(lease, found.record, calls, self._sha256(lease, renewal), facts=facts):
                    log.info("job_delivered", job=job.id, account=account.name, record=found.record.id)
                    return True
            elif self._moved_on(lease, found, facts, account, calls):
                return False
        return self._recovery.of_a_look_without_result(lease, account, calls)

    def _moved_on(self, lease: Lease, found: Found, facts: Facts, account: Account, calls: int) -> bool:
        """Whether the look has found out how far a job had come whose outcome nobody saw."""
        job = lease.job
        if not job.unknown_step or job.stage.final:
            return False
        if found.stage is Stage.REGISTERED:
            moved = self._ledger.registered(lease, facts, account.settings.confirm.first_seconds, calls)
        else:
            self._care.note_record(job, found.record)
            moved = self._ledger.record_found(lease, facts, calls)
            if not moved:
                self._care.note_record_lost(job)
        if moved:
            log.info("job_found", job=job.id, account=account.name, stage=found.stage)
        return moved

    def _sha256(self, lease: Lease, renewal: Renewal) -> str | None:
        """The digest that went by, or of the document as it lies here when the upload's answer was lost."""
        if lease.job.facts.stored:
            return lease.job.facts.stored.sha256
        try:
            return self._care.sha256(lease.job, renewal.check)
        except LeaseLost:
            raise
        except StageError:
            return None
