"""A file has settled when it has not changed for long enough, by a monotonic clock."""

from __future__ import annotations

from itertools import takewhile

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from worker.inbox.settled import SettledTracker

FUZZ = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other work may slow the machine


def tracker(settle_seconds: float = 2.0) -> SettledTracker[str]:
    return SettledTracker(settle_seconds)


def test_a_file_settles_once_it_has_stayed_unchanged() -> None:
    tracked = tracker()
    assert tracked.observe({"a": 1}, now=0.0) == []
    assert tracked.observe({"a": 1}, now=1.9) == []
    assert tracked.observe({"a": 1}, now=2.0) == ["a"]
    assert tracked.observe({"a": 1}, now=3.0) == ["a"]


def test_a_file_that_was_there_at_the_start_must_stay_unchanged_too() -> None:
    assert tracker().observe({"a": 1}, now=1e9) == []


def test_a_change_restarts_the_wait() -> None:
    tracked = tracker()
    tracked.observe({"a": 1}, now=0.0)
    assert tracked.observe({"a": 2}, now=1.9) == []
    assert tracked.observe({"a": 2}, now=3.8) == []
    assert tracked.observe({"a": 2}, now=3.9) == ["a"]


def test_a_settled_file_that_changes_is_not_settled_any_more() -> None:
    tracked = tracker()
    tracked.observe({"a": 1}, now=0.0)
    assert tracked.observe({"a": 1}, now=5.0) == ["a"]
    assert tracked.observe({"a": 2}, now=6.0) == []


def test_a_file_that_vanished_and_came_back_starts_over() -> None:
    tracked = tracker()
    tracked.observe({"a": 1}, now=0.0)
    tracked.observe({}, now=1.0)
    assert tracked.observe({"a": 1}, now=2.5) == []


def test_it_says_when_the_next_file_may_settle() -> None:
    tracked = tracker()
    assert tracked.next_at is None
    tracked.observe({"a": 1}, now=0.0)
    tracked.observe({"a": 1, "b": 1}, now=1.5)
    assert tracked.next_at == 2.0
    tracked.observe({"a": 1, "b": 1}, now=2.0)
    assert tracked.next_at == 3.5
    tracked.observe({"a": 1, "b": 1}, now=3.5)
    assert tracked.next_at is None


def test_without_a_wait_a_file_has_settled_at_once() -> None:
    assert tracker(0.0).observe({"a": 1}, now=0.0) == ["a"]


def unchanged_since(name: str, seen: list[tuple[float, dict[str, int]]]) -> float:
    """When the file was first seen as it was seen last, without a break since."""
    last = seen[-1][1][name]
    return list(takewhile(lambda observed: observed[1].get(name) == last, reversed(seen)))[-1][0]


@FUZZ
@given(
    st.lists(
        st.tuples(st.sampled_from([0.0, 0.5, 1.0, 3.0]), st.dictionaries(st.sampled_from("abc"), st.integers(0, 2)))
    )
)
def test_what_settles_was_seen_unchanged_for_the_whole_time(observations: list[tuple[float, dict[str, int]]]) -> None:
    tracked, now, seen = tracker(), 0.0, list[tuple[float, dict[str, int]]]()
    for pause, files in observations:
        now += pause
        seen.append((now, files))
        for name in tracked.observe(files, now):
            assert now - unchanged_since(name, seen) >= 2.0
        if tracked.next_at is not None:
            assert now < tracked.next_at <= now + 2.0
