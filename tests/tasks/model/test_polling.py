"""When a document is looked for: by what the account's last validations took."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.model import backoff
from tasks.model.polling import ENOUGH_VALIDATIONS, Looks, Validation
from tests.benchmarks import polling

FIRST, CAP = 2.0, 60.0
TWO_TO_SIX = [Validation(1.99 + 0.2 * n, 2.0 + 0.2 * n) for n in range(20)]  # 2, 2.2 … 5.8

validations = st.builds(lambda after, width: Validation(after, after + width), st.floats(0, 200), st.floats(0.001, 200))
histories = st.lists(validations, max_size=20)
ages = st.floats(0, 5000)
soonests = st.sampled_from([0.0, 0.1, FIRST])


def half() -> float:
    return 0.5


def looked_at(looks: Looks, until: float) -> list[float]:
    """The ages at which a document without a record is looked for."""
    found = [looks.first()]
    while found[-1] < until:
        found.append(found[-1] + looks.after(found[-1], len(found) - 1, half))
    return found


def test_a_new_account_is_looked_at_after_the_first_pause_and_then_with_doubling_ones() -> None:
    for known in range(ENOUGH_VALIDATIONS):
        looks = Looks(TWO_TO_SIX[:known], FIRST, CAP)
        assert looks.first() == FIRST
        assert [looks.after(age, n, half) for n, age in enumerate((2, 4, 8))] == [
            backoff.poll_delay(n, FIRST, CAP, half) for n in range(3)
        ]


def test_an_account_is_looked_at_when_half_and_most_and_nearly_all_of_its_validations_had_ended() -> None:
    first, second, third, *_ = looked_at(Looks(TWO_TO_SIX, FIRST, CAP), 10)
    assert first == pytest.approx(3.8, abs=0.01)
    assert second == pytest.approx(4.6, abs=0.01)
    assert third >= 5.6, "5.2 would be too close to the second"


def test_what_is_not_found_by_then_is_looked_for_with_pauses_that_double_again() -> None:
    looks = Looks([Validation(3.9, 4)] * 20, FIRST, CAP)
    expected = [4, 4.5, 5, 6, 8, 12, 20, 36, 68, 128, 188, 248, 308]
    assert looked_at(looks, 300) == pytest.approx(expected, rel=0.05)


def test_the_first_of_these_pauses_is_a_third_of_the_time_between_the_first_and_the_last_look() -> None:
    ages = looked_at(Looks(TWO_TO_SIX, FIRST, CAP), 10)
    last = next(place for place, age in enumerate(ages) if age > 5.6)
    assert ages[last + 1] - ages[last] == pytest.approx((ages[last] - ages[0]) / 3, abs=0.01)


def test_looks_that_would_be_close_together_are_one() -> None:
    ages = looked_at(Looks([Validation(0.3, 0.6)] * 20, FIRST, CAP), 1.5)
    assert all(later - earlier >= 0.5 - 1e-9 for earlier, later in pairwise(ages))


def test_a_document_that_another_ones_search_has_just_missed_waits_for_the_look_after() -> None:
    looks = Looks(TWO_TO_SIX, FIRST, CAP)
    assert 3.6 + looks.after(3.6, 0, half) == pytest.approx(4.6, abs=0.01)


def test_what_several_documents_were_found_between_is_likelier_than_the_rest() -> None:
    alone = Looks([Validation(0, 8)] * 20, FIRST, CAP).first()
    together = Looks([Validation(0, 8)] * 10 + [Validation(7, 12)] * 10, FIRST, CAP).first()
    assert alone == pytest.approx(4)
    assert together > 7


def test_an_account_that_may_be_asked_sooner_than_usual_still_is() -> None:
    quick = Looks([Validation(0.05, 0.1)] * 20, 0.2, 1.0, soonest=0.2)
    assert quick.first() == 0.2
    assert quick.after(0.2, 0, half) == 0.2


@given(histories, soonests)
def test_the_first_look_is_neither_too_soon_nor_later_than_the_cap(history: list[Validation], soonest: float) -> None:
    first = Looks(history, FIRST, CAP, soonest).first()
    assert max(0.5, soonest) <= first <= CAP


@given(histories, ages, st.integers(0, 100), soonests)
def test_a_later_look_is_neither_too_soon_nor_later_than_with_doubling_pauses(
    history: list[Validation], age: float, searches: int, soonest: float
) -> None:
    pause = Looks(history, FIRST, CAP, soonest).after(age, searches, half)
    assert pause >= max(0.5, soonest)
    assert pause <= CAP
    if len(history) >= ENOUGH_VALIDATIONS:
        assert pause <= max(FIRST, age)


@pytest.mark.parametrize(
    ("after", "until", "in_time"), [(0, 2, True), (0, 3.3, True), (0, 3.5, False), (8, 16, True), (8, 20, False)]
)
def test_a_look_that_came_late_tells_nothing(after: float, until: float, in_time: bool) -> None:
    assert Looks([], FIRST, CAP).was_in_time(Validation(after, until)) is in_time


def test_a_learned_first_look_is_not_late() -> None:
    assert Looks([Validation(38, 40)] * 20, FIRST, CAP).was_in_time(Validation(0, 40))
    assert not Looks(TWO_TO_SIX, FIRST, CAP).was_in_time(Validation(0, 40))


@pytest.mark.parametrize(("name", "documents"), [("2–6 s", 12), ("2–6 s", 30)])
def test_learning_finds_records_soon_with_few_calls(name: str, documents: int) -> None:
    outcome = polling.simulate(polling.VALIDATIONS[name], documents, learns=True)
    assert outcome.calls <= 2.5
    assert outcome.median_delay <= 0.7
    assert outcome.late_delay <= 2.5


@pytest.mark.parametrize("name", polling.VALIDATIONS)
@pytest.mark.parametrize("documents", [1, 12])
def test_learning_is_never_slower_and_costs_no_more_than_a_quarter_of_a_call(name: str, documents: int) -> None:
    took = polling.VALIDATIONS[name]
    doubling, learned = (polling.simulate(took, documents, learns=learns) for learns in (False, True))
    assert learned.median_delay < doubling.median_delay / 2 + 0.01
    assert learned.late_delay < doubling.late_delay
    assert learned.calls < doubling.calls + 0.25
