"""Passes one form on to the engine, over a connection of its own that is cut when the client's is."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass
from email.message import Message
from http.client import parse_headers

from sandbox.s3.engine import LOOPBACK
from sandbox.s3.errors import S3Error


@dataclass(frozen=True)
class EngineAnswer:
    """The engine's answer to a form, read to its end."""

    status: int
    headers: Message
    body: bytes

    @property
    def stored(self) -> bool:
        return 200 <= self.status < 300


async def pass_on(port: int, head: bytes, blocks: AsyncIterator[bytes]) -> EngineAnswer:
    """Send a request whose body is `blocks`. If they raise, the connection is cut, and the engine stores nothing."""
    try:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
    except OSError as gone:
        raise S3Error("ServiceUnavailable") from gone
    answer = asyncio.ensure_future(_read_answer(reader))
    # If `blocks` raises, the answer is never awaited; asyncio would log its exception unless that is retrieved here.
    answer.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        writer.write(head)
        await _write_until_answered(writer, blocks, answer)
        return await answer
    except asyncio.IncompleteReadError as gone:
        raise S3Error("InternalError") from gone
    finally:
        answer.cancel()
        writer.transport.abort()


async def _write_until_answered(
    writer: asyncio.StreamWriter, blocks: AsyncIterator[bytes], answer: "asyncio.Future[EngineAnswer]"
) -> None:
    """Stops early if the engine refuses before it has read everything."""
    async for block in blocks:
        if answer.done():
            return
        writer.write(block)
        with suppress(ConnectionError):  # the answer tells more than the failed write
            await writer.drain()


def request_head(path: str, headers: dict[str, str]) -> bytes:
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "Connection: close"]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


async def _read_answer(reader: asyncio.StreamReader) -> EngineAnswer:
    head = await reader.readuntil(b"\r\n\r\n")
    status_line, _, header_lines = head.partition(b"\r\n")
    headers = parse_headers(io.BytesIO(header_lines))
    return EngineAnswer(int(status_line.split()[1]), headers, await reader.read())
