"""The command line in this process, on a real Valkey; jobs are put into the ledger as workers would."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import structlog
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from config.load import load
from tasks.runtime import Runtime
from tests.worker.cli.jobs import Jobs
from worker.cli.main import cli

SETTINGS = """
data_dir = "{folder}/data"
secret_key = "a secret for tests"
file_roots = ["{folder}/documents"]
[redis]
url = "{url}"
[accounts.north_clinic]
provider = "pracsuite"
base_url = "http://127.0.0.1:1/v1"
insecure = true
vendor_api_key = "v"
api_key = "a"
max_bytes = 1000
[accounts.south_clinic]
provider = "pracsuite"
base_url = "http://127.0.0.1:1/v1"
insecure = true
vendor_api_key = "v"
api_key = "b"
"""


@dataclass
class CommandLine:
    """`chartpost`, with settings of its own."""

    config: Path

    def __call__(self, *arguments: str, stdin: str | None = None) -> Result:
        return CliRunner().invoke(cli, ["--config", str(self.config), *arguments], input=stdin)

    def rows(self, *arguments: str) -> list[dict[str, Any]]:
        """What `--json` prints; the exit code must be 0."""
        result = self(*arguments, "--json")
        assert result.exit_code == 0, result.output
        return lines(result)


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(autouse=True)
def process_as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A command sets up its whole process: logs, hooks and environment. Here many share one process."""
    monkeypatch.setenv("CHARTPOST_CONFIG", "")
    root, hooks = logging.getLogger(), (sys.excepthook, threading.excepthook)
    before: tuple[Sequence[logging.Handler], int] = (list(root.handlers), root.level)
    yield
    root.handlers, root.level = list(before[0]), before[1]
    sys.excepthook, threading.excepthook = hooks
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def config(tmp_path: Path, valkey_url: str) -> Path:
    (tmp_path / "documents").mkdir()
    path = tmp_path / "chartpost.toml"
    path.write_text(SETTINGS.format(folder=tmp_path, url=valkey_url))
    return path


@pytest.fixture
def runtime(config: Path, valkey: redis.Redis) -> Runtime:
    return Runtime(load(config, {}))


@pytest.fixture
def chartpost(config: Path, runtime: Runtime) -> CommandLine:
    return CommandLine(config)


@pytest.fixture
def jobs(runtime: Runtime) -> Jobs:
    return Jobs(runtime)


@pytest.fixture(scope="session")
def private_key() -> str:
    """An EC key in PEM, made for this run."""
    key = ec.generate_private_key(ec.SECP256R1())
    form, plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, form, plain).decode()
