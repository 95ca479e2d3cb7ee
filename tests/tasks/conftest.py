"""A storage server of our own, and the clients that trust its certificate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks.http.clients import Clients
from tests.tasks.storage_server import StorageServer, make_certificate


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def storage() -> Iterator[StorageServer]:
    with StorageServer() as server:
        yield server


@pytest.fixture
def secure_storage(certificate: Path) -> Iterator[StorageServer]:
    with StorageServer(certificate=certificate) as server:
        yield server


@pytest.fixture
def clients(certificate: Path) -> Iterator[Clients]:
    clients = Clients(certificate)
    yield clients
    clients.close()
