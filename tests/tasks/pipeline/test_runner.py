"""Steps whose record turns out to be another job's: the job forgets it, searches for its own, and does not loop."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import uuid4

import pytest
import redis

from config.accounts import Account as AccountSettings
from config.accounts import OvokAccount
from tasks.accounts.account import Account
from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.rate_limit import RateLimit
from tasks.accounts.status import AccountStatuses
from tasks.folders.commit_log import CommitLog
from tasks.folders.layout import Folders
from tasks.ledger import moves
from tasks.ledger.keys import PREFIX
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.document import Document, Door
from tasks.model.errors import (
    AccountBlocked,
    Code,
    DocumentRefused,
    OutcomeUnknown,
    PresignAgain,
    RetryLater,
    StepError,
)
from tasks.model.job import Facts, Form, Job, Record
from tasks.model.route import Route, Stage, Step
from tasks.providers.base import DocumentGate, Found
from tasks.sources.files import identity_of
from tests.harness import formats
from tests.harness.keys import SEAL
from tests.tasks.folders.documents import CONTENT, claim, drop
from tests.tasks.ledger.test_ledger import STORED, expire_lease, start
from tests.tasks.pipeline.runners import consequences_of, documents_of, runner_of

ROUTE = Route(together=False, account_wide=True)


class Creating:
    """A provider that makes a record at presign. `makes` and `finds` are the ids of its next answers."""

    kind = "creating"
    stages = ROUTE.stages
    presign_creates = True

    def __init__(self) -> None:
        self.makes: list[str] = []
        self.finds: list[str] = []
        self.presign_raises: StepError | None = None
        self.find_raises: StepError | None = None
        self.doubt = ""
        self.thorough: list[bool] = []
        self.limit_group = "creating"

    def route(self, document: Document) -> Route:
        return ROUTE

    def check(self, document: Document) -> None: ...

    def sent_name(self, document: Document) -> str:
        return document.file_name

    def before_sending(self, job: Job) -> Facts:
        return replace(job.facts, provider={"since": "then"})

    def presign(self, job: Job, gate: DocumentGate) -> Form:
        assert job.facts.provider == {"since": "then"}, "it is given what was noted just before"
        if job.facts.record is None:
            gate.commit()
            made = Record(self.makes.pop(0))
            if self.presign_raises:
                raise self.presign_raises
            return Form("https://s3/", {"key": "k"}, made)
        return Form("https://s3/", {"key": "k"}, job.facts.record)

    def probe(self) -> None: ...

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str], *, thorough: bool = False) -> Mapping[str, Found]:
        self.thorough.append(thorough)
        if self.find_raises:
            raise self.find_raises
        if self.doubt:
            return {job.id: Found(Record("9"), doubt=self.doubt) for job in jobs}
        return {job.id: Found(Record(self.finds.pop(0)), Stage.RECEIVED) for job in jobs if self.finds}


class AtCreating:
    """The account of that provider."""

    def __init__(self) -> None:
        self.name = "north_clinic"
        self.provider = Creating()
        self.settings = OvokAccount.model_validate(
            {"provider": "ovok", "email": "e", "password": "p", "client_id": "c", "duplicates": "send"}
        )

    def reason(self, error: StepError) -> str:
        return str(error)

    def start_counting(self) -> None: ...

    def counted(self) -> int:
        return 0


class House:
    """A pipeline on a real Valkey and real folders, with one account at that provider."""

    def __init__(self, client: redis.Redis, data: Path) -> None:
        self.account = AtCreating()
        self.folders = Folders(data, SEAL)
        self.folders.create()
        self.commit_log = CommitLog(self.folders, None)
        self.documents = documents_of(data, data)
        self.ledger = Ledger(client, Seal("a secret"), lease_seconds=30, jobs_days=30)
        self.breaker = CircuitBreaker(client, probe_first_seconds=1, probe_cap_seconds=1)
        self.consequences = consequences_of(self.ledger, self.commit_log, self.documents)
        self.runner = runner_of(
            self.ledger, self.commit_log, self.documents, self.consequences, {"north_clinic": self.account}, NoResults()
        )

    def job(self, name: str) -> str:
        job_id = str(uuid4())
        path = claim(self.folders, drop(self.folders, name), job_id)
        status = path.stat()
        document = Document(
            "north_clinic", None, path.as_uri(), name, status.st_size, identity_of(status), door=Door.INBOX
        )
        assert self.ledger.open(job_id, document, "creating", route=ROUTE).kind == "opened"
        return job_id

    def stored(self, name: str) -> str:
        """A document that was stored in the record that was made for it, and waits for its confirmation."""
        job_id = self.job(name)
        self.account.provider.makes = ["r-1"]
        self.runner.run(Step.PRESIGN, job_id)
        lease = start(self.ledger, job_id, Step.POST)
        self.ledger.apply(lease, moves.stored(replace(lease.job.facts, stored=STORED), Step.CONFIRM, 0, calls=0))
        return job_id

    def closed(self, job_id: str) -> None:
        """Its error file is written, and the slow search begins."""
        lease = start(self.ledger, job_id, Step.NOTIFY)
        self.ledger.apply(lease, moves.search_slowly(lease.job, 0, moves.ClosingDone()))

    def now(self, job_id: str) -> Job:
        job = self.ledger.get(job_id)
        assert job is not None
        return job

    def long_ago(self, job_id: str, *fields: str) -> None:
        for field in fields:
            self.ledger.redis.hset(f"{PREFIX}job:{job_id}", field, 1)

    @contextmanager
    def lost_by_redis(self, job_id: str) -> Iterator[None]:
        """What the ledger learns of a job meanwhile was in the last second before Redis was killed."""
        kept = self.ledger.redis.dump(f"{PREFIX}job:{job_id}") or b""
        yield
        self.ledger.redis.restore(f"{PREFIX}job:{job_id}", 0, kept, replace=True)

    def sent_again(self, job_id: str) -> None:
        """Its outcome is unknown, and the search has found nothing until its deadline."""
        self.account.provider.makes = ["r-1"]
        self.account.provider.presign_raises = OutcomeUnknown("no answer")
        self.runner.run(Step.PRESIGN, job_id)
        self.runner.run(Step.CONFIRM, job_id)
        self.long_ago(job_id, "unknown_since")
        self.runner.run(Step.CONFIRM, job_id)
        assert self.seen(job_id)[:2] == (Stage.RECEIVED, Step.PRESIGN)

    def clock_was_set(self, ahead_seconds: float) -> None:
        """Redis's clock was set, so that the ledger's is ahead of it by so much."""
        self.ledger.redis.hset(PREFIX + "clock", "ahead", int(ahead_seconds * 1000))

    def delivered(self, job_id: str) -> None:
        lease = start(self.ledger, job_id, Step.CONFIRM)
        assert self.ledger.apply(lease, moves.delivered(lease.job, Record(f"record of {job_id}"), 0, None))

    def expire_lease(self, job_id: str) -> None:
        expire_lease(self.ledger, job_id)

    def seen(self, job_id: str) -> tuple[Stage, Step, Record | None, Record | None]:
        """Stage and step, the record as the ledger knows it, and as job.json does."""
        job = self.ledger.get(job_id)
        assert job is not None
        return job.stage, job.step, job.facts.record, self.commit_log.record_on_disk(job)


class NoResults:
    def progress(self, *_: Any) -> None: ...


@pytest.fixture
def house(valkey: redis.Redis, tmp_path: Path) -> House:
    return House(valkey, tmp_path / "data")


def test_a_record_that_was_made_is_known_in_ledger_and_folder_before_anything_is_uploaded(house: House) -> None:
    job = house.job("a.pdf")
    house.account.provider.makes = ["r-1"]
    assert house.runner.run(Step.PRESIGN, job).forward
    assert house.seen(job) == (Stage.PRESIGNED, Step.POST, Record("r-1"), Record("r-1"))


def test_a_record_that_another_job_has_taken_meanwhile_is_forgotten_and_its_own_is_searched_for(house: House) -> None:
    taker, job = house.job("a.pdf"), house.job("b.pdf")
    house.account.provider.makes = ["r-1", "r-1"]
    house.runner.run(Step.PRESIGN, taker)
    house.runner.run(Step.PRESIGN, job)
    assert house.seen(job) == (Stage.RECEIVED, Step.CONFIRM, None, None)
    house.account.provider.finds = ["r-2"]
    house.runner.run(Step.CONFIRM, job)
    assert house.seen(job) == (Stage.RECEIVED, Step.PRESIGN, Record("r-2"), Record("r-2"))
    assert house.runner.run(Step.PRESIGN, job).forward, "into the one that was found, and none is made"


def test_a_place_that_another_job_has_taken_meanwhile_is_not_gone_on_with(house: House) -> None:
    taker, job = house.job("a.pdf"), house.job("b.pdf")
    house.account.provider.makes = ["r-1", "r-1"]
    house.runner.run(Step.PRESIGN, taker)
    house.runner.run(Step.PRESIGN, job)
    house.account.provider.finds = ["r-1"]
    house.runner.run(Step.CONFIRM, job)
    assert house.seen(job) == (Stage.RECEIVED, Step.CONFIRM, None, None)
    assert house.commit_log.committed_on_disk(replace(house.now(job), step=Step.PRESIGN))


# --- searches that fail ----------------------------------------------------------------------------------------------

REFUSED = AccountBlocked("The list of this patient is refused.", credentials=True)
UNKNOWN_PATIENT = DocumentRefused(Code.REFUSED_BY_PROVIDER, "No such patient.")
BROKEN = RetryLater("The list of this patient is broken.", unreachable=True)


def search_twice(house: House, job: str, error: StepError) -> None:
    """Twice, since the first refusal is the account's matter."""
    house.account.provider.find_raises = error
    for _ in range(2):
        house.expire_lease(job)
        house.runner.run(Step.CONFIRM, job)


