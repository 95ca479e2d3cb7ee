"""What a server says that it can do: its CapabilityStatement (https://hl7.org/fhir/R4/capabilitystatement.html)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from pydantic import BaseModel, ValidationError

from config.accounts import FhirAccount
from tasks.http.api import not_understood
from tasks.http.exchange import JSON_BYTES, Answer
from tasks.model.errors import AccountBlocked
from tasks.providers.connection import Cache
from tasks.providers.fhir_server.answers import NAME

_TOPIC = "fhir capabilities"
_KEEP_SECONDS = 3600.0
_MOST_VALUES = 400_000  # statements list every resource with every parameter; of what is not needed little is kept
OAUTH_URIS = "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris"


class Capabilities(BaseModel, frozen=True):
    """What matters here of a server's statement."""

    version: str
    creates: bool = False
    conditional_create: bool = False
    conditional_update: bool = False
    searches_by_identifier: bool = False
    reads: bool = False
    binary_creates: bool = False
    # PUT to an id of our own makes the Binary, so that a second upload is the same one.
    binary_ids_of_ours: bool = False
    transaction: bool = False
    patient_reads: bool = False
    patient_searches_by_identifier: bool = False
    token_url: str = ""

    def lacks(self, account: FhirAccount) -> Iterator[str]:
        """What this account's settings need and the server does not offer; each says what to do."""
        if not self.version.startswith("4."):
            yield f"it is of FHIR {self.version or 'of an unknown version'}, and not of R4: check base_url"
        elif not self.creates:
            yield "it offers no create of DocumentReference: ask for it, or check base_url"
        if account.conditional == "update" and not self.conditional_update:
            yield 'it offers no conditional update of DocumentReference: set conditional = "create"'
        if account.on_unknown_outcome == "reconcile" and not self.searches_by_identifier:
            other = "resend" if self.conditional_create else "hold"
            yield f'it offers no search for DocumentReference by identifier: set on_unknown_outcome = "{other}"'
        if account.on_unknown_outcome == "resend" and account.conditional == "create" and not self.conditional_create:
            other = "reconcile" if self.searches_by_identifier else "hold"
            yield f'it offers no conditional create of DocumentReference: set on_unknown_outcome = "{other}"'
        if account.payload == "binary" and not (self.binary_creates or self.binary_ids_of_ours):
            yield 'it offers no create of Binary: set payload = "auto"'
        if account.payload == "transaction" and not self.transaction:
            yield 'it offers no transaction: set payload = "auto"'
        if account.patient_system and not self.patient_searches_by_identifier:
            yield "it offers no search for Patient by identifier: leave patient_system out, and use its own ids"


def check(capabilities: Capabilities, account: FhirAccount) -> None:
    """Raises AccountBlocked that names everything which is missing."""
    if missing := list(capabilities.lacks(account)):
        raise AccountBlocked(f"{NAME} cannot be used like this, by its CapabilityStatement: {'; '.join(missing)}.")


class Statement:
    """A server's capabilities, remembered for an hour. `fetch` gets its statement, by a new login if that is wanted."""

    def __init__(self, cache: Cache, base_url: str, fetch: Callable[[bool], Answer]) -> None:
        self._cache = cache
        self._base_url = base_url
        self._fetch = fetch

    def current(self) -> Capabilities:
        """Raises what `fetch` does, and AccountBlocked for an answer that is not a CapabilityStatement."""
        try:
            return Capabilities.model_validate_json(self._cache.get(_TOPIC, self._base_url) or "")
        except ValidationError:  # none yet, or of an earlier version
            return self._fetched(fresh_login=False)

    def fresh(self) -> Capabilities:
        """As `current`, asked for now and with a new login."""
        return self._fetched(fresh_login=True)

    def _fetched(self, *, fresh_login: bool) -> Capabilities:
        found = capabilities_in(self._fetch(fresh_login))
        self._cache.put(_TOPIC, self._base_url, found.model_dump_json(), _KEEP_SECONDS)
        return found


# --- the statement ---------------------------------------------------------------------------------------------------


class _Coded(BaseModel):
    code: Any = None
    name: Any = None


class _Resource(BaseModel):
    type: Any = None
    interaction: list[_Coded] = []
    searchParam: list[_Coded] = []  # noqa: N815, as FHIR writes it
    conditionalCreate: Any = None  # noqa: N815
    conditionalUpdate: Any = None  # noqa: N815
    updateCreate: Any = None  # noqa: N815

    def offers(self, interaction: str) -> bool:
        return any(each.code == interaction for each in self.interaction)

    def finds_by(self, parameter: str) -> bool:
        return self.offers("search-type") and any(each.name == parameter for each in self.searchParam)


class _Extension(BaseModel):
    url: Any = None
    valueUri: Any = None  # noqa: N815
    extension: list[_Extension] = []


class _Security(BaseModel):
    extension: list[_Extension] = []


class _Rest(BaseModel):
    mode: Any = None
    resource: list[_Resource] = []
    interaction: list[_Coded] = []
    security: _Security = _Security()

    def of(self, kind: str) -> _Resource:
        return next((each for each in self.resource if each.type == kind), _Resource())

    @property
    def token_url(self) -> str:
        """SMART's older way to say it (https://hl7.org/fhir/smart-app-launch/1.0.0/conformance/)."""
        uris = [each for each in self.security.extension if each.url == OAUTH_URIS]
        tokens = [each.valueUri for uri in uris for each in uri.extension if each.url == "token"]
        return next((each for each in tokens if isinstance(each, str)), "")


class _CapabilityStatement(BaseModel):
    resourceType: Any = None  # noqa: N815
    fhirVersion: Any = None  # noqa: N815
    rest: list[_Rest] = []


def capabilities_in(answer: Answer) -> Capabilities:
    """The capabilities in a CapabilityStatement. Raises AccountBlocked for anything else."""
    values = sum(map(answer.body.count, (b",", b"[", b"{")))
    if len(answer.body) > JSON_BYTES or values > _MOST_VALUES:
        raise not_understood(NAME, "a CapabilityStatement of several million bytes")
    try:
        statement = _CapabilityStatement.model_validate_json(answer.body)
    except ValidationError:
        raise not_understood(NAME, "no CapabilityStatement at /metadata") from None
    if statement.resourceType != "CapabilityStatement":
        raise not_understood(NAME, "no CapabilityStatement at /metadata")
    rest = next((each for each in statement.rest if each.mode in ("server", None)), _Rest())
    document, binary, patient = rest.of("DocumentReference"), rest.of("Binary"), rest.of("Patient")
    return Capabilities(
        version=statement.fhirVersion if isinstance(statement.fhirVersion, str) else "",
        creates=document.offers("create"),
        conditional_create=document.conditionalCreate is True,
        conditional_update=document.conditionalUpdate is True and document.offers("update"),
        searches_by_identifier=document.finds_by("identifier"),
        reads=document.offers("read"),
        binary_creates=binary.offers("create"),
        binary_ids_of_ours=binary.updateCreate is True and binary.offers("update"),
        transaction=any(each.code == "transaction" for each in rest.interaction),
        patient_reads=patient.offers("read"),
        patient_searches_by_identifier=patient.finds_by("identifier"),
        token_url=rest.token_url,
    )


def token_endpoint_in(answer: Answer) -> str:
    """The token endpoint in a .well-known/smart-configuration; empty if it names none."""
    try:
        said = json.loads(answer.body[:200_000])
    except ValueError:
        return ""
    address = said.get("token_endpoint") if isinstance(said, dict) else None
    return address if isinstance(address, str) else ""
