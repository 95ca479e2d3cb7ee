"""Messages that no honest caller sends: Celery's of both protocols for the queue, and entries for the stream.

Case n of a seed is always the same message. First come the attacks that once worked, then mutations by a grammar of
what such a message is made of, and every tenth one is hypothesis's own.
"""

from __future__ import annotations

import base64
import json
import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

import hypothesis
from hypothesis import HealthCheck, Phase, strategies

from tests.hostile.values import Raw, as_json, brief, mutated, nested, odd_value

QUEUE = "chartpost"
STREAM = "chartpost:intake"
CANARY = "qzkanarienvogel"  # stands in patients' ids, file names and ids of tasks: it must be in no log

_HYPOTHESIS_EVERY = 10
_STREAM_EVERY = 4
_BUILT_IN = (
    "celery.map",
    "celery.starmap",
    "celery.chunks",
    "celery.group",
    "celery.chain",
    "celery.chord",
    "celery.chord_unlock",
    "celery.backend_cleanup",
    "celery.accumulate",
    "celery.ping",
)
_STAGES = ("presign", "post", "register", "confirm", "notify")
_TASKS = ("chartpost.upload", "chartpost.relabel", *(f"chartpost.{name}" for name in _STAGES), *_BUILT_IN)
_KEYS = ("chartpost.stages", "chartpost:due:healthy", "chartpost:jobs", "unacked", "unacked_index", "celeryev")
_CODINGS = ("application/x-gzip", "application/x-bz2", "application/zstd", "gzip", "zlib", "utf-16", "base64", "rot13")
_TYPES = ("application/x-python-serialize", "application/x-yaml", "text/plain", "application/octet-stream", "pickle")
_WORDS = (*_TASKS, *_KEYS, *_CODINGS, *_TYPES, f"{CANARY}-word", "00000000-0000-0000-0000-000000000000")


@dataclass(frozen=True, slots=True)
class Message:
    """`content` is pushed to the queue as it is, or the entry's field `job`. `fields` replaces that for a stream's."""

    number: int
    what: str
    target: str
    content: bytes
    fields: dict[bytes, bytes] | None = None

    def entry(self) -> dict[Any, Any]:
        return {b"job": self.content} if self.fields is None else dict(self.fields)

    def __str__(self) -> str:
        return f"message {self.number} to {self.target}: {self.what}"


@dataclass(frozen=True, slots=True)
class Grounds:
    """What the messages of a campaign speak of: accounts, a folder of callers' documents, and our own folder."""

    accounts: tuple[str, ...]
    documents: str  # file:// address of the callers' folder, which holds `mutant.pdf`
    data: str  # file:// address of data_dir


class Messages:
    """The messages of one campaign."""

    def __init__(self, seed: int, count: int, grounds: Grounds) -> None:
        self._seed = seed
        self._count = count
        self._grounds = grounds
        self._hypothesis = generated(count // _HYPOTHESIS_EVERY + 1, seed)
        self._known = tuple(_known_attacks(grounds))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Message:
        rng = random.Random(f"{self._seed} message {number}")
        if number < len(self._known):
            what, target, content = self._known[number]
            return Message(number, what, target, content)
        if number % _HYPOTHESIS_EVERY == 0:
            content = self._hypothesis[number // _HYPOTHESIS_EVERY % len(self._hypothesis)]
            target = STREAM if number % (2 * _HYPOTHESIS_EVERY) == 0 else QUEUE
            return Message(number, f"hypothesis: {ascii(content[:80])[2:-1]}", target, content)
        if number % _STREAM_EVERY == 1:
            return _stream_entry(number, rng, self._grounds)
        what, content = _queue_entry(rng, self._grounds)
        return Message(number, what, QUEUE, content)


# --- what an honest caller sends ---------------------------------------------------------------------------------


def request(rng: random.Random, grounds: Grounds) -> dict[str, Any]:
    """The fields of a call that is in order; PracSuite refuses those that describe a document further."""
    more = {"content_type": "application/pdf", "description": "a letter", "options": {"case_id": "1"}}
    return {
        "account": rng.choice(grounds.accounts),
        "patient_id": f"{CANARY}-{rng.randrange(10**6)}",
        "source": f"{grounds.documents}/mutant.pdf",
        "file_name": f"{CANARY} {rng.randrange(10**6)}.pdf",
        "idempotency_key": f"{CANARY}-{rng.randrange(10**9)}",
        "delete_source": False,
        "as_it_is": False,
        **(more if rng.random() < 0.5 else {}),
    }


def second_protocol(task: str, task_id: Any, kwargs: Any, rng: random.Random) -> dict[str, Any]:
    """A message as Celery sends it today. Its body is still to be encoded."""
    return {
        "body": [[], kwargs, {"callbacks": None, "errbacks": None, "chain": None, "chord": None}],
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": task,
            "id": task_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": task_id,
            "parent_id": None,
            "argsrepr": "()",
            "kwargsrepr": "{}",
            "origin": f"{CANARY}@caller",
            "ignore_result": False,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": str(UUID(int=rng.getrandbits(128), version=4)),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": QUEUE},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(UUID(int=rng.getrandbits(128), version=4)),
        },
    }


