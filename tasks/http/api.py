"""Calls of one account's API: each passes the rate limiter, is counted, and ends in an answer or one of our errors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from tasks.http.addresses import check_address, check_handed_out, encode_segment
from tasks.http.clients import API_HEADERS, Client, Clients
from tasks.http.commit_gate import CommitGate, GatedBody
from tasks.http.exchange import JSON_BYTES, XML_BYTES, Answer, download, exchange, receive
from tasks.http.provider_clock import ProviderClock
from tasks.model.errors import AccountBlocked, OutcomeUnknown, RetryLater

Model = TypeVar("Model", bound=BaseModel)

Signer = Callable[[str, str], Mapping[str, str]]
"""Makes the headers that hold keys, tokens or proofs, from a request's method and address."""


@dataclass(frozen=True, slots=True)
class Body:
    """What a creating request carries: `length` bytes; each call of `blocks` makes them from the beginning."""

    content_type: str
    length: int
    blocks: Callable[[], Iterable[bytes]]

    @classmethod
    def of(cls, content: bytes, content_type: str = "application/json") -> Body:
        return cls(content_type, len(content), lambda: (content,))


class ApiClient:
    """Calls one account's API.

    `limiter` raises RetryLater when no slot is free; `on_call` is called for every request that is about to leave.
    `clock` learns the time from every answer.
    `headers` hold the keys, or make them just before a request leaves. They go to `base_url`'s origin and nowhere else.
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
        clock: ProviderClock,
        insecure: bool = False,
    ) -> None:
        self.provider = provider
        self.base_url = base_url.rstrip("/")
        self._clients = clients
        self._sign: Signer = headers if callable(headers) else lambda method, url: headers
        self._limiter = limiter
        self._on_call = on_call
        self._clock = clock
        self._insecure = insecure

    def url(self, *segments: str) -> str:
        """The address of a resource; each segment is percent-encoded, since ids may hold anything."""
        return "/".join((self.base_url, *map(encode_segment, segments)))

    # --- calls that carry the keys ---------------------------------------------------------------------------

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
        """One request that creates nothing, whatever the status of its answer. Raises RetryLater and AccountBlocked.

        Its body is `json`, `content` or `form` (urlencoded); `headers` are those of this request alone.
        """
        target = self._target(segments, params)
        self._limiter()
        body: dict[str, Any] = {"json": json, "content": content, "data": form}
        request = self._request(method, target, {**API_HEADERS, **(headers or {})}, **body)
        self._on_call()
        answer = self._exchange(self._clients.api(), request)
        if answer.lost:
            raise RetryLater(f"The answer of {self.provider} broke off.", unreachable=True)
        if _is_strangers(answer):
            raise not_from(self.provider, answer)
        return answer

    def create(
        self,
        method: str,
        *segments: str,
        body: Body,
        gate: CommitGate,
        params: Sequence[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        not_processed: Collection[int] = (),
    ) -> Answer:
        """A request that creates something. Its answer leaves no doubt whether that was done.

        `not_processed` are the 5xx which, by the vendor's word, mean that nothing was done.

        Raises RetryLater and AccountBlocked when nothing was created, and whatever `gate` and the blocks raise.
        Raises OutcomeUnknown when the last block had left and the answer is missing, broken off, or any other 5xx.
        """
        target = self._target(segments, params)
        self._limiter()
        gate.check()  # a token may have been fetched since the last check, in which time the lease may have been lost
        sending = GatedBody(body.blocks(), gate.commit)
        own = {**API_HEADERS, **(headers or {})}
        own |= {"Content-Type": body.content_type, "Content-Length": str(body.length)}
        # Not the API's client: a kept connection that is just closing cannot be told from a lost answer, and only these
        # connections notice an early answer.
        client = self._clients.fresh()
        request = self._request(method, target, own, content=sending)
        self._on_call()
        try:
            answer = self._exchange(client, request)
        except RetryLater as error:
            if sending.may_be_whole:
                raise OutcomeUnknown(
                    f"{self.provider} got the whole request and did not answer.", unreachable=True
                ) from error
            raise
        # A gateway's 5xx does not say what the server behind it has done.
        doubtful = answer.lost or answer.status >= 500
        if doubtful and sending.may_be_whole and answer.status not in not_processed:
            what = "broke off" if answer.lost else f"was {answer.status}"
            raise OutcomeUnknown(f"{self.provider} got the whole request, and its answer {what}.", unreachable=True)
        if answer.lost or (answer.success and not sending.may_be_whole):
            raise RetryLater(f"{self.provider} answered before it had the whole request.", unreachable=True)
        if _is_strangers(answer):  # what stands between may have let the request pass
            raise not_from(self.provider, answer, outcome_unknown=sending.may_be_whole)
        return answer

    def read_file(
        self, *segments: str, take: Callable[[bytes], object], most_bytes: int, headers: Mapping[str, str]
    ) -> Answer:
        """GET a file with the keys: all blocks of a 200 go to `take`, and its answer has no body.

        `headers` say what is accepted. Raises TooManyBytes, RetryLater (also if the answer breaks off), AccountBlocked.
        """
        target = self._target(segments, ())
        self._limiter()
        request = self._request("GET", target, {**API_HEADERS, **headers})
        self._on_call()
        answer = receive(
            self._clients.fresh(), request, take, most_bytes=most_bytes, expected_bytes=most_bytes, whom=self.provider
        )
        if answer.lost:
            raise RetryLater(f"The answer of {self.provider} broke off.", unreachable=True)
        if _is_strangers(answer):
            raise not_from(self.provider, answer)
        return answer

    def _exchange(self, client: Client, request: httpx.Request) -> Answer:
        began = self._clock.begin()
        answer = exchange(client, request, most_bytes=JSON_BYTES, whom=self.provider)
        if not answer.is_page:
            self._clock.note(self.provider, answer.headers, began)
        return answer

    def _target(self, segments: Sequence[str], params: Sequence[tuple[str, str]]) -> httpx.URL:
        query = "?" + urlencode(params) if params else ""
        try:
            return check_address(self.url(*segments) + query, insecure=self._insecure)
        except ValueError as error:
            raise AccountBlocked(f"The base_url of this account cannot be used: {error}.") from None

    def _request(self, method: str, target: httpx.URL, headers: Mapping[str, str], **body: Any) -> httpx.Request:
        signed = {**headers, **self._sign(method, str(target))}
        try:
            return httpx.Request(method, target, headers=signed, **body)
        except UnicodeError:
            raise AccountBlocked(
                f"A key for {self.provider} holds characters that no header can carry: paste the key again."
            ) from None

    # --- addresses that the provider hands out: without the keys ---------------------------------------------

    def fetch(self, url: str, *, hosts: Sequence[str], headers: Mapping[str, str] | None = None) -> Answer:
        """GET an address that the provider has handed out; at most the beginning of the body is read.

        Raises RetryLater, and AccountBlocked for an address that is not https on one of `hosts`.
        """
        request = self._handed_out(url, hosts, headers or {})
        self._on_call()
        return exchange(self._clients.fresh(), request, most_bytes=XML_BYTES, whom="the storage")

    def download(self, url: str, *, hosts: Sequence[str], take: Callable[[bytes], object], size: int) -> bool:
        """GET an address that the provider has handed out and give all blocks of the body to `take`.

        False if the answer is anything but exactly `size` bytes. Raises RetryLater and AccountBlocked, as `fetch` does.
        """
        request = self._handed_out(url, hosts, {})
        self._on_call()
        return download(self._clients.fresh(), request, take, size, whom="the storage")

    def receive(
        self, url: str, *, hosts: Sequence[str], take: Callable[[bytes], object], most_bytes: int, expected_bytes: int
    ) -> Answer:
        """GET an address that the provider has handed out and give all blocks of a 200's body to `take`.

        Raises TooManyBytes, and RetryLater and AccountBlocked as `fetch` does. `expected_bytes` decides how long it may
        take.
        """
        request = self._handed_out(url, hosts, {})
        self._on_call()
        return receive(
            self._clients.fresh(),
            request,
            take,
            most_bytes=most_bytes,
            expected_bytes=expected_bytes,
            whom="the storage",
        )

    def _handed_out(self, url: str, hosts: Sequence[str], headers: Mapping[str, str]) -> httpx.Request:
        target = check_handed_out(url, hosts=hosts, insecure=self._insecure, provider=self.provider)
        own = {**API_HEADERS, "Accept": "*/*", **headers}
        return httpx.Request("GET", target, headers=own)


def parse_answer(answer: Answer, model: type[Model], provider: str, *, outcome_unknown: bool = False) -> Model:
    """The answer's JSON as a model. Raises AccountBlocked, never quoting the answer.

    `outcome_unknown`: it answers a creating call, so that a faulty answer leaves the outcome of that call unknown.
    """
    if answer.too_large:
        raise not_understood(provider, "far more than was asked for", outcome_unknown=outcome_unknown)
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as error:
        faults = error.errors(include_input=False)
        # Only our own field names are repeated: any other may be the patient's.
        names = {str(fault["loc"][0]) for fault in faults if fault["loc"]}
        known = ", ".join(sorted(names & set(model.model_fields)))
        what = f"wrong or missing: {known}" if known else "no JSON object"
        no_json = any(fault["type"] == "json_invalid" for fault in faults)
        raise not_understood(provider, what, outcome_unknown=outcome_unknown, never_the_document=no_json) from None


def check_json(answer: Answer, provider: str) -> None:
    """Raises AccountBlocked unless the answer holds a JSON object, as all of an API's answers do."""
    parse_answer(answer, _AnyObject, provider)


