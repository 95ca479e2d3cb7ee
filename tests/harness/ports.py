"""Ports of loopback for servers that are started a moment later, or again and again."""

from __future__ import annotations

import random
import socket

# Below what Linux and macOS give to outgoing connections: else the next connection of anyone may take such a port.
_LOWEST, _HIGHEST = 12_000, 30_000


def free_port() -> int:
    """One that nobody has, and that nobody is given who does not ask for it by its number."""
    while True:
        port = random.SystemRandom().randint(_LOWEST, _HIGHEST)  # pytest-randomly and the like seed the other one
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def free_ports(count: int) -> list[int]:
    found: set[int] = set()
    while len(found) < count:
        found.add(free_port())
    return list(found)
