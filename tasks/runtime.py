"""Everything that one process of ours holds, built in one place and only when it is first needed.

Built lazily, because Redis and HTTP clients made before a fork would answer with other requests' answers.
"""

from __future__ import annotations

import threading
from functools import cached_property
from typing import TYPE_CHECKING

import redis

from config.errors import SettingsError
from config.load import ensure_secret_key, load
from config.settings import Settings
from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.closing.closing import Closing
from tasks.closing.results import Results
from tasks.dispatch.workers import Workers
from tasks.folders.commit_log import Care
from tasks.folders.layout import Folders
from tasks.folders.staging import Staging
from tasks.ledger.cache import SealedCache
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import connect
from tasks.ledger.renewal import LeaseRenewer
from tasks.ledger.seal import Seal
from tasks.model.document import Document
from tasks.model.route import Route, Step
from tasks.pipeline.recovery import Recovery
from tasks.pipeline.runner import Pipeline
from tasks.sources.sources import Sources

if TYPE_CHECKING:
    from celery import Celery

_lock = threading.Lock()
_current: Runtime | None = None


class Runtime:
    """The collaborators of one process. `stopping` is set when it has been asked to end.

    `at_home` is true in the watcher, which owns the folders of documents that it stages to S3.
    """

    def __init__(self, settings: Settings, *, at_home: bool = False) -> None:
        self.settings = ensure_secret_key(settings)
        self.at_home = at_home
        self.stopping = threading.Event()

    @cached_property
    def redis_url(self) -> str:
        """The configured address, else that of the embedded server. Raises SettingsError when neither is there."""
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
        )

    @cached_property
    def breaker(self) -> CircuitBreaker:
        retry = self.settings.retry
        return CircuitBreaker(
            self.redis, probe_first_seconds=retry.probe_first_seconds, probe_cap_seconds=retry.probe_cap_seconds
        )

    @cached_property
    def accounts(self) -> Accounts:
        return Accounts(self.settings.accounts, self.breaker, SealedCache(self.redis, self.seal))

    def route(self, document: Document) -> Route:
        """How its account's provider takes a document. Raises KeyError for an account that is not in the settings."""
        return self.accounts[document.account].provider.route(document)

    @cached_property
    def folders(self) -> Folders:
        return Folders(self.settings.data_dir)

    @cached_property
    def sources(self) -> Sources:
        return Sources.of(self.settings)

    @cached_property
    def care(self) -> Care:
        return Care(self.folders, self._sources_of_ours, self.staging, at_home=self.at_home)

    @cached_property
    def staging(self) -> Staging | None:
        prefix = self.settings.s3.stage_inbox
        return Staging(self._sources_of_ours.objects, prefix) if prefix else None

    @cached_property
    def _sources_of_ours(self) -> Sources:
        return Sources.of(self.settings, staged=True)

    @cached_property
    def results(self) -> Results:
        return Results(self.celery, self.ledger)

    @cached_property
    def workers(self) -> Workers:
        """To look at; a worker makes one that beats."""
        return Workers(self.redis)

    @cached_property
    def lease_renewer(self) -> LeaseRenewer:
        return LeaseRenewer(self.ledger)

    @cached_property
    def celery(self) -> Celery:
        from tasks.app import app  # the app asks for this process when it is configured

        return app

    def send_step(self, job_id: str, step: Step) -> None:
        """Send one step's message at once; should it be lost, a feeder sends it again."""
        self.celery.send_task(f"chartpost.{step}", args=(job_id,))

    @cached_property
    def pipeline(self) -> Pipeline:
        retry = self.settings.retry
        recovery = Recovery(
            self.ledger,
            self.breaker,
            self.care,
            first=retry.first_seconds,
            cap=retry.cap_seconds,
            give_up_after=retry.give_up_after_seconds,
        )
        return Pipeline(
            ledger=self.ledger,
            lease_renewer=self.lease_renewer,
            accounts=self.accounts,
            care=self.care,
            results=self.results,
            recovery=recovery,
            stopping=self.stopping,
        )

    @cached_property
    def closing(self) -> Closing:
        return Closing(
            ledger=self.ledger,
            lease_renewer=self.lease_renewer,
            care=self.care,
            results=self.results,
            settings=self.settings,
        )


def current() -> Runtime:
    """This process's collaborators, from the settings that the environment names. Raises SettingsError."""
    global _current
    with _lock:
        if _current is None:
            _current = Runtime(load())
        return _current


def use(process: Runtime) -> None:
    """Make `process` the current one: for a command line that has read its settings already."""
    global _current
    with _lock:
        _current = process
