"""Ovok's documents, after https://docs.ovok.com/dev/api/high-level/document.

A call creates a document and issues a form. When the form's upload has been stored, the document has its file, and
nothing more happens. A document belongs to nobody until its `subject` is set by the FHIR API (`ovok_fhir`).
"""

import asyncio
import logging
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import aiohttp
from aiohttp import web

from sandbox.admin import PREFIX as ADMIN_PREFIX
from sandbox.api_error import ApiError, refuse
from sandbox.charts import Record
from sandbox.context import Context, Handler, Setting
from sandbox.faults.connection import ConnectionCut
from sandbox.faults.disturbances import Disturbances
from sandbox.faults.words import Faults
from sandbox.inputs import json_object, query_number
from sandbox.providers.ovok_fhir import OvokFhir
from sandbox.providers.ovok_sessions import NAME, Login, Sessions, Tokens
from sandbox.s3.storage import IssuedForm

PREFIX = "/ovok"
BUCKET = "ovok-files-region1"
ACCOUNT = "ovok_clinic"
STAFF = PREFIX + "/auth/tenant/Practitioner/login"
TENANT_CODE, TENANT_ID = "sandbox-clinic", "87ea5dfc-8b8e-384d-8489-79496e706390"
LOGIN = Login("worker@ovok-clinic.example", "sandbox-ovok-password", "5e505642-9024-474d-9434-e5a44f505cc5")
AUTHOR = {"reference": "Practitioner/de5c57ff-7257-57b0-13ab-aab6f5f91498", "display": "Max Mustermann"}
PROJECT = {"reference": "Project/f6f4da8d-93e8-8a08-220e-03b7810451d3", "display": "Sandbox Clinic"}
DEFAULT_COUNT, MAX_COUNT = 100, 1000
MIME_TYPE = re.compile(r"[\w!#$&^.+-]+/[\w!#$&^.+-]+(;.*)?")
# The form's fields in the order of the vendor's page, and boto3's names for them.
FORM_FIELDS = {
    "bucket": "bucket",
    "X-Amz-Algorithm": "x-amz-algorithm",
    "X-Amz-Credential": "x-amz-credential",
    "X-Amz-Date": "x-amz-date",
    "key": "key",
    "Policy": "policy",
    "X-Amz-Signature": "x-amz-signature",
}

