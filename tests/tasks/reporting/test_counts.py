"""Counts add up, survive being stored, and tell medians: exactly from jobs, about right from classes."""

from __future__ import annotations

import random

import pytest

from tasks.reporting.counts import ABOVE, BOUNDS, Counts, Ending
from tasks.reporting.ended_jobs import EndedJob


def job(seconds: float | None, account: str = "a", state: str = "delivered", code: str = "") -> EndedJob:
    return EndedJob("id", account, state, code, 0, 3, seconds)


def counted(*jobs: EndedJob) -> Counts:
    counts = Counts()
    for each in jobs:
        counts.add(each)
    return counts


def stored(counts: Counts) -> Counts:
    return Counts.from_fields({name: str(number) for name, number in counts.fields().items()})


def test_what_is_stored_comes_back() -> None:
    counts = counted(job(3), job(None, "b", "failed", "gave_up"), job(999_999_999.0), job(0.0))
    again = stored(counts)
    assert again.documents == counts.documents
    assert again.provider_calls == counts.provider_calls
    assert again.classes() == counts.classes() == {1.0: 1, 3.0: 1, ABOVE: 1}
    assert again.approximate
    assert not counts.approximate
    assert again.fields() == counts.fields()


def test_fields_of_a_later_version_are_passed_over() -> None:
    fields = {"documents": "1", "a:ended:delivered": "1", "a:pages:delivered": "9", "a:within:2.5": "1"}
    counts = Counts.from_fields(fields)
    assert counts.documents == {Ending("a", "delivered", ""): 1}
    assert counts.quantile(0.5) == pytest.approx(2.25)  # spread evenly from 2, the bound before it


@pytest.mark.parametrize(("share", "expected"), [(0.5, 5.5), (0.95, 9.55), (0.0, 1.0), (1.0, 10.0)])
def test_medians_of_jobs_are_exact(share: float, expected: float) -> None:
    assert counted(*(job(float(number)) for number in range(1, 11))).quantile(share) == pytest.approx(expected)


@pytest.mark.parametrize("middle", [0.7, 4.0, 33.0, 250.0, 7000.0])
def test_medians_of_classes_are_off_by_less_than_a_class(middle: float) -> None:
    source = random.Random(7)
    exact = counted(*(job(middle * source.lognormvariate(0, 0.6)) for _ in range(2000)))
    for share in (0.5, 0.95):
        about, right = stored(exact).quantile(share), exact.quantile(share)
        assert about is not None
        assert right is not None
        lower = max((bound for bound in (0, *BOUNDS) if bound <= right), default=0)
        upper = min(bound for bound in BOUNDS if bound >= right)
        assert lower <= about <= upper


def test_jobs_and_classes_add_up() -> None:
    both = counted(job(1), job(8))
    both.update(stored(counted(job(30), job(80, "b"))))
    assert both.approximate
    assert both.classes().total() == 4
    assert both.of(["b"]).total == 1
    assert both.of(["b"]).quantile(0.5) == pytest.approx(75, abs=15)


def test_without_a_delivery_there_is_no_median() -> None:
    assert counted(job(None, state="failed", code="gave_up")).quantile(0.5) is None
    assert stored(counted(job(None, code="duplicate"))).quantile(0.5) is None
