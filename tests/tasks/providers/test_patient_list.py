"""Long lists, read once for all, and lists that move or announce too much: at a PracSuite of our own."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from tasks.model.errors import DocumentRefused, RetryLater
from tasks.model.job import Job, Record
from tasks.providers.pracsuite.client import PracSuite
from tests.tasks.providers.doubles import NO_OWNERS, DictCache, Slots, job
from tests.tasks.providers.odd_pracsuite import LIST, OddPracSuite
from tests.tasks.providers.odd_server import Reply, Request

Row = dict[str, Any]
NOT_FRESH = 6  # seconds
PAGE = 100


class Chart:
    """The list of patient 4711. `order` gives the rows as a page sees them; `announces` so many more than there are."""

    def __init__(self, odd: OddPracSuite, count: int) -> None:
        self.odd = odd
        self.rows = [self.row(number) for number in range(1, count + 1)]
        self.order: Callable[[list[Row]], Sequence[Row]] = list
        self.announces: int | None = 0
        self.pages: list[int] = []
        odd.answers[f"GET {LIST}"] = self.answer

    @staticmethod
    def row(number: int, size: int = 11, **more: Any) -> Row:
        return {"attachment_client_id": number, "file_size": size, **more}

    def answer(self, request: Request) -> Reply:
        number = int(request.query["page"][0])
        self.pages.append(number)
        rows = self.order(self.rows)
        shown = rows[(number - 1) * PAGE : number * PAGE]
        body: dict[str, Any] = {"attachment_clients": shown}
        if self.announces is None:
            more = number * PAGE < len(rows)
            next_page = f"{self.odd.base}{LIST}?page={number + 1}&page_size=100" if more else None
            return Reply(body=body | {"links": {"next": next_page}})
        return Reply(body=body | {"total_entries": len(self.rows) + self.announces})

    def turned(self) -> list[int]:
        """The numbers of the pages that were asked for since the last call."""
        pages, self.pages = self.pages, []
        return pages


@pytest.fixture
def long(odd: OddPracSuite) -> Chart:
    return Chart(odd, 450)


def ids(*numbers: int) -> set[str]:
    return {str(number) for number in numbers}


def snapshot(pracsuite: PracSuite) -> set[str]:
    return set(pracsuite.before_sending(job()).snapshot or ())


def found(pracsuite: PracSuite, *jobs: Any, thorough: bool = False) -> dict[str, tuple[str, bool]]:
    """Job id -> the record's id, and whether it is proven."""
    results = pracsuite.find(jobs, NO_OWNERS, thorough=thorough).items()
    return {job_id: (each.record.id, not each.doubt) for job_id, each in results}


# --- one listing for all ---------------------------------------------------------------------------------------------


def test_the_list_is_read_once_and_then_only_at_its_end(long: Chart, pracsuite: PracSuite, cache: DictCache) -> None:
    assert snapshot(pracsuite) == ids(*range(1, 451))
    assert long.turned() == [1, 2, 3, 4, 5]
    assert len(snapshot(pracsuite)) == 450
    assert long.turned() == [], "the same seconds"
    cache.pass_seconds(NOT_FRESH)
    ours = job(snapshot=tuple(snapshot(pracsuite)))
    long.rows.append(long.row(999, 10, file_name="referral.pdf"))
    assert found(pracsuite, ours) == {ours.id: ("999", True)}
    assert long.turned() == [5, 5]


def test_a_record_that_another_search_has_seen_before_is_found_all_the_same(long: Chart, pracsuite: PracSuite) -> None:
    ours, another = job(snapshot=tuple(snapshot(pracsuite))), job(snapshot=())
    long.rows += [long.row(999, 10, file_name="referral.pdf"), long.row(1000, 12)]
    found(pracsuite, another)
    long.odd.names(a999="referral.pdf")
    assert found(pracsuite, ours) == {ours.id: ("999", True)}


