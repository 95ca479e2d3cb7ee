"""Sends due jobs to Celery: a short window, accounts in turn, and again those whose lease has run out.

Any number of feeders may run at once: a job that one of them takes is not due for the others any more.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress

import redis
import structlog

from config.celery import STAGE_QUEUE, machine_queue
from config.redaction import crash_site
from config.vital_threads import start_vital
from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.dispatch.feeder_report import FeederReport, FeederTrouble
from tasks.dispatch.housekeeping import Housekeeping
from tasks.dispatch.key_guard import KeyGuard
from tasks.dispatch.probes import Probes
from tasks.dispatch.skipped import SkippedLanes
from tasks.dispatch.wakeup import Wakeup
from tasks.dispatch.workers import LiveWorker, Workers
from tasks.folders.forgotten_commits import ForgottenCommits
from tasks.folders.machines import Machine
from tasks.ledger.clock import boot, since_boot_ms
from tasks.ledger.identity import LedgerIdentity, LedgerRefused
from tasks.ledger.keys import CALLBACK_LANE, CLOSING_LANE, PREFIX, due
from tasks.ledger.redis import REDIS_ERRORS, RedisTrouble, error_code, is_outage
from tasks.ledger.script_loader import load_script
from tasks.model.errors import RetryLater

log = structlog.get_logger()

_TICK_SECONDS = 0.3
_REST_SECONDS = 3.0  # while there is nothing to do at all; signs of life come as often then
_LEAST_TICK_SECONDS = 0.03  # a worker full of short tasks pokes hundreds of times a second; one round serves them all
_REDIS_PAUSE_SECONDS = 2.0
_WINDOW_PER_SLOT = 2  # one job that runs and one that waits for it: workers never idle, and queues stay short
_HOUSEKEEPING_SECONDS = 60.0
_WORKERS_SECONDS = 0.5


class Feeder:
    """`machine` is this feeder's: jobs whose files lie on another one are left to its feeders.

    `on_refused` must end the process: Redis must not be used.
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
        machine: Machine | None = None,
        identity: LedgerIdentity | None = None,
        on_refused: Callable[[LedgerRefused], None] = lambda refused: None,
        forgotten: ForgottenCommits | None = None,
        make_due_again: Callable[[], int] = lambda: 0,
        producers: Collection[str] = (),
        tick_seconds: float = _TICK_SECONDS,
    ) -> None:
        self._redis = client
        self._accounts = accounts
        self._workers = workers
        self._lease_ms = int(lease_seconds * 1000)
        self._machine = machine
        self._identity = identity
        self._on_refused = on_refused
        self._forgotten = forgotten
        self._tick_seconds = tick_seconds
        self._take_due = load_script(client, "take_due")
        self._probes = Probes(breaker, accounts, on_resumed=self.poke)
        self._wakeup = Wakeup(client)
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._housekeeping = housekeeping
        self._housekeeping_at = 0.0
        self._live: Mapping[str, LiveWorker] = {}
        self._look_for_workers_at = float("-inf")
        self._trouble = RedisTrouble(part="feeder")
        self._failed_rounds = 0
        self._next_due_seconds = math.inf
        self._woken = True
        self._at_rest = False
        self._skipped = SkippedLanes(client, self._groups, lease_seconds)
        self._key_guard = KeyGuard(client, self._groups, make_due_again, producers)
        self._report = FeederReport(client, workers.name)

    def start(self) -> None:
        self._thread = start_vital(self._run, "feeder")

    def stop(self) -> None:
        """Send no more jobs. Does not wait for probes."""
        self._stopped.set()
        self._wakeup.poke()  # ends the thread's wait
        if self._thread:
            self._thread.join(timeout=10)
            if not self._thread.is_alive():
                self._wakeup.close()
        self._probes.stop()

    def poke(self) -> None:
        """Something may be due, or a slot is free: begin the next round at once."""
        self._wakeup.poke()

    def _run(self) -> None:
        while not self._stopped.is_set():
            # Before the round, so that a poke during it leads to another one.
            self._wakeup.clear()
            try:
                sent = self._round()
                self._after_good_round()
                self._at_rest = not sent and self._nothing_to_do()
            except LedgerRefused as refused:
                self._on_refused(refused)
                return
            except Exception as error:  # noqa: BLE001, outermost
                self._at_rest = False
                self._after_failed_round(error)
            self._stopped.wait(_LEAST_TICK_SECONDS)
            self._woken = self._wakeup.wait(self._rest_seconds())
            self._at_rest = self._at_rest and not self._woken

    def _round(self) -> int:
        """As `tick`, with what comes now and then."""
        if self._identity:
            self._identity.confirm()
        if self._machine:
            # First: a copy of another machine's folders must not take that machine's jobs.
            self._machine.beat()
        if self._workers.beat():
            self._look_for_workers_at = float("-inf")  # it may be the first beat
            if self._forgotten:
                # At each beat, since other machines wait for this one's report after a restart of Redis.
                with suppress(RetryLater):
                    self._forgotten.ensure_known()
        self._key_guard.look_now_and_then()
        if time.monotonic() >= self._housekeeping_at:
            self._housekeeping_at = time.monotonic() + _HOUSEKEEPING_SECONDS
            self._key_guard.look(of_groups=True)
            self._housekeeping.run()
        return self.tick()

    def tick(self) -> int:
        """Send the jobs that are due and have a slot, and start the probes that are due. Returns how many were sent."""
        live = self._live_workers()
        machine = self._machine_name()
        slots = sum(worker.slots for worker in live)
        slots_here = sum(worker.slots for worker in live if worker.machine == machine)
        window = _WINDOW_PER_SLOT * slots
        lanes, here = json.dumps(self._lanes(slots)), (machine, machine_queue(machine), slots_here)
        # Taken last: the ledger's clock goes on by it.
        boot_time = boot(), since_boot_ms()
        unsure = self._most_unsure(slots), self._most_unsure(slots_here)
        args: list[str | int] = [PREFIX, self._lease_ms, window, STAGE_QUEUE, lanes, *here, *boot_time, *unsure]
        taken, faults, probes, wait_ms = self._take_due(args=args)
        self._next_due_seconds = int(wait_ms) / 1000 if int(wait_ms) >= 0 else math.inf
        self._probes.start(map(str, probes))
        if self._skipped.note(faults):
            # Before anybody is told: what stops everybody, or a limit of requests, need not wait for a person.
            self._key_guard.look(of_groups=True)
        return len(taken) // 4

    def _live_workers(self) -> Collection[LiveWorker]:
        # A round may come every 30 ms, and workers begin and end seldom. After an undisturbed rest there is nothing to
        # give them.
        if not self._at_rest and time.monotonic() >= self._look_for_workers_at:
            self._live = self._workers.live()
            self._look_for_workers_at = time.monotonic() + _WORKERS_SECONDS
        return self._live.values()

    def _machine_name(self) -> str:
        return (self._machine.name() if self._machine else None) or ""

    def _lanes(self, slots: int) -> list[dict[str, object]]:
        """The closing lane and one lane for each account, as `take_due.lua` takes them."""
        # Half of all slots, unless max_in_flight says otherwise: one slow provider must never hold every slot.
        half = max(1, slots // 2)
        few = max(1, slots // 8)
        lanes: list[dict[str, object]] = [
            {"lane": CLOSING_LANE, "slots": half, "has_breaker": False, "group": ""},
            {"lane": CALLBACK_LANE, "slots": few, "has_breaker": False, "group": "", "unsure": True},
        ]
        for name, account in self._accounts.items():
            share = account.settings.max_in_flight or half
            lanes.append({"lane": name, "slots": share, "has_breaker": True, "group": account.provider.limit_group})
        return lanes

    def _groups(self) -> dict[str, str]:
        return {name: account.provider.limit_group for name, account in self._accounts.items()}

    def _most_unsure(self, slots: int) -> int:
        """How many slots the accounts that do not answer may hold together; -1: any number.

        The last quarter is kept for the others. A single account has no others.

        This holds over all workers, by what the ledger knows of accounts. Each worker keeps a similar rule for its own
        slots (`pipeline.slot_reserve`): it counts the steps that it runs itself, and not the messages that wait. It
        goes by what it has seen of an account since it started.
        """
        return max(1, slots - math.ceil(slots / 4)) if len(self._accounts) > 1 else -1

    def _rest_seconds(self) -> float:
        if self._failed_rounds:
            return _REDIS_PAUSE_SECONDS
        if self._at_rest:
            return max(self._tick_seconds, _REST_SECONDS)
        return min(self._tick_seconds, self._next_due_seconds)

    def _nothing_to_do(self) -> bool:
        """True if no job waits that this feeder could send, now or later, and it will be told of the next one.

        Each job with work left has a due entry, in flight too. It is not asked after each poke, but once a round came
        by time alone and had nothing to send.
        """
        if self._woken or self._next_due_seconds < math.inf or self._skipped.trouble():
            return False
        if self._workers.name not in self._live:  # it does not consume yet, and must say so as soon as it does
            return False
        machine = self._machine_name()
        lanes, homes = (CLOSING_LANE, CALLBACK_LANE, *self._accounts), (None, machine) if machine else (None,)
        return self._wakeup.watch([due(lane, home) for lane in lanes for home in homes])

    def _after_good_round(self) -> None:
        self._failed_rounds = 0
        self._trouble.end()
        self._report.say(self._skipped.trouble())

    def _after_failed_round(self, error: Exception) -> None:
        """Log an outage once, and wait. Anything else is an alarm: after the second round in a row, others are told."""
        self._failed_rounds += 1
        if not isinstance(error, REDIS_ERRORS):
            # The words of an error may name the patient.
            log.error("feeder_round_failed", **crash_site(error))
        else:
            self._trouble.note(error)
            if is_outage(error):
                return
        try:
            if self._failed_rounds > 1:
                self._report.say(FeederTrouble(failing=error_code(error)))
            if self._key_guard.look():
                self._failed_rounds = 0  # the next round at once: it may succeed now
        except REDIS_ERRORS:
            pass  # the next round says it again
        except Exception as another:  # noqa: BLE001, as above: such as no descriptor that is free
            log.error("feeder_round_failed", **crash_site(another))
