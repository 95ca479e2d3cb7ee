"""Every move does what its row in the table of transitions says, and touches only fields that a row has."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path

import pytest

from tasks.ledger import moves
from tasks.ledger.codec import ROW_FIELDS
from tasks.ledger.lease import Lease
from tasks.ledger.moves import TRANSITIONS, Move
from tasks.model.document import Document, Door
from tasks.model.errors import Code
from tasks.model.job import Facts, Failure, Job, Record, Statement, Uncertainty
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step

NOW = datetime(2026, 1, 2, tzinfo=UTC)
DOCUMENT = Document(
    account="north", patient_id="4711", source="file:///a.pdf", file_name="a.pdf", size_bytes=1, door=Door.CELERY
)
JOB = Job(
    id="j",
    provider="pracsuite",
    stage=Stage.RECEIVED,
    step=Step.PRESIGN,
    document=DOCUMENT,
    facts=Facts(),
    created_at=NOW,
    updated_at=NOW,
)
LEASE = Lease(JOB, "1", NOW)
FAILURE = Failure(Code.GAVE_UP, "Too long.")
RECORD = Record("9")
DONE = moves.ClosingDone(frozenset({"files", "source"}), {"job": "j"}, Facts())
RESENDING = Route(on_unknown_outcome=OnUnknownOutcome.RESEND)

MADE: dict[str, list[Callable[[], Move]]] = {
    "presigned": [lambda: moves.presigned(Facts(record=RECORD), "run", 1)],
    "committed": [moves.committed, lambda: moves.committed(Facts())],
    "uncommitted": [moves.uncommitted],
    "stored": [
        lambda: moves.stored(Facts(), Step.REGISTER, 2.0, 1),
        lambda: moves.stored(Facts(), Step.CONFIRM, 2.0, 1),
    ],
    "registered": [lambda: moves.registered(Facts(record=RECORD), 2.0, 1)],
    "delivered": [lambda: moves.delivered(JOB, RECORD, 1, "5" * 64, passed=Stage.REGISTERED)],
    "duplicate": [lambda: moves.duplicate(JOB, replace(JOB, facts=Facts(record=RECORD)), 1)],
    "failed": [lambda: moves.failed(FAILURE, 1), lambda: moves.failed(FAILURE, 1, keep_name=True)],
    "hold_for_person": [lambda: moves.hold_for_person(FAILURE, 1, "5" * 64)],
    "deferred": [
        lambda: moves.deferred(LEASE, 1.0, 1, failed=True),
        lambda: moves.deferred(LEASE, 1.0, 1, found_nothing=True, search_for=NOW),
    ],
    "put_back": [lambda: moves.put_back(JOB, 1.0), lambda: moves.put_back(replace(JOB, step=Step.CONFIRM), 1.0)],
    "blocked": [lambda: moves.blocked(LEASE, 0.0, 1)],
    "presign_again": [lambda: moves.presign_again(0.0, 1)],
    "outcome_unknown": [lambda: moves.outcome_unknown(JOB, 1.0, 1)],
    "repeated": [lambda: moves.repeated(LEASE, 1.0, 1)],
    "send_again": [
        lambda: moves.send_again(replace(JOB, uncertainty=Uncertainty(unknown_step=Step.POST)), 1, redis_run="run"),
        lambda: moves.send_again(
            replace(JOB, uncertainty=Uncertainty(unknown_step=Step.REGISTER)), 1, RESENDING, reconciled_commit_at=NOW
        ),
    ],
    "record_found": [lambda: moves.record_found(Facts(record=RECORD), 1)],
    "commit_remembered": [
        lambda: moves.commit_remembered(JOB, Step.POST, "sealed", Route()),
        lambda: moves.commit_remembered(JOB, Step.REGISTER, "sealed", RESENDING),
    ],
    "closed": [lambda: moves.closed(DONE)],
    "callback_is_left": [lambda: moves.callback_is_left(DONE)],
    "closing_deferred": [lambda: moves.closing_deferred(1.0, "files: OSError", DONE)],
    "closing_step_given_up": [lambda: moves.closing_step_given_up("source: OSError" + moves.GIVEN_UP)],
    "finished": [lambda: moves.finished(JOB, DONE)],
    "search_slowly": [lambda: moves.search_slowly(JOB, 300.0, DONE)],
    "slow_search_ended": [lambda: moves.slow_search_ended(FAILURE, 1)],
    "cancel": [lambda: moves.cancel(JOB), lambda: moves.cancel(replace(JOB, step=Step.REGISTER))],
    "retry": [lambda: moves.retry(JOB), lambda: moves.retry(JOB, DOCUMENT, first=Step.POST)],
    "retry_reconciling": [
        lambda: moves.retry_reconciling(JOB),
        lambda: moves.retry_reconciling(JOB, DOCUMENT, first=Step.REGISTER),
    ],
    "dismissed": [lambda: moves.dismissed(Statement("Anna", NOW, "faxed"))],
    "resolve_delivered": [lambda: moves.resolve_delivered(JOB, RECORD), lambda: moves.resolve_delivered(JOB, None)],
}
CASES = [pytest.param(name, make, id=f"{name}-{n}") for name, all_of in MADE.items() for n, make in enumerate(all_of)]


def test_the_table_has_every_move_and_no_other() -> None:
    functions = {
        name
        for name, made in inspect.getmembers(moves, inspect.isfunction)
        if made.__module__ == moves.__name__ and not name.startswith("_")
    }
    assert functions == set(TRANSITIONS) == set(MADE)


@pytest.mark.parametrize(("name", "make"), CASES)
def test_a_move_does_what_its_row_says(name: str, make: Callable[[], Move]) -> None:
    move, transition = make(), TRANSITIONS[name]
    assert move.name == name
    assert set(move.allowed) <= set(transition.allowed)
    assert move.stage is None or move.stage in transition.to
    assert (move.step is not None) <= bool(transition.step)
    assert move.step is None or move.step in transition.step
    assert bool(transition.to) <= (move.stage is not None)


@pytest.mark.parametrize(("name", "make"), CASES)
def test_a_move_names_only_fields_that_a_row_has(name: str, make: Callable[[], Move]) -> None:
    move = make()
    assert {*move.fields, *move.clears, *move.adds} <= set(ROW_FIELDS), name


@pytest.mark.parametrize(("name", "make"), CASES)
def test_a_move_leaves_a_job_with_one_due_entry_or_with_no_work_left(name: str, make: Callable[[], Move]) -> None:
    """A move that keeps the lease leaves the due entry as it is. Each other one says when the job is due again."""
    move = make()
    assert [move.keeps_lease, move.message_sent, move.due_in is not None, move.no_work_left].count(True) == 1, name


def test_each_field_of_a_row_names_what_of_a_job_it_becomes() -> None:
    for name, meaning in ROW_FIELDS.items():
        for attribute in re.findall(r"`([a-z][a-z_.]*)`", meaning):
            assert attrgetter(attribute)(JOB) is not Ellipsis, name


def test_the_script_calls_what_it_changes_as_a_move_does() -> None:
    script = (Path(moves.__file__).parent / "scripts" / "move.lua").read_text()
    read = set(re.findall(r"change\.(\w+)", script))
    written_otherwise = {"due_in_ms", "kept_days", "goes_on"}
    assert written_otherwise < read
    assert read - written_otherwise <= {each.name for each in fields(Move)}


@pytest.mark.parametrize("ended", [Stage.DELIVERED, Stage.FAILED, Stage.CANCELLED])
def test_a_move_to_a_final_stage_leads_to_closing(ended: Stage) -> None:
    leading = [move for all_of in MADE.values() for move in (make() for make in all_of) if move.stage is ended]
    assert leading
    assert {move.step for move in leading} == {Step.NOTIFY}
    assert all(move.message_sent for move in leading)


def test_a_producer_is_not_told_of_anothers_job() -> None:
    """By a job's id whoever may read results reads its receipt."""
    twin = replace(JOB, facts=Facts(record=RECORD))
    others = replace(JOB, document=replace(DOCUMENT, producer="lab"))
    assert moves.duplicate(JOB, twin, 1).fields["twin_hidden"] == ""
    assert moves.duplicate(others, twin, 1).fields["twin_hidden"] == "1"
    assert moves.duplicate(others, replace(twin, document=others.document), 1).fields["twin_hidden"] == ""
