"""A process that was told to end has a deadline for it."""

from __future__ import annotations

import threading

from tests.harness.waiting import PATIENCE_SECONDS
from worker.reload.stop_deadline import EXIT_CODE, StopDeadline


class Ended:
    def __init__(self) -> None:
        self.codes: list[int] = []
        self.event = threading.Event()

    def __call__(self, code: int) -> None:
        self.codes.append(code)
        self.event.set()


def test_it_ends_when_its_time_is_over() -> None:
    ended = Ended()
    StopDeadline(0.01, end=ended).begin()
    assert ended.event.wait(PATIENCE_SECONDS)
    assert ended.codes == [EXIT_CODE]


def test_a_second_signal_hastens_it() -> None:
    ended = Ended()
    deadline = StopDeadline(100 * PATIENCE_SECONDS, end=ended)
    deadline.begin()
    assert not ended.event.is_set()
    deadline.begin()
    assert ended.event.wait(PATIENCE_SECONDS)
    assert ended.codes == [EXIT_CODE]
