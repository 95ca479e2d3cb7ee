"""Cliniko's patient attachments, after https://docs.api.cliniko.com/openapi/reference/tag/Patient-Attachment, the
introduction before it and https://docs.api.cliniko.com/developer-portal/guides/uploading_patient_attachments.

A document is uploaded to a temporary place, then registered, then processed; only processing makes it a file in the
chart. The file part's name decides what goes wrong with an upload.
"""

import base64
import binascii
import logging
import math
import mimetypes
import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
from aiohttp import web

from sandbox.api_error import ApiError, refuse
from sandbox.charts import Record
from sandbox.context import Context, Handler, Setting
from sandbox.faults.background import BackgroundTasks
from sandbox.faults.connection import ConnectionCut
from sandbox.faults.disturbances import Disturbances
from sandbox.faults.patients import Habit, renamed
from sandbox.faults.words import Faults
from sandbox.inputs import json_object
from sandbox.providers.cliniko_lists import Kind, Query, Value, matching, read_filters
from sandbox.s3.storage import OPEN_NAME, IssuedForm

NAME = "cliniko"
PREFIX = "/cliniko/v1"
BUCKET = "cliniko-files-region1"
ACCOUNT = "cliniko_clinic"
API_KEY, SHARD = "sandboxClinikoClinic", "-au1"
TENANT_NUMBER = 123
REQUESTS_PER_MINUTE = 200
MAX_DESCRIPTION_CHARACTERS = 255
NULL_FORMS = 2
UNKNOWN_TYPE = "invalid/invalid"
FIXED_FIELDS = {"success_action_status": "201", "acl": "private"}
# The form's fields in the order of the vendor's page.
FORM_FIELDS = (
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

# By status. Only the text of 422 is the vendor's: it documents no other.
MESSAGES = {
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden. Requests need a User-Agent with a name and a valid contact email.",
    404: "Not Found",
    422: "Validation Failed",
    429: "Rate limit exceeded",
    500: "Internal Server Error",
}

log = logging.getLogger(__name__)


@dataclass
class Attachment:
    """One record. Until it is processed, only the place that its file was uploaded to is known of the file."""

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


class Cliniko:
    """The API of one clinic. `Processing` is what happens between registering and the complete record."""

    bucket = BUCKET

    def __init__(self, context: Context) -> None:
        self._context = context
        self._disturbances = Disturbances(NAME, context.state, context.turns)
        self._processing = Processing(context)
        self._attachments: dict[str, Attachment] = {}
        self._temp_folders: set[str] = set()
        self._with_earlier_records: set[str] = set()
        self._storage_url = context.storage.upload_address(BUCKET) + "/"
        # Cliniko's ids are int64. These are more than a float can hold, so that a client which reads them as one fails.
        self._last_id = context.random.randrange(2**60, 2**61)

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
                "base_url": self._context.base_url + PREFIX,
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

        return answer

    async def _admit(self, request: web.Request) -> None:
        """Raises ApiError if an outage, the caller's identity, the throttle or the patient's id stands in the way."""
        refuse(await self._disturbances.outage(request))
        if not USER_AGENT.search(request.headers.get("User-Agent", "")):
            raise ApiError(403)
        # A key is good with its shard and without, and so revoked in either form.
        keys = {API_KEY, API_KEY + SHARD}
        if sent_key(request) not in keys or keys & self._context.state.revoked:
            raise ApiError(401)
        refuse(self._disturbances.throttle(API_KEY, REQUESTS_PER_MINUTE))
        patient_id = request.match_info.get("patient")
        if patient_id is not None:
            if patient_id.startswith("401"):
                raise ApiError(401)
            refuse(self._disturbances.patient(ACCOUNT, patient_id))
            self._add_earlier_records(patient_id)

    async def _presign(self, request: web.Request) -> web.Response:
        patient_id = request.match_info["patient"]
        # The reference has `url` and `fields` as nullable, and does not say when they are null.
        if patient_id.startswith("soon") and self._context.turns.take((NAME, ACCOUNT, patient_id), "soon", NULL_FORMS):
            return web.json_response({"url": None, "fields": None})
        folder = f"{TENANT_NUMBER}/patients/{patient_id}/attachments/temp/{self._context.uuid()}"
        form = IssuedForm(NAME, ACCOUNT, patient_id, OPEN_NAME, BUCKET, f"{folder}/{OPEN_NAME}", nothing_yet)
        fields = self._context.objects.sign_form(
            BUCKET,
            form.key,
            lifetime_seconds=self._context.form_seconds(form),
            more=FIXED_FIELDS,
            with_token=False,
        )
        self._temp_folders.add(folder)
        self._context.storage.expect(form)
        return web.json_response({"url": self._storage_url, "fields": {name: fields[name] for name in FORM_FIELDS}})

    async def _register(self, request: web.Request) -> web.Response:
        attachment = await self._read_attachment(request)
        faults = Faults.read(attachment.uploaded_name)
        document = (NAME, ACCOUNT, attachment.patient_id, attachment.uploaded_name)
        if faults.down_commit and self._context.turns.take(document, "DOWNCOMMIT"):
            raise ApiError(502)
        self._attachments[str(attachment.id)] = attachment
        self._processing.start(attachment)
        if faults.lost_commit and self._context.turns.take(document, "LOSTCOMMIT"):
            raise ConnectionCut
        body = self._as_json(attachment)
        return web.json_response(body, status=201, headers={"Location": body["links"]["self"]})

    async def _read_attachment(self, request: web.Request) -> Attachment:
        """The record that a body describes. Raises ApiError."""
        body = await json_object(request)
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
            raise ApiError(422, errors=errors)
        self._last_id += self._context.random.randint(1, 9)
        now = datetime.now(UTC)
        return Attachment(self._last_id, patient_id, description, key, created_at=now, updated_at=now)

    async def _stored_key(self, upload_url: object) -> str | None:
        """The raw key after the storage's address, if a form was issued for it and something is stored there."""
        if not isinstance(upload_url, str) or not upload_url.startswith(self._storage_url):
            return None
        key = upload_url.removeprefix(self._storage_url)
        # Not whether the form was for the same patient: the vendor's guide itself registers an upload for another one.
        issued = key.rpartition("/")[0] in self._temp_folders
        return key if issued and await self._context.objects.exists(BUCKET, key) else None

    async def _list(self, request: web.Request) -> web.Response:
        return self._page(request, [*self._attachments.values()], FILTERS)

    async def _list_for_patient(self, request: web.Request) -> web.Response:
        patient_id = request.match_info["patient"]
        of_patient = [each for each in self._attachments.values() if each.patient_id == patient_id]
        return self._page(request, of_patient, FILTERS_FOR_PATIENT, Habit.of(patient_id))

    async def _list_for_case(self, request: web.Request) -> web.Response:
        """Always empty: no call on the vendor's page puts an attachment into a case."""
        return self._page(request, [], FILTERS)

    def _page(
        self,
        request: web.Request,
        attachments: Sequence[Attachment],
        filters: Mapping[str, Kind],
        habit: Habit = Habit(),  # noqa: B008 (it is frozen)
    ) -> web.Response:
        query = Query.read(request, filters)
        matches = query.select(attachments, field_of)
        if habit.kind:
            shown = {
                each.id for each in habit.listed(attachments, self._context.random, self._context.state.hiding_seconds)
            }
            matches = [each for each in matches if each.id in shown]
        if habit.kind == "moving":
            matches = self._context.random.sample(matches, len(matches))
        rows = habit.rows_of(query.page, query.per_page)
        links = {"self": query.page}  # page numbers; links to pages that do not exist are left out
        if rows.stop < len(matches):
            links["next"] = query.page + 1
        if query.page > 1:
            links["previous"] = query.page - 1
        base = self._context.base_url
        return web.json_response(
            {
                "patient_attachments": [self._as_json(each) for each in matches[rows]],
                "total_entries": habit.announced(len(matches)),
                "links": {name: f"{base}{request.rel_url.update_query(page=page)}" for name, page in links.items()},
            }
        )

    def _add_earlier_records(self, patient_id: str) -> None:
        """Those that the patient's id asks for: one a day, of the days before this one."""
        if patient_id in self._with_earlier_records:
            return
        self._with_earlier_records.add(patient_id)
        earlier, now = Habit.of(patient_id).earlier_records(), datetime.now(UTC)
        for days, (name, size) in zip(range(len(earlier), 0, -1), earlier, strict=True):
            self._last_id += self._context.random.randint(1, 9)
            when = now - timedelta(days=days + 1)
            self._attachments[str(self._last_id)] = Attachment(
                self._last_id,
                patient_id,
                None,
                f"old/{name}",
                created_at=when,
                updated_at=when,
                processed_at=when,
                filename=name,
                size=size,
                content_type="application/pdf",
            )

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response(self._as_json(self._find(request)))

    async def _content(self, request: web.Request) -> web.Response:
        """Redirects to storage, where no key may be sent."""
        key = self._find(request).key
        if key is None:
            raise ApiError(404)
        return web.Response(status=302, headers={"Location": self._context.download_address(BUCKET, key)})

    async def _archive(self, request: web.Request) -> web.Response:
        attachment = self._find(request)
        attachment.archived_at = attachment.updated_at = datetime.now(UTC)
        return web.Response(status=204)

    def _find(self, request: web.Request) -> Attachment:
        """The record in the address; an archived one only if the query asks for it with `q[]=archived_at:*`."""
        attachment = self._attachments.get(request.match_info["record"])
        filters = read_filters(request.query, FILTERS_FOR_ONE)
        if attachment is None or not matching([attachment], filters, field_of):
            raise ApiError(404)
        return attachment

    def _as_json(self, attachment: Attachment) -> dict[str, Any]:
        base = self._context.base_url + PREFIX
        itself = f"{base}/patient_attachments/{attachment.id}"
        as_number = self._context.state.cliniko_ids_as_numbers
        return {
            "content": {"links": {"self": f"{itself}/content"}},
            "content_type": attachment.content_type,
            "created_at": as_cliniko_time(attachment.created_at),
            "description": attachment.description,
            "filename": attachment.filename,
            "id": attachment.id if as_number else str(attachment.id),
            "links": {"self": itself},
            "patient": {"links": {"self": f"{base}/patients/{attachment.patient_id}"}},
            "pinned_at": None,
            "processed_at": as_cliniko_time(attachment.processed_at),
            "processing_completed": attachment.processed_at is not None,
            "size": attachment.size,
            "updated_at": as_cliniko_time(attachment.updated_at),
            "user": {"links": {"self": f"{base}/users/{attachment.user_id}"}},
        }


class Processing:
    """What Cliniko does after a document was registered: it moves the upload from its temporary place into the chart.

    Registering one upload twice makes two records, if the second call comes before the upload was moved.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._waiting: Counter[str] = Counter()  # temporary key → records that still need the upload
        self._background = BackgroundTasks()

    def start(self, attachment: Attachment) -> None:
        self._waiting[attachment.temp_key] += 1
        self._background.start(self._process(attachment))

    async def stop(self) -> None:
        await self._background.stop()

    async def _process(self, attachment: Attachment) -> None:
        faults = Faults.read(attachment.uploaded_name)
        await self._context.until_validation(attachment.uploaded_name, faults)
        if faults.invalid:
            return
        try:
            await self._complete(attachment, faults)
        except aiohttp.ClientError:
            log.exception("a document could not be read back from the engine")

    async def _complete(self, attachment: Attachment, faults: Faults) -> None:
        """Take the upload, and complete the record with what the engine says it holds."""
        objects, name = self._context.objects, attachment.uploaded_name
        key = f"{TENANT_NUMBER}/attachments/{attachment.id}/{name}"
        name = renamed(name) if faults.renamed else name
        if not await objects.copy(BUCKET, attachment.temp_key, key):
            return  # this register saw the upload just before another one's processing took it
        witness = await objects.witness(BUCKET, key)
        self._waiting[attachment.temp_key] -= 1
        if not self._waiting[attachment.temp_key]:
            await objects.delete(BUCKET, attachment.temp_key)
        attachment.key, attachment.filename, attachment.size = key, name, witness.size_bytes
        guessed_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
        attachment.content_type = UNKNOWN_TYPE if faults.bad_type else guessed_type
        attachment.processed_at = attachment.updated_at = datetime.now(UTC)
        self._context.charts.add(
            Record(NAME, ACCOUNT, attachment.patient_id, name, witness.size_bytes, witness.sha256, str(attachment.id))
        )


async def nothing_yet(_: IssuedForm, __: str) -> None:
    """An upload means nothing to Cliniko until it is registered."""


def error_answer(error: ApiError) -> web.Response:
    """The vendor's error body. A 429 names the time to come back in X-RateLimit-Reset, not in Retry-After."""
    body: dict[str, Any] = {"message": error.message or MESSAGES.get(error.status, "Service Unavailable")}
    if error.errors:
        body["errors"] = dict(error.errors)
    seconds = error.retry_after_seconds
    headers = {} if seconds is None else {"X-RateLimit-Reset": str(math.ceil(time.time()) + seconds)}
    return web.json_response(body, status=error.status, headers=headers)


async def no_such_endpoint(_: web.Request) -> web.Response:
    raise ApiError(404)


def sent_key(request: web.Request) -> str | None:
    """The user name of Basic authentication, whose password must be empty."""
    scheme, _, encoded = request.headers.get("Authorization", "").partition(" ")
    try:
        key, _, password = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    return key if scheme.lower() == "basic" and not password else None


def known_patient(body: Mapping[str, Any]) -> str | None:
    """The patient in a body, as text or number. As in addresses, 404… is unknown."""
    given = body.get("patient_id")
    if isinstance(given, bool) or not isinstance(given, int | str) or str(given).startswith("404"):
        return None
    return str(given) or None


def field_of(attachment: Attachment, field: str) -> Value:
    value: Value = getattr(attachment, field)
    return value


def as_cliniko_time(when: datetime | None) -> str | None:
    """2017-12-31T15:32:58Z; the fraction is kept for filters, but not shown."""
    return None if when is None else when.strftime("%Y-%m-%dT%H:%M:%SZ")
