"""Answers that no honest provider, storage, proxy or callback host gives.

Case n of a seed is always the same change to whatever the true answer would have been. The true answer comes from the
sandbox: what is right but for one field finds more than what is wrong altogether.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from email.utils import formatdate

from tests.hostile.messages import CANARY, packed
from tests.hostile.values import as_json, mutated, nested, odd_value

_WORDS = (
    "failed",
    "processing",
    "completed",
    "https://127.0.0.1:1/",
    "file:///etc/passwd",
    "404",
    "uploaded",
    "active",
)
_LARGE = 12_000_000  # more than any answer may have
_SLOW_SECONDS = 1.0

Header = tuple[bytes, bytes]


@dataclass
class Truth:
    """What the sandbox has answered."""

    status: int = 200
    reason: bytes = b"OK"
    headers: list[Header] = field(default_factory=list)
    body: bytes = b""

    def encoded(self, status_line: bytes = b"", *more: Header, body: bytes | None = None, length: bool = True) -> bytes:
        """As it goes over the wire, or with other parts."""
        sent = self.body if body is None else body
        line = status_line or b"HTTP/1.1 %d %s" % (self.status, self.reason)
        headers = [*self.headers, *more, *([(b"Content-Length", b"%d" % len(sent))] if length else [])]
        return line + b"\r\n" + b"".join(name + b": " + value + b"\r\n" for name, value in headers) + b"\r\n" + sent


class Line:
    """The connection to chartpost, as an answer uses it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, content: bytes) -> None:
        """Raises ConnectionError once the other side has hung up."""
        self._writer.write(content)
        await self._writer.drain()

    async def drip(self, content: bytes, pause: float = _SLOW_SECONDS) -> None:
        """A byte at a time."""
        for at in range(len(content)):
            await self.send(content[at : at + 1])
            await asyncio.sleep(pause)

    async def repeat(self, content: bytes, pause: float = 0.0) -> None:
        """Until the other side hangs up."""
        while True:
            await self.send(content)
            await asyncio.sleep(pause)

    async def hang(self) -> None:
        """Say nothing until the other side hangs up."""
        while await self._reader.read(65536):
            pass

    def reset(self) -> None:
        """End with RST."""
        self._writer.transport.abort()


