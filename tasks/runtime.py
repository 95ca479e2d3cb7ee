"""The composition root: builds the collaborators of one process, each when it is first used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import redis
from celery import Celery

from config.celery import STAGE_QUEUE, celery_settings
from config.errors import SettingsError
from config.load import ensure_secret_key, load
from config.settings import Settings
from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.rate_limit import RateLimit
from tasks.accounts.status import AccountStatuses
from tasks.app import app, queue_of, send_steps, task_name
from tasks.closing.callback import Callback
from tasks.closing.closing import Closing
from tasks.closing.files import DocumentFiles
from tasks.closing.results import Results
from tasks.dispatch.feeder import Feeder
from tasks.dispatch.housekeeping import Housekeeping
from tasks.dispatch.workers import Workers
from tasks.folders.claims import Claims
from tasks.folders.commit_journal import CommitJournal
from tasks.folders.commit_log import CommitLog
from tasks.folders.forgotten_commits import ForgottenCommits
from tasks.folders.layout import Folders
from tasks.folders.machines import Machine
from tasks.folders.outcomes import Outcomes
from tasks.folders.staging import Staging
from tasks.intake.admission import Admission
from tasks.intake.calls import CallIntake
from tasks.intake.relabeling import RelabelAdmission
from tasks.ledger.cache import SealedCache
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.ledger import Ledger
from tasks.ledger.queries import LedgerQueries
from tasks.ledger.redis import CLOSING_LANE, connect
from tasks.ledger.renewal import LeaseRenewer
from tasks.ledger.seal import Seal
from tasks.model.document import Document
from tasks.model.route import Route, Step
from tasks.pipeline.final_failures import Failures
from tasks.pipeline.reconciliation import SLOW_SEARCH_CAPS, Reconciliation
from tasks.pipeline.recovery import Recovery
from tasks.pipeline.runner import StepRunner
from tasks.pipeline.step import StepContext
from tasks.sources.documents import Documents
from tasks.sources.sources import Sources
from tasks.sources.writers import Writers

_LONGEST_WAIT_SECONDS = 7200.0  # twice what a provider may ask for

_lock = threading.Lock()
_current: Runtime | None = None


class Runtime:
    """The collaborators of one process. `stopping` is set when the process must end.

    `owns_folders` is true in the watcher, which alone closes the files of documents that it staged to S3.
    """

    # Every collaborator is built late: Redis and HTTP clients that are made before a fork share their connections with
    # the child, and each process would read the other's answers.

    def __init__(self, settings: Settings, *, celery: Celery = app, owns_folders: bool = False) -> None:
        self.settings = ensure_secret_key(settings)
        self.celery = celery
        self.owns_folders = owns_folders
        self.stopping = threading.Event()

    # --- Redis -------------------------------------------------------------------------------------------------

    @cached_property
    def redis_url(self) -> str:
        """The configured address, else that of the embedded server. Raises SettingsError if there is neither."""
        if self.settings.redis.url:
            return self.settings.redis.url
        path = self.settings.data_dir / "redis.url"
        try:
            return path.read_text().strip()
        except OSError:
            raise SettingsError(
                ["redis.url is empty and no embedded server runs here: start `chartpost run`, or set redis.url."]
            ) from None

    @cached_property
    def seal(self) -> Seal:
        return Seal(self.settings.secret_key.get_secret_value())

    @cached_property
    def redis(self) -> redis.Redis:
        return connect(self.redis_url)

    @cached_property
    def ledger(self) -> Ledger:
        return Ledger(
            self.redis,
            self.seal,
            lease_seconds=self.settings.worker.lease_seconds,
            jobs_days=self.settings.retention.jobs_days,
            machine=self.machine.name,
        )

    @cached_property
    def machine(self) -> Machine:
        """This machine among those that share one Redis."""
        return Machine(self.redis, self.settings.data_dir)

    @cached_property
    def queries(self) -> LedgerQueries:
        return LedgerQueries(self.ledger)

    @cached_property
    def lease_renewer(self) -> LeaseRenewer:
        return LeaseRenewer(self.ledger)

    # --- accounts ----------------------------------------------------------------------------------------------

    @cached_property
    def breaker(self) -> CircuitBreaker:
        retry = self.settings.retry
        return CircuitBreaker(
            self.redis, probe_first_seconds=retry.probe_first_seconds, probe_cap_seconds=retry.probe_cap_seconds
        )

    @cached_property
    def rate_limit(self) -> RateLimit:
        return RateLimit(self.redis)

    @cached_property
    def accounts(self) -> Accounts:
        return Accounts(self.settings.accounts, self.rate_limit, SealedCache(self.redis, self.seal))

    @cached_property
    def account_statuses(self) -> AccountStatuses:
        return AccountStatuses(self.redis, self.breaker, self.rate_limit, self.accounts)

    def route(self, document: Document) -> Route:
        """How its account's provider takes a document. Raises KeyError for an account that is not in the settings."""
        return self.accounts[document.account].provider.route(document)

    # --- documents and folders ---------------------------------------------------------------------------------

    @cached_property
    def folders(self) -> Folders:
        return Folders(self.settings.data_dir)

    @cached_property
    def claims(self) -> Claims:
        return Claims(self.folders)

    @cached_property
    def writers(self) -> Writers:
        return Writers(self.folders.processing)

    @cached_property
    def outcomes(self) -> Outcomes:
        return Outcomes(self.folders)

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
    def sources(self) -> Sources:
        """The sources that callers may name."""
        return Sources.of(self.settings)

    @cached_property
    def documents(self) -> Documents:
        return Documents(self._own_sources, self.writers)

    @cached_property
    def staging(self) -> Staging | None:
        prefix = self.settings.s3.stage_inbox
        return Staging(self._own_sources.objects, prefix) if prefix else None

    @cached_property
    def _own_sources(self) -> Sources:
        """The sources that callers may name, and the bucket that inbox documents are staged to."""
        return Sources.of(self.settings, staged=True)

    # --- Celery ------------------------------------------------------------------------------------------------

    @cached_property
    def results(self) -> Results:
        return Results(self.celery, self.ledger)

    @cached_property
    def workers(self) -> Workers:
        """For reading which workers take messages. A worker process makes its own, with its name and slots."""
        return Workers(self.redis)

    def feeder(self, workers: Workers, on_refused: Callable[[LedgerRefused], None]) -> Feeder:
        """The feeder of a worker process. `workers` is that process's own; `on_refused` ends the process."""
        return Feeder(
            client=self.redis,
            breaker=self.breaker,
            accounts=self.accounts,
            workers=workers,
            lease_seconds=self.settings.worker.lease_seconds,
            housekeeping=self._housekeeping,
            send=send_steps,
            identity=self.ledger.identity,
            on_refused=on_refused,
            machine=self.machine,
            forgotten=self.forgotten_commits,
        )

    @property
    def _housekeeping(self) -> Housekeeping:
        settings = self.settings
        slowest_searches = [SLOW_SEARCH_CAPS * account.confirm.cap_seconds for account in settings.accounts.values()]
        return Housekeeping(
            self.redis,
            lanes=(CLOSING_LANE, *settings.accounts),
            jobs_days=settings.retention.jobs_days,
            longest_wait_seconds=max(_LONGEST_WAIT_SECONDS, 2 * settings.retry.cap_seconds, *slowest_searches),
        )

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
            sources=self.sources,
            documents=self.documents,
            results=self.results,
            callback_hosts=self.settings.callback_hosts,
            send_closing=self.send_closing,
        )

    @cached_property
    def relabel_admission(self) -> RelabelAdmission:
        return RelabelAdmission(self.admission)

    @cached_property
    def call_intake(self) -> CallIntake:
        return CallIntake(self.results, self.stopping)

    @cached_property
    def step_runner(self) -> StepRunner:
        context = StepContext(
            self.ledger, self.commit_log, self.documents, self.results, self.stopping, self.forgotten_commits
        )
        failures = Failures(self.ledger, self.documents)
        retry = self.settings.retry
        reconciliation = Reconciliation(self.ledger, self.breaker, self.commit_log, failures, retry)
        recovery = Recovery(self.ledger, self.breaker, self.rate_limit, failures, reconciliation, retry)
        return StepRunner(context, self.accounts, self.lease_renewer, recovery)

    @cached_property
    def closing(self) -> Closing:
        callback = Callback(self.settings.callback_hosts, self.settings.callback_secret.get_secret_value())
        return Closing(
            ledger=self.ledger,
            lease_renewer=self.lease_renewer,
            files=DocumentFiles(self.folders, self.outcomes, self.staging, owns_folders=self.owns_folders),
            sources=self.documents.sources,
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
