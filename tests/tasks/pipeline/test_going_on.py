"""A worker whose step moved a job on goes on with the next one, under the same fencing token."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from tasks.folders.commit_log import CommitLog
from tasks.ledger import moves
from tasks.ledger.keys import CLOSING_LANE, PREFIX
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.document import Document, Door
from tasks.model.job import Job, Record, Stored
from tasks.model.route import Route, Stage, Step
from tasks.pipeline.runner import StepRunner
from tasks.pipeline.step import StepContext, StepResult
from tasks.providers.base import DocumentGate, Registered
from tasks.sources.files import identity_of
from tests.tasks.folders.documents import claim, drop
from tests.tasks.ledger.test_ledger import STORED, expire_lease
from tests.tasks.pipeline.runners import runner_of
from tests.tasks.pipeline.test_runner import AtCreating, Creating, House, NoResults

ROUTE = Route(stages=(Stage.STORED, Stage.REGISTERED), first=Step.POST, together=False)


def nothing() -> None: ...


class Storing(Creating):
    """A provider that takes the bytes, and makes its final record when it is told of them."""

    presign_creates = False

    def __init__(self) -> None:
        super().__init__()
        self.while_storing: Callable[[], None] = nothing
        self.while_registering: Callable[[], None] = nothing

    def route(self, document: Document) -> Route:
        return ROUTE

    def store(self, job: Job, gate: DocumentGate) -> Stored:
        self.while_storing()
        return STORED

    def register(self, job: Job, gate: DocumentGate) -> Registered:
        self.while_registering()
        gate.commit()
        assert job.facts.stored == STORED, "it knows what the step before has found"
        return Registered(Record("r-1"), processed=True)


class AtStoring(AtCreating):
    def __init__(self) -> None:
        super().__init__()
        self.provider: Storing = Storing()


class GoingOn(House):
    """As in a worker: its steps go on."""

    def __init__(self, client: redis.Redis, data: Path) -> None:
        super().__init__(client, data)
        self.at = AtStoring()
        self.announced: list[Step] = []
        self.results: list[StepResult] = []
        self.stopping = threading.Event()

    def worker(self) -> StepRunner:
        accounts: Mapping[str, object] = {"north_clinic": self.at}
        return runner_of(
            self.ledger,
            self.commit_log,
            self.documents,
            self.consequences,
            accounts,
            NoResults(),
            kind=StepContext,
            stopping=self.stopping,
        )

    def opened(self, **wishes: object) -> str:
        job_id = str(uuid4())
        path = claim(self.folders, drop(self.folders, "a.pdf"), job_id)
        status = path.stat()
        document = Document(
            "north_clinic", "4711", path.as_uri(), "a.pdf", status.st_size, identity_of(status), door=Door.INBOX
        )
        self.ledger.open(job_id, replace(document, **wishes), "storing", route=ROUTE)  # type: ignore[arg-type]
        return job_id

    @contextmanager
    def announce(self, lease: Lease) -> Iterator[Callable[[StepResult], None]]:
        self.announced.append(lease.job.step)
        yield self.results.append

    def row(self, job_id: str) -> dict[str, str]:
        return {str(key): str(value) for key, value in self.ledger.redis.hgetall(f"{PREFIX}job:{job_id}").items()}

    def due_in_seconds(self, job_id: str, lane: str = "north_clinic") -> float:
        due = self.ledger.redis.zscore(f"{PREFIX}due:{lane}", job_id)
        assert due is not None, "it has its due entry"
        now = int(self.ledger.redis.time()[0])
        return float(due) / 1000 - now


@pytest.fixture
def house(valkey: redis.Redis, tmp_path: Path) -> GoingOn:
    return GoingOn(valkey, tmp_path / "data")


def test_the_steps_of_a_chain_follow_each_other_in_one_run_and_each_is_announced(house: GoingOn) -> None:
    job = house.opened()
    result = house.worker().run(Step.POST, job, house.announce)
    assert house.announced == [Step.REGISTER]
    assert [lease.job.stage for lease in result.to_close_here] == [Stage.DELIVERED]
    row = house.row(job)
    assert (row["stage"], row["step"], row["tried_post"], row["tried_register"]) == ("delivered", "notify", "1", "1")


def test_while_it_goes_on_the_job_has_its_lease_its_slot_and_its_due_entry(house: GoingOn) -> None:
    job, seen = house.opened(), []
    token = []

    def look() -> None:
        row = house.row(job)
        seen.append(
            (
                row["stage"],
                row["step"],
                row["sent_at"] != "0",
                house.ledger.redis.zscore(f"{PREFIX}flying:north_clinic", job) is not None,
            )
        )
        token.append(row["token"])
        assert house.due_in_seconds(job) > house.ledger.lease_seconds / 2
        assert int(row["lease_until"]) > int(house.ledger.redis.time()[0]) * 1000

    house.at.provider.while_storing = house.at.provider.while_registering = look
    house.worker().run(Step.POST, job, house.announce)
    assert seen == [("received", "post", False, True), ("stored", "register", False, True)]
    assert token[0] == token[1] == house.row(job)["token"]
    assert house.due_in_seconds(job, CLOSING_LANE) > house.ledger.lease_seconds / 2, "and so while it is closed"


def test_a_kill_between_two_steps_costs_a_lease_and_another_worker_goes_on(house: GoingOn) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    job = house.opened()
    house.at.provider.while_registering = die
    with pytest.raises(Killed):
        house.worker().run(Step.POST, job, house.announce)
    row = house.row(job)
    assert (row["stage"], row["step"]) == ("stored", "register")
    house.at.provider.while_registering = nothing
    assert not house.worker().run(Step.REGISTER, job).to_close_here, "the lease of the dead one still runs"
    expire_lease(house.ledger, job)
    assert house.worker().run(Step.REGISTER, job).to_close_here
    assert house.now(job).stage is Stage.DELIVERED


def test_a_job_that_a_person_has_stopped_meanwhile_is_not_gone_on_with(house: GoingOn) -> None:
    job = house.opened()
    registered = []

    def cancel() -> None:
        now = house.now(job)
        assert house.ledger.take_over(now, moves.cancel(now)) == "ok"

    house.at.provider.while_storing = cancel
    house.at.provider.while_registering = lambda: registered.append(True)
    assert not house.worker().run(Step.POST, job, house.announce).to_close_here
    assert house.now(job).stage is Stage.CANCELLED
    assert not registered


def test_a_process_that_was_asked_to_end_ends_its_step_and_leaves_the_next_to_others_at_once(house: GoingOn) -> None:
    job = house.opened()
    house.at.provider.while_storing = house.stopping.set
    result = house.worker().run(Step.POST, job, house.announce)
    assert (result.forward, result.goes_on, house.announced) == (True, None, [])
    assert house.row(job)["step"] == "register"
    assert house.due_in_seconds(job) < 1
    assert house.ledger.redis.zscore(f"{PREFIX}flying:north_clinic", job) is None


@pytest.mark.parametrize(
    "wish", [{"callback_url": "https://there/"}, {"delete_source": True, "source": "s3://bucket/a.pdf"}]
)
def test_a_closing_that_may_take_long_is_left_to_a_message(house: GoingOn, wish: dict[str, object]) -> None:
    job = house.opened()
    lease = house.ledger.start(job, Step.POST)
    assert isinstance(lease, list)
    asked = replace(lease[0], job=replace(lease[0].job, document=replace(lease[0].job.document, **wish)))  # type: ignore[arg-type]
    context = StepContext(house.ledger, CommitLog(house.folders, None), house.documents, NoResults(), house.stopping)  # type: ignore[arg-type]
    ended = context.end(asked, moves.delivered(asked.job, Record("r-1"), 1, None))
    assert ended is not None
    assert (ended.to_close_by_message, ended.to_close_here) == ((job,), ())


def test_the_job_that_is_gone_on_with_is_the_one_that_a_start_would_read(house: GoingOn) -> None:
    job = house.opened()
    started = house.ledger.start(job, Step.POST)
    assert isinstance(started, list)
    facts = replace(started[0].job.facts, stored=STORED)
    lease = house.ledger.go_on(started[0], moves.stored(facts, Step.REGISTER, 2.0, calls=3))
    assert lease is not None
    assert lease.token == started[0].token
    read = house.now(job)
    assert replace(read, next_at=None) == replace(lease.job, next_at=None)
    assert Ledger(house.ledger.redis, Seal("a secret"), lease_seconds=30, jobs_days=30).get(job) == read


def test_a_record_that_proves_another_job_leads_nowhere(house: GoingOn) -> None:
    first, second = house.opened(), house.opened()
    assert house.worker().run(Step.POST, first).to_close_here
    house.ledger.redis.delete(f"{PREFIX}name:{house.row(second)['name']}")
    result = house.worker().run(Step.POST, second, house.announce)
    assert not result.to_close_here
    assert house.now(second).stage is not Stage.DELIVERED