@pytest.mark.parametrize("error", [REFUSED, UNKNOWN_PATIENT, BROKEN])
def test_what_was_sent_is_not_refused_because_a_search_is(house: House, error: StepError) -> None:
    job = house.stored("a.pdf")
    search_twice(house, job, error)
    waits = house.now(job)
    assert (waits.stage, waits.step) == (Stage.STORED, Step.CONFIRM)


@pytest.mark.parametrize("error", [REFUSED, UNKNOWN_PATIENT, BROKEN])
def test_searches_that_fail_end_with_the_patience_for_a_record(house: House, error: StepError) -> None:
    job = house.stored("a.pdf")
    house.long_ago(job, "since_stored", "failing_since")
    search_twice(house, job, error)
    failed = house.now(job)
    assert (failed.stage, failed.code, failed.still_reconciling) == (Stage.FAILED, Code.NOT_CONFIRMED, True)


@pytest.mark.parametrize("error", [REFUSED, UNKNOWN_PATIENT, BROKEN])
def test_a_slow_search_that_fails_ends_after_its_day(house: House, error: StepError) -> None:
    job = house.stored("a.pdf")
    house.long_ago(job, "since_stored")
    house.runner.run(Step.CONFIRM, job)
    house.closed(job)
    house.long_ago(job, "unknown_since", "failing_since")
    search_twice(house, job, error)
    failed = house.now(job)
    assert (failed.stage, failed.step, failed.still_reconciling) == (Stage.FAILED, Step.NOTIFY, False)


