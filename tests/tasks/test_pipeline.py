"""Steps whose record turns out to be another job's: the job forgets it, looks for its own, and loops nowhere."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
import redis

from config.accounts import OvokAccount
from tasks.accounts import Accounts
from tasks.aftermath import Aftermath
from tasks.care import Care
from tasks.folders import Folders
from tasks.health import Gates
from tasks.job import Document, Door, Facts, Form, Job, Record, Route, Stage, Step
from tasks.keeper import Keeper
from tasks.ledger import Ledger
from tasks.pipeline import Pipeline
from tasks.providers.base import Attempt, Found
from tasks.results import Results
from tasks.seal import Seal
from tasks.sources import Files, Objects, Sources
from tests.tasks.folders.documents import claim, drop

ROUTE = Route(together=False, account_wide=True)


class Creating:
    """A provider that makes a record at presign. `makes` and `finds` are the ids of its next answers."""

    kind = "creating"
    stages = ROUTE.stages
    presign_creates = True

    def __init__(self) -> None:
        self.makes: list[str] = []
        self.finds: list[str] = []
        self.limit_group = "creating"

    def route(self, document: Document) -> Route:
        return ROUTE

    def check(self, document: Document) -> None: ...

    def sent_name(self, document: Document) -> str:
        return document.file_name

    def before_sending(self, job: Job) -> Facts:
        return replace(job.facts, provider={"since": "then"})

    def presign(self, job: Job, attempt: Attempt) -> Form:
        assert job.facts.provider == {"since": "then"}, "it is given what was noted just before"
        if job.facts.record is None:
            attempt.commit()
            return Form("https://s3/", {"key": "k"}, Record(self.makes.pop(0)))
        return Form("https://s3/", {"key": "k"}, job.facts.record)

    def look(self, jobs: Sequence[Job], claimed: Mapping[str, str]) -> Mapping[str, Found]:
        return {job.id: Found(Record(self.finds.pop(0)), Stage.RECEIVED) for job in jobs if self.finds}


class AtCreating:
    """The account of that provider."""

    def __init__(self) -> None:
        self.name = "north_clinic"
        self.provider = Creating()
        self.settings = OvokAccount.model_validate(
            {"provider": "ovok", "email": "e", "password": "p", "client_id": "c", "duplicates": "send"}
        )

    def start_counting(self) -> None: ...

    def counted(self) -> int:
        return 0


class House:
    """A pipeline on a real Valkey and real folders, with one account at that provider."""

    def __init__(self, client: redis.Redis, data: Path) -> None:
        self.account = AtCreating()
        self.folders = Folders(data)
        self.folders.create()
        self.care = Care(self.folders, Sources(Files([data]), Objects([])), None)
        self.ledger = Ledger(client, Seal("a secret"), lease_seconds=30, jobs_days=30)
        aftermath = Aftermath(
            self.ledger,
            Gates(client, probe_first_seconds=1, probe_cap_seconds=1),
            self.care,
            first=1,
            cap=1,
            give_up_after=60,
        )
        self.pipeline = Pipeline(
            ledger=self.ledger,
            keeper=Keeper(self.ledger),
            accounts=cast(Accounts, {"north_clinic": self.account}),  # what a pipeline asks of an account, and no more
            care=self.care,
            results=cast(Results, NoResults()),
            aftermath=aftermath,
            stopping=threading.Event(),
        )

    def job(self, name: str) -> str:
        job_id = str(uuid4())
        path = claim(self.folders, drop(self.folders, name), job_id)
        located = self.care.sources.locate(path.as_uri())
        document = Document(
            "north_clinic", None, path.as_uri(), name, located.size_bytes, located.identity, door=Door.INBOX
        )
        assert self.ledger.open(job_id, document, "creating", route=ROUTE).kind == "opened"
        return job_id

    def seen(self, job_id: str) -> tuple[Stage, Step, Record | None, Record | None]:
        """Stage and step, the record as the ledger knows it, and as job.json does."""
        job = self.ledger.get(job_id)
        assert job is not None
        return job.stage, job.step, job.facts.record, self.care.record_on_disk(job)


class NoResults:
    def progress(self, *_: Any) -> None: ...


@pytest.fixture
def house(valkey: redis.Redis, tmp_path: Path) -> House:
    return House(valkey, tmp_path / "data")


def test_a_record_that_was_made_is_known_in_ledger_and_folder_before_anything_is_uploaded(house: House) -> None:
    job = house.job("a.pdf")
    house.account.provider.makes = ["r-1"]
    assert house.pipeline.run(Step.PRESIGN, job).forward
    assert house.seen(job) == (Stage.PRESIGNED, Step.POST, Record("r-1"), Record("r-1"))


def test_a_record_that_another_job_has_taken_meanwhile_is_forgotten_and_its_own_is_looked_for(house: House) -> None:
    taker, job = house.job("a.pdf"), house.job("b.pdf")
    house.account.provider.makes = ["r-1", "r-1"]
    house.pipeline.run(Step.PRESIGN, taker)
    house.pipeline.run(Step.PRESIGN, job)
    assert house.seen(job) == (Stage.RECEIVED, Step.CONFIRM, None, None)
    house.account.provider.finds = ["r-2"]
    house.pipeline.run(Step.CONFIRM, job)
    assert house.seen(job) == (Stage.RECEIVED, Step.PRESIGN, Record("r-2"), Record("r-2"))
    assert house.pipeline.run(Step.PRESIGN, job).forward, "into the one that was found, and none is made"


def test_a_place_that_another_job_has_taken_meanwhile_is_not_gone_on_with(house: House) -> None:
    taker, job = house.job("a.pdf"), house.job("b.pdf")
    house.account.provider.makes = ["r-1", "r-1"]
    house.pipeline.run(Step.PRESIGN, taker)
    house.pipeline.run(Step.PRESIGN, job)
    house.account.provider.finds = ["r-1"]
    house.pipeline.run(Step.CONFIRM, job)
    assert house.seen(job) == (Stage.RECEIVED, Step.CONFIRM, None, None)
    held = house.ledger.get(job)
    assert held
    assert house.care.committed_on_disk(replace(held, step=Step.PRESIGN))
