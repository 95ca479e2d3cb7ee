"""Times as people write and read them: dates and ages, in this machine's time zone, in summer and in winter."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import click
import pytest

from worker.cli.times import Moment, age, duration, local_time, zone_of

SUMMER, WINTER = datetime(2026, 7, 1, 12, 5, tzinfo=UTC), datetime(2026, 12, 1, 12, 5, tzinfo=UTC)


@pytest.fixture
def in_oslo(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


def read(text: str, *, whole_day: bool = False) -> datetime:
    moment: datetime = Moment(whole_day=whole_day).convert(text, None, None)
    return moment


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-12-01", "2026-11-30T23:00+00:00"),
        ("2026-07-01", "2026-06-30T22:00+00:00"),
        ("2026-12-01T08:15", "2026-12-01T07:15+00:00"),
        ("2026-12-01 08:15:30", "2026-12-01T07:15:30+00:00"),
        ("2026-12-01T08:15Z", "2026-12-01T08:15+00:00"),
        ("2026-12-01T08:15-05:00", "2026-12-01T13:15+00:00"),
    ],
)
def test_a_time_without_a_zone_is_in_the_machines(in_oslo: None, text: str, expected: str) -> None:
    assert read(text) == datetime.fromisoformat(expected)


def test_until_a_day_has_that_day_too_also_when_the_clocks_change_in_it(in_oslo: None) -> None:
    assert read("2026-12-01", whole_day=True) == datetime(2026, 12, 1, 23, tzinfo=UTC)
    assert read("2026-10-25", whole_day=True) - read("2026-10-25") == timedelta(hours=25)


@pytest.mark.parametrize(("text", "hours"), [("90m", 1.5), ("36h", 36), ("7d", 168), ("2w", 336), ("7 d", 168)])
def test_an_age_is_that_long_ago(text: str, hours: float) -> None:
    before = datetime.now(UTC)
    found = read(text) + timedelta(hours=hours)
    assert before <= found <= datetime.now(UTC)


@pytest.mark.parametrize("text", ["", "d", "7", "7y", "-7d", "9999999d", "2026-02-30", "30.11.2026", "2026-11", "x"])
def test_anything_else_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter):
        read(text)


def test_local_times_name_their_zone_unless_a_heading_does(in_oslo: None) -> None:
    assert zone_of([WINTER]) == "CET"
    assert local_time(WINTER, "CET") == " 1 Dec 13:05"
    assert zone_of([WINTER, SUMMER]) == ""
    assert (local_time(WINTER), local_time(SUMMER)) == (" 1 Dec 13:05 CET", " 1 Jul 14:05 CEST")
    assert zone_of([]) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (8, "8 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172_800, "2 d")],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    assert age(seconds) == text


def test_short_durations_have_a_decimal() -> None:
    assert (duration(3.44), duration(44.4)) == ("3.4 s", "44 s")
