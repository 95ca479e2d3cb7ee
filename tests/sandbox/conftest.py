"""One sandbox for all of its tests; each test uses patients of its own."""

from collections.abc import Iterator

import pytest

from tests.harness.sandbox import SandboxProcess
from tests.sandbox.providers.pracsuite_clinic import Clinic


@pytest.fixture(scope="session")
def sandbox() -> Iterator[SandboxProcess]:
    process = SandboxProcess(validation_seconds=0.1)
    yield process
    log = process.log()
    assert process.stop() == 0
    assert "Traceback" not in log, log


@pytest.fixture
def changed(sandbox: SandboxProcess) -> Iterator[SandboxProcess]:
    """A sandbox whose behaviour a test changes; it is reset afterwards."""
    yield sandbox
    sandbox.world(reset=True)


@pytest.fixture(scope="session")
def north(sandbox: SandboxProcess) -> Clinic:
    return Clinic(sandbox, "north_clinic")


@pytest.fixture(scope="session")
def south(sandbox: SandboxProcess) -> Clinic:
    return Clinic(sandbox, "south_clinic")
