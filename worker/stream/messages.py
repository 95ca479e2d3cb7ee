"""TODO"""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NoReturn
from uuid import NAMESPACE_OID, UUID, uuid5

from tasks.model.errors import Code, DocumentRefused

_LARGEST_BYTES = 64 * 1024
_DEEPEST = 32
_HINT = "Correct the message and send it again."


@dataclass(frozen=True, slots=True)
class Message:
    """An entry of the stream: its id, and what its field `job` holds, whatever that is."""

    entry: str
    text: str | None
    whole: str
    size_bytes: int

    @classmethod
    def of(cls, entry: bytes, fields: Mapping[bytes, bytes]) -> Message:
        text = fields.get(b"job")
        whole = text if text is not None else repr(fields).encode()
        return cls(entry.decode(), None if text is None else _text(text), _text(whole), len(whole))


@dataclass(frozen=True, slots=True)
class Wish:
    """What a message asks for: the fields of a document, and the id that its job is to have."""

    job_id: str
    fields: Mapping[str, Any]


def read_message(message: Message) -> Wish:
    """Raises DocumentRefused, `invalid_request`, for whatever is not a JSON object of a sensible size."""
    if message.text is None:
        _refuse("The message has no field `job`.")
    if message.size_bytes > _LARGEST_BYTES:
        _refuse(f"The message is larger than {_LARGEST_BYTES} bytes.")
    try:
        fields = json.loads(message.text)
        json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        _refuse("The message is not JSON in UTF-8.")
    if not isinstance(fields, dict):
        _refuse("The message is not a JSON object.")
    if _depth(fields) > _DEEPEST:
        _refuse(f"The message is nested more than {_DEEPEST} deep.")
    given = fields.pop("job_id", None)
    return Wish(job_id_of(message.entry) if given is None else _uuid(given), fields)


def job_id_of(entry: str) -> str:
    """The id of the job of an entry that gives none of its own."""
    return str(uuid5(NAMESPACE_OID, entry))


def _uuid(given: object) -> str:
    with suppress(ValueError):
        if isinstance(given, str):
            return str(UUID(given))
    raise DocumentRefused(Code.INVALID_REQUEST, "The job_id is not a UUID.", hint=_HINT)


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _refuse(message: str) -> NoReturn:
    raise DocumentRefused(Code.INVALID_REQUEST, message, hint=_HINT)
