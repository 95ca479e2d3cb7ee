"""Constant memory: a document of 100 MB adds little to any process, and sixteen at once not much more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.harness.installation import Child, Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until

HUNDRED_MB = 100_000_000
ALLOWED_MB = 30


@pytest.fixture
def wide(tmp_path: Path, world: SandboxProcess, valkey_url: str) -> Iterator[Installation]:
    """A clinic whose account may use every slot."""
    with installed(tmp_path / "clinic", world, valkey_url) as started:
        settings = started.config.read_text()
        # Validating sixteen of them takes the sandbox its time.
        patient = settings.replace("give_up_after_seconds = 10.0", "give_up_after_seconds = 600.0")
        started.config.write_text(
            patient.replace("[accounts.north_clinic]", "[accounts.north_clinic]\nmax_in_flight = 16")
        )
        yield started


def peak_mb(child: Child) -> float:
    """The most memory since the last `forget_peak`."""
    status = Path(f"/proc/{child.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024  # type: ignore[index]


def forget_peak(child: Child) -> float:
    Path(f"/proc/{child.pid}/clear_refs").write_text("5")
    return peak_mb(child)


def large(clinic: Installation, name: str) -> str:
    """A document of zeros that takes no space here."""
    path = clinic.documents / name
    with path.open("wb") as file:
        file.truncate(HUNDRED_MB)
    return path.as_uri()


def test_100_mb_add_no_more_than_30_mb_and_sixteen_at_once_no_more_than_twice_that(wide: Installation) -> None:
    worker = wide.start_worker()
    patients = [f"m{uuid4()}" for _ in range(16)]
    warm = [wide.upload(wide.write(f"warm{n}.pdf", b"warm"), patient) for n, patient in enumerate(patients)]
    for result in warm:
        result.get(timeout=120)

    before = forget_peak(worker)
    assert wide.upload(large(wide, "one.pdf"), patients[0]).get(timeout=120)["size_bytes"] == HUNDRED_MB
    one = peak_mb(worker) - before

    before = forget_peak(worker)
    results = [wide.upload(large(wide, f"{n}.pdf"), patient) for n, patient in enumerate(patients)]
    together = wait_until(lambda: in_flight(wide) == 16, "sixteen are in flight at once")
    for result in results:
        assert result.get(timeout=300)["size_bytes"] == HUNDRED_MB
    sixteen = peak_mb(worker) - before

    print(f"\nmemory added: one {one:.1f} MB, sixteen {sixteen:.1f} MB")  # noqa: T201
    assert together
    assert one <= ALLOWED_MB
    assert sixteen <= 2 * ALLOWED_MB


def in_flight(clinic: Installation) -> int:
    running = [str(job) for job in clinic.redis.zrange("chartpost:flying:north_clinic", 0, -1)]
    steps = [clinic.redis.hget(f"chartpost:job:{job}", "step") for job in running]
    return steps.count("post")
