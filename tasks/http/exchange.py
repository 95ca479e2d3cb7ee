"""One request and its answer: bounded in size and time, and every failure one of our errors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import httpx

from tasks.http.clients import Client
from tasks.http.failures import CertificateError
from tasks.model.errors import AccountBlocked, RetryLater

XML_BYTES = 64 * 1024
JSON_BYTES = 5_000_000
_MOST_VALUES = 50_000  # in JSON, by its commas and brackets: each may take some hundred bytes once it is read
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
    def too_large(self) -> bool:
        """Whether its JSON must not be read: `[[],[],[]]` takes a hundred times the memory that it has characters."""
        return len(self.body) > JSON_BYTES or sum(map(self.body.count, (b",", b"[", b"{"))) > _MOST_VALUES

    @property
    def is_page(self) -> bool:
        """Whether it is a page for people: no API answers with one, but web filters, proxies and portals do."""
        media_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        beginning = self.body[:200].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
        return bool(self.body) and (media_type in _PAGES or beginning.startswith((b"<!doctype html", b"<html")))


def exchange(client: Client, request: httpx.Request, *, most_bytes: int, whom: str) -> Answer:
    """Send a request and read its answer, up to `most_bytes` and one more.

    Raises RetryLater (unreachable) without an answer, AccountBlocked if the request cannot be sent at all, and whatever
    the request's body raises. Neither messages nor chained causes quote headers or address.
    """
    request.extensions["most_bytes"] = most_bytes
    response = _send(client, request, whom)
    body = response.content[: most_bytes + 1]
    return Answer(response.status_code, response.headers, body, response.extensions["lost"])


class TooManyBytes(Exception):
    """A body is longer than it may be."""


def receive(
    client: Client,
    request: httpx.Request,
    take: Callable[[bytes], object],
    *,
    most_bytes: int,
    expected_bytes: int,
    whom: str,
) -> Answer:
    """Send a request and give the blocks of a 200's body to `take`, up to `most_bytes`; any other body is the answer's.

    Raises TooManyBytes, and otherwise as `exchange` does.
    """
    received = 0

    def taken(block: bytes) -> None:
        nonlocal received
        received += len(block)
        if received > most_bytes:
            raise TooManyBytes
        take(block)

    request.extensions["take"] = taken
    request.extensions["most_bytes"] = XML_BYTES
    response = _send(client, request, whom, expected_bytes)
    return Answer(response.status_code, response.headers, response.content[:XML_BYTES], response.extensions["lost"])


def download(client: Client, request: httpx.Request, take: Callable[[bytes], object], size: int, *, whom: str) -> bool:
    """Give the blocks of the answer to `take`; False unless it is a 200 of exactly `size` bytes.

    Raises as `exchange` does, and RetryLater if the answer breaks off or is too slow.
    """
    received = 0

    def taken(block: bytes) -> None:
        nonlocal received
        received += len(block)
        take(block)

    try:
        answer = receive(client, request, taken, most_bytes=size, expected_bytes=size, whom=whom)
    except TooManyBytes:
        return False
    if answer.lost:
        raise RetryLater(f"The answer of {whom} broke off, or was too slow.", unreachable=True)
    return answer.status == 200 and received == size


def _send(client: Client, request: httpx.Request, whom: str, expected_bytes: int = 0) -> httpx.Response:
    try:
        return client.send(request, expected_bytes=expected_bytes)
    except httpx.LocalProtocolError:
        raise AccountBlocked(f"A request to {whom} cannot be sent: check this account's keys and base_url.") from None
    except httpx.HTTPError as error:
        raise no_answer(error, whom) from error


def no_answer(error: httpx.HTTPError, whom: str) -> RetryLater | AccountBlocked:
    """What an httpx error of our transport means: that it may pass, unless the certificate is not trusted."""
    if isinstance(error, CertificateError):
        return AccountBlocked(
            f"The certificate of {whom} is not trusted: if it is your own authority's, name it in ca_bundle."
        )
    return RetryLater(f"No answer from {whom}: {error}.", unreachable=True)
