"""Producers: each sends by its own stream, for its own accounts, from its own folder, and knows no other's jobs."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, uuid4, uuid5

import pytest
import redis
from celery import Celery

from config.load import load
from tasks.intake.producers import Producer
from tasks.intake.requests import read_request
from tasks.ledger import keys
from tasks.model.document import Door
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.model.job import Job
from tasks.runtime import Runtime
from tests.worker.conftest import write_settings
from worker.cli.lookup import find_job
from worker.stream.build import stream_reader, stream_readers
from worker.stream.group import GROUP
from worker.stream.messages import IntakeStream
from worker.stream.rejected import REJECTED

LABEL = {"system": "urn:oid:2.999", "code": "N"}


class House:
    """Two producers, `lab` and `clinic`, each with an account and a folder of its own, and no shared doors."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        (folder / "lab").mkdir()
        (folder / "clinic").mkdir()
        self.folder = folder
        config = write_settings(folder, redis_url)
        text = config.read_text()
        for line in [line for line in text.splitlines() if line.startswith(("file_roots", "s3_buckets"))]:
            text = text.replace(line, "")
        text += '\n[accounts.south_clinic]\nprovider = "pracsuite"\nvendor_api_key = "v"\napi_key = "k"\n'
        for name, account in (("lab", "north_clinic"), ("clinic", "south_clinic")):
            text += f'[producers.{name}]\naccounts = ["{account}"]\nfile_roots = ["{folder / name}"]\n'
        config.write_text(text)
        celery = Celery(broker=redis_url, backend=redis_url, set_as_current=False)
        self.runtime = Runtime(load(config, {}), celery=celery)
        self.redis: Any = self.runtime.redis

    def document(self, producer: str, name: str = "scan.pdf", **fields: Any) -> dict[str, Any]:
        path = self.folder / producer / name
        path.write_bytes(b"%PDF-1.4 of " + producer.encode())
        account = "north_clinic" if producer == "lab" else "south_clinic"
        return {"account": account, "patient_id": "4711", "source": path.as_uri(), **fields}

    def add(self, stream: str, fields: object, entry: str = "*") -> str:
        key = f"{keys.INTAKE}:{stream}" if stream else keys.INTAKE
        return str(self.redis.xadd(key, {"job": json.dumps(fields)}, id=entry))

    def read(self, producer: str | None) -> None:
        reader = stream_reader(self.runtime, producer, block_ms=1)
        reader.read_once()  # makes the group
        while reader.read_once():
            pass

    def job(self, producer: str | None, entry: str) -> Job | None:
        return self.runtime.ledger.get(IntakeStream(self.runtime.seal, producer).job_id_of(entry))

    def rejected(self) -> list[tuple[str, str, str]]:
        return [(each["producer"], each["id"], each["code"]) for _, each in self.redis.xrange(REJECTED)]

    def jobs(self) -> set[str]:
        return {str(key).rpartition(":")[2] for key in self.redis.scan_iter("chartpost:job:*")}

    def named(self, name: str) -> Producer:
        return self.runtime.producers.named(name)


@pytest.fixture
def house(tmp_path: Path, valkey: redis.Redis, valkey_url: str) -> House:
    return House(tmp_path, valkey_url)


def test_each_producers_own_stream_takes_its_documents_and_the_job_says_whose_it_is(house: House) -> None:
    entries = {name: house.add(name, house.document(name)) for name in ("lab", "clinic")}
    for name, entry in entries.items():
        house.read(name)
        job = house.job(name, entry)
        assert job is not None
        assert (job.document.producer, job.account) == (name, house.document(name)["account"])
    assert house.rejected() == []


def test_the_shared_doors_are_closed_once_there_are_producers(house: House) -> None:
    entry = house.add("", house.document("lab"))
    house.read(None)
    assert house.rejected() == [("", entry, "invalid_request")]
    assert house.jobs() == set()
    for queue in ("chartpost", None, "chartpost.stages"):
        with pytest.raises(DocumentRefused, match="producers"):
            house.runtime.producers.at_queue(queue)
    assert house.runtime.producers.at_queue("chartpost.from.lab").name == "lab"


