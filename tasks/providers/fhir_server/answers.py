"""What a FHIR server answers: which record a create has made, and what each status means.

https://hl7.org/fhir/R4/http.html (create, conditional create, transaction) and
https://hl7.org/fhir/R4/operationoutcome.html. The vendor's words stand in `detail` alone.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.http.api import not_understood
from tasks.http.exchange import Answer
from tasks.model.errors import Code, DocumentRefused, OutcomeUnknown, RetryLater
from tasks.model.job import Record
from tasks.providers.fhir import words_of
from tasks.providers.statuses import StatusTable, blocked, locked_out, refused

NAME = "The FHIR server"
ACCEPT = "application/fhir+json, application/json;q=0.9"
CONTENT_TYPE = "application/fhir+json"

# https://hl7.org/fhir/R4/datatypes.html#id
ID = r"[A-Za-z0-9.-]{1,64}"
_LOCATION = r"(?:^|/){kind}/({id})(?:/_history/([^/?#]*))?/?$"


class Named(BaseModel):
    """A resource, of which only type and id matter."""

    resourceType: Any = None  # noqa: N815, as FHIR writes it
    id: Any = None


def created(answer: Answer, kind: str, base_url: str) -> Record:
    """The record of this kind that a 2xx says it has made, or had already.

    By the Location, which may be absolute or relative, with or without a version; else by the resource in the body.
    Raises OutcomeUnknown if the answer is empty and has neither, AccountBlocked (of unknown outcome) for other answers.
    """
    location = answer.headers.get("location") or answer.headers.get("content-location")
    if record := located(location, kind, base_url):
        return record if record.version else replace(record, version=_version(answer))
    if not answer.body.strip():
        raise OutcomeUnknown(f"{NAME} answered {answer.status} without a Location, so its record is not known yet.")
    try:
        named = Named.model_validate_json(answer.body) if not answer.too_large else Named()
    except ValidationError:
        named = Named()
    if named.resourceType == kind and isinstance(named.id, str) and re.fullmatch(ID, named.id):
        return Record(named.id, f"{base_url}/{kind}/{named.id}", version=_version(answer))
    raise not_understood(NAME, f"a success that names no {kind}", outcome_unknown=True)


def located(location: object, kind: str, base_url: str) -> Record | None:
    """The record of this kind that a Location names; None if it names none."""
    match = re.search(_LOCATION.format(kind=kind, id=ID), location) if isinstance(location, str) else None
    if match is None or len(str(location)) > 4000:
        return None
    # A Location may name the server as it sees itself. The record's address is where this account reaches it.
    return Record(match[1], f"{base_url}/{kind}/{match[1]}", version=match[2] or None)


def _version(answer: Answer) -> str | None:
    """A versioned resource's ETag is weak, its value the version (https://hl7.org/fhir/R4/http.html#concurrency)."""
    match = re.fullmatch(rf'(?:W/)?"({ID})"', answer.headers.get("etag", ""))
    return match[1] if match else None


class _Response(BaseModel):
    status: Any = None
    location: Any = None


class _Entry(BaseModel):
    response: _Response | None = None


class _Transaction(BaseModel):
    resourceType: Any = None  # noqa: N815
    entry: list[_Entry] = []


def committed(answer: Answer, kind: str, base_url: str) -> Record:
    """The record of this kind in the answer to a transaction. Raises as `created` does."""
    try:
        bundle = _Transaction.model_validate_json(answer.body) if not answer.too_large else _Transaction()
    except ValidationError:
        bundle = _Transaction()
    responses: Sequence[_Response] = [entry.response for entry in bundle.entry if entry.response]
    for response in responses:
        # A transaction succeeds or fails as a whole: no entry of a 2xx was refused.
        if record := located(response.location, kind, base_url):
            return record
    raise not_understood(NAME, f"a transaction's success that names no {kind}", outcome_unknown=True)


# --- errors ----------------------------------------------------------------------------------------------------------


def _too_large(answer: Answer) -> DocumentRefused:
    return DocumentRefused(
        Code.FILE_TOO_LARGE,
        f"{NAME} does not take a document of this size (413).",
        hint="Make the file smaller, or let it travel as a Binary (payload, embed_below_bytes).",
        detail=words_of(answer),
    )


def _conflict(answer: Answer) -> RetryLater:
    """Two writes at once (https://hl7.org/fhir/R4/http.html#update): this one was not done, and may be later."""
    return RetryLater(f"{NAME} answered 409: it was changing the same resource for another caller.")


def several(answer: Answer) -> DocumentRefused:
    """A conditional request met several records with this document's own identifier."""
    return DocumentRefused(
        Code.OUTCOME_UNKNOWN,
        f"{NAME} holds several records with this document's identifier (412): it was copied there, or sent in parts.",
        hint="Look into the chart, remove all but one of them, and then chartpost resolve.",
        detail=words_of(answer),
    )


_UNACCEPTABLE = refused(
    f"{NAME} does not accept this document, or not for this patient.",
    "Read the server's words, correct patient, options, metadata or file, and send it again.",
    words_of,
)
_COMMON = {
    401: locked_out(f"{NAME} refuses the login of this account (401): check its auth, keys, token or password."),
    403: locked_out(f"{NAME} does not allow this (403): check this account's scope, and its rights at the server."),
    405: blocked(f"{NAME} does not offer this (405): see what `chartpost check` says of its CapabilityStatement."),
    501: blocked(f"{NAME} does not offer this (501): see what `chartpost check` says of its CapabilityStatement."),
}
CREATE_STATUSES = StatusTable(
    NAME,
    {
        **_COMMON,
        400: _UNACCEPTABLE,
        404: blocked(f"{NAME} knows no such resource or address (404): check base_url of this account."),
        409: _conflict,
        412: several,
        413: _too_large,
        415: blocked(f"{NAME} does not take application/fhir+json, or this file's type (415): check payload."),
        422: _UNACCEPTABLE,
    },
)
READ_STATUSES = StatusTable(
    NAME,
    {
        **_COMMON,
        400: blocked(f"{NAME} does not understand this search (400): check on_unknown_outcome, and patient_system."),
        404: blocked(f"{NAME} knows no such resource or address (404): check base_url of this account."),
    },
)
