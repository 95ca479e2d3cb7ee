"""Sizes and moments as people write them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from tasks.wording.language import Words


@pytest.fixture(params=["UTC", "Europe/Oslo"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield str(request.param)
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("language", "size_bytes", "told"),
    [
        ("en", 0, "0 bytes"),
        ("en", 999, "999 bytes"),
        ("de", 999, "999 Byte"),
        ("en", 20_000_000, "20 MB"),
        ("nb", 1_234_567, "1 MB"),
        ("nl", 3_000_000_000, "3 GB"),
    ],
    ids=["nothing", "bytes", "bytes-de", "megabytes", "rounded", "gigabytes"],
)
def test_a_size_is_told_in_peoples_units(language: str, size_bytes: int, told: str) -> None:
    assert Words(language).sizes(size_bytes) == [told]


@pytest.mark.parametrize(
    ("language", "told"),
    [("en", ["1.2 MB", "1 MB"]), ("de", ["1,2 MB", "1 MB"]), ("nb", ["1,2 MB", "1 MB"]), ("nl", ["1,2 MB", "1 MB"])],
    ids=["en", "de", "nb", "nl"],
)
def test_two_sizes_are_told_apart_with_the_languages_decimal_separator(language: str, told: list[str]) -> None:
    assert Words(language).sizes(1_201_433, 1_000_000) == told


def test_a_size_just_above_a_limit_does_not_look_like_the_limit() -> None:
    assert Words("en").sizes(100_000_001, 100_000_000) == ["100.000001 MB", "100 MB"]
    assert Words("en").sizes(3_000_000_001, 3_000_000_000) == ["3000000001 bytes", "3000000000 bytes"]


def test_a_moment_names_month_and_zone(zone: str) -> None:
    moment = datetime(2026, 3, 2, 23, 5, tzinfo=UTC)
    told = [Words(language).moment(moment) for language in ("en", "de", "nb", "nl")]
    if zone == "UTC":
        assert told == [
            "Monday, 2 March 2026, 23:05 (UTC)",
            "Montag, 2. März 2026, 23:05 Uhr (UTC)",
            "mandag 2. mars 2026 kl. 23:05 (UTC)",
            "maandag 2 maart 2026, 23:05 uur (UTC)",
        ]
    else:
        assert told[0] == "Tuesday, 3 March 2026, 00:05 (CET)"
