"""What can be done to a connection besides answering on it."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import NoReturn

from aiohttp import web

LOOKS_EVERY_SECONDS = 0.05


class ConnectionCut(Exception):
    """The request is to end in a reset instead of an answer."""


def reset(request: web.Request) -> None:
    """Reset the client's connection (RST instead of FIN), so that what it has not read yet is lost to it."""
    if request.transport is None:
        return
    connection = request.transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    request.transport.abort()


async def hang(request: web.Request, still: Callable[[], bool]) -> NoReturn:
    """Keep the client waiting until the world is well again or the client has gone; then cut the connection."""
    while still() and request.transport is not None and not request.transport.is_closing():
        await asyncio.sleep(LOOKS_EVERY_SECONDS)
    raise ConnectionCut