@pytest.mark.parametrize("count", [400, 450, 499])
@pytest.mark.parametrize("new", [1, 3, 130])
def test_new_records_may_fill_more_pages(
    odd: OddPracSuite, pracsuite: PracSuite, cache: DictCache, count: int, new: int
) -> None:
    chart = Chart(odd, count)
    snapshot(pracsuite)
    chart.turned()
    chart.rows += [chart.row(number) for number in range(5000, 5000 + new)]
    cache.pass_seconds(NOT_FRESH)
    assert len(snapshot(pracsuite)) == count + new
    assert len(chart.turned()) <= 1 + -(-new // PAGE)


@pytest.mark.parametrize("announces", [0, None])
def test_where_the_newest_come_first_it_learns_that(
    long: Chart, pracsuite: PracSuite, cache: DictCache, announces: int | None
) -> None:
    long.announces, long.order = announces, lambda rows: rows[::-1]
    snapshot(pracsuite)
    counts = []
    for number in (1001, 1002, 1003):
        long.rows.append(long.row(number))
        long.turned()
        cache.pass_seconds(NOT_FRESH)
        assert len(snapshot(pracsuite)) == number - 550
        counts.append(len(long.turned()))
    assert counts == [2, 1, 1]


@pytest.mark.parametrize("place", [0, 120, 449])
def test_a_record_that_was_removed_makes_the_list_be_read_again(
    long: Chart, pracsuite: PracSuite, cache: DictCache, place: int
) -> None:
    snapshot(pracsuite)
    removed = long.rows.pop(place)
    long.rows.append(long.row(999))
    cache.pass_seconds(NOT_FRESH)
    assert snapshot(pracsuite) == ids(*range(1, 451), 999) - {str(removed["attachment_client_id"])}


def test_what_a_limit_stops_goes_on_where_it_stopped(long: Chart, pracsuite: PracSuite, slots: Slots) -> None:
    slots.free_pages = 2
    with pytest.raises(RetryLater):
        snapshot(pracsuite)
    with pytest.raises(RetryLater):
        snapshot(pracsuite)
    assert long.turned() == [1, 2, 3]
    slots.free_pages = 10
    assert len(snapshot(pracsuite)) == 450
    assert long.turned() == [4, 5]


def test_who_comes_while_another_reads_waits_without_a_call(
    long: Chart, pracsuite: PracSuite, cache: DictCache, slots: Slots
) -> None:
    slots.free_pages = 2
    with pytest.raises(RetryLater):
        snapshot(pracsuite)
    slots.free_pages = 10
    long.turned()
    ((topic, patient),) = cache.values.keys()
    with cache.lock_if_free(topic, patient, 1):
        for act in (lambda: snapshot(pracsuite), lambda: found(pracsuite, job(snapshot=()))):
            with pytest.raises(RetryLater, match="Another document of this patient") as waiting:
                act()
            assert waiting.value.after_seconds
            assert not waiting.value.throttled
    assert long.turned() == []


def test_twenty_thousand_records_fit_and_cost_a_page_each_hundred(
    odd: OddPracSuite, pracsuite: PracSuite, cache: DictCache
) -> None:
    chart = Chart(odd, 20_100)
    assert len(snapshot(pracsuite)) == 20_100
    assert len(chart.turned()) == 201
    assert max(map(len, cache.values.values())) < 300_000
    cache.pass_seconds(NOT_FRESH)
    assert len(snapshot(pracsuite)) == 20_100
    assert chart.turned() == [201]


def test_an_earlier_record_is_looked_for_on_the_page_where_it_was(long: Chart, pracsuite: PracSuite) -> None:
    snapshot(pracsuite)
    long.turned()
    assert pracsuite.still_there(job().document, Record("250"))
    assert long.turned() == [3]
    long.rows.pop(249)
    assert not pracsuite.still_there(job().document, Record("250"))


# --- lists that do not add up ----------------------------------------------------------------------------------------


def read_until_complete(pracsuite: PracSuite, cache: DictCache, most: int) -> set[str]:
    """The snapshot, after at most so many readings with pauses between them."""
    raised: list[RetryLater] = []
    while True:
        try:
            records = snapshot(pracsuite)
            break
        except RetryLater as error:
            raised.append(error)
            cache.pass_seconds(10)
        assert len(raised) < most, "never complete"
    assert all("does not add up" in str(error) for error in raised)
    assert all(error.after_seconds is None for error in raised), "with a back-off"
    return records


def test_a_list_in_another_order_on_each_page_is_put_together(
    odd: OddPracSuite, pracsuite: PracSuite, cache: DictCache
) -> None:
    chart, rng = Chart(odd, 250), random.Random(1)
    chart.order = lambda rows: rng.sample(rows, len(rows))
    assert read_until_complete(pracsuite, cache, 30) == ids(*range(1, 251))


@pytest.mark.parametrize("count", [0, 3, 100, 250])
def test_a_list_that_always_announces_one_more_is_believed_the_third_time(
    odd: OddPracSuite, pracsuite: PracSuite, cache: DictCache, count: int
) -> None:
    chart = Chart(odd, count)
    chart.announces = 1
    assert read_until_complete(pracsuite, cache, 3) == ids(*range(1, count + 1))
    chart.turned()
    cache.pass_seconds(NOT_FRESH)
    snapshot(pracsuite)
    assert len(chart.turned()) == 1, "and from then on read at its end alone"


def sent_beside_one_too_many(
    odd: OddPracSuite, pracsuite: PracSuite, cache: DictCache, count: int
) -> tuple[Chart, Job]:
    """A job that is sent to a chart whose list announces one record more than it shows."""
    chart = Chart(odd, count)
    chart.announces = 1
    read_until_complete(pracsuite, cache, 3)
    facts = pracsuite.before_sending(job())
    return chart, job(snapshot=facts.snapshot, provider=facts.provider)


@pytest.mark.parametrize("count", [3, 250])
def test_after_that_a_record_is_ours_only_if_the_list_has_grown_by_it(
    odd: OddPracSuite, pracsuite: PracSuite, cache: DictCache, count: int
) -> None:
    chart, ours = sent_beside_one_too_many(odd, pracsuite, cache, count)
    # The record that was announced all along is shown, and looks like ours.
    chart.rows.append(chart.row(7000, 10, file_name="referral.pdf"))
    chart.announces = 0
    assert found(pracsuite, ours) == {ours.id: ("7000", False)}
    # Now there are two that look like ours, and still only one that is new.
    chart.rows.append(chart.row(7001, 10, file_name="referral.pdf"))
    assert found(pracsuite, ours) == {ours.id: ("7000", False)}


@pytest.mark.parametrize("count", [3, 250])
def test_a_new_record_in_a_list_that_always_announces_one_more_is_ours(
    odd: OddPracSuite, pracsuite: PracSuite, cache: DictCache, count: int
) -> None:
    chart, ours = sent_beside_one_too_many(odd, pracsuite, cache, count)
    chart.rows.append(chart.row(7000, 10, file_name="referral.pdf"))
    assert found(pracsuite, ours) == {ours.id: ("7000", True)}


def test_the_last_search_trusts_nothing_that_was_read_before(long: Chart, pracsuite: PracSuite) -> None:
    ours = job(snapshot=tuple(snapshot(pracsuite)))
    found(pracsuite, ours)
    long.turned()
    for _ in range(2):
        assert found(pracsuite, ours, thorough=True) == {}
        assert long.turned() == [1, 2, 3, 4, 5]


def test_the_last_search_finds_nothing_only_if_the_list_shows_all_that_it_announces(
    odd: OddPracSuite, pracsuite: PracSuite, cache: DictCache
) -> None:
    chart = Chart(odd, 3)
    ours = job(snapshot=tuple(snapshot(pracsuite)))
    chart.announces = 1  # of which ours may be
    for _ in range(5):
        with pytest.raises(RetryLater, match="does not add up"):
            found(pracsuite, ours, thorough=True)
        cache.pass_seconds(10)
    chart.announces = 0
    cache.pass_seconds(700)
    assert found(pracsuite, ours, thorough=True) == {}


def test_a_list_that_never_adds_up_lasts_after_ten_minutes(
    odd: OddPracSuite, pracsuite: PracSuite, cache: DictCache
) -> None:
    chart, rng = Chart(odd, 3), random.Random(2)
    lasting = []
    for _ in range(4):
        chart.announces = rng.randrange(1, 10**6)
        with pytest.raises(RetryLater) as later:
            snapshot(pracsuite)
        lasting.append(later.value.lasting)
        cache.pass_seconds(10)
        since = next(entry for entry in cache.values if entry[0].startswith("odd "))
        cache.values[since] = str(float(cache.values[since]) - 290)
    assert lasting == [False, False, False, True]


# --- a record of the same size under another name --------------------------------------------------------------------


def test_a_new_record_of_our_size_under_another_name_is_named_and_proves_nothing(
    odd: OddPracSuite, pracsuite: PracSuite
) -> None:
    chart = Chart(odd, 3)
    ours = job(snapshot=tuple(snapshot(pracsuite)))
    chart.rows += [chart.row(8, 12, file_name="a.pdf"), chart.row(9, 10, file_name="referral-1.pdf")]
    (result,) = pracsuite.find([ours], NO_OWNERS).values()
    assert result.doubt == "A record of the same size came under another name: record 9."
    assert pracsuite.find([ours], {"9": "another job"}) == {}
    chart.rows.append(chart.row(10, 10, file_name="referral.pdf"))
    assert found(pracsuite, ours) == {ours.id: ("10", True)}


def test_a_record_that_is_gone_by_now_is_not_named(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.lists({"attachment_client_id": 9, "file_size": 10})
    odd.answers["GET /v1/patient_attachment/9/presign_url"] = Reply(404)
    assert pracsuite.find([job(snapshot=())], NO_OWNERS) == {}


# --- too many --------------------------------------------------------------------------------------------------------


def test_a_list_of_more_records_than_are_kept_fails_the_document(
    long: Chart, pracsuite: PracSuite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tasks.providers.list_reading.MOST_RECORDS", 449)
    with pytest.raises(DocumentRefused, match="records for this patient"):
        snapshot(pracsuite)
