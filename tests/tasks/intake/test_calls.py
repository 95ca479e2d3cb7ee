"""A call is opened or refused, and outlives a Redis that is away."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any, cast

import pytest
import redis

from tasks.closing.results import Results
from tasks.intake.calls import CallIntake
from tasks.ledger.identity import LedgerRefused
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.model.job_id import is_uuid

TASK = "7f0c2a51-63de-4a7c-9d1b-2f6a8e5c4b30"


class Shown:
    """The refusals that callers are shown, as `Results` stores them."""

    def __init__(self) -> None:
        self.refusals: list[tuple[str, Code, str]] = []

    def refuse_call(self, task_id: str, code: Code, message: str) -> bool:
        self.refusals.append((task_id, code, message))
        return True


class Stopping(threading.Event):
    """Never waits; is set after so many waits."""

    def __init__(self, after_waits: int) -> None:
        super().__init__()
        self._waits_left = after_waits

    def wait(self, timeout: float | None = None) -> bool:
        self._waits_left -= 1
        return self._waits_left < 0


@pytest.fixture
def shown() -> Shown:
    return Shown()


def intake(shown: Shown, after_waits: int = 0) -> CallIntake:
    return CallIntake(cast(Results, shown), Stopping(after_waits))


def raising(*errors: Exception) -> tuple[list[str], Callable[[str, Mapping[str, Any]], None]]:
    """What opens a call: raises these errors one after the other, then opens it. And the ids that were opened."""
    left, opened = list(errors), []

    def open_job(job_id: str, fields: Mapping[str, Any]) -> None:
        if left:
            raise left.pop(0)
        opened.append(job_id)

    return opened, open_job


def test_a_call_is_opened_under_its_task_id(shown: Shown) -> None:
    opened, open_job = raising()
    intake(shown).take(TASK, (), {"account": "north"}, open_job)
    assert (opened, shown.refusals) == ([TASK], [])


@pytest.mark.parametrize(("task_id", "args"), [("not-a-uuid", ()), ("{" + TASK + "}", ()), (TASK, ("north",))])
def test_positional_fields_and_other_ids_are_refused_under_that_id(
    shown: Shown, task_id: str, args: tuple[Any, ...]
) -> None:
    opened, open_job = raising()
    intake(shown).take(task_id, args, {}, open_job)
    assert opened == []
    assert [(task, code) for task, code, _ in shown.refusals] == [(task_id, Code.INVALID_REQUEST)]


def test_a_refusal_is_the_result_with_its_code_and_message(shown: Shown) -> None:
    _, open_job = raising(DocumentRefused(Code.UNKNOWN_ACCOUNT, "No such account."))
    intake(shown).take(TASK, (), {}, open_job)
    assert shown.refusals == [(TASK, Code.UNKNOWN_ACCOUNT, "No such account.")]


def test_a_crash_is_a_refusal_without_its_words(shown: Shown) -> None:
    _, open_job = raising(ValueError("Meier 4711"))
    intake(shown).take(TASK, (), {}, open_job)
    [(_, code, message)] = shown.refusals
    assert code is Code.INVALID_REQUEST
    assert "Meier" not in message


def test_a_call_waits_while_redis_is_away(shown: Shown) -> None:
    opened, open_job = raising(redis.ConnectionError(), redis.exceptions.ReadOnlyError())
    intake(shown, after_waits=2).take(TASK, (), {}, open_job)
    assert (opened, shown.refusals) == ([TASK], [])


@pytest.mark.parametrize("error", [redis.ConnectionError(), redis.ResponseError(), RetryLater("Later.")])
def test_what_cannot_be_opened_now_is_handed_back_to_celery(shown: Shown, error: Exception) -> None:
    opened, open_job = raising(error)
    with pytest.raises(type(error)):
        intake(shown, after_waits=0).take(TASK, (), {}, open_job)
    assert (opened, shown.refusals) == ([], [])


def test_only_the_plain_form_of_a_uuid_is_a_job_id() -> None:
    assert is_uuid(TASK)
    assert is_uuid(TASK.upper())
    assert not is_uuid(TASK.replace("-", ""))
    assert not is_uuid("urn:uuid:" + TASK)


def test_a_call_goes_back_to_the_queue_while_redis_belongs_to_another_installation(shown: Shown) -> None:
    opened, open_job = raising(LedgerRefused("another key"))
    with pytest.raises(LedgerRefused):
        intake(shown).take(TASK, (), {}, open_job)
    assert (opened, shown.refusals) == ([], [])
