"""What a server can do to a connection instead of answering on it."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import NoReturn

from aiohttp import web

CHECK_EVERY_SECONDS = 0.05


class ConnectionCut(Exception):
    """The request must end in a reset instead of an answer."""


def reset(request: web.Request) -> None:
    """Reset the client's connection (RST instead of FIN): what the client has not read yet is lost to it."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    # To linger for zero seconds is what makes the kernel send RST on close (socket(7)).
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


async def hang(request: web.Request, still_down: Callable[[], bool]) -> NoReturn:
    """Keep the client waiting until the outage is over or the client has gone; then cut the connection."""
    while still_down() and request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(CHECK_EVERY_SECONDS)
    raise ConnectionCut