Act = Callable[[Line, Truth, random.Random], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class Answer:
    """`act` gives it and returns what it was. `early`: without the request's body, and so without a true answer."""

    number: int
    kind: str
    act: Act
    rng: random.Random
    early: bool = False

    def __str__(self) -> str:
        return f"answer {self.number}: {self.kind}"


def answer(seed: int, number: int, *, slow: bool = True) -> Answer:
    """Case `number`. The first ones are the attacks that once worked. `slow`: some last until chartpost hangs up."""
    rng = random.Random(f"{seed} answer {number}")
    if slow and number < 2 * len(_SLOW):
        kind = list(_SLOW)[number % len(_SLOW)]
        return Answer(number, kind, _SLOW[kind], rng)
    kinds = [(kind, act, weight) for kind, (act, weight) in _QUICK.items()]
    kind, act, _ = rng.choices(kinds, [weight for _, _, weight in kinds])[0]
    return Answer(number, kind, act, rng, early=kind.startswith("early"))


# --- the right answer, changed ------------------------------------------------------------------------------------


async def _changed_json(line: Line, truth: Truth, rng: random.Random) -> str:
    try:
        content = json.loads(truth.body)
    except ValueError:
        return await _changed_text(line, truth, rng)
    made = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        content, what = mutated(content, rng, _WORDS)
        made.append(what)
    await line.send(truth.encoded(body=as_json(content).encode("utf-8", "surrogatepass")))
    return "; ".join(made)


async def _changed_text(line: Line, truth: Truth, rng: random.Random) -> str:
    """XML, or anything else: one stretch of it is replaced."""
    body = (
        truth.body or b"<PostResponse><Location>x</Location><Bucket>b</Bucket><Key>k</Key><ETag>e</ETag></PostResponse>"
    )
    places = [match.span(1) for match in re.finditer(rb">([^<]*)<", body)] or [(0, len(body))]
    begin, end = rng.choice(places)
    new = rng.choice(
        (
            b"",
            b"x" * 100_000,
            b"&a;",
            b"<a>" * 5000,
            b"\xff\xfe\x00",
            b"]]>",
            b"<Code>InternalError</Code>",
            b"NaN",
            b"&#0;",
        )
    )
    await line.send(truth.encoded(body=body[:begin] + new + body[end:]))
    return f"bytes {begin} to {end} are {new[:20]!r} ({len(new)})"


async def _other_body(line: Line, truth: Truth, rng: random.Random) -> str:
    body = rng.choice(_BODIES)(rng, truth.body)
    await line.send(truth.encoded(body=body))
    return f"body {body[:30]!r} ({len(body)} bytes)"


_ENTITIES = b'<!DOCTYPE a [<!ENTITY a "lol">%s]><Error><Code>&j;</Code></Error>' % b"".join(
    b'<!ENTITY %c "%s">' % (98 + each, b"&%c;" % (97 + each) * 10) for each in range(9)
)
_LISTS = (b"attachment_clients", b"patient_attachments", b"resources", b"entry", b"issue", b"fields", b"access_token")
_BODIES: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    lambda rng, true: b"",
    lambda rng, true: nested(rng).encode(),
    lambda rng, true: true[: rng.randrange(len(true) + 1)],
    lambda rng, true: true + true,
    lambda rng, true: true.decode("utf-8", "replace").encode("utf-16"),
    lambda rng, true: b"\xef\xbb\xbf" + true,
    lambda rng, true: b'{"a":' + b"9" * rng.choice((4301, 5_000_000)) + b"}",
    lambda rng, true: b"[" + b"1," * 3_000_000 + b"1]",
    lambda rng, true: b'"' + b"x" * _LARGE,
    lambda rng, true: b'{"%s":[' % rng.choice(_LISTS) + b"{}," * rng.choice((20_000, 3_000_000)) + b"{}]}",
    lambda rng, true: b'{"%s":{' % rng.choice(_LISTS) + b",".join(b'"%d":1' % each for each in range(50_000)) + b"}}",
    lambda rng, true: b"NaN",
    lambda rng, true: as_json(odd_value(rng)).encode("utf-8", "surrogatepass"),
    lambda rng, true: b"<html><title>Blocked</title>" + CANARY.encode() + b"</html>",
    lambda rng, true: _ENTITIES,
    lambda rng, true: b"<?xml version='1.0' encoding='utf-7'?><Error><Code>+ADw-</Code></Error>",
    lambda rng, true: b"<a>" * 20_000 + b"</a>" * 20_000,
    lambda rng, true: b"<Error><Code>%s</Code><Message>%s</Message></Error>" % (b"x" * 60_000, CANARY.encode()),
    lambda rng, true: rng.randbytes(rng.choice((1, 1000, 70_000))),
    lambda rng, true: true.replace(b'"', b"'"),
    lambda rng, true: true.replace(
        b"127.0.0.1", rng.choice((b"169.254.169.254", b"evil.example", b"127.0.0.1@evil.example"))
    ),
)


# --- status, headers, framing --------------------------------------------------------------------------------------


async def _status(line: Line, truth: Truth, rng: random.Random) -> str:
    status = rng.choice(
        (
            b"HTTP/1.1 %d " % rng.choice((201, 202, 203, 204, 205, 206, 207, 226, 299)),
            b"HTTP/1.1 %d x\r\nLocation: %s"
            % (rng.choice((300, 301, 302, 303, 304, 307, 308)), rng.choice(_LOCATIONS)),
            b"HTTP/1.1 %d x"
            % rng.choice((400, 401, 403, 404, 405, 408, 409, 410, 411, 412, 413, 422, 423, 428, 451, 499)),
            b"HTTP/1.1 %d x" % rng.choice((500, 501, 502, 503, 504, 505, 507, 511, 599)),
            b"HTTP/1.1 %d x\r\nRetry-After: %s" % (rng.choice((429, 503)), rng.choice(_WAITS)),
            b"HTTP/1.1 %s"
            % rng.choice((b"0 x", b"99 x", b"600 x", b"999 x", b"1000 x", b"-200 x", b"2OO x", b"", b"200")),
            b"%s 200 OK"
            % rng.choice((b"HTTP/2", b"HTTP/2.0", b"HTTP/1.0", b"HTTP/9.9", b"http/1.1", b"ICY", b"RTSP/1.0")),
            b"HTTP/1.1 200 " + rng.choice((b"\xff" * 100, b"x" * 100_000, b"O\x00K", CANARY.encode())),
        )
    )
    await line.send(truth.encoded(status))
    return repr(status[:60])


