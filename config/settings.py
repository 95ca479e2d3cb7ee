"""All that a process is told: one frozen `Settings`, key for key as the settings file writes it."""

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PrivateAttr, SecretStr

from config.accounts import Account, AccountName, AnyAccount, OptionalFile
from config.origin import Origin
from config.producers import Producer, ProducerName
from config.roots import AnyBucketRoot, AnyFileRoot
from config.types import (
    AbsolutePath,
    AnyLanguage,
    Count,
    CountOrCores,
    Days,
    DaysOrForEver,
    HeaderName,
    HostName,
    Hours,
    IdleMinutes,
    IgnorePattern,
    IpAddress,
    IpNetwork,
    LeaseSeconds,
    Minutes,
    NamePatterns,
    OptionalSecret,
    OptionalWebAddress,
    Port,
    Proxy,
    ProxyAddress,
    RedisUrl,
    S3Prefix,
    Seconds,
    Section,
    Sentence,
    WebPort,
    read_proxy,
)


class Redis(Section):
    """Where the ledger and Celery live."""

    url: RedisUrl = ""  # empty: the embedded server


class S3(Section):
    """Where s3:// sources are read. Credentials come from boto3's usual chain."""

    endpoint_url: OptionalWebAddress = ""  # empty: AWS
    # s3://bucket/prefix under which the watcher puts inbox files for workers on other machines; empty: they stay here.
    stage_inbox: S3Prefix = ""


class Inbox(Section):
    """How the watched folder is read."""

    enabled: bool = True  # whether `chartpost run` starts a watcher
    settle_seconds: Seconds = 2.0  # a file is complete when its size and time have not changed for this long
    # A file whose end is missing may still be growing: it goes to failed/ once it has not changed for this long.
    incomplete_seconds: Seconds = 300.0
    rescan_seconds: Seconds = 60.0  # change events can be lost, so the whole inbox is also scanned this often
    polling: bool = False  # SMB and NFS send no change events for what other machines write
    ignore: tuple[IgnorePattern, ...] = ()  # shell patterns of names that are left alone, beside the known ones
    # Account -> patterns by which the names of files in inbox/<account>/ tell the patient; the first that fits counts.
    name_patterns: dict[AccountName, NamePatterns] = Field(default_factory=dict)


class Worker(Section):
    """The worker processes."""

    processes: CountOrCores = 1  # how many of them `chartpost run` starts; 0: one for each core
    concurrency: Count = 16  # steps that run at once in each
    lease_seconds: LeaseSeconds = 30.0  # a dead worker's jobs are free for other workers after this

    @property
    def process_count(self) -> int:
        """How many worker processes `chartpost run` starts."""
        # Of the cores those that this process may use: a container may have been given a few of them.
        return self.processes or (len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1)


class Retry(Section):
    """When a failed step is tried again."""

    # The pause after a failure doubles from the first to the cap.
    first_seconds: Seconds = 2.0
    cap_seconds: Seconds = 300.0
    give_up_after_seconds: Seconds = 86_400.0
    # The same for an account that is parked or down: the pause before it is probed again.
    probe_first_seconds: Seconds = 15.0
    probe_cap_seconds: Seconds = 300.0


class Retention(Section):
    """How long finished work is kept."""

    jobs_days: Days = 30
    delivered_days: DaysOrForEver = 0  # 0: for ever
    # What reports count of each day, without patients.
    counts_days: Days = 1100


class Notes(Section):
    """The notes for people that lie beside documents which have failed, and in waiting/."""

    enabled: bool = True
    after_minutes: Minutes = 15.0  # a document that is not finished after this gets its note in waiting/
    contact: Sentence = ""  # whom a front desk is to ask, such as "IT, extension 212"
    language: AnyLanguage = "en"


Level = Literal["debug", "info", "warning", "error"]


class Log(Section):
    """What is logged, and how it is written."""

    format: Literal["json", "console"] = "json"
    level: Annotated[Level, BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value)] = "info"


