"""Accounts whose token server is a party of the tests, and what that party must know about them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from joserfc.jwk import ECKey, RSAKey

from config.accounts import FhirAccount, NhnAccount, RedoxAccount
from tests.tasks.providers.test_nhn import METADATA

SMART_SCOPE = "system/DocumentReference.crs system/Binary.crs system/Patient.rs"
SCOPE = "nhn:phr/mhd/create-documents-with-reference"
KEY_ID = "the-key"

RSA, EC_256, EC_384 = "RSA", "P-256", "P-384"  # kinds of keys


@dataclass(frozen=True)
class Client:
    """A client of a token server. Its key is made when it is first asked for."""

    id: str
    kind: str
    algorithm: str
    # Its tokens are bound to a key of the client's (DPoP).
    bound: bool = False

    @cached_property
    def key(self) -> RSAKey | ECKey:
        return RSAKey.generate_key(2048) if self.kind == RSA else ECKey.generate_key(self.kind)

    @property
    def private_key(self) -> str:
        return self.key.as_pem(private=True).decode()

    @property
    def private_jwk(self) -> str:
        """The key as vendors hand it out: a JWK that names its algorithm and its id."""
        return json.dumps({**self.key.as_dict(private=True), "alg": self.algorithm, "kid": KEY_ID, "use": "sig"})

    def registered(self) -> dict[str, Any]:
        """What the token server is told about it (RFC 7591)."""
        return {
            "client_id": self.id,
            "token_endpoint_auth_method": "private_key_jwt",
            "token_endpoint_auth_signing_alg": self.algorithm,
            "jwks": {"keys": [{**self.key.as_dict(private=False), "kid": KEY_ID, "use": "sig"}]},
            "grant_types": ["client_credentials"],
            "redirect_uris": [],
            "response_types": [],
            "dpop_bound_access_tokens": self.bound,
        }


@dataclass(frozen=True)
class ClientWithSecret:
    """A client of a token server that has no key. `place` is where its secret goes: the header, or the body."""

    id: str
    secret: str
    place: str

    def registered(self) -> dict[str, Any]:
        method = {"header": "client_secret_basic", "body": "client_secret_post"}[self.place]
        return {
            "client_id": self.id,
            "client_secret": self.secret,
            "token_endpoint_auth_method": method,
            "grant_types": ["client_credentials"],
            "redirect_uris": [],
            "response_types": [],
        }


def nhn_account(client: Client, issuer: str, api: str, **said: Any) -> NhnAccount:
    """This client's account at NHN, whose token server and API are at these addresses."""
    return NhnAccount.model_validate(
        {
            "provider": "nhn",
            "base_url": api + "/R4/fhir",
            "issuer": issuer,
            "client_id": client.id,
            "key_id": KEY_ID,
            "private_key": client.private_key,
            "source_system": "EPJ System 1.0",
            "home_community_id": "2.16.578.1.12.4.5.100.3.15",
            "organization": {"child": "200000002", "parent": "100000001"},
            "metadata": METADATA,
            "insecure": True,
            **said,
        }
    )


def redox_account(client: Client, issuer: str, api: str, **said: Any) -> RedoxAccount:
    """This client's account at Redox, whose token server and API are at these addresses."""
    return RedoxAccount.model_validate(
        {
            "provider": "redox",
            "base_url": api + "/fhir/R4",
            "token_url": issuer + "/connect/token",
            "client_id": client.id,
            "key_id": KEY_ID,
            "private_key": client.private_key,
            "destination": "north-hospital",
            "environment": "Staging",
            "patient_system": "urn:oid:2.999.1",
            "metadata": {"type": "http://loinc.org|34133-9|Summary"},
            "insecure": True,
            **said,
        }
    )


def fhir_account(client: Client | ClientWithSecret, issuer: str, api: str, **said: Any) -> FhirAccount:
    """This client's account at a FHIR server that names its token server itself."""
    if isinstance(client, Client):
        login = {"auth": "smart", "key_id": KEY_ID, "private_key": client.private_key}
    else:
        login = {"auth": "secret", "client_secret": client.secret, "client_auth": client.place}
    return FhirAccount.model_validate(
        {
            "provider": "fhir",
            "base_url": api + "/fhir/R4",
            "client_id": client.id,
            "scope": SMART_SCOPE,
            "metadata": {"type": "http://loinc.org|34133-9|Summary"},
            "insecure": True,
            **login,
            **said,
        }
    )