class _AnyObject(BaseModel):
    pass


def not_understood(
    provider: str, what: str, *, outcome_unknown: bool = False, never_the_document: bool = False
) -> AccountBlocked:
    """The error for an answer of a shape that we do not know: we never guess."""
    return AccountBlocked(
        f"{provider} answered in a shape that is not understood ({what}): "
        "check base_url, and whether a newer version of chartpost knows this answer.",
        outcome_unknown=outcome_unknown,
        never_the_document=never_the_document,
    )


def not_from(provider: str, answer: Answer, *, outcome_unknown: bool = False) -> AccountBlocked:
    """The error for an answer that something else than the provider has given."""
    return AccountBlocked(
        f"The answer did not come from {provider} ({answer.status} text/html): a web filter, a proxy or a login page "
        "stands between, or base_url is wrong.",
        outcome_unknown=outcome_unknown,
        never_the_document=answer.success,
        by_stranger=not answer.success,
    )


# Web servers and gateways of the provider's own answer these with a page; what follows is the same in any case.
_ALSO_AS_A_PAGE = (401, 408, 413, 425, 429)


def _is_strangers(answer: Answer) -> bool:
    """Whether a success or a refusal is not the provider's: it must not be believed."""
    believed = answer.success or (400 <= answer.status < 500 and answer.status not in _ALSO_AS_A_PAGE)
    return answer.is_page and believed