def first_protocol(task: str, task_id: Any, kwargs: Any, rng: random.Random) -> dict[str, Any]:
    """A message as Celery sent it before version 4."""
    message = second_protocol(task, task_id, kwargs, rng)
    parts = ("eta", "expires", "group", "retries", "timelimit")
    body = {"task": task, "id": task_id, "args": [], "kwargs": kwargs, "utc": True, "callbacks": None}
    body |= {name: message["headers"][name] for name in parts} | {"errbacks": None, "taskset": None, "chord": None}
    return {**message, "body": body, "headers": {}}


def encoded(message: dict[str, Any]) -> bytes:
    """As it stands in the queue."""
    body = as_json(message["body"]).encode("utf-8", "surrogatepass")
    return as_json({**message, "body": base64.b64encode(body).decode()}).encode("utf-8", "surrogatepass")


def an_id(rng: random.Random) -> str:
    return str(UUID(int=rng.getrandbits(128), version=4))


# --- the grammar ----------------------------------------------------------------------------------------------------


def _queue_entry(rng: random.Random, grounds: Grounds) -> tuple[str, bytes]:
    task = rng.choices(("chartpost.upload", "chartpost.relabel", rng.choice(_TASKS)), (7, 1, 3))[0]
    make = rng.choices((second_protocol, first_protocol), (3, 1))[0]
    message = make(task, an_id(rng), request(rng, grounds), rng)
    made = [f"{'second' if make is second_protocol else 'first'} protocol, {task}"]
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        where, change = rng.choice(_CHANGES)
        made.append(f"{where}: {change(message, rng, grounds)}")
    if rng.random() < 0.12:
        what, spoil = rng.choice(_SPOILINGS)
        return "; ".join([*made, what]), spoil(encoded(message), rng)
    return "; ".join(made), encoded(message)


def _one_place(part: str) -> Callable[[dict[str, Any], random.Random, Grounds], str]:
    def change(message: dict[str, Any], rng: random.Random, grounds: Grounds) -> str:
        message[part], what = mutated(message[part], rng, _WORDS)
        return what

    return change


def _kwargs(message: dict[str, Any], rng: random.Random, grounds: Grounds) -> str:
    words = (*_WORDS, f"{grounds.data}/secret_key", f"{grounds.data}/redis.url", *grounds.accounts)
    body: Any = message["body"]
    key: Any = "kwargs" if isinstance(message["body"], dict) else 1
    if not isinstance(body, dict | list) or (key not in body if isinstance(body, dict) else len(body) < 2):
        return "no arguments left"
    body[key], what = mutated(body[key], rng, words)
    return what


