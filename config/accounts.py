"""The accounts that documents are sent to. A provider is added by one class and one row in `ACCOUNT_KINDS`."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, StringConstraints, model_validator

from config.fingerprint import fingerprint
from config.hosts import AMAZON_S3
from config.types import (
    AnyLanguage,
    ApiKey,
    Coding,
    Contact,
    Count,
    HeaderText,
    HostPattern,
    Identifier,
    Number,
    OptionalHeaderSecret,
    OptionalPrivateKey,
    OptionalProxy,
    OptionalReference,
    OptionalSecret,
    OptionalWebAddress,
    PathSegment,
    PrivateKey,
    Seconds,
    Secret,
    Section,
    Text,
    WebAddress,
)

AMAZON = (AMAZON_S3,)


class Confirm(Section):
    """When to ask whether a document has arrived, and for how long."""

    # The pause between two questions doubles from the first to the cap.
    first_seconds: Seconds = 2.0
    cap_seconds: Seconds = 60.0
    give_up_after_seconds: Seconds = 1800.0
    # After an outcome that chartpost could not see: search this long for the document before sending it again.
    look_seconds: Seconds = Field(default_factory=lambda validated: validated["give_up_after_seconds"])


def _known_provider(value: str) -> str:
    known = ", ".join(ACCOUNT_KINDS)
    if value not in ACCOUNT_KINDS:
        raise ValueError(f"is not a provider that this version speaks: it speaks {known}")
    return value


def _readable_file(value: Path | None) -> Path | None:
    if value is None:
        return None
    try:
        path = value.absolute()
        with path.open("rb") as file:
            file.read(1)  # a folder can be opened, but not read
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise ValueError(f"names a file that cannot be read ({reason}): name a PEM file, or remove it") from None
    return path


OptionalFile = Annotated[
    Path | None,
    BeforeValidator(lambda value: None if value == "" else value),
    AfterValidator(_readable_file),
]


class Account(Section):
    """What every account has, whatever its provider."""

    provider: Annotated[str, AfterValidator(_known_provider)]
    base_url: WebAddress
    upload_hosts: tuple[HostPattern, ...] = ()  # to which forms may send documents
    insecure: bool = False  # true, for sandboxes: http:// and loopback are allowed
    ca_bundle: OptionalFile = None  # certificate authorities to trust in addition to the system's
    # Instead of everybody's `proxy`; empty: this account is reached directly.
    proxy: OptionalProxy = None
    requests_per_minute: Count  # over all workers, and over all accounts that share the vendor's limit
    max_bytes: Count  # larger documents are refused before any call
    duplicates: Literal["skip", "send"] = "skip"
    confirm: Confirm = Confirm()
    max_in_flight: Count | None = None  # steps that may run at once over all workers; None: half of all slots
    language: AnyLanguage | None = None  # of the notes for its front desk; None: `notes.language`

    @property
    def limit_group(self) -> str:
        """Accounts with the same group share the provider's rate limit. Holds no secret."""
        return f"{self.provider}:{fingerprint(*self._limited_by())}"

    def _limited_by(self) -> tuple[str, ...]:
        """What accounts have in common that share the provider's limit."""
        return (self.base_url,)


class Author(Section):
    """The author of an account's documents, for providers that ask for one."""

    name: str = ""
    identifier: Identifier = ""


class Metadata(Section):
    """FHIR codings of an account's documents, written "system|code|display"; a document's own options override them."""

    type: Coding = ""
    category: Coding = ""
    format: Coding = ""
    facility_type: Coding = ""
    practice_setting: Coding = ""
    security_label: Coding = ""
    author: Author = Author()


class Organization(Section):
    """Organization numbers."""

    child: Text  # the unit that sends
    parent: str = ""  # the legal body that it belongs to; empty: the child stands alone


Algorithm = Literal["", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]


class PracsuiteAccount(Account):
    """PracSuite: two keys, the vendor's and the clinic's (https://docs.api.pracsuite.com)."""

    provider: Literal["pracsuite"]
    base_url: WebAddress = "https://api.pracsuite.com/v1"
    upload_hosts: tuple[HostPattern, ...] = AMAZON
    requests_per_minute: Count = 120
    max_bytes: Count = 100_000_000
    vendor_api_key: ApiKey
    api_key: ApiKey

    def _limited_by(self) -> tuple[str, ...]:
        """PracSuite limits by the vendor's key at one API, whatever the clinic."""
        return (self.base_url, self.vendor_api_key.get_secret_value())


