"""The part of Redox's FHIR API that sends files, and its token server, after https://docs.redoxengine.com: "Send a file
via the Redox FHIR API", "Authenticate an OAuth API key", "Quotas and constraints" and "Error handling".

One hospital is connected. Redox's 200 means that a message has been queued; here the document is in the chart at once.
"""

import math
import re
import secrets
import time
import uuid
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from aiohttp import web
from joserfc.jwk import RSAKey

from sandbox.charts import Record
from sandbox.context import Context, Handler, Setting
from sandbox.faults.commit_faults import Document, after_commit, before_commit
from sandbox.faults.disturbances import Disturbances, Refusal
from sandbox.faults.state import State
from sandbox.faults.words import Faults
from sandbox.providers.fhir import (
    JSON,
    Issue,
    Refused,
    bundle_in,
    content_type_is,
    error,
    fhir_answer,
    outcome,
    read_body,
    read_json,
    refusal_answer,
)
from sandbox.providers.jose import AssertionRules, Assertions, Client, NotProven, as_pem, new_key
from sandbox.providers.redox_message import Message, message_in
from sandbox.providers.token_server import TokenRefused, token_answer, token_request

NAME = "redox"
ACCOUNT = "redox_hospital"
PREFIX = "/redox"
API = PREFIX + "/fhir/R4"
TOKEN_PATH = PREFIX + "/v2/auth/token"
BLOB_PATH = PREFIX + "/blob/"
BUCKET = "redox-blobs"
CLIENT_ID = "5a7c1e60-4a57-4b0c-9d1f-000000000001"
KEY_ID = "sandbox-redox-key"
SOURCE_ID = "0c5b7e22-8a54-4f0e-9d6b-000000000002"
DESTINATION = "sandbox-hospital"
ENVIRONMENTS = ("Development", "Staging", "Production")
ENVIRONMENT = "Development"
PATIENT_SYSTEM = "urn:oid:2.999.1.4711"
OPERATION = "https://fhir.redoxengine.com/OperationDefinition/documentreference-create"
MAX_BYTES = 40_000_000
MAX_UPLOADED_BYTES = 30_000_000
ASSERTION_SECONDS = 300
CALLS, CALLS_WITHIN_SECONDS = 10_000, 300.0
# The body that curl sends for --data-binary 'file.pdf', where the @ before the name was forgotten.
ONLY_A_NAME = re.compile(rb"[\w.-]{1,100}\.(pdf|png|jpe?g|gif|tiff?|txt|docx?|rtf|xml|html?|zip|dcm)")


@dataclass(frozen=True)
class Grant:
    """What a token stands for; times are time.time()'s."""

    client_id: str
    issued_at: float
    expires_at: float