def _header(message: dict[str, Any], rng: random.Random, grounds: Grounds) -> str:
    """One that Celery would carry out, with a value that is right or wrong."""
    other = an_id(rng)
    linked = {"task": rng.choice(_TASKS), "args": [other], "kwargs": {}, "options": {"queue": rng.choice(_KEYS)}}
    chances: tuple[tuple[str, Any], ...] = (
        ("eta", rng.choice(("2126-01-01T00:00:00+00:00", "9999-12-31T23:59:59", "2020-01-01T00:00:00Z"))),
        ("expires", rng.choice(("2020-01-01T00:00:00+00:00", "2126-01-01T00:00:00", -5, 0))),
        ("chord", {"task": rng.choice(_TASKS), "args": [], "kwargs": {}, "options": {}}),
        ("chain", [linked]),
        ("group", other),
        ("group_index", 10**9),
        ("callbacks", [linked]),
        ("errbacks", [linked]),
        ("timelimit", [rng.choice((0, 1, -1, 0.001)), rng.choice((0, None, 1))]),
        ("retries", rng.choice((-1, 10**9, 3))),
        ("compression", rng.choice(_CODINGS)),
        ("stamped_headers", ["canary"]),
        ("stamps", {"canary": ["a"]}),
        ("replaced_task_nesting", 10**6),
        ("redelivered", True),
        ("shadow", f"{CANARY}-shadow"),
        ("id", rng.choice((None, {}, [], 7, f"{CANARY}-id", "a\ud800", "x" * 5000, "../../x"))),
        ("task", rng.choice((None, {}, [], f"{CANARY}.task", *_TASKS))),
    )
    name, right = rng.choice(chances)
    value = right if rng.random() < 0.7 else odd_value(rng, _WORDS)
    of = message["headers"] if isinstance(message["headers"], dict) and message["headers"] else message["body"]
    if isinstance(of, dict):
        of[name] = value
    if isinstance(message["body"], list) and len(message["body"]) > 2 and isinstance(message["body"][2], dict):
        message["body"][2].setdefault(name, value)
    return f"{name} = {brief(value)}"


def _routing(message: dict[str, Any], rng: random.Random, grounds: Grounds) -> str:
    info = rng.choice(
        (
            {"exchange": "", "routing_key": rng.choice(_KEYS)},
            {"exchange": rng.choice(_KEYS), "routing_key": rng.choice(_KEYS), "priority": rng.choice((9, -1, "x"))},
            odd_value(rng, _KEYS),
        )
    )
    tag: Any = rng.choice((None, True, 0, "", [], {}, "same-tag", "x" * 70_000, an_id(rng)))
    if isinstance(message["properties"], dict):
        message["properties"] |= {"delivery_info": info, "delivery_tag": tag, "reply_to": rng.choice(_KEYS)}
    return f"delivery_info = {brief(info)}, delivery_tag = {brief(tag)}"


def _coding(message: dict[str, Any], rng: random.Random, grounds: Grounds) -> str:
    message["content-type"] = rng.choice((*_TYPES, "application/json", None, 5, {}))
    message["content-encoding"] = rng.choice((*_CODINGS, "utf-8", "binary", None, 5, []))
    if isinstance(message["properties"], dict):
        message["properties"]["body_encoding"] = rng.choice(("base64", "gzip", None, "", 5, {}))
    return f"{message['content-type']}, {message['content-encoding']}"


_CHANGES: tuple[tuple[str, Callable[[dict[str, Any], random.Random, Grounds], str]], ...] = (
    ("headers", _one_place("headers")),
    ("properties", _one_place("properties")),
    ("body", _one_place("body")),
    ("arguments", _kwargs),
    ("arguments", _kwargs),
    ("header", _header),
    ("header", _header),
    ("header", _header),
    ("routing", _routing),
    ("coding", _coding),
)


def _twice(content: bytes, rng: random.Random) -> bytes:
    """The same keys twice, the second time with other values."""
    again = as_json({"headers": odd_value(rng, _WORDS), "properties": odd_value(rng), "body": odd_value(rng)}).encode(
        "utf-8", "surrogatepass"
    )
    return content[:-1] + b"," + again[1:]


def _flipped(content: bytes, rng: random.Random) -> bytes:
    spoilt = bytearray(content)
    for _ in range(rng.choice((1, 3, 30))):
        spoilt[rng.randrange(len(spoilt))] = rng.randrange(256)
    return bytes(spoilt)


_SPOILINGS: tuple[tuple[str, Callable[[bytes, random.Random], bytes]], ...] = (
    ("cut off", lambda content, rng: content[: rng.randrange(len(content))]),
    ("keys twice", _twice),
    ("bytes changed", _flipped),
    ("with a byte order mark", lambda content, rng: b"\xef\xbb\xbf" + content),
    ("in UTF-16", lambda content, rng: content.decode("utf-8", "replace").encode("utf-16")),
    ("two in one", lambda content, rng: content + content),
    ("in a list", lambda content, rng: b"[" + content + b"]"),
    ("nothing but depth", lambda content, rng: nested(rng).encode()),
    ("bytes of chance", lambda content, rng: rng.randbytes(rng.choice((1, 100, 50_000)))),
    ("no bytes", lambda content, rng: b""),
    ("half a megabyte", lambda content, rng: content[:-1] + b',"more":"' + b"x" * 500_000 + b'"}'),
)


