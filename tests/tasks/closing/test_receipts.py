"""What is told of a job when it has ended."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from tasks.closing.receipts import error_file, event_of, fields_of, public_receipt, receipt, receipt_or_error_file
from tasks.model.document import Document, Label, LabelCoding, Relabeling
from tasks.model.errors import Code
from tasks.model.job import Assurance, Facts, Failure, Job, Record, Stored, Uncertainty
from tasks.model.route import Stage
from tests.tasks.providers.doubles import job as made_job

AT = datetime(2026, 3, 1, 12, tzinfo=UTC)
STORED = Stored("temp/4711/referral.pdf", "e" * 32, True, "5" * 64, "e" * 32)


def delivered(**changes: object) -> Job:
    facts = Facts(stored=STORED, record=Record("77", "https://chart.example/77"))
    job = replace(made_job(), stage=Stage.DELIVERED, facts=facts, sha256="5" * 64, times={Stage.DELIVERED: AT})
    return replace(job, **changes)  # type: ignore[arg-type]  # whatever a test changes


def failed(code: Code = Code.REFUSED_BY_PROVIDER, detail: str = "", **changes: object) -> Job:
    failure = Failure(code, "The provider refused the document.", "Ask the provider.", detail)
    times: dict[str, datetime] = {Stage.RECEIVED: AT, Stage.PRESIGNED: AT, Stage.FAILED: AT}
    job = replace(made_job(), stage=Stage.FAILED, failure=failure, times=times)
    return replace(job, **changes)  # type: ignore[arg-type]  # as above


def test_a_delivered_job_has_a_receipt_and_any_other_an_error_file() -> None:
    job = delivered()
    assert receipt_or_error_file(job) == receipt(job)
    assert receipt_or_error_file(failed())["code"] == Code.REFUSED_BY_PROVIDER
    assert receipt_or_error_file(failed(stage=Stage.CANCELLED))["state"] == Stage.CANCELLED


def test_a_receipt_names_the_record_and_what_was_stored() -> None:
    content = receipt(delivered())
    assert content["record"] == {"id": "77", "url": "https://chart.example/77"}
    assert content["stored"] == {"key": STORED.key, "etag": STORED.etag, "etag_verified": True}
    assert content["assurance"] == "confirmed"
    assert not {"code", "duplicate_of", "resolved_by", "remarks", "labels"} & content.keys()


def test_a_receipt_has_a_labels_further_codings_only_if_there_are_any() -> None:
    labels = (Label("a", "b"), Label("a", "c", None, (LabelCoding("d", "e", "E"),)))
    document = Document("hospital", None, "", "", 0, relabeling=Relabeling("d", labels))
    assert receipt(delivered(document=document))["labels"] == [
        {"system": "a", "code": "b", "display": None},
        {"system": "a", "code": "c", "display": None, "further": [{"system": "d", "code": "e", "display": "E"}]},
    ]


def test_a_receipt_says_when_a_document_was_only_accepted() -> None:
    job = delivered(facts=Facts(record=Record("77"), assurance=Assurance.ACCEPTED))
    assert receipt(job)["assurance"] == fields_of(job)["assurance"] == "accepted"


def test_a_receipt_whose_upload_was_never_answered_names_the_key_of_the_form() -> None:
    content = receipt(delivered(facts=Facts(key="temp/key", record=Record("77"))))
    assert content["stored"] == {"key": "temp/key", "etag": None, "etag_verified": False}


def test_what_applies_to_a_few_receipts_only_is_added_to_them() -> None:
    assert receipt(delivered(duplicate_of="an earlier job"))["code"] == Code.DUPLICATE
    hidden = receipt(delivered(duplicate_of="another producer's", duplicate_hidden=True))
    assert (hidden["code"], hidden["duplicate_of"]) == (Code.DUPLICATE, None)
    assert receipt(delivered(resolved_by_human=True))["resolved_by"] == "human"
    assert receipt(delivered(facts=Facts(remarks=("It came late.",))))["remarks"] == ["It came late."]


def test_what_celery_keeps_in_the_clear_names_neither_patient_nor_file_nor_key() -> None:
    content = public_receipt(delivered())
    assert not {"patient_id", "file_name"} & content.keys()
    told = json.dumps(content)
    assert "4711" not in told
    assert "referral" not in told


def test_an_error_file_tells_the_providers_words_and_the_last_stage() -> None:
    content = error_file(failed(detail="patient 4711 is not ours"))
    assert content["message"] == "The provider refused the document. The provider's words: patient 4711 is not ours"
    assert content["stage"] == Stage.PRESIGNED
    assert content["at"] == "2026-03-01T12:00:00.000Z"
    assert error_file(failed(times={}))["stage"] == Stage.RECEIVED


def test_an_error_file_is_final_unless_the_record_is_still_searched_for() -> None:
    assert error_file(failed())["final"] is True
    assert error_file(failed(Code.NOT_CONFIRMED, uncertainty=Uncertainty(unknown_since=AT)))["final"] is False
    assert (
        error_file(failed(Code.NOT_CONFIRMED, uncertainty=Uncertainty(unknown_since=AT, needs_person=True)))["final"]
        is True
    )


def test_an_event_names_neither_patient_nor_file() -> None:
    event = event_of(failed(detail="patient 4711"))
    assert (event["state"], event["code"]) == (Stage.FAILED, Code.REFUSED_BY_PROVIDER)
    assert "4711" not in json.dumps(event)
    assert "referral" not in json.dumps(event)


def test_only_a_delivered_job_is_listed_with_its_assurance() -> None:
    assert fields_of(delivered())["assurance"] == "confirmed"
    assert fields_of(failed())["assurance"] is None
    assert fields_of(made_job())["message"] is None