@pytest.mark.parametrize("error", [REFUSED, UNKNOWN_PATIENT, BROKEN])
def test_what_may_have_been_sent_and_cannot_be_searched_for_is_never_sent_again_but_needs_a_person(
    house: House, error: StepError
) -> None:
    job = house.job("a.pdf")
    house.account.provider.makes = ["r-1"]
    house.account.provider.presign_raises = OutcomeUnknown("no answer")
    house.runner.run(Step.PRESIGN, job)
    assert house.now(job).step is Step.CONFIRM
    search_twice(house, job, error)
    assert house.now(job).step is Step.CONFIRM
    house.long_ago(job, "unknown_since", "failing_since")
    search_twice(house, job, error)
    after = house.now(job)
    assert (after.stage, after.code, after.uncertainty.needs_person) == (Stage.FAILED, Code.OUTCOME_UNKNOWN, True)


def test_what_was_sent_before_and_is_refused_alone_now_needs_a_person_since_it_may_have_arrived(house: House) -> None:
    job = house.job("a.pdf")
    lease = start(house.ledger, job, Step.PRESIGN)
    house.ledger.apply(lease, moves.repeated(lease, 0, calls=0))
    for _ in range(2):
        house.consequences.of_error(REFUSED, [start(house.ledger, job, Step.PRESIGN)], cast(Account, house.account))
    after = house.now(job)
    assert (after.stage, after.code, after.uncertainty.needs_person) == (Stage.FAILED, Code.OUTCOME_UNKNOWN, True)


