"""What the processes are told: one frozen `Settings`, read from a TOML file and the environment, checked as a whole."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr, ValidationError
from pydantic_core import ErrorDetails

from config.accounts import (
    ACCOUNT_KINDS,
    Account,
    AccountName,
    AnyAccount,
    ClinikoAccount,
    Confirm,
    Metadata,
    NhnAccount,
    OvokAccount,
    PracsuiteAccount,
    RedoxAccount,
)
from config.agreement import cautions, contradictions
from config.faults import CONSEQUENCES, Fault, KeyPath, SettingsError, did_you_mean, missing, words_for
from config.keys import ACCOUNTS, Keys, may_be_in_file
from config.secret_key import read_or_make_key
from config.sources import Tree, gather
from config.values import (
    AbsolutePath,
    Bucket,
    Count,
    Days,
    DaysOrForEver,
    HostName,
    LeaseSeconds,
    OptionalSecret,
    OptionalWebAddress,
    Port,
    RedisUrl,
    S3Prefix,
    Seconds,
    Section,
)

__all__ = [
    "ACCOUNT_KINDS",
    "S3",
    "Account",
    "ClinikoAccount",
    "Confirm",
    "Inbox",
    "Log",
    "Metadata",
    "Metrics",
    "NhnAccount",
    "OvokAccount",
    "PracsuiteAccount",
    "Redis",
    "RedoxAccount",
    "Retention",
    "Retry",
    "Settings",
    "SettingsError",
    "Worker",
    "ensure_secret_key",
    "load",
]


class Redis(Section):
    """Where the ledger and Celery live."""

    url: RedisUrl = ""  # empty: the embedded server


class S3(Section):
    """Where s3:// sources are read. Credentials come from boto3's usual chain."""

    endpoint_url: OptionalWebAddress = ""  # empty: AWS
    stage_inbox: S3Prefix = ""  # s3://bucket/prefix; empty: files stay on this machine


class Inbox(Section):
    """How the watched folder is read."""

    enabled: bool = True
    settle_seconds: Seconds = 2.0
    rescan_seconds: Seconds = 60.0
    polling: bool = False


class Worker(Section):
    """One worker process."""

    concurrency: Count = 16
    lease_seconds: LeaseSeconds = 30.0


class Retry(Section):
    """When a failed stage is tried again."""

    first_seconds: Seconds = 2.0
    cap_seconds: Seconds = 300.0
    give_up_after_seconds: Seconds = 86_400.0
    probe_first_seconds: Seconds = 15.0
    probe_cap_seconds: Seconds = 300.0


class Retention(Section):
    """How long finished work is kept."""

    jobs_days: Days = 30
    delivered_days: DaysOrForEver = 0  # 0: for ever


Level = Literal["debug", "info", "warning", "error"]


class Log(Section):
    """What is logged, and how it is written."""

    format: Literal["json", "console"] = "json"
    level: Annotated[Level, BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)] = "info"


class Metrics(Section):
    """The Prometheus endpoint."""

    port: Port = 0  # 0: off


