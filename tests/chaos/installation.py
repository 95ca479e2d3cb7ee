"""The installation of a campaign: its own Valkey, which faults can stop, and a sandbox with all providers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.accounts import ACCOUNT_KINDS
from tests.chaos.documents import SLOWEST_SECONDS
from tests.harness.clocks import FakedClock
from tests.harness.installation import Installation
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import FaultyValkey

VALIDATION_SECONDS = 0.4
CONCURRENCY = 8
INCOMPLETE_SECONDS = 10.0
# After an outcome that was not seen: more than the slowest validation and the longest time that S3 stands still.
SEARCH_SECONDS = SLOWEST_SECONDS + 12.0

_PATIENCE = """
confirm.first_seconds = 0.2
confirm.cap_seconds = 0.5
confirm.give_up_after_seconds = 300.0
confirm.look_seconds = {search}
"""


class ChaosInstallation(Installation):
    """`logs` has a file for each process. `redis_clock` is Valkey's, `worker_clock` the one of one worker."""

    def __init__(self, folder: Path, world: SandboxProcess, valkey: FaultyValkey, url: str, search: float) -> None:
        self.redis_clock = valkey.clock
        self.worker_clock = FakedClock(folder)
        super().__init__(folder, world, url, quick=_PATIENCE.format(search=search))
        # This hospital recognises a message by its ids, so that sending it again does no harm.
        resending = 'provider = "redox"\non_unknown_outcome = "resend"'
        settings = self.config.read_text().replace('provider = "redox"', resending)
        # Longer than the scanner's pauses, also on a busy machine.
        patience = f"[inbox]\nincomplete_seconds = {INCOMPLETE_SECONDS}\n"
        self.config.write_text(settings.replace("[inbox]\n", patience))
        self.valkey = valkey
        self.logs = folder / "logs"
        self.data.mkdir()
        self.logs.mkdir()

    def client(self, timeout_seconds: float = 3.0) -> redis.Redis:
        """A Redis client that neither waits long nor tries again."""
        return redis.Redis.from_url(
            self.redis_url,
            decode_responses=True,
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
            retry=Retry(NoBackoff(), 0),
        )


@contextmanager
def chaos_installed(folder: Path, search_seconds: float = SEARCH_SECONDS) -> Iterator[ChaosInstallation]:
    """An installation whose processes are not started yet."""
    with ExitStack() as stack:
        providers = ("--providers", ",".join(ACCOUNT_KINDS))
        world = stack.enter_context(SandboxProcess(*providers, validation_seconds=VALIDATION_SECONDS))
        world.world(redox_dedupe=True)
        valkey = FaultyValkey(folder / "valkey", FakedClock(folder))
        stack.callback(valkey.stop)
        stack.callback(lambda: world.world(reset=True))
        yield ChaosInstallation(folder, world, valkey, valkey.start(), search_seconds)
