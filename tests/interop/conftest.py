"""The witnesses, each started once for the tests of a file and stopped after them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tasks.http.clients import Clients
from tests.interop import claims, node


def pytest_itemcollected(item: pytest.Item) -> None:
    claims.collected(item)


@pytest.fixture(scope="session")
def packages() -> None:
    """What npm has brought; without it the test is skipped, with a sentence."""
    if not node.are_there():
        pytest.skip(node.NOT_THERE)


@pytest.fixture(scope="session")
def clients() -> Iterator[Clients]:
    clients = Clients()
    yield clients
    clients.close()
