"""The accounts that documents are sent to. A provider is added by one class and one row in `ACCOUNT_KINDS`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from config.values import ApiKey, Count, HostPattern, Seconds, Section, WebAddress

NOT_YET_BUILT = ("cliniko", "ovok", "redox", "nhn")


class Confirm(Section):
    """When to ask whether a document has arrived, and for how long."""

    first_seconds: Seconds = 2.0
    cap_seconds: Seconds = 60.0
    give_up_after_seconds: Seconds = 1800.0
    look_seconds: Seconds = Field(default_factory=lambda validated: validated["give_up_after_seconds"])


def _known_provider(value: str) -> str:
    known = ", ".join(ACCOUNT_KINDS)
    if value in NOT_YET_BUILT:
        raise ValueError(f"is {value}, which this version does not speak yet: it speaks {known}")
    if value not in ACCOUNT_KINDS:
        raise ValueError(f"is not a provider that this version speaks: it speaks {known}")
    return value


def _readable_file(value: Path | None) -> Path | None:
    if value is None:
        return None
    try:
        path = value.absolute()
        with path.open("rb") as file:
            file.read(1)
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
    upload_hosts: tuple[HostPattern, ...] = ()
    insecure: bool = False
    ca_bundle: OptionalFile = None
    requests_per_minute: Count
    max_bytes: Count
    duplicates: Literal["skip", "send"] = "skip"
    confirm: Confirm = Confirm()
    max_in_flight: Count | None = None  # None: the process that hands out slots decides


class PracsuiteAccount(Account):
    """PracSuite: two keys, the vendor's and the clinic's (https://docs.api.pracsuite.com)."""

    provider: Literal["pracsuite"]
    base_url: WebAddress = "https://api.pracsuite.com/v1"
    upload_hosts: tuple[HostPattern, ...] = ("*.amazonaws.com",)
    requests_per_minute: Count = 120
    max_bytes: Count = 100_000_000
    vendor_api_key: ApiKey
    api_key: ApiKey


ACCOUNT_KINDS: dict[str, type[Account]] = {
    "pracsuite": PracsuiteAccount,
}


class AccountOfUnknownKind(Account, extra="ignore"):
    """Never valid: it finds the faults among the common keys of an account whose provider is not known."""

    base_url: WebAddress = "https://unknown.invalid"
    requests_per_minute: Count = 1
    max_bytes: Count = 1


def kind_of(provider: object) -> type[Account]:
    """The model for a provider's accounts."""
    return ACCOUNT_KINDS.get(provider if isinstance(provider, str) else "", AccountOfUnknownKind)


def _of_its_kind(value: object) -> object:
    if not isinstance(value, Mapping):
        return value
    return kind_of(value.get("provider")).model_validate(value)


AccountName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]*$")]
AnyAccount = Annotated[Account, BeforeValidator(_of_its_kind)]
