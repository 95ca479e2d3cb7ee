"""One request and its answer: bounded in size and time, and every failure one of our errors."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from tasks.model.errors import AccountBlocked, RetryLater

XML_BYTES = 64 * 1024
JSON_BYTES = 10_000_000
_BODY_SECONDS = 60.0  # an answer that takes longer than this to arrive is treated as lost
_BLOCK_BYTES = 256 * 1024
_SLOWEST_BYTES_PER_SECOND = 50_000
_PAGES = ("text/html", "application/xhtml+xml")


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` holds up to one byte more than was allowed.

    `lost`: the connection ended within the body, or the body took too long.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    lost: bool = False

    @property
    def success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def is_page(self) -> bool:
        """Whether it is a page for people: no API answers with one, but web filters, proxies and portals do."""
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        beginning = self.body[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        return bool(self.body) and (media_type in _PAGES or beginning.startswith((b"<!doctype html", b"<html")))


def exchange(client: httpx.Client, request: httpx.Request, *, most_bytes: int, whom: str) -> Answer:
    """Send a request and read its answer, up to `most_bytes` and one more.

    Raises RetryLater (unreachable) without an answer, AccountBlocked if the request cannot be sent at all, and whatever
    the request's body raises. Neither messages nor chained causes quote headers or address.
    """
    try:
        response = client.send(request, stream=True)
    except httpx.LocalProtocolError:
        raise AccountBlocked(f"A request to {whom} cannot be sent: check this account's keys and base_url.") from None
    except httpx.HTTPError as error:
        raise no_answer(error, whom) from error
    try:
        body, lost = _read(response, most_bytes)
    finally:
        response.close()
    return Answer(response.status_code, response.headers, body, lost)


def _read(response: httpx.Response, most_bytes: int) -> tuple[bytes, bool]:
    """The body, and whether it was lost on the way."""
    until = time.monotonic() + _BODY_SECONDS
    body = bytearray()
    try:
        for chunk in response.iter_bytes():
            body += chunk
            if len(body) > most_bytes:
                return bytes(body[: most_bytes + 1]), False
            if time.monotonic() > until:
                return bytes(body), True
    except httpx.HTTPError:
        return bytes(body), True
    return bytes(body), False


def read_whole(response: httpx.Response, take: Callable[[bytes], object], size: int) -> bool:
    """Give the body's blocks to `take`; False unless it has exactly `size` bytes. Raises RetryLater if it is slow."""
    received, until = 0, time.monotonic() + _BODY_SECONDS + size / _SLOWEST_BYTES_PER_SECOND
    for block in response.iter_bytes(_BLOCK_BYTES):
        received += len(block)
        if received > size:
            return False
        if time.monotonic() > until:
            raise RetryLater("The storage gives the document back too slowly.", unreachable=True)
        take(block)
    return received == size


def no_answer(error: httpx.HTTPError, whom: str) -> RetryLater | AccountBlocked:
    """What an httpx error means: that it may pass, unless the certificate is not trusted."""
    cause: BaseException | None = error
    while cause is not None:  # httpx and httpcore each wrap the error of ssl
        if isinstance(cause, ssl.SSLCertVerificationError):
            return AccountBlocked(
                f"The certificate of {whom} is not trusted: if it is your own authority's, name it in ca_bundle."
            )
        cause = cause.__cause__ or cause.__context__
    return RetryLater(f"No answer from {whom} ({type(error).__name__}).", unreachable=True)
