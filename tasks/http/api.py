"""The one module that builds httpx clients: timeouts, TLS, no redirects, no environment surprises.

No redirect is ever followed: httpx drops only `Authorization` when it crosses to another origin and would hand over
key headers such as `x-api-key`.
"""

from __future__ import annotations

import os
import re
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import certifi
import httpcore
import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from config.values import HOST_NAME, host_allowed, is_address, is_loopback
from tasks.errors import AccountBlocked, OutcomeUnknown, RetryLater
from tasks.held_back import Guard, HeldBack
from tasks.listening import ListeningBackend

USER_AGENT = "chartpost"
API_TIMEOUT = httpx.Timeout(connect=5, read=30, write=30, pool=5)
STORAGE_TIMEOUT = httpx.Timeout(connect=5, read=120, write=60, pool=5)  # 5 s, httpx's own, breaks slow links
XML_BYTES = 64 * 1024
JSON_BYTES = 10_000_000

_BODY_SECONDS = 60.0  # an answer that drips longer than this is taken for lost
_API_KEEPALIVE_SECONDS = 15.0
_BLOCK_BYTES = 256 * 1024
_SLOWEST_BYTES_PER_SECOND = 50_000

Model = TypeVar("Model", bound=BaseModel)


# --- clients ---------------------------------------------------------------------------------------------------------


class Clients:
    """One API client and one storage client for each thread, made when first used; all share one TLS set-up.

    One client shared by many threads collapses under its pool's lock, and one that was used before a fork answers
    with other requests' answers: so each belongs to one thread of one process.
    """

    def __init__(self, ca_bundle: Path | None = None) -> None:
        self._ca_bundle = ca_bundle
        self._mine = threading.local()
        self._all: weakref.WeakSet[httpx.Client] = weakref.WeakSet()

    def api(self) -> httpx.Client:
        """For a provider's API; keeps connections open."""
        return self._client("api", _api_client)

    def storage(self) -> httpx.Client:
        """For uploads and whatever else creates something, and for addresses that a provider hands out: no keys.

        A fresh connection each, since one that was just being closed looks like a lost answer.
        """
        return self._client("storage", _storage_client)

    def close(self) -> None:
        """Close every thread's clients; those asked for afterwards are new."""
        self._mine = threading.local()
        for client in list(self._all):
            client.close()
        self._all.clear()

    def _client(self, kind: str, build: Callable[[ssl.SSLContext], httpx.Client]) -> httpx.Client:
        name = f"{kind}_of_{os.getpid()}"
        client: httpx.Client | None = getattr(self._mine, name, None)
        if client is None:
            client = build(tls(self._ca_bundle))
            setattr(self._mine, name, client)
            self._all.add(client)
        return client


@lru_cache
def tls(ca_bundle: Path | None = None) -> ssl.SSLContext:
    """The TLS set-up: the system's certificate authorities (certifi's where it has none), and those of `ca_bundle`.

    Raises AccountBlocked if `ca_bundle` holds none.
    """
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"] and not _has_ca_folder():
        context.load_verify_locations(certifi.where())
    if ca_bundle:
        try:
            context.load_verify_locations(ca_bundle)
        except OSError:  # ssl's errors among them
            raise AccountBlocked(
                "No certificate can be read from ca_bundle: name a PEM file that holds some."
            ) from None
    return context


def _has_ca_folder() -> bool:
    """OpenSSL looks into the folder of authorities only when it verifies, so that they are not counted."""
    folder = ssl.get_default_verify_paths().capath
    return folder is not None and any(Path(folder).iterdir())


def _api_client(context: ssl.SSLContext) -> httpx.Client:
    return httpx.Client(
        verify=context,
        trust_env=False,
        follow_redirects=False,
        cookies=_no_cookies(),
        timeout=API_TIMEOUT,
        limits=httpx.Limits(keepalive_expiry=_API_KEEPALIVE_SECONDS),
        headers={"User-Agent": USER_AGENT, "Accept": "application/json"},
    )


def _storage_client(context: ssl.SSLContext) -> httpx.Client:
    return httpx.Client(
        transport=_ListeningTransport(context),
        trust_env=False,
        follow_redirects=False,
        cookies=_no_cookies(),
        timeout=STORAGE_TIMEOUT,
    )


