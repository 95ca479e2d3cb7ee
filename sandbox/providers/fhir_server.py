"""A FHIR R4 server: DocumentReference, Binary and Patient, after https://hl7.org/fhir/R4/http.html.

Conditional create and update, search by identifier and patient, transactions, versions, Prefer, raw Binaries. Which of
these it has a test can change (`fhir_without`). Every patient is known whose id does not begin with 404. An
identifier of PATIENT_SYSTEM finds the patient whose id is its value, and `twins-…` finds two.
"""

import asyncio
import base64
import json
import math
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import parse_qsl

from aiohttp import web

from sandbox.charts import Record
from sandbox.context import Context, Handler, Setting
from sandbox.faults.commit_faults import Document, after_commit, before_commit
from sandbox.faults.disturbances import Disturbances, Refusal
from sandbox.faults.words import Faults
from sandbox.providers.fhir import (
    JSON,
    MIME_TYPE,
    Issue,
    Json,
    Refused,
    Resource,
    codings,
    decode_base64,
    dig,
    error,
    fhir_answer,
    objects,
    outcome,
    read_body,
    refusal_answer,
    text,
)
from sandbox.providers.fhir_login import CLIENT_ID, KEY_ID, SCOPES, Logins
from sandbox.providers.fhir_statement import capability_statement, smart_configuration
from sandbox.providers.token_server import TokenRefused

Answered = TypeVar("Answered")

NAME = "fhir"
ACCOUNT = "fhir_clinic"
PREFIX = "/fhir-server"
API = PREFIX + "/R4"
TOKEN_PATH = PREFIX + "/oauth2/token"
BUCKET = "fhir-binaries"
PATIENT_SYSTEM = "urn:oid:2.999.1.815"
MAX_BYTES = 80_000_000
ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
STATUSES = ("current", "superseded", "entered-in-error")
DOC_STATUSES = ("preliminary", "final", "amended", "entered-in-error")


@dataclass
class Kept:
    """A DocumentReference as it is kept: its bytes are in the engine."""

    resource: dict[str, Json]
    record: Record
    version: int = 1
    indexed_at: float = 0.0
    content_key: str | None = None  # of bytes that came inline

    @property
    def id(self) -> str:
        return str(self.resource["id"])


@dataclass(frozen=True)
class Binary:
    content_type: str
    key: str
    version: int = 1


@dataclass(frozen=True)
class Reply:
    """What one interaction comes to, alone or as an entry of a transaction."""

    status: int
    location: str = ""
    version: int = 0
    resource: Resource | None = field(default=None, repr=False)