class ClinikoAccount(Account):
    """Cliniko: a user's key, whose ending names the shard (https://docs.api.cliniko.com/guides/urls)."""

    provider: Literal["cliniko"]
    base_url: OptionalWebAddress = ""  # empty: the address of the key's shard
    upload_hosts: tuple[HostPattern, ...] = AMAZON
    requests_per_minute: Count = 180  # Cliniko allows a user 200
    max_bytes: Count = 100_000_000
    api_key: ApiKey
    contact: Contact

    @model_validator(mode="after")
    def _address_of_the_shard(self) -> Self:
        shard = shard_of(self.api_key.get_secret_value())
        if not self.base_url and shard:
            # The model is frozen, and pydantic's constructor ignores a copy that a validator returns.
            object.__setattr__(self, "base_url", f"https://api.{shard}.cliniko.com/v1")
        return self

    def _limited_by(self) -> tuple[str, ...]:
        """Cliniko limits by user, whose key this is."""
        # 200 requests a minute: https://docs.api.cliniko.com/developer-portal
        key = self.api_key.get_secret_value()
        return (self.base_url, key.rpartition("-")[0] or key)


def shard_of(api_key: str) -> str | None:
    """The shard in a Cliniko key: what follows its last hyphen, au1 without one; None if it cannot be a shard."""
    # The shard becomes part of the host name that the key is sent to. A malformed key must not choose that host.
    shard = api_key.rpartition("-")[2] if "-" in api_key else "au1"
    return shard if re.fullmatch(r"[a-z]{2}[0-9]{1,2}", shard) else None


class OvokAccount(Account):
    """Ovok: the login of a service account (https://docs.ovok.com)."""

    provider: Literal["ovok"]
    base_url: WebAddress = "https://api.ovok.com"
    upload_hosts: tuple[HostPattern, ...] = AMAZON
    requests_per_minute: Count = 120
    max_bytes: Count = 100_000_000
    email: Text
    password: Secret
    client_id: Text

    def _limited_by(self) -> tuple[str, ...]:
        """Ovok's pages name no limits; they are taken to be for each login at one API."""
        return (self.base_url, self.email, self.client_id)


class RedoxAccount(Account):
    """Redox: one destination in one environment, and the OAuth key for it (https://docs.redoxengine.com)."""

    provider: Literal["redox"]
    base_url: WebAddress = "https://api.redoxengine.com/fhir/R4"
    # Where Redox may say that an uploaded file is.
    upload_hosts: tuple[HostPattern, ...] = ("redoxengine.com", "*.redoxengine.com")
    requests_per_minute: Count = 1500  # Redox allows each calling address 7,500 in five minutes
    max_bytes: Count = 30_000_000
    client_id: Text
    key_id: Text
    private_key: PrivateKey
    algorithm: Algorithm = ""  # empty: follows from the key
    token_url: WebAddress = "https://api.redoxengine.com/v2/auth/token"  # noqa: S105 (an address)
    destination: PathSegment
    environment: Literal["Development", "Staging", "Production"]
    # Larger documents are uploaded first. At most 7,499,998: their base64 stays below Redox's limit of 10,000,000.
    embed_below_bytes: Annotated[int, Field(ge=0, le=7_499_998)] = 200_000
    on_unknown_outcome: Literal["hold", "resend"] = "hold"
    patient_system: Text
    metadata: Metadata = Metadata()

    def _limited_by(self) -> tuple[str, ...]:
        """Redox limits by the IP address that calls, whichever account it is for."""
        # https://developer.redoxengine.com/api-reference/quotas-and-constraints
        return (self.base_url.lower(),)