class _ListeningTransport(httpx.HTTPTransport):
    """httpx's own transport over listening connections, none of which is used twice."""

    def __init__(self, context: ssl.SSLContext) -> None:
        super().__init__(verify=context, trust_env=False)
        # httpx passes every argument on to httpcore's pool but this one.
        self._pool = httpcore.ConnectionPool(
            ssl_context=context, max_keepalive_connections=0, network_backend=ListeningBackend()
        )


def _no_cookies() -> CookieJar:
    return CookieJar(DefaultCookiePolicy(allowed_domains=[]))


# --- addresses -------------------------------------------------------------------------------------------------------


def address(url: str, *, insecure: bool) -> httpx.URL:
    """The parsed address, if it may be called at all: https, a host, no user name and password.

    `insecure` allows http:// and loopback. The value returned is what must be called, so that no second parser can
    read the text differently. Raises ValueError, whose words do not repeat the address.
    """
    try:
        parsed = httpx.URL(url)
    except (httpx.InvalidURL, ValueError):
        raise ValueError("it cannot be read") from None
    host = parsed.raw_host.decode("ascii").lower().rstrip(".")
    if not (is_address(host) or HOST_NAME.match(host)):
        raise ValueError("it names no host")
    if parsed.userinfo:
        raise ValueError("it holds a user name")
    if parsed.port is not None and not 0 < parsed.port < 65_536:
        raise ValueError("its port cannot exist")
    if parsed.scheme != "https" and not (insecure and parsed.scheme == "http"):
        raise ValueError("it is not https://")
    if is_loopback(host) and not insecure:
        raise ValueError("it leads to this machine itself")
    return parsed


# --- one exchange ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `body` holds up to one byte more than was allowed; `lost`: the connection ended within it."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    lost: bool = False

    @property
    def success(self) -> bool:
        return 200 <= self.status < 300


def exchange(client: httpx.Client, request: httpx.Request, *, most_bytes: int, whom: str) -> Answer:
    """Send a request and read its answer, up to `most_bytes` and one more.

    Raises RetryLater (unreachable) without an answer, AccountBlocked if the request cannot be sent at all. What the
    request's body raises comes through as it is. Neither texts nor chained causes quote headers or address.
    """
    try:
        response = client.send(request, stream=True)
    except httpx.LocalProtocolError:
        raise AccountBlocked(f"A request to {whom} cannot be sent: check this account's keys and base_url.") from None
    except httpx.HTTPError as error:
        raise _unanswered(error, whom) from error
    try:
        body, lost = _read(response, most_bytes)
    finally:
        response.close()
    return Answer(response.status_code, response.headers, body, lost)


def _read(response: httpx.Response, most_bytes: int) -> tuple[bytes, bool]:
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


def _came_whole(response: httpx.Response, take: Callable[[bytes], object], size: int) -> bool:
    passed, until = 0, time.monotonic() + _BODY_SECONDS + size / _SLOWEST_BYTES_PER_SECOND
    for block in response.iter_bytes(_BLOCK_BYTES):
        passed += len(block)
        if passed > size:
            return False
        if time.monotonic() > until:
            raise RetryLater("The storage gives the document back too slowly.", unreachable=True)
        take(block)
    return passed == size


def _unanswered(error: httpx.HTTPError, whom: str) -> RetryLater | AccountBlocked:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return AccountBlocked(
                f"The certificate of {whom} is not trusted: if it is your own authority's, name it in ca_bundle."
            )
        cause = cause.__cause__ or cause.__context__
    return RetryLater(f"No answer from {whom} ({type(error).__name__}).", unreachable=True)


# --- a provider's API ------------------------------------------------------------------------------------------------

Signer = Callable[[str, str], Mapping[str, str]]
"""Makes the headers that hold keys, tokens or proofs, of a request's method and address."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a creating request carries: `length` bytes, in blocks that are made anew for each attempt."""

    content_type: str
    length: int
    blocks: Callable[[], Iterable[bytes]]

    @classmethod
    def of(cls, content: bytes, content_type: str = "application/json") -> Body:
        return cls(content_type, len(content), lambda: (content,))


