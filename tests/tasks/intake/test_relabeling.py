"""Relabelings at work: only the worker that has the job's lease at that moment changes labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from tasks.accounts.account import Account
from tasks.accounts.rate_limit import RateLimit
from tasks.folders.commit_log import CommitLog
from tasks.folders.layout import Folders
from tasks.ledger import moves
from tasks.ledger.keys import PREFIX
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.document import Document, Label, Relabeling
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from tests.tasks.ledger.test_ledger import start
from tests.tasks.pipeline.runners import consequences_of, documents_of, runner_of
from tests.tasks.pipeline.test_runner import NoResults
from tests.tasks.providers.doubles import DictCache
from tests.tasks.providers.odd_nhn import DOCUMENT_ID, PATCH, TOKEN, OddNhn, labelled
from tests.tasks.providers.odd_server import Reply, Request
from tests.tasks.providers.test_nhn import account_at


class Hospital:
    """A pipeline on a real Valkey, with one account at an odd NHN; `meanwhile` is done before it gives a token."""

    def __init__(self, client: redis.Redis, odd: OddNhn, data: Path) -> None:
        self.odd = odd
        self.ledger = Ledger(client, Seal("a secret"), lease_seconds=30, jobs_days=30)
        self.account = Account("hospital", account_at(odd), RateLimit(client), DictCache())
        documents = documents_of(data)
        commit_log = CommitLog(Folders(data), None)
        consequences = consequences_of(self.ledger, commit_log, documents)
        self.runner = runner_of(
            self.ledger, commit_log, documents, consequences, {"hospital": self.account}, NoResults()
        )

    def opened(self, *codes: str) -> str:
        job_id = str(uuid4())
        labels = tuple(Label("urn:oid:2.999", code) for code in codes)
        document = Document("hospital", None, "", "", 0, relabeling=Relabeling(DOCUMENT_ID, labels))
        self.ledger.open(job_id, document, "nhn", route=self.account.provider.route(document))
        return job_id

    def job(self, job_id: str) -> Job:
        found = self.ledger.get(job_id)
        assert found is not None
        return found

    def changes(self) -> list[bytes]:
        """The changes that NHN received. A request that was cut before its last block is not one."""
        return [request.body for request in self.odd.to(PATCH) if request.body]

    def while_a_token_is_given(self, act: Callable[[], object]) -> None:
        def answer(request: Request) -> Reply:
            act()
            return self.odd.give_token(request)

        self.odd.answers[TOKEN] = answer


@pytest.fixture
def hospital(valkey: redis.Redis, tmp_path: Path) -> Iterator[Hospital]:
    with OddNhn() as odd:
        odd.answers[PATCH] = Reply(body=labelled("N"))
        yield Hospital(valkey, odd, tmp_path)


def test_a_relabeling_that_is_cancelled_while_it_waits_for_a_token_changes_nothing(hospital: Hospital) -> None:
    job = hospital.opened("N")
    said: list[str] = []
    hospital.while_a_token_is_given(
        lambda: said.append(hospital.ledger.take_over(hospital.job(job), moves.cancel(hospital.job(job))))
    )
    hospital.runner.run(Step.REGISTER, job)
    assert said == ["ok"]
    assert hospital.changes() == []


def test_labels_of_a_worker_that_has_lost_its_lease_never_come_after_those_of_another(hospital: Hospital) -> None:
    job = hospital.opened("N")

    def another_takes_it() -> None:
        hospital.ledger.redis.hset(f"{PREFIX}job:{job}", "lease_until", 1)
        start(hospital.ledger, job, Step.REGISTER)

    hospital.while_a_token_is_given(another_takes_it)
    hospital.runner.run(Step.REGISTER, job)
    assert hospital.changes() == []
    assert not hospital.job(job).uncertainty.committed


def test_a_relabeling_that_is_not_answered_is_simply_sent_again(hospital: Hospital) -> None:
    job = hospital.opened("N")
    hospital.odd.answers[PATCH] = Reply(503)
    hospital.runner.run(Step.REGISTER, job)
    waits = hospital.job(job)
    assert (waits.stage, waits.step, waits.uncertainty.committed, waits.counts.failures) == (
        Stage.RECEIVED,
        Step.REGISTER,
        False,
        1,
    )
    hospital.odd.answers[PATCH] = Reply(body=labelled("N"))
    hospital.runner.run(Step.REGISTER, job)
    assert hospital.job(job).stage is Stage.DELIVERED