_LOCATIONS = (
    b"http://127.0.0.1:1/",
    b"file:///etc/passwd",
    b"//evil.example/",
    b"http://[::1",
    b"/" + b"a" * 70_000,
    b"",
    b"\xff\xfe",
)
_WAITS = (b"0", b"1", b"-1", b"NaN", b"1e9", b"", b"Wed, 21 Oct 1815 07:28:00 GMT", b"soon", b"9" * 20, b"0.5", b"1, 1")


async def _headers(line: Line, truth: Truth, rng: random.Random) -> str:
    what, lines = rng.choice(_HEADERS)(rng)
    head, _, body = truth.encoded().partition(b"\r\n")
    await line.send(head + b"\r\n" + lines + body)
    return what


_HEADERS: tuple[Callable[[random.Random], tuple[str, bytes]], ...] = (
    lambda rng: ("200 headers", b"".join(b"X-%d: y\r\n" % each for each in range(200))),
    lambda rng: ("100,000 headers", b"X: y\r\n" * 100_000),
    lambda rng: ("a header of 5 MB", b"X: " + b"y" * 5_000_000 + b"\r\n"),
    lambda rng: ("a header's name of 1 MB", b"X" * 1_000_000 + b": y\r\n"),
    lambda rng: ("a line without colon", b"no colon here\r\n"),
    lambda rng: ("a folded line", b"X: y\r\n  z\r\n"),
    lambda rng: ("NUL", b"X: a\x00b\r\n"),
    lambda rng: ("bare LF", b"X: a\nY: b\n"),
    lambda rng: ("bare CR", b"X: a\rY: b\r\n"),
    lambda rng: ("no name", b": y\r\n"),
    lambda rng: ("bytes", rng.randbytes(200).replace(b"\n", b"") + b"\r\n"),
    lambda rng: (
        "Content-Type",
        b"Content-Type: %s\r\n" % rng.choice((b"text/html", b"\xff", b"", b"a" * 70_000, b";charset=x")),
    ),
    lambda rng: ("ETag", b"ETag: %s\r\n" % rng.choice((b"", b'"', b"\xff", b"x" * 70_000))),
    lambda rng: (
        "Date",
        b"Date: %s\r\n" % rng.choice((b"x", b"", formatdate(rng.choice((0, 2**33))).encode(), b"9" * 5000)),
    ),
    lambda rng: ("Location", b"Location: %s\r\n" % rng.choice(_LOCATIONS)),
    lambda rng: ("X-RateLimit-Reset", b"X-RateLimit-Reset: %s\r\n" % rng.choice(_WAITS)),
    lambda rng: ("Set-Cookie", b"Set-Cookie: a=b; Domain=.example\r\n" * 500),
    lambda rng: (
        "WWW-Authenticate",
        b"WWW-Authenticate: %s\r\n" % rng.choice((b"DPoP error=", b"x" * 70_000, b'Basic realm="')),
    ),
    lambda rng: ("DPoP-Nonce", b"DPoP-Nonce: %s\r\n" % rng.choice((b"", b"\xff", b"x" * 70_000, b"a b", b'"'))),
    lambda rng: ("Link", b"Link: <http://evil.example/>; rel=next\r\n" * 3000),
    lambda rng: ("Connection: Upgrade", b"Connection: Upgrade\r\nUpgrade: h2c, websocket\r\n"),
    lambda rng: ("Keep-Alive", b"Keep-Alive: timeout=%s\r\n" % rng.choice((b"-1", b"x", b"9" * 30))),
)


async def _framing(line: Line, truth: Truth, rng: random.Random) -> str:
    what, lines, body = rng.choice(_FRAMINGS)(rng, truth.body)
    await line.send(truth.encoded(length=False, body=b"")[:-2] + lines + b"\r\n\r\n" + body)
    return what


def _chunk(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(body), body)


