"""Cliniko's patient attachments, after https://docs.api.cliniko.com/openapi/reference/tag/Patient-Attachment, the
introduction before it and https://docs.api.cliniko.com/developer-portal/guides/uploading_patient_attachments.

A document is uploaded to a temporary place, then registered, then processed; only processing makes it a file in the
chart. What becomes of an upload is decided by the name that its file part bears.
"""

import asyncio
import base64
import binascii
import logging
import math
import mimetypes
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from sandbox.bodies import json_object
from sandbox.charts import Record
from sandbox.context import Setting, Surroundings
from sandbox.faults.background import Chores
from sandbox.faults.connection import ConnectionCut
from sandbox.faults.gate import Gate, Refusal
from sandbox.faults.words import Faults
from sandbox.providers.cliniko_lists import BadQuery, Kind, Query, Value, matching, read_filters
from sandbox.s3.uploads import OPEN_NAME, Ticket

NAME = "cliniko"
PREFIX = "/cliniko/v1"
BUCKET = "cliniko-files-region1"
ACCOUNT = "cliniko_clinic"
API_KEY, SHARD = "sandboxClinikoClinic", "-au1"
TENANT_NUMBER = 123
REQUESTS_PER_MINUTE = 200
MAX_DESCRIPTION_CHARACTERS = 255
LINK_SECONDS = 300
UNKNOWN_TYPE = "invalid/invalid"
FIXED_FIELDS = {"success_action_status": "201", "acl": "private"}
FIELDS_IN_ORDER = (
    "key",
    "policy",
    "x-amz-credential",
    "x-amz-signature",
    "x-amz-algorithm",
    "x-amz-date",
    *FIXED_FIELDS,
)
USER_AGENT = re.compile(r"\S.*\([^\s()@]+@[^\s()@]+\)")  # APP_VENDOR_NAME (APP_VENDOR_EMAIL)

FILTERS_FOR_PATIENT = {
    "archived_at": Kind.TIME,
    "content_type": Kind.TEXT,
    "created_at": Kind.TIME,
    "description": Kind.TEXT,
    "filename": Kind.TEXT,
    "id": Kind.NUMBER,
    "processed_at": Kind.TIME,
    "size": Kind.NUMBER,
    "updated_at": Kind.TIME,
    "user_id": Kind.NUMBER,
}
FILTERS = FILTERS_FOR_PATIENT | {"patient_id": Kind.NUMBER}
FILTERS_FOR_ONE = {"archived_at": Kind.TIME}

# The vendor gives words for 422 only.
WORDS = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden. Requests need a User-Agent with a name and a valid contact email.",
    404: "Not Found",
    422: "Validation Failed",
    429: "Rate limit exceeded",
    500: "Internal Server Error",
}

log = logging.getLogger(__name__)


class ApiError(Exception):
    """A refusal in Cliniko's form; `errors` says by field what is wrong with a body."""

    def __init__(self, refusal: Refusal, message: str | None = None, errors: Mapping[str, str] | None = None) -> None:
        self.refusal = refusal
        self.message = message or WORDS.get(refusal.status, "Service Unavailable")
        self.errors = errors
        super().__init__(refusal.status)


@dataclass
class Attachment:
    """One record. Until it is processed, all that is known of its file is where it was uploaded to."""

    id: int
    patient_id: str
    description: str | None
    temp_key: str
    created_at: datetime
    updated_at: datetime
    user_id: int = 1
    processed_at: datetime | None = None
    archived_at: datetime | None = None
    filename: str | None = None
    size: int | None = None
    content_type: str | None = None
    key: str | None = None

    @property
    def uploaded_name(self) -> str:
        return self.temp_key.rpartition("/")[2]


Handler = Callable[[web.Request], Awaitable[web.Response]]


