"""What is special to PracSuite, at the sandbox."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tasks.http.clients import Clients
from tasks.model.errors import RetryLater
from tests.harness.sandbox import SandboxProcess
from tests.tasks.providers.at_work import AtWork, fresh


@pytest.fixture
def at_work(world: SandboxProcess, clients: Clients, tmp_path: Path) -> AtWork:
    return AtWork(world, clients, tmp_path, "north_clinic")


@pytest.mark.parametrize(
    "change", [{"list_key": "anything"}, {"ids_as_text": True}, {"name_in_record": True}, {"newest_first": True}]
)
def test_what_the_vendors_pages_leave_open_does_not_matter(at_work: AtWork, change: dict[str, Any]) -> None:
    at_work.sandbox.world(**change)
    job = at_work.sent(at_work.job(patient_id=f"old-120-{fresh()}"))
    assert len(job.facts.snapshot or ()) == 120
    at_work.record_of(job)


def test_an_encrypted_bucket_is_noted_and_nothing_more(at_work: AtWork) -> None:
    at_work.sandbox.world(etag_not_md5=True)
    job = at_work.sent(at_work.job())
    assert not job.facts.stored.etag_verified  # type: ignore[union-attr]
    at_work.record_of(job)


def test_a_busy_storage_is_tried_again(at_work: AtWork) -> None:
    job = at_work.presigned(at_work.named("BUSY-1"))
    with pytest.raises(RetryLater):
        at_work.post(job)
    at_work.post(job)
    at_work.record_of(job)


def test_a_patient_for_whom_it_throttles_says_how_long_to_wait(at_work: AtWork) -> None:
    with pytest.raises(RetryLater) as later:
        at_work.presigned(at_work.job(patient_id=f"429-{fresh()}"))
    assert later.value.throttled
    assert later.value.after_seconds == 1
