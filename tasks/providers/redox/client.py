"""Redox: a file goes as a message to the hospital that is connected, small ones in it, larger ones uploaded before.

Vendor pages: https://docs.redoxengine.com ("Send a file via the Redox FHIR API", "Authenticate an OAuth API key") and
https://developer.redoxengine.com ("Quotas and constraints", "Error handling and responses"). A 200 says that the
message is durably queued; whether the hospital's system took it stands in Redox's dashboard alone. Nothing can be
looked up, so an answer that we did not see is a human's matter, or the same message goes again, as the account's
settings say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints, ValidationError

from config.accounts import RedoxAccount
from tasks.http.addresses import handed_out
from tasks.http.api import ApiClient, Body, not_understood, understood
from tasks.http.clients import Clients
from tasks.http.exchange import Answer
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused, OutcomeUnknown, RetryLater
from tasks.model.job import Assurance, Facts, Job, Record, Stored
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tasks.providers.auth.jwt import ASSERTION_TYPE, Signer
from tasks.providers.auth.tokens import Token, Tokens, good_for
from tasks.providers.base import Cache, DocumentGate, Found, Registered
from tasks.providers.checks import check_patient, check_size, sendable_name
from tasks.providers.fhir import words_of
from tasks.providers.media_types import media_type
from tasks.providers.redox.answer import accepted_as
from tasks.providers.redox.message import around, check_parts, document_identifier, referring
from tasks.providers.statuses import Answers, blocked, locked_out, refused
from tasks.sources.stream import HashingReader, base64_length

_NAME = "Redox"
_JSON = "application/fhir+json"
_ALGORITHM = "RS384"
_ASSERTION_SECONDS = 240  # of 300 that Redox allows: clocks differ
_TOKEN_SECONDS = 300.0  # where the answer does not say
_KEEP_SECONDS = 3600.0
_FRESH = timedelta(minutes=10)
_EMBEDDED_REMARK = (
    "It was too large to be embedded (413), and was uploaded instead: lower this account's embed_below_bytes."
)
_REFUSED_AGAIN = "Nobody saw the answer to an earlier sending, and Redox refuses the same message now."

Headers = Mapping[str, str]


class Redox:
    """One destination in one environment. `limiter` and `on_call` are asked and told before each call."""

    kind = "redox"
    stages: tuple[Stage, ...] = (Stage.STORED, Stage.REGISTERED)
    assurance = Assurance.ACCEPTED

    def __init__(
        self,
        name: str,
        account: RedoxAccount,
        *,
        clients: Clients,
        limiter: Callable[[], None],
        on_call: Callable[[], None],
        cache: Cache,
    ) -> None:
        self._account = account
        self._unseen = OnUnknownOutcome.RESEND if account.on_unknown_outcome == "resend" else OnUnknownOutcome.HOLD
        self._api = _client(account.base_url, account, clients, limiter, on_call)
        self._token_server = _client(account.token_url, account, clients, limiter, on_call)
        key = account.private_key.get_secret_value()
        self._signer = Signer(key, account.algorithm or _ALGORITHM)
        scope = "\0".join((name, account.base_url, account.token_url, account.client_id, account.key_id, key))
        self._tokens = Tokens(cache, scope, self._obtain, keep=_KEEP_SECONDS)

    @property
    def limit_group(self) -> str:
        """Redox limits by the address that calls, whichever account it is."""
        return f"{self.kind}:{sha256(self._account.base_url.lower().encode()).hexdigest()[:12]}"

    def route(self, document: Document) -> Route:
        """Small documents travel in the message that registers them, larger ones are uploaded before."""
        if document.size_bytes < self._account.embed_below_bytes:
            return Route((Stage.REGISTERED,), Step.REGISTER, together=False, on_unknown_outcome=self._unseen)
        return Route(self.stages, Step.POST, together=False, on_unknown_outcome=self._unseen)

    def check(self, document: Document) -> None:
        """Patient, size, name, options, and what the message needs. Raises DocumentRefused."""
        check_patient(document, _NAME)
        check_size(document, self._account.max_bytes)
        sendable_name(document)
        check_parts(document, self._account)

    def before_sending(self, job: Job) -> Facts:
        """Nothing is to be noted: the message's ids follow from the job's."""
        return job.facts

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str]) -> Mapping[str, Found]:
        """Redox has no way to look."""
        return {}

    def still_there(self, document: Document, record: Record) -> bool:
        """What it has accepted cannot be looked up; it is taken to stand."""
        return True

    def probe(self) -> None:
        """A fresh token, so that no remembered one hides what became of the key, and a call with it.

        What is answered to the call matters little, as long as somebody answers and does not refuse the token.
        """
        token = self._tokens.anew()
        path = (self._account.destination, self._account.environment, "metadata")
        answer = self._api.call("GET", *path, headers=_bearer(token))
        if answer.status in (401, 408, 425, 429) or answer.status >= 500:
            raise _CREATING.error(answer)

    # --- sending -----------------------------------------------------------------------------------------------

    def store(self, job: Job, gate: DocumentGate) -> Stored:
        """Upload the document as a Binary. Repeating it harms nothing: one that no message names is nobody's."""
        path = ("redox", self._account.environment, "Binary")
        sending = Sending(job.document, gate)
        body = Body(media_type(job.document), job.document.size_bytes, sending.raw)
        unnoted = _NothingToNote(gate)
        try:
            answer = self._with_token(
                lambda headers: self._api.create("POST", *path, body=body, gate=unnoted, headers=headers)
            )
        except OutcomeUnknown as lost:
            raise RetryLater(str(lost), unreachable=lost.unreachable) from lost
        place = _place_of(_UPLOADING.success(answer))
        handed_out(place, hosts=self._account.upload_hosts, insecure=self._account.insecure, provider=_NAME)
        return sending.stored(place)

    def register(self, job: Job, gate: DocumentGate) -> Registered:
        """Send the message. Raises OutcomeUnknown where Redox may have taken it."""
        stored = self._uploaded(job, gate)
        if stored is not None:
            return self._referred(job, stored, gate)
        sending = Sending(job.document, gate)
        answer = self._create(embedding(job, self._account, sending), gate)
        if answer.status == 413:  # nothing was taken: it goes as larger documents do
            return self._referred(job, self.store(job, gate), gate, _EMBEDDED_REMARK)
        record = self._record(job, answer)
        return Registered(record, processed=True, stored=sending.stored(document_identifier(job)))

    def _uploaded(self, job: Job, gate: DocumentGate) -> Stored | None:
        """Where the document lies, if it does not travel in the message.

        An uploaded file may be good for one message only, and nobody says for how long: for one that goes again, or
        late, it is uploaded anew.
        """
        stored = job.facts.stored
        if stored is None:
            return None if job.document.size_bytes < self._account.embed_below_bytes else self.store(job, gate)
        return self.store(job, gate) if job.earlier_sending_unknown or job.committed or _lies_long(job) else stored

    def _referred(self, job: Job, stored: Stored, gate: DocumentGate, *remarks: str) -> Registered:
        message = referring(job, self._account, stored.location or "")
        record = self._record(job, self._create(Body.of(message, _JSON), gate))
        return Registered(record, processed=True, stored=stored, remarks=remarks)

    def _create(self, body: Body, gate: DocumentGate) -> Answer:
        """502 is by the vendor's word a request that was dropped; any other 5xx may have been taken."""
        account = self._account
        path = (account.destination, account.environment, "DocumentReference", "$documentreference-create")
        return self._with_token(
            lambda headers: self._api.create(
                "POST",
                *path,
                body=body,
                gate=gate,
                headers={**headers, "Accept": f"{_JSON}, application/json"},
                not_taken={502},
            )
        )

    def _record(self, job: Job, answer: Answer) -> Record:
        """Raises what the answer means; the refusal of a message that went before does not say that it is not there."""
        try:
            return accepted_as(_CREATING.success(answer), document_identifier(job), self._api.base_url)
        except DocumentRefused as refusal:
            if job.earlier_sending_unknown or job.committed:
                hint = "Look into Redox's log or the chart; then chartpost resolve, or retry with --send-again."
                raise DocumentRefused(Code.OUTCOME_UNKNOWN, _REFUSED_AGAIN, hint=hint, detail=refusal.detail) from None
            raise

    # --- tokens ------------------------------------------------------------------------------------------------

    def _with_token(self, act: Callable[[Headers], Answer]) -> Answer:
        """The answer to a call that is made once more, with another token, if its own is refused."""
        token = self._tokens.current()
        answer = act(_bearer(token))
        if answer.status == 401:
            answer = act(_bearer(self._tokens.instead_of(token)))
        return answer

    def _obtain(self, last: Token | None) -> Token:
        """A new token for a signed assertion (RFC 7523, 2.2)."""
        account = self._account
        header = {"kid": account.key_id, "typ": "JWT"}
        assertion = self._signer.assertion(account.client_id, account.token_url, _ASSERTION_SECONDS, header)
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        granted = understood(_TOKENS.success(self._token_server.call("POST", form=form)), _Granted, _NAME)
        return Token(access=granted.access_token, expires_at=good_for(granted.expires_in))


