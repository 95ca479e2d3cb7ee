"""The upload: one S3 form POST, streamed in constant memory, digests taken as the bytes go by.

Format: RFC 7578 as browsers write it (https://html.spec.whatwg.org/#multipart-form-data), and S3's POST Object
(https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html): every field verbatim, the file last, nothing
added, and a Content-Length, since S3 refuses chunked bodies.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import httpx

from tasks.http.clients import USER_AGENT
from tasks.http.commit_gate import CommitGate, GatedBody
from tasks.http.exchange import XML_BYTES, exchange
from tasks.model.errors import OutcomeUnknown, RetryLater
from tasks.model.job import Form, Stored
from tasks.model.names import check_name
from tasks.sources.stream import HashingReader, Source
from tasks.transfer.answers import Place, place_of
from tasks.transfer.form import check_form, expected_key


def post(
    form: Form,
    source: Source,
    file_name: str,
    *,
    client: httpx.Client,
    allowed_hosts: Sequence[str],
    insecure: bool,
    gate: CommitGate,
    on_call: Callable[[], None] = lambda: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Stored:
    """Post the file and return where it was stored.

    `guard` is asked before each block, and once when all but the last block has left. Whatever it raises cuts the
    connection, so that nothing is stored, and comes out. `client` is `Clients.storage()`.

    Raises, when nothing was stored, RetryLater, PresignAgain, DocumentRefused or AccountBlocked; OutcomeUnknown when
    the last block had left and no answer told what became of it.
    """
    target = check_form(form, file_name, source.size, now(), allowed_hosts=allowed_hosts, insecure=insecure)
    body = _Body(form, source, check_name(file_name), gate)
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

    def __init__(self, form: Form, source: Source, name: str, gate: CommitGate) -> None:
        self._source = source
        self._form_url = form.url
        self._reader = HashingReader(source, gate.beat)
        self._boundary = f"chartpost-{os.urandom(16).hex()}"
        self._head = _head(form, name, self._boundary)
        self._tail = f"\r\n--{self._boundary}--\r\n".encode()
        self._sending = GatedBody(self._blocks(), gate.commit)

    @property
    def sent_whole(self) -> bool:
        return self._sending.sent_whole

    def request(self, target: httpx.URL, timeout: httpx.Timeout) -> httpx.Request:
        """Built by hand: a client's defaults (cookies, headers) do not belong in it."""
        headers = {
            "User-Agent": USER_AGENT,
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            "Content-Length": str(len(self._head) + self._source.size + len(self._tail)),
        }
        extensions = {"timeout": timeout.as_dict(), "trace": self._sending.ear}
        return httpx.Request("POST", target, headers=headers, content=iter(self._sending), extensions=extensions)

    def stored(self, place: Place, expected: str) -> Stored:
        etag = (place.etag or "").strip().removeprefix("W/").strip('"')
        return Stored(
            key=place.key or expected,
            etag=etag or None,
            etag_verified=etag.lower() == self._reader.md5,  # unequal proves nothing: an encrypted bucket's is no MD5
            sha256=self._reader.sha256,
            md5=self._reader.md5,
            location=place.location,
            form_url=self._form_url,
        )

    def _blocks(self) -> Iterator[bytes]:
        """The tail leaves together with the file's last block, so that both are held back."""
        held = self._head
        for block in self._reader:
            yield held
            held = block
        yield held + self._tail


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
