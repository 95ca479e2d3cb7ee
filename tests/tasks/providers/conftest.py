"""Accounts at a PracSuite of our own and at the sandbox's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from config.accounts import PracsuiteAccount
from tasks.http.clients import Clients
from tasks.providers.pracsuite.client import PracSuite
from tasks.providers.table import KINDS
from tests.harness.sandbox import SandboxProcess
from tests.tasks.providers.doubles import DictCache, Slots, connected
from tests.tasks.providers.odd_pracsuite import OddPracSuite


@pytest.fixture
def odd() -> Iterator[OddPracSuite]:
    with OddPracSuite() as server:
        yield server


@pytest.fixture(scope="session")
def clients() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    clients.close()


@pytest.fixture
def cache() -> DictCache:
    return DictCache()


@pytest.fixture
def slots() -> Slots:
    return Slots()


@pytest.fixture
def pracsuite(odd: OddPracSuite, clients: Clients, cache: DictCache, slots: Slots) -> PracSuite:
    account = PracsuiteAccount.model_validate(
        {
            "provider": "pracsuite",
            "base_url": odd.base + "/v1",
            "vendor_api_key": "the-vendor-key",
            "api_key": "the-clinic-key",
            "insecure": True,
        }
    )
    return PracSuite("north_clinic", account, connected(clients, slots, cache))


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    process = SandboxProcess("--providers", ",".join(KINDS), validation_seconds=0.1)
    yield process
    assert process.leaks() == []
    process.stop()


@pytest.fixture
def world(sandbox: SandboxProcess) -> Iterator[SandboxProcess]:
    """The sandbox, whose behaviour a test may change; it behaves as usual again afterwards."""
    yield sandbox
    sandbox.world(reset=True)
