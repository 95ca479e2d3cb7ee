"""A foreign Celery app, with none of our code: its documents are delivered, or its results raise DocumentFailed."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from uuid import uuid4

import pytest

from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.valkey import everything_in
from tests.harness.waiting import wait_until


@pytest.fixture(scope="module")
def at_work(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    """One clinic with one worker, for all of these tests: none of them harms it."""
    with installed(tmp_path_factory.mktemp("celery") / "clinic", world) as started:
        started.start_worker(**world.aws_environment)
        yield started


@pytest.fixture(autouse=True)
def world_as_before(world: SandboxProcess) -> Iterator[None]:
    yield
    world.world(reset=True)


def test_a_foreign_call_is_delivered_and_its_result_is_the_receipt(at_work: Installation) -> None:
    content = os.urandom(70_000)
    patient = f"c{uuid4()}"
    result = at_work.upload(at_work.write("Überweisung Meier.pdf", content), patient)
    receipt = result.get(timeout=120)
    [record] = at_work.chart(patient_id=patient)
    assert record["sha256"] == receipt["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["file_name"] == "Überweisung Meier.pdf"
    assert (receipt["job_id"], receipt["record"]["id"]) == (result.id, record["record_id"])
    assert receipt["assurance"] == "confirmed"
    assert "Meier" not in json.dumps(receipt, ensure_ascii=False)
    assert patient not in json.dumps(receipt)


def test_the_same_call_sent_twice_is_delivered_once(at_work: Installation) -> None:
    patient = f"c{uuid4()}"
    source = at_work.write("twice.pdf", b"twice")
    result = at_work.upload(source, patient)
    kwargs = {"account": "north_clinic", "patient_id": patient, "source": source}
    for _ in range(3):
        at_work.celery.send_task("chartpost.upload", kwargs=kwargs, queue="chartpost", task_id=result.id)
    assert result.get(timeout=120)["job_id"] == result.id
    after = at_work.upload(at_work.write("after.pdf", b"after"), patient)
    after.get(timeout=120)
    assert sorted(record["file_name"] for record in at_work.chart(patient_id=patient)) == ["after.pdf", "twice.pdf"]


def test_a_call_under_a_known_idempotency_key_shows_the_earlier_outcome(at_work: Installation) -> None:
    patient = f"c{uuid4()}"
    source = at_work.write("keyed.pdf", b"keyed")
    first = at_work.upload(source, patient, idempotency_key="order 17")
    receipt = first.get(timeout=120)
    assert at_work.upload(source, patient, idempotency_key="order 17").get(timeout=120) == receipt
    other = at_work.upload(at_work.write("other.pdf", b"other"), patient, idempotency_key="order 17")
    assert failure_of(other)[0] == "invalid_request"


def failure_of(result: object) -> tuple[str, str]:
    """The (code, message) of a failed document; checks that a foreign caller can read it."""
    with pytest.raises(Exception, match=r"\w") as raised:
        result.get(timeout=120)  # type: ignore[attr-defined]
    assert type(raised.value).__name__ == "DocumentFailed"
    code, message = raised.value.args
    return code, message


def test_each_kind_of_wrong_call_fails_with_its_code_and_the_good_one_behind_is_delivered(
    at_work: Installation,
) -> None:
    good = at_work.write("good.pdf", b"good")
    (at_work.documents / "link.pdf").symlink_to(at_work.documents / "good.pdf")
    os.mkfifo(at_work.documents / "pipe.pdf")
    (at_work.documents / "folder.pdf").mkdir()
    large = at_work.documents / "large.pdf"
    with large.open("wb") as file:
        file.truncate(100_000_001)
    secret = at_work.folder / "secret.pdf"
    secret.write_bytes(b"secret")
    uri = at_work.documents.as_uri()
    calls = {
        "file_empty": at_work.upload(at_work.write("empty.pdf", b"")),
        "file_too_large": at_work.upload(large.as_uri()),
        "file_missing": at_work.upload(f"{uri}/none.pdf"),
        "not_a_regular_file": at_work.upload(f"{uri}/link.pdf"),
        "not_a_regular_file ": at_work.upload(f"{uri}/pipe.pdf"),
        "not_a_regular_file  ": at_work.upload(f"{uri}/folder.pdf"),
        "source_not_allowed": at_work.upload(secret.as_uri()),
        "source_not_allowed ": at_work.upload(f"{uri}/../secret.pdf"),
        "source_not_allowed  ": at_work.upload("s3://elsewhere/x.pdf"),
        "unknown_account": at_work.upload(good, account="nobody"),
        "patient_required": at_work.upload(good, None),
        "refused_by_provider": at_work.upload(good, "404-nobody"),
        "invalid_request": at_work.upload(good, file_name="a/b.pdf"),
        "invalid_request ": at_work.upload(good, "../x"),
        "invalid_request  ": at_work.upload(good, surprise=1),
        "invalid_request   ": at_work.upload("http://elsewhere/x.pdf"),
        "invalid_request    ": at_work.upload(good, callback_url="https://elsewhere/"),
    }
    fields = {"account": "north_clinic", "patient_id": "1", "source": good, "self": 1}  # as the task's own argument
    calls["invalid_request     "] = at_work.celery.send_task(
        "chartpost.upload", kwargs=fields, queue="chartpost", task_id=str(uuid4())
    )
    patient = f"c{uuid4()}"
    behind = at_work.upload(good, patient)
    failures = {expected: failure_of(result) for expected, result in calls.items()}
    assert {expected: code for expected, (code, _) in failures.items()} == {code: code.strip() for code in calls}
    assert all(message.endswith(".") for _, message in failures.values())
    assert behind.get(timeout=120)["size_bytes"] == 4
    assert [record["file_name"] for record in at_work.chart(patient_id=patient)] == ["good.pdf"]


def test_a_task_id_that_is_no_uuid_is_refused_under_that_id(at_work: Installation) -> None:
    kwargs = {"account": "north_clinic", "patient_id": "1", "source": at_work.write("a.pdf", b"a")}
    result = at_work.celery.send_task("chartpost.upload", kwargs=kwargs, queue="chartpost", task_id="order-17")
    assert failure_of(result)[0] == "invalid_request"


def test_an_s3_source_is_delivered(at_work: Installation) -> None:
    bucket = at_work.world.objects()
    bucket.put_object(Bucket="sources", Key="in/Befund 1.pdf", Body=b"from s3")
    patient = f"c{uuid4()}"
    receipt = at_work.upload("s3://sources/in/Befund 1.pdf", patient, delete_source=True).get(timeout=120)
    assert [record["file_name"] for record in at_work.chart(patient_id=patient)] == ["Befund 1.pdf"]
    assert receipt["size_bytes"] == 7
    wait_until(
        lambda: "Contents" not in bucket.list_objects_v2(Bucket="sources", Prefix="in/"), "the source is removed"
    )


def test_the_state_while_it_runs_is_the_jobs_state(at_work: Installation) -> None:
    at_work.world.world(hold_validation="slow.pdf")
    result = at_work.upload(at_work.write("slow.pdf", b"slow"), f"c{uuid4()}")
    wait_until(lambda: str(result.state) == "STORED", "the state STORED is shown")
    assert result.info == {"stage": "stored"}
    at_work.world.world(hold_validation=None)
    assert result.get(timeout=120)["size_bytes"] == 4


def test_neither_logs_nor_redis_nor_messages_name_patient_or_file(at_work: Installation) -> None:
    patient = "Patient-Meier-77"
    at_work.upload(at_work.write("Meier Befund.pdf", b"private"), patient).get(timeout=120)
    at_work.upload(at_work.write("Meier INVALID.pdf", b"private 2"), patient)
    failure_of(at_work.upload(at_work.write("Meier leer.pdf", b""), patient))
    logs = "".join(child.log for child in at_work.children)
    assert "job_delivered" in logs
    assert "Meier" not in logs
    assert "a-api-key" not in logs
    seen = everything_in(at_work.redis)
    assert "celery-task-meta" in seen
    assert "Meier" not in seen
