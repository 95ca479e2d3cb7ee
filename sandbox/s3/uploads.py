"""The storage front: takes form uploads on the sandbox's own port and streams them to the engine.

It refuses what AWS refuses and the engine does not, lets faults happen, and tells whoever gave out the form that its
document has been stored.
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

from sandbox.faults.connection import ConnectionCut, hang
from sandbox.faults.state import World
from sandbox.faults.words import Faults, Turns
from sandbox.request_log import Journal
from sandbox.s3.engine import Engine
from sandbox.s3.errors import S3Error, as_aws_says_it
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
class Ticket:
    """A form that was given out: for which document, and whom to tell when it has been stored.

    `stored` is called with the name as the file part writes it, each time that the engine has stored something
    under the key, before the answer is given.

    `patient_id` is empty where the vendor's API knows no patients. `${filename}` at the key's end leaves the
    document's name to the file part; `file_name` is not known until then.
    """

    provider: str
    tenant: str
    patient_id: str
    file_name: str
    bucket: str
    key: str
    stored: Callable[["Ticket", str], Awaitable[None]]

    @property
    def leaves_name_open(self) -> bool:
        return self.key.endswith(OPEN_NAME)

    @property
    def document(self) -> tuple[str, str, str, str]:
        """What the fault words' counts are kept by; a second form for the same document shares them."""
        return (self.provider, self.tenant, self.patient_id, self.file_name)

    def named(self, written_name: str) -> "Ticket":
        """The ticket of the document that comes with this name in its file part."""
        return replace(self, file_name=written_name) if self.leaves_name_open else self


