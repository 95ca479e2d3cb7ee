"""The upload: one S3 form POST, streamed in constant memory, hashed on its way.

Format: RFC 7578 as browsers write it (https://html.spec.whatwg.org/#multipart-form-data), and S3's POST Object
(https://docs.aws.amazon.com/AmazonS3/latest/API/RESTObjectPOST.html).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

import httpx

from tasks.http.clients import IDENTITY, USER_AGENT, Client
from tasks.http.commit_gate import CommitGate, GatedBody
from tasks.http.exchange import XML_BYTES, exchange
from tasks.http.s3_headers import bare_etag
from tasks.model.errors import OutcomeUnknown, RetryLater
from tasks.model.job import Form, Stored
from tasks.model.names import upload_name
from tasks.sources.base import OpenSource
from tasks.sources.stream import HashingReader
from tasks.transfer.answers import Sent, StoredObject, stored_object
from tasks.transfer.form import check_form, etag_may_be_md5, expected_key


def post(
    form: Form,
    source: OpenSource,
    file_name: str,
    *,
    client: Client,
    allowed_hosts: Sequence[str],
    insecure: bool,
    gate: CommitGate,
    on_call: Callable[[], None] = lambda: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Stored:
    """Post the file and return what was stored. `client` is `Clients.fresh()`.

    `gate` is checked before each block, and committed once, when all but the last block has left. Whatever it raises
    cuts the connection, so that nothing is stored, and comes out.

    Raises, when nothing was stored, RetryLater, PresignAgain, DocumentRefused or AccountBlocked; OutcomeUnknown when
    the last block had left and no answer told the outcome.
    """
    target = check_form(form, file_name, source.size, now(), allowed_hosts=allowed_hosts, insecure=insecure)
    body = _Body(form, source, upload_name(file_name), gate)
    on_call()
    try:
        answer = exchange(client, body.request(target), most_bytes=XML_BYTES, whom="the storage")
    except RetryLater as error:
        if body.may_be_whole:
            raise OutcomeUnknown("The whole file was sent, and the storage did not answer.") from error
        raise
    sent = Sent(form, expected_key(form, file_name) or "", body.may_be_whole, body.md5)
    return body.stored(stored_object(answer, sent, now=now()), sent.key)


class _Body:
    """One multipart/form-data body; its last block waits for the commit."""

    def __init__(self, form: Form, source: OpenSource, name: str, gate: CommitGate) -> None:
        self._source = source
        self._form_url = form.url
        self._reader = HashingReader(source, gate.check, with_md5=etag_may_be_md5(form))
        self._boundary = f"chartpost-{os.urandom(16).hex()}"
        # Every field as it was given and none added, since the policy must name each. The file comes last: S3 ignores
        # what follows it.
        fields = "".join(
            f'--{self._boundary}\r\nContent-Disposition: form-data; name="{_quoted(field)}"\r\n\r\n{value}\r\n'
            for field, value in form.fields.items()
        )
        file = f'Content-Disposition: form-data; name="file"; filename="{_quoted(name)}"'
        file += "\r\nContent-Type: application/octet-stream\r\n\r\n"
        self._head = f"{fields}--{self._boundary}\r\n{file}".encode()
        self._tail = f"\r\n--{self._boundary}--\r\n".encode()
        self._gated = GatedBody(self._blocks(), gate.commit)

    @property
    def may_be_whole(self) -> bool:
        return self._gated.may_be_whole

    @property
    def md5(self) -> str:
        """Of the file; empty until all of it was read, and where the ETag cannot be one."""
        return self._reader.md5 if self.may_be_whole else ""

    def request(self, target: httpx.URL) -> httpx.Request:
        headers = {
            "User-Agent": USER_AGENT,
            **IDENTITY,
            "Content-Type": f"multipart/form-data; boundary={self._boundary}",
            # S3 refuses chunked bodies.
            "Content-Length": str(len(self._head) + self._source.size + len(self._tail)),
        }
        return httpx.Request("POST", target, headers=headers, content=self._gated)

    def stored(self, stored: StoredObject, expected_key: str) -> Stored:
        etag = bare_etag(stored.etag or "")
        return Stored(
            key=stored.key or expected_key,
            etag=etag or None,
            # Unequal proves nothing: an encrypted bucket's ETag is not an MD5.
            etag_verified=bool(etag) and etag.lower() == self._reader.md5,
            sha256=self._reader.sha256,
            md5=self._reader.md5,
            location=stored.location,
            form_url=self._form_url,
        )

    def _blocks(self) -> Iterator[bytes]:
        """The tail leaves together with the file's last block, so that both wait for the commit."""
        held = self._head
        for block in self._reader:
            yield held
            held = block
        yield held + self._tail


def _quoted(name: str) -> str:
    """As browsers write names in a part's header: UTF-8, with these three escaped."""
    return name.replace('"', "%22").replace("\r", "%0D").replace("\n", "%0A")