class Settings(Section):
    """Everything that a process is told. Key for key as the settings file writes it."""

    data_dir: AbsolutePath = Path("data")
    secret_key: OptionalSecret = SecretStr("")
    file_roots: tuple[AbsolutePath, ...] = ()
    s3_buckets: tuple[Bucket, ...] = ()
    callback_hosts: tuple[HostName, ...] = ()
    callback_secret: OptionalSecret = SecretStr("")
    redis: Redis = Redis()
    s3: S3 = S3()
    inbox: Inbox = Inbox()
    worker: Worker = Worker()
    retry: Retry = Retry()
    retention: Retention = Retention()
    log: Log = Log()
    metrics: Metrics = Metrics()
    accounts: dict[AccountName, AnyAccount] = Field(default_factory=dict)

    _warnings: tuple[str, ...] = PrivateAttr(())

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what was ignored or is unwise; to be logged once at start."""
        return self._warnings


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Settings:
    """Read and check the settings: `path`, else `$CHARTPOST_CONFIG`, else `./chartpost.toml`; the environment on top.

    Raises SettingsError with every fault that was found. Opens no connection; reads secret files and CA files.
    """
    gathered = gather(Settings, path, environ)
    settings, wrong_values = _checked(gathered.tree, gathered.keys)
    faults = _without_consequences(gathered.faults, wrong_values)
    faults = _without_consequences(faults, contradictions(settings))
    if faults:
        raise SettingsError(str(fault) for fault in faults)
    settings._warnings = (*gathered.warnings, *cautions(settings))
    return settings


def ensure_secret_key(settings: Settings) -> Settings:
    """Settings that hold a secret key: the given one, else the one kept in `data_dir/secret_key`, made on first use.

    Processes that start together agree on one key. Raises SettingsError if the file cannot be made or read, or if
    `redis.url` is set: processes on other machines could not know a key made here.
    """
    if settings.secret_key.get_secret_value():
        return settings
    if settings.redis.url:
        raise SettingsError(str(fault) for fault in contradictions(settings) if fault.keys[0] == ("secret_key",))
    return settings.model_copy(update={"secret_key": SecretStr(read_or_make_key(settings.data_dir))})


def _without_consequences(faults: list[Fault], further: Iterable[Fault]) -> list[Fault]:
    """The faults, and of the further ones those that do not rest on a key already at fault."""
    at_fault = {key for fault in faults for key in fault.keys}
    return [*faults, *(fault for fault in further if not _rests_on(fault, at_fault))]


def _rests_on(fault: Fault, at_fault: set[KeyPath]) -> bool:
    """Whether a key of the fault is one of those, or lies in or around one."""
    return any(key[: len(other)] == other[: len(key)] for key in fault.keys for other in at_fault)


def _checked(tree: Tree, keys: Keys) -> tuple[Settings, list[Fault]]:
    """The settings, and what is wrong with single values; those are replaced, so that the rest can be compared."""
    try:
        return Settings.model_validate(tree), []
    except ValidationError as error:
        errors = _errors(error)
    faults = [_fault(error, keys) for error in errors if error["type"] not in CONSEQUENCES]
    return _what_remains(tree, errors), faults


def _errors(error: ValidationError) -> list[ErrorDetails]:
    return error.errors(include_url=False, include_input=False)


def _fault(error: ErrorDetails, keys: Keys) -> Fault:
    key = error["loc"]
    secret = may_be_in_file(keys.field(key))
    if error["type"] == "missing" or (secret and error["type"] == "too_short"):
        return missing(key, may_be_in_file=secret)
    if error["type"] == "extra_forbidden":
        hint = did_you_mean(str(key[-1]), keys.names(key[:-1]), "remove it")
        return Fault((key,), f"is not a setting: {hint}")
    if key[-1] == "[key]":
        return Fault((key[:-1],), "is not a name for an account: begin with a letter, and use only a-z, 0-9 and _")
    return Fault((key,), words_for(error))


def _what_remains(tree: Tree, errors: list[ErrorDetails]) -> Settings:
    """The settings with the values at fault replaced by defaults or stand-ins; in the end whole tables are dropped."""
    for _ in range(3):
        for wrong in errors:
            _replace(tree, wrong["loc"], needed=wrong["type"] == "missing")
        try:
            return Settings.model_validate(tree)
        except ValidationError as error:
            errors = _errors(error)
    for wrong in errors:
        _replace(tree, wrong["loc"][: 2 if wrong["loc"][0] == ACCOUNTS else 1], needed=False)
    return Settings.model_validate(tree)


# Where any text will not do for a key that is missing.
_STAND_INS: dict[str, object] = {
    "provider": next(iter(ACCOUNT_KINDS)),
    "contact": "Stand-in (it@stand-in.example)",
    "environment": "Development",
    "home_community_id": "2.999",
    "organization": {"child": "stand-in"},
}


def _replace(tree: Tree, key: KeyPath, *, needed: bool) -> None:
    *tables, name = key if key[-1] != "[key]" else key[:-1]
    for table in tables:
        if not isinstance(tree.get(str(table)), dict):  # the fault lies in an item of a list
            name, needed = table, False
            break
        tree = tree[str(table)]
    tree.pop(str(name), None)
    if needed:
        tree[str(name)] = _STAND_INS.get(str(name), "stand-in")