_CHUNKED = b"Transfer-Encoding: chunked"
_FRAMINGS: tuple[Callable[[random.Random, bytes], tuple[str, bytes, bytes]], ...] = (
    lambda rng, true: ("longer than it is", b"Content-Length: %d" % (len(true) + rng.choice((1, 10**6))), true),
    lambda rng, true: ("shorter than it is", b"Content-Length: %d" % (len(true) // 2), true),
    lambda rng, true: (
        "no length",
        b"Content-Length: " + rng.choice((b"-1", b"x", b"", b"1e3", b"0x10", b"+5", b"9" * 30, b"5, 6", b"5;")),
        true,
    ),
    lambda rng, true: ("two lengths", b"Content-Length: %d\r\nContent-Length: 3" % len(true), true),
    lambda rng, true: ("no length, to the end", b"X: y", true),
    lambda rng, true: ("chunked and a length", b"Content-Length: 3\r\n" + _CHUNKED, _chunk(true) + b"0\r\n\r\n"),
    lambda rng, true: ("chunked, as it should be", _CHUNKED, _chunk(true) + b"0\r\n\r\n" if true else b"0\r\n\r\n"),
    lambda rng, true: ("chunked without end", _CHUNKED, _chunk(true)),
    lambda rng, true: (
        "a chunk of no size",
        _CHUNKED,
        rng.choice((b"xyz", b"-5", b"", b"f" * 30, b"5 5", b"0x5")) + b"\r\n" + true,
    ),
    lambda rng, true: ("a chunk's extension of 1 MB", _CHUNKED, b"5;" + b"e" * 1_000_000 + b"\r\nabcde\r\n0\r\n\r\n"),
    lambda rng, true: ("100,000 chunks of a byte", _CHUNKED, b"1\r\n \r\n" * 100_000 + b"0\r\n\r\n"),
    lambda rng, true: ("100,000 trailers", _CHUNKED, _chunk(b"{}") + b"0\r\n" + b"X: y\r\n" * 100_000 + b"\r\n"),
    lambda rng, true: (
        "an unknown coding of the transfer",
        b"Transfer-Encoding: " + rng.choice((b"gzip", b"x", b"chunked, chunked")),
        true,
    ),
    lambda rng, true: (
        "a second answer behind it",
        b"Content-Length: %d" % len(true),
        true + b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ),
    lambda rng, true: ("bytes behind it", b"Content-Length: %d" % len(true), true + b"\x00" * 70_000),
)


async def _coding(line: Line, truth: Truth, rng: random.Random) -> str:
    name, body = rng.choice(_CODINGS)(rng, truth.body)
    await line.send(truth.encoded(b"", (b"Content-Encoding", name), body=body))
    return f"{name!r}, {len(body)} bytes"


_BOMBS: list[bytes] = []


def prepare() -> None:
    """Make what takes long to make. Gigabytes of blanks, packed twice, are a few kilobytes."""
    if not _BOMBS:
        _BOMBS.append(gzip.compress(packed(1000), 9))


_CODINGS: tuple[Callable[[random.Random, bytes], tuple[bytes, bytes]], ...] = (
    lambda rng, true: (b"gzip", gzip.compress(true)),
    lambda rng, true: (b"gzip", true),
    lambda rng, true: (b"gzip", gzip.compress(true)[:-9]),
    lambda rng, true: (b"deflate", rng.randbytes(500)),
    lambda rng, true: (b"identity", true),
    lambda rng, true: (b", ".join([b"gzip"] * 200), gzip.compress(true)),
    lambda rng, true: (rng.choice((b"br", b"zstd", b"compress", b"x", b"", b"\xff")), true),
    lambda rng, true: (b"gzip", packed(300)),
    lambda rng, true: (b"gzip, gzip", _BOMBS[0]),
)


# --- connections -----------------------------------------------------------------------------------------------------


async def _connection(line: Line, truth: Truth, rng: random.Random) -> str:
    true = truth.encoded()
    what = rng.choice(
        ("closed", "reset", "closed within", "reset within", "no HTTP", "HTTP/0.9", "TLS", "true, then reset")
    )
    if what in ("closed within", "reset within"):
        await line.send(true[: rng.randrange(1, max(2, len(true)))])
    elif what == "no HTTP":
        await line.send(
            rng.choice((b"220 mail ESMTP\r\n", b"SSH-2.0-x\r\n", b"\x00" * 100, rng.randbytes(1000), b"\r\n" * 1000))
        )
    elif what == "HTTP/0.9":
        await line.send(truth.body)
    elif what == "TLS":
        await line.send(b"\x15\x03\x01\x00\x02\x02\x46" + rng.randbytes(30))
    elif what == "true, then reset":
        await line.send(true)
    if "reset" in what:
        line.reset()
    return what


async def _interim(line: Line, truth: Truth, rng: random.Random) -> str:
    status = rng.choice((b"100 Continue", b"102 Processing", b"103 Early Hints", b"101 Switching Protocols", b"199 x"))
    times = rng.choice((1, 3, 50, 20_000))
    await line.send(b"HTTP/1.1 %s\r\nLink: </x>\r\n\r\n" % status * times)
    await line.send(truth.encoded())
    return f"{times} times {status.decode()}, then the true answer"


async def _early(line: Line, truth: Truth, rng: random.Random) -> str:
    status = rng.choice(
        (b"200 OK", b"201 Created", b"204 No", b"307 x\r\nLocation: /", b"403 No", b"413 Large", b"500 x", b"100 C")
    )
    await line.send(b"HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n" % status)
    await asyncio.sleep(rng.choice((0.0, 0.2)))
    if rng.random() < 0.5:
        line.reset()
    return f"{status[:20]!r} before the body was read"


_QUICK: dict[str, tuple[Act, int]] = {
    "a field of the true answer": (_changed_json, 50),
    "another body": (_other_body, 10),
    "status": (_status, 10),
    "headers": (_headers, 8),
    "framing": (_framing, 8),
    "content coding": (_coding, 3),
    "connection": (_connection, 6),
    "1xx": (_interim, 3),
    "early": (_early, 2),
}


# --- answers that never end ----------------------------------------------------------------------------------------


def _endless(what: str, beginning: Callable[[Truth], bytes], then: bytes, pause: float = 0.0) -> tuple[str, Act]:
    async def act(line: Line, truth: Truth, rng: random.Random) -> str:
        await line.send(beginning(truth))
        await line.repeat(then, pause)
        return what

    return what, act


async def _dripping_head(line: Line, truth: Truth, rng: random.Random) -> str:
    await line.drip(truth.encoded(b"", (b"X", b"y" * 3600)))
    return "a byte a second from the first on"


async def _dripping_body(line: Line, truth: Truth, rng: random.Random) -> str:
    await line.send(truth.encoded(body=b"")[: -len(b"Content-Length: 0\r\n\r\n")] + b"Content-Length: 3600\r\n\r\n")
    await line.drip(b" " * 3600)
    return "the body's bytes one a second"


async def _silent(line: Line, truth: Truth, rng: random.Random) -> str:
    await line.hang()
    return "no answer"


async def _silent_within(line: Line, truth: Truth, rng: random.Random) -> str:
    await line.send(truth.encoded()[:20])
    await line.hang()
    return "twenty bytes, then nothing"


def _head(*lines: bytes) -> Callable[[Truth], bytes]:
    return lambda truth: b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"", b""))


