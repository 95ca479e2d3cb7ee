"""A document that waits for long has a note in waiting/ that says why, and no other has."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import redis

from config.load import load
from config.settings import Notes
from tasks.ledger import moves
from tasks.model.job import Job
from tasks.model.route import Step
from tasks.runtime import Runtime
from tests.worker.cli.jobs import Jobs
from worker.inbox.build import waiting_notes
from worker.inbox.waiting_notes import WaitingNotes

SETTINGS = """
data_dir = "{folder}/data"
secret_key = "a secret for tests"
file_roots = ["{folder}/documents"]
[redis]
url = "{url}"
[notes]
contact = "IT, extension 212"
[accounts.north_clinic]
provider = "pracsuite"
language = "nb"
base_url = "http://127.0.0.1:1/v1"
insecure = true
vendor_api_key = "v"
api_key = "a"
[accounts.south_clinic]
provider = "pracsuite"
base_url = "http://127.0.0.1:1/v1"
insecure = true
vendor_api_key = "v"
api_key = "b"
"""
NOTE = "scan.pdf - WAITING.html"


@pytest.fixture
def runtime(tmp_path: Path, valkey: redis.Redis, valkey_url: str) -> Runtime:
    (tmp_path / "documents").mkdir()
    config = tmp_path / "chartpost.toml"
    config.write_text(SETTINGS.format(folder=tmp_path, url=valkey_url))
    made = Runtime(load(config, {}))
    made.folders.create()
    return made


@pytest.fixture
def jobs(runtime: Runtime) -> Jobs:
    return Jobs(runtime)


@pytest.fixture
def notes(runtime: Runtime) -> WaitingNotes:
    return waiting_notes(runtime)


def waits_for(job: Job, jobs: Jobs, minutes: float) -> Job:
    """As if it had come in so long ago."""
    ms = int((datetime.now(UTC).timestamp() - minutes * 60) * 1000)
    jobs.ledger.redis.hset(f"chartpost:job:{job.id}", mapping={"at_received": ms, "created_at": ms})
    return jobs.get(job.id)


def overdue(jobs: Jobs, account: str = "south_clinic", name: str = "scan.pdf") -> Job:
    return waits_for(jobs.in_care(name, account), jobs, 20)


def written(runtime: Runtime) -> dict[str, str]:
    root = runtime.folders.waiting
    return {str(path.relative_to(root)): path.read_text() for path in sorted(root.rglob("*")) if path.is_file()}


def the_note(runtime: Runtime) -> str:
    (text,) = written(runtime).values()
    return text


def test_a_document_has_its_note_after_so_many_minutes(runtime: Runtime, jobs: Jobs, notes: WaitingNotes) -> None:
    waits_for(jobs.in_care(account="south_clinic"), jobs, 14)
    notes.update()
    assert written(runtime) == {}
    overdue(jobs, name="other.pdf")
    notes.update()
    assert list(written(runtime)) == ["south_clinic/4711/other.pdf - WAITING.html"]


def test_the_note_is_in_the_accounts_language_and_goes_with_the_end(
    runtime: Runtime, jobs: Jobs, notes: WaitingNotes
) -> None:
    job = overdue(jobs, "north_clinic")
    runtime.breaker.park("north_clinic", "PracSuite refused the keys (401).")
    notes.update()
    text = written(runtime)[f"north_clinic/4711/{NOTE}"]
    assert "PracSuite slipper oss ikke inn" in text
    assert "IT, extension 212" in text
    assert '<html lang="nb">' in text
    jobs.delivered(job)
    notes.update()
    assert list(runtime.folders.waiting.iterdir()) == []


def _down(runtime: Runtime, jobs: Jobs) -> None:
    overdue(jobs)
    for _ in range(5):
        runtime.breaker.unreachable("south_clinic", "no answer")


def _throttled(runtime: Runtime, jobs: Jobs) -> None:
    overdue(jobs)
    runtime.rate_limit.throttle(runtime.settings.accounts["south_clinic"].limit_group, 600, "PracSuite answered 429.")


def _used_up(runtime: Runtime, jobs: Jobs) -> None:
    overdue(jobs)
    runtime.rate_limit.throttle(runtime.settings.accounts["south_clinic"].limit_group, 600)


def _same_name(runtime: Runtime, jobs: Jobs) -> None:
    jobs.ledger.reserve_name(waits_for(jobs.received(account="south_clinic"), jobs, 1))
    overdue(jobs)


def _validation(runtime: Runtime, jobs: Jobs) -> None:
    jobs.stored(overdue(jobs))


def _unknown(runtime: Runtime, jobs: Jobs) -> None:
    job = jobs.presigned(overdue(jobs))
    lease = jobs.lease(job, Step.POST)
    jobs.ledger.commit(lease)
    assert jobs.ledger.apply(lease, moves.outcome_unknown(lease.job, 1.0, 1))


def _trouble(runtime: Runtime, jobs: Jobs) -> None:
    lease = jobs.lease(overdue(jobs), Step.PRESIGN)
    assert jobs.ledger.apply(lease, moves.deferred(lease, 60.0, 1, failed=True))


def _in_turn(runtime: Runtime, jobs: Jobs) -> None:
    overdue(jobs)


@pytest.mark.parametrize(
    ("arrange", "title", "how_long"),
    [
        (_down, "PracSuite does not answer", "however long it takes"),
        (_throttled, "PracSuite has asked us to slow down", "however long it takes"),
        (_used_up, "Many documents are on their way", "however long it takes"),
        (_same_name, "Another document of the same name goes first", "however long it takes"),
        (_validation, "PracSuite is still checking the document", "We go on trying until"),
        (_unknown, "We are looking whether it has arrived", "We look until"),
        (_trouble, "It did not get through yet", "We go on trying until"),
        (_in_turn, "It waits for its turn", "however long it takes"),
    ],
    ids=["down", "throttled", "used_up", "same_name", "validation", "unknown_outcome", "trouble", "in_turn"],
)
def test_the_note_says_why_and_until_when(
    runtime: Runtime,
    jobs: Jobs,
    notes: WaitingNotes,
    arrange: Callable[[Runtime, Jobs], None],
    title: str,
    how_long: str,
) -> None:
    arrange(runtime, jobs)
    notes.update()
    assert f"<h1>{title}</h1>" in the_note(runtime)
    assert how_long in the_note(runtime)


def test_a_document_of_an_account_that_has_left_the_settings_has_its_note(runtime: Runtime, jobs: Jobs) -> None:
    overdue(jobs)
    settings = runtime.settings.model_copy(update={"accounts": {}})
    runtime.settings = settings
    waiting_notes(runtime).update()
    assert "The clinic is not set up any more" in the_note(runtime)


def test_where_no_worker_runs_the_note_says_so(runtime: Runtime, jobs: Jobs, notes: WaitingNotes) -> None:
    job = overdue(jobs)
    name = runtime.machine.name()
    assert name is not None
    runtime.ledger.bind(job.id, name)
    notes.update()
    assert "The program that sends is not running" in the_note(runtime)


def test_a_document_that_is_tried_again_waits_from_then_on(runtime: Runtime, jobs: Jobs, notes: WaitingNotes) -> None:
    job = jobs.failed(overdue(jobs))
    claimed = runtime.claims.reopen_failed(job.id, job.account, "4711")
    assert runtime.ledger.take_over(job, moves.retry(job, claimed.job_file.document_at(claimed.path))) == "ok"
    notes.update()
    assert written(runtime) == {}


def test_a_note_left_by_a_kill_goes_and_a_missing_one_comes(runtime: Runtime, jobs: Jobs, notes: WaitingNotes) -> None:
    ended, waiting = overdue(jobs, name="ended.pdf"), overdue(jobs, name="waiting.pdf")
    notes.update()
    folder = runtime.folders.waiting / "south_clinic" / "4711"
    (folder / f".chartpost-{ended.id}").write_bytes(b"half a note")
    (folder / "waiting.pdf - WAITING.html").unlink()
    jobs.failed(ended)
    waiting_notes(runtime).update()  # of the next process
    assert [path.name for path in folder.iterdir()] == ["waiting.pdf - WAITING.html"]
    jobs.failed(waiting)
    waiting_notes(runtime).update()
    assert list(runtime.folders.waiting.iterdir()) == []


def test_what_others_put_there_is_left_alone(runtime: Runtime, jobs: Jobs, notes: WaitingNotes) -> None:
    job = overdue(jobs)
    notes.update()
    folder = runtime.folders.waiting / "south_clinic" / "4711"
    (folder / "mine.pdf").write_bytes(b"a document, in the wrong place")
    (folder / "mine.pdf - WAITING.html").write_bytes(b"<p>no note</p>")
    edited = (folder / NOTE).read_bytes() + b"Anna has called."
    (folder / NOTE).write_bytes(edited)
    jobs.failed(job)
    for each in (notes, waiting_notes(runtime)):
        each.update()
    assert {path.name for path in folder.iterdir()} == {"mine.pdf", "mine.pdf - WAITING.html", NOTE}
    assert (folder / NOTE).read_bytes() == edited
    assert list(runtime.folders.processing.iterdir()) == []


def test_two_documents_of_one_name_have_a_note_each(runtime: Runtime, jobs: Jobs, notes: WaitingNotes) -> None:
    first, second = overdue(jobs), overdue(jobs)
    notes.update()
    notes.update()
    assert len(written(runtime)) == 2
    assert {first.id[:8], second.id[:8]} == {text.split("For IT: ")[1][:8] for text in written(runtime).values()}
    jobs.failed(first)
    notes.update()
    assert second.id[:8] in the_note(runtime)


def test_switched_off_there_are_none_and_those_before_go(runtime: Runtime, jobs: Jobs, notes: WaitingNotes) -> None:
    overdue(jobs)
    notes.update()
    runtime.settings = runtime.settings.model_copy(update={"notes": Notes(enabled=False)})
    waiting_notes(runtime).update()
    assert written(runtime) == {}


def test_a_document_of_a_caller_has_none(runtime: Runtime, jobs: Jobs, notes: WaitingNotes) -> None:
    waits_for(jobs.received(account="south_clinic"), jobs, 20)
    notes.update()
    assert written(runtime) == {}


def test_a_link_in_place_of_a_folder_is_not_followed_and_the_others_have_their_notes(
    runtime: Runtime, jobs: Jobs, notes: WaitingNotes, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (runtime.folders.waiting / "north_clinic").symlink_to(outside)
    overdue(jobs, "north_clinic")
    overdue(jobs, "south_clinic")
    notes.run()
    assert list(outside.iterdir()) == []
    assert (runtime.folders.waiting / "south_clinic" / "4711" / NOTE).exists()


def test_a_document_whose_job_is_not_opened_since_its_file_is_open_says_so(
    runtime: Runtime, jobs: Jobs, notes: WaitingNotes
) -> None:
    job = jobs.in_care(account="south_clinic")
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    runtime.folders.change_job_file(job.id, lambda told: replace(told, received_at=long_ago))
    jobs.leave_redis(job)
    notes.update()
    assert written(runtime) == {}
    document = runtime.folders.document(job.id)
    assert document
    with document.open("ab"):
        notes.update()
        assert "The file is still being written" in the_note(runtime)


def test_where_nothing_waits_redis_is_not_asked(
    runtime: Runtime, notes: WaitingNotes, monkeypatch: pytest.MonkeyPatch
) -> None:
    notes.update()
    monkeypatch.setattr(redis.Redis, "execute_command", lambda *_, **__: pytest.fail("Redis was asked"))
    monkeypatch.setattr(os, "fwalk", lambda *_, **__: pytest.fail("the folders were walked"))
    notes.update()