def _lies_long(job: Job) -> bool:
    """Whether the document was uploaded so long ago that the file may be gone."""
    stored_at = job.times.get(Stage.STORED)
    return stored_at is not None and datetime.now(UTC) - stored_at > _FRESH


def _client(
    url: str, account: RedoxAccount, clients: Clients, limiter: Callable[[], None], on_call: Callable[[], None]
) -> ApiClient:
    return ApiClient(
        clients, url, provider=_NAME, headers={}, limiter=limiter, on_call=on_call, insecure=account.insecure
    )


def _bearer(token: str) -> Headers:
    return {"Authorization": f"Bearer {token}"}


# --- what is sent ----------------------------------------------------------------------------------------------------


class Sending:
    """A document on its way, raw or embedded, opened anew for each try; the digests are those of the last."""

    def __init__(self, document: Document, gate: DocumentGate) -> None:
        self._document = document
        self._gate = gate
        self._reader: HashingReader | None = None

    def raw(self) -> Iterator[bytes]:
        return self._around(lambda passing: iter(passing))

    def embedded(self, head: bytes, tail: bytes) -> Iterator[bytes]:
        yield head
        yield from self._around(lambda passing: passing.base64())
        yield tail

    def stored(self, place: str) -> Stored:
        """What went by, and where it is now. The document has been sent."""
        assert self._reader is not None  # noqa: S101, an answer of success comes after the whole of it
        return Stored(place, None, False, self._reader.sha256, self._reader.md5, location=place)

    def _around(self, blocks: Callable[[HashingReader], Iterator[bytes]]) -> Iterator[bytes]:
        with self._gate.open() as source:
            self._reader = HashingReader(source, self._gate.beat)
            yield from blocks(self._reader)