class Front:
    """Forms come in at `/s3/<bucket>`; objects are read at `/s3/<bucket>/<key>`."""

    def __init__(
        self, base_url: str, engine: Engine, http: aiohttp.ClientSession, world: World, turns: Turns, journal: Journal
    ) -> None:
        self._base_url = base_url + PREFIX
        self._host = base_url.removeprefix("http://")
        self._engine = engine
        self._http = http
        self._world = world
        self._turns = turns
        self._journal = journal
        self._tickets: dict[tuple[str, str], Ticket] = {}

    def routes(self) -> list[web.RouteDef]:
        return [
            web.post(PREFIX + "/{bucket}", self._post_form),
            web.post(PREFIX + "/{bucket}/", self._post_form),
            web.get(PREFIX + "/{bucket}/{key:.+}", self._get_object, allow_head=False),
        ]

    def expect(self, ticket: Ticket) -> str:
        """Remember a form that is being given out; the address to which it is to be sent."""
        self._tickets[ticket.bucket, ticket.key] = ticket
        return self.upload_address(ticket.bucket)

    def upload_address(self, bucket: str) -> str:
        return f"{self._base_url}/{bucket}"

    def address(self, engine_address: URL) -> str:
        """The engine's presigned address with the front's host in it."""
        return self._base_url + engine_address.raw_path_qs

    async def _post_form(self, request: web.Request) -> web.StreamResponse:
        try:
            return await self._take_form(request)
        except S3Error as refusal:
            return refusal.answer()

    async def _take_form(self, request: web.Request) -> web.StreamResponse:
        self._refuse_keys(request)
        form = open_form(request, self._world.storage_idle_seconds)
        head = await form.read_head()
        bucket = request.match_info["bucket"]
        check_fields(head, bucket)
        ticket = self._tickets.get((bucket, head.field("key") or ""))
        if self._world.storage_down is not None:
            return await self._be_down(request, form)
        if ticket is not None:
            return await self._with_faults(request, form, head, ticket.named(head.file_name))
        return self._pass_back(await self._store(request, form.blocks()))

    def _refuse_keys(self, request: web.Request) -> None:
        """Nothing that belongs to a provider's API may come to its storage; S3 takes one way to sign at a time."""
        leaked = [name for name in NOT_FOR_STORAGE if name in request.headers]
        for name in leaked:
            self._journal.note_leak(request.path, name)
        if leaked:
            raise S3Error("InvalidArgument", f"Only one auth mechanism allowed; found {', '.join(leaked)}")

    async def _with_faults(
        self, request: web.Request, form: IncomingForm, head: FormHead, ticket: Ticket
    ) -> web.StreamResponse:
        faults, turn = Faults.read(ticket.file_name), self._turns.take
        if refusal := self._refusal(ticket, faults):
            await read_all(form)
            raise refusal
        blocks = form.blocks()
        if faults.cut and turn(ticket.document, "CUT"):
            blocks = cut_halfway(blocks, request.content_length or 0)
        answer = await self._store(request, blocks)
        if not answer.stored:
            return self._pass_back(answer)
        await ticket.stored(ticket, head.file_name)
        await asyncio.sleep(faults.stall_seconds)
        if faults.lost and turn(ticket.document, "LOST"):
            raise ConnectionCut
        return self._pass_back(answer)

    def _refusal(self, ticket: Ticket, faults: Faults) -> S3Error | None:
        """What storage says this time instead of storing the document."""
        turn = self._turns.take
        if ticket.leaves_name_open and faults.expired and turn(ticket.document, "EXPIRED"):
            return S3Error("AccessDenied", "Invalid according to Policy: Policy expired.")
        if turn(ticket.document, "BUSY", faults.busy_times):
            return S3Error("SlowDown")
        if faults.storage_code and turn(ticket.document, "S3"):
            return S3Error(faults.storage_code)
        return None

    async def _store(self, request: web.Request, blocks: AsyncIterator[bytes]) -> EngineAnswer:
        headers = {name: request.headers[name] for name in ("Content-Type", "Content-Length")}
        headers["Host"] = self._host  # POST policies do not sign the host, and Location names it
        path = "/" + request.match_info["bucket"]
        return await pass_on(self._engine.port, request_head(path, headers), blocks)

    def _pass_back(self, answer: EngineAnswer) -> web.Response:
        status, body = as_aws_says_it(answer.status, answer.body)
        headers = {name: answer.headers[name] for name in PASSED_BACK if name in answer.headers}
        if "Location" in headers:
            headers["Location"] = headers["Location"].replace(f"http://{self._host}/", f"{self._base_url}/")
        if self._world.etag_not_md5 and "ETag" in headers:
            headers["ETag"] = f'"{uuid.uuid4().hex}"'
        if status == 201:
            body = post_response(self._base_url, URL(headers["Location"]), headers["ETag"])
        return web.Response(status=status, headers=headers | {"Server": "AmazonS3"}, body=body or None)

    async def _be_down(self, request: web.Request, form: IncomingForm) -> web.StreamResponse:
        kind = self._world.storage_down
        if kind == "hang":
            await hang(request, lambda: self._world.storage_down == "hang")
        if kind == "reset":
            raise ConnectionCut
        await read_all(form)
        if kind == "503":
            raise S3Error("ServiceUnavailable")
        return web.Response(status=504, text="Gateway Timeout")  # from something in between: no S3 error in it

    async def _get_object(self, request: web.Request) -> web.StreamResponse:
        """Pass a presigned GET on. It is signed for the engine's host."""
        try:
            self._refuse_keys(request)
        except S3Error as refusal:
            return refusal.answer()
        address = URL(self._engine.url + request.raw_path.removeprefix(PREFIX), encoded=True)
        wanted = {"Range": request.headers["Range"]} if "Range" in request.headers else {}
        async with self._http.get(address, headers=wanted) as found:
            headers = {name: found.headers[name] for name in PASSED_BACK + OF_CONTENT if name in found.headers}
            response = web.StreamResponse(status=found.status, headers=headers)
            await response.prepare(request)
            async for block in found.content.iter_chunked(BLOCK_BYTES):
                await response.write(block)
        return response


def post_response(storage_url: str, address: URL, etag: str) -> bytes:
    """What AWS says of a stored object with a 201: its Location is encoded throughout, its Key is not.

    https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html; the engine leaves slashes as they are.
    """
    bucket, _, key = address.path.removeprefix(URL(storage_url).path + "/").partition("/")
    location = f"{storage_url}/{bucket}/{quote_plus(key)}"
    values = {"Location": location, "Bucket": bucket, "Key": key, "ETag": etag}
    inside = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in values.items())
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<PostResponse>{inside}</PostResponse>'.encode()


def open_form(request: web.Request, idle_seconds: float) -> IncomingForm:
    """The form in this request; AWS wants to know its length beforehand."""
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
