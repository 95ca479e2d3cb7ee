"""`chartpost check`: the streams that other services add documents to still take entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import redis

from worker.cli.commands.check.result import CheckResult, failed, passed

# https://redis.io/docs/latest/commands/xadd/#specifying-a-stream-id-as-an-argument: time and number, 64 bits each.
_LAST_TIME = 2**64 - 1


def check_streams(client: redis.Redis, streams: Iterable[str]) -> Iterator[CheckResult]:
    """Whoever may add entries may also choose an id, and after the largest one Redis takes no entry any more."""
    faults = [fault for stream in streams if (fault := _fault(client, stream))]
    yield from (failed("intake", fault) for fault in faults)
    if not faults:
        yield passed("intake", "Every stream for documents takes entries.")


def _fault(client: redis.Redis, stream: str) -> str | None:
    try:
        told: Any = client.xinfo_stream(stream)
    except redis.ResponseError:
        return None  # nobody has added anything yet, or the user of redis.url may not ask
    if int(str(told["last-generated-id"]).partition("-")[0]) < _LAST_TIME:
        return None
    waiting = int(told["length"])
    remedy = f"delete its key (DEL {stream}), and the intake makes it again"
    if waiting:
        remedy = f"wait until the intake has read what it still holds ({waiting}), then {remedy}"
    return (
        f"An entry with the largest possible id was added to {stream}, after which Redis takes no other: {remedy}. "
        "Give each producer a user and a stream of its own, so that it can do this to itself alone."
    )
