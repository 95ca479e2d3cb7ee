"""One page for each module of tests: the server of the test run is emptied at its start, and not between its tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.page import ServedPage, served_page
from worker.web.users import Right


@pytest.fixture(scope="module")
def page(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    with served_page(tmp_path_factory.mktemp("page"), valkey_url) as page:
        page.add("anna")
        page.add("looker", may={"north_clinic": Right.LOOK})
        yield page


@pytest.fixture
def fresh_limits(page: ServedPage) -> None:
    """Nobody has tried a password yet."""
    for key in page.runtime.redis.scan_iter("chartpost:web-logins:*"):
        page.runtime.redis.delete(key)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "page"
