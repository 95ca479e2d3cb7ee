"""Ovok's documents, after https://docs.ovok.com/dev/api/high-level/document.

A call makes a document and gives out a form; when the form's upload has been stored, the document has its file, and
nothing more happens. Ovok's documents belong to no patient here.
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from sandbox.admin import PREFIX as ADMIN_PREFIX
from sandbox.bodies import json_object
from sandbox.charts import Record
from sandbox.context import Setting, Surroundings
from sandbox.faults.connection import ConnectionCut
from sandbox.faults.gate import Gate, Refusal
from sandbox.faults.words import Faults
from sandbox.providers.ovok_sessions import NAME, Login, Sessions, Tokens
from sandbox.s3.uploads import Ticket

PREFIX = "/ovok"
BUCKET = "ovok-files-region1"
ACCOUNT = "ovok_clinic"
LOGIN = Login("worker@ovok-clinic.example", "sandbox-ovok-password", "5e505642-9024-474d-9434-e5a44f505cc5")
AUTHOR = {"reference": "Practitioner/de5c57ff-7257-57b0-13ab-aab6f5f91498", "display": "Max Mustermann"}
PROJECT = {"reference": "Project/f6f4da8d-93e8-8a08-220e-03b7810451d3", "display": "Sandbox Clinic"}
LINK_SECONDS = 300
DEFAULT_COUNT, MAX_COUNT = 100, 1000
MIME_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(;.*)?")
FIELDS_IN_ORDER = {
    "bucket": "bucket",
    "X-Amz-Algorithm": "x-amz-algorithm",
    "X-Amz-Credential": "x-amz-credential",
    "X-Amz-Date": "x-amz-date",
    "key": "key",
    "Policy": "policy",
    "X-Amz-Signature": "x-amz-signature",
}

# The vendor's words where it has any; the shape of its errors is not documented, nor is a 429.
WORDS = {
    400: "The request could not be operated by the server.",
    401: "The resource owner or authorization server denied the request.",
    404: "The requested resource could not be found.",
    422: "The request could not be validated by the server.",
    429: "Too many requests.",
}

log = logging.getLogger(__name__)


class ApiError(Exception):
    """A refusal in the form that is chosen here for Ovok's."""

    def __init__(self, refusal: Refusal, message: str | None = None) -> None:
        self.refusal = refusal
        self.message = message or WORDS.get(refusal.status, "Please try again later.")
        super().__init__(refusal.status)


@dataclass
class Document:
    """One DocumentReference. `record` is what the chart has of it; `uploads` counts what was stored for it."""

    id: str
    file_name: str
    content_type: str
    is_public: bool
    updated_at: datetime
    public_token: str = field(default_factory=lambda: f"public.{secrets.token_urlsafe(32)}")
    record: Record | None = None
    etag: str | None = None
    uploads: int = 0
    deleted: bool = False
    reading: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def key(self) -> str:
        """A replacement goes to the same place."""
        return f"binary/{self.id}"

    def describe(self, wanted: "Description") -> None:
        self.file_name, self.content_type, self.is_public = wanted.file_name, wanted.content_type, wanted.is_public
        self.updated_at = datetime.now(UTC)


@dataclass(frozen=True)
class Description:
    """What a body says of a document."""

    file_name: str
    content_type: str
    is_public: bool


Handler = Callable[[web.Request], Awaitable[web.Response]]


