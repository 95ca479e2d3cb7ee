"""The campaign's own counting notices every kind of fault in a result."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import redis

from tasks.model.document import Door
from tests.chaos.documents import Document, planned
from tests.chaos.expectations import examined
from tests.chaos.processes import SupervisedProcess
from tests.chaos.recovery import CONSUMING_WITHIN_LEASES, Flow, Recoveries
from tests.chaos.tracker import Outcome, Tracker
from tests.harness.installation import LEASE_SECONDS

INBOX = Document(1, Door.INBOX, "north_clinic", "p1", "scan.pdf", 20, 5, 0.0)
CALL = Document(2, Door.CELERY, "north_clinic", "p2", "call.pdf", 20, 5, 0.0)
REFUSED = Document(3, Door.STREAM, "north_clinic", "404-3", "nobody.pdf", 20, 5, 0.0, "refused_by_provider")


@dataclass
class Result:
    """What a faultless campaign of three documents leaves behind, for tests to spoil."""

    data: Path
    client: redis.Redis
    tracker: Tracker = field(default_factory=lambda: Tracker([INBOX, CALL, REFUSED]))
    records: list[dict[str, Any]] = field(default_factory=lambda: [record(INBOX, "11"), record(CALL, "12")])

    def __post_init__(self) -> None:
        for place in ("inbox", "processing", "failed"):
            (self.data / place).mkdir(parents=True)
        put(self.data / "delivered", INBOX)
        self.write_receipt(record(INBOX, "11"))
        for document in (INBOX, CALL, REFUSED):
            self.tracker.handed_in(document)
        self.tracker.settled(INBOX, Outcome("delivered"))
        self.tracker.settled(CALL, Outcome("delivered", receipt=receipt(record(CALL, "12"))))
        self.tracker.settled(REFUSED, Outcome("failed", "refused_by_provider"))

    def write_receipt(self, of: dict[str, Any]) -> None:
        path = self.data / "delivered" / "north_clinic" / "p1" / "scan.pdf.receipt.json"
        path.write_text(json.dumps(receipt(of)))

    def problems(self) -> list[str]:
        found = examined(self.records, self.data, self.client, self.tracker).problems()
        return sorted({problem.partition(":")[0] for problem in found})


def record(document: Document, record_id: str) -> dict[str, Any]:
    return {
        "tenant": document.account,
        "patient_id": document.patient_id,
        "file_name": document.file_name,
        "size_bytes": document.size_bytes,
        "sha256": document.sha256,
        "record_id": record_id,
    }


def receipt(of: dict[str, Any]) -> dict[str, Any]:
    return {**of, "account": of["tenant"], "record": {"id": of["record_id"]}, "assurance": "confirmed"}


def put(place: Path, document: Document) -> Path:
    folder = place / document.account / document.patient_id
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / document.file_name
    path.write_bytes(document.content)
    return path


@pytest.fixture
def result(tmp_path: Path, valkey: redis.Redis) -> Result:
    return Result(tmp_path / "data", valkey)


def test_a_faultless_campaign_has_no_problems(result: Result) -> None:
    assert result.problems() == []


def of_another(result: Result) -> None:
    result.write_receipt(record(INBOX, "12"))


SPOILT: dict[str, tuple[Callable[[Result], object], list[str]]] = {
    "told delivered, in no chart": (lambda r: r.records.pop(1), ["false", "lost"]),
    "an outcome that its caller was never told": (lambda r: r.tracker.outcomes.pop(REFUSED.number), ["lost"]),
    "in the chart twice": (lambda r: r.records.append(record(CALL, "13")), ["duplicated"]),
    "other bytes in the chart": (lambda r: r.records.append({**record(CALL, "13"), "sha256": "0"}), ["wrong bytes"]),
    "a receipt that names another's record": (of_another, ["false"]),
    "no file beside the receipt": (
        lambda r: (r.data / "delivered/north_clinic/p1/scan.pdf").unlink(),
        ["false", "misplaced"],
    ),
    "a failure that is none": (
        lambda r: r.tracker.outcomes.update({CALL.number: Outcome("failed", "gave_up")}),
        ["false"],
    ),
    "a failure for a wrong reason": (
        lambda r: r.tracker.outcomes.update({REFUSED.number: Outcome("failed", "gave_up")}),
        ["false"],
    ),
    "a file in two places": (lambda r: put(r.data / "inbox", INBOX), ["misplaced"]),
    "a folder left in our care": (lambda r: (r.data / "processing" / "job").mkdir(), ["misplaced"]),
    "a due entry without a job": (lambda r: r.client.zadd("chartpost:due:north_clinic", {"job": 1}), ["ledger"]),
    "a job without a due entry": (
        lambda r: r.client.hset("chartpost:job:1", mapping={"step": "post", "lane": "north_clinic"}),
        ["ledger"],
    ),
}


def test_a_refusal_that_redis_lost_at_a_wipe_is_of_unknown_outcome(result: Result) -> None:
    result.tracker.outcomes.pop(REFUSED.number)
    result.tracker.wiped()
    result.tracker.settled(REFUSED, Outcome("failed", "outcome_unknown"))
    assert result.problems() == []


@pytest.mark.parametrize(("account", "problems"), [("redox_hospital", []), ("cliniko_clinic", ["false"])])
def test_a_refusal_may_be_of_unknown_outcome_only_where_a_lost_answer_is_followed_by_the_same_message(
    result: Result, account: str, problems: list[str]
) -> None:
    refused = replace(REFUSED, number=4, account=account)
    result.tracker.documents[4] = refused
    result.tracker.handed_in(refused)
    result.tracker.settled(refused, Outcome("failed", "outcome_unknown"))
    assert result.problems() == problems


@pytest.mark.parametrize("what", SPOILT)
def test_it_is_noticed(result: Result, what: str) -> None:
    spoil, counted_as = SPOILT[what]
    spoil(result)
    assert result.problems() == counted_as


def test_a_second_copy_of_a_call_that_was_open_at_a_wipe_is_told_apart(result: Result) -> None:
    result.tracker.outcomes.clear()
    result.tracker.wiped()
    assert result.tracker.outside == {CALL.number, REFUSED.number}


class Running(SupervisedProcess):
    able = True  # without a process


def test_a_worker_that_takes_no_message_after_a_fault_is_named(tmp_path: Path) -> None:
    idle = Running("worker-1", [], tmp_path, tmp_path / "log")
    idle.log_path.write_text('{"task": "chartpost.post"}\n')
    recoveries = Recoveries(lambda: Flow(0, 0))
    recoveries.begin("Redis restarted", [idle])
    recoveries.tick(CONSUMING_WITHIN_LEASES * LEASE_SECONDS + 1, stopped=False)
    recoveries.update()
    assert len(recoveries.absent) == 1
    assert "worker-1" in recoveries.absent[0]


def test_the_same_seed_plans_the_same_documents() -> None:
    assert planned(50, 3) == planned(50, 3)
    assert planned(50, 3) != planned(50, 4)


def test_no_two_documents_can_be_taken_for_each_other() -> None:
    documents = planned(300, 1)
    keys = {(each.account, each.patient_id, each.file_name, each.sha256) for each in documents}
    assert len(keys) == len(documents)
    places = {(each.account, each.patient_id, each.sha256) for each in documents if each.door is Door.INBOX}
    assert len(places) == len([each for each in documents if each.door is Door.INBOX])
    names = [(each.patient_id, each.file_name) for each in documents]
    assert len(set(names)) < len(names), "some names come twice for one patient"
