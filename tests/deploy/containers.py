"""docker-compose.yml, carried out on this machine without Docker: each service's command as it is written there.

What a container would see of its own is put in its place: host names become loopback, ports free ones, and the paths
of mounts and secrets lead into a temporary folder. Everything else is taken from docker-compose.yml and Dockerfile.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.deploy.images import stages
from tests.harness.ports import free_ports
from tests.harness.sandbox import ROOT
from tests.harness.servers import VALKEY, Server
from tests.harness.waiting import PATIENCE_SECONDS

COMPOSE = ROOT / "docker-compose.yml"
PORTS = {"valkey": 6379, "sandbox": 9000, "flower": 5555, "worker": 9464, "web": 8025}
HOSTS = ("valkey", "sandbox")
EXAMINER = "user examiner on nopass ~* &* +@all\n"

# Stands for the image's own: the real server answers, the real ACL decides, and a refusal ends with 0 as there.
VALKEY_CLI = """#!{python}
import sys, redis
user, password = sys.argv[2], sys.argv[4]
assert sys.argv[1:6:2] == ["--user", "--pass", "--no-auth-warning"], sys.argv
server = redis.Redis(port={port}, username=user, password=password, lib_name=None, lib_version=None)
try:
    print("PONG" if server.execute_command(*sys.argv[6:]) else "")
except redis.ConnectionError as error:
    sys.exit(str(error))
except redis.RedisError as error:
    print(error)
"""


def project() -> dict[str, Any]:
    """docker-compose.yml with the default of every variable."""
    text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", COMPOSE.read_text())
    read: dict[str, Any] = yaml.safe_load(text)
    return read


@dataclass
class Container:
    """A service's process and its log."""

    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, seconds: float) -> int:
        """SIGTERM, as Docker sends it; the exit code. Raises TimeoutExpired where Docker would kill."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(seconds)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class House:
    """All services of docker-compose.yml in one temporary folder; `server` is in the place of Valkey, if given."""

    def __init__(self, folder: Path, server: Server = VALKEY, producers: Sequence[str] = ()) -> None:
        self.folder = folder
        self._server = server
        self._producers = producers
        self.secrets = folder / "secrets"
        self.services: dict[str, dict[str, Any]] = project()["services"]
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.running: dict[str, Container] = {}
        self._make_secrets()
        self._make_programs()

    # --- what docker-compose.yml says ----------------------------------------------------------------------------

    def command(self, name: str) -> list[str]:
        service = self.services[name]
        image = [] if "build" not in service else stages()[service["build"]["target"]].entrypoint
        return [*service.get("entrypoint", image), *service.get("command", [])]

    def environment(self, name: str) -> dict[str, str]:
        service = self.services[name]
        image = stages()[service["build"]["target"]].environment if "build" in service else {}
        return {**image, **service.get("environment", {})}

    def mounts(self, name: str) -> Iterator[tuple[str, Path]]:
        """Path in the container, and where that lies here."""
        for secret in self.services[name].get("secrets", []):
            yield f"/run/secrets/{secret}", self.secrets / secret
        for volume in self.services[name].get("volumes", []):
            source, target = volume.split(":")[:2]
            yield target, self._copied(source) if source.startswith("./") else self.folder / "volumes" / source

    # --- carrying it out ------------------------------------------------------------------------------------------

    def start(self, name: str) -> Container:
        log = self.folder / f"{name}.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [self._here(name, part) for part in self.command(name)],
                env=self._environment_here(name),
                cwd=self._working_folder(name),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.running[name] = Container(process, log)
        return self.running[name]

    def runs(self, name: str) -> bool:
        return name in self.running and self.running[name].process.poll() is None

    def check_health(self, name: str) -> int:
        """The exit code of the service's health check, however long it takes here: its limit is for a container."""
        kind, *command = self.services[name]["healthcheck"]["test"]
        command = [self._here(name, part) for part in command]
        return subprocess.run(
            ["sh", "-c", *command] if kind == "CMD-SHELL" else command,
            env=self._environment_here(name),
            cwd=self._working_folder(name),
            capture_output=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        ).returncode

    def run(self, name: str, command: Sequence[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
        """`docker compose exec -T`."""
        return subprocess.run(
            [self._here(name, part) for part in command],
            env=self._environment_here(name),
            cwd=self._working_folder(name),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def stop(self) -> None:
        for container in self.running.values():
            container.kill()

    def secret(self, name: str) -> str:
        return (self.secrets / name).read_text().strip()

    @property
    def documents(self) -> Path:
        return self.folder / "volumes" / "documents"

    @property
    def outgoing(self) -> Path:
        """Where other services put what they send."""
        return self.folder / "volumes" / "outgoing"

    # --- putting it in its place ------------------------------------------------------------------------------------

    def _here(self, name: str, text: str) -> str:
        for inside, outside in self.mounts(name):
            text = re.sub(rf"(?<![\w.-]){re.escape(inside)}(?![\w.-])", str(outside), text)
        return self._addresses_here(text)

    def _addresses_here(self, text: str) -> str:
        text = re.sub(rf"\b({'|'.join(HOSTS)})(?=:\d)", "127.0.0.1", text)
        text = text.replace("0.0.0.0", "127.0.0.1")  # noqa: S104
        for service, port in PORTS.items():
            text = re.sub(rf"\b{port}\b", str(self.ports[service]), text)
        return text

    def _environment_here(self, name: str) -> dict[str, str]:
        said = {key: self._here(name, value) for key, value in self.environment(name).items()}
        programs = self.folder / "bin" if name == "valkey" else Path(sys.executable).parent
        return {**said, "PATH": f"{programs}:/usr/bin:/bin", "HOME": "/nonexistent"}

    def _working_folder(self, name: str) -> Path:
        folder = self.folder / "volumes" / "ledger" if name == "valkey" else self.folder / "empty"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _copied(self, source: str) -> Path:
        """A copy of a file or folder of the repository, its addresses and paths as they are here."""
        target = self.folder / "mounts" / source
        if target.exists():
            return target
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            return Path(shutil.copytree(ROOT / source, target))
        text = self._addresses_here((ROOT / source).read_text()).replace('"sandbox"', '"127.0.0.1"')
        text = text.replace("bind * -::*", "bind 127.0.0.1").replace("/run/secrets", str(self.secrets))
        text = text.replace('"/outgoing"', f'"{self.outgoing}"')
        target.write_text(re.sub(r"^dir /data$", f"dir {self.folder / 'volumes' / 'ledger'}", text, flags=re.MULTILINE))
        return target

    def _make_secrets(self) -> None:
        make = [sys.executable, str(ROOT / "deploy" / "make_secrets.py"), "--demo", "--folder", str(self.secrets)]
        make += [f"--producer={name}" for name in self._producers]
        make += ["--redis-7.0"] if self._server.knows_no_setinfo else []
        subprocess.run(make, check=True, capture_output=True)
        for path in self.secrets.glob("*redis_url"):
            address = self._addresses_here(path.read_text())
            path.chmod(0o600)
            path.write_text(address)
        users = self.secrets / "valkey_users"
        users.chmod(0o600)
        users.write_text(users.read_text() + EXAMINER)

    def _make_programs(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir()
        # A script and no link: which program Redis's file is depends on the name that it was started under.
        program = programs / "valkey-server"
        program.write_text(f'#!/bin/sh\nexec {self._server.program} "$@"\n')
        program.chmod(0o755)
        cli = programs / "valkey-cli"
        cli.write_text(VALKEY_CLI.format(python=sys.executable, port=self.ports["valkey"]))
        cli.chmod(0o755)
