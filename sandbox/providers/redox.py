"""Redox's FHIR API as far as a file is sent through it, and its token server, after the vendor's pages
"Send a file via the Redox FHIR API", "Authenticate an OAuth API key", "Quotas and constraints" and "Error handling".

One hospital is connected. A 200 says that a message has been queued; here it is in the chart at once.
"""

import math
import re
import secrets
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from aiohttp import web
from joserfc.jwk import RSAKey

from sandbox.charts import Record
from sandbox.context import Setting, Surroundings
from sandbox.faults.commit_faults import Document, after_creating, before_creating
from sandbox.faults.gate import Gate, Refusal
from sandbox.faults.state import World
from sandbox.faults.words import Faults
from sandbox.providers.fhir import (
    JSON,
    Issue,
    Refused,
    answer,
    bundle_in,
    content_type_is,
    error,
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
DESTINATION = "sandbox-hospital"
ENVIRONMENTS = ("Development", "Staging", "Production")
ENVIRONMENT = "Development"
PATIENT_SYSTEM = "urn:oid:2.999.1.4711"
MOST_BYTES = 40_000_000
MOST_UPLOADED_BYTES = 30_000_000
ASSERTION_SECONDS = 300
CALLS, CALLS_WITHIN_SECONDS = 10_000, 300.0
# What curl sends for --data-binary 'file.pdf', without the @
ONLY_A_NAME = re.compile(rb"[\w.-]{1,100}\.(pdf|png|jpe?g|gif|tiff?|txt|docx?|rtf|xml|html?|zip|dcm)")

Handler = Callable[[web.Request], Awaitable[web.Response]]


@dataclass(frozen=True)
class Grant:
    """What a token stands for; times are those of time.time()."""

    client_id: str
    issued_at: float
    expires_at: float


class Redox:
    """The API and its token server."""

    bucket = BUCKET

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._gate = Gate(NAME, around.world, around.turns)
        self._tokens = Tokens(around.world)
        self._window = Window(around.world)
        self._blobs: dict[str, str] = {}  # address → key of an uploaded file that no document has used yet
        self._record_ids: dict[str, str] = {}  # by destination and identifier of the DocumentReference

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        create = API + "/{destination}/{environment}/DocumentReference/$documentreference-create"
        return [
            web.post(TOKEN_PATH, self._give_token),
            web.post(API + "/redox/{environment}/Binary", self._guarded(self._upload)),
            web.post(create, self._guarded(self._create)),
            web.route("*", API + "/{anything:.*}", self._guarded(no_such_endpoint)),
        ]

    def accounts(self) -> dict[str, dict[str, Setting]]:
        return {
            ACCOUNT: {
                "provider": NAME,
                "base_url": self._around.base_url + API,
                "client_id": CLIENT_ID,
                "key_id": KEY_ID,
                "private_key": as_pem(self._key),
                "token_url": self._around.base_url + TOKEN_PATH,
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
        rules = AssertionRules(self._around.base_url + TOKEN_PATH, ("RS384",), ASSERTION_SECONDS)
        return Assertions(Client(CLIENT_ID, KEY_ID, self._key), rules)

    async def _give_token(self, request: web.Request) -> web.Response:
        try:
            return await self._token(request)
        except TokenRefused as refused:
            return refused.answer()

    async def _token(self, request: web.Request) -> web.Response:
        if refusal := await self._gate.outage(request) or self._gate.throttle():
            raise TokenRefused(refusal.status, "temporarily_unavailable", "not now", reset_header(refusal))
        form = await token_request(request)
        try:
            self._assertions.check(form["client_assertion"])
        except NotProven as wrong:
            raise TokenRefused(401, "invalid_client", str(wrong)) from None
        if CLIENT_ID in self._around.world.revoked:
            raise TokenRefused(401, "invalid_client", "the key has been revoked")
        seconds = self._around.world.redox_token_seconds
        return token_answer(
            {
                "access_token": self._tokens.issue(CLIENT_ID, seconds),
                "token_type": "Bearer",
                "expires_in": seconds,
                "scope": form.get("scope", f"fhir:{ENVIRONMENT.lower()}"),
            }
        )

    def _guarded(self, handler: Handler) -> Handler:
        async def answered(request: web.Request) -> web.Response:
            try:
                await self._admit(request)
                response = await handler(request)
            except Refused as refused:
                response = refusal_answer(refused)
            for name, value in self._window.headers(response.status).items():
                response.headers.setdefault(name, value)
            return response

        return answered

    async def _admit(self, request: web.Request) -> None:
        refuse(await self._gate.outage(request))
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Bearer" or not self._tokens.hold(token):
            raise unauthorized()
        refuse(self._gate.throttle())
        environment = request.match_info.get("environment", ENVIRONMENT)
        if environment not in ENVIRONMENTS:
            raise Refused(404, error("not-found", f"the environment is none of {', '.join(ENVIRONMENTS)}"))
        if environment != ENVIRONMENT:
            raise Refused(403, error("forbidden", "the key is for another environment"))

    async def _upload(self, request: web.Request) -> web.Response:
        if self._around.world.redox_binary_forbidden:
            raise Refused(403, error("forbidden", "this organization may not upload files"))
        content = await read_body(request, MOST_UPLOADED_BYTES)
        if not content:
            raise Refused(400, error("required", "the body is empty"))
        if ONLY_A_NAME.fullmatch(content):
            raise Refused(400, error("invalid", "the body is a file's name instead of its content"))
        key = f"uploaded/{uuid.uuid4()}"
        await self._around.objects.put(BUCKET, key, content)
        address = self._around.base_url + BLOB_PATH + str(uuid.uuid4())
        self._blobs[address] = key
        return web.Response(status=201, headers={"Location": address})

    async def _create(self, request: web.Request) -> web.Response:
        if request.match_info["destination"] != DESTINATION:
            raise Refused(404, error("not-found", "there is no such destination"))
        content_type_is(request, JSON)
        message = message_in(bundle_in(await read_json(request, MOST_BYTES)))
        document: Document = (NAME, ACCOUNT, message.patient_id, message.title)
        faults = Faults.read(message.title)
        self._refuse_patient(message.patient_id)
        refuse(before_creating(document, faults, self._around.turns))
        if faults.invalid:
            raise Refused(400, error("invalid", "the destination does not take such documents"))
        if faults.error_200:
            return self._error_in_200(message.title)
        record_id = await self._accept(message)
        if await after_creating(document, faults, self._around.turns):
            return web.Response(status=504, text="Gateway Timeout")
        return self._success(record_id)

    def _refuse_patient(self, patient_id: str) -> None:
        if patient_id.startswith("401"):
            raise unauthorized()
        refusal = self._gate.patient(ACCOUNT, patient_id)
        if refusal and refusal.status == 404:
            raise Refused(400, error("not-found", "the destination knows no such patient"))
        refuse(refusal)

    async def _accept(self, message: Message) -> str:
        """File the document; its id. The same identifier again is the same document, where the world wants that."""
        known = [self._record_ids[each] for each in sorted(message.identifiers) if each in self._record_ids]
        if known and self._around.world.redox_dedupe:
            return known[0]
        key = await self._stored(message)
        witness = await self._around.objects.witness(BUCKET, key)
        record_id = str(uuid.UUID(int=self._around.random.getrandbits(128), version=4))
        self._record_ids.update(dict.fromkeys(message.identifiers, record_id))
        self._around.charts.add(
            Record(NAME, ACCOUNT, message.patient_id, message.title, witness.size_bytes, witness.sha256, record_id)
        )
        return record_id

    async def _stored(self, message: Message) -> str:
        """Where the engine holds the document's bytes. An uploaded file serves one document only."""
        if message.content is None:
            key = self._blobs.pop(message.url or "", None)
            if key is None:
                raise Refused(400, error("value", "attachment.url is not an uploaded file, or has been used before"))
            return key
        key = f"embedded/{uuid.uuid4()}"
        await self._around.objects.put(BUCKET, key, message.content)
        return key

    def _success(self, record_id: str) -> web.Response:
        """Callers have seen either of two forms."""
        if self._around.world.redox_outcomes:
            return answer(outcome(Issue("information", "informational", "the message has been queued")))
        return answer(response_bundle({"status": "201 Created", "location": f"DocumentReference/{record_id}"}))

    def _error_in_200(self, title: str) -> web.Response:
        said = outcome(error("processing", "the destination answered with an error"))
        if "ERR200-ENTRY" in title:
            return answer(response_bundle({"status": "422 Unprocessable Entity", "outcome": said}))
        return answer(said)


class Tokens:
    """Opaque bearer tokens."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._grants: dict[str, Grant] = {}

    def issue(self, client_id: str, seconds: int) -> str:
        token, now = secrets.token_urlsafe(32), time.time()
        self._grants[token] = Grant(client_id, now, now + seconds)
        return token

    def hold(self, token: str) -> bool:
        """Whether this token is good now."""
        grant = self._grants.get(token)
        if grant is None or grant.client_id in self._world.revoked:
            return False
        return grant.expires_at > time.time() and grant.issued_at > self._world.tokens_dead_before.get(NAME, 0)


class Window:
    """The X-RateLimit headers: 10,000 calls in five minutes, or what the world's throttle says for a minute."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._answered_at: deque[float] = deque(maxlen=CALLS)

    def headers(self, status: int) -> dict[str, str]:
        """For the answer that is being given. Reset is in seconds since 1970."""
        throttled = self._world.throttle.get(NAME)
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


def unauthorized() -> Refused:
    headers = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
    return Refused(401, error("login", "there is no valid token"), headers=headers)


def refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise Refused(refusal.status, error("transient", "not now"), headers=reset_header(refusal))


def reset_header(refusal: Refusal) -> dict[str, str]:
    """The vendor documents no Retry-After."""
    seconds = refusal.retry_after_seconds
    return {} if seconds is None else {"X-RateLimit-Reset": str(math.ceil(time.time() + seconds))}


def response_bundle(response: Mapping[str, object]) -> dict[str, object]:
    return {"resourceType": "Bundle", "type": "batch-response", "entry": [{"response": response}]}


async def no_such_endpoint(request: web.Request) -> web.Response:
    raise Refused(404, error("not-found", "there is no such operation"))
