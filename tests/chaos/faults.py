"""The faults of a campaign, and their order, which the seed decides."""

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

from tests.chaos.doors import Progress
from tests.chaos.parts import Parts
from tests.chaos.place import LEASE_SECONDS, Place

GRACE_SECONDS = 30.0
"""Within which a worker that is asked to end has to end."""

_HELD_SECONDS = (1.2 * LEASE_SECONDS, 2.2 * LEASE_SECONDS)  # longer than a lease
_SOME_SECONDS = (2.0, 4.5)
_A_MOMENT = (0.3, 1.0)
_AT_ONCE = (0.0, 0.0)


@dataclass(slots=True)
class Scene:
    """What faults act on. `findings` are what a fault saw that must not be."""

    place: Place
    parts: Parts
    progress: Progress
    rng: random.Random
    findings: list[str] = field(default_factory=list)

    def redis(self) -> redis.Redis:
        return self.place.redis()


Act = Callable[[Scene], AbstractContextManager[Callable[[], bool] | None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """`act` begins it when entered and ends it when left; what it gives says whether it may be left already.

    Each of `targets` can have one fault at a time. `broker` faults are those after which every worker must consume
    again. `late` ones come last of all, since they need a minute of past.
    """

    name: str
    targets: frozenset[str]
    act: Act
    seconds: tuple[float, float] = _SOME_SECONDS
    broker: bool = False
    late: bool = False

    @property
    def stops_all(self) -> bool:
        """Whether no document gets anywhere meanwhile, as opposed to one process that fails."""
        return self.targets >= WORLD


WORLD = frozenset(("world",))


# --- processes -----------------------------------------------------------------------------------------------------


def killed(*names: str) -> Act:
    @contextmanager
    def act(scene: Scene) -> Iterator[None]:
        for name in names:
            scene.parts[name].kill()
        yield
        for name in names:
            scene.parts[name].begin_again()

    return act


def frozen(name: str) -> Act:
    @contextmanager
    def act(scene: Scene) -> Iterator[None]:
        scene.parts[name].freeze()
        yield
        scene.parts[name].thaw()

    return act


def asked_to_end(name: str) -> Act:
    """Must end with exit code 0 within its grace time; one that has not begun yet may simply end."""

    @contextmanager
    def act(scene: Scene) -> Iterator[Callable[[], bool]]:
        part = scene.parts[name]
        part.ask_to_end()
        until = time.monotonic() + GRACE_SECONDS
        yield lambda: part.exit_code() is not None or time.monotonic() > until
        had_begun = "worker_started" in part.log_of_this_life
        if part.exit_code() != 0 and not (part.exit_code() == -signal.SIGTERM and not had_begun):
            scene.findings.append(f"{name} was asked to end; its exit code was {part.exit_code()}")
        part.begin_again()

    return act


# --- Redis ---------------------------------------------------------------------------------------------------------


@contextmanager
def redis_restarted(scene: Scene) -> Iterator[None]:
    scene.place.valkey.stop()
    yield
    scene.place.valkey.start()


@contextmanager
def redis_killed(scene: Scene) -> Iterator[None]:
    scene.place.valkey.kill()
    yield
    scene.place.valkey.start()


@contextmanager
def redis_frozen(scene: Scene) -> Iterator[None]:
    with scene.place.valkey.frozen():
        yield


@contextmanager
def redis_connections_cut(scene: Scene) -> Iterator[None]:
    for kind in ("normal", "pubsub"):
        scene.redis().client_kill_filter(_type=kind, skipme=True)
    yield


@contextmanager
def redis_full(scene: Scene) -> Iterator[None]:
    scene.redis().config_set("maxmemory", 1)
    yield
    scene.redis().config_set("maxmemory", 0)


@contextmanager
def redis_read_only(scene: Scene) -> Iterator[None]:
    """A replica of nobody that answers: it keeps what it has and takes no writes."""
    scene.redis().replicaof("127.0.0.1", "1")
    yield
    scene.redis().replicaof("NO", "ONE")


@contextmanager
def redis_wiped(scene: Scene) -> Iterator[None]:
    scene.redis().flushall()
    scene.progress.wiped()
    yield


# --- the outside world ---------------------------------------------------------------------------------------------


_APIS = ("pracsuite", "cliniko", "ovok", "redox", "nhn", "helseid")


def api_down(how: str) -> Act:
    @contextmanager
    def act(scene: Scene) -> Iterator[None]:
        scene.place.world.world(down=dict.fromkeys(_APIS, how))
        yield
        scene.place.world.world(down=dict.fromkeys(_APIS))

    return act


def storage_down(how: str) -> Act:
    @contextmanager
    def act(scene: Scene) -> Iterator[None]:
        scene.place.world.world(storage_down=how)
        yield
        scene.place.world.world(storage_down=None)

    return act


@contextmanager
def throttled(scene: Scene) -> Iterator[None]:
    """At most as many answers a minute as it has given in 55 seconds, so that Retry-After is a few seconds."""
    since = time.time() - 55
    last = scene.place.world.requests()["last"]
    answered = [seen for seen in last if seen["at"] > since and seen["route"].startswith("/pracsuite")]
    scene.place.world.world(throttle={"pracsuite": {"per_minute": max(1, len(answered))}})
    yield
    scene.place.world.world(throttle={"pracsuite": None})


@contextmanager
def credentials_revoked(scene: Scene) -> Iterator[None]:
    accounts = scene.place.world.settings["accounts"]
    account = accounts[scene.rng.choice(sorted(accounts))]
    key = next(account[name] for name in ("api_key", "password", "client_id") if name in account)
    scene.place.world.world(revoke=[key])
    yield
    scene.place.world.world(restore=[key])


@contextmanager
def engine_frozen(scene: Scene) -> Iterator[None]:
    pid = scene.place.world.process.pid
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
    Fault("Redis restarted (SIGTERM)", WORLD, redis_restarted, _A_MOMENT, broker=True),
    Fault("Redis killed (SIGKILL)", WORLD, redis_killed, _A_MOMENT, broker=True),
    Fault("Redis frozen", WORLD, redis_frozen, _HELD_SECONDS, broker=True),
    Fault("Redis: all connections cut", WORLD, redis_connections_cut, _AT_ONCE, broker=True),
    Fault("Redis out of memory", WORLD, redis_full, broker=True),
    Fault("Redis read-only", WORLD, redis_read_only, broker=True),
    Fault("Redis wiped", WORLD, redis_wiped, _AT_ONCE, broker=True),
    *(Fault(f"API: {how}", WORLD, api_down(how)) for how in ("503", "504", "reset", "hang")),
    Fault("API throttled", WORLD, throttled, late=True),
    Fault("credentials revoked", WORLD, credentials_revoked),
    *(Fault(f"storage: {how}", WORLD, storage_down(how)) for how in ("503", "504", "reset", "hang")),
    Fault("S3 engine frozen", WORLD, engine_frozen),
)
