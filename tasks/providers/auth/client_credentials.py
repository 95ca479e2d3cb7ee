"""Access tokens by OAuth's client credentials (RFC 6749, 4.4), the client shown by a secret or a signed assertion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated
from urllib.parse import quote

from pydantic import BaseModel, Field, StringConstraints

from tasks.http.api import ApiClient, parse_answer
from tasks.http.exchange import Answer
from tasks.providers.auth.basic import basic
from tasks.providers.auth.jwt import ASSERTION_TYPE, Signer
from tasks.providers.auth.tokens import Token
from tasks.providers.statuses import StatusTable

_ASSERTION_SECONDS = 240  # of 300 that SMART allows: clocks differ
_DEFAULT_SECONDS = 300.0  # where the answer does not say how long its token is good


class Granted(BaseModel):
    """RFC 6749, 5.1; the characters of a token are those of RFC 6750, 2.1."""

    access_token: Annotated[str, StringConstraints(strict=True, pattern=r"^[A-Za-z0-9._~+/=-]{1,8000}$")]
    expires_in: Annotated[float, Field(ge=0, le=10**9, allow_inf_nan=False)] = _DEFAULT_SECONDS


def granted(answer: Answer, statuses: StatusTable, provider: str) -> Token:
    """The token in a token server's answer. Raises what the answer means otherwise."""
    given = parse_answer(statuses.success(answer), Granted, provider)
    return Token(access=given.access_token, seconds=given.expires_in)


def by_assertion(api: ApiClient, token_url: str, signer: Signer, client_id: str, key_id: str, scope: str) -> Answer:
    """Ask with a signed assertion (https://hl7.org/fhir/smart-app-launch/backend-services.html; RFC 7523, 2.2)."""
    header = {"typ": "JWT"} | ({"kid": key_id} if key_id else {})
    assertion = signer.assertion(client_id, token_url, _ASSERTION_SECONDS, header)
    form = {"client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    return api.call("POST", form=_form(scope, form))


def by_secret(api: ApiClient, client_id: str, secret: str, scope: str, *, in_body: bool) -> Answer:
    """Ask with the client's secret, in a header or in the form (RFC 6749, 2.3.1)."""
    if in_body:
        return api.call("POST", form=_form(scope, {"client_id": client_id, "client_secret": secret}))
    # Both are urlencoded first, by the same section.
    headers = basic(quote(client_id, safe=""), quote(secret, safe=""))
    return api.call("POST", form=_form(scope, {}), headers=headers)


def _form(scope: str, more: Mapping[str, str]) -> dict[str, str]:
    return {"grant_type": "client_credentials", **({"scope": scope} if scope else {}), **more}
