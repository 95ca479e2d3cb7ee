"""Where a campaign happens: one installation with its own Valkey, folders, settings and outside world."""

from __future__ import annotations

import os
import random
import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.accounts import ACCOUNT_KINDS
from tests.chaos.documents import SLOWEST_SECONDS
from tests.valkeys import FaultyValkey
from tests.worlds import SandboxProcess

LEASE_SECONDS = 2.0
VALIDATION_SECONDS = 0.4
LOOK_SECONDS = SLOWEST_SECONDS + 12.0
"""After an unseen outcome: more than the slowest validation and the longest time that an engine stands still."""

_SETTINGS = """
data_dir = "{data}"
secret_key = "a secret of the campaign"
file_roots = ["{documents}"]
{world}
[redis]
url = "{url}"
[inbox]
settle_seconds = 0.3
rescan_seconds = 2.0
[worker]
concurrency = 8
lease_seconds = {lease}
[retry]
first_seconds = 0.3
cap_seconds = 2.0
probe_first_seconds = 0.5
probe_cap_seconds = 2.0
"""
_PATIENCE = """
confirm.first_seconds = 0.2
confirm.cap_seconds = 0.5
confirm.give_up_after_seconds = 300.0
confirm.look_seconds = {look}
"""


@dataclass(frozen=True, slots=True)
class Place:
    """`logs` has a file for each process of ours."""

    folder: Path
    world: SandboxProcess
    valkey: FaultyValkey
    url: str

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def documents(self) -> Path:
        return self.folder / "documents"

    @property
    def logs(self) -> Path:
        return self.folder / "logs"

    @property
    def config(self) -> Path:
        return self.folder / "chartpost.toml"

    def redis(self, timeout_seconds: float = 3.0) -> redis.Redis:
        """A client that neither waits long nor tries again."""
        return redis.Redis.from_url(
            self.url,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )


@contextmanager
def installed(folder: Path, look_seconds: float = LOOK_SECONDS) -> Iterator[Place]:
    """An installation whose processes are still to be started."""
    with ExitStack() as stack:
        providers = ("--providers", ",".join(ACCOUNT_KINDS))
        world = stack.enter_context(SandboxProcess(*providers, validation_seconds=VALIDATION_SECONDS))
        world.world(redox_dedupe=True)
        valkey = FaultyValkey(folder / "valkey")
        stack.callback(valkey.stop)
        stack.callback(lambda: world.world(reset=True))
        place = Place(folder, world, valkey, _start(valkey, folder / "valkey"))
        for made in (place.data, place.documents, place.logs):
            made.mkdir()
        place.config.write_text(_settings(place, look_seconds))
        yield place


def _start(valkey: FaultyValkey, folder: Path) -> str:
    """On a port that the system gives to no connection of its own, or it might be taken while the server is down."""
    folder.mkdir()
    (folder / "redis.url").write_text(f"redis://:{os.urandom(12).hex()}@127.0.0.1:{_port()}/0\n")
    return valkey.start()


def _port() -> int:
    while True:
        port = random.randint(12_000, 30_000)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def _settings(place: Place, look_seconds: float) -> str:
    patience = _PATIENCE.format(look=look_seconds)
    world = re.sub(r'^provider = "[a-z]+"$', lambda line: line[0] + patience, place.world.toml, flags=re.MULTILINE)
    # This hospital knows a message again by its ids, so that nobody has to be asked.
    world = world.replace('provider = "redox"', 'provider = "redox"\non_unknown_outcome = "resend"')
    return _SETTINGS.format(
        data=place.data,
        documents=place.documents,
        url=place.url,
        lease=LEASE_SECONDS,
        world=world,
    )