class Metrics(Section):
    """The Prometheus endpoint."""

    port: Port = 0  # 0: off
    address: IpAddress = "127.0.0.1"  # on which interface; 0.0.0.0 and :: are all of them


class Web(Section):
    """The page for the clinic's staff."""

    enabled: bool = False  # whether `chartpost run` starts it
    address: IpAddress = "127.0.0.1"  # on which interface; 0.0.0.0 and :: are all of them
    port: WebPort = 8025
    # Where people reach it, if not at http://<address>:<port>: https://chartpost.clinic.example, say. Other host names
    # are refused.
    url: OptionalWebAddress = ""
    # TLS by chartpost itself: files in PEM. Both empty: a proxy does it, or the page is for this machine alone.
    tls_certificate: OptionalFile = None
    tls_key: OptionalFile = None
    # Proxies, by address or network, whose X-Forwarded-For is believed. With `user_header` (such as "X-Remote-User")
    # they say who somebody is, and nobody is asked for a password.
    trusted_proxies: tuple[IpNetwork, ...] = ()
    user_header: HeaderName = ""
    session_idle_minutes: IdleMinutes = 30.0  # a session ends when nothing was asked for so long
    session_hours: Hours = 12.0  # and after this at the latest

    @property
    def secure(self) -> bool:
        """True if people reach it over https."""
        return bool(self.tls_certificate) or self.url.startswith("https:")


class Settings(Section):
    """The settings of one process. `config.load` reads them and checks them against each other."""

    data_dir: AbsolutePath = Path("data")
    secret_key: OptionalSecret = SecretStr("")  # seals patient data in Redis
    file_roots: tuple[AnyFileRoot, ...] = ()  # folders from which file:// sources are accepted
    s3_buckets: tuple[AnyBucketRoot, ...] = ()  # buckets from which s3:// sources are accepted
    callback_hosts: tuple[HostName, ...] = ()
    callback_secret: OptionalSecret = SecretStr("")  # signs callbacks
    callback_secret_previous: OptionalSecret = SecretStr("")  # signs too, while receivers change to the new one
    # The HTTP proxy through which providers, storage and callbacks are reached; empty: directly, whatever the
    # environment says.
    proxy: Proxy = SecretStr("")
    redis: Redis = Redis()
    s3: S3 = S3()
    inbox: Inbox = Inbox()
    worker: Worker = Worker()
    retry: Retry = Retry()
    retention: Retention = Retention()
    notes: Notes = Notes()
    log: Log = Log()
    metrics: Metrics = Metrics()
    web: Web = Web()
    accounts: dict[AccountName, AnyAccount] = Field(default_factory=dict)
    # Without any, every caller may send to every account, from file_roots and s3_buckets.
    producers: dict[ProducerName, Producer] = Field(default_factory=dict)

    # Private to pydantic, so that no settings file can set it.
    _warnings: tuple[str, ...] = PrivateAttr(())
    _origin: Origin = PrivateAttr(Origin())

    def proxy_of(self, account: Account) -> ProxyAddress | None:
        """The proxy of an account: its own, else everybody's. An empty one of its own means none."""
        return read_proxy(self.proxy if account.proxy is None else account.proxy)

    def language_of(self, account: str) -> str:
        """In which language an account's front desk reads; also of an account that has left the settings."""
        known = self.accounts.get(account)
        return (known.language if known else None) or self.notes.language

    @property
    def warnings(self) -> tuple[str, ...]:
        """Sentences about what was ignored or is unwise; each process logs them once when it starts."""
        return self._warnings

    @property
    def origin(self) -> Origin:
        """The files that these settings were read from."""
        return self._origin

    def with_origin(self, origin: Origin) -> Self:
        """The same settings, read from these files."""
        copy = self.model_copy()
        copy._origin = origin
        return copy

    def with_warnings(self, warnings: Iterable[str]) -> Self:
        """The same settings with these warnings."""
        copy = self.model_copy()
        copy._warnings = tuple(warnings)
        return copy
