"""What Redis does for a document, and what a waiting job takes of its memory."""

from __future__ import annotations

import random
from pathlib import Path

import redis

from tests.benchmarks import rig, stream
from tests.benchmarks.command_counter import counting
from tests.benchmarks.documents import small_documents
from tests.benchmarks.options import Options
from tests.benchmarks.progress import say
from tests.benchmarks.rig import Installation, Product
from tests.benchmarks.table import Row
from tests.harness.sandbox import SandboxProcess

_DOCUMENTS = 300
_WARM_UP = 20
_WAITING = 2000
_SERVED_BEFORE = 100  # so that scripts are loaded, and tables begun


def measure(options: Options, folder: Path) -> list[Row]:
    with SandboxProcess("--providers", "pracsuite") as world:
        return [*commands(options, folder, world), waiting(folder, world)]


def commands(options: Options, folder: Path, world: SandboxProcess) -> list[Row]:
    """What the sender and this measurement send goes through a counter of its own, and is subtracted."""
    count = (options.documents or (_DOCUMENTS,))[0]
    chance, documents = random.Random(options.seed), rig.documents_of(folder)
    with (
        rig.fresh_valkey(folder / "counted-redis") as url,
        counting(url) as theirs,
        counting(url) as ours,
        rig.started(installation := Installation(folder / "counted", world, ours.url), "run") as part,
    ):
        rig.wait_until_ready(part)
        product, server = Product(installation, part, theirs.url), redis.Redis.from_url(theirs.url)
        with small_documents(documents, min(_WARM_UP, count), (0.2, 0.2), chance) as warm_up:
            product.deliver(warm_up)
        with small_documents(documents, count, options.validation, chance) as sent:
            before, before_theirs, before_in_all = ours.counts(), theirs.counts().total(), processed(server)
            product.deliver(sent)
            from_clients = ours.counts() - before
            in_all = processed(server) - before_in_all - (theirs.counts().total() - before_theirs)
    most = ", ".join(f"{name} {number / count:.1f}" for name, number in from_clients.most_common(4))
    say(f"redis: {count} documents, by command: {dict(from_clients.most_common())}")
    return [
        Row("Redis commands a document, from clients", from_clients.total() / count, "commands", 26, detail=most),
        Row("Redis commands a document, with those inside scripts", in_all / count, "commands", 130),
    ]


def processed(server: redis.Redis) -> int:
    return int(server.info("stats")["total_commands_processed"])


def waiting(folder: Path, world: SandboxProcess) -> Row:
    """The jobs are opened by the intake, and no worker runs."""
    with rig.fresh_valkey(folder / "waiting-redis") as url:
        installation, server = Installation(folder / "waiting", world, url), redis.Redis.from_url(url)
        with rig.started(installation, "intake"):
            stream.add(server, installation, 0, _SERVED_BEFORE)
            stream.wait_until_opened(server, _SERVED_BEFORE)
            before = int(server.info("memory")["used_memory"])
            say(f"redis: {_WAITING} waiting jobs")
            stream.add(server, installation, _SERVED_BEFORE, _WAITING)
            stream.wait_until_opened(server, _SERVED_BEFORE + _WAITING)
            grown = int(server.info("memory")["used_memory"]) - before
    return Row("Redis bytes a waiting job", grown / _WAITING, "bytes", at_most=1600)