def _stream_entry(number: int, rng: random.Random, grounds: Grounds) -> Message:
    asked = {"job_id": an_id(rng), **request(rng, grounds)}
    words = (*_WORDS, f"{grounds.data}/secret_key", f"{grounds.data}/redis.url", *grounds.accounts)
    made = []
    for _ in range(rng.choice((1, 1, 2))):
        if not isinstance(asked, dict):
            break
        asked, what = mutated(asked, rng, words)
        made.append(what)
    content = as_json(asked).encode("utf-8", "surrogatepass")
    if rng.random() < 0.2:
        what, spoil = rng.choice(_SPOILINGS)
        content = spoil(content, rng)
        made.append(what)
    fields = None
    if rng.random() < 0.15:
        fields = rng.choice(
            (
                {b"job": content, b"job ": content},
                {b"JOB": content},
                {b"\xff\xfe": b"\x00", b"": b""},
                {b"job": b"", b"more": b"x" * 100_000},
                {bytes([65 + each]): rng.randbytes(20) for each in range(26)},
            )
        )
        made.append(f"fields {sorted(fields)[:3]}")
    return Message(number, "; ".join(made), STREAM, content, fields)


# --- attacks that once worked -----------------------------------------------------------------------------------


def _known_attacks(grounds: Grounds) -> list[tuple[str, str, bytes]]:
    rng = random.Random("the attacks that once worked")
    found: list[tuple[str, str, bytes]] = []

    def call() -> dict[str, Any]:
        return second_protocol("chartpost.upload", an_id(rng), request(rng, grounds), rng)

    def add(what: str, message: dict[str, Any] | bytes, target: str = QUEUE) -> None:
        found.append((what, target, message if isinstance(message, bytes) else encoded(message)))

    nothing: tuple[Any, ...] = (None, True, [], {}, 5)
    changes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("far eta", {"eta": "2126-01-01T00:00:00+00:00"}),
        ("eta in year 9999 without a zone", {"eta": "9999-12-31T23:59:59"}),
        ("expired, with group and chord", {"expires": "2020-01-01T00:00:00+00:00", "group": an_id(rng), "chord": {}}),
        *((f"id {brief(value)}", {"id": value}) for value in (*nothing, 7, "a\ud800", CANARY)),
        *((f"task {brief(value)}", {"task": value}) for value in nothing),
        *((f"timelimit {brief(value)}", {"timelimit": value}) for value in (*nothing, "abc", [1, "x"])),
        ("shadow {}", {"shadow": {}}),
        ("stamps", {"stamped_headers": 5, "stamps": []}),
    )
    for what, headers in changes:
        message = call()
        message["headers"] |= headers
        if "eta" in headers:
            message["properties"]["delivery_info"] = {"exchange": "", "routing_key": "chartpost:due:healthy"}
        if "group" in headers:
            message["body"][2]["chord"] = {"task": "chartpost.notify", "args": [], "kwargs": {}, "options": {}}
        add(what, message)
    for value in nothing:
        message = call()
        message["properties"]["delivery_tag"] = value
        add(f"delivery_tag {brief(value)}", message)
    for _ in range(16):
        message = call()
        message["headers"]["id"] = message["properties"]["correlation_id"] = None
        add("id null, one of 16", message)
    add("3,000 deep", nested_message(call(), 3000))
    message = call()
    message["content-encoding"] = 5
    add("content-encoding 5", message)
    add("a number as body, empty headers", {**call(), "body": 5, "headers": {}})
    for body in ([], 5, [1, 2, 3], [[], {}, 5]):
        add(f"body {body}", {**call(), "body": body})
    bomb = call()
    bomb["headers"]["compression"] = "application/x-gzip"
    add("a gzip body that grows a thousandfold", _bomb(bomb, packed(300)))
    bomb["headers"]["compression"] = "application/x-zlib"
    add("a zlib body that grows a thousandfold", _bomb(bomb, packed(300, zlib_header=True)))
    for task in (*_BUILT_IN, "chartpost.presign", "chartpost.notify"):
        add(f"task {task}", second_protocol(task, an_id(rng), {"job_id": f"{CANARY}-job"}, rng))
    for name in ("secret_key", "redis.url"):
        asked = {**request(rng, grounds), "source": f"{grounds.data}/{name}", "delete_source": True}
        add(f"{name} as a source", second_protocol("chartpost.upload", an_id(rng), asked, rng))
        add(f"{name} as a source", json.dumps(asked).encode(), STREAM)
    for url in ("https://127.0.0.1:abc/", "https://127.0.0.1:99999/", "https://127.0.0.1/\x01", "https://[127.0.0.1]/"):
        asked = {**request(rng, grounds), "callback_url": url}
        add(f"callback to {brief(url)}", second_protocol("chartpost.upload", an_id(rng), asked, rng))
    return found


