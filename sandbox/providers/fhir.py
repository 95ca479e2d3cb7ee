"""What Redox and NHN share of FHIR R4: bodies, bundles, references, and refusals as OperationOutcome
(https://hl7.org/fhir/R4/operationoutcome.html).
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

JSON = "application/fhir+json"
MIME_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(;.*)?")

Json = Any  # a parsed JSON value of a caller, whose shape is not known yet
Resource = Mapping[str, Json]


@dataclass(frozen=True)
class Issue:
    """One issue of an OperationOutcome."""

    severity: str  # fatal, error, warning or information
    code: str  # of http://hl7.org/fhir/issue-type
    text: str

    @property
    def refuses(self) -> bool:
        return self.severity in ("fatal", "error")


class Refused(Exception):
    """A refusal with an OperationOutcome."""

    def __init__(self, status: int, *issues: Issue, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.issues = issues
        self.headers = headers or {}
        super().__init__(status)


@dataclass(frozen=True)
class Bundle:
    """A Bundle in which each entry has an object as its resource."""

    itself: Resource
    entries: list[Resource] = field(default_factory=list)

    def entries_of(self, resource_type: str) -> list[Resource]:
        return [entry for entry in self.entries if entry["resource"].get("resourceType") == resource_type]

    def resources(self, resource_type: str) -> list[Resource]:
        return [entry["resource"] for entry in self.entries_of(resource_type)]


def error(code: str, text: str) -> Issue:
    return Issue("error", code, text)


def outcome(*issues: Issue) -> dict[str, Json]:
    return {
        "resourceType": "OperationOutcome",
        "issue": [
            {
                "severity": each.severity,
                "code": each.code,
                "details": {"text": each.text},
                "diagnostics": each.text,
            }
            for each in issues
        ],
    }


def fhir_answer(body: Resource, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(status=status, text=json.dumps(body), content_type=JSON, headers=headers)


def refusal_answer(refused: Refused) -> web.Response:
    return fhir_answer(outcome(*refused.issues), refused.status, refused.headers)


async def read_body(request: web.Request, max_bytes: int) -> bytes:
    """The whole body. Raises Refused with 413 as soon as it is known to be too long."""
    too_long = Refused(413, error("too-long", f"the body has more than {max_bytes} bytes"))
    if (request.content_length or 0) > max_bytes:
        raise too_long
    body = bytearray()
    async for block in request.content.iter_any():
        body += block
        if len(body) > max_bytes:
            raise too_long
    return bytes(body)


async def read_json(request: web.Request, max_bytes: int) -> Json:
    body = await read_body(request, max_bytes)
    try:
        return json.loads(body)
    except ValueError:
        raise Refused(400, error("structure", "the body is not JSON")) from None


def bundle_in(parsed: Json) -> Bundle:
    if not isinstance(parsed, dict) or parsed.get("resourceType") != "Bundle":
        raise Refused(400, error("structure", "the body is not a Bundle"))
    entries = parsed.get("entry")
    if not isinstance(entries, list) or not entries:
        raise Refused(400, error("required", "Bundle.entry is missing"))
    if not all(isinstance(entry, dict) and isinstance(entry.get("resource"), dict) for entry in entries):
        raise Refused(400, error("structure", "an entry has no resource"))
    return Bundle(parsed, entries)


def content_type_is(request: web.Request, *allowed: str) -> None:
    if request.content_type not in allowed:
        raise Refused(400, error("invalid", f"Content-Type is none of {', '.join(allowed)}"))


def dig(value: Json, *path: str | int) -> Json:
    """The value at this path of names and indexes, or None."""
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def objects(value: Json) -> list[Resource]:
    """The objects in a list; empty if the value is not a list."""
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []


def text(value: Json, *path: str | int) -> str:
    """The string at this path, or an empty one."""
    string = dig(value, *path)
    return string if isinstance(string, str) else ""


def codings(concept: Json) -> list[Resource]:
    """The codings of a CodeableConcept that name a code."""
    return [each for each in objects(dig(concept, "coding")) if text(each, "code")]


def refers_to(reference: Json, entry: Resource) -> bool:
    """Whether a Reference means this entry, by fullUrl or by type and id."""
    resource = entry["resource"]
    local = f"{text(resource, 'resourceType')}/{text(resource, 'id')}"
    return text(reference, "reference") in {text(entry, "fullUrl") or None, local if text(resource, "id") else None}


def decode_base64(data: str) -> bytes:
    """The bytes of a base64Binary. Raises ValueError."""
    try:
        return base64.b64decode(data.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ValueError("the data is not base64") from None
