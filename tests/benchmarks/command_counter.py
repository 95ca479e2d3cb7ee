"""Counts the commands that clients send to Redis, in a process between them and the server.

The server cannot tell: `total_commands_processed`, `commandstats`, the slow log and `tot-cmds` of `CLIENT LIST` count
the commands inside a script as well as the call of the script (Valkey 9.1), and MONITOR would slow the server
down. What this process counts is what came over the wire; the difference to the server's own count is what ran inside
scripts.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from urllib.parse import urlsplit, urlunsplit

from worker.supervisor.fork import die_with_parent

_BLOCK = 1 << 16


class CommandParser:
    """Counts the commands in a stream of bytes that comes in pieces. `counts` is by the command's name.

    A command is an array of strings: https://valkey.io/topics/protocol#sending-commands-to-a-valkey-server
    """

    def __init__(self, counts: Counter[str]) -> None:
        self._counts = counts
        self._rest = b""
        self._strings = 0  # that the present command still has to come
        self._first = False
        self._skip = 0  # bytes of a string that has not come whole

    def feed(self, piece: bytes) -> None:
        data = self._rest + piece
        at = 0
        while True:
            if self._skip:
                passed = min(self._skip, len(data) - at)
                at, self._skip = at + passed, self._skip - passed
                if self._skip:
                    break
            end = data.find(b"\r\n", at)
            if end < 0:
                break
            kind, number = data[at : at + 1], int(data[at + 1 : end])
            if kind == b"*":
                self._strings, self._first = number, True
            elif self._first:
                if len(data) < end + 4 + number:
                    break  # the name counts once it is here whole
                name = data[end + 2 : end + 2 + number]
                self._counts[name.decode("ascii", "replace").lower()] += 1
                self._first = False
                self._skip = number + 2
            else:
                self._skip = number + 2
            at = end + 2
        self._rest = data[at:]


class CommandCounter:
    """`url` leads to the server by way of the counting process."""

    def __init__(self, url: str, connection: Connection, process: multiprocessing.Process) -> None:
        self.url = url
        self._connection = connection
        self._process = process

    def counts(self) -> Counter[str]:
        """The commands until now, by name."""
        self._connection.send("counts")
        return Counter(json.loads(self._connection.recv()))


@contextmanager
def counting(redis_url: str) -> Iterator[CommandCounter]:
    parts = urlsplit(redis_url)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        ours, theirs = multiprocessing.Pipe()
        target = (parts.hostname or "127.0.0.1", parts.port or 6379)
        process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(listener, target, theirs), daemon=True
        )
        process.start()
    credentials = parts.netloc.rpartition("@")[0]
    netloc = f"{credentials}@127.0.0.1:{port}" if credentials else f"127.0.0.1:{port}"
    try:
        yield CommandCounter(urlunsplit(parts._replace(netloc=netloc)), ours, process)  # type: ignore[arg-type]
    finally:
        process.terminate()
        process.join()


def _serve(listener: socket.socket, target: tuple[str, int], connection: Connection) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # not as the measurement has it
    die_with_parent()
    counts: Counter[str] = Counter()

    async def serve() -> None:
        server = await asyncio.start_server(forward, sock=listener)
        asyncio.get_running_loop().add_reader(connection.fileno(), answer)
        await server.serve_forever()

    def answer() -> None:
        with suppress(EOFError):
            connection.recv()
            connection.send(json.dumps(counts))

    async def forward(from_client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        from_server, to_server = await asyncio.open_connection(*target)
        parser = CommandParser(counts)
        with suppress(OSError):
            await asyncio.gather(_copy(from_client, to_server, parser), _copy(from_server, to_client))

    asyncio.run(serve())


async def _copy(source: asyncio.StreamReader, drain: asyncio.StreamWriter, parser: CommandParser | None = None) -> None:
    try:
        while piece := await source.read(_BLOCK):
            if parser:
                parser.feed(piece)
            drain.write(piece)
            await drain.drain()
    finally:
        with suppress(OSError):
            drain.close()