# --- forms that are of no use, and answers of strangers --------------------------------------------------------------


def useless_form(house: House, job: str, record: str = "r-1") -> Job:
    """One more form for the job, which is found to be of no use. Returns the job after that."""
    house.account.provider.makes = [record]
    house.expire_lease(job)
    assert house.runner.run(Step.PRESIGN, job).forward
    useless = PresignAgain("The upload form has expired.")
    house.consequences.of_error(useless, [start(house.ledger, job, Step.POST)], cast(Account, house.account))
    return house.now(job)


def test_forms_of_no_use_park_the_account_and_the_document_gets_another_one_when_it_works(house: House) -> None:
    job = house.job("a.pdf")
    for number in range(1, 9):
        after = useless_form(house, job)
        assert (after.stage, after.step, after.counts.presigns) == (Stage.RECEIVED, Step.PRESIGN, number)
        circuit = house.breaker.state("north_clinic")
        assert (circuit is not None) is (number >= 6)
        if circuit:
            assert circuit.reason == f"{number} forms in a row were of no use: The upload form has expired."
            house.breaker.half_open("north_clinic")


def test_no_document_fails_for_its_forms_while_others_get_through(house: House) -> None:
    job = house.job("a.pdf")
    for _ in range(12):
        after = useless_form(house, job)
        house.ledger.redis.hset(PREFIX + "account:north_clinic", "progress_at", int(time.time() * 1000) + 60_000)
        assert (after.stage, after.step) == (Stage.RECEIVED, Step.PRESIGN)
    assert house.breaker.state("north_clinic") is None, "the account works"


@pytest.mark.parametrize("ahead_seconds", [-3600, 3600])
@pytest.mark.parametrize("gets_through", [True, False])
def test_forms_are_judged_by_the_ledgers_clock_where_redis_clock_was_set(
    house: House, ahead_seconds: int, gets_through: bool
) -> None:
    job, other = house.job("a.pdf"), house.stored("b.pdf")
    house.clock_was_set(ahead_seconds)
    for _ in range(7):
        useless_form(house, job, "r-2")
    house.account.provider.makes = ["r-2"]
    house.expire_lease(job)
    house.breaker.half_open("north_clinic")
    if not gets_through:  # since the last form
        house.delivered(other)
        time.sleep(0.01)  # the clock counts milliseconds
    house.runner.run(Step.PRESIGN, job)
    if gets_through:
        time.sleep(0.01)
        house.delivered(other)
    useless = PresignAgain("The upload form has expired.")
    house.consequences.of_error(useless, [start(house.ledger, job, Step.POST)], cast(Account, house.account))
    assert (house.breaker.state("north_clinic") is None) is gets_through


@pytest.mark.parametrize("ahead_seconds", [-3600, 3600])
def test_a_sender_that_still_writes_has_its_seconds_where_redis_clock_was_set(
    house: House, tmp_path: Path, ahead_seconds: int
) -> None:
    house.clock_was_set(ahead_seconds)
    path = tmp_path / "data" / "calls.pdf"
    with path.open("wb") as writer:
        writer.write(formats.pdf())
        writer.flush()
        status = path.stat()
        call = Document("north_clinic", None, path.as_uri(), path.name, status.st_size, identity_of(status))
        job = str(uuid4())
        house.ledger.open(job, call, "creating", route=ROUTE)
        house.runner.run(Step.PRESIGN, job)
        assert (house.now(job).stage, house.now(job).code) == (Stage.RECEIVED, None)
        house.long_ago(job, "since_received")
        house.expire_lease(job)
        house.runner.run(Step.PRESIGN, job)
        assert (house.now(job).stage, house.now(job).code) == (Stage.FAILED, Code.FILE_INCOMPLETE)


