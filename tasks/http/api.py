"""The one module that builds httpx clients: timeouts, TLS, no redirects, no environment surprises.

No redirect is ever followed: httpx drops only `Authorization` when it crosses to another origin and would hand over
key headers such as `x-api-key`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx
from pydantic import BaseModel, JsonValue, ValidationError

from tasks.http.addresses import _encoded, address, handed_out
from tasks.http.clients import USER_AGENT, Clients
from tasks.http.commit_gate import CommitGate, GatedBody
from tasks.http.exchange import JSON_BYTES, XML_BYTES, Answer, _came_whole, _unanswered, exchange
from tasks.model.errors import AccountBlocked, OutcomeUnknown, RetryLater

Model = TypeVar("Model", bound=BaseModel)


# --- clients ---------------------------------------------------------------------------------------------------------


# --- addresses -------------------------------------------------------------------------------------------------------


# --- one exchange ----------------------------------------------------------------------------------------------------


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
        gate: CommitGate,
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
        gate.beat()
        sending = GatedBody(body.blocks(), gate.commit)
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


def understood(answer: Answer, model: type[Model], provider: str, *, outcome_unknown: bool = False) -> Model:
    """The answer's JSON as a model. Raises AccountBlocked, never quoting the answer.

    `outcome_unknown`: it answers a creating call, so that what became of that is not known either.
    """
    if len(answer.body) > JSON_BYTES:
        raise not_understood(provider, f"more than {JSON_BYTES:_} bytes", outcome_unknown=outcome_unknown)
    try:
        return model.model_validate_json(answer.body)
    except ValidationError as error:
        raise not_understood(provider, _faults(error, model), outcome_unknown=outcome_unknown) from None


def not_understood(provider: str, what: str, *, outcome_unknown: bool = False) -> AccountBlocked:
    """The error for an answer whose shape we do not know: we never guess."""
    return AccountBlocked(
        f"{provider} answered in a shape that is not understood ({what}): "
        "check base_url, and whether a newer version of chartpost knows this answer.",
        outcome_unknown=outcome_unknown,
    )


def _faults(error: ValidationError, model: type[BaseModel]) -> str:
    """Which of the model's own fields are at fault; anything else may be the patient's."""
    names = [str(fault["loc"][0]) if fault["loc"] else "" for fault in error.errors(include_input=False)]
    known = sorted({name for name in names if name in model.model_fields})
    return "no JSON object" if not known else "wrong or missing: " + ", ".join(known)


# --- how long the other side asks us to wait -------------------------------------------------------------------------
