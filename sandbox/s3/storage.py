"""The storage front: S3 as clients see it, on the sandbox's own port. Uploads are streamed to the engine.

It refuses what AWS refuses and the engine does not, brings the faults, and tells the provider that issued a form when
its document has been stored.
"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, replace
from email.message import Message
from urllib.parse import quote_plus
from xml.sax.saxutils import escape

import aiohttp
from aiohttp import web
from yarl import URL

from sandbox.faults.connection import ConnectionCut, Filtered, hang
from sandbox.faults.state import State
from sandbox.faults.words import Faults, Turns
from sandbox.request_log import RequestLog
from sandbox.s3.engine import Engine
from sandbox.s3.errors import S3Error, as_aws_words_it
from sandbox.s3.forms import FormHead, IncomingForm
from sandbox.s3.objects import BLOCK_BYTES
from sandbox.s3.policy import check_fields
from sandbox.s3.upstream import EngineAnswer, pass_on, request_head

PREFIX = "/s3"
NOT_FOR_STORAGE = ("Authorization", "Cookie", "x-api-key", "a-api-key")
PASSED_BACK = ("ETag", "Location", "Content-Type", "x-amz-request-id")
OF_CONTENT = ("Content-Length", "Content-Range", "Accept-Ranges", "Last-Modified")
OPEN_NAME = "${filename}"


@dataclass(frozen=True)
class IssuedForm:
    """A form that a provider has issued: for which document, and what happens when that has been stored."""

    provider: str
    tenant: str
    patient_id: str  # empty: the vendor's API knows no patients
    file_name: str  # OPEN_NAME until the upload comes, if the key ends in that
    bucket: str
    key: str
    # Called each time that the engine has stored something under the key, before the answer is given; with this form
    # and the name as it is written in the file part.
    stored: Callable[["IssuedForm", str], Awaitable[None]]

    @property
    def leaves_name_open(self) -> bool:
        return self.key.endswith(OPEN_NAME)

    @property
    def document(self) -> tuple[str, str, str, str]:
        """What the fault words are counted for: a second form for the same document shares their counts."""
        return (self.provider, self.tenant, self.patient_id, self.file_name)

    def named(self, written_name: str) -> "IssuedForm":
        """This form, once the upload's file part has given the document its name."""
        return replace(self, file_name=written_name) if self.leaves_name_open else self