class FhirServer:
    """The server and its token server."""

    bucket = BUCKET

    def __init__(self, context: Context) -> None:
        self._context = context
        self._disturbances = Disturbances(NAME, context.state, context.turns)
        self._logins = Logins(NAME, context.base_url + TOKEN_PATH, context.state)
        self._documents: dict[str, Kept] = {}
        self._binaries: dict[str, Binary] = {}
        self._one_at_a_time = asyncio.Lock()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.post(TOKEN_PATH, self._give_token),
            web.get(API + "/metadata", self._open(self._statement)),
            web.get(API + "/.well-known/smart-configuration", self._open(self._smart)),
            web.post(API, self._guarded(self._transaction)),
            web.post(API + "/", self._guarded(self._transaction)),
            web.post(API + "/DocumentReference", self._guarded(self._create)),
            web.put(API + "/DocumentReference", self._guarded(self._update_by_search)),
            web.get(API + "/DocumentReference", self._guarded(self._search)),
            web.get(API + "/DocumentReference/{id}", self._guarded(self._read)),
            web.post(API + "/Binary", self._guarded(self._create_binary)),
            web.put(API + "/Binary/{id}", self._guarded(self._put_binary)),
            web.get(API + "/Binary/{id}", self._guarded(self._read_binary)),
            web.get(API + "/Patient", self._guarded(self._search_patients)),
            web.get(API + "/Patient/{id}", self._guarded(self._read_patient)),
            web.route("*", API + "/{anything:.*}", self._guarded(no_such_resource)),
        ]

    def accounts(self) -> dict[str, dict[str, Setting]]:
        return {
            ACCOUNT: {
                "provider": NAME,
                "base_url": self._context.base_url + API,
                "auth": "smart",
                "client_id": CLIENT_ID,
                "key_id": KEY_ID,
                "private_key": self._logins.private_key,
                "insecure": True,
                "requests_per_minute": 60_000,
                "metadata": {
                    "type": "http://loinc.org|34133-9|Summarization of episode note",
                    "author": {"name": "Sandbox Clinic", "identifier": "urn:oid:2.999.1.100|1"},
                },
            }
        }

    async def stop(self) -> None:
        """Nothing runs in the background."""

    # --- who may call ------------------------------------------------------------------------------------------

    async def _give_token(self, request: web.Request) -> web.Response:
        try:
            if refusal := await self._disturbances.outage(request) or self._disturbances.throttle():
                raise TokenRefused(refusal.status, "temporarily_unavailable", "not now", retry_header(refusal))
            return await self._logins.issue(request)
        except TokenRefused as refused:
            return refused.answer()

    def _open(self, handler: Handler) -> Handler:
        """For everybody, as the specification has it for statement and configuration."""

        async def answer(request: web.Request) -> web.Response:
            try:
                refuse(await self._disturbances.outage(request))
                return await handler(request)
            except Refused as refused:
                return refusal_answer(refused)

        return answer

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            try:
                refuse(await self._disturbances.outage(request))
                if not self._logins.is_known(request):
                    headers = {"WWW-Authenticate": "Bearer"}
                    raise Refused(401, error("login", "there is no valid token"), headers=headers)
                refuse(self._disturbances.throttle())
                return await handler(request)
            except Refused as refused:
                return refusal_answer(refused)

        return answer

    def _lacks(self, part: str) -> bool:
        return part in self._context.state.fhir_without

    async def _statement(self, request: web.Request) -> web.Response:
        without = self._context.state.fhir_without
        return fhir_answer(capability_statement(self._context.base_url + TOKEN_PATH, without))

    async def _smart(self, request: web.Request) -> web.Response:
        if self._lacks("smart-configuration"):
            raise Refused(404, error("not-found", "there is no such address"))
        return web.json_response(smart_configuration(self._context.base_url + TOKEN_PATH, SCOPES))

    # --- DocumentReference -------------------------------------------------------------------------------------

    async def _create(self, request: web.Request) -> web.Response:
        """A create, or with a condition a conditional one (https://hl7.org/fhir/R4/http.html#ccreate)."""
        if self._lacks("create"):
            raise Refused(405, error("not-supported", "DocumentReference cannot be created"))
        resource = await json_in(request)
        condition = request.headers.get("If-None-Exist", "")
        return self._said(request, await self._with_faults(resource, lambda: self._created(resource, condition)))

    async def _update_by_search(self, request: web.Request) -> web.Response:
        """A conditional update (https://hl7.org/fhir/R4/http.html#cond-update)."""
        if self._lacks("conditionalUpdate"):
            raise Refused(405, error("not-supported", "there is no conditional update"))
        resource, query = await json_in(request), request.query_string
        return self._said(request, await self._with_faults(resource, lambda: self._updated(resource, query)))

    async def _with_faults(self, resource: Resource, act: Callable[[], Awaitable[Answered]]) -> Answered:
        """What the document's title and the patient's id ask for, before and after it took effect."""
        document, faults = self._refuse_faults(resource)
        async with self._one_at_a_time:
            answered = await act()
        if gateway := await after_commit(document, faults, self._context.turns):
            raise Refused(gateway.status, error("timeout", "a gateway's answer"))
        return answered

    async def _created(self, resource: Resource, condition: str) -> Reply:
        earlier = None if self._lacks("conditionalCreate") or not condition else self._only_match(condition)
        if earlier:
            return self._reply(200, earlier)
        self._check(resource)
        return self._reply(201, await self._keep(resource))

    async def _updated(self, resource: Resource, condition: str) -> Reply:
        earlier = self._only_match(condition)
        self._check(resource)
        return self._reply(200 if earlier else 201, await self._keep(resource, earlier))

    def _only_match(self, condition: str) -> Kept | None:
        matches = self._matching(condition)
        if len(matches) > 1:
            raise Refused(412, error("multiple-matches", "several resources match the condition"))
        return matches[0] if matches else None

    def _refuse_faults(self, resource: Resource) -> tuple[Document, Faults]:
        """The faults that the document's title asks for, and what the patient's id does."""
        patient = patient_in(resource)
        title = text(resource, "content", 0, "attachment", "title")
        document: Document = (NAME, ACCOUNT, patient, title)
        faults = Faults.read(title)
        refusal = self._disturbances.patient(ACCOUNT, patient)
        if refusal and refusal.status == 404:
            raise Refused(422, error("not-found", "subject refers to a resource that does not exist"))
        refuse(refusal)
        refuse(before_commit(document, faults, self._context.turns))
        if faults.invalid:
            raise Refused(422, error("business-rule", f"a document called {title} is not taken"))
        return document, faults

    def _check(self, resource: Resource) -> None:
        if issues := list(document_issues(resource)):
            raise Refused(422, *issues)

    async def _keep(self, resource: Resource, earlier: Kept | None = None) -> Kept:
        kept = json.loads(json.dumps(resource))
        attachment = kept["content"][0]["attachment"]
        inline = attachment.pop("data", None)
        content_key = None
        if inline is not None:
            key = content_key = f"inline/{self._context.uuid()}"
            await self._context.objects.put(BUCKET, key, decode_base64(inline))
        else:
            url = text(attachment, "url")
            binary = self._binaries.get(url.removeprefix(self._context.base_url + API + "/").removeprefix("Binary/"))
            if binary is None:
                raise Refused(422, error("not-found", "attachment.url refers to a resource that does not exist"))
            key = binary.key
        if self._lacks("size and hash"):
            attachment.pop("size", None)
            attachment.pop("hash", None)
        witness = await self._context.objects.witness(BUCKET, key)
        id_ = earlier.id if earlier else str(self._context.uuid())
        record = Record(
            NAME, ACCOUNT, patient_in(kept), text(attachment, "title"), witness.size_bytes, witness.sha256, id_
        )
        version = earlier.version + 1 if earlier else 1
        kept |= {"id": id_, "meta": {"versionId": str(version), "lastUpdated": datetime.now(UTC).isoformat()}}
        made = Kept(kept, record, version, time.monotonic() + self._context.state.fhir_index_seconds, content_key)
        self._documents[id_] = made
        if earlier:
            self._context.charts.replace(earlier.record, record)
        else:
            self._context.charts.add(record)
        return made

    def _matching(self, query: str) -> list[Kept]:
        """Those that a search by `identifier` or `patient` finds. Raises Refused for other searches."""
        found = [each for each in self._documents.values() if each.indexed_at <= time.monotonic()]
        params = [(name, value) for name, value in parse_qsl(query) if not name.startswith("_")]
        for name, value in params:
            if name == "identifier":
                found = [each for each in found if has_identifier(each.resource, value)]
            elif name in ("patient", "subject"):
                wanted = f"Patient/{value.removeprefix('Patient/')}"
                found = [each for each in found if text(each.resource, "subject", "reference") == wanted]
            else:
                raise Refused(400, error("not-supported", f"there is no search parameter {name}"))
        if not params:
            raise Refused(412, error("not-supported", "the condition is too wide"))
        return found

    async def _search(self, request: web.Request) -> web.Response:
        if "identifier" in request.query and self._lacks("identifier"):
            raise Refused(400, error("not-supported", "there is no search parameter identifier"))
        found = self._matching(request.query_string)
        size, offset = int(request.query.get("_count", "20")), int(request.query.get("_offset", "0"))
        page = found[offset : offset + size]
        entries = [
            {
                "fullUrl": f"{self._context.base_url}{API}/DocumentReference/{each.id}",
                "resource": await self._whole(each, summary="_summary" in request.query),
                "search": {"mode": "match"},
            }
            for each in page
        ]
        link = [{"relation": "self", "url": str(request.url)}]
        if offset + size < len(found):
            next_page = request.rel_url.update_query(_offset=str(offset + size))
            link.append({"relation": "next", "url": f"{self._context.base_url}{next_page}"})
        bundle = {"resourceType": "Bundle", "type": "searchset", "total": len(found), "link": link, "entry": entries}
        return fhir_answer(bundle)

    async def _read(self, request: web.Request) -> web.Response:
        if self._lacks("read"):
            raise Refused(405, error("not-supported", "DocumentReference cannot be read"))
        kept = self._documents.get(request.match_info["id"])
        if kept is None:
            raise Refused(404, error("not-found", "there is no such resource"))
        resource = await self._whole(kept, summary="_summary" in request.query)
        return fhir_answer(resource, headers={"ETag": f'W/"{kept.version}"'})

    async def _whole(self, kept: Kept, *, summary: bool) -> Resource:
        """With its bytes, if they came inline and are not to be left away (Attachment.data is not in summaries)."""
        if kept.content_key is None or summary:
            return kept.resource
        data = base64.b64encode(await self._context.objects.get(BUCKET, kept.content_key)).decode()
        whole: dict[str, Json] = json.loads(json.dumps(kept.resource))
        whole["content"][0]["attachment"]["data"] = data
        return whole

    # --- Binary ------------------------------------------------------------------------------------------------

    async def _create_binary(self, request: web.Request) -> web.Response:
        if self._lacks("Binary"):
            raise Refused(404, error("not-supported", "there is no Binary"))
        return self._said(request, await self._binary_of(request, str(self._context.uuid())))

    async def _put_binary(self, request: web.Request) -> web.Response:
        if self._lacks("updateCreate") or self._lacks("Binary"):
            raise Refused(405, error("not-supported", "the server chooses the ids"))
        return self._said(request, await self._binary_of(request, request.match_info["id"]))

    async def _binary_of(self, request: web.Request, id_: str) -> Reply:
        """https://hl7.org/fhir/R4/binary.html: any content but FHIR's is taken as it comes."""
        self._check_context(request.headers.get("X-Security-Context", ""))
        content = await read_body(request, MAX_BYTES)
        if request.content_type == JSON:
            return await self._keep_binary(id_, json.loads(content))
        return await self._keep_content(id_, request.content_type, content)

    def _check_context(self, reference: str) -> None:
        kind, _, id_ = reference.partition("/")
        if reference and (kind != "Patient" or id_.startswith("404") or not ID.fullmatch(id_)):
            raise Refused(422, error("not-found", "the security context refers to a resource that does not exist"))

    async def _keep_binary(self, id_: str, resource: Resource) -> Reply:
        if resource.get("resourceType") != "Binary" or not MIME_TYPE.fullmatch(text(resource, "contentType")):
            raise Refused(400, error("structure", "this is not a Binary with a contentType"))
        self._check_context(text(resource, "securityContext", "reference"))
        try:
            content = decode_base64(text(resource, "data"))
        except ValueError:
            raise Refused(422, error("value", "Binary.data is not base64")) from None
        return await self._keep_content(id_, text(resource, "contentType"), content)

    async def _keep_content(self, id_: str, content_type: str, content: bytes) -> Reply:
        if not content:
            raise Refused(400, error("required", "the body is empty"))
        earlier, key = self._binaries.get(id_), f"binary/{self._context.uuid()}"
        await self._context.objects.put(BUCKET, key, content)
        version = earlier.version + 1 if earlier else 1
        self._binaries[id_] = Binary(content_type, key, version)
        return Reply(200 if earlier else 201, f"Binary/{id_}/_history/{version}", version)

    async def _read_binary(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        binary = self._binaries.get(id_)
        if binary is None:
            raise Refused(404, error("not-found", "there is no such resource"))
        content = await self._context.objects.get(BUCKET, binary.key)
        if self._lacks("raw Binary") or request.headers.get("Accept", "*/*").startswith(JSON):
            data = base64.b64encode(content).decode()
            return fhir_answer({"resourceType": "Binary", "id": id_, "contentType": binary.content_type, "data": data})
        return web.Response(
            body=content, headers={"Content-Type": binary.content_type, "ETag": f'W/"{binary.version}"'}
        )

    # --- Patient -----------------------------------------------------------------------------------------------

    async def _read_patient(self, request: web.Request) -> web.Response:
        id_ = request.match_info["id"]
        if self._lacks("Patient") or id_.startswith("404") or not ID.fullmatch(id_):
            raise Refused(404, error("not-found", "there is no such resource"))
        return fhir_answer(patient(id_), headers={"ETag": 'W/"1"'})

    async def _search_patients(self, request: web.Request) -> web.Response:
        system, _, value = request.query.get("identifier", "").partition("|")
        value = re.sub(r"\\(.)", r"\1", value)
        known = system == PATIENT_SYSTEM and value and not value.startswith("404")
        ids = [] if not known else [value, f"{value}-2"] if value.startswith("twins-") else [value]
        entries = [{"resource": patient(id_, value), "search": {"mode": "match"}} for id_ in ids]
        return fhir_answer({"resourceType": "Bundle", "type": "searchset", "total": len(ids), "entry": entries})

    # --- transactions ------------------------------------------------------------------------------------------

    async def _transaction(self, request: web.Request) -> web.Response:
        """One Binary and one DocumentReference, all or nothing (https://hl7.org/fhir/R4/http.html#transaction)."""
        bundle = await json_in(request)
        entries = objects(bundle.get("entry"))
        if self._lacks("transaction") or bundle.get("type") != "transaction":
            raise Refused(400, error("not-supported", "this is not a transaction, or there are none"))
        by_kind = {text(entry, "resource", "resourceType"): entry for entry in entries}
        if len(entries) != 2 or set(by_kind) != {"Binary", "DocumentReference"}:
            raise Refused(422, error("not-supported", "a transaction holds one Binary and one DocumentReference"))
        binary, document = by_kind["Binary"], by_kind["DocumentReference"]
        method, url = text(binary, "request", "method"), text(binary, "request", "url")
        if method == "PUT" and self._lacks("updateCreate"):
            raise Refused(405, error("not-supported", "the server chooses the ids"))
        id_ = url.removeprefix("Binary/") if method == "PUT" else str(self._context.uuid())
        # Every text that equals a fullUrl becomes the resource's address.
        resource = replaced(document["resource"], text(binary, "fullUrl"), f"Binary/{id_}")
        condition = text(document, "request", "url").partition("?")[2]

        async def both() -> dict[str, Reply]:
            # What is refused must be refused before the Binary is kept.
            self._check(resource)
            self._only_match(condition or text(document, "request", "ifNoneExist") or f"identifier={uuid.uuid4()}")
            first = await self._keep_binary(id_, binary["resource"])
            if text(document, "request", "method") == "PUT":
                return {"Binary": first, "DocumentReference": await self._updated(resource, condition)}
            created = await self._created(resource, text(document, "request", "ifNoneExist"))
            return {"Binary": first, "DocumentReference": created}

        replies = await self._with_faults(resource, both)
        answers = [self._as_entry(replies[text(entry, "resource", "resourceType")]) for entry in entries]
        return fhir_answer({"resourceType": "Bundle", "type": "transaction-response", "entry": answers})

    def _as_entry(self, reply: Reply) -> Resource:
        said = "201 Created" if reply.status == 201 else "200 OK"
        return {"response": {"status": said, "location": reply.location, "etag": f'W/"{reply.version}"'}}

    # --- answers -----------------------------------------------------------------------------------------------

    def _reply(self, status: int, kept: Kept) -> Reply:
        return Reply(status, f"DocumentReference/{kept.id}/_history/{kept.version}", kept.version, kept.resource)

    def _said(self, request: web.Request, reply: Reply) -> web.Response:
        """With a body only if `Prefer` asks for one (https://hl7.org/fhir/R4/http.html#return)."""
        headers = {"ETag": f'W/"{reply.version}"'}
        if not self._lacks("Location"):
            absolute = not self._lacks("absolute Location")
            headers["Location"] = (f"{self._context.base_url}{API}/" if absolute else "") + reply.location
        prefer = request.headers.get("Prefer", "")
        if "return=representation" in prefer and reply.resource:
            return fhir_answer(reply.resource, reply.status, headers)
        if "return=OperationOutcome" in prefer:
            return fhir_answer(outcome(), reply.status, headers)
        return web.Response(status=reply.status, headers=headers)


async def json_in(request: web.Request) -> Resource:
    if request.content_type not in (JSON, "application/json"):
        raise Refused(415, error("not-supported", f"Content-Type is not {JSON}"))
    try:
        parsed = json.loads(await read_body(request, MAX_BYTES))
    except ValueError:
        raise Refused(400, error("structure", "the body is not JSON")) from None
    if not isinstance(parsed, dict):
        raise Refused(400, error("structure", "the body is not a resource"))
    return parsed


def document_issues(resource: Resource) -> Iterator[Issue]:
    """What R4 and US Core's profile require of a DocumentReference."""
    if resource.get("resourceType") != "DocumentReference":
        yield error("structure", "the body is not a DocumentReference")
        return
    if resource.get("status") not in STATUSES:
        yield error("required", "status is missing or not one of FHIR's")
    if resource.get("docStatus", "final") not in DOC_STATUSES:
        yield error("value", "docStatus is not one of FHIR's")
    if not codings(resource.get("type")):
        yield error("required", "type is missing")
    if not any(codings(each) for each in objects(resource.get("category"))):
        yield error("required", "category is missing")
    if not re.fullmatch(r"Patient/[A-Za-z0-9.-]{1,64}", text(resource, "subject", "reference")):
        yield error("required", "subject is missing or not a Patient")
    if "date" in resource and not INSTANT.fullmatch(text(resource, "date")):
        yield error("value", "date is not an instant")
    if len(objects(resource.get("content"))) != 1:
        yield error("required", "content is not one item")
        return
    yield from attachment_issues(resource)
    yield from (error("invalid", f"{name} is empty") for name, value in resource.items() if value in ("", [], {}, None))


def attachment_issues(resource: Resource) -> Iterator[Issue]:
    attachment = dig(resource, "content", 0, "attachment")
    if not isinstance(attachment, dict) or not MIME_TYPE.fullmatch(text(attachment, "contentType")):
        yield error("required", "attachment.contentType is missing")
    if not text(attachment, "data") and not text(attachment, "url"):
        yield error("required", "attachment has neither data nor url")  # us-core-6
    if "data" in (attachment or {}):
        try:
            decode_base64(text(attachment, "data"))
        except ValueError:
            yield error("value", "attachment.data is not base64")


def has_identifier(resource: Resource, token: str) -> bool:
    """https://hl7.org/fhir/R4/search.html#token: `system|value`, or a value of any system."""
    system, bar, value = token.rpartition("|")
    identifiers = [*objects(resource.get("identifier")), *objects([resource.get("masterIdentifier")])]
    return any(text(each, "value") == value and (not bar or text(each, "system") == system) for each in identifiers)


def patient_in(resource: Resource) -> str:
    return text(resource, "subject", "reference").removeprefix("Patient/")


def patient(id_: str, identifier: str = "") -> Resource:
    return {
        "resourceType": "Patient",
        "id": id_,
        "meta": {"versionId": "1"},
        "active": True,
        "identifier": [{"system": PATIENT_SYSTEM, "value": identifier or id_}],
    }


def replaced(resource: Json, old: str, new: str) -> Json:
    """A copy in which every text that equals `old` is `new`."""
    if isinstance(resource, dict):
        return {name: replaced(value, old, new) for name, value in resource.items()}
    if isinstance(resource, list):
        return [replaced(each, old, new) for each in resource]
    return new if old and resource == old else resource


def refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise Refused(refusal.status, error("transient", "not now"), headers=retry_header(refusal))


def retry_header(refusal: Refusal) -> dict[str, str]:
    seconds = refusal.retry_after_seconds
    return {} if seconds is None else {"Retry-After": str(math.ceil(seconds))}


async def no_such_resource(request: web.Request) -> web.Response:
    raise Refused(404, error("not-found", "there is no such resource or operation"))
