"""A message of an intake stream, and what it asks for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from tasks.ledger import keys
from tasks.ledger.seal import Seal
from tasks.model.errors import Code, DocumentRefused

CORRECT_AND_RESEND = "Correct the message and send it again."

_LARGEST_BYTES = 64 * 1024
_DEEPEST = 32


@dataclass(frozen=True, slots=True)
class IntakeStream:
    """One of the streams. `producer` is the one whose own stream it is; None for the shared stream."""

    seal: Seal
    producer: str | None = None

    @property
    def key(self) -> str:
        return f"{keys.INTAKE}:{self.producer}" if self.producer else keys.INTAKE

    def entry_name(self, entry_id: str) -> str:
        """What tells the entry from those of all other streams, which may have the same ids."""
        return f"{self.producer}:{entry_id}" if self.producer else entry_id

    def job_id_of(self, entry_id: str) -> str:
        """The job id of an entry that does not give one. It is fixed: reading the entry twice opens one job."""
        return self.seal.entry_job_id(self.entry_name(entry_id))


@dataclass(frozen=True, slots=True)
class Message:
    """An entry of a stream, as it was read: its content is not checked yet."""

    # The id that Redis gave the entry, such as 1763711999000-0.
    entry_id: str
    stream: IntakeStream
    # The entry's field `job`, no more of it than a message may have; None if it has no such field.
    text: str | None
    # What is kept of it if the message is rejected: its field `job`, or all names and values if it has no `job`.
    whole: bytes
    # It was given to a reader before, which may have opened its job.
    given_before: bool = False

    @classmethod
    def of(
        cls, stream: IntakeStream, entry_id: bytes, fields: Mapping[bytes, bytes], *, given_before: bool = False
    ) -> Message:
        job = fields.get(b"job")
        whole = job if job is not None else b"\n".join(chain.from_iterable(fields.items()))
        # Of one that is too large nothing is read.
        text = None if job is None else job[: _LARGEST_BYTES + 1].decode("utf-8", "surrogateescape")
        return cls(entry_id.decode(), stream, text, whole, given_before)

    @property
    def name(self) -> str:
        return self.stream.entry_name(self.entry_id)

    @property
    def job_id(self) -> str:
        """The id of its job, unless it gives one."""
        return self.stream.job_id_of(self.entry_id)


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
    if len(message.whole) > _LARGEST_BYTES:
        raise _invalid(f"The message is larger than {_LARGEST_BYTES} bytes.")
    try:
        fields = json.loads(message.text)
        # Python's reader takes NaN and half a surrogate pair. Neither could be written to Redis or to a provider.
        json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise _invalid("The message is not JSON in UTF-8.") from None
    if not isinstance(fields, dict):
        raise _invalid("The message is not a JSON object.")
    if _deeper_than(_DEEPEST, fields):  # what reads it later recurses too, with less room
        raise _invalid(f"The message is nested more than {_DEEPEST} deep.")
    given = fields.pop("job_id", None)
    if given is None:
        return ParsedMessage(message.job_id, fields)
    with suppress(ValueError):
        if isinstance(given, str):
            return ParsedMessage(str(UUID(given)), fields)
    raise _invalid("The job_id is not a UUID.")


def former_job_id_of(entry_id: str) -> str:
    """As `IntakeStream.job_id_of` in an earlier version, which everybody could tell."""
    return str(uuid5(NAMESPACE_OID, entry_id))


def _deeper_than(levels: int, value: object) -> bool:
    """Looks no deeper than that: what is deeper than the stack must not end the reader."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_deeper_than(levels - 1, each) for each in inner)


def _invalid(message: str) -> DocumentRefused:
    return DocumentRefused(Code.INVALID_REQUEST, message, hint=CORRECT_AND_RESEND)
