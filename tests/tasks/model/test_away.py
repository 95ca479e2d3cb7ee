"""A far side that hangs is waited for by one at a time, and by nobody for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tasks.model.away import Away
from tasks.model.errors import RetryLater


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def refused() -> Iterator[None]:
    with pytest.raises(RetryLater, match="did not answer a moment ago"):
        yield


def hang(away: Away, clock: Clock, seconds: float = 20) -> None:
    def wait() -> None:
        with away.asking("bucket", "It"):
            clock.now += seconds
            raise RetryLater("It hangs.")

    with pytest.raises(RetryLater, match="hangs"):
        wait()


def test_one_that_has_hung_is_asked_by_nobody_for_a_while_and_then_by_one() -> None:
    clock = Clock()
    away = Away(30, now=clock)
    hang(away, clock)
    with refused(), away.asking("bucket", "It"):
        pass
    with away.asking("another", "It"):
        pass
    clock.now += 31
    with away.asking("bucket", "It"), refused(), away.asking("bucket", "It"):
        pass
    with away.asking("bucket", "It"), away.asking("bucket", "It"):  # it has answered
        pass


def test_one_that_hangs_now_is_not_asked_by_more() -> None:
    clock = Clock()
    away = Away(30, now=clock)
    with away.asking("bucket", "It"), away.asking("bucket", "It"):
        clock.now += 6
        with refused(), away.asking("bucket", "It"):
            pass


def test_a_quick_refusal_is_an_answer() -> None:
    clock = Clock()
    away = Away(30, now=clock)
    hang(away, clock, seconds=0.1)
    with away.asking("bucket", "It"):
        pass
