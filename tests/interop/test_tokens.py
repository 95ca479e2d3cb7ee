"""Tokens from a token server that is certified for OpenID Connect, and what each account says when that refuses one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from config.accounts import Account
from tasks.http.clients import Clients
from tasks.model.errors import AccountBlocked
from tasks.providers.connection import Connection
from tasks.providers.table import build
from tests.interop.accounts import (
    EC_256,
    EC_384,
    RSA,
    SCOPE,
    SMART_SCOPE,
    Client,
    ClientWithSecret,
    fhir_account,
    nhn_account,
    redox_account,
)
from tests.interop.claims import OIDC_PROVIDER, claim
from tests.interop.node import NodeServer
from tests.interop.relay import Relay
from tests.tasks.providers.doubles import DictCache, Slots, clock_ahead, connected
from tests.tasks.providers.odd_nhn import OddNhn, outcome
from tests.tasks.providers.odd_server import Reply, Request

TEN_MINUTES = 600
INSPECTOR = ClientWithSecret("inspector", "of the inspector", "header")

HELSEID = {
    "PS256": Client("helseid-ps256", RSA, "PS256", bound=True),
    "ES256": Client("helseid-es256", EC_256, "ES256", bound=True),
    "RS256": Client("helseid-rs256", RSA, "RS256", bound=True),
}
REDOX = Client("redox", RSA, "RS384")
SMART = {"RS384": Client("smart-rs384", RSA, "RS384"), "ES384": Client("smart-es384", EC_384, "ES384")}
# With characters that a header must not hold as they are (RFC 6749, 2.3.1).
SECRETS = {place: ClientWithSecret(f"secret in {place}", 'a b+c%d:e/f="g&h', place) for place in ("header", "body")}
CLIENTS = (*HELSEID.values(), REDOX, *SMART.values())


@pytest.fixture(scope="module")
def server(packages: None) -> Iterator[Relay]:
    """The token server, behind a relay at whose address it is known."""
    with Relay() as relay:
        clients = [client.registered() for client in CLIENTS]
        clients += [client.registered() for client in (*SECRETS.values(), INSPECTOR)]
        settings = {"issuer": relay.base, "scopes": [SCOPE, *SMART_SCOPE.split()], "clients": clients}
        with NodeServer("token_server.mjs", settings) as process:
            relay.upstream, relay.log = process.url, process.log
            yield relay


@pytest.fixture
def relay(server: Relay) -> Iterator[Relay]:
    server.forget()
    yield server
    server.repeating = False


class Api(OddNhn):
    """The vendor's API, which only shows with which token it was asked, and where those are to be had."""

    def __init__(self, issuer: str) -> None:
        super().__init__()
        self._issuer = issuer

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        if request.path.endswith("/.well-known/smart-configuration"):
            return Reply(body={"token_endpoint": f"{self._issuer}/connect/token"})
        if request.path.endswith("/metadata"):
            can_do = {"interaction": [{"code": "create"}, {"code": "search-type"}], "conditionalCreate": True}
            documents = {"type": "DocumentReference", "searchParam": [{"name": "identifier"}], **can_do}
            rest = [{"mode": "server", "resource": [documents]}]
            return Reply(body={"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1", "rest": rest})
        if request.path.endswith("/fhir/R4/DocumentReference"):
            return Reply(body={"resourceType": "Bundle", "type": "searchset", "total": 0})
        return Reply(404, outcome("error", "not-found"))

    @property
    def token(self) -> str:
        """Of the last request."""
        return self.requests[-1].headers["authorization"].partition(" ")[2]


@pytest.fixture
def api(relay: Relay) -> Iterator[Api]:
    with Api(relay.base) as server:
        yield server


@pytest.fixture
def connection(clients: Clients) -> Connection:
    return connected(clients, Slots(), DictCache())


def ask(account: Account, connection: Connection) -> None:
    """What `chartpost check` does: it gets a new token and makes a call with it."""
    build("hospital", account, connection).probe()


def inspected(relay: Relay, token: str) -> dict[str, Any]:
    """What the server itself says of a token that it gave (RFC 7662)."""
    answer = httpx.post(
        f"{relay.base}/token/introspection",
        data={"token": token},
        auth=(INSPECTOR.id, quote(INSPECTOR.secret)),
        trust_env=False,
        timeout=60,
    )
    said: dict[str, Any] = answer.raise_for_status().json()
    return said


# --- given -----------------------------------------------------------------------------------------------------------


@claim("NHN: assertion and DPoP proof, with the nonce that is required, bring a token bound to our key", OIDC_PROVIDER)
@pytest.mark.parametrize("name", HELSEID)
def test_helseid_gives_a_token_that_is_bound_to_our_key(
    relay: Relay, api: Api, connection: Connection, name: str
) -> None:
    ask(nhn_account(HELSEID[name], relay.base, api.base, algorithm=HELSEID[name].algorithm), connection)
    assert [answer.status for answer in relay.answered] == [400, 200]  # the first one asks for the nonce
    said = inspected(relay, api.token)
    assert said["active"]
    assert said["token_type"] == "DPoP"
    assert said["cnf"]["jkt"] == HELSEID[name].key.thumbprint()
    assert said["scope"] == SCOPE


