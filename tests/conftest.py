"""What every test may ask for: a real Valkey, shared by the run and emptied for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.harness.valkey import emptied, running_valkey


@pytest.fixture(scope="session")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_valkey(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture
def valkey(valkey_url: str) -> Iterator[redis.Redis]:
    client = emptied(valkey_url)
    yield client
    client.close()