class Cliniko:
    """The API of one clinic. What happens between register and record is in `Processing`."""

    bucket = BUCKET

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._gate = Gate(NAME, around.world, around.turns)
        self._processing = Processing(around)
        self._attachments: dict[str, Attachment] = {}
        self._temp_folders: set[str] = set()
        self._storage_url = around.front.upload_address(BUCKET) + "/"
        # int64, and more than a float can hold
        self._last_id = around.random.randrange(2**60, 2**61)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        records, one = PREFIX + "/patient_attachments", PREFIX + "/patient_attachments/{record}"
        return [
            web.get(PREFIX + "/patients/{patient}/attachment_presigned_post", self._guarded(self._presign)),
            web.get(PREFIX + "/patients/{patient}/patient_attachments", self._guarded(self._list_for_patient)),
            web.get(PREFIX + "/patient_cases/{case}/patient_attachments", self._guarded(self._list_for_case)),
            web.get(records, self._guarded(self._list)),
            web.post(records, self._guarded(self._register)),
            web.get(one, self._guarded(self._show)),
            web.get(one + "/content", self._guarded(self._content)),
            web.post(one + "/archive", self._guarded(self._archive)),
            web.delete(one, self._guarded(self._archive)),
            web.route("*", PREFIX + "{anything:.*}", self._guarded(no_such_endpoint)),
        ]

    def accounts(self) -> dict[str, dict[str, Setting]]:
        return {
            ACCOUNT: {
                "provider": NAME,
                "base_url": self._around.base_url + PREFIX,
                "api_key": API_KEY + SHARD,
                "contact": "Sandbox Clinic (it@clinic.example)",
                "upload_hosts": ["127.0.0.1"],
                "insecure": True,
                "requests_per_minute": 60_000,
            }
        }

    async def stop(self) -> None:
        await self._processing.stop()

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            try:
                await self._admit(request)
                return await handler(request)
            except ApiError as error:
                return error_answer(error)
            except BadQuery as wrong:
                return error_answer(ApiError(Refusal(400), str(wrong)))

        return answer

    async def _admit(self, request: web.Request) -> None:
        refuse(await self._gate.outage(request))
        if not USER_AGENT.search(request.headers.get("User-Agent", "")):
            raise ApiError(Refusal(403))
        if not self._is_ours(sent_key(request)):
            raise ApiError(Refusal(401))
        refuse(self._gate.throttle(API_KEY, REQUESTS_PER_MINUTE))
        patient_id = request.match_info.get("patient")
        if patient_id is not None:
            refuse(Refusal(401) if patient_id.startswith("401") else self._gate.patient(ACCOUNT, patient_id))

    def _is_ours(self, key: str | None) -> bool:
        """A key is good with its shard and without."""
        both = {API_KEY, API_KEY + SHARD}
        return key in both and not both & self._around.world.revoked

    async def _presign(self, request: web.Request) -> web.Response:
        patient_id = request.match_info["patient"]
        folder = f"{TENANT_NUMBER}/patients/{patient_id}/attachments/temp/{self._around.uuid()}"
        ticket = Ticket(NAME, ACCOUNT, patient_id, OPEN_NAME, BUCKET, f"{folder}/{OPEN_NAME}", nothing_yet)
        fields = self._around.objects.form(
            BUCKET,
            ticket.key,
            lifetime_seconds=self._around.form_seconds(ticket),
            more=FIXED_FIELDS,
            with_token=False,
        )
        self._temp_folders.add(folder)
        self._around.front.expect(ticket)
        return web.json_response({"url": self._storage_url, "fields": {name: fields[name] for name in FIELDS_IN_ORDER}})

    async def _register(self, request: web.Request) -> web.Response:
        attachment = await self._wanted(request)
        faults = Faults.read(attachment.uploaded_name)
        document = (NAME, ACCOUNT, attachment.patient_id, attachment.uploaded_name)
        if faults.down_commit and self._around.turns.take(document, "DOWNCOMMIT"):
            raise ApiError(Refusal(502))
        self._attachments[str(attachment.id)] = attachment
        self._processing.begin(attachment)
        if faults.lost_commit and self._around.turns.take(document, "LOSTCOMMIT"):
            raise ConnectionCut
        shape = self._shape(attachment)
        return web.json_response(shape, status=201, headers={"Location": shape["links"]["self"]})

    async def _wanted(self, request: web.Request) -> Attachment:
        """The record that a body asks for."""
        body = await json_object(request)
        if body is None:
            raise ApiError(Refusal(400))
        patient_id, description = known_patient(body), body.get("description")
        key = await self._stored_key(body.get("upload_url"))
        errors = {}
        if patient_id is None:
            errors["patient"] = "can't be blank"
        if description is not None and len(str(description)) > MAX_DESCRIPTION_CHARACTERS:
            errors["description"] = f"is too long (maximum is {MAX_DESCRIPTION_CHARACTERS} characters)"
        if key is None:
            errors["temp_attachment_url"] = "is invalid"
        if patient_id is None or key is None or errors:
            raise ApiError(Refusal(422), errors=errors)
        self._last_id += self._around.random.randint(1, 9)
        now = datetime.now(UTC)
        return Attachment(self._last_id, patient_id, description, key, created_at=now, updated_at=now)

    async def _stored_key(self, upload_url: object) -> str | None:
        """The key in a storage address followed by a raw key, if it is one of ours and something is stored there.

        The vendor's guide registers an upload for one patient with another, so that is not looked at.
        """
        if not isinstance(upload_url, str) or not upload_url.startswith(self._storage_url):
            return None
        key = upload_url.removeprefix(self._storage_url)
        given_out = key.rpartition("/")[0] in self._temp_folders
        return key if given_out and await self._around.objects.exists(BUCKET, key) else None

    async def _list(self, request: web.Request) -> web.Response:
        return self._listed(request, [*self._attachments.values()], FILTERS)

    async def _list_for_patient(self, request: web.Request) -> web.Response:
        patient_id = request.match_info["patient"]
        of_patient = [each for each in self._attachments.values() if each.patient_id == patient_id]
        return self._listed(request, of_patient, FILTERS_FOR_PATIENT)

    async def _list_for_case(self, request: web.Request) -> web.Response:
        """Always empty: no call of the vendor's page puts an attachment into a case."""
        return self._listed(request, [], FILTERS)

    def _listed(
        self, request: web.Request, attachments: Sequence[Attachment], filters: Mapping[str, Kind]
    ) -> web.Response:
        query = Query.read(request.query, filters)
        found = query.found(attachments, field_of)
        return web.json_response(
            {
                "patient_attachments": [self._shape(each) for each in query.on_page(found)],
                "total_entries": len(found),
                "links": self._page_links(request, query.page, query.pages(found)),
            }
        )

    def _page_links(self, request: web.Request, page: int, pages: int) -> dict[str, str]:
        """Links that make no sense are left out."""
        numbers = {"self": page}
        if page < pages:
            numbers["next"] = page + 1
        if page > 1:
            numbers["previous"] = page - 1
        base = self._around.base_url
        return {name: f"{base}{request.rel_url.update_query(page=number)}" for name, number in numbers.items()}

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(self._shape(self._found(request)))

    async def _content(self, request: web.Request) -> web.Response:
        """The way to the file itself, which wants no key of ours."""
        key = self._found(request).key
        if key is None:
            raise ApiError(Refusal(404))
        address = self._around.objects.address(BUCKET, key, lifetime_seconds=LINK_SECONDS)
        return web.Response(status=302, headers={"Location": self._around.front.address(address)})

    async def _archive(self, request: web.Request) -> web.Response:
        attachment = self._found(request)
        attachment.archived_at = attachment.updated_at = datetime.now(UTC)
        return web.Response(status=204)

    def _found(self, request: web.Request) -> Attachment:
        """The record in the address; an archived one only if asked for with `q[]=archived_at:*`."""
        attachment = self._attachments.get(request.match_info["record"])
        filters = read_filters(request.query, FILTERS_FOR_ONE)
        if attachment is None or not matching([attachment], filters, field_of):
            raise ApiError(Refusal(404))
        return attachment

    def _shape(self, attachment: Attachment) -> dict[str, Any]:
        base = self._around.base_url + PREFIX
        itself = f"{base}/patient_attachments/{attachment.id}"
        as_number = self._around.world.cliniko_ids_as_numbers
        return {
            "content": {"links": {"self": f"{itself}/content"}},
            "content_type": attachment.content_type,
            "created_at": as_cliniko(attachment.created_at),
            "description": attachment.description,
            "filename": attachment.filename,
            "id": attachment.id if as_number else str(attachment.id),
            "links": {"self": itself},
            "patient": {"links": {"self": f"{base}/patients/{attachment.patient_id}"}},
            "pinned_at": None,
            "processed_at": as_cliniko(attachment.processed_at),
            "processing_completed": attachment.processed_at is not None,
            "size": attachment.size,
            "updated_at": as_cliniko(attachment.updated_at),
            "user": {"links": {"self": f"{base}/users/{attachment.user_id}"}},
        }