@pytest.mark.parametrize("stranger", [True, False])
def test_a_success_that_is_not_the_providers_fails_no_document_however_often_it_comes(
    house: House, stranger: bool
) -> None:
    job = house.job("a.pdf")
    error = AccountBlocked("The answer did not come from Creating.", never_the_document=stranger)
    for _ in range(4):
        house.expire_lease(job)
        house.consequences.of_error(error, [start(house.ledger, job, Step.PRESIGN)], cast(Account, house.account))
        house.ledger.redis.hset(PREFIX + "account:north_clinic", "progress_at", int(time.time() * 1000) + 60_000)
        house.breaker.half_open("north_clinic")
        if house.now(job).stage is Stage.FAILED:
            break
    assert (house.now(job).stage is Stage.FAILED) is not stranger


def test_what_a_web_filter_keeps_back_fails_with_its_name_and_not_the_providers(house: House) -> None:
    job = house.job("a.pdf")
    error = AccountBlocked("The storage answered 403 without saying why.", by_stranger=True)
    for _ in range(2):
        house.consequences.of_error(error, [start(house.ledger, job, Step.PRESIGN)], cast(Account, house.account))
        house.ledger.redis.hset(PREFIX + "account:north_clinic", "progress_at", int(time.time() * 1000) + 60_000)
    failure = house.now(job).failure
    assert failure is not None
    assert "Something between chartpost and the provider" in failure.message
    assert "web filter" in failure.hint
    assert failure.detail == str(error)


def test_behind_a_stopped_group_a_document_is_due_soon_for_a_person_may_lift_it(house: House) -> None:
    """The whole group is stopped for an hour anyway."""
    job = house.job("a.pdf")
    error = RetryLater("Come back.", after_seconds=3600, throttled=True, group_reason="It asks us to wait until then.")
    lease = start(house.ledger, job, Step.PRESIGN)
    house.consequences.of_error(error, [lease], cast(Account, house.account))
    due = house.now(job).next_at
    assert due is not None
    assert timedelta(seconds=59) <= due - lease.now <= timedelta(seconds=80)
    limit = RateLimit(house.ledger.redis)
    settings = cast(AccountSettings, SimpleNamespace(provider="creating", limit_group="creating"))
    statuses = AccountStatuses(house.ledger.redis, house.breaker, limit, {"north_clinic": settings})
    health = statuses.health("north_clinic")
    assert (health.status, health.reason) == ("throttled", "It asks us to wait until then.")
    assert health.resumes_at is not None
    assert health.resumes_at - lease.now > timedelta(seconds=3590)
    limit.resume("creating", ["north_clinic"])
    limit.throttle("creating", 5)
    assert statuses.health("north_clinic").reason == "The limit of requests is used up."


# --- what Redis has lost of its last second --------------------------------------------------------------------------


def test_a_second_sending_that_redis_has_lost_is_searched_for_as_the_first_was(house: House) -> None:
    job = house.job("a.pdf")
    house.sent_again(job)
    house.account.provider.makes = ["r-2", "r-3"]
    with house.lost_by_redis(job):
        house.runner.run(Step.PRESIGN, job)
    house.runner.run(Step.PRESIGN, job)
    assert house.account.provider.makes == ["r-3"], "only what was sent before Redis lost it"
    assert house.seen(job)[:2] == (Stage.RECEIVED, Step.CONFIRM)


