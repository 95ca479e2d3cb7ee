"""Prometheus metrics of one worker: gauges read from Redis at each scrape, and counters of this process.

Labels name accounts, steps, states and codes; never a patient, a file or a path.
"""

from __future__ import annotations

import errno
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import redis
import structlog
from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from structlog.typing import EventDict, WrappedLogger

from config.celery import STAGE_QUEUE, entry_queues, lists_of, machine_queue
from tasks.accounts.status import AccountStatuses
from tasks.closing.results import DocumentFailed
from tasks.dispatch.feeder_report import feeder_troubles
from tasks.dispatch.workers import Workers
from tasks.folders.free_space import disk_folders, free_bytes
from tasks.folders.inbox_counts import read_inbox_counts
from tasks.ledger import keys
from tasks.ledger.failures import needing_attention
from tasks.ledger.keys import OWN_LANES
from tasks.ledger.redis import is_outage, log_redis_error
from tasks.model.route import Step
from worker.celery.metrics_server import MetricsServer

log = structlog.get_logger()

STATUSES = ("ok", "throttled", "parked", "down")
_STEPS = {f"chartpost.{step}": str(step) for step in Step if step}
# Celery's state of a task -> the label `outcome`. "ended": the job does not go on to its next step now.
_OUTCOMES = {"SUCCESS": "done", "IGNORED": "ended", "REJECTED": "put_back"}


class LedgerCollector(Collector):
    """Gauges of the whole service. Every worker shows the same ones: take one worker's, or the largest."""

    def __init__(
        self, client: redis.Redis, statuses: AccountStatuses, workers: Workers, producers: Collection[str] = ()
    ) -> None:
        self._producers = producers
        self._redis = client
        self._statuses = statuses
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        """All gauges; while Redis is away only `chartpost_redis_up`, at 0."""
        try:
            # Read as a whole first: half of the gauges would look like a service with less to do.
            gauges = [*self._account_gauges(), *self._service_gauges()]
        except redis.RedisError as error:
            if not is_outage(error):
                log_redis_error(error, part="metrics")
            log.warning("metrics_incomplete", error=type(error).__name__)
            gauges = []
        yield gauge("redis_up", "Whether Redis answered this scrape.", float(bool(gauges)))
        yield from gauges

    def _account_gauges(self) -> Iterator[Metric]:
        accounts = list(self._statuses.all())
        seconds, micros = self._redis.time()
        now = seconds + micros / 1_000_000
        words = "Documents of an account that are unfinished and hold no slot."
        yield gauge_by("account", "jobs_waiting", words, {account.name: account.waiting for account in accounts})
        words = "Documents of an account that hold a slot."
        yield gauge_by("account", "jobs_in_flight", words, {account.name: account.in_flight for account in accounts})
        words = "How long an account's oldest unfinished document has been with us; 0 when there is none."
        ages = {a.name: max(0.0, now - a.oldest_at.timestamp()) if a.oldest_at else 0.0 for a in accounts}
        yield gauge_by("account", "oldest_unfinished_seconds", words, ages)
        words = "Documents of an account that have failed, and that nobody has taken up again or dismissed."
        failed = needing_attention(self._redis)
        yield gauge_by(
            "account", "failures_needing_attention", words, {account.name: failed[account.name] for account in accounts}
        )
        words = "1 for the status that an account has (ok, throttled, parked, down), 0 for the others."
        status_gauge = GaugeMetricFamily("chartpost_account_status", words, labels=["account", "status"])
        for account in accounts:
            for status in STATUSES:
                status_gauge.add_metric([account.name, status], float(account.status == status))
        yield status_gauge

    def _service_gauges(self) -> Iterator[Metric]:
        machines = [str(name) for name in self._redis.smembers(keys.MACHINES)]
        # Of every machine: the closing of an inbox document is in a list of the machine that has its files.
        closing = sum(self._redis.zcard(keys.due(lane, machine)) for lane in OWN_LANES for machine in (None, *machines))
        troubles = feeder_troubles(self._redis).values()
        intake = sum(self._redis.xlen(stream) for stream in (keys.INTAKE, *map(keys.producer_stream, self._producers)))
        watched, left_alone = read_inbox_counts(self._redis)
        slots = self._workers.alive()
        yield gauge("inboxes_watched", "Inboxes whose watcher has said within five minutes what is in them.", watched)
        words = "Entries that an inbox has left alone for a minute, by the reason; no account: outside their folders."
        left_gauge = GaugeMetricFamily("chartpost_inbox_left_alone", words, labels=["account", "reason"])
        for (account, reason), count in left_alone.items():
            left_gauge.add_metric([account, reason], count)
        yield left_gauge
        given_up = self._redis.zcard(keys.CLOSING_GIVEN_UP)
        yield gauge("closing_given_up", "Jobs that were closed without their callback, result or source.", given_up)
        words = "1 for each account that feeders skip, since one of its keys in Redis has become another type."
        yield gauge_by("lane", "lane_skipped", words, {lane: 1.0 for each in troubles for lane in each.skipped})
        failing = sum(bool(each.failing) for each in troubles)
        yield gauge("feeders_failing", "Workers whose feeder fails in each round, so that it sends nothing.", failing)
        yield gauge("closing_backlog", "Finished jobs whose files, result or callback are yet to be written.", closing)
        dead = self._redis.xlen(keys.DEAD_LETTERS)
        yield gauge("dead_letters", "Messages that became no job and are kept in the stream chartpost:dead.", dead)
        yield gauge("intake_waiting", "Entries of the intake streams that are in no ledger yet.", intake)
        yield gauge("workers", "Workers that consume.", len(slots))
        yield gauge("slots", "Slots of all workers that consume.", sum(slots.values()))
        stage_queues = [STAGE_QUEUE, *map(machine_queue, machines)]
        lengths = {
            **{
                queue: sum(self._redis.llen(name) for name in lists_of(queue))
                for queue in entry_queues(self._producers)
            },
            STAGE_QUEUE: sum(self._redis.llen(queue) for queue in stage_queues),
        }
        yield gauge_by("queue", "messages_waiting", "Messages in a Celery queue.", lengths)


