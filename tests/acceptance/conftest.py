"""One sandbox for all acceptance tests; each test has a clinic of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tasks.providers.table import KINDS
from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess


@pytest.fixture(scope="session")
def world() -> Iterator[SandboxProcess]:
    sandbox = SandboxProcess("--providers", ",".join(KINDS), validation_seconds=0.2)
    yield sandbox
    sandbox.stop()


@pytest.fixture
def opened(tmp_path: Path, world: SandboxProcess, valkey_url: str) -> Iterator[Callable[..., Installation]]:
    """Opens one clinic, on the shared Valkey emptied for it: `opened(account="ovok_clinic")`."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(installed(tmp_path / "clinic", world, valkey_url, **options))


@pytest.fixture
def north(tmp_path: Path, world: SandboxProcess, valkey_url: str) -> Iterator[Installation]:
    """A clinic on the shared Valkey, emptied for it."""
    with installed(tmp_path / "clinic", world, valkey_url) as started:
        yield started
