"""Slots are kept for accounts that answer, however many do not."""

from __future__ import annotations

import math
from contextlib import ExitStack

import pytest

from tasks.pipeline import slot_reserve
from tasks.pipeline.slot_reserve import SlotReserve

SLOTS, KEPT, FOR_NEW = 8, 2, 1
PROMPT = 10.0


class Clock:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(slot_reserve, "steady_seconds", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def reserve(accounts: int = 5) -> SlotReserve:
    return SlotReserve(SLOTS, accounts, lease_seconds=30)


def answer(kept: SlotReserve, account: str) -> None:
    with kept.slot(account, PROMPT) as free:
        assert free


def hold(kept: SlotReserve, stack: ExitStack, account: str, times: int) -> int:
    """Begin so many steps of an account. Returns how many got a slot."""
    return sum(stack.enter_context(kept.slot(account, PROMPT)) for _ in range(times))


def test_accounts_that_never_answered_leave_the_last_quarter_free(clock: Clock) -> None:
    kept = reserve()
    answer(kept, "healthy")
    with ExitStack() as stack:
        assert sum(hold(kept, stack, f"sick_{number}", 4) for number in range(4)) == SLOTS - KEPT
        assert hold(kept, stack, "healthy", KEPT) == KEPT


def test_accounts_that_fall_silent_leave_it_free_once_their_time_is_over(clock: Clock) -> None:
    kept = reserve()
    for account in ("healthy", "sick_1", "sick_2"):
        answer(kept, account)
    with ExitStack() as stack:
        assert hold(kept, stack, "sick_1", SLOTS - KEPT) == SLOTS - KEPT
        clock.now += PROMPT + 1
        assert hold(kept, stack, "sick_1", 1) == 0
        assert hold(kept, stack, "healthy", KEPT) == KEPT
    assert hold(kept, ExitStack(), "sick_1", 1) == 1, "with slots free it may go on, and show that it answers"


def test_an_account_that_is_slow_no_more_counts_again_after_a_lease(clock: Clock) -> None:
    kept = reserve()
    with kept.slot("clinic", PROMPT):
        clock.now += PROMPT + 1
    with ExitStack() as stack:
        hold(kept, stack, "other", SLOTS - KEPT)
        assert hold(kept, stack, "clinic", 1) == 0
    clock.now += 31
    answer(kept, "clinic")
    with ExitStack() as stack:
        hold(kept, stack, "other", SLOTS - KEPT)
        assert hold(kept, stack, "clinic", 1) == 1


def test_an_account_that_was_slow_is_no_new_one_until_it_answers(clock: Clock) -> None:
    kept = reserve()
    with kept.slot("sick", PROMPT):
        clock.now += PROMPT + 1
    clock.now += 31
    with ExitStack() as stack:
        most = hold(kept, stack, "other", SLOTS)
        assert most < SLOTS - KEPT, "a slot is left for a new one"
        assert hold(kept, stack, "sick", 1) == 0
        assert hold(kept, stack, "new", 1) == 1
    answer(kept, "sick")
    with ExitStack() as stack:
        hold(kept, stack, "other", SLOTS)
        assert hold(kept, stack, "sick", 1) == 1


def test_an_account_without_others_has_every_slot(clock: Clock) -> None:
    with ExitStack() as stack:
        assert hold(reserve(accounts=1), stack, "alone", SLOTS) == SLOTS


def test_a_single_slot_is_given_to_whoever_comes(clock: Clock) -> None:
    kept = SlotReserve(1, 5, lease_seconds=30)
    assert math.ceil(1 / 4) == 1
    with kept.slot("new", PROMPT) as free:
        assert free