def embedding(job: Job, account: RedoxAccount, sending: Sending) -> Body:
    """The message with the document in it, in base64: in constant memory, and of a length that is known beforehand."""
    envelope = around(job, account)
    length = len(envelope.head) + base64_length(job.document.size_bytes) + len(envelope.tail)
    return Body(_JSON, length, lambda: sending.embedded(envelope.head, envelope.tail))


class _NothingToNote:
    """The guard of a call that may be repeated freely, so that it has no commit point."""

    def __init__(self, gate: DocumentGate) -> None:
        self.beat = gate.beat
        self.commit = gate.beat


# --- answers ---------------------------------------------------------------------------------------------------------


class _Granted(BaseModel):
    """RFC 6749, 5.1; the characters of a token are those of RFC 6750, 2.1."""

    access_token: Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9._~+/=-]{1,8000}$")]
    expires_in: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] = _TOKEN_SECONDS


class _Uploaded(BaseModel):
    location: Any = None


def _place_of(answer: Answer) -> str:
    """Where an uploaded file lies: the Location header, or as the vendor's page shows it, in the body."""
    place: object = answer.headers.get("location")
    if not place:
        try:
            place = _Uploaded.model_validate_json(answer.body[:65_536]).location
        except ValidationError:
            place = None
    if not isinstance(place, str) or not re.fullmatch(r"[\x21-\x7e]{1,4000}", place):
        raise not_understood(_NAME, "an uploaded file without a Location")
    return place


def _too_large(answer: Answer) -> DocumentRefused:
    return DocumentRefused(
        Code.FILE_TOO_LARGE,
        "Redox does not take a document of this size (413).",
        hint="Make the file smaller, or split it.",
        detail=words_of(answer),
    )


_UNACCEPTABLE = refused(
    "Redox does not accept this document, or not for this patient.",
    "Read the provider's words, correct patient, options or file, and send it again.",
    words_of,
)
_REFUSED_TOKEN = locked_out(
    "Redox refused a token that it has just given (401): check this account's client_id and key."
)
_NO_TOKEN = locked_out(
    "Redox gives no token: check client_id, key_id, private_key, algorithm and token_url of this account."
)
_UPLOADING = Answers(
    _NAME,
    {
        400: _UNACCEPTABLE,
        413: _too_large,
        422: _UNACCEPTABLE,
        401: _REFUSED_TOKEN,
        403: blocked(
            "Redox refused the upload of a file (403), as it does for free accounts: ask Redox, check environment, or "
            "send only what embed_below_bytes lets travel in the message."
        ),
        404: blocked("Redox knows no such address for uploads (404): check base_url and environment of this account."),
    },
)
_CREATING = Answers(
    _NAME,
    {
        400: _UNACCEPTABLE,
        409: _UNACCEPTABLE,
        413: _too_large,
        422: _UNACCEPTABLE,
        401: _REFUSED_TOKEN,
        403: blocked(
            "Redox does not let this account write documents there (403): check destination and environment, and in "
            "Redox's dashboard whether the destination takes DocumentReference.create."
        ),
        404: blocked(
            "Redox knows no such destination (404): check base_url, destination and environment of this account."
        ),
    },
)
_TOKENS = Answers(
    f"{_NAME}'s token server",
    {
        400: _NO_TOKEN,
        401: _NO_TOKEN,
        403: _NO_TOKEN,
        404: blocked("There is no token server at this account's token_url (404): check it."),
    },
)
