"""HelseID, the token server of Norwegian health care, after https://utviklerportal.nhn.no/informasjonstjenester/helseid
and the client library at https://github.com/NorskHelsenett/HelseID.Library.

Clients prove who they are with a signed assertion whose audience is the issuer, for which organization they act in its
`assertion_details`, and which key their tokens are bound to with a DPoP proof (RFC 9449).
"""

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aiohttp import web
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from sandbox.admin import PREFIX as ADMIN_PREFIX
from sandbox.context import Context, Handler, Setting
from sandbox.faults.disturbances import Disturbances
from sandbox.providers.fhir import dig
from sandbox.providers.jose import (
    PROOF_ALGORITHMS,
    AssertionRules,
    Assertions,
    Client,
    NonceWanted,
    NotProven,
    Proofs,
    as_pem,
    new_key,
    verify,
)
from sandbox.providers.token_server import TokenRefused, token_answer, token_request

NAME = "helseid"
PREFIX = "/helseid"
DISCOVERY_PATH = PREFIX + "/.well-known/openid-configuration"
KEYS_PATH = DISCOVERY_PATH + "/jwks"
TOKEN_PATH = PREFIX + "/connect/token"
CLIENT_ID = "5a7c1e60-4a57-4b0c-9d1f-000000000002"
KEY_ID = "sandbox-nhn-key"
ASSERTION_TYP = "client-authentication+jwt"
# "HelseID only supports asymmetric signing algorithms"; the vendor's samples and library sign with RS256, too.
ASSERTION_ALGORITHMS = PROOF_ALGORITHMS
ASSERTION_SECONDS = 60
SCOPES = ("nhn:phr/mhd/create-documents-with-reference", "nhn:phr-repo/mhd/create")
AUDIENCE = "nhn:phr"
CHILD, PARENT = "200000002", "100000001"  # no organization has these numbers
# A client of one organization names a unit of it, or nothing. A client of several names the legal body, with a unit or
# without (HelseID.Library, OrganizationNumberCreatorFor{Single,Multi}TenantClient). The one client here may do it all.
ORGANIZATIONS = (
    {"system": "urn:oid:2.16.578.1.12.4.1.4.101", "type": "ENH", "value": CHILD},
    {"system": "urn:oid:1.0.6523", "type": "ENH", "value": f"NO:ORGNR:{PARENT}:{CHILD}"},
    {"system": "urn:oid:1.0.6523", "type": "ENH", "value": f"NO:ORGNR:{PARENT}:"},
)


@dataclass(frozen=True)
class Grant:
    """What an access token allows, and the thumbprint of the key that it is bound to (RFC 9449 section 6)."""

    client_id: str
    scopes: frozenset[str]
    thumbprint: str


