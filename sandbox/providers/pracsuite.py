"""PracSuite's patient attachments, after https://docs.api.pracsuite.com/guides/uploading-attachments and the
endpoint pages beside it (https://docs.api.pracsuite.com/openapi/patient-attachment).

Two clinics share one vendor key and have charts of their own: patient 4711 of one is not patient 4711 of the other.
"""

import logging
import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

import aiohttp
from aiohttp import web

from sandbox.api_error import ApiError, refuse
from sandbox.charts import Record
from sandbox.context import LINK_SECONDS, Context, Handler, Setting
from sandbox.faults.background import BackgroundTasks
from sandbox.faults.disturbances import Disturbances
from sandbox.faults.patients import Habit, renamed
from sandbox.faults.words import Faults
from sandbox.inputs import json_object, query_number
from sandbox.s3.forms import means_file_name
from sandbox.s3.storage import IssuedForm

NAME = "pracsuite"
PREFIX = "/pracsuite/v1"
BUCKET = "pracsuite-region1"
VENDOR_KEY = "sandbox-pracsuite-vendor"
MAX_BYTES = 100_000_000
MAX_KEY_BYTES = 1024  # S3's own limit
DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 50, 100
# The form's fields in the order of the vendor's page, which writes Policy with a capital letter.
FORM_FIELDS = {
    "key": "key",
    "Policy": "policy",
    "x-amz-algorithm": "x-amz-algorithm",
    "x-amz-credential": "x-amz-credential",
    "x-amz-date": "x-amz-date",
    "x-amz-signature": "x-amz-signature",
    "x-amz-security-token": "x-amz-security-token",
}
OLD_RECORDS = (("intake-form.pdf", 1024), ("referral.pdf", 2048), ("scan.png", 4096))