class Ovok:
    """The API of one project with one user."""

    bucket = BUCKET

    def __init__(self, around: Surroundings) -> None:
        self._around = around
        self._gate = Gate(NAME, around.world, around.turns)
        self._sessions = Sessions(LOGIN, around.world)
        self._documents: dict[str, Document] = {}

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        documents, one = PREFIX + "/document", PREFIX + "/document/{document}"
        return [
            web.post(PREFIX + "/v2/auth/login", self._answering(self._log_in)),
            web.post(PREFIX + "/auth/refresh-token", self._answering(self._refresh)),
            web.get(documents + "/public/{token}", self._answering(self._download_public)),
            web.post(documents, self._guarded(self._create)),
            web.get(documents, self._guarded(self._list)),
            web.post(one, self._guarded(self._replace)),
            web.get(one, self._guarded(self._download)),
            web.patch(one, self._guarded(self._update)),
            web.delete(one, self._guarded(self._delete)),
            web.route("*", PREFIX + "{anything:.*}", self._guarded(no_such_endpoint)),
            web.get(f"{ADMIN_PREFIX}/{NAME}", self._show_documents),
        ]

    def accounts(self) -> dict[str, dict[str, Setting]]:
        return {
            ACCOUNT: {
                "provider": NAME,
                "base_url": self._around.base_url + PREFIX,
                "email": LOGIN.email,
                "password": LOGIN.password,
                "client_id": LOGIN.client_id,
                "upload_hosts": ["127.0.0.1"],
                "insecure": True,
                "requests_per_minute": 60_000,
            }
        }

    async def stop(self) -> None:
        """Nothing runs in the background."""

    def _answering(self, handler: Handler) -> Handler:
        """For anybody."""

        async def answer(request: web.Request) -> web.Response:
            try:
                refuse(await self._gate.outage(request))
                return await handler(request)
            except ApiError as error:
                return error_answer(error)

        return answer

    def _guarded(self, handler: Handler) -> Handler:
        """For who is logged in."""

        async def admit(request: web.Request) -> web.Response:
            if not self._sessions.admits(request.headers.get("Authorization", "")):
                raise ApiError(Refusal(401))
            refuse(self._gate.throttle(ACCOUNT))
            return await handler(request)

        return self._answering(admit)

    async def _log_in(self, request: web.Request) -> web.Response:
        body = await sent(request)
        tokens = self._sessions.log_in(Login(text(body, "email"), text(body, "password"), text(body, "clientId")))
        if tokens is None:
            raise ApiError(Refusal(401))
        return web.json_response(
            {
                "accessToken": tokens.access,
                "refreshToken": tokens.refresh,
                "expiresIn": tokens.seconds,
                "project": PROJECT,
                "profile": AUTHOR,
            }
        )

    async def _refresh(self, request: web.Request) -> web.Response:
        """Under other names than the login's."""
        tokens: Tokens | None = self._sessions.refresh(text(await sent(request), "refresh_token"))
        if tokens is None:
            raise ApiError(Refusal(401))
        return web.json_response(
            {"access_token": tokens.access, "refresh_token": tokens.refresh, "expires_in": tokens.seconds}
        )

    async def _create(self, request: web.Request) -> web.Response:
        """Each call makes a document of its own."""
        wanted = description(await sent(request))
        document = Document(
            str(self._around.uuid()), wanted.file_name, wanted.content_type, wanted.is_public, datetime.now(UTC)
        )
        self._documents[document.id] = document
        named = (NAME, ACCOUNT, "", wanted.file_name)
        if Faults.read(wanted.file_name).lost_create and self._around.turns.take(named, "LOSTCREATE"):
            raise ConnectionCut
        return web.json_response(self._entry(document) | {"uploadOptions": self._upload_options(document)})

    async def _replace(self, request: web.Request) -> web.Response:
        """The document's name and type change at once, its bytes with the upload. (The vendor does not say when.)"""
        document = self._found(request)
        document.describe(description(await sent(request)))
        return web.json_response(self._entry(document) | {"uploadOptions": self._upload_options(document)})

    def _upload_options(self, document: Document) -> dict[str, Any]:
        async def stored(ticket: Ticket, _: str) -> None:
            await self._take(document, ticket)

        ticket = Ticket(NAME, ACCOUNT, "", document.file_name, BUCKET, document.key, stored)
        fields = self._around.objects.form(
            BUCKET,
            document.key,
            lifetime_seconds=self._around.form_seconds(ticket),
            more={"bucket": BUCKET},
            with_token=False,
        )
        fields_in_order = {name: fields[as_signed] for name, as_signed in FIELDS_IN_ORDER.items()}
        return {"url": self._around.front.expect(ticket), "fields": fields_in_order}

    async def _take(self, document: Document, ticket: Ticket) -> None:
        """What is stored is the document's file, with what the engine says that it holds."""
        async with document.reading:
            try:
                if document.deleted or Faults.read(ticket.file_name).invalid:
                    await self._around.objects.delete(BUCKET, document.key)
                    self._forget_file(document)
                else:
                    await self._read_back(document, ticket)
            except aiohttp.ClientError:
                log.exception("a document could not be read back from the engine")

    async def _read_back(self, document: Document, ticket: Ticket) -> None:
        witness = await self._around.objects.witness(BUCKET, document.key)
        record = Record(NAME, ACCOUNT, None, ticket.file_name, witness.size_bytes, witness.sha256, document.id)
        if document.record is None:
            self._around.charts.add(record)
        else:
            self._around.charts.replace(document.record, record)
        document.record, document.etag = record, witness.etag
        document.uploads += 1

    def _forget_file(self, document: Document) -> None:
        if document.record is not None:
            self._around.charts.remove(document.record)
        document.record = document.etag = None

    async def _list(self, request: web.Request) -> web.Response:
        count = number(request, "_count", DEFAULT_COUNT, most=MAX_COUNT)
        offset = number(request, "_offset", 0)
        sort = request.query.get("_sort", "-_lastUpdated")
        if sort not in {"-_lastUpdated", "_lastUpdated"}:
            raise ApiError(Refusal(400))
        found = sorted(self._present, key=lambda each: each.updated_at, reverse=sort.startswith("-"))
        shown = [self._entry(each) for each in found[offset : offset + count]]
        return web.json_response({"total": len(found), "resources": shown})

    async def _download(self, request: web.Request) -> web.Response:
        document = self._found(request)
        if document.etag is not None and request.headers.get("ETag", "").strip('"') == document.etag.strip('"'):
            return web.Response(status=304)
        return self._to_file(document)

    async def _download_public(self, request: web.Request) -> web.Response:
        token = request.match_info["token"]
        for document in self._present:
            if document.is_public and document.public_token == token:
                return self._to_file(document)
        raise ApiError(Refusal(404))

    def _to_file(self, document: Document) -> web.Response:
        """The way to storage, which wants no token; whether there is anything yet is for storage to say."""
        address = self._around.objects.address(BUCKET, document.key, lifetime_seconds=LINK_SECONDS)
        return web.Response(status=307, headers={"Location": self._around.front.address(address)})

    async def _update(self, request: web.Request) -> web.Response:
        document = self._found(request)
        now = {"fileName": document.file_name, "contentType": document.content_type, "isPublic": document.is_public}
        document.describe(description(now | await sent(request)))
        if document.record is not None:
            renamed = replace(document.record, file_name=document.file_name)
            self._around.charts.replace(document.record, renamed)
            document.record = renamed
        return web.json_response(self._entry(document))

    async def _delete(self, request: web.Request) -> web.Response:
        document = self._found(request)
        document.deleted = True
        async with document.reading:
            await self._around.objects.delete(BUCKET, document.key)
            self._forget_file(document)
        return web.json_response({"message": "Document deleted successfully"})

    @property
    def _present(self) -> list[Document]:
        return [document for document in self._documents.values() if not document.deleted]

    def _found(self, request: web.Request) -> Document:
        document = self._documents.get(request.match_info["document"])
        if document is None or document.deleted:
            raise ApiError(Refusal(404))
        return document

    def _entry(self, document: Document) -> dict[str, Any]:
        """A FileEntryDto without its uploadOptions."""
        shows_token = document.is_public or self._around.world.ovok_public_tokens
        return {
            "id": document.id,
            "meta": {"lastUpdated": as_ovok(document.updated_at)},
            "author": AUTHOR,
            "fileName": document.file_name,
            "contentType": document.content_type,
            "publicToken": document.public_token if shows_token else None,
        }

    async def _show_documents(self, request: web.Request) -> web.Response:
        """For tests: every document that was ever made, oldest first."""
        shown = [
            {
                "id": each.id,
                "tenant": ACCOUNT,
                "file_name": each.file_name,
                "content_type": each.content_type,
                "is_public": each.is_public,
                "uploads": each.uploads,
                "deleted": each.deleted,
            }
            for each in self._documents.values()
        ]
        return web.json_response({"documents": shown})


def refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise ApiError(refusal)


def error_answer(error: ApiError) -> web.Response:
    seconds = error.refusal.retry_after_seconds
    return web.json_response(
        {"statusCode": error.refusal.status, "message": error.message},
        status=error.refusal.status,
        headers={} if seconds is None else {"Retry-After": str(seconds)},
    )


async def no_such_endpoint(_: web.Request) -> web.Response:
    raise ApiError(Refusal(404))


async def sent(request: web.Request) -> dict[str, Any]:
    body = await json_object(request)
    if body is None:
        raise ApiError(Refusal(400))
    return body


def text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ApiError(Refusal(422), f"{name} must be a text")
    return value


def description(body: Mapping[str, Any]) -> Description:
    """`isPublic` is a boolean on one of the vendor's pages and text on another."""
    file_name, content_type = text(body, "fileName"), text(body, "contentType")
    is_public = body.get("isPublic", False)
    if not MIME_TYPE.fullmatch(content_type):
        raise ApiError(Refusal(422), "contentType must be a MIME type")
    if str(is_public).lower() not in {"true", "false"}:
        raise ApiError(Refusal(422), "isPublic must be true or false")
    return Description(file_name, content_type, str(is_public).lower() == "true")


def number(request: web.Request, name: str, default: int, most: int | None = None) -> int:
    asked = request.query.get(name, str(default))
    if not asked.isdecimal() or (most is not None and int(asked) > most):
        raise ApiError(Refusal(400))
    return int(asked)


def as_ovok(when: datetime) -> str:
    """2000-01-01T00:00:00.000Z"""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
