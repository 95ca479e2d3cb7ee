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


class Filtered(Exception):
    """A web filter, not the server, answers the request: with 200 and a page."""


BLOCK_PAGE = (
    "<!DOCTYPE html>\n<html><head><title>Access to this site is restricted</title></head>\n"
    "<body><h1>This page has been blocked</h1><p>Ask your administrator.</p></body></html>\n"
)


async def filters_answer(request: web.Request) -> web.Response:
    """Answer as web filters and captive portals do, once the whole request has come. The ETag is nginx's of a file."""
    async for _ in request.content.iter_any():
        pass
    headers = {"Server": "nginx", "ETag": '"5f3b1c2d-108"', "Cache-Control": "no-cache"}
    return web.Response(text=BLOCK_PAGE, content_type="text/html", charset="utf-8", headers=headers)


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