@claim("NHN, Redox, FHIR: a key that names its algorithm signs with it", OIDC_PROVIDER)
@pytest.mark.parametrize("kind", ["nhn", "redox", "fhir"])
def test_a_key_that_names_its_algorithm_signs_with_it(
    relay: Relay, api: Api, connection: Connection, kind: str
) -> None:
    client = {"nhn": HELSEID["RS256"], "redox": REDOX, "fhir": SMART["RS384"]}[kind]
    account = {"nhn": nhn_account, "redox": redox_account, "fhir": fhir_account}[kind]
    ask(account(client, relay.base, api.base, private_key=client.private_jwk), connection)
    assert inspected(relay, api.token)["client_id"] == client.id


@claim("NHN: the nonce that an answer brought is used by the next proof", OIDC_PROVIDER)
def test_the_last_nonce_is_good_for_the_next_token(relay: Relay, api: Api, connection: Connection) -> None:
    account = nhn_account(HELSEID["ES256"], relay.base, api.base)
    ask(account, connection)
    relay.forget()
    ask(account, connection)
    assert [answer.status for answer in relay.answered] == [200]


@claim("Redox: an assertion signed with RS384 brings a token", OIDC_PROVIDER)
def test_redox_gives_a_token(relay: Relay, api: Api, connection: Connection) -> None:
    ask(redox_account(REDOX, relay.base, api.base), connection)
    said = inspected(relay, api.token)
    assert said["active"]
    assert said["client_id"] == REDOX.id
    assert said["token_type"] == "Bearer"


@claim(
    "FHIR: SMART Backend Services: the token server is found, and an assertion brings a token for the scopes",
    OIDC_PROVIDER,
)
@pytest.mark.parametrize("name", SMART)
def test_smart_backend_services_give_a_token(relay: Relay, api: Api, connection: Connection, name: str) -> None:
    ask(fhir_account(SMART[name], relay.base, api.base), connection)
    said = inspected(relay, api.token)
    assert said["active"]
    assert said["client_id"] == SMART[name].id
    assert set(said["scope"].split()) == set(SMART_SCOPE.split())


@claim("FHIR: a client's secret, in the header or in the body, brings a token", OIDC_PROVIDER)
@pytest.mark.parametrize("place", SECRETS)
def test_a_client_s_secret_brings_a_token(relay: Relay, api: Api, connection: Connection, place: str) -> None:
    ask(fhir_account(SECRETS[place], relay.base, api.base), connection)
    said = inspected(relay, api.token)
    assert said["active"]
    assert said["client_id"] == SECRETS[place].id


# --- refused ---------------------------------------------------------------------------------------------------------


def refusal(account: Account, connection: Connection) -> str:
    """The sentence with which the account is blocked, as one with wrong credentials."""
    with pytest.raises(AccountBlocked) as raised:
        ask(account, connection)
    assert raised.value.credentials
    assert raised.value.never_the_document
    return str(raised.value)


ACCOUNTS: dict[str, Callable[..., Account]] = {
    "nhn": lambda *places, **said: nhn_account(HELSEID["PS256"], *places, **said),
    "redox": lambda *places, **said: redox_account(REDOX, *places, **said),
    # With its address given: to be discovered it would be asked for first, and its answer would tell the time.
    "fhir": lambda issuer, api, **said: fhir_account(
        SMART["RS384"], issuer, api, token_url=f"{issuer}/connect/token", **said
    ),
}
# What the account signs with, where the server knows it for another algorithm.
OTHERS = {"nhn": "RS256", "redox": "PS256", "fhir": "PS256"}

each_account = pytest.mark.parametrize("kind", ACCOUNTS)


@claim(
    "A client that is registered for another algorithm is told to check algorithm, key_id, private_key and clock",
    OIDC_PROVIDER,
)
@each_account
def test_a_client_registered_for_another_algorithm_is_refused(
    relay: Relay, api: Api, connection: Connection, kind: str
) -> None:
    sentence = refusal(ACCOUNTS[kind](relay.base, api.base, algorithm=OTHERS[kind]), connection)
    assert relay.last_reason() == "alg mismatch"
    assert {"client_id", "key_id", "private_key", "algorithm", "clock"} <= set(re.findall(r"\w+", sentence))


@claim(
    "An expired assertion is refused; the next one is right by the server's time, whatever our clock says",
    OIDC_PROVIDER,
)
@each_account
def test_after_an_expired_assertion_the_server_s_own_time_counts(
    relay: Relay, api: Api, clients: Clients, kind: str
) -> None:
    late = connected(clients, Slots(), DictCache(), clock=clock_ahead(-TEN_MINUTES))
    refusal(ACCOUNTS[kind](relay.base, api.base), late)
    assert relay.last_reason() == "jwt expired"
    ask(ACCOUNTS[kind](relay.base, api.base), late)
    assert inspected(relay, api.token)["active"]


@claim("An assertion that arrives twice (`jti`) is refused, and the account is blocked", OIDC_PROVIDER)
@each_account
def test_an_assertion_that_arrives_twice_is_refused(relay: Relay, api: Api, connection: Connection, kind: str) -> None:
    relay.repeating = True
    refusal(ACCOUNTS[kind](relay.base, api.base), connection)
    assert relay.last_reason() == "client assertion tokens must only be used once"
