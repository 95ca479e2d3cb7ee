"""Tokens from a token server that is certified for OpenID Connect, and what each account says when that refuses one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest

from tasks.http.clients import Clients
from tasks.http.provider_clock import ProviderClock
from tasks.model.errors import AccountBlocked
from tasks.providers.auth.jwt import Signer
from tasks.providers.auth.tokens import Tokens
from tasks.providers.connection import Connection
from tasks.providers.nhn.helseid import HelseId
from tasks.providers.redox.token_server import TokenServer
from tests.interop.accounts import EC_256, RSA, SCOPE, Client, nhn_account, redox_account
from tests.interop.claims import OIDC_PROVIDER, claim
from tests.interop.node import NodeServer
from tests.interop.relay import Relay
from tests.tasks.providers.doubles import DictCache, Slots, clock_ahead, connected

MINUTES_LATE = 600
INSPECTOR = ("inspector", "the inspector's secret")

HELSEID = {
    "PS256": Client("helseid-ps256", RSA, "PS256", bound=True),
    "ES256": Client("helseid-es256", EC_256, "ES256", bound=True),
    "RS256": Client("helseid-rs256", RSA, "RS256", bound=True),
}
REDOX = Client("redox", RSA, "RS384")

Obtain = Callable[..., Tokens]


@pytest.fixture(scope="module")
def server(packages: None) -> Iterator[Relay]:
    """The token server, behind a relay at whose address it is known."""
    clients = [client.registered() for client in (*HELSEID.values(), REDOX)]
    inspector = {"client_id": INSPECTOR[0], "client_secret": INSPECTOR[1], "grant_types": [], "response_types": []}
    with Relay() as relay:
        settings = {"issuer": relay.base, "scopes": [SCOPE], "clients": [*clients, {**inspector, "redirect_uris": []}]}
        with NodeServer("token_server.mjs", settings) as process:
            relay.upstream, relay.log = process.url, process.log
            yield relay


@pytest.fixture
def relay(server: Relay) -> Iterator[Relay]:
    server.forget()
    yield server
    server.repeating = False


@pytest.fixture
def connection(clients: Clients) -> Connection:
    return connected(clients, Slots(), DictCache())


def connected_late(clients: Clients) -> Connection:
    """A machine whose clock is ten minutes behind."""
    clock: ProviderClock = clock_ahead(-MINUTES_LATE)
    return connected(clients, Slots(), DictCache(), clock=clock)


def of_helseid(relay: Relay, connection: Connection, name: str, **said: Any) -> Tokens:
    account = nhn_account(HELSEID[name], relay.base, **said)
    signer = Signer(account.private_key.get_secret_value(), account.algorithm, now=connection.clock.now)
    return HelseId(account, signer, connection).tokens


def of_redox(relay: Relay, connection: Connection, **said: Any) -> Tokens:
    return TokenServer("hospital", redox_account(REDOX, relay.base, **said), connection).tokens


def inspected(relay: Relay, token: str) -> dict[str, Any]:
    """What the server itself says of a token that it gave (RFC 7662)."""
    answer = httpx.post(
        f"{relay.base}/token/introspection", data={"token": token}, auth=INSPECTOR, trust_env=False, timeout=60
    )
    said: dict[str, Any] = answer.raise_for_status().json()
    return said


# --- given -----------------------------------------------------------------------------------------------------------


@claim(
    "NHN: an assertion and a DPoP proof with the nonce that is required bring a token bound to our key", OIDC_PROVIDER
)
@pytest.mark.parametrize("name", HELSEID)
def test_helseid_gives_a_token_that_is_bound_to_our_key(relay: Relay, connection: Connection, name: str) -> None:
    token = of_helseid(relay, connection, name, algorithm=HELSEID[name].algorithm).current()
    assert [answer.status for answer in relay.answered] == [400, 200]  # the first one asks for the nonce
    said = inspected(relay, token)
    assert said["active"]
    assert said["token_type"] == "DPoP"
    assert said["cnf"]["jkt"] == HELSEID[name].key.thumbprint()
    assert said["scope"] == SCOPE


@claim("NHN: the nonce that an answer brought is used at once by the next proof", OIDC_PROVIDER)
def test_the_last_nonce_is_good_for_the_next_token(relay: Relay, connection: Connection) -> None:
    tokens = of_helseid(relay, connection, "ES256")
    tokens.current()
    relay.forget()
    tokens.fresh()
    assert [answer.status for answer in relay.answered] == [200]


@claim("Redox: an assertion signed with RS384 brings a token", OIDC_PROVIDER)
def test_redox_gives_a_token(relay: Relay, connection: Connection) -> None:
    said = inspected(relay, of_redox(relay, connection).current())
    assert said["active"]
    assert said["client_id"] == REDOX.id
    assert said["token_type"] == "Bearer"


# --- refused ---------------------------------------------------------------------------------------------------------


def refusal(obtain: Callable[[], str]) -> str:
    """The sentence with which the account is blocked, as one with wrong credentials."""
    with pytest.raises(AccountBlocked) as raised:
        obtain()
    assert raised.value.credentials
    assert raised.value.never_the_document
    return str(raised.value)


def each_account(relay: Relay, connection: Connection) -> dict[str, Tokens]:
    return {"HelseID": of_helseid(relay, connection, "PS256"), "Redox": of_redox(relay, connection)}


ACCOUNTS = pytest.mark.parametrize("name", ["HelseID", "Redox"])


@claim("A client that is registered for another algorithm is told to check key_id and private_key", OIDC_PROVIDER)
@pytest.mark.parametrize("name", ["HelseID", "Redox"])
def test_a_client_registered_for_another_algorithm_is_refused(relay: Relay, connection: Connection, name: str) -> None:
    other = of_helseid(relay, connection, "PS256", algorithm="RS256")
    tokens = other if name == "HelseID" else of_redox(relay, connection, algorithm="PS256")
    sentence = refusal(tokens.current)
    assert "alg mismatch" in relay.last_reason()
    assert "key_id, private_key" in sentence


@claim("An assertion that has expired on its way is refused, and the account is blocked", OIDC_PROVIDER)
@ACCOUNTS
def test_an_expired_assertion_is_refused(relay: Relay, clients: Clients, name: str) -> None:
    sentence = refusal(each_account(relay, connected_late(clients))[name].current)
    assert "client_id" in sentence
    assert "jwt expired" in relay.last_reason()


@claim("An assertion that arrives twice (`jti`) is refused, and the account is blocked", OIDC_PROVIDER)
@ACCOUNTS
def test_an_assertion_that_arrives_twice_is_refused(relay: Relay, connection: Connection, name: str) -> None:
    relay.repeating = True
    refusal(each_account(relay, connection)[name].current)
    assert "once" in relay.last_reason()