class Redox:
    """The API and its token server."""

    bucket = BUCKET

    def __init__(self, context: Context) -> None:
        self._context = context
        self._disturbances = Disturbances(NAME, context.state, context.turns)
        self._tokens = Tokens(context.state)
        self._window = Window(context.state)
        self._blobs: dict[str, str] = {}  # address → key of an uploaded file that no document has used yet
        self._record_ids: dict[str, str] = {}  # identifier of a DocumentReference → id of its record

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        create = API + "/{destination}/{environment}/DocumentReference/$documentreference-create"
        return [
            web.post(TOKEN_PATH, self._give_token),
            web.post(API + "/redox/{environment}/Binary", self._guarded(self._upload)),
            web.post(create, self._guarded(self._create)),
            web.get(API + "/{destination}/{environment}/metadata", self._guarded(self._describe)),
            web.route("*", API + "/{anything:.*}", self._guarded(no_such_endpoint)),
        ]

    def accounts(self) -> dict[str, dict[str, Setting]]:
        return {
            ACCOUNT: {
                "provider": NAME,
                "base_url": self._context.base_url + API,
                "client_id": CLIENT_ID,
                "key_id": KEY_ID,
                "private_key": as_pem(self._key),
                "source_id": SOURCE_ID,
                "destination": DESTINATION,
                "environment": ENVIRONMENT,
                "patient_system": PATIENT_SYSTEM,
                "insecure": True,
                "requests_per_minute": 60_000,
                "metadata": {
                    "type": "http://loinc.org|34133-9|Summarization of episode note",
                    "category": "http://loinc.org|11488-4|Consult note",
                    "author": {"name": "Sandbox Clinic", "identifier": "urn:oid:2.999.1.100|1"},
                },
            }
        }

    async def stop(self) -> None:
        """Nothing runs in the background."""

    @cached_property
    def _key(self) -> RSAKey:
        """Made when it is first asked for, since that takes a tenth of a second."""
        return new_key()

    @cached_property
    def _assertions(self) -> Assertions:
        rules = AssertionRules(self._context.base_url + TOKEN_PATH, ("RS384",), ASSERTION_SECONDS)
        return Assertions(Client(CLIENT_ID, KEY_ID, self._key), rules)

    async def _give_token(self, request: web.Request) -> web.Response:
        try:
            return await self._issue_token(request)
        except TokenRefused as refused:
            return refused.answer()

    async def _issue_token(self, request: web.Request) -> web.Response:
        if refusal := await self._disturbances.outage(request) or self._disturbances.throttle():
            raise TokenRefused(refusal.status, "temporarily_unavailable", "not now", reset_header(refusal))
        form = await token_request(request)
        try:
            self._assertions.check(form["client_assertion"])
        except NotProven as wrong:
            raise TokenRefused(401, "invalid_client", str(wrong)) from None
        if CLIENT_ID in self._context.state.revoked:
            raise TokenRefused(401, "invalid_client", "the key has been revoked")
        seconds = self._context.state.redox_token_seconds
        return token_answer(
            {
                "access_token": self._tokens.issue(CLIENT_ID, seconds),
                "token_type": "Bearer",
                "expires_in": seconds,
                "scope": form.get("scope", f"fhir:{ENVIRONMENT.lower()}"),
            }
        )

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            try:
                await self._admit(request)
                response = await handler(request)
            except Refused as refused:
                response = refusal_answer(refused)
            for name, value in self._window.headers(response.status).items():
                response.headers.setdefault(name, value)
            return response

        return answer

    async def _admit(self, request: web.Request) -> None:
        """Raises Refused if an outage, the caller's token, the throttle or the environment stands in the way."""
        refuse(await self._disturbances.outage(request))
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not self._tokens.is_good(token):
            raise unauthorized()
        refuse(self._disturbances.throttle())
        environment = request.match_info.get("environment", ENVIRONMENT)
        if environment not in ENVIRONMENTS:
            raise Refused(404, error("not-found", f"the environment is none of {', '.join(ENVIRONMENTS)}"))
        if environment != ENVIRONMENT:
            raise Refused(403, error("forbidden", "the key is for another environment"))
        # https://docs.redoxengine.com/permalink/6JuW9m4kL8FiiSa6YE1gLY; with one source it may be left out.
        if request.headers.get("Redox-Source-Id", SOURCE_ID) != SOURCE_ID:
            raise Refused(403, error("forbidden", "the source is not one of this organization"))

    async def _describe(self, request: web.Request) -> web.Response:
        """The destination's CapabilityStatement (https://hl7.org/fhir/R4/capabilitystatement.html)."""
        the_destination(request)
        operation = {"name": "documentreference-create", "definition": OPERATION}
        rest = {"mode": "server", "resource": [{"type": "DocumentReference", "operation": [operation]}]}
        return fhir_answer(
            {
                "resourceType": "CapabilityStatement",
                "status": "active",
                "date": "2026-01-01",
                "kind": "instance",
                "fhirVersion": "4.0.1",
                "format": ["json"],
                "rest": [rest],
            }
        )

    async def _upload(self, request: web.Request) -> web.Response:
        if self._context.state.redox_binary_forbidden:
            raise Refused(403, error("forbidden", "this organization may not upload files"))
        content = await read_body(request, MAX_UPLOADED_BYTES)
        if not content:
            raise Refused(400, error("required", "the body is empty"))
        if ONLY_A_NAME.fullmatch(content):
            raise Refused(400, error("invalid", "the body is a file's name instead of its content"))
        key = f"uploaded/{uuid.uuid4()}"
        await self._context.objects.put(BUCKET, key, content)
        address = self._context.base_url + BLOB_PATH + str(uuid.uuid4())
        self._blobs[address] = key
        return web.Response(status=201, headers={"Location": address})

    async def _create(self, request: web.Request) -> web.Response:
        the_destination(request)
        content_type_is(request, JSON)
        message = message_in(bundle_in(await read_json(request, MAX_BYTES)), SOURCE_ID)
        document: Document = (NAME, ACCOUNT, message.patient_id, message.title)
        faults = Faults.read(message.title)
        self._refuse_patient(message.patient_id)
        refuse(before_commit(document, faults, self._context.turns))
        if faults.invalid:
            raise Refused(400, error("invalid", "the destination does not take such documents"))
        if faults.error_200:
            return self._error_in_200(message.title)
        record_id = await self._accept(message)
        if await after_commit(document, faults, self._context.turns):
            return web.Response(status=504, text="Gateway Timeout")
        return self._success(record_id)

    def _refuse_patient(self, patient_id: str) -> None:
        if patient_id.startswith("401"):
            raise unauthorized()
        refusal = self._disturbances.patient(ACCOUNT, patient_id)
        if refusal and refusal.status == 404:
            raise Refused(400, error("not-found", "the destination knows no such patient"))
        refuse(refusal)

    async def _accept(self, message: Message) -> str:
        """File the document. Returns its record's id, an earlier one if `redox_dedupe` is set and it came before."""
        known = [self._record_ids[each] for each in sorted(message.identifiers) if each in self._record_ids]
        if known and self._context.state.redox_dedupe:
            return known[0]
        key = await self._store(message)
        witness = await self._context.objects.witness(BUCKET, key)
        record_id = str(self._context.uuid())
        self._record_ids.update(dict.fromkeys(message.identifiers, record_id))
        self._context.charts.add(
            Record(NAME, ACCOUNT, message.patient_id, message.title, witness.size_bytes, witness.sha256, record_id)
        )
        return record_id

    async def _store(self, message: Message) -> str:
        """The key of the document's bytes in the engine. Raises Refused."""
        if message.content is None:
            # An uploaded file is good for one document only, hence `pop`.
            key = self._blobs.pop(message.url or "", None)
            if key is None:
                raise Refused(400, error("value", "attachment.url is not an uploaded file, or has been used before"))
            return key
        key = f"embedded/{uuid.uuid4()}"
        await self._context.objects.put(BUCKET, key, message.content)
        return key

    def _success(self, record_id: str) -> web.Response:
        """Redox answers in either of two forms."""
        if self._context.state.redox_outcomes:
            return fhir_answer(outcome(Issue("information", "informational", "the message has been queued")))
        return fhir_answer(response_bundle({"status": "201 Created", "location": f"DocumentReference/{record_id}"}))

    def _error_in_200(self, title: str) -> web.Response:
        failure = outcome(error("processing", "the destination answered with an error"))
        if "ERR200-ENTRY" in title:
            return fhir_answer(response_bundle({"status": "422 Unprocessable Entity", "outcome": failure}))
        return fhir_answer(failure)


