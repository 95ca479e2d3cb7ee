"""The hostile server: a provider's API, its storage, a callback host and a proxy, in raw bytes on one port.

It asks the sandbox for the true answer, and gives that or changes it. Paths that begin with `/called-back` have none.
"""

from __future__ import annotations

import asyncio
import base64
import random
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import httpx

from tests.hostile import answers
from tests.hostile.answers import Answer, Line, Truth

PREFIX = re.compile(r"sick[0-9]+-")  # stands before the keys of sick accounts, so that each has a rate limit of its own
CALLBACKS = "/called-back"

_LARGEST_HEAD = 1_000_000
_TRUTHS_SHARE = 0.4  # else no document would come as far as the storage
_LATEST_SECONDS = 900.0
_HOP_BY_HOP = (
    "connection",
    "content-length",
    "keep-alive",
    "proxy-authorization",
    "proxy-connection",
    "transfer-encoding",
)


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that was given."""

    answer: Answer
    asked: str
    what: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.answer} to {self.asked}: {self.what} ({self.seconds:.1f} s)"


@dataclass
class Storm:
    """Which answers are to be given: `first` to `first + count - 1`, or `only` one, again and again."""

    seed: int
    count: int
    only: int | None = None
    only_to: str = ""  # in the request's line
    slow: bool = True
    begun: int = 0
    given: deque[Given] = field(default_factory=lambda: deque(maxlen=200))
    kinds: Counter[str] = field(default_factory=Counter)
    open: dict[int, str] = field(default_factory=dict)

    def next(self, asked: str, rng: random.Random) -> Answer | None:
        """The answer to this request; None: the true one."""
        if (
            self.begun >= self.count
            or self.only_to not in asked
            or "/_sandbox" in asked
            or rng.random() < _TRUTHS_SHARE
        ):
            return None
        number = self.begun if self.only is None else self.only
        self.begun += 1
        return answers.answer(self.seed, number, slow=self.slow)


class HostileServer:
    """Listens in a thread of its own. Without a storm its answers are true."""

    def __init__(self, truth: str = "") -> None:
        self.truth = truth  # the sandbox's address
        self.storm: Storm | None = None
        self.port = 0
        self.requests = 0
        self._loop = asyncio.new_event_loop()
        self._chance = random.Random(0)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @contextmanager
    def listening(self, port: int) -> Iterator[None]:
        answers.prepare()
        thread = threading.Thread(target=self._loop.run_forever, name="hostile-server", daemon=True)
        thread.start()
        starting = asyncio.start_server(self._serve, "127.0.0.1", port, limit=_LARGEST_HEAD, backlog=1000)
        server = asyncio.run_coroutine_threadsafe(starting, self._loop).result(10)
        self.port = port
        self._client = httpx.AsyncClient(trust_env=False, timeout=60, limits=httpx.Limits(max_connections=None))
        try:
            yield
        finally:
            asyncio.run_coroutine_threadsafe(self._end(server), self._loop).result(20)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join(20)

    async def _end(self, server: asyncio.Server) -> None:
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = Line(reader, writer)
        gone = (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError, TimeoutError)
        with suppress(*gone, ValueError, httpx.HTTPError):
            while await self._answer_one(reader, writer, line):
                pass
        with suppress(OSError):
            writer.close()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, line: Line) -> bool:
        """Read one request and answer it; whether the connection may be used again."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head[:-4].split("\r\n")
        method, target, _ = request.split(" ", 2)
        headers = [(name, value.strip()) for name, _, value in (each.partition(":") for each in lines)]
        asked = f"{method} {target[:100]}"
        self.requests += 1
        storm = self.storm
        answer = storm.next(asked, self._chance) if storm else None
        if answer and answer.early:
            await self._give(storm, answer, asked, line, Truth())
            return False
        if method == "CONNECT":
            return await self._connect(target, storm, answer, asked, reader, line)
        body = await _body(reader, headers)
        truth = await self._true_answer(method, target, headers, body)
        if answer:
            await self._give(storm, answer, asked, line, truth)
            return False
        await line.send(truth.encoded())
        return True

    async def _give(self, storm: Storm | None, answer: Answer, asked: str, line: Line, truth: Truth) -> None:
        assert storm
        began, what = time.monotonic(), "ended by chartpost"
        storm.open[answer.number] = f"{answer} to {asked}"
        try:
            async with asyncio.timeout(_LATEST_SECONDS):
                what = await answer.act(line, truth, answer.rng)
        finally:
            storm.open.pop(answer.number, None)
            storm.kinds[answer.kind] += 1
            storm.given.append(Given(answer, asked, what, time.monotonic() - began))

    async def _true_answer(self, method: str, target: str, headers: list[tuple[str, str]], body: bytes) -> Truth:
        path = re.sub(r"^http://[^/]*", "", target)  # as proxies are asked
        if path.startswith(CALLBACKS):
            return Truth()
        passed = [(name, _honest(name, value)) for name, value in headers if name.lower() not in _HOP_BY_HOP]
        if b"sick" in body[:10_000] and not body.startswith(b"--"):
            body = PREFIX.sub("", body.decode("latin-1")).encode("latin-1")
        answer = await self._client.request(method, self.truth + path, headers=passed, content=body)
        kept = [(name, value) for name, value in answer.headers.raw if name.decode().lower() not in _HOP_BY_HOP]
        return Truth(answer.status_code, answer.reason_phrase.encode(), kept, answer.content)

    async def _connect(
        self,
        target: str,
        storm: Storm | None,
        answer: Answer | None,
        asked: str,
        reader: asyncio.StreamReader,
        line: Line,
    ) -> bool:
        """As a proxy: a tunnel, or another answer to the wish for one."""
        if answer:
            await self._give(storm, answer, asked, line, Truth())
            return False
        host, _, port = target.rpartition(":")
        there_reader, there_writer = await asyncio.open_connection(host, int(port))
        await line.send(b"HTTP/1.1 200 Connection established\r\n\r\n")

        async def forth() -> None:
            while block := await reader.read(65_536):
                there_writer.write(block)
                await there_writer.drain()
            there_writer.close()

        async def back() -> None:
            while block := await there_reader.read(65_536):
                await line.send(block)

        await asyncio.gather(forth(), back())
        return False


async def _body(reader: asyncio.StreamReader, headers: list[tuple[str, str]]) -> bytes:
    given = {name.lower(): value for name, value in headers}
    if "chunked" in given.get("transfer-encoding", ""):
        body = b""
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readuntil(b"\r\n")
        return body
    return await reader.readexactly(int(given.get("content-length", "0")))


def _honest(name: str, value: str) -> str:
    """A header without the prefix of a sick account's key."""
    if name.lower() == "authorization" and value.startswith("Basic "):
        with suppress(ValueError):
            user = base64.b64decode(value[6:]).decode("latin-1")
            return "Basic " + base64.b64encode(PREFIX.sub("", user).encode("latin-1")).decode()
    return PREFIX.sub("", value)
