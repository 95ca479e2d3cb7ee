"""A message of the intake stream, and what it asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from tasks.model.errors import Code, DocumentRefused

CORRECT_AND_RESEND = "Correct the message and send it again."

_LARGEST_BYTES = 64 * 1024
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class Message:
    """An entry of the stream, as it was read: its content is not checked yet."""

    # The id that Redis gave the entry, such as 1763711999000-0.
    entry_id: str
    # The entry's field `job`; None if it has no such field.
    text: str | None
    # What is kept if the message is rejected: its field `job`, or all its fields if it has no `job`.
    whole: str
    # The length of `whole`, before it was decoded.
    size_bytes: int

    @classmethod
    def of(cls, entry_id: bytes, fields: Mapping[bytes, bytes]) -> Message:
        job = fields.get(b"job")
        whole = job if job is not None else repr(fields).encode()
        # Surrogate escapes carry bytes that are not UTF-8 through the seal, so that a rejected message is kept exactly.
        text = None if job is None else job.decode("utf-8", "surrogateescape")
        return cls(entry_id.decode(), text, whole.decode("utf-8", "surrogateescape"), len(whole))


@dataclass(frozen=True, slots=True)
class ParsedMessage:
    """A message that is a JSON object."""

    # Given by the message, or derived from the entry's id.
    job_id: str
    # All but the job_id, not checked yet: `tasks.intake.requests.read_request` does that.
    fields: Mapping[str, Any]


def parse_message(message: Message) -> ParsedMessage:
    """Raises DocumentRefused, `invalid_request`, for a message that is not a JSON object of a sensible size."""
    if message.text is None:
        raise _invalid("The message has no field `job`.")
    if message.size_bytes > _LARGEST_BYTES:
        raise _invalid(f"The message is larger than {_LARGEST_BYTES} bytes.")
    try:
        fields = json.loads(message.text)
        # Python's reader takes NaN and half a surrogate pair. Neither could be written to Redis or to a provider.
        json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise _invalid("The message is not JSON in UTF-8.") from None
    if not isinstance(fields, dict):
        raise _invalid("The message is not a JSON object.")
    if _depth(fields) > _DEEPEST:  # what reads it later recurses too, with less room
        raise _invalid(f"The message is nested more than {_DEEPEST} deep.")
    given = fields.pop("job_id", None)
    if given is None:
        return ParsedMessage(job_id_of(message.entry_id), fields)
    with suppress(ValueError):
        if isinstance(given, str):
            return ParsedMessage(str(UUID(given)), fields)
    raise _invalid("The job_id is not a UUID.")


def job_id_of(entry_id: str) -> str:
    """The job id of an entry that does not give one. It is fixed, so that reading the entry twice opens one job."""
    return str(uuid5(NAMESPACE_OID, entry_id))


def _depth(value: object) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + max(map(_depth, inner), default=0)


def _invalid(message: str) -> DocumentRefused:
    return DocumentRefused(Code.INVALID_REQUEST, message, hint=CORRECT_AND_RESEND)
