"""What every test may ask for: a real Valkey, shared by the run and emptied for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from hypothesis import HealthCheck, settings

from tests.harness.valkey import emptied, running_valkey
from tests.interop import claims

# An example may take as long as it takes: how long says something of the machine, not of the code.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What parties that nobody here wrote have said, if they were asked."""
    claims.show(terminalreporter)


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[redis.Redis]:
    client = emptied(valkey_url)
    yield client
    client.close()
