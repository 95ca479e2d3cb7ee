"""Sends due jobs to Celery: a short window, accounts in turn, and again those whose lease has run out.

Any number of feeders may run at once: a job that one of them takes is not due for the others any more.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import redis
import structlog

from config.celery import STAGE_QUEUE, machine_queue
from config.redaction import crash_site
from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.dispatch.housekeeping import Housekeeping
from tasks.dispatch.probes import Probes
from tasks.dispatch.workers import Workers
from tasks.folders.forgotten_commits import ForgottenCommits
from tasks.folders.machines import Machine
from tasks.ledger.clock import boot, since_boot_ms
from tasks.ledger.identity import LedgerIdentity, LedgerRefused
from tasks.ledger.redis import CLOSING_LANE, PREFIX, REDIS_ERRORS, load_script
from tasks.model.errors import RetryLater
from tasks.model.route import Stage, Step

log = structlog.get_logger()

_TICK_SECONDS = 0.3
_LEAST_TICK_SECONDS = 0.03  # a worker full of short tasks pokes hundreds of times a second; one round serves them all
_REDIS_PAUSE_SECONDS = 2.0
_WINDOW_PER_SLOT = 2  # one job that runs and one that waits for it: workers never idle, and queues stay short
_HOUSEKEEPING_SECONDS = 60.0
_STEP_TO = {Stage.PRESIGNED: Step.PRESIGN, Stage.STORED: Step.POST, Stage.REGISTERED: Step.REGISTER}


def steps_from(step: Step, stages: Sequence[Stage]) -> list[Step]:
    """The chain of steps from `step` on, for a provider with these stages."""
    chain = [_STEP_TO[stage] for stage in stages]
    # Confirm and notify are in no chain: they wait for something else than the step before.
    return chain[chain.index(step) :] if step in chain else [step]


class Feeder:
    """`send` sends the chain of steps of one job, to the machine that alone can work on it or, with '', to any.

    `machine` is this feeder's: jobs whose files lie on another one are left to its feeders. `on_refused` must end the
    process: Redis must not be used.
    """

    def __init__(
        self,
        *,
        client: redis.Redis,
        breaker: CircuitBreaker,
        accounts: Accounts,
        workers: Workers,
        lease_seconds: float,
        housekeeping: Housekeeping,
        send: Callable[[str, list[Step], str], None],
        machine: Machine | None = None,
        identity: LedgerIdentity | None = None,
        on_refused: Callable[[LedgerRefused], None] = lambda refused: None,
        forgotten: ForgottenCommits | None = None,
        tick_seconds: float = _TICK_SECONDS,
    ) -> None:
        self._redis = client
        self._accounts = accounts
        self._workers = workers
        self._lease_ms = int(lease_seconds * 1000)
        self._send = send
        self._machine = machine
        self._identity = identity
        self._on_refused = on_refused
        self._forgotten = forgotten
        self._tick_seconds = tick_seconds
        self._take_due = load_script(client, "take_due")
        self._probes = Probes(breaker, accounts, on_resumed=self.poke)
        self._poked = threading.Event()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._housekeeping = housekeeping
        self._housekeeping_at = 0.0

    def start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="feeder", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Send no more jobs. Does not wait for probes."""
        self._stopped.set()
        self._poked.set()  # ends the thread's wait
        if self._thread:
            self._thread.join(timeout=10)
        self._probes.stop()

    def poke(self) -> None:
        """Something may be due, or a slot is free: begin the next round at once."""
        self._poked.set()

    def tick(self) -> int:
        """Send the jobs that are due and have a slot. Returns how many were sent."""
        live = self._workers.live().values()
        machine = (self._machine.name() if self._machine else None) or ""
        slots = sum(worker.slots for worker in live)
        slots_here = sum(worker.slots for worker in live if worker.machine == machine)
        window = _WINDOW_PER_SLOT * slots
        lanes, here = json.dumps(self._lanes(slots)), (machine, machine_queue(machine), slots_here)
        # Taken last: the ledger's clock goes on by it.
        boot_time = boot(), since_boot_ms()
        taken = self._take_due(args=[PREFIX, self._lease_ms, window, STAGE_QUEUE, lanes, *here, *boot_time])
        for job_id, step, lane, home in zip(taken[::4], taken[1::4], taken[2::4], taken[3::4], strict=True):
            if lane == CLOSING_LANE:
                steps = [Step(step)]
            else:
                steps = steps_from(Step(step), self._accounts[str(lane)].provider.stages)
            self._send(str(job_id), steps, str(home))
        return len(taken) // 4

    def _lanes(self, slots: int) -> list[dict[str, object]]:
        """The closing lane and one lane for each account, as `take_due.lua` takes them."""
        # Half of all slots, unless max_in_flight says otherwise: one slow provider must never hold every slot.
        half = max(1, slots // 2)
        lanes: list[dict[str, object]] = [{"lane": CLOSING_LANE, "slots": half, "has_breaker": False, "group": ""}]
        for name, account in self._accounts.items():
            share = account.settings.max_in_flight or half
            lanes.append({"lane": name, "slots": share, "has_breaker": True, "group": account.provider.limit_group})
        return lanes

    # --- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        unreachable = False
        while not self._stopped.is_set():
            # Before the round, so that a poke during it leads to another one.
            self._poked.clear()
            try:
                if self._identity:
                    self._identity.confirm()
                if self._machine:
                    # First: a copy of another machine's folders must not take that machine's jobs.
                    self._machine.beat()
                if self._workers.beat() and self._forgotten:
                    # At each beat, since other machines wait for this one's report after a restart of Redis.
                    with suppress(RetryLater):
                        self._forgotten.ensure_known()
                self._probes.start_due()
                if time.monotonic() >= self._housekeeping_at:
                    self._housekeeping_at = time.monotonic() + _HOUSEKEEPING_SECONDS
                    self._housekeeping.run()
                self.tick()
                if unreachable:
                    log.info("redis_back")
                unreachable = False
            except LedgerRefused as refused:
                self._on_refused(refused)
                return
            except REDIS_ERRORS as error:
                if not unreachable:
                    log.warning("redis_unreachable", error=type(error).__name__)
                unreachable = True
            except Exception as error:  # noqa: BLE001, outermost; the words of an error may name the patient
                log.error("feeder_round_failed", **crash_site(error))
            self._stopped.wait(_LEAST_TICK_SECONDS)
            self._poked.wait(_REDIS_PAUSE_SECONDS if unreachable else self._tick_seconds)