class Tokens:
    """Opaque bearer tokens."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._grants: dict[str, Grant] = {}

    def issue(self, client_id: str, seconds: int) -> str:
        token, now = secrets.token_urlsafe(32), time.time()
        self._grants[token] = Grant(client_id, now, now + seconds)
        return token

    def is_good(self, token: str) -> bool:
        """Whether this token is good now."""
        grant = self._grants.get(token)
        if grant is None or grant.client_id in self._state.revoked:
            return False
        return grant.expires_at > time.time() and not self._state.token_is_dead(NAME, grant.issued_at)


class Window:
    """The X-RateLimit headers: 10,000 calls in five minutes, or what a test's throttle allows in one minute."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._answered_at: deque[float] = deque(maxlen=CALLS)

    def headers(self, status: int) -> dict[str, str]:
        """For an answer with this status. Reset is in seconds since 1970."""
        throttled = self._state.throttle.get(NAME)
        limit, seconds = (CALLS, CALLS_WITHIN_SECONDS) if throttled is None else (throttled, 60.0)
        now = time.time()
        if status != 429:
            self._answered_at.append(now)
        within = [at for at in self._answered_at if at > now - seconds]
        reset = (within[0] if within else now) + seconds
        remaining = 0 if status == 429 else max(0, limit - len(within))
        return {
            "X-RateLimit-Limit": str(limit),
            "X-RateLimit-Remaining": str(remaining),
            "X-RateLimit-Reset": str(int(reset) + 1),
        }


def the_destination(request: web.Request) -> None:
    """Raises Refused if the address names another one."""
    if request.match_info["destination"] != DESTINATION:
        raise Refused(404, error("not-found", "there is no such destination"))


def unauthorized() -> Refused:
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return Refused(401, error("login", "there is no valid token"), headers=headers)


def refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise Refused(refusal.status, error("transient", "not now"), headers=reset_header(refusal))


def reset_header(refusal: Refusal) -> dict[str, str]:
    """Stands for Retry-After, which the vendor does not document."""
    seconds = refusal.retry_after_seconds
    return {} if seconds is None else {"X-RateLimit-Reset": str(math.ceil(time.time() + seconds))}


def response_bundle(response: Mapping[str, object]) -> dict[str, object]:
    return {"resourceType": "Bundle", "type": "batch-response", "entry": [{"response": response}]}


async def no_such_endpoint(request: web.Request) -> web.Response:
    raise Refused(404, error("not-found", "there is no such operation"))
