"""HelseID, the token server of Norwegian health care: access tokens that are bound to our key.

After https://utviklerportal.nhn.no/informasjonstjenester/helseid and the client library at
https://github.com/NorskHelsenett/HelseID.Library: a client proves who it is by a signed assertion (RFC 7523), for which
organization it acts in the assertion's `assertion_details`, and which key its tokens shall be bound to by a DPoP proof.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from hashlib import sha256
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from config.accounts import NhnAccount, Organization
from tasks.http.api import ApiClient, understood
from tasks.http.clients import Clients
from tasks.http.exchange import Answer
from tasks.model.errors import AccountBlocked, RetryLater, StageError
from tasks.providers.auth.dpop import Nonces
from tasks.providers.auth.jwt import ASSERTION_TYPE, Signer
from tasks.providers.auth.tokens import Token, Tokens, good_for
from tasks.providers.base import Cache
from tasks.providers.statuses import Answers

_NAME = "HelseID"
_ASSERTION_SECONDS = 10  # as HelseID's own library has it; the servers take no more than 60
_UNSAID_SECONDS = 60.0  # RFC 6749, 5.1: a life that is not told is taken to be short
_KEEP_SECONDS = 3600.0
_CHILD_ALONE = "urn:oid:2.16.578.1.12.4.1.4.101"
_OF_A_PARENT = "urn:oid:1.0.6523"


class HelseId:
    """The access tokens of one account."""

    def __init__(
        self,
        account: NhnAccount,
        signer: Signer,
        *,
        clients: Clients,
        limiter: Callable[[], None],
        on_call: Callable[[], None],
        cache: Cache,
    ) -> None:
        self._account = account
        self._signer = signer
        self._nonces = Nonces(cache, account.issuer)
        self._tokens = Tokens(cache, _scope(account, signer), self._obtain, keep=_KEEP_SECONDS)
        self._api = ApiClient(
            clients,
            account.issuer,
            provider=_NAME,
            headers=lambda method, url: {"DPoP": signer.proof(method, url, nonce=self._nonces.current())},
            limiter=limiter,
            on_call=on_call,
            insecure=account.insecure,
        )

    def current(self) -> str:
        """A usable token. Raises RetryLater and AccountBlocked, as all of these do."""
        return self._tokens.current()

    def instead_of(self, refused: str) -> str:
        """Another token, since the API has just refused this one."""
        return self._tokens.instead_of(refused)

    def anew(self) -> str:
        """A token that was given just now, which shows that the client is still welcome."""
        return self._tokens.anew()

    def _obtain(self, last: Token | None) -> Token:
        answer = self._ask()
        if not answer.success and answer.headers.get("dpop-nonce"):
            answer = self._ask()  # with the nonce that came along, and an assertion of its own
        given = understood(_ANSWERS.success(answer), _Given, _NAME)
        self._check(given)
        return Token(access=given.access_token, expires_at=good_for(given.expires_in))

    def _ask(self) -> Answer:
        answer = self._api.call("POST", "connect", "token", form=self._form())
        self._nonces.note(answer)
        return answer

    def _form(self) -> dict[str, str]:
        account = self._account
        header = {"typ": "client-authentication+jwt", "kid": account.key_id}
        details = assertion_details(account.organization)
        return {
            "client_id": account.client_id,
            "grant_type": "client_credentials",
            "scope": account.scope,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": self._signer.assertion(
                account.client_id,
                account.issuer,
                _ASSERTION_SECONDS,
                header,
                nbf=int(time.time()),
                assertion_details=details,
            ),
        }

    def _check(self, given: _Given) -> None:
        if given.token_type.lower() != "dpop":
            raise AccountBlocked(
                "HelseID gave a token that is not bound to our key: ask it to set DPoP for this client."
            )
        wanted = set(self._account.scope.split())
        granted = set(given.scope.split()) if given.scope else wanted
        if wanted & set(given.rejected_scope.split()) or not wanted <= granted:
            raise AccountBlocked("HelseID did not grant the scope: ask for it for this client, or correct scope.")


def assertion_details(organization: Organization) -> dict[str, Any]:
    """The organization for which the client acts: the unit alone, or with the legal body that it belongs to."""
    system, value = _CHILD_ALONE, organization.child
    if organization.parent:
        system, value = _OF_A_PARENT, f"NO:ORGNR:{organization.parent}:{organization.child}"
    identifier = {"system": system, "type": "ENH", "value": value}
    return {"type": "helseid_authorization", "practitioner_role": {"organization": {"identifier": identifier}}}


def _scope(account: NhnAccount, signer: Signer) -> str:
    """What tells this account's tokens from any others: a new key, scope or organization needs a new token."""
    organization = account.organization
    parts = (account.issuer, account.client_id, signer.thumbprint, account.key_id, account.scope)
    return sha256("\0".join((*parts, organization.parent, organization.child)).encode()).hexdigest()


# --- answers ---------------------------------------------------------------------------------------------------------


class _Given(BaseModel):
    """The answer to a token request (RFC 6749, 5.1); what goes into a header is held to what a header can carry."""

    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: StrictStr = Field(pattern=r"^[\x21-\x7e]{1,16000}$")
    token_type: StrictStr
    expires_in: float = Field(default=_UNSAID_SECONDS, gt=0, le=10_000_000, allow_inf_nan=False)
    scope: str | None = None
    rejected_scope: str = ""


class _Refused(BaseModel):
    """RFC 6749, 5.2."""

    error: StrictStr


_CLIENT = "check client_id, key_id, private_key and organization, and this machine's clock."
_SENTENCES = {
    "invalid_client": f"HelseID refused the client: {_CLIENT}",
    "unauthorized_client": "HelseID does not let this client ask for tokens by itself: have that set up.",
    "invalid_scope": "HelseID does not let this client have the scope: ask for it, or correct scope.",
    "invalid_request": "HelseID refused the token request: check organization, scope and issuer.",
    "invalid_dpop_proof": "HelseID refused the proof of our key: check this machine's clock.",
}


def _refused(answer: Answer) -> StageError:
    try:
        said = _Refused.model_validate_json(answer.body).error
    except ValidationError:
        said = ""
    if said == "use_dpop_nonce":
        return RetryLater("HelseID asked for another nonce than the one that it had just given.", unreachable=True)
    if said in ("temporarily_unavailable", "server_error"):
        return RetryLater("HelseID cannot give tokens at the moment.", unreachable=True)
    # Not in the server's words: they may repeat what was sent.
    return AccountBlocked(_SENTENCES.get(said, f"HelseID gave no token: {_CLIENT}"), credentials=True)


_ANSWERS = Answers(_NAME, {400: _refused, 401: _refused, 403: _refused})
