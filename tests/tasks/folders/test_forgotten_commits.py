"""A Redis that has forgotten commits is told of them by the machines that made them, before anything is sent."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis

from tasks.folders.commit_journal import CommitJournal
from tasks.folders.forgotten_commits import ForgottenCommits
from tasks.folders.machines import Machine
from tasks.ledger import moves
from tasks.ledger.keys import PREFIX
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.model.job import Facts, Failure, Job
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tests.tasks.ledger.test_ledger import PRESIGNED, document, start

FACTS = Facts(snapshot=("1", "2"), key="temp/scan.pdf")


class OneOfSeveral(Ledger):
    """A ledger in a Redis whose run a test chooses."""

    run = "first run"
    while_opening: Callable[[], object] = staticmethod(lambda: None)

    def _run(self, script: str, *args: object) -> Any:
        if script == "open":
            self.while_opening()
        return super()._run(script, *args)

    def redis_run(self) -> str:
        return self.run


class Here:
    """One machine: its folders and its view of Redis."""

    def __init__(self, client: redis.Redis, folder: Path, route: Route) -> None:
        self.ledger = OneOfSeveral(client, Seal("a secret"), lease_seconds=30, jobs_days=30)
        self.machine = Machine(client, folder)
        self.machine.beat()
        self.journal = CommitJournal(folder / "commits", self.ledger.codec.seal_facts)
        self.route = route
        self.start()

    def start(self) -> None:
        """As a new process on the same machine."""
        self.forgotten = ForgottenCommits(self.ledger, self.journal, self.machine, lambda _: self.route)

    def commits(self, job_id: str, step: Step = Step.POST) -> None:
        run = self.forgotten.ensure_known()
        number = int(self.ledger.redis.incr(PREFIX + "commits"))
        self.journal.note(number, run, job_id, step, FACTS)

    def job(self, job_id: str) -> Job:
        job = self.ledger.get(job_id)
        assert job is not None
        return job


def opened(machine: Here) -> str:
    job_id = str(uuid4())
    machine.ledger.open(job_id, document(), "pracsuite", route=machine.route)
    return job_id


def set_back(*machines: Here, commits: int = 0) -> None:
    """Redis comes back as a copy that knew so many commits."""
    machines[0].ledger.redis.set(PREFIX + "commits", commits)
    for machine in machines:
        machine.ledger.run = f"run {uuid4()}" if machine is machines[0] else machines[0].ledger.run


@pytest.fixture
def here(valkey: redis.Redis, tmp_path: Path) -> Here:
    return Here(valkey, tmp_path / "here", Route())


def test_a_job_whose_commit_was_forgotten_is_of_unknown_outcome(here: Here) -> None:
    job_id = opened(here)
    here.commits(job_id)
    set_back(here)
    here.forgotten.ensure_known()
    job = here.job(job_id)
    assert (job.stage, job.step, job.uncertainty.committed) == (Stage.PRESIGNED, Step.POST, True)
    assert job.facts == FACTS, "what a search needs is there again"
    assert here.ledger.name_holder(job.document) == job_id


def test_a_worker_that_holds_such_a_job_loses_it(here: Here) -> None:
    job_id = opened(here)
    here.commits(job_id)
    held = start(here.ledger, job_id, Step.PRESIGN)
    set_back(here)
    here.forgotten.ensure_known()
    assert here.ledger.renew([(job_id, held.token)]) == [False]


def test_a_message_that_comes_again_opens_its_job_as_of_unknown_outcome(here: Here) -> None:
    job_id = str(uuid4())
    here.commits(job_id)
    set_back(here)
    here.forgotten.ensure_known()
    here.ledger.open(job_id, document(), "pracsuite", route=here.route)
    job = here.job(job_id)
    assert (job.step, job.uncertainty.committed, job.facts) == (Step.POST, True, FACTS)


def test_a_job_that_is_opened_while_redis_is_told_of_its_commit_is_of_unknown_outcome(here: Here) -> None:
    """Whoever opens it has asked before the telling, and whoever tells has looked for the job before it was there."""
    job_id = str(uuid4())
    here.commits(job_id)
    set_back(here)
    here.ledger.while_opening = here.forgotten.ensure_known
    here.ledger.open(job_id, document(), "pracsuite", route=here.route)
    job = here.job(job_id)
    assert (job.step, job.uncertainty.committed, job.facts) == (Step.POST, True, FACTS)


def test_what_was_sent_under_a_lost_key_is_not_sent_again_without_a_person(here: Here) -> None:
    job_id = str(uuid4())
    here.commits(job_id)
    set_back(here)
    here.forgotten.ensure_known()
    with_new_key = Ledger(
        emptied_but_for(here.ledger.redis, "forgotten:"), Seal("another"), lease_seconds=30, jobs_days=30
    )
    with pytest.raises(DocumentRefused) as refused:
        with_new_key.open(job_id, document(), "pracsuite", route=here.route)
    assert refused.value.code is Code.OUTCOME_UNKNOWN
    assert with_new_key.get(job_id) is None
    failure = Failure(refused.value.code, refused.value.message)
    assert with_new_key.open(job_id, document(), "pracsuite", failure=failure).kind == "opened", "as for the stream"


def emptied_but_for(client: redis.Redis, beginning: str) -> redis.Redis:
    for key in client.scan_iter("*"):
        if not str(key).startswith(PREFIX + beginning):
            client.delete(str(key))
    return client


def test_a_provider_that_recognises_ids_is_sent_the_same_ones(valkey: redis.Redis, tmp_path: Path) -> None:
    route = Route((Stage.REGISTERED,), Step.REGISTER, on_unknown_outcome=OnUnknownOutcome.RESEND)
    here = Here(valkey, tmp_path / "here", route)
    job_id = opened(here)
    here.commits(job_id, Step.REGISTER)
    set_back(here)
    here.forgotten.ensure_known()
    job = here.job(job_id)
    assert (job.stage, job.step) == (Stage.RECEIVED, Step.REGISTER)
    assert (job.uncertainty.earlier_sending_unknown, job.facts) == (True, FACTS)


def test_a_redis_that_was_emptied_while_it_ran_is_told_as_after_a_restart(here: Here) -> None:
    job_id, later = opened(here), str(uuid4())
    here.commits(job_id)
    here.ledger.redis.flushall()  # its run id stays
    here.forgotten.ensure_known()
    here.ledger.open(job_id, document(), "pracsuite", route=here.route)
    assert (here.job(job_id).uncertainty.committed, here.job(job_id).facts) == (True, FACTS)

    here.commits(later)
    here.start()
    here.forgotten.ensure_known()
    assert not here.ledger.redis.exists(f"{PREFIX}forgotten:{later}"), "what was committed since is not forgotten"


def test_a_redis_that_has_forgotten_nothing_is_told_nothing(here: Here) -> None:
    job_id = opened(here)
    here.commits(job_id)
    set_back(here, commits=1)
    here.forgotten.ensure_known()
    assert not here.job(job_id).uncertainty.committed
    assert not here.ledger.redis.exists(f"{PREFIX}forgotten:{job_id}")


def test_what_was_committed_since_the_restart_is_not_taken_for_forgotten(here: Here) -> None:
    set_back(here)
    here.forgotten.ensure_known()
    job_id = opened(here)
    here.commits(job_id)
    here.start()
    here.forgotten.ensure_known()
    assert not here.job(job_id).uncertainty.committed


def test_numbers_go_on_above_those_that_were_forgotten(here: Here) -> None:
    first = opened(here)
    for _ in range(3):
        here.commits(first)
    set_back(here)
    here.forgotten.ensure_known()
    second = opened(here)
    here.commits(second)
    set_back(here, commits=3)  # a copy that was made before the last commit
    here.forgotten.ensure_known()
    assert here.job(second).uncertainty.committed


def test_a_job_that_has_gone_on_is_left_alone(here: Here) -> None:
    stored = opened(here)
    here.ledger.apply(start(here.ledger, stored, Step.PRESIGN), moves.presigned(PRESIGNED, "run", calls=1))
    lease = start(here.ledger, stored, Step.POST)
    here.ledger.commit(lease)
    here.commits(stored)
    before = here.job(stored)
    set_back(here)
    here.forgotten.ensure_known()
    assert replace(here.job(stored), updated_at=before.updated_at) == before


def test_nothing_is_sent_before_the_other_machine_has_reported(valkey: redis.Redis, tmp_path: Path) -> None:
    here, there = (Here(valkey, tmp_path / name, Route()) for name in ("here", "there"))
    job_id = opened(here)
    there.commits(job_id)
    set_back(here, there)
    with pytest.raises(RetryLater):
        here.forgotten.ensure_known()
    assert not here.job(job_id).uncertainty.committed
    there.forgotten.ensure_known()
    here.forgotten.ensure_known()
    assert here.job(job_id).uncertainty.committed


def test_a_machine_that_is_gone_holds_up_nobody_for_long(valkey: redis.Redis, tmp_path: Path) -> None:
    here, there = (Here(valkey, tmp_path / name, Route()) for name in ("here", "there"))
    there.commits(opened(there))
    set_back(here, there)
    with pytest.raises(RetryLater):
        here.forgotten.ensure_known()
    valkey.hincrby(PREFIX + "run", "at", -10_000)  # ten seconds later
    assert here.forgotten.ensure_known()