class HelseId:
    """The token server. `resource` is the provider that its tokens are for, by whose name they can be killed."""

    def __init__(self, context: Context, resource: str) -> None:
        self._context = context
        self._resource = resource
        self._disturbances = Disturbances(NAME, context.state, context.turns)
        self._proofs = Proofs(context.state)
        self.issuer = context.base_url + PREFIX

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            web.get(DISCOVERY_PATH, self._guarded(self._describe)),
            web.get(KEYS_PATH, self._guarded(self._show_keys)),
            web.post(TOKEN_PATH, self._guarded(self._give_token)),
            web.post(ADMIN_PREFIX + "/helseid/keys", self._register_keys),
        ]

    def settings(self) -> dict[str, Setting]:
        """The keys of a settings file for the one client."""
        return {
            "client_id": CLIENT_ID,
            "key_id": KEY_ID,
            "private_key": as_pem(self._client_key),
            "issuer": self.issuer,
            "scope": SCOPES[0],
            "organization": {"child": CHILD, "parent": PARENT},
        }

    def grant(self, access_token: str) -> Grant | None:
        """What this token allows now; None if it is not good."""
        try:
            claims = verify(access_token, self._signing_key, ("ES256",)).claims
        except NotProven:
            return None
        state = self._context.state
        if claims["client_id"] in state.revoked or state.token_is_dead(self._resource, claims["iat"]):
            return None
        if claims["exp"] <= time.time():
            return None
        return Grant(claims["client_id"], frozenset(claims["scope"]), claims["cnf"]["jkt"])

    @cached_property
    def _client_key(self) -> RSAKey:
        """Made when it is first asked for, since that takes a tenth of a second."""
        return new_key()

    @cached_property
    def _signing_key(self) -> ECKey:
        return ECKey.generate_key("P-256", {"kid": "sandbox-helseid"})

    @cached_property
    def _assertions(self) -> Assertions:
        rules = AssertionRules(self.issuer, ASSERTION_ALGORITHMS, ASSERTION_SECONDS, ASSERTION_TYP)
        return Assertions(Client(CLIENT_ID, KEY_ID, self._client_key), rules)

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            try:
                if refusal := await self._disturbances.outage(request) or self._disturbances.throttle():
                    raise TokenRefused(refusal.status, "temporarily_unavailable", "not now")
                return await handler(request)
            except TokenRefused as refused:
                return refused.answer()

        return answer

    async def _describe(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "issuer": self.issuer,
                "token_endpoint": self._context.base_url + TOKEN_PATH,
                "jwks_uri": self._context.base_url + KEYS_PATH,
                "grant_types_supported": ["client_credentials"],
                "scopes_supported": list(SCOPES),
                "token_endpoint_auth_methods_supported": ["private_key_jwt"],
                "token_endpoint_auth_signing_alg_values_supported": list(ASSERTION_ALGORITHMS),
                "dpop_signing_alg_values_supported": list(PROOF_ALGORITHMS),
            }
        )

    async def _show_keys(self, request: web.Request) -> web.Response:
        return web.json_response({"keys": [self._signing_key.as_dict(private=False)]})

    async def _give_token(self, request: web.Request) -> web.Response:
        form = await token_request(request)
        self._authenticate(form)
        granted, rejected = self._split_scopes(form.get("scope") or " ".join(SCOPES))
        thumbprint = self._proof_thumbprint(request)
        seconds = self._context.state.helseid_token_seconds
        return token_answer(
            {
                "access_token": self._sign_token(granted, thumbprint, seconds),
                "token_type": "DPoP",
                "expires_in": seconds,
                "scope": " ".join(granted),
                "rejected_scope": " ".join(rejected),
            }
        )

    async def _register_keys(self, request: web.Request) -> web.Response:
        """What a client's owner does at HelseID's self-service: hand in a public key, as a JWK or a JWKS."""
        try:
            given = await request.json()
            for jwk in given.get("keys", [given]):
                self._assertions.register(jwk)
        except (NotProven, ValueError, TypeError, AttributeError) as wrong:
            return web.json_response({"error": str(wrong)}, status=400)
        return web.Response(status=204)

    def _authenticate(self, form: Mapping[str, str]) -> None:
        try:
            claims = self._assertions.check(form["client_assertion"])
        except NotProven as wrong:
            raise TokenRefused(400, "invalid_client", str(wrong)) from None
        if form.get("client_id") != CLIENT_ID or CLIENT_ID in self._context.state.revoked:
            raise TokenRefused(400, "invalid_client", "there is no such client, or its access has been revoked")
        if "assertion_details" in claims and organization_in(claims) not in ORGANIZATIONS:
            raise TokenRefused(400, "invalid_request", "assertion_details name no organization of this client")

    def _split_scopes(self, requested: str) -> tuple[list[str], list[str]]:
        """The scopes that the token gets, and those that are rejected."""
        scopes = requested.split()
        if not set(scopes) <= set(SCOPES):
            raise TokenRefused(400, "invalid_scope", "the client may not ask for one of these scopes")
        rejected = self._context.state.helseid_rejected_scopes
        return [each for each in scopes if each not in rejected], [each for each in scopes if each in rejected]

    def _proof_thumbprint(self, request: web.Request) -> str:
        """The thumbprint of the key that the token will be bound to."""
        proofs, address = request.headers.getall("DPoP", []), self._context.base_url + TOKEN_PATH
        try:
            return self._proofs.check(proofs, "POST", address).thumbprint
        except NotProven as wrong:
            raise TokenRefused(400, "invalid_dpop_proof", str(wrong)) from None
        except NonceWanted as wanted:
            raise TokenRefused(400, "use_dpop_nonce", str(wanted), {"DPoP-Nonce": wanted.nonce}) from None

    def _sign_token(self, scopes: list[str], thumbprint: str, seconds: int) -> str:
        """An access token in the form of RFC 9068."""
        now = time.time()
        claims: dict[str, Any] = {  # Any, as joserfc types it
            "iss": self.issuer,
            "aud": AUDIENCE,
            "client_id": CLIENT_ID,
            "scope": scopes,
            "cnf": {"jkt": thumbprint},
            "iat": now,
            "exp": now + seconds,
            "jti": str(uuid.uuid4()),
        }
        return jwt.encode({"alg": "ES256", "typ": "at+jwt"}, claims, self._signing_key, algorithms=["ES256"])


def organization_in(claims: Mapping[str, Any]) -> object:
    """The identifier of the organization for which the client acts, in an object or in a list of one."""
    details = claims.get("assertion_details")
    (only,) = details if isinstance(details, list) and len(details) == 1 else (details,)
    if dig(only, "type") != "helseid_authorization":
        return None
    return dig(only, "practitioner_role", "organization", "identifier")
