"""The installation of a campaign: Valkey with its documented users, one healthy account, and many sick ones.

The healthy account has a sandbox of its own. The sick ones reach theirs through the hostile server only.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import redis

from config.accounts import Account
from tests.deploy.containers import House
from tests.harness.installation import Installation
from tests.harness.ports import free_ports
from tests.harness.sandbox import SandboxProcess
from tests.harness.tls import Authority, tls_front
from tests.harness.waiting import wait_until
from tests.hostile.server import CALLBACKS, HostileServer

HEALTHY = "healthy"
PATIENT_NAMES = {"nhn": "12345678901", "ovok": None}  # else anything
VALIDATION_SECONDS = 0.2
LEASE_SECONDS = 5.0  # longer than a step takes on a busy machine: an account whose steps last longer does not answer
SECRET_KEY = "qzgeheimerschluessel of this installation"
CALLBACK_SECRET = "qzrueckrufgeheimnis of its callers"

# Short, since what is looked for is what never ends. The pauses leave no account alone for long.
_PATIENCE = """confirm.first_seconds = 0.2
confirm.cap_seconds = 0.5
confirm.give_up_after_seconds = 15.0
confirm.look_seconds = 4.0
"""
_RETRY = """first_seconds = 0.1
cap_seconds = 1.0
give_up_after_seconds = 60.0
probe_first_seconds = 0.2
probe_cap_seconds = 1.0
"""
# Accounts of each provider. Redox limits by address and NHN by client, so that a second account adds nothing.
_SICK = {"south_clinic": 4, "cliniko_clinic": 3, "ovok_clinic": 3, "redox_hospital": 1, "nhn_hospital": 1}


class HostileInstallation(Installation):
    """`sick` are the names of the sick accounts. `callers_url` is Redis as other services see it, `admin` sees all."""

    def __init__(
        self,
        folder: Path,
        house: House,
        worlds: tuple[SandboxProcess, SandboxProcess],
        server: HostileServer,
        slots: int,
        callbacks: str,
    ) -> None:
        healthy_world, sick_world = worlds
        super().__init__(folder, healthy_world, house.secret("redis_url"), account=HEALTHY, quick=_PATIENCE)
        self.slots = slots
        self.callbacks = callbacks
        self.sick: dict[str, str | None] = {}  # their names, and the patient of their documents
        self.callers_url = house.secret("caller_redis_url")
        self.admin = redis.Redis(
            port=house.ports["valkey"],
            username="examiner",
            password="-",
            decode_responses=True,
            encoding_errors="backslashreplace",
        )
        self.sick_world = sick_world
        self.server = server
        self.logs = folder / "logs"
        self.logs.mkdir()
        self.data.mkdir(mode=0o750)
        self._write_settings(healthy_world, sick_world)

    def _write_settings(self, healthy: SandboxProcess, sick: SandboxProcess) -> None:
        accounts = [_section(healthy.toml, "north_clinic", HEALTHY)]
        for kind, count in _SICK.items():
            for _ in range(count):
                name = f"sick_{len(self.sick) + 1}"
                provider = sick.settings["accounts"][kind]["provider"]
                self.sick[name] = PATIENT_NAMES.get(provider, "4711")
                accounts.append(_section(sick.toml, kind, name, f"sick{len(self.sick)}-"))
        if "proxy" in Account.model_fields:  # two of them by way of a proxy, which is the hostile server too
            for name in ("sick_1", "sick_5"):
                at = int(name.removeprefix("sick_"))
                accounts[at] = accounts[at].replace(
                    "\n", f'\nproxy = "http://user:password@127.0.0.1:{self.server.port}"\n', 1
                )
        self.config.write_text(
            f'data_dir = "{self.data}"\nsecret_key = "{SECRET_KEY}"\nfile_roots = ["{self.documents}"]\n'
            f'callback_hosts = ["127.0.0.1"]\ncallback_secret = "{CALLBACK_SECRET}"\n'
            + "\n".join(accounts)
            + f'\n[redis]\nurl = "{self.redis_url}"\n[inbox]\nsettle_seconds = 0.3\nrescan_seconds = 2.0\n'
            + f"[worker]\nlease_seconds = {LEASE_SECONDS}\nconcurrency = {self.slots}\n[retry]\n{_RETRY}"
        )
        self.config.chmod(0o600)


def _section(toml: str, name: str, new_name: str, prefix: str = "") -> str:
    """An account's table under another name, a prefix before what its limit group is made of."""
    found = re.search(rf"^\[accounts\.{name}\]\n.*?(?=^\[|^# ready|\Z)", toml, re.MULTILINE | re.DOTALL)
    assert found, name
    section = found[0].replace(f"[accounts.{name}]", f"[accounts.{new_name}]")
    if re.search(r'^provider = "(pracsuite|cliniko|ovok)"', section, re.MULTILINE):
        section = re.sub(r'^((?:vendor_api_key|api_key|email) = ")', rf"\g<1>{prefix}", section, flags=re.MULTILINE)
    return re.sub(r'^(provider = "[a-z]+")$', rf"\1\n{_PATIENCE}", section, flags=re.MULTILINE)


@contextmanager
def hostile_installed(folder: Path, slots: int) -> Iterator[tuple[HostileInstallation, dict[str, str]]]:
    """An installation whose processes are not started yet, and the environment that they need."""
    with ExitStack() as stack:
        house = House(folder / "house")
        stack.callback(house.stop)
        house.start("valkey")
        wait_until(lambda: house.check_health("valkey") == 0, "Valkey answers")
        port, behind = free_ports(2)
        server = HostileServer(f"http://127.0.0.1:{behind}")
        healthy = stack.enter_context(_world())
        through = ("--providers", "pracsuite,cliniko,ovok,redox,nhn", "--public-url", f"http://127.0.0.1:{port}")
        at = ("--port", str(behind), *through)
        sick = stack.enter_context(_world(*at))
        stack.enter_context(server.listening(port))
        authority = Authority(folder, "callers")
        callbacks = stack.enter_context(tls_front(*authority.server_files(), port))
        (folder / "clinic").mkdir()
        installation = HostileInstallation(
            folder / "clinic", house, (healthy, sick), server, slots, f"https://127.0.0.1:{callbacks}{CALLBACKS}"
        )
        stack.callback(installation.stop)
        yield installation, {"SSL_CERT_FILE": str(authority.ca_file)}


@contextmanager
def _world(*arguments: str) -> Iterator[SandboxProcess]:
    world = SandboxProcess(*arguments, validation_seconds=VALIDATION_SECONDS)
    try:
        yield world
    finally:
        with suppress(subprocess.TimeoutExpired):  # it is killed then; what counts was read before
            world.stop()
