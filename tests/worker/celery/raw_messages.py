"""Entries of a queue, byte for byte, as a stranger with the right to LPUSH can write them."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import uuid4

UUID = "2c1b8a52-7d7e-4c1f-9a3e-1f6d2f9b0c11"
TAG = "0f0e0d0c-7d7e-4c1f-9a3e-1f6d2f9b0c11"
PAST, FAR = "2001-01-01T00:00:00+00:00", "2999-01-01T00:00:00+00:00"
LINK: dict[str, Any] = {
    "task": "chartpost.upload",
    "args": [],
    "kwargs": {},
    "options": {"queue": "chartpost"},
    "subtask_type": None,
}


def entry(
    task: Any = "chartpost.upload",
    task_id: Any = UUID,
    kwargs: Any = None,
    *,
    args: Any = (),
    embed: Any = None,
    headers: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    body: Any = None,
    top: Mapping[str, Any] | None = None,
) -> bytes:
    """A message as Celery 5 sends it, with some of it changed.

    `body` is put in the place of its body's JSON, `top` replaces whole parts.
    """
    if body is None:
        embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None, **(embed or {})}
        body = json.dumps([args, kwargs or {}, embed])
    if isinstance(body, str):
        body = b64encode(body.encode("utf-8", "surrogatepass")).decode()
    names = ("shadow", "eta", "expires", "group", "group_index", "parent_id", "ignore_result", "stamped_headers")
    message = {
        "body": body,
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            **{"lang": "py", "task": task, "id": task_id, **dict.fromkeys(names), "retries": 0},
            **{"timelimit": [None, None], "root_id": task_id, "argsrepr": "()", "kwargsrepr": repr(kwargs)},
            **{"origin": "gen1@elsewhere", "replaced_task_nesting": 0, "stamps": {}},
            **(headers or {}),
        },
        "properties": {
            "correlation_id": task_id,
            "reply_to": str(uuid4()),
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "chartpost"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": TAG,
            **(properties or {}),
        },
        **(top or {}),
    }
    return json.dumps(message).encode()


def many(raw: bytes, count: int) -> list[bytes]:
    """Copies that kombu tells apart."""
    return [raw.replace(TAG.encode(), str(uuid4()).encode()) for _ in range(count)]


def version_1(kwargs: dict[str, Any], task_id: str = UUID, **fields: Any) -> bytes:
    """As Celery sends it with task_protocol = 1."""
    body = {
        **{"task": "chartpost.upload", "id": task_id, "args": [], "kwargs": kwargs, "group": None, "retries": 0},
        **{"eta": None, "expires": None, "utc": True, "callbacks": None, "errbacks": None, "taskset": None},
        **{"timelimit": [None, None], "chord": None},
        **fields,
    }
    message = json.loads(entry(body=json.dumps(body)))
    return json.dumps({**message, "headers": {}}).encode()


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


def broken(kwargs: dict[str, Any]) -> Iterator[tuple[str, str, bytes]]:
    """(name, code of the dead letter, entry): what no worker may take. `kwargs` are those of a call that is right."""
    forged = {"exchange": "", "routing_key": "chartpost:due:north_clinic"}
    chord = {"task": "celery.chord_unlock", "args": [], "kwargs": {}, "options": {}}
    yield (
        "far eta, forged delivery_info",
        "unsupported_option",
        entry(kwargs=kwargs, headers={"eta": FAR}, properties={"delivery_info": forged}),
    )
    yield "far eta", "unsupported_option", entry(kwargs=kwargs, headers={"eta": FAR})
    yield "naive eta", "unsupported_option", entry(kwargs=kwargs, headers={"eta": "9999-12-31T23:59:59"})
    yield "eta that is none", "unsupported_option", entry(kwargs=kwargs, headers={"eta": 7})
    yield (
        "expired, with group and chord",
        "unsupported_option",
        entry(kwargs=kwargs, headers={"expires": PAST, "group": UUID}, embed={"chord": chord}),
    )
    yield "chord", "unsupported_option", entry(kwargs=kwargs, embed={"chord": chord})
    yield "link", "unsupported_option", entry(kwargs=kwargs, embed={"callbacks": [LINK]})
    yield "error link", "unsupported_option", entry(kwargs=kwargs, embed={"errbacks": [LINK]})
    yield "chain", "unsupported_option", entry(kwargs=kwargs, embed={"chain": [LINK]})
    yield "version 1 with a chord", "unsupported_option", version_1(kwargs, chord=chord)
    yield "version 1 with an eta", "unsupported_option", version_1(kwargs, eta=FAR)
    value: Any
    for value in ({}, [], 7, None, True, "\ud800", "order-17", "Meier, Anna", UUID + "0", "{" + UUID + "}"):
        yield f"id {value!r}", "no_uuid", entry(task_id=value, kwargs=kwargs)
    task: Any
    for task in ({}, [], None, "chartpost.notify", "chartpost.uplaod", "celery.map", "celery.chord_unlock", "\ud800"):
        yield f"task {task!r}", "unknown_task", entry(task=task, kwargs=kwargs)
    yield "deep JSON in the body", "not_a_message", entry(body=deep(3000))
    yield "deep JSON in a field", "not_a_message", entry(kwargs={**kwargs, "options": {"a": json.loads(deep(100))}})
    yield "deep JSON outside", "not_a_message", b'{"headers": ' + deep(3000).encode() + b"}"
    yield "NaN", "not_a_message", entry(kwargs={**kwargs, "options": {"a": float("nan")}})
    yield "half a surrogate pair", "not_a_message", entry(kwargs={**kwargs, "description": "\ud800"})
    yield "a number of 5,000 digits", "not_a_message", entry(body='[[], {"a": ' + "9" * 5000 + "}, {}]")
    for body in ([], 5, True, {"a": 1}, [1, 2, 3]):
        yield f"body {body!r}", "not_a_message", entry(body=body)
    for text in ("", "5", "[1, 2, 3]", "[[], {}]", '"abc"', "null", '[[], {"a": 1}, 5]', "[5, {}, {}]", "[[], 5, {}]"):
        yield f"body's JSON {text}", "not_a_message", entry(body=text)
    yield (
        "numeric body, no headers",
        "foreign_format",
        json.dumps({"body": 5, "headers": {}, "properties": {}}).encode(),
    )
    yield "pickle", "foreign_format", entry(kwargs=kwargs, top={"content-type": "application/x-python-serialize"})
    yield "yaml", "foreign_format", entry(kwargs=kwargs, top={"content-type": "application/x-yaml"})
    yield "a content-type that is none", "foreign_format", entry(kwargs=kwargs, top={"content-type": {}})
    yield "content-encoding 5", "foreign_format", entry(kwargs=kwargs, top={"content-encoding": 5})
    yield "body_encoding rot13", "foreign_format", entry(kwargs=kwargs, properties={"body_encoding": "rot13"})
    packed = b64encode(gzip.compress(b" " * 20_000_000)).decode()
    yield "gzip", "foreign_format", entry(headers={"compression": "application/x-gzip"}, top={"body": packed})
    yield "arguments of 300 KB", "too_large", entry(kwargs={**kwargs, "description": "x" * 300_000})
    yield "2 MB", "too_large", b"x" * 2_000_000
    for rubbish in (b"rubbish", b"\xff\xfe", b'"text"', b"[1]", b"{}", b"", b'{"properties": {}}', b"null", b"5"):
        yield f"{rubbish!r}", "not_a_message", rubbish
    yield "headers that are a list", "not_a_message", entry(kwargs=kwargs, top={"headers": [1]})
    yield "properties that are text", "not_a_message", entry(kwargs=kwargs, top={"properties": "x"})
    yield "come back five times", "redelivered", entry(kwargs=kwargs, headers={"returns": 5})


def harmless(kwargs: dict[str, Any], task_id: str) -> Iterator[tuple[str, bytes]]:
    """(name, entry): odd messages that ask for nothing which would not be done. Each must be taken."""
    tag: Any
    for tag in (None, True, 1, {}, []):
        yield f"delivery_tag {tag!r}", entry(task_id=task_id, kwargs=kwargs, properties={"delivery_tag": tag})
    limit: Any
    for limit in (5, "abc", [1, 2], {}, [None, None]):
        yield f"timelimit {limit!r}", entry(task_id=task_id, kwargs=kwargs, headers={"timelimit": limit})
    shadow: Any
    for shadow in ({}, [], 5, "celery.map", "Meier, Anna"):
        yield f"shadow {shadow!r}", entry(task_id=task_id, kwargs=kwargs, headers={"shadow": shadow})
    info: Any
    for info in (None, 5, {"exchange": "x", "routing_key": "chartpost:due:north_clinic"}, {"redelivered": {}}):
        yield f"delivery_info {info!r}", entry(task_id=task_id, kwargs=kwargs, properties={"delivery_info": info})
    for name, value in {
        **{"retries": {}, "group": UUID, "stamped_headers": ["a"], "stamps": {"a": 5}, "parent_id": [1], "origin": {}},
        **{"ignore_result": True, "root_id": {}, "argsrepr": 5, "kwargsrepr": "{'patient_id': 'Meier'}", "returns": -9},
        **{"lang": None, "replaced_task_nesting": "x", "meth": 5, "redelivered": [1], "unknown": deep(50)},
    }.items():
        yield f"header {name} {value!r}", entry(task_id=task_id, kwargs=kwargs, headers={name: value})
    for name, value in {"priority": {}, "reply_to": 5, "correlation_id": None, "delivery_mode": "x"}.items():
        yield f"property {name} {value!r}", entry(task_id=task_id, kwargs=kwargs, properties={name: value})
    yield "version 1", version_1(kwargs, task_id)
    yield "version 1 with taskset", version_1(kwargs, task_id, taskset=UUID, retries=3)
    yield "no embed", entry(task_id=task_id, body=json.dumps([[], kwargs, None]))
    yield (
        "plain body",
        json.dumps(
            {
                **json.loads(entry(task_id=task_id, properties={"body_encoding": None})),
                "body": json.dumps([[], kwargs, {}]),
            }
        ).encode(),
    )
