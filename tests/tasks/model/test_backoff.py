"""Delays grow, stay under their cap, and spread."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.model.backoff import delay, poll_delay


def least() -> float:
    return 0.0


def most() -> float:
    return 1.0


def test_the_delay_doubles_with_every_failure_up_to_the_cap() -> None:
    assert [delay(failures, 2, 30, most) for failures in range(1, 7)] == [2, 4, 8, 16, 30, 30]


def test_full_jitter_reaches_down_to_nothing() -> None:
    assert delay(5, 2, 300, least) == 0
    assert delay(5, 2, 300, lambda: 0.5) == 16


def test_polls_come_after_first_and_then_ever_more_slowly_give_or_take_a_fifth() -> None:
    assert [poll_delay(polls, 2, 60, lambda: 0.5) for polls in range(7)] == [2, 4, 8, 16, 32, 60, 60]
    assert poll_delay(9, 2, 60, least) == pytest.approx(48)
    assert poll_delay(9, 2, 60, most) == pytest.approx(72)


@given(st.integers(-10, 10**6), st.floats(0.001, 1e6), st.floats(0.001, 1e6), st.floats(0, 1, exclude_max=True))
def test_no_count_of_failures_leads_outside_the_cap(failures: int, first: float, cap: float, chance: float) -> None:
    assert 0 <= delay(failures, first, cap, lambda: chance) <= cap
    assert 0 < poll_delay(failures, first, cap, lambda: chance) <= cap * 1.2