_HINT = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
_GZIP = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"
_SLOW: dict[str, Act] = dict(
    (
        ("header bytes, one a second", _dripping_head),
        ("body bytes, one a second", _dripping_body),
        ("silence", _silent),
        ("silence within the head", _silent_within),
        _endless("103 for ever, one a second", lambda _: b"", _HINT, _SLOW_SECONDS),
        _endless("103 for ever, a flood", lambda _: b"", _HINT * 1000),
        _endless("100 for ever", lambda _: b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.1),
        _endless("headers for ever", lambda _: b"HTTP/1.1 200 OK\r\n", b"X: y\r\n" * 1000),
        _endless("a header for ever", lambda _: b"HTTP/1.1 200 OK\r\nX: ", b"y" * 65_536),
        _endless("a status line for ever", lambda _: b"HTTP/1.1 200 ", b"y" * 65_536),
        _endless("a body for ever", _head(b"X: y"), b" " * 65_536),
        _endless("chunks for ever", _head(_CHUNKED), _chunk(b" " * 1000)),
        _endless("a chunk's extension for ever", _head(_CHUNKED), b"5;" + b"e" * 65_536),
        _endless("trailers for ever", lambda truth: _head(_CHUNKED)(truth) + b"0\r\n", b"X: y\r\n" * 1000),
        _endless(
            "empty deflate blocks for ever", _head(b"Content-Encoding: deflate"), b"\x00\x00\x00\xff\xff" * 1000, 0.01
        ),
        _endless(
            "a gzip header for ever", _head(b"Content-Encoding: gzip"), b"\x1f\x8b\x08\x08" + b"x" * 8, _SLOW_SECONDS
        ),
        _endless(
            "gzip of nothing for ever",
            lambda truth: _head(b"Content-Encoding: gzip")(truth) + _GZIP,
            b"\x00\x00\x00\xff\xff",
            0.1,
        ),
        _endless("blank lines for ever", lambda _: b"", b"\r\n" * 100, 0.1),
    )
)