class NhnAccount(Account):
    """NHN's document sharing, with HelseID (https://utviklerportal.nhn.no)."""

    provider: Literal["nhn"]
    base_url: WebAddress = "https://api.pjd.test.nhn.no/R4/fhir"
    requests_per_minute: Count = 120
    max_bytes: Count = 60_000_000
    client_id: Text
    key_id: Text
    private_key: PrivateKey
    algorithm: Algorithm = ""  # empty: follows from the key
    issuer: WebAddress = "https://helseid-sts.test.nhn.no"
    scope: Text = "nhn:phr/mhd/create-documents-with-reference"
    source_system: HeaderText
    home_community_id: Annotated[str, StringConstraints(pattern=r"^[0-2](\.[0-9]+)+$")]
    organization: Organization
    patient_system: Text = "urn:oid:2.16.578.1.12.4.1.4.1"
    metadata: Metadata = Metadata()

    def _limited_by(self) -> tuple[str, ...]:
        """NHN's pages name no limits; they are taken to be for each client at one API."""
        return (self.base_url, self.client_id)


class FhirAccount(Account):
    """Any FHIR R4 server (https://hl7.org/fhir/R4/http.html), and one of the ways to show it who we are."""

    provider: Literal["fhir"]
    requests_per_minute: Count = 120
    max_bytes: Count = 50_000_000
    # smart: SMART Backend Services (https://hl7.org/fhir/smart-app-launch/backend-services.html). secret: OAuth client
    # credentials (RFC 6749, 4.4). none: for sandboxes alone.
    auth: Literal["smart", "secret", "bearer", "basic", "none"]
    token_url: OptionalWebAddress = ""  # empty: as the server's .well-known/smart-configuration or /metadata says
    scope: Annotated[str, StringConstraints(max_length=1000)] = (
        "system/DocumentReference.crs system/Binary.crs system/Patient.rs"
    )
    client_id: str = ""
    key_id: str = ""
    private_key: OptionalPrivateKey = SecretStr("")
    algorithm: Algorithm = ""  # empty: RS384 for RSA keys, else as the key's curve has it
    client_secret: OptionalSecret = SecretStr("")
    client_auth: Literal["header", "body"] = "header"  # where the secret goes (RFC 6749, 2.3.1)
    token: OptionalHeaderSecret = SecretStr("")
    user: str = ""
    password: OptionalSecret = SecretStr("")
    # How the bytes travel. auto: in the DocumentReference below embed_below_bytes, else as a Binary before it.
    payload: Literal["auto", "inline", "binary", "transaction"] = "auto"
    # In base64 it stays below 1 MiB, which is what Medplum takes in one resource.
    embed_below_bytes: Annotated[int, Field(ge=0, le=1_000_000_000), Number] = 700_000
    download_hosts: tuple[HostPattern, ...] = ()  # besides the API's: from which a document may be read back
    read_back: Literal["bytes", "record"] = "bytes"  # record: of servers that convert what they are given
    read_back_below_bytes: Count = 20_000_000  # the bytes of larger documents are not read back
    on_unknown_outcome: Literal["reconcile", "resend", "hold"] = "reconcile"
    conditional: Literal["create", "update", "never"] = "create"
    patient_system: str = ""  # of the identifiers that patients are known by; empty: by the server's own ids
    check_patient: bool = True  # read the patient before anything is sent for it
    author: OptionalReference = ""
    custodian: OptionalReference = ""
    doc_status: Literal["", "preliminary", "final", "amended"] = "final"
    metadata: Metadata = Metadata()

    def _limited_by(self) -> tuple[str, ...]:
        """Servers differ; limits are taken to be for each client at one API."""
        return (self.base_url, self.client_id or self.user or fingerprint(self.token.get_secret_value()))


ACCOUNT_KINDS: dict[str, type[Account]] = {
    "pracsuite": PracsuiteAccount,
    "cliniko": ClinikoAccount,
    "ovok": OvokAccount,
    "redox": RedoxAccount,
    "nhn": NhnAccount,
    "fhir": FhirAccount,
}


class AccountOfUnknownKind(Account, extra="ignore"):
    """For an account whose provider is not known: never valid, but it finds what is wrong with the common keys."""

    base_url: WebAddress = "https://unknown.invalid"
    requests_per_minute: Count = 1
    max_bytes: Count = 1


def kind_of(provider: object) -> type[Account]:
    """The model for a provider's accounts."""
    return ACCOUNT_KINDS.get(provider if isinstance(provider, str) else "", AccountOfUnknownKind)


def _of_its_kind(value: object) -> object:
    return kind_of(value.get("provider")).model_validate(value) if isinstance(value, Mapping) else value


AccountName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
AnyAccount = Annotated[Account, BeforeValidator(_of_its_kind)]
