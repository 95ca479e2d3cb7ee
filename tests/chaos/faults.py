"""The faults of a campaign: what each does to processes, to Redis, or to the providers and their storage."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.chaos.installation import ChaosInstallation
from tests.chaos.processes import Processes
from tests.chaos.tracker import Tracker
from tests.harness.clocks import HOUR, can_be_faked
from tests.harness.installation import LEASE_SECONDS

GRACE_SECONDS = 30.0  # within which a worker must end after SIGTERM

_HELD_SECONDS = (1.2 * LEASE_SECONDS, 2.2 * LEASE_SECONDS)  # longer than a lease
_SOME_SECONDS = (2.0, 4.5)
_A_MOMENT = (0.3, 1.0)
_AT_ONCE = (0.0, 0.0)


@dataclass(slots=True)
class FaultContext:
    """What faults act on. `findings` says what a fault saw that must not happen."""

    installation: ChaosInstallation
    processes: Processes
    tracker: Tracker
    rng: random.Random
    findings: list[str] = field(default_factory=list)

    def redis(self) -> redis.Redis:
        return self.installation.client()


Inject = Callable[[FaultContext], AbstractContextManager[Callable[[], bool] | None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """`inject` begins the fault when entered and ends it when left. It may yield a function: may the fault end yet?"""

    name: str
    targets: frozenset[str]  # each can have one fault at a time
    inject: Inject
    seconds: tuple[float, float] = _SOME_SECONDS
    broker: bool = False  # afterwards every worker must take messages again
    late: bool = False  # comes last of all, since it needs a minute of past

    @property
    def stops_everything(self) -> bool:
        """False for a fault of one process, beside which documents still flow."""
        return self.targets >= EVERYTHING


EVERYTHING = frozenset(("world",))


# --- processes -----------------------------------------------------------------------------------------------------


def killed(*names: str) -> Inject:
    @contextmanager
    def inject(context: FaultContext) -> Iterator[None]:
        for name in names:
            context.processes[name].kill()
        yield
        for name in names:
            context.processes[name].restart()

    return inject


def frozen(name: str) -> Inject:
    @contextmanager
    def inject(context: FaultContext) -> Iterator[None]:
        context.processes[name].freeze()
        yield
        context.processes[name].thaw()

    return inject


def asked_to_end(name: str) -> Inject:
    """It must end with 0 within GRACE_SECONDS. Before it has set up its signals, SIGTERM simply ends it."""

    @contextmanager
    def inject(context: FaultContext) -> Iterator[Callable[[], bool]]:
        process = context.processes[name]
        process.ask_to_end()
        until = time.monotonic() + GRACE_SECONDS
        yield lambda: process.exit_code() is not None or time.monotonic() > until
        had_begun = "worker_started" in process.log_of_this_life
        if process.exit_code() != 0 and not (process.exit_code() == -signal.SIGTERM and not had_begun):
            context.findings.append(f"{name} was asked to end; its exit code was {process.exit_code()}")
        process.restart()

    return inject


# --- Redis ---------------------------------------------------------------------------------------------------------


@contextmanager
def redis_restarted(context: FaultContext) -> Iterator[None]:
    context.installation.valkey.stop()
    yield
    context.installation.valkey.start()


@contextmanager
def redis_killed(context: FaultContext) -> Iterator[None]:
    context.installation.valkey.kill()
    yield
    context.installation.valkey.start()


@contextmanager
def redis_frozen(context: FaultContext) -> Iterator[None]:
    with context.installation.valkey.frozen():
        yield


@contextmanager
def redis_connections_cut(context: FaultContext) -> Iterator[None]:
    for kind in ("normal", "pubsub"):
        context.redis().client_kill_filter(_type=kind, skipme=True)
    yield


@contextmanager
def redis_full(context: FaultContext) -> Iterator[None]:
    context.redis().config_set("maxmemory", 1)
    yield
    context.redis().config_set("maxmemory", 0)


@contextmanager
def redis_read_only(context: FaultContext) -> Iterator[None]:
    """A replica of a server that does not answer keeps its data and refuses writes."""
    context.redis().replicaof("127.0.0.1", "1")
    yield
    context.redis().replicaof("NO", "ONE")


@contextmanager
def redis_wiped(context: FaultContext) -> Iterator[None]:
    context.redis().flushall()
    context.tracker.wiped()
    yield


# --- clocks --------------------------------------------------------------------------------------------------------


def clock_set(whose: str, ahead_seconds: float) -> Inject:
    """`whose` is "redis" or "worker". Its clock is right again in the end: set twice."""

    @contextmanager
    def inject(context: FaultContext) -> Iterator[None]:
        clock = getattr(context.installation, f"{whose}_clock")
        clock.set(ahead_seconds)
        yield
        clock.set(0)

    return inject


CLOCK_FAULTS = (
    Fault("worker's clock an hour ahead, then right", frozenset(("worker-2",)), clock_set("worker", HOUR)),
    Fault("worker's clock an hour back, then right", frozenset(("worker-2",)), clock_set("worker", -HOUR)),
    Fault("Redis's clock an hour ahead, then right", EVERYTHING, clock_set("redis", HOUR)),
    Fault("Redis's clock an hour back, then right", EVERYTHING, clock_set("redis", -HOUR)),
)


# --- providers and storage -----------------------------------------------------------------------------------------


_APIS = ("pracsuite", "cliniko", "ovok", "redox", "nhn", "helseid")


def api_down(how: str) -> Inject:
    @contextmanager
    def inject(context: FaultContext) -> Iterator[None]:
        context.installation.world.world(down=dict.fromkeys(_APIS, how))
        yield
        context.installation.world.world(down=dict.fromkeys(_APIS))

    return inject


def storage_down(how: str) -> Inject:
    @contextmanager
    def inject(context: FaultContext) -> Iterator[None]:
        context.installation.world.world(storage_down=how)
        yield
        context.installation.world.world(storage_down=None)

    return inject


@contextmanager
def throttled(context: FaultContext) -> Iterator[None]:
    """Allow as many answers a minute as it gave in the last 55 seconds, so that Retry-After is a few seconds."""
    since = time.time() - 55
    last = context.installation.world.requests()["last"]
    answered = [seen for seen in last if seen["at"] > since and seen["route"].startswith("/pracsuite")]
    context.installation.world.world(throttle={"pracsuite": {"per_minute": max(1, len(answered))}})
    yield
    context.installation.world.world(throttle={"pracsuite": None})


@contextmanager
def credentials_revoked(context: FaultContext) -> Iterator[None]:
    accounts = context.installation.world.settings["accounts"]
    account = accounts[context.rng.choice(sorted(accounts))]
    key = next(account[name] for name in ("api_key", "password", "client_id") if name in account)
    context.installation.world.world(revoke=[key])
    yield
    context.installation.world.world(restore=[key])


@contextmanager
def engine_frozen(context: FaultContext) -> Iterator[None]:
    pid = context.installation.world.process.pid
    engines = [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    for engine in engines:
        os.kill(engine, signal.SIGSTOP)
    yield
    for engine in engines:
        with suppress(ProcessLookupError):
            os.kill(engine, signal.SIGCONT)


FAULTS = (
    Fault("worker killed (SIGKILL)", frozenset(("worker-1",)), killed("worker-1"), _A_MOMENT),
    Fault("both workers killed", frozenset(("worker-1", "worker-2")), killed("worker-1", "worker-2"), _A_MOMENT),
    Fault("watcher killed", frozenset(("watcher",)), killed("watcher"), _A_MOMENT),
    Fault("intake killed", frozenset(("intake",)), killed("intake"), _A_MOMENT),
    Fault("worker stopped beyond its lease, then woken", frozenset(("worker-2",)), frozen("worker-2"), _HELD_SECONDS),
    Fault("watcher stopped, then woken", frozenset(("watcher",)), frozen("watcher"), _HELD_SECONDS),
    Fault("intake stopped, then woken", frozenset(("intake",)), frozen("intake"), _HELD_SECONDS),
    Fault("worker asked to end (SIGTERM)", frozenset(("worker-1",)), asked_to_end("worker-1"), _AT_ONCE),
    Fault("Redis restarted (SIGTERM)", EVERYTHING, redis_restarted, _A_MOMENT, broker=True),
    Fault("Redis killed (SIGKILL)", EVERYTHING, redis_killed, _A_MOMENT, broker=True),
    Fault("Redis frozen", EVERYTHING, redis_frozen, _HELD_SECONDS, broker=True),
    Fault("Redis: all connections cut", EVERYTHING, redis_connections_cut, _AT_ONCE, broker=True),
    Fault("Redis out of memory", EVERYTHING, redis_full, broker=True),
    Fault("Redis read-only", EVERYTHING, redis_read_only, broker=True),
    Fault("Redis wiped", EVERYTHING, redis_wiped, _AT_ONCE, broker=True),
    *(Fault(f"API: {how}", EVERYTHING, api_down(how)) for how in ("503", "504", "reset", "hang")),
    Fault("API: web filter (200 and a page)", EVERYTHING, api_down("filter")),
    Fault("API throttled", EVERYTHING, throttled, late=True),
    Fault("credentials revoked", EVERYTHING, credentials_revoked),
    *(Fault(f"storage: {how}", EVERYTHING, storage_down(how)) for how in ("503", "504", "reset", "hang")),
    Fault("storage: web filter (200 and a page)", EVERYTHING, storage_down("filter")),
    Fault("S3 engine frozen", EVERYTHING, engine_frozen),
    *(CLOCK_FAULTS if can_be_faked() else ()),
)
