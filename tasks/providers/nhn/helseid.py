"""HelseID, the token server of Norwegian health care: access tokens that are bound to our key.

After https://utviklerportal.nhn.no/informasjonstjenester/helseid and the client library at
https://github.com/NorskHelsenett/HelseID.Library. A client proves who it is by a signed assertion (RFC 7523), names the
organization that it acts for in the assertion's `assertion_details`, and shows by a DPoP proof which key its tokens are
bound to.
"""

from __future__ import annotations

from hashlib import sha256
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from config.accounts import NhnAccount, Organization
from tasks.http.api import parse_answer
from tasks.http.exchange import Answer
from tasks.model.errors import AccountBlocked, RetryLater, StepError
from tasks.providers.auth.dpop import NONCE_WANTED, Nonces
from tasks.providers.auth.jwt import ASSERTION_TYPE, Signer
from tasks.providers.auth.tokens import Token, Tokens
from tasks.providers.connection import Connection
from tasks.providers.statuses import StatusTable

_NAME = "HelseID"
_ASSERTION_SECONDS = 10  # as HelseID's own library has it; the servers take no more than 60
_DEFAULT_SECONDS = 60.0  # RFC 6749, 5.1: a token whose life the answer does not tell is treated as a short one
_KEEP_SECONDS = 3600.0
# The identifier systems of HelseID.Library, for an organization number alone and for one with its legal body.
_CHILD_ALONE = "urn:oid:2.16.578.1.12.4.1.4.101"
_OF_A_PARENT = "urn:oid:1.0.6523"


class HelseId:
    """The tokens of one account."""

    def __init__(self, account: NhnAccount, signer: Signer, connection: Connection) -> None:
        self._account = account
        self._signer = signer
        self._nonces = Nonces(connection.cache, account.issuer)
        self._api = connection.api(
            account.issuer,
            provider=_NAME,
            headers=lambda method, url: {"DPoP": signer.proof(method, url, nonce=self._nonces.current())},
        )
        organization = account.organization
        # All that a token depends on: a new key, scope or organization needs a new one.
        parts = (account.issuer, account.client_id, signer.thumbprint, account.key_id, account.scope)
        scope = sha256("\0".join((*parts, organization.parent, organization.child)).encode()).hexdigest()
        self.tokens = Tokens(connection.cache, scope, self._obtain, keep=_KEEP_SECONDS)

    def _obtain(self, last: Token | None) -> Token:
        answer = self._request_token()
        if not answer.success and answer.headers.get("dpop-nonce"):
            # With the nonce that came along, and a new assertion: each is good once.
            answer = self._request_token()
        granted = parse_answer(_STATUSES.success(answer), _Granted, _NAME)
        if granted.token_type.lower() != "dpop":
            raise AccountBlocked(
                "HelseID gave a token that is not bound to our key: ask it to set DPoP for this client."
            )
        wanted = set(self._account.scope.split())
        given = set(granted.scope.split()) if granted.scope else wanted
        if wanted & set(granted.rejected_scope.split()) or not wanted <= given:
            raise AccountBlocked("HelseID did not grant the scope: ask for it for this client, or correct scope.")
        return Token(access=granted.access_token, seconds=granted.expires_in)

    def _request_token(self) -> Answer:
        account = self._account
        assertion = self._signer.assertion(
            account.client_id,
            account.issuer,  # the issuer's address, not the token endpoint's, is the audience
            _ASSERTION_SECONDS,
            {"typ": "client-authentication+jwt", "kid": account.key_id},
            nbf=self._signer.now(),
            **assertion_details(account.organization),
        )
        form = {
            "client_id": account.client_id,
            "grant_type": "client_credentials",
            "scope": account.scope,
            "client_assertion_type": ASSERTION_TYPE,
            "client_assertion": assertion,
        }
        answer = self._api.call("POST", "connect", "token", form=form)
        self._nonces.note(answer)
        return answer


def assertion_details(organization: Organization) -> dict[str, Any]:
    """The claim that names the organization for which the client acts; none for a client that acts for its own alone.

    A client of one organization names a unit of it. A client of several names the legal body, and the unit if there is
    one (HelseID.Library, `OrganizationNumberCreatorForMultiTenantClient`).
    """
    if organization.parent:
        system, value = _OF_A_PARENT, f"NO:ORGNR:{organization.parent}:{organization.child}"
    elif organization.child:
        system, value = _CHILD_ALONE, organization.child
    else:
        return {}
    identifier = {"system": system, "type": "ENH", "value": value}
    role = {"organization": {"identifier": identifier}}
    return {"assertion_details": {"type": "helseid_authorization", "practitioner_role": role}}


# --- answers ---------------------------------------------------------------------------------------------------------


class _Granted(BaseModel):
    """The answer to a token request (RFC 6749, 5.1). The token may hold only what a header can carry."""

    model_config = ConfigDict(hide_input_in_errors=True)

    access_token: StrictStr = Field(pattern=r"^[\x21-\x7e]{1,16000}$")
    token_type: StrictStr
    expires_in: float = Field(default=_DEFAULT_SECONDS, gt=0, le=10_000_000, allow_inf_nan=False)
    scope: str | None = None
    rejected_scope: str = ""


class _Refused(BaseModel):
    """RFC 6749, 5.2."""

    error: StrictStr


_CLIENT = "check client_id, key_id, private_key, algorithm and organization, and this machine's clock."
_SENTENCES = {
    "invalid_client": f"HelseID refused the client: {_CLIENT}",
    "unauthorized_client": "HelseID does not let this client ask for tokens without a user: have that set up.",
    "invalid_scope": "HelseID does not let this client have the scope: ask for it, or correct scope.",
    "invalid_request": "HelseID refused the token request: check organization, scope and issuer.",
    "invalid_dpop_proof": "HelseID refused the proof of our key: check this machine's clock, and algorithm.",
}


def _refused(answer: Answer) -> StepError:
    try:
        error = _Refused.model_validate_json(answer.body[:65_536]).error
    except ValidationError:
        error = ""
    if error == NONCE_WANTED:
        return RetryLater("HelseID asked for another nonce than the one that it had just given.", unreachable=True)
    if error in ("temporarily_unavailable", "server_error"):
        return RetryLater("HelseID cannot give tokens at the moment.", unreachable=True)
    # Not in the server's words: they may repeat what was sent.
    return AccountBlocked(_SENTENCES.get(error, f"HelseID gave no token: {_CLIENT}"), credentials=True)


_STATUSES = StatusTable(_NAME, {400: _refused, 401: _refused, 403: _refused})
