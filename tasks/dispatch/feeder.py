"""Feeds due jobs to Celery: a short window, accounts in turn, and what has stalled once more.

Any number of feeders may run beside each other: what one takes is no longer due for the others.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence

import redis
import structlog

from config.celery import STAGE_QUEUE
from config.redaction import crash_site
from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.dispatch.probes import Probes
from tasks.dispatch.workers import Workers
from tasks.ledger.redis import CLOSING_LANE, PREFIX, REDIS_ERRORS, load_script
from tasks.model.route import Stage, Step

log = structlog.get_logger()

_TICK_SECONDS = 0.3
_LEAST_TICK_SECONDS = 0.03  # a worker full of short tasks pokes hundreds of times a second; one round serves them all
_WINDOW_PER_SLOT = 2
_HOUSEKEEPING_SECONDS = 60.0
_STEP_OF = {Stage.PRESIGNED: Step.PRESIGN, Stage.STORED: Step.POST, Stage.REGISTERED: Step.REGISTER}


def steps_from(step: Step, stages: Sequence[Stage]) -> list[Step]:
    """The chain of steps that a provider with these stages has from `step` on."""
    chain = [_STEP_OF[stage] for stage in stages]
    return chain[chain.index(step) :] if step in chain else [step]


class Feeder:
    """`send` sends the chain of steps of one job; `consuming` tells whether this process takes messages."""

    def __init__(
        self,
        *,
        client: redis.Redis,
        breaker: CircuitBreaker,
        accounts: Accounts,
        workers: Workers,
        lease_seconds: float,
        jobs_days: float,
        send: Callable[[str, list[Step]], None],
    ) -> None:
        self._redis = client
        self._accounts = accounts
        self._workers = workers
        self._lease = int(lease_seconds * 1000)
        self._keep_ms = int(jobs_days * 86_400_000)
        self._send = send
        self._feed = load_script(client, "feed")
        self._probes = Probes(breaker, accounts, on_resumed=self.poke)
        self._poked = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._housekeeping_at = 0.0

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Feed no more. Does not wait for probes."""
        self._stopped.set()
        self._poked.set()
        if self._thread:
            self._thread.join(timeout=10)
        self._probes.stop()

    def poke(self) -> None:
        """Something may be due, or a slot is free: look now rather than at the next tick."""
        self._poked.set()

    def tick(self) -> int:
        """Send what is due and has room. Returns how many jobs were sent."""
        slots = self._workers.slots()
        taken = self._feed(
            args=[PREFIX, self._lease, _WINDOW_PER_SLOT * slots, STAGE_QUEUE, json.dumps(self._lanes(slots))]
        )
        for job_id, step, lane in zip(taken[::3], taken[1::3], taken[2::3], strict=True):
            self._send(str(job_id), self._chain(Step(step), str(lane)))
        return len(taken) // 3

    def _chain(self, step: Step, lane: str) -> list[Step]:
        return [step] if lane == CLOSING_LANE else steps_from(step, self._accounts[lane].provider.stages)

    def _lanes(self, slots: int) -> list[dict[str, object]]:
        half = max(1, slots // 2)
        lanes: list[dict[str, object]] = [{"lane": CLOSING_LANE, "slots": half, "gated": False, "group": ""}]
        for name, account in self._accounts.items():
            share = account.settings.max_in_flight or half
            group = account.provider.limit_group
            lanes.append({"lane": name, "slots": share, "gated": True, "group": group})
        return lanes

    # --- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        away = False
        while not self._stopped.is_set():
            self._poked.clear()
            try:
                self._round()
                if away:
                    log.info("redis_back")
                away = False
            except REDIS_ERRORS as error:
                if not away:
                    log.warning("redis_unreachable", error=type(error).__name__)
                away = True
            except Exception as error:  # noqa: BLE001, outermost; the words of an error may name the patient
                log.error("feeder_round_failed", **crash_site(error))
            self._stopped.wait(_LEAST_TICK_SECONDS)
            self._poked.wait(2.0 if away else _TICK_SECONDS)

    def _round(self) -> None:
        self._workers.beat()
        self._probes.start_due()
        if time.monotonic() >= self._housekeeping_at:
            self._housekeeping_at = time.monotonic() + _HOUSEKEEPING_SECONDS
            self._forget_the_old()
        self.tick()

    def _forget_the_old(self) -> None:
        """Finished jobs leave their rows by themselves (EXPIRE); their index entries leave here."""
        seconds, micros = self._redis.time()
        before = seconds * 1000 + micros // 1000 - self._keep_ms
        for found in self._redis.zrangebyscore(PREFIX + "finished", "-inf", before, start=0, num=1000):
            job_id = str(found)
            if not self._redis.exists(f"{PREFIX}job:{job_id}"):
                self._redis.zrem(PREFIX + "finished", job_id)
                self._redis.zrem(PREFIX + "jobs", job_id)
