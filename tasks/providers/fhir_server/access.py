"""How an account shows a FHIR server who it is, and where that server's tokens come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from config.accounts import FhirAccount
from config.types import key_kind
from tasks.http.addresses import check_address
from tasks.http.api import ApiClient
from tasks.http.exchange import Answer
from tasks.model.errors import AccountBlocked
from tasks.providers.auth.basic import FixedHeaderApi, basic
from tasks.providers.auth.bearer import BearerApi, Call
from tasks.providers.auth.client_credentials import by_assertion, by_secret, granted
from tasks.providers.auth.jwt import Signer
from tasks.providers.auth.tokens import Token, Tokens
from tasks.providers.connection import Connection
from tasks.providers.fhir_server.answers import ACCEPT, NAME, READ_STATUSES
from tasks.providers.fhir_server.capabilities import capabilities_in, token_endpoint_in
from tasks.providers.statuses import StatusTable, blocked, locked_out

_TOKENS_KEPT_SECONDS = 3600.0
_ADDRESS_TOPIC = "fhir token address"
_ADDRESS_KEPT_SECONDS = 3600.0


class Api(Protocol):
    """An API whose calls show who we are."""

    base_url: str

    def url(self, *segments: str) -> str: ...

    def send(self, call: Call) -> Answer: ...

    def send_fresh(self, call: Call) -> Answer: ...


def api_of(name: str, account: FhirAccount, connection: Connection) -> Api:
    """The account's API, with its way to log in."""
    match account.auth:
        case "smart" | "secret":
            tokens = TokenServer(name, account, connection).tokens
            return BearerApi(connection, account.base_url, provider=NAME, tokens=tokens)
        case "bearer":
            headers = {"Authorization": f"Bearer {account.token.get_secret_value()}"}
        case "basic":
            headers = basic(account.user, account.password.get_secret_value())
        case "none":
            headers = {}
    return FixedHeaderApi(connection, account.base_url, provider=NAME, headers=headers)


class TokenServer:
    """The tokens of one account, for a signed assertion or a secret."""

    def __init__(self, name: str, account: FhirAccount, connection: Connection) -> None:
        self._account = account
        self._connection = connection
        self._open_api = connection.api(account.base_url, provider=NAME, headers={})
        self._ask = self._with_assertion() if account.auth == "smart" else self._with_secret()
        secrets = account.private_key.get_secret_value(), account.client_secret.get_secret_value()
        scope = "\0".join(
            (name, account.base_url, account.token_url, account.client_id, account.key_id, account.scope, *secrets)
        )
        self.tokens = Tokens(connection.cache, scope, self._obtain, keep=_TOKENS_KEPT_SECONDS)

    def _with_assertion(self) -> Callable[[str], Answer]:
        account, key = self._account, self._account.private_key.get_secret_value()
        # SMART names RS384 and ES384 (https://hl7.org/fhir/smart-app-launch/client-confidential-asymmetric.html).
        algorithm = account.algorithm or ("RS384" if key_kind(key) == "RSA" else "")
        signer = Signer(key, algorithm, now=self._connection.clock.now)

        def ask(token_url: str) -> Answer:
            return by_assertion(
                self._api(token_url), token_url, signer, account.client_id, account.key_id, account.scope
            )

        return ask

    def _with_secret(self) -> Callable[[str], Answer]:
        account, in_body = self._account, self._account.client_auth == "body"

        def ask(token_url: str) -> Answer:
            secret = account.client_secret.get_secret_value()
            return by_secret(self._api(token_url), account.client_id, secret, account.scope, in_body=in_body)

        return ask

    def _api(self, token_url: str) -> ApiClient:
        return self._connection.api(token_url, provider=NAME, headers={})

    def _obtain(self, last: Token | None) -> Token:
        return granted(self._ask(self._address()), _STATUSES, NAME)

    def _address(self) -> str:
        """Where the tokens are: as the settings say, else as the server does."""
        if self._account.token_url:
            return self._account.token_url
        cache, base_url = self._connection.cache, self._account.base_url
        if not (address := cache.get(_ADDRESS_TOPIC, base_url) or ""):
            address = self._discovered()
            cache.put(_ADDRESS_TOPIC, base_url, address, _ADDRESS_KEPT_SECONDS)
        return address

    def _discovered(self) -> str:
        """By SMART's discovery (https://hl7.org/fhir/smart-app-launch/conformance.html), else the older one."""
        answer = self._open_api.call(
            "GET", ".well-known", "smart-configuration", headers={"Accept": "application/json"}
        )
        address = token_endpoint_in(answer) if answer.success else ""
        if not answer.success and answer.status not in (401, 403, 404, 405, 406, 410):
            raise READ_STATUSES.error(answer)
        if not address:
            answer = self._open_api.call("GET", "metadata", headers={"Accept": ACCEPT})
            if answer.status == 408 or answer.status == 429 or answer.status >= 500:
                raise READ_STATUSES.error(answer)
            address = capabilities_in(answer).token_url if answer.success else ""
        if not address:
            raise AccountBlocked(
                f"{NAME} does not say where its tokens come from, neither in .well-known/smart-configuration nor in "
                "its CapabilityStatement: set token_url of this account."
            )
        try:
            check_address(address, insecure=self._account.insecure)
        except ValueError as error:
            raise AccountBlocked(f"{NAME} names a token address that cannot be used: {error}.") from None
        return address


_NO_TOKEN = locked_out(
    "The FHIR server's token server gives no token: check client_id, key_id, private_key, algorithm, client_secret, "
    "scope and token_url of this account, and the clock of this machine."
)
_STATUSES = StatusTable(
    f"{NAME}'s token server",
    {
        400: _NO_TOKEN,
        401: _NO_TOKEN,
        403: _NO_TOKEN,
        404: blocked("There is no token server at this account's token_url (404): check it."),
    },
)
