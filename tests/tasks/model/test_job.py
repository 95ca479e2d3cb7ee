"""What a job says of an outcome that nobody saw."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tasks.ledger.lease import Lease
from tasks.model.document import Label, LabelCoding, Relabeling
from tasks.model.errors import Code
from tasks.model.job import Failure, Job, Since, Uncertainty
from tasks.model.route import Stage, Step
from tests.tasks.providers.doubles import job

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("uncertainty", "perhaps_sent"),
    [
        (Uncertainty(), False),
        (Uncertainty(committed=True), True),
        (Uncertainty(earlier_sending_unknown=True), True),
        (Uncertainty(was_unknown=True, reconciled=True, redis_run="a run"), False),
    ],
)
def test_a_document_may_have_arrived_once_a_try_has_passed_its_commit_point(
    uncertainty: Uncertainty, perhaps_sent: bool
) -> None:
    sent = replace(job(), uncertainty=uncertainty)
    assert (sent.uncertainty.perhaps_sent, sent.may_have_arrived) == (perhaps_sent, perhaps_sent)


def test_a_label_of_one_coding_is_written_as_earlier_versions_have_fingerprinted_it() -> None:
    assert repr(Label("a", "b")) == "Label(system='a', code='b', display=None)"
    assert repr(Label("a", "b", "c", (LabelCoding("d", "e"),))) != repr(Label("a", "b", "c"))


def test_labels_that_may_have_been_set_are_simply_set_again() -> None:
    labels = replace(job().document, relabeling=Relabeling("d", ()))
    assert not replace(job(), document=labels, uncertainty=Uncertainty(committed=True)).may_have_arrived


def test_an_outcome_is_unknown_as_long_as_the_step_is_noted_that_may_have_sent_it() -> None:
    assert Uncertainty(unknown_step=Step.POST).outcome_unknown
    assert not Uncertainty(committed=True, was_unknown=True).outcome_unknown


def test_a_search_has_settled_the_commit_that_it_was_for_and_no_later_one() -> None:
    assert Uncertainty(reconciled=True, reconciled_commit_at=NOW).has_reconciled(NOW)
    assert not Uncertainty(reconciled=True, reconciled_commit_at=NOW).has_reconciled(NOW + timedelta(seconds=1))
    assert not Uncertainty(reconciled_commit_at=NOW).has_reconciled(NOW)
    assert Uncertainty(reconciled=True).has_reconciled(None)


def failed(code: Code, uncertainty: Uncertainty, stage: Stage = Stage.FAILED) -> Job:
    return replace(job(), stage=stage, failure=Failure(code, "A sentence."), uncertainty=uncertainty)


@pytest.mark.parametrize(
    ("ended", "outcome_open", "still_reconciling"),
    [
        (failed(Code.NOT_CONFIRMED, Uncertainty(unknown_since=NOW)), True, True),
        (failed(Code.OUTCOME_UNKNOWN, Uncertainty(unknown_since=NOW)), True, True),
        (failed(Code.OUTCOME_UNKNOWN, Uncertainty(unknown_since=NOW, needs_person=True)), True, False),
        # The slow search has ended.
        (failed(Code.NOT_CONFIRMED, Uncertainty()), False, False),
        (failed(Code.FILE_EMPTY, Uncertainty(unknown_since=NOW)), False, False),
        (failed(Code.NOT_CONFIRMED, Uncertainty(unknown_since=NOW), Stage.CANCELLED), False, False),
    ],
)
def test_a_failed_job_is_open_until_the_question_is_answered(
    ended: Job, outcome_open: bool, still_reconciling: bool
) -> None:
    assert (ended.outcome_open, ended.still_reconciling) == (outcome_open, still_reconciling)


def test_the_time_in_a_stage_is_by_the_ledgers_clock_and_none_where_it_is_not_known() -> None:
    waits = replace(job(), since=Since(stage=NOW - timedelta(minutes=5)))
    assert Lease(waits, "1", NOW).in_stage == timedelta(minutes=5)
    assert Lease(replace(waits, since=Since()), "1", NOW).in_stage == timedelta()