class ApiClient:
    """All calls to one account's API go through here: asked of the rate limiter first, counted, answered or raised.

    `limiter` raises RetryLater when no slot is free; `on_call` is told of every request that is about to leave.
    `headers` hold the keys, or make them just before a request leaves: they go to `base_url`'s own origin and nowhere
    else.
    """

    def __init__(
        self,
        clients: Clients,
        base_url: str,
        *,
        provider: str,
        headers: Mapping[str, str] | Signer,
        limiter: Callable[[], None],
        on_call: Callable[[], None],
        insecure: bool = False,
    ) -> None:
        self.provider = provider
        self.base_url = base_url.rstrip("/")
        self._clients = clients
        self._sign: Signer = headers if callable(headers) else lambda method, url: headers
        self._limiter = limiter
        self._on_call = on_call
        self._insecure = insecure

    def url(self, *segments: str) -> str:
        """The address of a resource; each segment is percent-encoded, since ids may hold anything."""
        return "/".join((self.base_url, *map(_encoded, segments)))

    def call(
        self,
        method: str,
        *segments: str,
        params: Sequence[tuple[str, str]] = (),
        json: JsonValue = None,
        content: bytes | None = None,
        form: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One request, whatever the status of its answer. Raises RetryLater and AccountBlocked.

        Its body is `json`, `content` or `form` (urlencoded); `headers` are this request's own.
        """
        target = self._target(segments, params)
        self._limiter()
        body: dict[str, Any] = {"json": json, "content": content, "data": form}
        request = self._request(self._clients.api(), method, target, headers or {}, **body)
        self._on_call()
        answer = exchange(self._clients.api(), request, most_bytes=JSON_BYTES, whom=self.provider)
        if answer.lost:
            raise RetryLater(f"The answer of {self.provider} broke off.", unreachable=True)
        return answer

    def create(
        self,
        method: str,
        *segments: str,
        body: Body,
        guard: Guard,
        params: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        not_taken: Collection[int] = (),
    ) -> Answer:
        """A request that creates something, with `guard`'s leave; the answer says for certain what became of it.

        `not_taken` are 5xx that mean, by the vendor's word, that nothing was done. Raises RetryLater and
        AccountBlocked, when nothing was created, what `guard` and the blocks raise, and OutcomeUnknown when the
        last block had left and the answer is missing, broken off, or any other 5xx.
        """
        target = self._target(segments, params)
        self._limiter()
        guard.beat()
        sending = HeldBack(body.blocks(), guard.commit)
        own = {"User-Agent": USER_AGENT, "Accept": "application/json", **(headers or {})}
        own |= {"Content-Type": body.content_type, "Content-Length": str(body.length)}
        client = self._clients.storage()
        extensions = {"timeout": client.timeout.as_dict(), "trace": sending.ear}
        request = self._request(client, method, target, own, content=iter(sending), extensions=extensions)
        self._on_call()
        try:
            answer = exchange(client, request, most_bytes=JSON_BYTES, whom=self.provider)
        except RetryLater as error:
            if sending.sent_whole:
                raise OutcomeUnknown(f"{self.provider} was sent all, and did not answer.", unreachable=True) from error
            raise
        return self._certain(answer, sending.sent_whole, not_taken)

    def visit(self, url: str, *, hosts: Sequence[str], headers: Mapping[str, str] | None = None) -> Answer:
        """GET an address that the provider has handed out, without any key of ours; no more than a little is read.

        Raises RetryLater, and AccountBlocked for an address that is not https on one of `hosts`.
        """
        target = handed_out(url, hosts=hosts, insecure=self._insecure, provider=self.provider)
        client = self._clients.storage()
        own = {"User-Agent": USER_AGENT, **(headers or {})}
        self._on_call()
        return exchange(client, httpx.Request("GET", target, headers=own), most_bytes=XML_BYTES, whom="the storage")

    def visit_whole(self, url: str, *, hosts: Sequence[str], take: Callable[[bytes], object], size: int) -> bool:
        """GET an address that the provider has handed out, as `visit` does, and give all of its blocks to `take`.

        False if it is answered otherwise than with exactly `size` bytes. Raises RetryLater and AccountBlocked.
        """
        target = handed_out(url, hosts=hosts, insecure=self._insecure, provider=self.provider)
        request = httpx.Request("GET", target, headers={"User-Agent": USER_AGENT})
        self._on_call()
        try:
            response = self._clients.storage().send(request, stream=True)
            with closing(response):
                return response.status_code == 200 and _came_whole(response, take, size)
        except httpx.HTTPError as error:
            raise _unanswered(error, "the storage") from error

    def _certain(self, answer: Answer, sent_whole: bool, not_taken: Collection[int]) -> Answer:
        """The answer, if it leaves no doubt."""
        doubtful = answer.lost or answer.status >= 500
        if doubtful and sent_whole and answer.status not in not_taken:
            what = "broke off" if answer.lost else f"was {answer.status}"
            raise OutcomeUnknown(f"{self.provider} was sent all, and its answer {what}.", unreachable=True)
        if answer.lost or (answer.success and not sent_whole):
            raise RetryLater(f"{self.provider} answered before it had the whole of it.", unreachable=True)
        return answer

    def _target(self, segments: Sequence[str], params: Sequence[tuple[str, str]]) -> httpx.URL:
        try:
            target = address(self.url(*segments), insecure=self._insecure)
        except ValueError as error:
            raise AccountBlocked(f"The base_url of this account cannot be used: {error}.") from None
        return target.copy_merge_params(list(params)) if params else target

    def _request(
        self, client: httpx.Client, method: str, target: httpx.URL, headers: Mapping[str, str], **body: Any
    ) -> httpx.Request:
        signed = {**headers, **self._sign(method, str(target))}
        try:
            return client.build_request(method, target, headers=signed, **body)
        except UnicodeError:
            raise AccountBlocked(
                f"A key for {self.provider} holds characters that no header can carry: paste the key again."
            ) from None


def handed_out(url: str, *, hosts: Sequence[str], insecure: bool, provider: str) -> httpx.URL:
    """The address that a provider has handed out, if it may be used. Raises AccountBlocked."""
    try:
        target = address(url, insecure=insecure)
    except ValueError as error:
        raise AccountBlocked(f"{provider} handed out an address that cannot be used: {error}.") from None
    host = target.raw_host.decode("ascii")
    if not host_allowed(host, hosts) and not (insecure and is_loopback(host)):
        raise AccountBlocked(f"{provider} handed out an address of a host that is not allowed: ask why, or allow it.")
    return target


def _encoded(segment: str) -> str:
    """A path segment; a dot segment, which clients resolve (RFC 3986, 5.2.4), is encoded too.

    `$` stands as it is, as a segment may have it (RFC 3986, 3.3): the names of FHIR's operations begin with it.
    """
    return quote(segment, safe="$") if segment.strip(".") else segment.replace(".", "%2E")


def understood(answer: Answer, model: type[Model], provider: str, *, unseen: bool = False) -> Model:
    """The answer's JSON as a model. Raises AccountBlocked, never quoting the answer.

    `unseen`: it answers a creating call, so that what became of that is not known either.
    """
    if len(answer.body) > JSON_BYTES:
        raise not_understood(provider, f"more than {JSON_BYTES:_} bytes", unseen=unseen)
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as error:
        raise not_understood(provider, _faults(error, model), unseen=unseen) from None


def not_understood(provider: str, what: str, *, unseen: bool = False) -> AccountBlocked:
    """The error for an answer whose shape we do not know: we never guess."""
    return AccountBlocked(
        f"{provider} answered in a shape that is not understood ({what}): "
        "check base_url, and whether a newer version of chartpost knows this answer.",
        unseen=unseen,
    )


def _faults(error: ValidationError, model: type[BaseModel]) -> str:
    """Which of the model's own fields are at fault; anything else may be the patient's."""
    names = [str(fault["loc"][0]) if fault["loc"] else "" for fault in error.errors(include_input=False)]
    known = sorted({name for name in names if name in model.model_fields})
    return "no JSON object" if not known else "wrong or missing: " + ", ".join(known)


# --- how long the other side asks us to wait -------------------------------------------------------------------------


def asked_wait(headers: Mapping[str, str], now: datetime) -> float | None:
    """Seconds that an answer asks us to wait, by Retry-After or X-RateLimit-Reset; None if it does not say."""
    return _first(
        retry_after(headers.get("retry-after", ""), now),
        rate_limit_reset(headers.get("x-ratelimit-reset", ""), now),
    )


def retry_after(value: str, now: datetime) -> float | None:
    """Retry-After, in seconds or as an HTTP date (RFC 9110, 10.2.3), held within 1 second and 1 hour."""
    if re.fullmatch(r"[0-9]{1,15}", value.strip()):
        return _within(float(value), 1, 3600)
    try:
        at = parsedate_to_datetime(value)
        return _within((_aware(at) - now).total_seconds(), 1, 3600)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def rate_limit_reset(value: str, now: datetime) -> float | None:
    """X-RateLimit-Reset, in seconds since 1970, held within 1 second and 2 minutes: clocks differ."""
    if not re.fullmatch(r"[0-9]{1,15}(\.[0-9]{1,9})?", value.strip()):
        return None
    return _within(float(value) - now.timestamp(), 1, 120)


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _first(*values: float | None) -> float | None:
    return next((value for value in values if value is not None), None)
