"""Ovok's FHIR API, as far as documents and their patients go: the Medplum behind Ovok, opened by the same token.

https://docs.ovok.com/platform/architecture (R4 and R5 by one data plane), https://hl7.org/fhir/R4/http.html, and
Medplum's habits: each change makes another version, If-Match is obeyed, a patch is a JSON Patch (RFC 6902) whose
result must be a resource.
"""

import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Protocol

from aiohttp import web

from sandbox.faults.disturbances import Disturbances
from sandbox.providers.fhir import Refused, error, fhir_answer, refusal_answer, text
from sandbox.providers.ovok_sessions import NAME

Json = Any
RESOURCE, PATCH = "application/fhir+json", "application/json-patch+json"


class Kept(Protocol):
    """One document, as the document API keeps it."""

    id: str
    subject: Json
    version: int

    def as_fhir(self) -> dict[str, Json]: ...

    def set_subject(self, subject: Json) -> None: ...


class OvokFhir:
    """`find` raises LookupError; `guarded` lets in only those who have logged in; `changed` is told of each change."""

    def __init__(
        self,
        tenant: str,
        disturbances: Disturbances,
        find: Callable[[str], Kept],
        present: Callable[[], Sequence[Kept]],
        changed: Callable[[Any], None],
    ) -> None:
        self._tenant = tenant
        self._disturbances = disturbances
        self._find = find
        self._present = present
        self._changed = changed

    def routes(
        self, prefix: str, guarded: Callable[[Callable[[web.Request], Awaitable[web.Response]]], Any]
    ) -> Sequence[web.AbstractRouteDef]:
        base = prefix + "/fhir/{version:R4|R5}"
        one = base + "/DocumentReference/{document}"
        return [
            web.get(base + "/Patient/{patient}", guarded(self._in_fhir(self._patient))),
            web.get(base + "/DocumentReference", guarded(self._in_fhir(self._search))),
            web.get(one, guarded(self._in_fhir(self._read))),
            web.put(one, guarded(self._in_fhir(self._update))),
            web.patch(one, guarded(self._in_fhir(self._patch))),
        ]

    def _in_fhir(
        self, handler: Callable[[web.Request], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            try:
                return await handler(request)
            except Refused as refused:
                return refusal_answer(refused)

        return answer

    async def _patient(self, request: web.Request) -> web.Response:
        patient = request.match_info["patient"]
        self._know(patient)
        return fhir_answer({"resourceType": "Patient", "id": patient, "meta": {"versionId": "1"}})

    async def _search(self, request: web.Request) -> web.Response:
        count = int(request.query.get("_count", "20"))
        entries = [{"resource": each.as_fhir()} for each in list(self._present())[:count]]
        return fhir_answer({"resourceType": "Bundle", "type": "searchset", "entry": entries})

    async def _read(self, request: web.Request) -> web.Response:
        return fhir_answer(self._document(request).as_fhir())

    async def _update(self, request: web.Request) -> web.Response:
        document = self._document(request)
        content_is(request, RESOURCE, "application/json")
        return self._change(document, await parsed(request))

    async def _patch(self, request: web.Request) -> web.Response:
        document = self._document(request)
        content_is(request, PATCH)
        return self._change(document, patched(document.as_fhir(), await parsed(request)))

    def _change(self, document: Kept, wanted: Json) -> web.Response:
        if not isinstance(wanted, Mapping) or wanted.get("resourceType") != "DocumentReference":
            raise Refused(400, error("structure", "it is not a DocumentReference"))
        if wanted.get("id") != document.id:
            raise Refused(400, error("invalid", "the id is another one than the address has"))
        subject = wanted.get("subject")
        kind, _, patient = text(subject, "reference").partition("/")
        if kind == "Patient":
            self._know(patient)
        document.set_subject(subject)
        self._changed(document)
        return fhir_answer(document.as_fhir())

    def _know(self, patient: str) -> None:
        """Raises Refused for a patient who is not there, and for the troubled ones."""
        refusal = self._disturbances.patient(self._tenant, patient)
        if refusal is not None:
            wait = refusal.retry_after_seconds
            headers = {} if wait is None else {"Retry-After": str(wait)}
            raise Refused(refusal.status, error("not-found", "not found, or not now"), headers=headers)

    def _document(self, request: web.Request) -> Kept:
        """Raises Refused where it is not there, or of another version than If-Match has."""
        try:
            document = self._find(request.match_info["document"])
        except LookupError:
            raise Refused(404, error("not-found", "Not found")) from None
        wanted = request.headers.get("If-Match")
        if wanted not in (None, f'W/"{document.version}"'):
            raise Refused(412, error("conflict", "Precondition Failed"))
        return document


def content_is(request: web.Request, *kinds: str) -> None:
    if request.content_type not in kinds:
        raise Refused(415, error("not-supported", f"{NAME} does not take {request.content_type} here"))


async def parsed(request: web.Request) -> Json:
    try:
        return json.loads(await request.read())
    except ValueError:
        raise Refused(400, error("structure", "it is not JSON")) from None


def patched(resource: dict[str, Json], operations: Json) -> dict[str, Json]:
    """RFC 6902, on the elements at the top of a resource. Raises Refused."""
    changed = deepcopy(resource)
    if not isinstance(operations, list) or not all(isinstance(each, dict) for each in operations):
        raise Refused(400, error("invalid", "it is not a list of operations"))
    for operation in operations:
        kind, path = text(operation, "op"), text(operation, "path")
        name = path.removeprefix("/")
        if kind not in ("add", "replace", "remove", "test") or path != f"/{name}" or "/" in name or not name:
            raise Refused(400, error("invalid", "an operation is not understood"))
        if (kind != "add" and name not in changed) or (kind == "test" and changed[name] != operation.get("value")):
            raise Refused(400, error("invalid", f"{kind} does not apply"))
        if kind == "remove":
            del changed[name]
        elif kind != "test":
            changed[name] = operation.get("value")
    return changed