class DiskCollector(Collector):
    """Room on the disks of this worker's machine."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir

    def collect(self) -> Iterator[Metric]:
        """A folder that is not there is left out: not every machine has them all."""
        free = {}
        for name, folder in disk_folders(self._data_dir).items():
            with suppress(OSError):
                if folder.exists():
                    free[name] = float(free_bytes(folder))
        yield gauge_by("folder", "disk_free_bytes", "Bytes that may still be written on the disk of a folder.", free)


class ProcessCounters:
    """They begin at 0 with the process, as Prometheus expects of counters."""

    def __init__(self, client: redis.Redis, registry: CollectorRegistry) -> None:
        self._redis = client
        words = "Steps run, by how they ended: done, ended, put_back, crashed."
        self._steps = Counter("chartpost_steps", words, ("step", "outcome"), registry=registry)
        words = "Bytes of documents that storage has taken."
        self._stored = Counter("chartpost_stored_bytes", words, ("account",), registry=registry)
        words = "Jobs closed; a job is closed again if a slow search changes its outcome."
        self._closed = Counter("chartpost_jobs_closed", words, ("account", "state", "code"), registry=registry)
        words = "Messages taken out of a queue that became no job, by the code of their reason."
        self._dead = Counter("chartpost_dead_messages", words, ("reason",), registry=registry)

    def count_step(self, *, task: Any, args: Any, state: str | None, retval: Any = None, **_: Any) -> None:
        """A receiver of Celery's `task_postrun`."""
        step = _STEPS.get(task.name)
        if step is None:
            return
        # A document that failed is a task that failed, and a step that did what it should.
        outcome = "ended" if isinstance(retval, DocumentFailed) else _OUTCOMES.get(state or "", "crashed")
        self._steps.labels(step, outcome).inc()
        if step == Step.POST and state == "SUCCESS":
            # Without Redis the bytes are not counted. The document is stored: its step must not fail for a counter.
            with suppress(redis.RedisError):
                account, size = self._redis.hmget(keys.job(args[0]), "account", "size_bytes")
                if account and size:
                    self._stored.labels(account).inc(int(size))

    def count_logged(self, _: WrappedLogger, __: str, event: EventDict) -> EventDict:
        """A structlog processor. `job_closed` is logged once for each closing, whichever code ran it, and
        `dead_letter_kept` once for each message.
        """
        if event.get("event") == "job_closed":
            self._closed.labels(event.get("account", ""), event.get("state", ""), event.get("code") or "").inc()
        elif event.get("event") == "dead_letter_kept":
            self._dead.labels(event.get("code", "")).inc()
        return event


class MetricsEndpoint:
    """`/metrics` on one port, while it is open."""

    def __init__(self, collectors: Iterable[Collector], client: redis.Redis) -> None:
        self._registry = CollectorRegistry()
        for collector in collectors:
            self._registry.register(collector)
        ProcessCollector(registry=self._registry)
        self.counters = ProcessCounters(client, self._registry)
        self._server: MetricsServer | None = None

    def open(self, port: int, address: str, *, ports: int = 1) -> bool:
        """Listen on an address, on the first of so many ports that is free. False, after a warning, if none is."""
        for each in range(port, port + ports):
            try:
                self._server = MetricsServer(address, each, self._registry)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                log.info("metrics_served", port=each, address=address)
                return True
        # The usual case is one more worker on this machine. Documents matter more than its metrics.
        log.warning("metrics_port_taken", port=port, remedy="give each worker of one machine a port of its own")
        return False

    def close(self) -> None:
        if self._server:
            self._server.end()


def gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(f"chartpost_{name}", words, value=value)


def gauge_by(label: str, name: str, words: str, values: Mapping[str, float]) -> Metric:
    """A gauge with one label: value of the label -> value of the gauge."""
    family = GaugeMetricFamily(f"chartpost_{name}", words, labels=[label])
    for label_value, value in values.items():
        family.add_metric([label_value], value)
    return family