def test_a_producer_sends_for_no_other_account_and_from_no_other_folder(house: House) -> None:
    others_account = house.add("lab", {**house.document("lab"), "account": "south_clinic"})
    others_folder = house.add("lab", {**house.document("clinic"), "account": "north_clinic"})
    house.read("lab")
    assert house.rejected() == [
        ("lab", others_account, "unknown_account"),
        ("lab", others_folder, "source_not_allowed"),
    ]
    # The first has no job: it would stand among the other producer's, and be sent by `retry --all`.
    failed = house.job("lab", others_folder)
    assert house.jobs() == {failed and failed.id}
    reasons = [fields["reason"] for _, fields in house.redis.xrange(REJECTED)]
    assert "south_clinic" not in reasons[0]


@pytest.fixture
def sent_by_lab(house: House) -> Job:
    entry = house.add("lab", house.document("lab", idempotency_key="order 17"))
    house.read("lab")
    job = house.job("lab", entry)
    assert job is not None
    return job


def test_a_message_under_another_producers_job_id_changes_nothing_and_is_told_nothing(
    house: House, sent_by_lab: Job
) -> None:
    before = house.redis.hgetall(f"chartpost:job:{sent_by_lab.id}")
    entry = house.add("clinic", {**house.document("clinic"), "job_id": sent_by_lab.id})
    house.read("clinic")
    assert house.rejected() == [("clinic", entry, "invalid_request")]
    assert house.redis.hgetall(f"chartpost:job:{sent_by_lab.id}") == before
    assert house.jobs() == {sent_by_lab.id}
    # By its job's id the other one is still found, and not the rejected message.
    assert not house.redis.exists(f"chartpost:rejected:{sent_by_lab.id}")


@pytest.mark.parametrize("account", ["own", "other", "none"])
def test_a_call_under_another_producers_id_stores_no_result(house: House, sent_by_lab: Job, account: str) -> None:
    before = house.redis.hgetall(f"chartpost:job:{sent_by_lab.id}")
    fields = house.document("clinic")
    if account != "own":
        fields["account"] = {"other": "north_clinic", "none": "nobody"}[account]
    take = house.runtime.call_intake.take
    take(
        sent_by_lab.id,
        (),
        fields,
        lambda it, given: house.runtime.admission.open_call(it, given, house.named("clinic")),
    )
    assert house.redis.hgetall(f"chartpost:job:{sent_by_lab.id}") == before
    if account == "own":
        assert not house.redis.exists(f"celery-task-meta-{sent_by_lab.id}")


def test_an_idempotency_key_is_of_its_producer_alone(house: House, sent_by_lab: Job) -> None:
    document = replace(sent_by_lab.document, door=Door.CELERY)
    again = house.runtime.admission.open_document(str(uuid4()), document)
    assert (again.kind, again.job_id) == ("same", sent_by_lab.id)
    other = str(uuid4())
    opened = house.runtime.admission.open_document(other, replace(document, producer="clinic"))
    assert (opened.kind, opened.job_id) == ("opened", other)


def test_entries_of_two_streams_may_have_one_id(house: House) -> None:
    entries = [house.add(name, house.document(name), "1763711999000-0") for name in ("lab", "clinic")]
    for name in ("lab", "clinic"):
        house.read(name)
    jobs = [house.job(name, entries[0]) for name in ("lab", "clinic")]
    assert [job and job.document.producer for job in jobs] == ["lab", "clinic"]
    ledger = house.runtime.ledger
    assert [find_job(ledger, f"{name}:{entries[0]}") for name in ("lab", "clinic")] == jobs
    assert find_job(ledger, entries[0]) is None


def test_only_a_producer_that_may_unblock_sends_labels_without_the_blocking_one(house: House) -> None:
    fields = {"account": "north_clinic", "document_id": "7", "labels": [LABEL], "allow_unblock": True}
    admission, lab = house.runtime.relabel_admission, house.named("lab")
    job_id = str(uuid4())
    admission.open_call(job_id, fields, lab)
    # The account is none of NHN's, whose documents alone have labels; a job is refused before that is looked at.
    job = house.runtime.ledger.get(job_id)
    assert job is not None
    assert job.failure is not None
    assert job.document.relabeling is not None
    assert not job.document.relabeling.allow_unblock
    allowed = replace(lab, may_unblock=True)
    admission.open_call(job_id := str(uuid4()), fields, allowed)
    job = house.runtime.ledger.get(job_id)
    assert job is not None
    assert job.document.relabeling is not None
    assert job.document.relabeling.allow_unblock