def test_a_search_whose_end_redis_has_lost_begins_again_after_the_second_sending(house: House) -> None:
    job = house.job("a.pdf")
    house.account.provider.makes = ["r-1", "r-2", "r-3"]
    house.account.provider.presign_raises = OutcomeUnknown("no answer")
    house.runner.run(Step.PRESIGN, job)
    house.runner.run(Step.CONFIRM, job)
    house.long_ago(job, "unknown_since")
    with house.lost_by_redis(job):
        house.runner.run(Step.CONFIRM, job)
        house.runner.run(Step.PRESIGN, job)
    house.runner.run(Step.CONFIRM, job)
    assert house.seen(job)[:2] == (Stage.RECEIVED, Step.CONFIRM)


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1), timedelta(days=365)])
def test_a_worker_whose_clock_is_wrong_at_the_commit_changes_nothing_of_how_long_it_is_searched_for(
    house: House, ahead: timedelta
) -> None:
    job = house.job("a.pdf")
    house.account.provider.makes = ["r-1"]
    house.account.provider.presign_raises = OutcomeUnknown("no answer")
    house.runner.run(Step.PRESIGN, job)
    house.folders.update_commit(job, noted_at=datetime.now(UTC) + ahead)
    for _ in range(3):
        house.runner.run(Step.CONFIRM, job)
        assert house.seen(job)[:2] == (Stage.RECEIVED, Step.CONFIRM), "it is searched for"
    house.long_ago(job, "unknown_since")
    house.runner.run(Step.CONFIRM, job)
    assert house.seen(job)[:2] == (Stage.RECEIVED, Step.PRESIGN), "and sent again"


def test_what_was_searched_for_until_the_deadline_is_sent_again_and_not_searched_for_again(house: House) -> None:
    job = house.job("a.pdf")
    house.sent_again(job)
    house.account.provider.presign_raises = None
    house.account.provider.makes = ["r-2"]
    assert house.runner.run(Step.PRESIGN, job).forward


def test_a_list_that_does_not_add_up_for_long_is_said_of_the_account_which_goes_on(house: House) -> None:
    job_id = house.stored("a.pdf")
    breaker = CircuitBreaker(house.ledger.redis, probe_first_seconds=1, probe_cap_seconds=1)
    for lasting in (False, True):
        house.account.provider.find_raises = RetryLater("The list does not add up.", lasting=lasting)
        house.expire_lease(job_id)
        house.runner.run(Step.CONFIRM, job_id)
        assert bool(breaker.remarked("north_clinic")) is lasting
    assert breaker.remarked("north_clinic") == (
        f"The list does not add up. Job {job_id} and others of its patient wait."
    )
    assert breaker.state("north_clinic") is None


def test_a_record_that_is_in_doubt_is_named_when_no_confirmation_comes(house: House) -> None:
    job_id = house.stored("a.pdf")
    house.account.provider.doubt = "A record of the same size came under another name: record 9."
    house.runner.run(Step.CONFIRM, job_id)
    assert house.now(job_id).stage is Stage.STORED
    house.long_ago(job_id, "since_stored")
    house.runner.run(Step.CONFIRM, job_id)
    failure = house.now(job_id).failure
    assert failure is not None
    assert failure.code is Code.NOT_CONFIRMED
    assert failure.message.endswith("record 9.")
    assert house.now(job_id).still_reconciling, "the search goes on"


def test_a_lost_answer_and_a_record_that_is_in_doubt_wait_for_a_person(house: House) -> None:
    job_id = house.job("a.pdf")
    house.account.provider.makes = ["r-1"]
    house.account.provider.presign_raises = OutcomeUnknown("no answer")
    house.runner.run(Step.PRESIGN, job_id)
    house.account.provider.doubt = "Record 9 may be it."
    house.runner.run(Step.CONFIRM, job_id)
    house.long_ago(job_id, "unknown_since")
    house.runner.run(Step.CONFIRM, job_id)
    job = house.now(job_id)
    assert job.failure is not None
    assert (job.stage, job.failure.code, job.uncertainty.needs_person) == (Stage.FAILED, Code.OUTCOME_UNKNOWN, True)
    assert "Record 9 may be it." in job.failure.message