class Processing:
    """What Cliniko does on its own after a register: take the upload from its temporary place into the chart.

    Two registers of one upload are two records, if the second comes before the upload was taken.
    """

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._waiting: Counter[str] = Counter()
        self._chores = Chores()

    def begin(self, attachment: Attachment) -> None:
        self._waiting[attachment.temp_key] += 1
        self._chores.begin(self._process(attachment))

    async def stop(self) -> None:
        await self._chores.stop()

    async def _process(self, attachment: Attachment) -> None:
        faults = Faults.read(attachment.uploaded_name)
        usual = self._around.world.validation_seconds
        await asyncio.sleep(usual if faults.slow_seconds is None else faults.slow_seconds)
        if faults.invalid:
            return
        try:
            await self._complete(attachment, faults)
        except aiohttp.ClientError:
            log.exception("a document could not be read back from the engine")

    async def _complete(self, attachment: Attachment, faults: Faults) -> None:
        """Take the upload and complete the record, with what the engine says it holds."""
        objects, name = self._around.objects, attachment.uploaded_name
        key = f"{TENANT_NUMBER}/attachments/{attachment.id}/{name}"
        if not await objects.copy(BUCKET, attachment.temp_key, key):
            return  # taken by another register's processing just after this register looked
        witness = await objects.witness(BUCKET, key)
        self._waiting[attachment.temp_key] -= 1
        if not self._waiting[attachment.temp_key]:
            await objects.delete(BUCKET, attachment.temp_key)
        attachment.key, attachment.filename, attachment.size = key, name, witness.size_bytes
        attachment.content_type = UNKNOWN_TYPE if faults.bad_type else usual_type(name)
        attachment.processed_at = attachment.updated_at = datetime.now(UTC)
        self._around.charts.add(
            Record(NAME, ACCOUNT, attachment.patient_id, name, witness.size_bytes, witness.sha256, str(attachment.id))
        )


def refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise ApiError(refusal)


def error_answer(error: ApiError) -> web.Response:
    body: dict[str, Any] = {"message": error.message}
    if error.errors:
        body["errors"] = dict(error.errors)
    seconds = error.refusal.retry_after_seconds
    headers = {} if seconds is None else {"X-RateLimit-Reset": str(math.ceil(time.time()) + seconds)}
    return web.json_response(body, status=error.refusal.status, headers=headers)


async def no_such_endpoint(_: web.Request) -> web.Response:
    raise ApiError(Refusal(404))


async def nothing_yet(_: Ticket, __: str) -> None:
    """An upload means nothing to Cliniko until it is registered."""


def known_patient(body: Mapping[str, Any]) -> str | None:
    """The patient in a body, as text or number; 404… is unknown here too."""
    given = body.get("patient_id")
    if isinstance(given, bool) or not isinstance(given, int | str) or str(given).startswith("404"):
        return None
    return str(given) or None


def sent_key(request: web.Request) -> str | None:
    """The user name of Basic authentication, whose password must be empty."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        key, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return key if scheme.lower() == "basic" and not password else None


def field_of(attachment: Attachment, field: str) -> Value:
    value: Value = getattr(attachment, field)
    return value


def as_cliniko(when: datetime | None) -> str | None:
    """2017-12-31T15:32:58Z; what is kept is finer."""
    return None if when is None else when.strftime("%Y-%m-%dT%H:%M:%SZ")


def usual_type(name: str) -> str:
    return mimetypes.guess_type(name)[0] or "application/octet-stream"
