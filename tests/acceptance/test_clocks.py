"""Clocks are set while documents are in every state: none fails, none is doubled, and all arrive soon after."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest

from tests.acceptance.test_kills import frozen_engine
from tests.harness.clocks import HOUR, FakedClock, needs_faked_clock
from tests.harness.installation import LEASE_SECONDS, Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import valkey_with_clock
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

pytestmark = needs_faked_clock

LARGE = 30_000_000
PER_MINUTE = 12
PARKED = "south_clinic"
UNFINISHED = {"", "received", "presigned", "stored", "registered"}
PATIENT = """confirm.first_seconds = 0.2
confirm.cap_seconds = 0.5
confirm.give_up_after_seconds = 1800.0
confirm.look_seconds = 1800.0
"""
JUMPS = {
    "an hour ahead": (HOUR,),
    "an hour back": (-HOUR,),
    "ahead and back": (HOUR, 0),
    "back and ahead": (-HOUR, 0),
}


@contextmanager
def clinic_with_clock(folder: Path, world: SandboxProcess, clock: FakedClock, **options: str) -> Iterator[Installation]:
    with (
        valkey_with_clock(folder / "valkey", clock) as url,
        installed(folder / "clinic", world, url, quick=PATIENT, **options) as started,
    ):
        yield started


@pytest.fixture(autouse=True)
def world_as_before(world: SandboxProcess) -> Iterator[None]:
    yield
    world.world(reset=True)


@pytest.mark.parametrize("jumps", JUMPS.values(), ids=JUMPS)
def test_redis_clock_is_set_while_documents_are_in_every_state(
    tmp_path: Path, world: SandboxProcess, jumps: tuple[float, ...]
) -> None:
    clock = FakedClock(tmp_path)
    with clinic_with_clock(tmp_path, world, clock) as clinic:
        documents = Documents(clinic)
        worker = clinic.start_worker()
        documents.bring_into_every_state()
        tokens = {job: token(clinic, job) for job in documents.being_sent}
        stages = documents.stages()
        for ahead in jumps:
            clock.set(ahead)
            time.sleep(2 * LEASE_SECONDS)
        assert documents.stages() == stages, "nothing has been given up"
        assert {job: token(clinic, job) for job in documents.being_sent} == tokens, "no second worker has begun"
        documents.let_go()
        wait_until(lambda: not {*documents.stages()} & UNFINISHED, "all have an outcome", 20 * LEASE_SECONDS)
        assert documents.stages() == ["delivered"] * documents.count
        assert len(clinic.chart(patient_id=documents.patient)) == documents.count
        assert "lease_lost" not in worker.log


def test_a_workers_clock_an_hour_ahead_and_back_holds_no_document_up_for_more_than_a_minute(
    tmp_path: Path, world: SandboxProcess
) -> None:
    """The calls that were made meanwhile count for a minute, and not until that hour is over."""
    clock = FakedClock(tmp_path)
    with installed(tmp_path / "clinic", world, quick=PATIENT) as clinic:
        settings = re.sub(
            r"requests_per_minute = \d+", f"requests_per_minute = {PER_MINUTE}", clinic.config.read_text()
        )
        clinic.config.write_text(settings)
        clock.set(HOUR)
        clinic.start_worker(**clock.environ)
        patient = f"c{uuid4()}"
        jobs = [clinic.send(clinic.write(f"{n}.pdf", b"%d" % n), patient) for n in range(8)]
        group, limit = clinic.process.accounts["north_clinic"].provider.limit_group, clinic.process.rate_limit
        wait_until(lambda: limit.throttled_until(group), "the limit of calls is used up")
        clock.set(0)
        began, waits = time.monotonic(), [0.0]
        while {clinic.stage(job) for job in jobs} & UNFINISHED and time.monotonic() - began < LONG_PATIENCE_SECONDS:
            until = limit.throttled_until(group)
            waits.append(until.timestamp() - time.time() if until else 0.0)
            time.sleep(0.2)
        assert [clinic.stage(job) for job in jobs] == ["delivered"] * len(jobs)
        assert max(waits) < 61
        assert len(clinic.chart(patient_id=patient)) == len(jobs)


class Documents:
    """Of one patient; the world is changed so that each stays in its state."""

    def __init__(self, clinic: Installation) -> None:
        self._clinic = clinic
        self.patient = f"c{uuid4()}"
        self._ids: list[str] = []
        self.being_sent: list[str] = []
        self._engine = frozen_engine(clinic)
        self._parked_key = str(clinic.world.settings["accounts"][PARKED]["api_key"])

    @property
    def count(self) -> int:
        return len(self._ids)

    def bring_into_every_state(self) -> None:
        clinic, world = self._clinic, self._clinic.world
        world.world(hold_validation=".pdf", revoke=[self._parked_key])
        waits, lost = self._sent("waits.pdf"), self._sent("LOST.pdf")
        wait_until(lambda: clinic.stage(waits) == "stored", "one waits for its record")
        wait_until(lambda: row(clinic, lost).get("looks", "0") > "1", "one is searched for, its outcome is unknown")
        self._engine.__enter__()
        self.being_sent = [self._sent(f"{n}.pdf", os.urandom(LARGE)) for n in range(2)]
        wait_until(lambda: all(posting(clinic, job) for job in self.being_sent), "two are being sent")
        for n in range(2, 6):
            self._sent(f"{n}.pdf", account=PARKED)
        wait_until(lambda: clinic.process.breaker.state(PARKED), "the other account is parked, and its documents wait")

    def let_go(self) -> None:
        self._engine.__exit__(None, None, None)
        self._clinic.world.world(restore=[self._parked_key], hold_validation=None)

    def stages(self) -> list[str]:
        return [self._clinic.stage(job) for job in self._ids]

    def _sent(self, name: str, content: bytes = b"", **fields: str) -> str:
        source = self._clinic.write(name, content or name.encode())
        self._ids.append(self._clinic.send(source, self.patient, **fields))
        return self._ids[-1]


def row(clinic: Installation, job: str) -> dict[str, str]:
    return {str(k): str(v) for k, v in clinic.redis.hgetall(f"chartpost:job:{job}").items()}


def posting(clinic: Installation, job: str) -> bool:
    """Whether the upload has begun: a worker has the lease."""
    found = row(clinic, job)
    return found.get("step") == "post" and found.get("lease_until", "0") != "0"


def token(clinic: Installation, job: str) -> str:
    """The fencing token: another one after each start."""
    return row(clinic, job)["token"]