def test_the_last_search_of_one_job_fails_alone(house: House) -> None:
    """The search before a second sending is thorough; where the list does not show all, nothing is sent."""
    job_id = house.job("a.pdf")
    house.account.provider.makes = ["r-1"]
    house.account.provider.presign_raises = OutcomeUnknown("no answer")
    house.runner.run(Step.PRESIGN, job_id)
    house.runner.run(Step.CONFIRM, job_id)
    assert house.account.provider.thorough == [False]
    house.long_ago(job_id, "unknown_since")
    house.account.provider.find_raises = RetryLater("The list does not add up.")
    house.runner.run(Step.CONFIRM, job_id)
    assert house.account.provider.thorough == [False, True]
    assert house.seen(job_id)[:2] == (Stage.RECEIVED, Step.CONFIRM)


def test_a_document_whose_folder_is_not_here_is_not_sent_and_fails_only_after_a_lease(house: House) -> None:
    job = house.job("a.pdf")
    house.account.provider.makes = ["r-1"]
    folder = house.folders.job_folder(job).path
    away = folder.rename(folder.with_name("away"))
    house.runner.run(Step.PRESIGN, job)
    assert (house.now(job).stage, house.now(job).counts.failures) == (Stage.RECEIVED, 1)
    assert house.account.provider.makes == ["r-1"], "nothing was sent"

    away.rename(folder)  # as another machine finds it, to which the job is bound by then
    assert house.runner.run(Step.PRESIGN, job).forward

    gone = house.job("b.pdf")
    folder = house.folders.job_folder(gone).path
    folder.rename(folder.with_name("gone"))
    house.runner.run(Step.PRESIGN, gone)
    house.long_ago(gone, "failing_since")
    house.runner.run(Step.PRESIGN, gone)
    assert (house.now(gone).stage, house.now(gone).code) == (Stage.FAILED, Code.FILE_MISSING)


def test_a_document_whose_job_json_is_of_a_newer_version_waits_however_long_that_takes(house: House) -> None:
    job = house.job("a.pdf")
    house.account.provider.makes = ["r-1"]
    path = house.folders.job_folder(job).path / "job.json"
    before = path.read_text()
    newer = before.replace('"version": 1', '"version": 2')
    path.write_text(newer)
    for _ in range(2):
        house.runner.run(Step.PRESIGN, job)
        house.long_ago(job, "since_received", "at_received")
        house.expire_lease(job)
    assert (house.now(job).stage, house.now(job).counts.failures) == (Stage.RECEIVED, 0)
    assert (house.account.provider.makes, path.read_text()) == (["r-1"], newer), "nothing was sent, nothing written"

    path.write_text(before)  # as the newer version goes on with it
    assert house.runner.run(Step.PRESIGN, job).forward


def test_a_staged_document_waits_for_a_worker_whose_settings_stage(house: House) -> None:
    job_id = str(uuid4())
    source = f"s3://staging/{job_id}/document"
    document = Document("north_clinic", "4711", source, "a.pdf", 6, "etag", door=Door.INBOX, home="another machine")
    house.ledger.open(job_id, document, "creating", route=ROUTE)
    house.runner.run(Step.PRESIGN, job_id)
    now = house.now(job_id)
    # Not source_not_allowed: nobody but the operator of this worker can do anything about it.
    assert (now.stage, now.counts.failures, now.code) == (Stage.RECEIVED, 1, None)


def test_a_document_whose_folders_were_moved_is_found_where_they_are(house: House, tmp_path: Path) -> None:
    job = house.job("a.pdf")
    moved = house.folders.processing.parent.rename(tmp_path / "moved")
    with documents_of(moved).open(job, house.now(job).document) as source:
        assert source.read(100) == CONTENT


def test_a_job_of_an_account_that_these_settings_lack_is_left_to_other_workers(house: House) -> None:
    job = house.job("a.pdf")
    others = runner_of(house.ledger, house.commit_log, house.documents, house.consequences, {}, NoResults())
    assert not others.run(Step.PRESIGN, job).forward
    house.expire_lease(job)
    house.account.provider.makes = ["r-1"]
    assert house.runner.run(Step.PRESIGN, job).forward
