"""The composition root: builds the collaborators of one process, each when it is first used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

from celery import Celery

from config.celery import STAGE_QUEUE, celery_settings
from config.load import load
from config.settings import Settings
from config.types import read_proxy
from tasks.accounts.account import Accounts
from tasks.app import app, queue_of, task_name
from tasks.closing.callback import Callback
from tasks.closing.closing import Closing
from tasks.closing.files import DocumentFiles
from tasks.closing.notes import FailureNotes
from tasks.closing.results import Results
from tasks.dispatch.feeder import Feeder
from tasks.dispatch.housekeeping import Housekeeping
from tasks.dispatch.workers import Workers
from tasks.folders.claims import Claims
from tasks.folders.commit_journal import CommitJournal
from tasks.folders.commit_log import CommitLog
from tasks.folders.forgotten_commits import ForgottenCommits
from tasks.folders.in_care import DocumentsInCare
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.folders.staging import Staging
from tasks.intake.admission import Admission
from tasks.intake.calls import CallIntake
from tasks.intake.foreign_messages import DeadLetters
from tasks.intake.locating_slots import LocatingSlots
from tasks.intake.producers import Producers
from tasks.intake.relabeling import RelabelAdmission
from tasks.ledger.cache import SealedCache
from tasks.ledger.consistency import Consistency
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.keys import OWN_LANES
from tasks.ledger.renewal import LeaseRenewer
from tasks.ledger_runtime import LedgerRuntime
from tasks.model.document import Document
from tasks.model.route import Route, Step
from tasks.pipeline.consequences import Consequences
from tasks.pipeline.reconciliation import SLOW_SEARCH_CAPS
from tasks.pipeline.runner import StepRunner
from tasks.pipeline.slot_reserve import SlotReserve
from tasks.pipeline.step import StepContext
from tasks.reporting.chore import RollUpChore
from tasks.reporting.roll_up import RollUp
from tasks.sources.documents import Documents
from tasks.sources.objects import Objects, S3Connection
from tasks.sources.writers import Writers

_LONGEST_WAIT_SECONDS = 7200.0  # twice what a provider may ask for

_lock = threading.Lock()
_current: Runtime | None = None


class Runtime(LedgerRuntime):
    """The collaborators of a process that works. `stopping` is set when the process must end.

    `owns_folders` is true in the watcher, which alone closes the files of documents that it staged to S3.
    """

    def __init__(self, settings: Settings, *, celery: Celery = app, owns_folders: bool = False) -> None:
        super().__init__(settings)
        self.celery = celery
        self.owns_folders = owns_folders
        self.stopping = threading.Event()
        # Replaced in a worker, whose events tell Flower of the steps that follow in one process.
        self.send_task_event: Callable[..., object] = lambda *event, **fields: None

    @cached_property
    def lease_renewer(self) -> LeaseRenewer:
        return LeaseRenewer(self.ledger)

    # --- accounts ----------------------------------------------------------------------------------------------

    @cached_property
    def accounts(self) -> Accounts:
        return Accounts(self.settings, self.rate_limit, SealedCache(self.redis, self.seal))

    def route(self, document: Document) -> Route:
        """How its account's provider takes a document. Raises KeyError for an account that is not in the settings."""
        return self.accounts[document.account].provider.route(document)

    # --- documents and folders ---------------------------------------------------------------------------------

    @cached_property
    def folders(self) -> Folders:
        return Folders(self.settings.data_dir, self.seal)

    @cached_property
    def claims(self) -> Claims:
        return Claims(self.folders)

    @cached_property
    def writers(self) -> Writers:
        return Writers(self.folders.processing)

    @cached_property
    def outcomes(self) -> Outcomes:
        return Outcomes(self.folders)

    def document_files(self, *, owns_folders: bool = False) -> DocumentFiles:
        """Closes the files of jobs that have ended."""
        notes = FailureNotes(self.settings)
        return DocumentFiles(self.folders, self.outcomes, self.staging, notes, owns_folders=owns_folders)

    @cached_property
    def commit_log(self) -> CommitLog:
        return CommitLog(self.folders, self.staging, self.commit_journal)

    @cached_property
    def commit_journal(self) -> CommitJournal:
        return CommitJournal(self.settings.data_dir / "commits", self.ledger.codec.seal_facts)

    @cached_property
    def forgotten_commits(self) -> ForgottenCommits:
        return ForgottenCommits(self.ledger, self.commit_journal, self.machine, self.route)

    @cached_property
    def producers(self) -> Producers:
        """Who may send documents, and what each may name."""
        return Producers(self.settings, self._s3_connection)

    @cached_property
    def documents(self) -> Documents:
        return Documents(self.producers.sources_of, DocumentsInCare(self.folders), self.staging, self.writers)

    @cached_property
    def staging(self) -> Staging | None:
        prefix = self.settings.s3.stage_inbox
        if not prefix:
            return None
        bucket = prefix.removeprefix("s3://").partition("/")[0]
        return Staging(Objects([bucket], connection=self._s3_connection), prefix)

    @cached_property
    def _s3_connection(self) -> S3Connection:
        return S3Connection(self.settings.s3.endpoint_url, read_proxy(self.settings.proxy))

    # --- Celery ------------------------------------------------------------------------------------------------

    @cached_property
    def results(self) -> Results:
        return Results(self.celery, self.ledger)

    def feeder(self, workers: Workers, on_refused: Callable[[LedgerRefused], None]) -> Feeder:
        """The feeder of a worker process. `workers` is that process's own; `on_refused` ends the process."""
        return Feeder(
            client=self.redis,
            breaker=self.breaker,
            accounts=self.accounts,
            workers=workers,
            lease_seconds=self.settings.worker.lease_seconds,
            housekeeping=self._housekeeping,
            identity=self.ledger.identity,
            on_refused=on_refused,
            machine=self.machine,
            forgotten=self.forgotten_commits,
            make_due_again=Consistency(self.redis, self.ledger).make_due_again,
            producers=tuple(self.settings.producers),
        )

    @property
    def _housekeeping(self) -> Housekeeping:
        settings = self.settings
        slowest_searches = [SLOW_SEARCH_CAPS * account.confirm.cap_seconds for account in settings.accounts.values()]
        return Housekeeping(
            self.redis,
            lanes=(*OWN_LANES, *settings.accounts),
            jobs_days=settings.retention.jobs_days,
            longest_wait_seconds=max(_LONGEST_WAIT_SECONDS, 2 * settings.retry.cap_seconds, *slowest_searches),
        )

    def roll_up_chore(self) -> RollUpChore:
        roll_up = RollUp(self.redis, counts_days=self.settings.retention.counts_days)
        return RollUpChore(roll_up, self.ledger.identity)

    def send_closing(self, job_id: str) -> None:
        """Send the closing step of a job now. If the message is lost, a feeder sends it again."""
        machine = self.ledger.bound_to(job_id)
        if machine and machine != self.machine.name():
            return  # a feeder on the machine that has its folders sends it
        queue = queue_of(self.celery, machine) if machine else STAGE_QUEUE
        self.celery.send_task(task_name(Step.NOTIFY), args=(job_id,), queue=queue)

    # --- what happens to a document ----------------------------------------------------------------------------

    @cached_property
    def admission(self) -> Admission:
        return Admission(
            ledger=self.ledger,
            accounts=self.accounts,
            documents=self.documents,
            results=self.results,
            callback_hosts=self.settings.callback_hosts,
            send_closing=self.send_closing,
            locating=LocatingSlots(self.settings.worker.concurrency),
            remark=self.breaker.remark,
        )

    @cached_property
    def relabel_admission(self) -> RelabelAdmission:
        return RelabelAdmission(self.admission)

    @cached_property
    def call_intake(self) -> CallIntake:
        return CallIntake(self.results, self.stopping)

    @cached_property
    def dead_letters(self) -> DeadLetters:
        return DeadLetters(self.redis, self.seal, jobs_days=self.settings.retention.jobs_days)

    @cached_property
    def step_runner(self) -> StepRunner:
        context = StepContext(
            self.ledger, self.commit_log, self.documents, self.results, self.stopping, self.forgotten_commits
        )
        consequences = Consequences(
            self.ledger, self.breaker, self.rate_limit, self.commit_log, self.documents, self.settings.retry
        )
        worker = self.settings.worker
        reserve = SlotReserve(worker.concurrency, len(self.accounts), worker.lease_seconds)
        return StepRunner(context, self.accounts, self.lease_renewer, consequences, reserve)

    @cached_property
    def closing(self) -> Closing:
        secrets = (self.settings.callback_secret, self.settings.callback_secret_previous)
        callback = Callback(
            self.settings.callback_hosts,
            [secret.get_secret_value() for secret in secrets if secret.get_secret_value()],
            read_proxy(self.settings.proxy),
        )
        return Closing(
            ledger=self.ledger,
            lease_renewer=self.lease_renewer,
            files=self.document_files(owns_folders=self.owns_folders),
            documents=self.documents,
            results=self.results,
            callback=callback,
            settings=self.settings,
        )


def current() -> Runtime:
    """This process's collaborators, from the settings that the environment names. Raises SettingsError."""
    global _current
    with _lock:
        if _current is None:
            _current = Runtime(load())
        return _current


@contextmanager
def using(runtime: Runtime) -> Iterator[None]:
    """Make `runtime` the current one for a while: a command line has read its settings already."""
    global _current
    with _lock:
        before, _current = _current, runtime
    try:
        yield
    finally:
        with _lock:
            _current = before


@app.on_configure.connect
def _configure_celery(sender: Celery, **_: Any) -> None:
    # Celery's settings follow from ours, which are read when the application is first used, not on import.
    runtime = current()
    sender.config_from_object(celery_settings(runtime.redis_url, runtime.settings))
