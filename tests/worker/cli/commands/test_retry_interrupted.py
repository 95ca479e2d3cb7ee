"""A failed document is in our care again, and a kill or an outage comes before its job goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tasks.closing.files import DocumentFiles
from tasks.folders.claims import ClaimedDocument
from tasks.ledger import moves
from tasks.model.document import Document, Door
from tasks.model.errors import Code
from tasks.model.job import Failure, Job, Statement
from tasks.model.route import Stage, Step
from tasks.runtime import Runtime
from tests.worker.cli.conftest import CommandLine
from tests.worker.cli.jobs import CONTENT, Jobs
from worker.cli.commands.retry.command import retries_of
from worker.cli.commands.retry.failed_documents import FailedDocuments, NotRetried
from worker.cli.commands.retry.retries import Retries
from worker.cli.commands.retry.targets import Target
from worker.cli.commands.send import Sender
from worker.inbox.build import inbox_claims, job_opener
from worker.inbox.claim import InboxClaims
from worker.inbox.opening import JobOpener, LedgerAway
from worker.inbox.scan import scan

SEARCH_FIRST = (Stage.PRESIGNED, Step.CONFIRM, True)
FROM_THE_START = (Stage.RECEIVED, Step.PRESIGN, False)
FILES_CLOSED = moves.ClosingDone(frozenset({"files"}))


def searched_slowly(jobs: Jobs, job: Job) -> Job:
    """Failed as not_confirmed, and closed; its record is still searched for."""
    jobs.stored(job)
    failure = Failure(Code.NOT_CONFIRMED, "No record came in time.", "Look into the chart.")
    jobs.ledger.apply(jobs.lease(job, Step.CONFIRM), moves.failed(failure, calls=1, keep_name=True))
    return closed(jobs, job, lambda job: moves.search_slowly(job, 3600.0, FILES_CLOSED))


def held_for_a_person(jobs: Jobs, job: Job) -> Job:
    jobs.stored(job)
    failure = Failure(Code.OUTCOME_UNKNOWN, "The answer was lost.", "Look into the chart.")
    jobs.ledger.apply(jobs.lease(job, Step.CONFIRM), moves.hold_for_person(failure, calls=1))
    return closed(jobs, job, lambda job: moves.finished(job, FILES_CLOSED))


def dismissed_while_searched_for(jobs: Jobs, job: Job) -> Job:
    job = searched_slowly(jobs, job)
    assert jobs.ledger.take_over(job, moves.dismissed(Statement("Erika", job.created_at))) == "ok"
    return jobs.get(job.id)


def cancelled(jobs: Jobs, job: Job) -> Job:
    assert jobs.ledger.take_over(job, moves.cancel(job)) == "ok"
    return closed(jobs, job, lambda job: moves.finished(job, FILES_CLOSED))


def cancelled_with_a_callback_left(jobs: Jobs, job: Job) -> Job:
    assert jobs.ledger.take_over(job, moves.cancel(job)) == "ok"
    return closed(jobs, job, lambda _: moves.callback_is_left(FILES_CLOSED))


def closed(jobs: Jobs, job: Job, last: Callable[[Job], moves.Move]) -> Job:
    lease = jobs.lease(job, Step.NOTIFY)
    DocumentFiles(jobs.runtime.folders, jobs.runtime.outcomes, jobs.runtime.staging).close(lease.job)
    jobs.ledger.apply(lease, last(lease.job))
    return jobs.get(job.id)


EACH_FAILED = pytest.mark.parametrize(
    ("end", "expected"),
    [
        pytest.param(searched_slowly, SEARCH_FIRST, id="searched-slowly"),
        pytest.param(held_for_a_person, SEARCH_FIRST, id="held"),
        pytest.param(dismissed_while_searched_for, SEARCH_FIRST, id="dismissed"),
        pytest.param(cancelled, FROM_THE_START, id="cancelled"),
        pytest.param(cancelled_with_a_callback_left, FROM_THE_START, id="callback-left"),
    ],
)


def reopened(jobs: Jobs, job: Job) -> ClaimedDocument:
    """As `chartpost retry` leaves it that is killed before the job goes on."""
    return jobs.runtime.claims.reopen_failed(job.id, job.account, job.document.patient_id)


def sweep(runtime: Runtime) -> list[str]:
    """What the watcher does with the orphans; returns their ids."""
    claims, found = inbox_claims(runtime), []
    for orphan in claims.orphans():
        assert isinstance(orphan, ClaimedDocument)
        claims.settle_orphan(orphan)
        found.append(orphan.job_id)
    return found


def state(jobs: Jobs, job: Job) -> tuple[Stage, Step, bool]:
    now = jobs.get(job.id)
    return now.stage, now.step, now.uncertainty.committed


def assert_goes_on(jobs: Jobs, job: Job, expected: tuple[Stage, Step, bool]) -> None:
    now, path = jobs.get(job.id), jobs.runtime.folders.document(job.id)
    assert state(jobs, job) == expected
    assert path is not None
    assert (now.document.source, now.document.round) == (path.as_uri(), job.document.round + 1)
    assert jobs.ledger.redis.zscore(f"chartpost:due:{job.account}@{now.document.home}", job.id) is not None
    assert sweep(jobs.runtime) == []


@EACH_FAILED
def test_the_watcher_continues_it_whatever_step_its_job_has(
    jobs: Jobs, end: Callable[[Jobs, Job], Job], expected: tuple[Stage, Step, bool]
) -> None:
    job = end(jobs, jobs.in_care())
    assert sweep(jobs.runtime) == []  # while it lies in failed/
    reopened(jobs, job)
    assert sweep(jobs.runtime) == [job.id]
    assert_goes_on(jobs, job, expected)


@EACH_FAILED
def test_the_command_repeated_continues_it(
    chartpost: CommandLine, jobs: Jobs, end: Callable[[Jobs, Job], Job], expected: tuple[Stage, Step, bool]
) -> None:
    job = end(jobs, jobs.in_care())
    reopened(jobs, job)
    (row,) = chartpost.rows("retry", job.id, "--dry-run")
    assert row["outcome"].startswith("would be")
    chartpost.rows("retry", job.id)
    jobs.ledger.bind(job.id, str(jobs.runtime.machine.name() or ""))
    assert_goes_on(jobs, job, expected)


def test_the_command_repeated_to_send_at_once_does_so(chartpost: CommandLine, jobs: Jobs) -> None:
    job = searched_slowly(jobs, jobs.in_care())
    reopened(jobs, job)
    chartpost.rows("retry", job.id, "--send-again")
    assert state(jobs, job) == FROM_THE_START
    assert not jobs.runtime.commit_log.committed_on_disk(jobs.get(job.id))


def test_a_command_that_had_forgotten_the_sending_is_continued_with_a_search(jobs: Jobs) -> None:
    """The ledger was not told yet that a person takes the risk."""
    job = searched_slowly(jobs, jobs.in_care())
    Meanwhile(jobs.runtime).forget_sending(reopened(jobs, job))
    assert sweep(jobs.runtime) == [job.id]
    assert state(jobs, job) == SEARCH_FIRST
    assert jobs.get(job.id).facts.snapshot == ("1",)


def test_a_record_that_is_found_in_between_delivers_it(chartpost: CommandLine, jobs: Jobs) -> None:
    job = searched_slowly(jobs, jobs.in_care())
    reopened(jobs, job)
    found = moves.resolve_delivered(job, None)
    assert jobs.ledger.take_over(job, found) == "ok"
    assert sweep(jobs.runtime) == []
    closed(jobs, job, lambda job: moves.finished(job, FILES_CLOSED))
    assert [path.name for path in jobs.runtime.folders.delivered.rglob("*.pdf")] == ["scan.pdf"]
    assert jobs.runtime.folders.document(job.id) is None


def test_a_delivered_document_that_came_back_by_the_inbox_is_closed(jobs: Jobs) -> None:
    """A copy of it: the other one was delivered before its job could go on."""
    job = searched_slowly(jobs, jobs.in_care())
    reopened(jobs, job)
    assert jobs.ledger.take_over(job, moves.resolve_delivered(job, None)) == "ok"
    jobs.ledger.apply(lease := jobs.lease(job, Step.NOTIFY), moves.finished(lease.job, FILES_CLOSED))
    assert sweep(jobs.runtime) == [job.id]
    assert jobs.runtime.folders.document(job.id) is None
    assert sweep(jobs.runtime) == []


def test_a_document_that_cannot_be_sent_by_now_goes_back_to_failed(jobs: Jobs) -> None:
    job = searched_slowly(jobs, jobs.in_care())
    document = reopened(jobs, job)
    jobs.runtime.folders.update_commit(job.id, stands=False)
    (document.path.parent / ".chartpost-sidecar").write_text("{")
    assert sweep(jobs.runtime) == [job.id]
    assert [path.name for path in jobs.runtime.folders.failed.rglob("*.pdf")] == ["scan.pdf"]
    assert (jobs.get(job.id).stage, jobs.get(job.id).step) == (Stage.FAILED, Step.CONFIRM)
    assert sweep(jobs.runtime) == []


# --- by the inbox ------------------------------------------------------------------------------------------------


class Away(JobOpener):
    """Redis goes away once a document has been claimed."""

    def open(self, *_: object, **__: object) -> None:
        raise LedgerAway


def away(runtime: Runtime) -> Away:
    return Away(
        ledger=runtime.ledger,
        accounts=runtime.accounts,
        admission=runtime.admission,
        documents=runtime.documents,
        staging=None,
        folders=runtime.folders,
        files=runtime.document_files(),
        data_dir=runtime.settings.data_dir,
    )


def put_back(jobs: Jobs, error_file: bool) -> None:
    folders = jobs.runtime.folders
    place = folders.inbox / "north_clinic" / "4711" / "scan.pdf"
    place.parent.mkdir(parents=True, exist_ok=True)
    found = next(folders.failed.rglob("scan.pdf"), None)
    if found is None:
        place.write_bytes(CONTENT)
        return
    found.rename(place)
    if not error_file:
        for note in folders.failed.rglob("scan.pdf*"):
            note.unlink()


def claim_and_lose_redis(jobs: Jobs) -> None:
    runtime = jobs.runtime
    runtime.folders.create()
    (candidate,) = scan(runtime.folders.inbox, runtime.settings.accounts, ()).candidates.values()
    with pytest.raises(LedgerAway):
        InboxClaims(runtime.folders, runtime.claims, away(runtime), writers=runtime.writers).claim(candidate)


@pytest.mark.parametrize(
    ("ours", "error_file"),
    [
        pytest.param(True, True, id="from-failed"),
        pytest.param(True, False, id="without-its-error-file"),
        pytest.param(False, False, id="a-callers-document"),
    ],
)
def test_an_outage_after_it_was_taken_from_the_inbox_does_not_lose_the_wish(
    jobs: Jobs, ours: bool, error_file: bool
) -> None:
    job = searched_slowly(jobs, jobs.in_care() if ours else jobs.received())
    put_back(jobs, error_file)
    claim_and_lose_redis(jobs)
    assert jobs.get(job.id).stage is Stage.FAILED
    assert sweep(jobs.runtime) == [job.id]
    assert_goes_on(jobs, job, SEARCH_FIRST)
    # If Redis is wiped now, it is searched for all the same.
    job_file = jobs.runtime.folders.read_job_file(job.id)
    assert (job_file.committed, job_file.commit.snapshot) == (True, ("1",))


def test_a_document_sent_again_from_a_shell_goes_on_too(jobs: Jobs) -> None:
    job = searched_slowly(jobs, jobs.received())
    path = jobs.runtime.settings.file_roots[0].path / "scan.pdf"
    document = replace(job.document, source="", door=Door.SEND)
    opener = away(jobs.runtime)
    claims = InboxClaims(jobs.runtime.folders, jobs.runtime.claims, opener, writers=jobs.runtime.writers)
    sender = Sender(jobs.ledger, jobs.runtime.folders, jobs.runtime.claims, opener, claims, jobs.runtime.writers)
    with pytest.raises(LedgerAway):
        sender.take_in(path, document)
    assert sweep(jobs.runtime) == [job.id]
    assert_goes_on(jobs, job, SEARCH_FIRST)


# --- beside a living command -------------------------------------------------------------------------------------


class Meanwhile(FailedDocuments):
    """Something happens between the file's return and the job's."""

    def __init__(self, runtime: Runtime, act: Callable[[], object] = lambda: None) -> None:
        super().__init__(
            folders=runtime.folders,
            claims=runtime.claims,
            outcomes=runtime.outcomes,
            staging=None,
            opener=job_opener(runtime),
            inbox_claims=inbox_claims(runtime),
        )
        self._act = act

    def locate(self, document: ClaimedDocument) -> Document:
        located = super().locate(document)
        self._act()
        return located


def retries_with(runtime: Runtime, failed_documents: FailedDocuments) -> Retries:
    claims = inbox_claims(runtime)
    return Retries(
        runtime.ledger, runtime.accounts, runtime.producers, runtime.documents, failed_documents, claims, 1.0
    )


@pytest.mark.parametrize("send_again", [pytest.param(False, id="search"), pytest.param(True, id="at-once")])
def test_a_rescan_beside_the_command_moves_the_job_once(jobs: Jobs, send_again: bool) -> None:
    """The one that comes first counts. With `--send-again` that may be the rescan, which searches first."""
    job = searched_slowly(jobs, jobs.in_care())
    tokens: list[str | None] = []

    def act() -> None:
        assert sweep(jobs.runtime) == [job.id]
        tokens.append(jobs.ledger.redis.hget(f"chartpost:job:{job.id}", "token"))  # type: ignore[arg-type]

    retries = retries_with(jobs.runtime, Meanwhile(jobs.runtime, act))
    retries.carry_out(retries.plan(Target(job.id, job), send_again=send_again))
    assert_goes_on(jobs, job, SEARCH_FIRST)
    assert tokens == [jobs.ledger.redis.hget(f"chartpost:job:{job.id}", "token")]


def test_a_later_commit_is_not_forgotten_by_a_command_that_comes_late(jobs: Jobs) -> None:
    job = searched_slowly(jobs, jobs.in_care())
    document = reopened(jobs, job)
    assert sweep(jobs.runtime) == [job.id]
    now = jobs.get(job.id)
    jobs.runtime.commit_log.note_commit(now, now.facts)  # by a worker
    Meanwhile(jobs.runtime).forget_sending(document)
    assert jobs.runtime.folders.read_job_file(job.id).committed


def test_a_job_that_goes_on_already_is_not_begun_a_second_time(jobs: Jobs) -> None:
    """A second command, which has read the job before the first one was done."""
    job = searched_slowly(jobs, jobs.in_care())
    reopened(jobs, job)
    retries = retries_of(jobs.runtime)
    late = retries.plan(Target(job.id, job), send_again=True)
    assert sweep(jobs.runtime) == [job.id]
    with pytest.raises(NotRetried, match="not in failed/"):
        retries.carry_out(late)
    assert state(jobs, job) == SEARCH_FIRST
    assert jobs.runtime.folders.read_job_file(job.id).committed


def test_another_file_of_that_name_in_failed_stays_there(jobs: Jobs, chartpost: CommandLine) -> None:
    job = searched_slowly(jobs, jobs.in_care())
    reopened(jobs, job)
    theirs: Path = jobs.runtime.folders.failed / "north_clinic" / "4711" / "scan.pdf"
    theirs.parent.mkdir(parents=True, exist_ok=True)
    theirs.write_bytes(b"another document")
    chartpost.rows("retry", job.id)
    assert theirs.read_bytes() == b"another document"
    assert state(jobs, job) == SEARCH_FIRST
