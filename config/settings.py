"""What the processes are told: one frozen `Settings`, read from a TOML file and the environment, checked as a whole."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr

from config.accounts import (
    AccountName,
    AnyAccount,
)
from config.types import (
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
