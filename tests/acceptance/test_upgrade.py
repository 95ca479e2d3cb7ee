"""What an earlier version had under way is read, continued and delivered by this one, each document once."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.ledger.keys import PREFIX
from tasks.model.route import Stage
from tasks.sources.files import identity_of
from tests.harness.earlier import VERSIONS, Sample, sample
from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until

UNDER_WAY = ("received", "blocked", "committed", "unknown", "sent_again")


@pytest.fixture
def north(tmp_path: Path, valkey_url: str) -> Iterator[Installation]:
    """With charts of its own: what another test has delivered under these names would be found there."""
    with (
        SandboxProcess("--providers", "pracsuite", validation_seconds=0.2) as world,
        installed(tmp_path / "clinic", world, valkey_url) as started,
    ):
        yield started


@pytest.fixture(params=VERSIONS)
def earlier(request: pytest.FixtureRequest) -> Sample:
    return sample(request.param)


def restore_folders(clinic: Installation, earlier: Sample, *jobs: str) -> None:
    """What lies in processing/, on a disk whose files have other numbers."""
    for name in jobs:
        folder = f"processing/{earlier.jobs[name]}"
        earlier.restore_files(clinic.data, folder)
        job_json, document = clinic.data / folder / "job.json", clinic.data / folder / f"{name}.pdf"
        content = earlier.job_file(name)
        if content.get("sent_identity"):
            content["sent_identity"] = identity_of(document.stat())
        job_json.write_text(json.dumps(content))


def restore(clinic: Installation, earlier: Sample, *jobs: str) -> None:
    """The same, and Redis."""
    earlier.restore_redis(clinic.redis, *jobs)
    restore_folders(clinic, earlier, *jobs)
    ledger = clinic.process.ledger
    for name in jobs:
        job = ledger.get(earlier.jobs[name])
        assert job is not None
        path = clinic.data / "processing" / job.id / f"{name}.pdf"
        document = replace(job.document, source=path.as_uri(), identity=identity_of(path.stat()))
        sealed = ledger.codec.seal_document(job.id, document)
        clinic.redis.hset(f"{PREFIX}job:{job.id}", "document", sealed)


def are_delivered_once(clinic: Installation, earlier: Sample, *jobs: str) -> None:
    ids = {earlier.jobs[name] for name in jobs}
    wait_until(lambda: {receipt["job_id"] for receipt in clinic.receipts()} == ids, "all are delivered")
    assert sorted(record["file_name"] for record in clinic.chart()) == sorted(f"{name}.pdf" for name in jobs)
    assert all(clinic.stage(job_id) == Stage.DELIVERED for job_id in ids)
    assert not list((clinic.data / "processing").glob("*/*.pdf"))


def test_after_an_upgrade_each_document_is_delivered_once(north: Installation, earlier: Sample) -> None:
    """Those of unknown outcome are searched for before they are sent again."""
    restore(north, earlier, *UNDER_WAY)
    north.start("worker", "watch")
    worker = north.start_worker()
    are_delivered_once(north, earlier, *UNDER_WAY)
    for name in ("committed", "unknown"):
        assert f'"job": "{earlier.jobs[name]}"' in "".join(
            line for line in worker.log.splitlines() if "job_sent_again" in line
        )


def test_after_an_upgrade_and_a_wipe_each_document_is_delivered_once(north: Installation, earlier: Sample) -> None:
    restore_folders(north, earlier, *UNDER_WAY)
    north.start("worker", "watch")
    north.start_worker()
    are_delivered_once(north, earlier, *UNDER_WAY)


def test_after_an_upgrade_a_person_can_send_again_what_an_earlier_version_has_held(
    north: Installation, earlier: Sample
) -> None:
    earlier.restore_redis(north.redis, "held")
    earlier.restore_files(north.data, "failed/north_clinic/4711/held")
    north.start("worker", "watch")
    north.start_worker()
    retried = north.command("retry", earlier.jobs["held"], "--send-again")
    assert retried.returncode == 0, retried.stdout + retried.stderr
    are_delivered_once(north, earlier, "held")
