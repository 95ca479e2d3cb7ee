"""By how much this machine's clock differs from the provider's, and what is judged by which."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from structlog.testing import capture_logs

from tasks.http.dates import http_date
from tasks.http.provider_clock import WRONG_SECONDS, ProviderClock
from tasks.http.retry_after import asked_wait, longer_wait

TRUE = datetime(2026, 11, 30, 10, tzinfo=UTC)
HOUR = 3600.0
DAY = 24 * HOUR


class Machine:
    """A machine whose clock is `ahead` seconds ahead of the true time, which goes on as the test says."""

    def __init__(self, ahead: float) -> None:
        self.ahead = ahead
        self.up = 1000.0
        self.clock = ProviderClock("north_clinic", now=self._now, uptime=lambda: self.up)

    @property
    def true(self) -> datetime:
        return TRUE + timedelta(seconds=self.up - 1000)

    def _now(self) -> float:
        return self.true.timestamp() + self.ahead

    def call(self, *, took: float = 1.0, **headers: str) -> None:
        """One call, whose answer bears the true time of its middle."""
        began = self.clock.begin()
        self.up += took / 2
        date = format_datetime(self.true, usegmt=True)
        self.up += took / 2
        self.clock.note("PracSuite", {"date": date, **headers}, began)


@pytest.mark.parametrize("ahead", [0, 20, -20, 110])
def test_a_clock_that_is_about_right_is_believed(ahead: float) -> None:
    machine = Machine(ahead)
    machine.call()
    assert machine.clock.ahead_seconds == pytest.approx(ahead, abs=1)
    assert not machine.clock.is_wrong
    assert machine.clock.now() == machine.true + timedelta(seconds=ahead)
    assert machine.clock.warning == ""


@pytest.mark.parametrize("ahead", [HOUR, -HOUR, 90 * 86_400, WRONG_SECONDS + 2])
def test_if_the_clock_is_wrong_the_providers_time_is_what_counts(ahead: float) -> None:
    machine = Machine(ahead)
    machine.call(took=4)
    machine.up += 300
    assert abs(machine.clock.now() - machine.true) < timedelta(seconds=2)
    assert machine.clock.is_wrong


def test_a_clock_that_jumps_after_the_answer_is_noticed_at_once() -> None:
    machine = Machine(0)
    machine.call()
    machine.ahead = HOUR
    assert machine.clock.is_wrong
    machine.ahead = 0
    assert not machine.clock.is_wrong


@pytest.mark.parametrize(
    ("ahead", "words"),
    [
        (HOUR + 61, "This machine's clock is wrong: it is 61 min ahead of PracSuite's. Set it by NTP."),
        (-HOUR, "This machine's clock is wrong: it is 60 min behind PracSuite's. Set it by NTP."),
        (-3 * 86_400, "This machine's clock is wrong: it is 3 days behind PracSuite's. Set it by NTP."),
    ],
)
def test_the_warning_says_by_how_much(ahead: float, words: str) -> None:
    machine = Machine(ahead)
    machine.call()
    assert machine.clock.warning == words


def test_nothing_is_known_without_a_date_after_a_while_and_from_a_cache() -> None:
    machine = Machine(HOUR)
    assert machine.clock.ahead_seconds is None
    machine.call(age="3600")
    assert machine.clock.ahead_seconds is None
    machine.call(took=60)  # nobody knows at which moment of a minute it was written
    assert machine.clock.ahead_seconds is None
    machine.clock.note("PracSuite", {}, machine.clock.begin())
    assert machine.clock.ahead_seconds is None
    machine.call()
    machine.up += 1000
    assert machine.clock.ahead_seconds is None
    assert machine.clock.now() == machine.true + timedelta(hours=1)


@pytest.mark.parametrize("ahead", [0, HOUR, -HOUR, 300 * DAY])
def test_the_providers_time_is_reckoned_long_after_its_answer_whatever_this_machines_clock_does(ahead: float) -> None:
    machine = Machine(0)
    machine.call()
    machine.ahead = ahead
    machine.up += 6 * DAY
    assert abs(machine.clock.earliest() - machine.true) < timedelta(seconds=2)


def test_where_the_provider_has_not_told_its_time_it_is_at_the_earliest_a_day_ago() -> None:
    machine = Machine(HOUR)
    assert machine.clock.earliest() == machine.true + timedelta(hours=1, days=-1)
    machine.call()
    machine.up += 8 * DAY
    assert machine.clock.earliest() == machine.true + timedelta(hours=1, days=-1), "clocks drift"


def test_a_difference_of_years_is_not_believed() -> None:
    machine = Machine(20 * 365 * DAY)
    machine.call()
    assert not machine.clock.is_wrong
    assert machine.clock.earliest() == machine.true + timedelta(days=20 * 365 - 1)


def test_the_log_says_once_that_the_clock_is_wrong_and_once_that_it_is_right_again() -> None:
    machine = Machine(HOUR)
    with capture_logs() as logs:
        machine.call()
        machine.call()
        machine.ahead = 0
        machine.call()
        machine.call()
    assert [line["event"] for line in logs] == ["clock_wrong", "clock_right_again"]
    assert logs[0]["account"] == "north_clinic"
    assert abs(logs[0]["ahead_seconds"] - HOUR) <= 1


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("Mon, 30 Nov 2026 10:00:00 GMT", TRUE),
        (" Mon, 30 Nov 2026 10:00:00 GMT ", TRUE),
        ("Mon, 30 Nov 2026 10:00:60 GMT", TRUE + timedelta(seconds=59)),
        ("Mon, 30 Nov 2026 10:00:00 +0000", None),
        ("Monday, 30-Nov-26 10:00:00 GMT", None),
        ("30 Nov 2026 10:00:00 GMT", None),
        ("Mon, 31 Nov 2026 10:00:00 GMT", None),
        ("Mon, 30 Nov 2026 25:00:00 GMT", None),
        ("Mon, 30 Nov 0000 10:00:00 GMT", None),
        ("", None),
        ("now", None),
    ],
)
def test_only_a_date_as_servers_must_write_it_is_read(value: str, at: datetime | None) -> None:
    assert http_date(value) == at


# --- waits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ahead", [timedelta(0), timedelta(hours=3), timedelta(hours=-3)])
def test_a_time_to_come_back_is_compared_with_the_servers_own_clock(ahead: timedelta) -> None:
    date = format_datetime(TRUE, usegmt=True)
    later = format_datetime(TRUE + timedelta(seconds=90), usegmt=True)
    assert asked_wait({"date": date, "retry-after": later}, TRUE + ahead) == 90
    reset = str(int(TRUE.timestamp()) + 30)
    assert asked_wait({"date": date, "x-ratelimit-reset": reset}, TRUE + ahead) == 30


@pytest.mark.parametrize(
    ("value", "until"),
    [
        ("3600", ""),
        ("7200", "2026-11-30 12:00 UTC"),
        ("Tue, 30 Nov 2027 10:00:00 GMT", "2027-11-30 10:00 UTC"),
        ("Sun, 29 Nov 2026 10:00:00 GMT", ""),
        ("999999999999999", "a time after the year 9999"),
        ("", ""),
    ],
)
def test_a_wait_of_more_than_an_hour_is_known_for_what_it_is(value: str, until: str) -> None:
    assert longer_wait({"retry-after": value}, TRUE) == until
