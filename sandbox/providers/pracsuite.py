"""PracSuite's patient attachments, after https://docs.api.pracsuite.com/guides/uploading-attachments and the
endpoint pages beside it (https://docs.api.pracsuite.com/openapi/patient-attachment).

Two clinics share one vendor key and have charts of their own: patient 4711 of one is not patient 4711 of the other.
"""

import asyncio
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

from sandbox.bodies import json_object
from sandbox.charts import Record
from sandbox.context import Setting, Surroundings
from sandbox.faults.background import Chores
from sandbox.faults.gate import Gate, Refusal
from sandbox.faults.words import Faults
from sandbox.s3.forms import means_file_name
from sandbox.s3.uploads import Ticket

NAME = "pracsuite"
PREFIX = "/pracsuite/v1"
BUCKET = "pracsuite-region1"
VENDOR_KEY = "sandbox-pracsuite-vendor"
MAX_BYTES = 100_000_000
MAX_KEY_BYTES = 1024
DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE = 50, 100
LINK_SECONDS = 300
OLD_RECORDS = (("intake-form.pdf", 1024), ("referral.pdf", 2048), ("scan.png", 4096))

# code and detail by HTTP status, in the vendor's words where the vendor gives any (not for 429)
WORDS = {
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


class ApiError(Exception):
    """A refusal in PracSuite's form."""

    def __init__(self, refusal: Refusal, detail: str | None = None) -> None:
        self.refusal = refusal
        self.detail = detail
        super().__init__(refusal.status)


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


Handler = Callable[[Clinic, web.Request], Awaitable[web.Response]]


class PracSuite:
    """The API. What happens between upload and record is in `Validation`."""

    bucket = BUCKET

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._gate = Gate(NAME, around.world, around.turns)
        self._clinics = [
            Clinic("north_clinic", 1, "sandbox-north-clinic"),
            Clinic("south_clinic", 2, "sandbox-south-clinic"),
        ]
        self._last_id = around.random.randrange(10_000, 90_000)
        self._validation = Validation(around, self._file)

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        patient = PREFIX + "/patient/{patient}/patient_attachment"
        record = PREFIX + "/patient_attachment/{record}"
        return [
            web.post(patient, self._guarded(self._presign)),
            web.get(patient, self._guarded(self._list)),
            web.get(record, self._guarded(self._show)),
            web.get(record + "/presign_url", self._guarded(self._presign_url)),
            web.get(record + "/content", self._guarded(self._content)),
            web.route("*", PREFIX + "{anything:.*}", self._guarded(no_such_endpoint)),
        ]

    def accounts(self) -> dict[str, dict[str, Setting]]:
        return {
            clinic.account: {
                "provider": NAME,
                "base_url": self._around.base_url + PREFIX,
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

    def _guarded(self, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
        async def answer(request: web.Request) -> web.Response:
            try:
                return await handler(await self._admit(request), request)
            except ApiError as error:
                return error_answer(error)

        return answer

    async def _admit(self, request: web.Request) -> Clinic:
        """Whose call this is, if nothing stands in its way."""
        refuse(await self._gate.outage(request))
        clinic = self._clinic_of(request)
        refuse(self._gate.throttle())
        patient_id = request.match_info.get("patient")
        if patient_id is not None:
            if patient_id.startswith("401"):  # a permission that this one patient is outside of
                raise ApiError(Refusal(401))
            refuse(self._gate.patient(clinic.account, patient_id))
            self._remember_old_records(clinic, patient_id)
        return clinic

    def _clinic_of(self, request: web.Request) -> Clinic:
        vendor_key, api_key = request.headers.get("x-api-key"), request.headers.get("a-api-key")
        clinic = next((each for each in self._clinics if each.api_key == api_key), None)
        if clinic is None or vendor_key != VENDOR_KEY or {vendor_key, api_key} & self._around.world.revoked:
            raise ApiError(Refusal(401))
        return clinic

    async def _presign(self, clinic: Clinic, request: web.Request) -> web.Response:
        file_name = await requested_file_name(request)
        folder = f"temp/{clinic.tenant_id}/1/1/1/{self._around.uuid()}"
        ticket = Ticket(
            NAME,
            clinic.account,
            request.match_info["patient"],
            file_name,
            BUCKET,
            f"{folder}/{file_name}",
            self._validation.begin,
        )
        if len(ticket.key.encode()) > MAX_KEY_BYTES:
            raise ApiError(Refusal(400))
        seconds = self._around.form_seconds(ticket)
        fields = self._around.objects.form(BUCKET, ticket.key, lifetime_seconds=seconds, max_bytes=MAX_BYTES)
        return web.json_response({"url": self._around.front.expect(ticket), "fields": as_pracsuite(fields)})

    async def _list(self, clinic: Clinic, request: web.Request) -> web.Response:
        page = positive(request, "page", 1)
        page_size = positive(request, "page_size", DEFAULT_PAGE_SIZE, MAX_PAGE_SIZE)
        oldest_first = clinic.by_patient.get(request.match_info["patient"], [])
        found = oldest_first[::-1] if self._around.world.newest_first else oldest_first
        shown = list(enumerate(found, start=1))[(page - 1) * page_size : page * page_size]
        return web.json_response(
            {
                self._around.world.list_key: [self._shape(clinic, each, row, len(found)) for row, each in shown],
                "total_entries": len(found),
                "links": self._page_links(request, page, page_size, last=-(-len(found) // page_size)),
            }
        )

    async def _show(self, clinic: Clinic, request: web.Request) -> web.Response:
        return web.json_response(self._shape(clinic, find(clinic, request), 1, 1))

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
        address = await self._download_address(find(clinic, request))
        return web.Response(status=307, headers={"Location": address})

    async def _download_address(self, attachment: Attachment) -> str:
        if attachment.key.startswith("old/"):  # its bytes are made when somebody wants them
            content = old_content(attachment.file_name, attachment.size_bytes)
            await self._around.objects.put(BUCKET, attachment.key, content)
        address = self._around.objects.address(BUCKET, attachment.key, lifetime_seconds=LINK_SECONDS)
        return self._around.front.address(address)

    def _shape(self, clinic: Clinic, attachment: Attachment, row: int, rows: int) -> dict[str, Any]:
        """A record as https://docs.api.pracsuite.com/openapi/patient-attachment/getpatientattachment-get.md has it."""
        itself = f"{self._around.base_url}{PREFIX}/patient_attachment/{attachment.id}"
        as_id = str if self._around.world.ids_as_text else number_if_possible
        shape = {
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
        return shape | ({"file_name": attachment.file_name} if self._around.world.name_in_record else {})

    def _page_links(self, request: web.Request, page: int, page_size: int, last: int) -> dict[str, str | None]:
        def link(number: int) -> str | None:
            query = {"page": str(number), "page_size": str(page_size)}
            return self._around.base_url + str(request.rel_url.with_query(query)) if 1 <= number <= last else None

        itself = self._around.base_url + str(request.rel_url)
        return {"self": itself, "previous": link(page - 1), "next": link(page + 1)}

    def _file(self, ticket: Ticket, key: str, size_bytes: int) -> str:
        """Create the record of a validated document; its id."""
        clinic = next(each for each in self._clinics if each.account == ticket.tenant)
        return str(self._add(clinic, ticket.patient_id, ticket.file_name, size_bytes, key).id)

    def _remember_old_records(self, clinic: Clinic, patient_id: str) -> None:
        """Patients named old… have had records before anything was sent: three, or n if named old-<n>."""
        if not patient_id.startswith("old") or patient_id in clinic.by_patient:
            return
        count = re.match(r"old-(\d+)", patient_id)
        numbered = [(f"old-{number}.pdf", 1000 + number) for number in range(1, int(count[1]) + 1)] if count else None
        for name, size_bytes in numbered if numbered is not None else OLD_RECORDS:
            self._add(clinic, patient_id, name, size_bytes, f"old/{name}")

    def _add(self, clinic: Clinic, patient_id: str, name: str, size_bytes: int, key: str) -> Attachment:
        self._last_id += self._around.random.randint(1, 9)
        attachment = Attachment(self._last_id, patient_id, name, size_bytes, key, datetime.now(UTC).date())
        clinic.add(attachment)
        return attachment


class Validation:
    """What PracSuite does on its own after an upload: look at the document, then create the record or not.

    The uploaded object is consumed either way. An upload to the same form before that replaces the document; one
    after it is another document, and gets a record of its own.
    """

    def __init__(self, around: Surroundings, file: Callable[[Ticket, str, int], str]) -> None:
        self._around = around
        self._file = file
        self._names: dict[str, str] = {}
        self._chores = Chores()

    async def begin(self, ticket: Ticket, written_name: str) -> None:
        """Called each time that a document has been stored; `written_name` is the name in the file part."""
        waiting = ticket.key in self._names
        self._names[ticket.key] = written_name
        if not waiting:
            self._chores.begin(self._validate(ticket))

    async def stop(self) -> None:
        await self._chores.stop()

    async def _validate(self, ticket: Ticket) -> None:
        faults = Faults.read(ticket.file_name)
        usual = self._around.world.validation_seconds
        await asyncio.sleep(usual if faults.slow_seconds is None else faults.slow_seconds)
        written_name = self._names.pop(ticket.key)
        right = means_file_name(written_name, ticket.file_name) and ticket.key.endswith("/" + ticket.file_name)
        try:
            if right and not faults.invalid:
                await self._accept(ticket)
            else:
                await self._around.objects.delete(BUCKET, ticket.key)
        except aiohttp.ClientError:
            log.exception("a document could not be read back from the engine")

    async def _accept(self, ticket: Ticket) -> None:
        """Take the document and create its record, with what the engine says it holds."""
        key = f"attachments/{uuid.uuid4()}/{ticket.file_name}"
        if not await self._around.objects.move(BUCKET, ticket.key, key):
            return  # consumed already: two uploads to one form, the second while the first was being taken
        witness = await self._around.objects.witness(BUCKET, key)
        record_id = self._file(ticket, key, witness.size_bytes)
        self._around.charts.add(
            Record(
                NAME, ticket.tenant, ticket.patient_id, ticket.file_name, witness.size_bytes, witness.sha256, record_id
            )
        )


def refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise ApiError(refusal)


def error_answer(error: ApiError) -> web.Response:
    """The vendor's error body. An outage comes from the gateway before the API, which speaks otherwise."""
    status = error.refusal.status
    if status not in WORDS:
        return web.json_response({"message": "Service Unavailable"}, status=status)
    code, detail = WORDS[status]
    # the vendor's own example of a 401 says 403 in its body
    body = {"status": 403 if status == 401 else status, "code": code, "detail": error.detail or detail}
    seconds = error.refusal.retry_after_seconds
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    return web.json_response({"error": body, "request_id": str(uuid.uuid4())}, status=status, headers=headers)


async def no_such_endpoint(_: Clinic, request: web.Request) -> web.Response:
    raise ApiError(Refusal(403))


async def requested_file_name(request: web.Request) -> str:
    name = (await json_object(request) or {}).get("file_name")
    if not isinstance(name, str) or name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise ApiError(Refusal(400))
    return name


def positive(request: web.Request, name: str, default: int, most: int | None = None) -> int:
    text = request.query.get(name, str(default))
    if not text.isdecimal() or int(text) < 1 or (most is not None and int(text) > most):
        raise ApiError(Refusal(400))
    return int(text)


def find(clinic: Clinic, request: web.Request) -> Attachment:
    """The record in the address; another clinic's records do not exist."""
    wanted = request.match_info["record"]
    if wanted not in clinic.by_id:
        raise ApiError(Refusal(404), f"Could not find Patient Attachment with ID {wanted}")
    return clinic.by_id[wanted]


def as_pracsuite(fields: dict[str, str]) -> dict[str, str]:
    """The fields in the order and under the names of the vendor's page."""
    order = ("key", "policy", "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-signature")
    return {name.replace("policy", "Policy"): fields[name] for name in (*order, "x-amz-security-token")}


def number_if_possible(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def old_content(name: str, size_bytes: int) -> bytes:
    """The bytes of a record that was there before: its name, again and again."""
    line = name.encode() + b"\n"
    return (line * (size_bytes // len(line) + 1))[:size_bytes]