# Code and detail by status. They are the vendor's, except for 429, which the vendor does not document.
MESSAGES = {
    400: ("INVALID_PARAMS", "One or more request parameters are invalid."),
    401: ("UNAUTHORIZED", "Access could not be verified for this request."),
    403: ("MISSING_AUTHENTICATION_TOKEN", "Authentication token is missing or the requested endpoint does not exist"),
    404: ("NOT_FOUND", "Could not find the requested resource"),
    429: ("TOO_MANY_REQUESTS", "Too many requests. Please slow down."),
    500: (
        "SERVER_ERROR",
        "An unexpected error occurred while processing your request. Please try again in a few minutes.",
    ),
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attachment:
    """One Patient Attachment record; `key` is where its bytes are in the engine."""

    id: int
    patient_id: str
    file_name: str
    size_bytes: int
    key: str
    filed_on: date


@dataclass
class Clinic:
    """One tenant and its charts, oldest record first."""

    account: str
    tenant_id: int
    api_key: str
    by_id: dict[str, Attachment] = field(default_factory=dict)
    by_patient: dict[str, list[Attachment]] = field(default_factory=dict)

    def add(self, attachment: Attachment) -> None:
        self.by_id[str(attachment.id)] = attachment
        self.by_patient.setdefault(attachment.patient_id, []).append(attachment)


ClinicHandler = Callable[[Clinic, web.Request], Awaitable[web.Response]]


class PracSuite:
    """The API. `Validation` is what happens between an upload and its record."""

    bucket = BUCKET

    def __init__(self, context: Context) -> None:
        self._context = context
        self._disturbances = Disturbances(NAME, context.state, context.turns)
        self._clinics = [
            Clinic("north_clinic", 1, "sandbox-north-clinic"),
            Clinic("south_clinic", 2, "sandbox-south-clinic"),
        ]
        self._last_id = context.random.randrange(10_000, 90_000)
        self._validation = Validation(context, self._add_validated)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        records, one = PREFIX + "/patient/{patient}/patient_attachment", PREFIX + "/patient_attachment/{record}"
        return [
            web.post(records, self._guarded(self._presign)),
            web.get(records, self._guarded(self._list)),
            web.get(one, self._guarded(self._show)),
            web.get(one + "/presign_url", self._guarded(self._presign_url)),
            web.get(one + "/content", self._guarded(self._content)),
            web.route("*", PREFIX + "{anything:.*}", self._guarded(no_such_endpoint)),
        ]

    def accounts(self) -> dict[str, dict[str, Setting]]:
        return {
            clinic.account: {
                "provider": NAME,
                "base_url": self._context.base_url + PREFIX,
                "vendor_api_key": VENDOR_KEY,
                "api_key": clinic.api_key,
                "upload_hosts": ["127.0.0.1"],
                "insecure": True,
                "requests_per_minute": 60_000,
            }
            for clinic in self._clinics
        }

    async def stop(self) -> None:
        await self._validation.stop()

    def _guarded(self, handler: ClinicHandler) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            try:
                return await handler(await self._admit(request), request)
            except ApiError as error:
                return error_answer(error)

        return answer

    async def _admit(self, request: web.Request) -> Clinic:
        """The clinic whose key the caller has.

        Raises ApiError if an outage, the caller's keys, the throttle or the patient's id stands in the way.
        """
        refuse(await self._disturbances.outage(request))
        vendor_key, api_key = request.headers.get("x-api-key"), request.headers.get("a-api-key")
        clinic = next((each for each in self._clinics if each.api_key == api_key), None)
        if clinic is None or vendor_key != VENDOR_KEY or {vendor_key, api_key} & self._context.state.revoked:
            raise ApiError(401)
        refuse(self._disturbances.throttle())
        patient_id = request.match_info.get("patient")
        if patient_id is not None:
            if patient_id.startswith("401"):  # a permission that does not include this one patient
                raise ApiError(401)
            refuse(self._disturbances.patient(clinic.account, patient_id))
            self._add_old_records(clinic, patient_id)
        return clinic

    async def _presign(self, clinic: Clinic, request: web.Request) -> web.Response:
        file_name = (await json_object(request)).get("file_name")
        if not isinstance(file_name, str) or file_name in {"", ".", ".."} or "/" in file_name or "\0" in file_name:
            raise ApiError(400)
        key = f"temp/{clinic.tenant_id}/1/1/1/{self._context.uuid()}/{file_name}"
        if len(key.encode()) > MAX_KEY_BYTES:
            raise ApiError(400)
        patient_id = request.match_info["patient"]
        form = IssuedForm(NAME, clinic.account, patient_id, file_name, BUCKET, key, self._validation.start)
        seconds = self._context.form_seconds(form)
        fields = self._context.objects.sign_form(BUCKET, key, lifetime_seconds=seconds, max_bytes=MAX_BYTES)
        return web.json_response(
            {
                "url": self._context.storage.expect(form),
                "fields": {name: fields[as_signed] for name, as_signed in FORM_FIELDS.items()},
            }
        )

    async def _list(self, clinic: Clinic, request: web.Request) -> web.Response:
        page = query_number(request, "page", 1)
        page_size = query_number(request, "page_size", DEFAULT_PAGE_SIZE, most=MAX_PAGE_SIZE)
        patient_id, state = request.match_info["patient"], self._context.state
        habit = Habit.of(patient_id)
        records = habit.listed(clinic.by_patient.get(patient_id, []), self._context.random, state.hiding_seconds)
        rows, announced = habit.rows_of(page, page_size), habit.announced(len(records))
        if state.newest_first:
            records = records[::-1]
        shown = [
            self._as_json(clinic, each, row, announced) for row, each in enumerate(records[rows], start=rows.start + 1)
        ]
        last = page + (rows.stop < len(records))
        return web.json_response(
            {
                state.list_key: shown,
                "total_entries": announced,
                "links": self._page_links(request, page, page_size, last),
            }
        )

    def _page_links(self, request: web.Request, page: int, page_size: int, last: int) -> dict[str, str | None]:
        def link(number: int) -> str | None:
            query = {"page": str(number), "page_size": str(page_size)}
            return self._context.base_url + str(request.rel_url.with_query(query)) if 1 <= number <= last else None

        itself = self._context.base_url + str(request.rel_url)
        return {"self": itself, "previous": link(page - 1), "next": link(page + 1)}

    async def _show(self, clinic: Clinic, request: web.Request) -> web.Response:
        return web.json_response(self._as_json(clinic, find(clinic, request), 1, 1))

    async def _presign_url(self, clinic: Clinic, request: web.Request) -> web.Response:
        attachment = find(clinic, request)
        expires = datetime.now(UTC) + timedelta(seconds=LINK_SECONDS)
        return web.json_response(
            {
                "url": await self._download_address(attachment),
                "expires": expires.isoformat(timespec="seconds"),
                "file_name": attachment.file_name,
            }
        )

    async def _content(self, clinic: Clinic, request: web.Request) -> web.Response:
        """Redirects to storage, where no key may be sent."""
        address = await self._download_address(find(clinic, request))
        return web.Response(status=307, headers={"Location": address})

    async def _download_address(self, attachment: Attachment) -> str:
        if attachment.key.startswith("old/"):  # the bytes of old records are made only when they are asked for
            content = old_content(attachment.file_name, attachment.size_bytes)
            await self._context.objects.put(BUCKET, attachment.key, content)
        return self._context.download_address(BUCKET, attachment.key)

    def _as_json(self, clinic: Clinic, attachment: Attachment, row: int, rows: int) -> dict[str, Any]:
        """A record as https://docs.api.pracsuite.com/openapi/patient-attachment/getpatientattachment-get.md has it."""
        itself = f"{self._context.base_url}{PREFIX}/patient_attachment/{attachment.id}"
        as_id = str if self._context.state.ids_as_text else number_if_possible
        body = {
            "row_num": row,
            "total_rows": rows,
            "links": {"self": itself, "content": f"{itself}/content", "presign_url": f"{itself}/presign_url"},
            "tenant_id": as_id(str(clinic.tenant_id)),
            "attachment_client_id": as_id(str(attachment.id)),
            "client_id": as_id(attachment.patient_id),
            "user_id": as_id("1"),
            "file_date": attachment.filed_on.isoformat(),
            "description": "",
            "file_type": PurePosixPath(attachment.file_name).suffix.removeprefix(".").lower(),
            "file_size": attachment.size_bytes,
        }
        return body | ({"file_name": attachment.file_name} if self._context.state.name_in_record else {})

    def _add_validated(self, form: IssuedForm, name: str, key: str, size_bytes: int) -> str:
        """Create the record of a validated document under this name. Returns its id."""
        clinic = next(each for each in self._clinics if each.account == form.tenant)
        return str(self._add(clinic, form.patient_id, name, size_bytes, key).id)

    def _add_old_records(self, clinic: Clinic, patient_id: str) -> None:
        """Patients named old… have records before anything is sent to them: three, or n if named old-<n>.

        Those of other names may have some too: see `Habit`.
        """
        if patient_id in clinic.by_patient:
            return
        for name, size_bytes in Habit.of(patient_id).earlier_records():
            self._add(clinic, patient_id, name, size_bytes, f"old/{name}")
        if not patient_id.startswith("old"):
            return
        count = re.match(r"old-(\d+)", patient_id)
        numbered = [(f"old-{number}.pdf", 1000 + number) for number in range(1, int(count[1]) + 1)] if count else None
        for name, size_bytes in numbered if numbered is not None else OLD_RECORDS:
            self._add(clinic, patient_id, name, size_bytes, f"old/{name}")

    def _add(self, clinic: Clinic, patient_id: str, name: str, size_bytes: int, key: str) -> Attachment:
        self._last_id += self._context.random.randint(1, 9)
        attachment = Attachment(self._last_id, patient_id, name, size_bytes, key, datetime.now(UTC).date())
        clinic.add(attachment)
        return attachment


class Validation:
    """What PracSuite does after an upload: it checks the document, then creates the record or not.

    The uploaded object is consumed either way. An upload to the same form before that replaces the document; one
    after it is another document, and gets a record of its own.
    """

    def __init__(self, context: Context, add: Callable[[IssuedForm, str, str, int], str]) -> None:
        self._context = context
        self._add = add
        self._written_names: dict[str, str] = {}  # key → name in the last upload's file part, until it is validated
        self._background = BackgroundTasks()

    async def start(self, form: IssuedForm, written_name: str) -> None:
        """Called each time that a document has been stored; `written_name` is the name in the file part."""
        waiting = form.key in self._written_names
        self._written_names[form.key] = written_name
        if not waiting:
            self._background.start(self._validate(form))

    async def stop(self) -> None:
        await self._background.stop()

    async def _validate(self, form: IssuedForm) -> None:
        faults = Faults.read(form.file_name)
        await self._context.until_validation(form.file_name, faults)
        written_name = self._written_names.pop(form.key)
        # The name in the file part must be the name that the form was requested for.
        valid = not faults.invalid and means_file_name(written_name, form.file_name)
        try:
            if valid:
                await self._accept(form)
            else:
                await self._context.objects.delete(BUCKET, form.key)
        except aiohttp.ClientError:
            log.exception("a document could not be read back from the engine")

    async def _accept(self, form: IssuedForm) -> None:
        """Take the document, and create its record with what the engine says it holds."""
        key = f"attachments/{uuid.uuid4()}/{form.file_name}"
        if not await self._context.objects.move(BUCKET, form.key, key):
            return  # two uploads to one form, the second while the first was being taken: it is consumed already
        witness = await self._context.objects.witness(BUCKET, key)
        name = renamed(form.file_name) if Faults.read(form.file_name).renamed else form.file_name
        record_id = self._add(form, name, key, witness.size_bytes)
        self._context.charts.add(
            Record(NAME, form.tenant, form.patient_id, name, witness.size_bytes, witness.sha256, record_id)
        )


def error_answer(error: ApiError) -> web.Response:
    """The vendor's error body. An outage is answered by the gateway in front of the API, in another form."""
    status = error.status
    if status not in MESSAGES:
        return web.json_response({"message": "Service Unavailable"}, status=status)
    code, detail = MESSAGES[status]
    # The vendor's own example of a 401 has status 403 in its body.
    body = {"status": 403 if status == 401 else status, "code": code, "detail": error.message or detail}
    seconds = error.retry_after_seconds
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    return web.json_response({"error": body, "request_id": str(uuid.uuid4())}, status=status, headers=headers)


async def no_such_endpoint(_: Clinic, request: web.Request) -> web.Response:
    raise ApiError(403)


def find(clinic: Clinic, request: web.Request) -> Attachment:
    """The record in the address; another clinic's records do not exist."""
    record_id = request.match_info["record"]
    if record_id not in clinic.by_id:
        raise ApiError(404, f"Could not find Patient Attachment with ID {record_id}")
    return clinic.by_id[record_id]


def number_if_possible(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def old_content(name: str, size_bytes: int) -> bytes:
    """The bytes of an old record: its name, repeated."""
    line = name.encode() + b"\n"
    return (line * (size_bytes // len(line) + 1))[:size_bytes]
