"""When the pipeline looks for a document that was stored, and which documents teach it that."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from config.accounts import OvokAccount
from tasks.ledger import moves
from tasks.ledger.keys import PREFIX
from tasks.model.errors import RetryLater
from tasks.model.job import Facts, Job, Record, Stored
from tasks.model.polling import Validation
from tasks.model.route import Route, Stage, Step
from tasks.providers.base import DocumentGate, Found, Registered
from tests.harness.validations import last_validations
from tests.tasks.ledger.test_ledger import STORED
from tests.tasks.pipeline.test_runner import Creating, House

ACCOUNT = "north_clinic"


class Validating(Creating):
    """A provider that takes the bytes itself and makes a record later. `records` are the ids of its next ones."""

    def __init__(self, route: Route) -> None:
        super().__init__()
        self._route = route
        self.records: list[str] = []

    def route(self, document: object) -> Route:
        return self._route

    def store(self, job: Job, gate: DocumentGate) -> Stored:
        return STORED

    def before_sending(self, job: Job) -> Facts:
        return job.facts

    def register(self, job: Job, gate: DocumentGate) -> Registered:
        gate.commit()
        return Registered(Record(f"record of {job.id}"), processed=False)

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str], *, thorough: bool = False) -> Mapping[str, Found]:
        if self.find_raises:
            raise self.find_raises
        return {job.id: Found(Record(self.records.pop(0))) for job in jobs if self.records}


STORING = Route((Stage.STORED,), Step.POST, together=False, account_wide=True)
REGISTERING = Route((Stage.REGISTERED,), Step.REGISTER, together=False, account_wide=True)


class ValidatingHouse(House):
    def __init__(self, client: redis.Redis, data: Path) -> None:
        super().__init__(client, data)
        self.account.provider = self.provider = Validating(STORING)
        self.number = 0

    def sent(self) -> str:
        """A document that is stored now, or registered."""
        route = self.provider.route(None)
        self.number += 1
        job_id = self.job(f"{self.number}.pdf")
        self.ledger.redis.hset(PREFIX + "job:" + job_id, "step", route.first)
        self.runner.run(route.first, job_id)
        assert self.now(job_id).step is Step.CONFIRM
        return job_id

    def looked(self, job_id: str, after: float) -> None:
        """It is looked for at this age."""
        key = PREFIX + "job:" + job_id
        stage = self.now(job_id).stage
        row = self.ledger.redis.hgetall(key)
        moved = float(row[f"since_{stage}"]) - (self.ms() - after * 1000)
        for field in {f"since_{stage}", "looked_at"} & row.keys():
            self.ledger.redis.hset(key, field, int(float(row[field]) - moved))
        self.expire_lease(job_id)
        self.runner.run(Step.CONFIRM, job_id)

    def found(self, job_id: str, after: float) -> None:
        self.provider.records = [f"record of {job_id}"]
        self.looked(job_id, after)
        assert self.now(job_id).stage is Stage.DELIVERED

    def learned(self) -> list[Validation]:
        """To tenths of a second."""
        kept = last_validations(self.ledger.redis, ACCOUNT)
        return [Validation(round(each.after, 1), round(each.until, 1)) for each in kept]

    def teach(self, *validations: Validation) -> None:
        written = " ".join(f"{each.after * 1000:.0f}-{each.until * 1000:.0f}" for each in validations)
        self.ledger.redis.hset(PREFIX + "account:" + ACCOUNT, "validations", written)

    def due_in(self, job_id: str) -> float:
        return (float(self.ledger.redis.hget(PREFIX + "job:" + job_id, "next_at") or 0) - self.ms()) / 1000

    def ms(self) -> float:
        clock = self.ledger.redis.hgetall(PREFIX + "clock")
        seconds, micros = self.ledger.redis.time()
        return float(seconds) * 1000 + float(micros) / 1000 + float(clock["ahead"])


@pytest.fixture
def house(valkey: redis.Redis, tmp_path: Path) -> ValidatingHouse:
    return ValidatingHouse(valkey, tmp_path / "data")


TEN_SECONDS = [Validation(9.0, 10.0)] * 10


@pytest.mark.parametrize("route", [STORING, REGISTERING])
def test_a_new_accounts_document_is_looked_for_after_first_seconds(house: ValidatingHouse, route: Route) -> None:
    house.account.provider = house.provider = Validating(route)
    assert house.due_in(house.sent()) == pytest.approx(2.0, abs=0.5)


@pytest.mark.parametrize("route", [STORING, REGISTERING])
def test_a_document_is_looked_for_when_the_accounts_last_ones_had_been_validated(
    house: ValidatingHouse, route: Route
) -> None:
    house.account.provider = house.provider = Validating(route)
    house.teach(*TEN_SECONDS)
    job = house.sent()
    assert house.due_in(job) == pytest.approx(9.95, abs=0.5), "nearly all had been by then"
    house.looked(job, after=9.95)
    assert house.due_in(job) == pytest.approx(0.5, abs=0.1), "then with pauses that double again"


def test_a_document_of_unknown_outcome_is_looked_for_with_doubling_pauses(house: ValidatingHouse) -> None:
    house.teach(*TEN_SECONDS)
    job = house.sent()
    row = PREFIX + "job:" + job
    house.ledger.redis.hset(row, mapping={"unknown_step": Step.POST, "unknown_since": int(house.ms())})
    house.looked(job, after=1.0)
    assert house.due_in(job) == pytest.approx(2.0, abs=0.5)
    house.looked(job, after=3.0)
    assert house.due_in(job) == pytest.approx(4.0, abs=0.9)


def test_the_pause_after_a_search_follows_from_the_documents_age(house: ValidatingHouse) -> None:
    house.teach(*([Validation(1.9, 2.0)] * 10), *([Validation(19.0, 20.0)] * 10))
    job = house.sent()
    house.looked(job, after=15.0)
    assert house.due_in(job) == pytest.approx(4.8, abs=1.0)


def test_first_seconds_that_a_person_has_set_is_the_soonest(house: ValidatingHouse) -> None:
    house.teach(*([Validation(0.5, 1.0)] * 10))
    assert house.due_in(house.sent()) == pytest.approx(1.0, abs=0.5), "the default is no bound"
    settings = house.account.settings.model_dump(exclude={"confirm", "password"})
    for first, due_in in ((5.0, 5.0), (0.5, 1.0)):
        confirm = {"first_seconds": first}
        house.account.settings = OvokAccount.model_validate({**settings, "password": "p", "confirm": confirm})
        assert house.due_in(house.sent()) == pytest.approx(due_in, abs=0.5)


# --- what is learned -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("route", [STORING, REGISTERING])
def test_a_validation_ended_between_the_last_two_searches(house: ValidatingHouse, route: Route) -> None:
    house.account.provider = house.provider = Validating(route)
    house.found(house.sent(), after=2.0)
    slower = house.sent()
    house.looked(slower, after=2.0)
    house.looked(slower, after=4.0)
    house.found(slower, after=8.0)
    assert house.learned() == [Validation(0, 2.0), Validation(4.0, 8.0)]


def test_the_ledgers_clock_measures_it_where_redis_clock_was_set(house: ValidatingHouse) -> None:
    house.clock_was_set(ahead_seconds=7200)
    job = house.sent()
    house.looked(job, after=2.0)
    house.found(job, after=4.0)
    assert house.learned() == [Validation(2.0, 4.0)]


def test_a_search_that_came_late_teaches_nothing(house: ValidatingHouse) -> None:
    house.found(house.sent(), after=20.0)
    assert house.learned() == []


def test_a_search_that_had_failed_before_teaches_nothing(house: ValidatingHouse) -> None:
    job = house.sent()
    house.provider.find_raises = RetryLater("no answer")
    house.looked(job, after=1.0)
    house.provider.find_raises = None
    house.found(job, after=2.0)
    assert house.learned() == []


def test_a_search_that_failed_and_then_found_nothing_leaves_no_trace(house: ValidatingHouse) -> None:
    job = house.sent()
    house.provider.find_raises = RetryLater("no answer")
    house.looked(job, after=1.0)
    house.provider.find_raises = None
    house.looked(job, after=2.0)
    house.found(job, after=4.0)
    assert house.learned() == [Validation(2.0, 4.0)]


def test_a_slow_search_teaches_nothing(house: ValidatingHouse) -> None:
    job = house.sent()
    house.looked(job, after=2000.0)
    house.closed(job)
    assert house.now(job).stage is Stage.FAILED
    house.found(job, after=2.0)
    assert house.learned() == []


def test_an_unknown_outcome_teaches_nothing_not_even_when_it_was_sent_again(house: ValidatingHouse) -> None:
    found = house.sent()
    lease = house.ledger.start(found, Step.CONFIRM)[0]  # type: ignore[index]
    row = PREFIX + "job:" + found
    house.ledger.redis.hset(row, mapping={"stage": Stage.RECEIVED, "step": Step.POST})
    job = replace(lease.job, stage=Stage.RECEIVED, step=Step.POST)
    assert house.ledger.apply(lease, moves.outcome_unknown(job, 0, 1))
    house.expire_lease(found)
    house.runner.run(Step.CONFIRM, found)
    assert house.now(found).since.last_search is not None
    house.expire_lease(found)
    house.long_ago(found, "unknown_since")
    house.runner.run(Step.CONFIRM, found)
    assert house.now(found).step is Step.POST, "sent again"
    house.runner.run(Step.POST, found)
    assert house.now(found).since.last_search is None, "that was before it was stored"
    house.found(found, after=2.0)
    assert house.learned() == []


def test_a_document_that_a_person_has_retried_after_an_unknown_outcome_teaches_nothing(house: ValidatingHouse) -> None:
    job = house.now(house.sent())
    moved = moves.retry_reconciling(job)
    assert moved.fields["was_unknown"] == "1"
    assert "was_unknown" in moves.retry(job).clears, "one that begins anew does"