def nested_message(message: dict[str, Any], deep: int) -> dict[str, Any]:
    return {**message, "headers": {**message["headers"], "stamps": Raw("[" * deep + "]" * deep)}}


def _bomb(message: dict[str, Any], body: bytes) -> bytes:
    return as_json({**message, "body": base64.b64encode(body).decode()}).encode()


@cache
def packed(megabytes: int, *, zlib_header: bool = False) -> bytes:
    """So many megabytes of blanks, as gzip or with zlib's header. One block is compressed, and repeated."""
    blanks = b" " * 1_000_000
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = compressor.compress(blanks) + compressor.flush(zlib.Z_FULL_FLUSH)
    body = block * megabytes + b"\x03\x00"
    checksum = zlib.adler32 if zlib_header else zlib.crc32
    sum_so_far = checksum(b"")
    for _ in range(megabytes):
        sum_so_far = checksum(blanks, sum_so_far)
    if zlib_header:
        return b"\x78\x9c" + body + sum_so_far.to_bytes(4, "big")
    end = sum_so_far.to_bytes(4, "little") + (megabytes * 1_000_000 % 2**32).to_bytes(4, "little")
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + body + end


# --- hypothesis ------------------------------------------------------------------------------------------------------


def _entries() -> strategies.SearchStrategy[bytes]:
    """Bytes that are more or less a message."""
    leaves = (
        strategies.none()
        | strategies.booleans()
        | strategies.integers()
        | strategies.floats()
        | strategies.text(max_size=40)
        | strategies.sampled_from(_WORDS)
    )
    names = strategies.text(max_size=12) | strategies.sampled_from(
        ("task", "id", "eta", "expires", "chord", "group", "retries", "timelimit", "delivery_tag", "delivery_info")
    )
    values = strategies.recursive(
        leaves,
        lambda inner: strategies.lists(inner, max_size=4) | strategies.dictionaries(names, inner, max_size=5),
        max_leaves=12,
    )
    headers = strategies.fixed_dictionaries(
        {"task": strategies.sampled_from(_TASKS) | values, "id": strategies.uuids().map(str) | values},
        optional=dict.fromkeys(("eta", "expires", "group", "chord", "timelimit", "retries", "shadow"), values),
    )
    properties = strategies.fixed_dictionaries(
        {"delivery_tag": strategies.uuids().map(str) | values, "body_encoding": strategies.just("base64") | values},
        optional=dict.fromkeys(("delivery_info", "reply_to", "correlation_id", "priority"), values),
    )
    in_base64 = values.map(lambda value: base64.b64encode(json.dumps(value).encode()).decode())
    messages = strategies.fixed_dictionaries(
        {"body": in_base64 | values, "headers": headers | values, "properties": properties | values},
        optional={"content-type": strategies.just("application/json") | values, "content-encoding": values},
    )
    fields = strategies.dictionaries(
        names | strategies.sampled_from(("account", "patient_id", "source", "options", "job_id")), values, max_size=8
    )
    dumped = (messages | fields | values).map(lambda value: json.dumps(value).encode())
    return (
        dumped
        | strategies.binary(max_size=200)
        | strategies.text(max_size=80).map(lambda text: text.encode("utf-8", "surrogatepass"))
    )


@cache
def generated(count: int, seed: int) -> tuple[bytes, ...]:
    """So many entries of hypothesis's own choice, the same for the same seed."""
    found: list[bytes] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(_entries())
    def collect(entry: bytes) -> None:
        found.append(entry)

    collect()
    return tuple(found)
