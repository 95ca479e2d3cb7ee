"""Prometheus metrics of one worker: what Redis knows, read at each scrape, and what this process has done since.

Labels name accounts, steps, states and codes; never a patient, a file or a path.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.simple_server import WSGIServer

import redis
import structlog
from celery import bootsteps, signals
from prometheus_client import CollectorRegistry, Counter, ProcessCollector, start_http_server
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from structlog.typing import EventDict, WrappedLogger

from config.celery import ENTRY_QUEUE, STAGE_QUEUE
from tasks.accounts.status import AccountStatus
from tasks.ledger.redis import CLOSING_LANE, PREFIX
from tasks.model.route import Step
from tasks.runtime import Runtime, current

log = structlog.get_logger()

STATUSES = ("ok", "throttled", "parked", "down")
_STEPS = {f"chartpost.{step}": str(step) for step in Step if step}
# Celery's word for how a task ended -> ours. "ended": no step follows from it (a deferral, a duplicate, a look).
_OUTCOMES = {"SUCCESS": "done", "IGNORED": "ended", "REJECTED": "put_back"}


class LedgerCollector(Collector):
    """Gauges read from Redis when they are asked for. Every worker shows the same, so take one's or the largest."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def collect(self) -> Iterator[Metric]:
        """All gauges; while Redis is away only `chartpost_redis_up`, at 0."""
        try:
            gauges = [*self._of_accounts(), *self._of_the_house()]
        except redis.RedisError as error:
            log.warning("metrics_incomplete", error=type(error).__name__)
            gauges = []
        yield _gauge("redis_up", "Whether Redis answered this scrape.", float(bool(gauges)))
        yield from gauges

    def _of_accounts(self) -> Iterator[Metric]:
        runtime = self._runtime
        accounts = list(runtime.account_statuses.all())
        seconds, micros = runtime.redis.time()
        now = seconds + micros / 1_000_000
        words = "Documents of an account that are unfinished and hold no slot."
        yield _by_account("jobs_waiting", words, ((each.name, each.waiting) for each in accounts))
        words = "Documents of an account that hold a slot."
        yield _by_account("jobs_in_flight", words, ((each.name, each.in_flight) for each in accounts))
        words = "How long an account's oldest unfinished document has been with us; 0 when there is none."
        yield _by_account("oldest_unfinished_seconds", words, ((each.name, _age(each, now)) for each in accounts))
        yield _statuses(accounts)

    def _of_the_house(self) -> Iterator[Metric]:
        client, alive = self._runtime.redis, self._runtime.workers.alive()
        closing, arriving = client.zcard(f"{PREFIX}due:{CLOSING_LANE}"), client.xlen(PREFIX + "intake")
        yield _gauge("closing_backlog", "Finished jobs whose files, result or callback are yet to be written.", closing)
        yield _gauge("intake_waiting", "Entries of the intake stream that are in no ledger yet.", arriving)
        yield _gauge("workers", "Workers that consume.", len(alive))
        yield _gauge("slots", "Slots of all workers that consume.", sum(alive.values()))
        messages = GaugeMetricFamily("chartpost_messages_waiting", "Messages in a Celery queue.", labels=["queue"])
        for queue in (ENTRY_QUEUE, STAGE_QUEUE):
            messages.add_metric([queue], client.llen(queue))
        yield messages


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"chartpost_{name}", words, value=value)


def _by_account(name: str, words: str, values: Iterable[tuple[str, float]]) -> Metric:
    gauge = GaugeMetricFamily(f"chartpost_{name}", words, labels=["account"])
    for account, value in values:
        gauge.add_metric([account], value)
    return gauge


def _statuses(accounts: Iterable[AccountStatus]) -> Metric:
    words = "1 for the status that an account has (ok, throttled, parked, down), 0 for the others."
    gauge = GaugeMetricFamily("chartpost_account_status", words, labels=["account", "status"])
    for account in accounts:
        for status in STATUSES:
            gauge.add_metric([account.name, status], float(account.status == status))
    return gauge


def _age(account: AccountStatus, now: float) -> float:
    return max(0.0, now - account.oldest_at.timestamp()) if account.oldest_at else 0.0


class Tally:
    """Counters of this process. They begin at 0 with it, as Prometheus expects."""

    def __init__(self, runtime: Runtime, registry: CollectorRegistry) -> None:
        def counter(name: str, words: str, *labels: str) -> Counter:
            return Counter(f"chartpost_{name}", words, labels, registry=registry)

        self._runtime = runtime
        self._steps = counter(
            "steps", "Steps run, by how they ended: done, ended, put_back, crashed.", "step", "outcome"
        )
        self._stored = counter("stored_bytes", "Bytes of documents that storage has taken.", "account")
        words = "Jobs closed; one whose outcome a late look turns is closed again."
        self._closed = counter("jobs_closed", words, "account", "state", "code")

    def count_step(self, *, task: Any, args: Any, state: str | None, **_: Any) -> None:
        """Celery's `task_postrun`."""
        step = _STEPS.get(task.name)
        if step is None:
            return
        self._steps.labels(step, _OUTCOMES.get(state or "", "crashed")).inc()
        if step == Step.POST and state == "SUCCESS":
            self._count_stored(str(args[0]))

    def count_closed(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """A structlog processor: the log's event tells of each closing once, by whichever way it came about."""
        if event.get("event") == "job_closed":
            self._closed.labels(event.get("account", ""), event.get("state", ""), event.get("code") or "").inc()
        return event

    def _count_stored(self, job_id: str) -> None:
        try:
            account, size = self._runtime.redis.hmget(f"{PREFIX}job:{job_id}", "account", "size_bytes")
        except redis.RedisError:
            return  # the document has gone on its way; a counter is no reason to hold it up
        if account and size:
            self._stored.labels(account).inc(int(size))


class Endpoint:
    """`/metrics` of this process on one port, while it runs."""

    def __init__(self, runtime: Runtime) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(LedgerCollector(runtime))
        ProcessCollector(registry=self._registry)
        self.tally = Tally(runtime, self._registry)
        self._server: WSGIServer | None = None
        self._thread: threading.Thread | None = None

    def open(self, port: int) -> bool:
        """Listen, on every interface. False, after a warning, when another process has the port already."""
        try:
            self._server, self._thread = start_http_server(port, registry=self._registry)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            log.warning("metrics_port_taken", port=port, remedy="give each worker of one machine a port of its own")
            return False
        log.info("metrics_served", port=port)
        return True

    def close(self) -> None:
        if self._server and self._thread:
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()


class MetricsStep(bootsteps.StartStopStep):
    """The endpoint in a Celery worker whose settings name a port; the worker goes on without it if it must."""

    _endpoint: Endpoint | None = None

    def include_if(self, parent: Any) -> bool:
        return current().settings.metrics.port > 0

    def start(self, parent: Any) -> None:
        endpoint = Endpoint(current())
        if not endpoint.open(current().settings.metrics.port):
            return
        self._endpoint = endpoint
        signals.task_postrun.connect(endpoint.tally.count_step)
        # First of all, so that a quieter log level does not make the counter stand still; the list itself is changed,
        # since loggers that have been used keep it.
        structlog.get_config()["processors"].insert(0, endpoint.tally.count_closed)

    def stop(self, parent: Any) -> None:
        if self._endpoint:
            signals.task_postrun.disconnect(self._endpoint.tally.count_step)
            self._endpoint.close()