def test_what_a_producer_may_no_longer_do_is_not_sent_again_by_retry(house: House, sent_by_lab: Job) -> None:
    check = house.runtime.producers.check
    check(sent_by_lab.document)
    for document, code in (
        (replace(sent_by_lab.document, account="south_clinic"), Code.UNKNOWN_ACCOUNT),
        (replace(sent_by_lab.document, producer="gone"), Code.SOURCE_NOT_ALLOWED),
        (replace(sent_by_lab.document, delete_source=True), Code.SOURCE_NOT_ALLOWED),
    ):
        with pytest.raises(DocumentRefused) as refused:
            check(document)
        assert refused.value.code is code


def test_a_producer_whose_storage_hangs_holds_up_no_other(house: House) -> None:
    hanging, asked = threading.Event(), threading.Event()
    lab = house.named("lab")

    class Hanging:
        def locate(self, address: str) -> None:
            asked.set()
            hanging.wait()
            raise RetryLater("Its storage does not answer.")

    house.runtime.producers._named["lab"] = replace(lab, sources=Hanging())  # type: ignore[arg-type]
    for number in range(40):
        house.add("lab", house.document("lab", f"{number}.pdf"))
    reading = threading.Thread(target=stream_readers(house.runtime).run)
    reading.start()
    try:
        assert asked.wait(60)
        entry = house.add("clinic", house.document("clinic"))
        for _ in range(1200):
            if house.job("clinic", entry):
                break
            time.sleep(0.05)
        assert house.job("clinic", entry)
    finally:
        house.runtime.stopping.set()
        hanging.set()
        reading.join(60)
    assert not reading.is_alive()


# --- entries and their jobs' ids -------------------------------------------------------------------------------------


@pytest.fixture
def alone(tmp_path: Path, valkey: redis.Redis, valkey_url: str) -> Runtime:
    """Without producers."""
    config = write_settings(tmp_path, valkey_url)
    return Runtime(load(config, {}))


def test_nobody_without_the_secret_key_can_tell_the_id_of_an_entrys_job(alone: Runtime) -> None:
    entry = "1763711999000-0"
    job_id = IntakeStream(alone.seal).job_id_of(entry)
    assert job_id == IntakeStream(alone.seal).job_id_of(entry)
    assert job_id != str(uuid5(NAMESPACE_OID, entry))


def pending_from_before(runtime: Runtime, stream_id: str | None) -> str:
    """An entry that a reader of the version before was given; the job of its guessable id, which notes `stream_id`."""
    client: Any = runtime.redis
    root = runtime.settings.file_roots[0].path
    (root / "scan.pdf").write_bytes(b"%PDF-1.4")
    fields = {"account": "north_clinic", "patient_id": "4711", "source": (root / "scan.pdf").as_uri()}
    client.xgroup_create(keys.INTAKE, GROUP, id="0", mkstream=True)
    entry = str(client.xadd(keys.INTAKE, {"job": json.dumps(fields)}))
    client.xreadgroup(GROUP, "dead", {keys.INTAKE: ">"})
    client.xclaim(keys.INTAKE, GROUP, "dead", 0, [entry], idle=3_600_000)
    producer = runtime.producers.everybody
    document = runtime.admission.admit(read_request(fields), Door.STREAM, producer, stream_id=stream_id or entry)
    runtime.ledger.open(str(uuid5(NAMESPACE_OID, entry)), replace(document, place=None), "pracsuite")
    return entry


def test_an_entry_whose_job_the_version_before_has_opened_opens_no_second_one(alone: Runtime) -> None:
    entry = pending_from_before(alone, None)
    stream_reader(alone, block_ms=1).read_once()
    assert len(list(alone.redis.scan_iter("chartpost:job:*"))) == 1
    assert alone.redis.xlen(keys.INTAKE) == 0
    found = find_job(alone.ledger, entry)
    assert found is not None
    assert found.id == str(uuid5(NAMESPACE_OID, entry))


def test_a_job_that_another_message_has_put_under_an_entrys_guessable_id_is_not_taken_for_its_own(
    alone: Runtime,
) -> None:
    entry = pending_from_before(alone, "1-1")
    stream_reader(alone, block_ms=1).read_once()
    found = find_job(alone.ledger, entry)
    assert found is not None
    assert found.id == IntakeStream(alone.seal).job_id_of(entry)