class Storage:
    """Forms come in at `/s3/<bucket>`; objects are read at `/s3/<bucket>/<key>`."""

    def __init__(
        self,
        base_url: str,
        engine: Engine,
        http: aiohttp.ClientSession,
        state: State,
        turns: Turns,
        request_log: RequestLog,
    ) -> None:
        self._base_url = base_url + PREFIX
        self._host = base_url.removeprefix("http://")
        self._engine = engine
        self._http = http
        self._state = state
        self._turns = turns
        self._request_log = request_log
        self._issued: dict[tuple[str, str], IssuedForm] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(PREFIX + "/{bucket}", self._post_form),
            web.post(PREFIX + "/{bucket}/", self._post_form),
            web.get(PREFIX + "/{bucket}/{key:.+}", self._get_object, allow_head=False),
        ]

    def expect(self, form: IssuedForm) -> str:
        """Remember a form that is being issued. Returns the address for its upload."""
        self._issued[form.bucket, form.key] = form
        return self.upload_address(form.bucket)

    def upload_address(self, bucket: str) -> str:
        return f"{self._base_url}/{bucket}"

    def download_address(self, engine_address: URL) -> str:
        """The engine's presigned address with the sandbox's host in it."""
        return self._base_url + engine_address.raw_path_qs

    async def _post_form(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._accept_form(request)
        except S3Error as refusal:
            return refusal.answer()

    async def _accept_form(self, request: web.Request) -> web.StreamResponse:
        self._refuse_api_keys(request)
        form = open_form(request, self._state.storage_idle_seconds)
        head = await form.read_head()
        bucket = request.match_info["bucket"]
        check_fields(head, bucket)
        if self._state.storage_down is not None:
            return await self._be_down(request, form)
        issued = self._issued.get((bucket, head.field("key") or ""))
        if issued is not None:
            return await self._store_with_faults(request, form, head, issued.named(head.file_name))
        return self._pass_back(await self._store(request, form.blocks()))

    def _refuse_api_keys(self, request: web.Request) -> None:
        """A provider's keys must not be sent to its storage. S3 refuses a second way to sign as well."""
        leaked = [name for name in NOT_FOR_STORAGE if name in request.headers]
        for name in leaked:
            self._request_log.add_leak(request.path, name)
        if leaked:
            raise S3Error("InvalidArgument", f"Only one auth mechanism allowed; found {', '.join(leaked)}")

    async def _store_with_faults(
        self, request: web.Request, form: IncomingForm, head: FormHead, issued: IssuedForm
    ) -> web.StreamResponse:
        faults, take = Faults.read(issued.file_name), self._turns.take
        if faults.filtered and take(issued.document, "FILTERED"):
            await read_all(form)
            raise Filtered
        if refusal := self._fault_before_storing(issued, faults):
            await read_all(form)  # S3 answers only after the body, and so must the sandbox
            raise refusal
        blocks = form.blocks()
        if faults.cut and take(issued.document, "CUT"):
            blocks = cut_halfway(blocks, request.content_length or 0)
        answer = await self._store(request, blocks)
        if not answer.stored:
            return self._pass_back(answer)
        await issued.stored(issued, head.file_name)
        await asyncio.sleep(faults.stall_seconds)
        if faults.lost and take(issued.document, "LOST"):
            raise ConnectionCut
        return self._pass_back(answer)

    def _fault_before_storing(self, issued: IssuedForm, faults: Faults) -> S3Error | None:
        """The error that is answered this time instead of storing the document."""
        take = self._turns.take
        # Where the name is known beforehand, the form itself has expired: see Context.form_seconds.
        if issued.leaves_name_open and faults.expired and take(issued.document, "EXPIRED"):
            return S3Error("AccessDenied", "Invalid according to Policy: Policy expired.")
        if take(issued.document, "BUSY", faults.busy_times):
            return S3Error("SlowDown")
        if faults.storage_code and take(issued.document, "S3"):
            return S3Error(faults.storage_code)
        return None

    async def _store(self, request: web.Request, blocks: AsyncIterator[bytes]) -> EngineAnswer:
        headers = {name: request.headers[name] for name in ("Content-Type", "Content-Length")}
        headers["Host"] = self._host  # the engine puts it into Location; POST policies do not sign the host
        path = "/" + request.match_info["bucket"]
        return await pass_on(self._engine.port, request_head(path, headers), blocks)

    def _pass_back(self, answer: EngineAnswer) -> web.Response:
        status, body = as_aws_words_it(answer.status, answer.body)
        headers = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
        if "Location" in headers:
            headers["Location"] = headers["Location"].replace(f"http://{self._host}/", f"{self._base_url}/")
        if self._state.etag_not_md5 and "ETag" in headers:
            headers["ETag"] = f'"{uuid.uuid4().hex}"'  # as in buckets that are encrypted with KMS
        if status == 201:
            body = post_response(self._base_url, URL(headers["Location"]), headers["ETag"])
        return web.Response(status=status, headers=headers | {"Server": "AmazonS3"}, body=body or None)

    async def _be_down(self, request: web.Request, form: IncomingForm) -> web.StreamResponse:
        kind = self._state.storage_down
        if kind == "hang":
            await hang(request, lambda: self._state.storage_down == "hang")
        if kind == "reset":
            raise ConnectionCut
        await read_all(form)
        if kind == "filter":
            raise Filtered
        if kind == "503":
            raise S3Error("ServiceUnavailable")
        return web.Response(status=504, text="Gateway Timeout")  # from something in between: no S3 error in it

    async def _get_object(self, request: web.Request) -> web.StreamResponse:
        """Pass a presigned GET on to the engine."""
        try:
            self._refuse_api_keys(request)
        except S3Error as refusal:
            return refusal.answer()
        if self._state.storage_down == "filter":
            raise Filtered
        # The signature is for the engine's host, and for the path exactly as it is encoded.
        address = URL(self._engine.url + request.raw_path.removeprefix(PREFIX), encoded=True)
        sent = {"Range": request.headers["Range"]} if "Range" in request.headers else {}
        async with self._http.get(address, headers=sent) as answer:
            headers = {name: answer.headers[name] for name in PASSED_BACK + OF_CONTENT if name in answer.headers}
            response = web.StreamResponse(status=answer.status, headers=headers)
            await response.prepare(request)
            async for block in answer.content.iter_chunked(BLOCK_BYTES):
                await response.write(block)
        return response


def post_response(storage_url: str, address: URL, etag: str) -> bytes:
    """The body of AWS's 201 (https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html).

    AWS encodes the whole Location, slashes too, which the engine does not; and it does not encode the Key.
    """
    bucket, _, key = address.path.removeprefix(URL(storage_url).path + "/").partition("/")
    location = f"{storage_url}/{bucket}/{quote_plus(key)}"
    values = {"Location": location, "Bucket": bucket, "Key": key, "ETag": etag}
    inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in values.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<PostResponse>{inside}</PostResponse>'.encode()


def open_form(request: web.Request, idle_seconds: float) -> IncomingForm:
    """The form in this request. AWS requires its length beforehand."""
    if request.content_length is None:
        raise S3Error("MissingContentLength")
    boundary = request_boundary(request.headers.get("Content-Type", ""))
    return IncomingForm(request.content, boundary, idle_seconds)


def request_boundary(content_type: str) -> str:
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/form-data" or not boundary:
        raise S3Error("RequestIsNotMultiPartContent")
    return boundary


async def read_all(form: IncomingForm) -> None:
    async for _ in form.blocks():
        pass


async def cut_halfway(blocks: AsyncIterator[bytes], total_bytes: int) -> AsyncIterator[bytes]:
    """The blocks of the first half, then a cut."""
    passed = 0
    async for block in blocks:
        passed += len(block)
        if passed >= total_bytes / 2:
            raise ConnectionCut
        yield block