# By status, the vendor's where it has any. It documents neither the form of its errors nor a 429.
MESSAGES = {
    400: "The request could not be operated by the server.",
    401: "The resource owner or authorization server denied the request.",
    404: "The requested resource could not be found.",
    422: "The request could not be validated by the server.",
    429: "Too many requests.",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Description:
    """What a body says about a document."""

    file_name: str
    content_type: str
    is_public: bool


@dataclass
class Document:
    """One DocumentReference."""

    id: str
    file_name: str
    content_type: str
    is_public: bool
    updated_at: datetime
    public_token: str = field(default_factory=lambda: f"public.{secrets.token_urlsafe(32)}")
    record: Record | None = None  # in the chart
    etag: str | None = None
    uploads: int = 0  # how often something was stored for it
    deleted: bool = False
    subject: Any = None  # a FHIR Reference
    version: int = 1
    # Held while the file is read back or removed: two uploads may end at once, or an upload and a DELETE.
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def key(self) -> str:
        """A replacement is stored under the same key."""
        return f"binary/{self.id}"

    @property
    def patient_id(self) -> str | None:
        """The patient in whose chart it is."""
        reference = self.subject.get("reference") if isinstance(self.subject, dict) else None
        kind, _, patient = str(reference or "").partition("/")
        return patient if kind == "Patient" else None

    def describe(self, new: Description) -> None:
        self.file_name, self.content_type, self.is_public = new.file_name, new.content_type, new.is_public
        self._touch()

    def set_subject(self, subject: Any) -> None:
        self.subject = subject
        self._touch()

    def as_fhir(self) -> dict[str, Any]:
        """Its DocumentReference."""
        attachment = {"contentType": self.content_type, "title": self.file_name, "url": f"Binary/{self.id}"}
        token = {"url": "https://api.ovok.com/fhir/StructureDefinition/public-token", "valueString": self.public_token}
        return {
            "resourceType": "DocumentReference",
            "id": self.id,
            "meta": {"versionId": str(self.version), "lastUpdated": as_ovok_time(self.updated_at)},
            "extension": [token],
            "status": "current",
            "author": [AUTHOR],
            "content": [{"attachment": attachment}],
        } | ({"subject": self.subject} if self.subject else {})

    def _touch(self) -> None:
        self.version += 1
        self.updated_at = datetime.now(UTC)


class Ovok:
    """The API of one project with one user."""

    bucket = BUCKET

    def __init__(self, context: Context) -> None:
        self._context = context
        self._disturbances = Disturbances(NAME, context.state, context.turns)
        self._sessions = Sessions(LOGIN, context.state)
        self._documents: dict[str, Document] = {}
        self._fhir = OvokFhir(
            ACCOUNT, self._disturbances, self._present_document, lambda: self._present, self._move_to_chart
        )

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        documents, one = PREFIX + "/document", PREFIX + "/document/{document}"
        return [
            web.post(PREFIX + "/v2/auth/login", self._public(self._log_in)),
            web.post(PREFIX + "/auth/b2b/login", self._public(self._log_in_b2b)),
            web.post(STAFF + "/start", self._public(self._start_staff_login)),
            web.post(STAFF + "/token", self._public(self._finish_staff_login)),
            web.post(PREFIX + "/auth/refresh-token", self._public(self._refresh)),
            *self._fhir.routes(PREFIX, self._guarded),
            web.get(documents + "/public/{token}", self._public(self._download_public)),
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
                "base_url": self._context.base_url + PREFIX,
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

    def _public(self, handler: Handler) -> Handler:
        """For calls that need no login."""

        async def answer(request: web.Request) -> web.Response:
            try:
                refuse(await self._disturbances.outage(request))
                return await handler(request)
            except ApiError as error:
                return error_answer(error)

        return answer

    def _guarded(self, handler: Handler) -> Handler:
        """For calls that need a login."""

        async def admit(request: web.Request) -> web.Response:
            if not self._sessions.admits(request.headers.get("Authorization", "")):
                raise ApiError(401)
            refuse(self._disturbances.throttle(ACCOUNT))
            return await handler(request)

        return self._public(admit)

    async def _log_in(self, request: web.Request) -> web.Response:
        body = await json_object(request)
        tokens = self._sessions.log_in(Login(text(body, "email"), text(body, "password"), text(body, "clientId")))
        return session_answer(tokens)

    async def _log_in_b2b(self, request: web.Request) -> web.Response:
        """authentication-b-2-b/auth-b-2-b-login-controller-login"""
        body = await json_object(request)
        if text(body, "tenantId") != TENANT_ID:
            raise ApiError(401)
        login = Login(text(body, "email"), text(body, "password"), text(body, "clientId"))
        return session_answer(self._sessions.log_in(login))

    async def _start_staff_login(self, request: web.Request) -> web.Response:
        """tenant-authentication/tenant-practitioner-auth-controller-start-login

        With the list of profiles that callers have seen, instead of the page's single tenantCode.
        """
        body = await json_object(request)
        if body.get("codeChallengeMethod", "S256") != "S256":
            raise ApiError(422, "codeChallengeMethod must be S256")
        code = self._sessions.start(text(body, "email"), text(body, "password"), text(body, "codeChallenge"))
        if code is None:
            raise ApiError(401)
        profile = {"tenantCode": TENANT_CODE, "project": PROJECT, "profile": AUTHOR}
        return web.json_response({"nextStep": "token", "sessionCode": code, "profiles": [profile]})

    async def _finish_staff_login(self, request: web.Request) -> web.Response:
        """tenant-authentication/tenant-practitioner-auth-controller-finish-login"""
        body = await json_object(request)
        if text(body, "tenantCode") != TENANT_CODE:
            raise ApiError(401)
        return session_answer(self._sessions.finish(text(body, "sessionCode"), text(body, "codeVerifier")))

    async def _refresh(self, request: web.Request) -> web.Response:
        """The answer has other names than a login's."""
        tokens = self._sessions.refresh(text(await json_object(request), "refresh_token"))
        if tokens is None:
            raise ApiError(401)
        return web.json_response(
            {"access_token": tokens.access, "refresh_token": tokens.refresh, "expires_in": tokens.seconds}
        )

    async def _create(self, request: web.Request) -> web.Response:
        """Each call creates another document."""
        new = description(await json_object(request))
        document = Document(
            str(self._context.uuid()), new.file_name, new.content_type, new.is_public, datetime.now(UTC)
        )
        self._documents[document.id] = document
        faults, turns = Faults.read(new.file_name), self._context.turns
        if faults.lost_create and turns.take((NAME, ACCOUNT, "", new.file_name), "LOSTCREATE"):
            raise ConnectionCut
        return web.json_response(self._as_json(document) | {"uploadOptions": self._upload_options(document)})

    async def _replace(self, request: web.Request) -> web.Response:
        """The document's name and type change at once, its bytes with the upload; the vendor does not say when."""
        document = self._find(request)
        document.describe(description(await json_object(request)))
        return web.json_response(self._as_json(document) | {"uploadOptions": self._upload_options(document)})

    def _upload_options(self, document: Document) -> dict[str, Any]:
        async def stored(form: IssuedForm, _: str) -> None:
            await self._accept(document, form)

        form = IssuedForm(NAME, ACCOUNT, "", document.file_name, BUCKET, document.key, stored)
        fields = self._context.objects.sign_form(
            BUCKET,
            document.key,
            lifetime_seconds=self._context.form_seconds(form),
            more={"bucket": BUCKET},
            with_token=False,
        )
        return {
            "url": self._context.storage.expect(form),
            "fields": {name: fields[as_signed] for name, as_signed in FORM_FIELDS.items()},
        }

    async def _accept(self, document: Document, form: IssuedForm) -> None:
        """What was stored becomes the document's file."""
        async with document.lock:
            try:
                if document.deleted or Faults.read(form.file_name).invalid:
                    await self._context.objects.delete(BUCKET, document.key)
                    self._forget_file(document)
                else:
                    await self._read_back(document, form)
            except aiohttp.ClientError:
                log.exception("a document could not be read back from the engine")

    async def _read_back(self, document: Document, form: IssuedForm) -> None:
        """Complete the document and its record with what the engine says it holds."""
        witness = await self._context.objects.witness(BUCKET, document.key)
        record = Record(
            NAME, ACCOUNT, document.patient_id, form.file_name, witness.size_bytes, witness.sha256, document.id
        )
        if document.record is None:
            self._context.charts.add(record)
        else:
            self._context.charts.replace(document.record, record)
        document.record, document.etag = record, witness.etag
        document.uploads += 1

    def _present_document(self, document_id: str) -> Document:
        """Raises LookupError."""
        document = self._documents[document_id]
        if document.deleted:
            raise LookupError
        return document

    def _move_to_chart(self, document: Document) -> None:
        """Its record, if it has a file, is in its patient's chart from now on."""
        if document.record is not None:
            moved = replace(document.record, patient_id=document.patient_id)
            self._context.charts.replace(document.record, moved)
            document.record = moved

    def _forget_file(self, document: Document) -> None:
        if document.record is not None:
            self._context.charts.remove(document.record)
        document.record = document.etag = None

    async def _list(self, request: web.Request) -> web.Response:
        count = query_number(request, "_count", DEFAULT_COUNT, least=0, most=MAX_COUNT)
        offset = query_number(request, "_offset", 0, least=0)
        sort = request.query.get("_sort", "-_lastUpdated")
        if sort not in {"-_lastUpdated", "_lastUpdated"}:
            raise ApiError(400)
        documents = sorted(self._present, key=lambda each: each.updated_at, reverse=sort.startswith("-"))
        shown = [self._as_json(each) for each in documents[offset : offset + count]]
        return web.json_response({"total": len(documents), "resources": shown})

    async def _download(self, request: web.Request) -> web.Response:
        document = self._find(request)
        if document.etag is not None and request.headers.get("ETag", "").strip('"') == document.etag.strip('"'):
            return web.Response(status=304)
        return self._redirect(document)

    async def _download_public(self, request: web.Request) -> web.Response:
        token = request.match_info["token"]
        for document in self._present:
            if document.is_public and document.public_token == token:
                return self._redirect(document)
        raise ApiError(404)

    def _redirect(self, document: Document) -> web.Response:
        """To storage, where no token may be sent. Storage answers 404 if nothing is stored yet."""
        return web.Response(status=307, headers={"Location": self._context.download_address(BUCKET, document.key)})

    async def _update(self, request: web.Request) -> web.Response:
        document = self._find(request)
        now = {"fileName": document.file_name, "contentType": document.content_type, "isPublic": document.is_public}
        document.describe(description(now | await json_object(request)))
        if document.record is not None:
            renamed = replace(document.record, file_name=document.file_name)
            self._context.charts.replace(document.record, renamed)
            document.record = renamed
        return web.json_response(self._as_json(document))

    async def _delete(self, request: web.Request) -> web.Response:
        document = self._find(request)
        document.deleted = True
        async with document.lock:
            await self._context.objects.delete(BUCKET, document.key)
            self._forget_file(document)
        return web.json_response({"message": "Document deleted successfully"})

    @property
    def _present(self) -> list[Document]:
        return [document for document in self._documents.values() if not document.deleted]

    def _find(self, request: web.Request) -> Document:
        try:
            return self._present_document(request.match_info["document"])
        except LookupError:
            raise ApiError(404) from None

    def _as_json(self, document: Document) -> dict[str, Any]:
        """A FileEntryDto without its uploadOptions."""
        shows_token = document.is_public or self._context.state.ovok_public_tokens
        return {
            "id": document.id,
            "meta": {"lastUpdated": as_ovok_time(document.updated_at)},
            "author": AUTHOR,
            "fileName": document.file_name,
            "contentType": document.content_type,
            "publicToken": document.public_token if shows_token else None,
        }

    async def _show_documents(self, request: web.Request) -> web.Response:
        """For tests: every document that was ever created, oldest first."""
        shown = [
            {
                "id": each.id,
                "tenant": ACCOUNT,
                "file_name": each.file_name,
                "content_type": each.content_type,
                "is_public": each.is_public,
                "patient_id": each.patient_id,
                "uploads": each.uploads,
                "deleted": each.deleted,
            }
            for each in self._documents.values()
        ]
        return web.json_response({"documents": shown})


def session_answer(tokens: Tokens | None) -> web.Response:
    """All logins answer alike."""
    if tokens is None:
        raise ApiError(401)
    return web.json_response(
        {
            "accessToken": tokens.access,
            "refreshToken": tokens.refresh,
            "expiresIn": tokens.seconds,
            "project": PROJECT,
            "profile": AUTHOR,
        }
    )


def error_answer(error: ApiError) -> web.Response:
    """In a form that is chosen here, since the vendor documents none."""
    body = {
        "statusCode": error.status,
        "message": error.message or MESSAGES.get(error.status, "Please try again later."),
    }
    seconds = error.retry_after_seconds
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    return web.json_response(body, status=error.status, headers=headers)


async def no_such_endpoint(_: web.Request) -> web.Response:
    raise ApiError(404)


def text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise ApiError(422, f"{name} must be a text")
    return value


def description(body: Mapping[str, Any]) -> Description:
    """`isPublic` is a boolean on one of the vendor's pages and text on another."""
    file_name, content_type = text(body, "fileName"), text(body, "contentType")
    is_public = body.get("isPublic", False)
    if not MIME_TYPE.fullmatch(content_type):
        raise ApiError(422, "contentType must be a MIME type")
    if str(is_public).lower() not in {"true", "false"}:
        raise ApiError(422, "isPublic must be true or false")
    return Description(file_name, content_type, str(is_public).lower() == "true")


def as_ovok_time(when: datetime) -> str:
    """2000-01-01T00:00:00.000Z"""
    return when.isoformat(timespec="milliseconds").replace("+00:00", "Z")
