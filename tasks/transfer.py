"""The upload: one S3 form POST, streamed in constant memory, digests taken as the bytes go by.

Format: RFC 7578 as browsers write it (https://html.spec.whatwg.org/#multipart-form-data), and S3's POST Object
(https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html): every field verbatim, the file last, nothing
added, and a Content-Length, since S3 refuses chunked bodies.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Protocol

import httpx

from tasks.errors import Code, DocumentRefused, OutcomeUnknown, RetryLater
from tasks.forms import check_form, check_name, expected_key
from tasks.http import USER_AGENT, XML_BYTES, exchange
from tasks.job import Form, Stored
from tasks.listening import Ear, StopSending
from tasks.storage import Place, place_of

__all__ = ["BLOCK_BYTES", "Source", "check_form", "check_name", "post"]

BLOCK_BYTES = 256 * 1024  # larger ones run into write timeouts on slow links; smaller ones cost CPU


class Source(Protocol):
    """An open document: a fresh stream of exactly `size` bytes."""

    @property
    def size(self) -> int: ...

    def read(self, count: int, /) -> bytes: ...

    def unchanged(self) -> bool:
        """Whether it still is what was accepted."""
        ...


def post(
    form: Form,
    source: Source,
    file_name: str,
    *,
    client: httpx.Client,
    allowed_hosts: Sequence[str],
    insecure: bool,
    commit: Callable[[], None],
    beat: Callable[[], None],
    on_call: Callable[[], None] = lambda: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Stored:
    """Post the file and return where it was stored.

    `beat` is called before each block; `commit` once, when all but the last block has left. Whatever either raises
    cuts the connection, so that nothing is stored, and comes out. `client` is `Clients.storage()`.

    Raises, when nothing was stored, RetryLater, PresignAgain, DocumentRefused or AccountBlocked; OutcomeUnknown when
    the last block had left and no answer told what became of it.
    """
    target = check_form(form, file_name, source.size, now(), allowed_hosts=allowed_hosts, insecure=insecure)
    body = _Body(form, source, check_name(file_name), commit, beat)
    on_call()
    try:
        answer = exchange(client, body.request(target, client.timeout), most_bytes=XML_BYTES, whom="the storage")
    except RetryLater as error:
        if body.sent_whole:
            raise OutcomeUnknown("The whole file was sent, and the storage did not answer.") from error
        raise
    key = expected_key(form, file_name)
    place = place_of(answer, sent_whole=body.sent_whole, key=key, now=now())
    return body.stored(place, key or "")


class _Body:
    """The bytes of one multipart/form-data body, its last block held back until the commit has succeeded."""

    def __init__(
        self, form: Form, source: Source, name: str, commit: Callable[[], None], beat: Callable[[], None]
    ) -> None:
        self.sent_whole = False
        self._source = source
        self._commit = commit
        self._beat = beat
        self._ear = Ear()
        self._boundary = f"chartpost-{os.urandom(16).hex()}"
        self._head = _head(form, name, self._boundary)
        self._tail = f"\r\n--{self._boundary}--\r\n".encode()
        self._sha256 = hashlib.sha256()
        self._md5 = hashlib.md5(usedforsecurity=False)

    def request(self, target: httpx.URL, timeout: httpx.Timeout) -> httpx.Request:
        """Built by hand: a client's defaults (cookies, headers) do not belong in it."""
        headers = {
            "User-Agent": USER_AGENT,
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(len(self._head) + self._source.size + len(self._tail)),
        }
        extensions = {"timeout": timeout.as_dict(), "trace": self._ear}
        return httpx.Request("POST", target, headers=headers, content=self._blocks(), extensions=extensions)

    def stored(self, place: Place, expected: str) -> Stored:
        md5 = self._md5.hexdigest()
        etag = (place.etag or "").strip().removeprefix("W/").strip('"')
        return Stored(
            key=place.key or expected,
            etag=etag or None,
            etag_verified=etag.lower() == md5,  # unequal proves nothing: an encrypted bucket's ETag is no MD5
            sha256=self._sha256.hexdigest(),
            md5=md5,
            location=place.location,
        )

    def _blocks(self) -> Iterator[bytes]:
        held = self._head
        for block in self._file():
            yield held
            self._listen()
            held = block
        self._listen()
        self._commit()
        self._listen()  # committed, but the last block need not leave
        self.sent_whole = True
        yield held + self._tail

    def _file(self) -> Iterator[bytes]:
        """The file's blocks; returns only if there were as many bytes as there should be, and nothing has changed."""
        passed = 0
        while block := self._next_block():
            passed += len(block)
            if passed > self._source.size:
                break
            self._sha256.update(block)
            self._md5.update(block)
            yield block
        if passed != self._source.size or not self._source.unchanged():
            raise DocumentRefused(
                Code.FILE_CHANGED,
                "The file changed while it was being sent.",
                hint="Send it again once it is written completely.",
            )

    def _next_block(self) -> bytes:
        self._beat()
        return self._source.read(BLOCK_BYTES)

    def _listen(self) -> None:
        if self._ear.heard():
            raise StopSending("The storage answered before it had the whole file.")


def _head(form: Form, name: str, boundary: str) -> bytes:
    fields = "".join(
        f'--{boundary}\r\nContent-Disposition: form-data; name="{_quoted(field)}"\r\n\r\n{value}\r\n'
        for field, value in form.fields.items()
    )
    file = f'Content-Disposition: form-data; name="file"; filename="{_quoted(name)}"'
    return f"{fields}--{boundary}\r\n{file}\r\nContent-Type: application/octet-stream\r\n\r\n".encode()


def _quoted(name: str) -> str:
    """As browsers write names in a part's header: UTF-8, with these three escaped."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
