"""What lies in folders that others may write proves something only with our signature, and for its own document."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tasks.folders.claims import ClaimedDocument, Claims
from tasks.folders.companions import read_companion
from tasks.folders.evidence import Evidence
from tasks.folders.job_json import Commit
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.folders.set_aside import SentDocument
from tasks.ledger.seal import Seal
from tasks.sources.files import identity_of
from tests.tasks.folders.documents import (
    ACCOUNT,
    CONTENT,
    JOB,
    OTHER_JOB,
    PATIENT,
    claim,
    copies,
    drop,
    error,
    files_in,
    job_file,
    opened,
    receipt,
    said,
)
from tests.tasks.folders.killed import hindered

OTHER_PATIENT = "5555"


def failed(folders: Folders, *, committed: bool = False, code: str = "refused_by_provider") -> Path:
    """A document in failed/; returns its error file."""
    claim(folders, drop(folders))
    if committed:
        folders.update_commit(JOB, stands=True, key="uploads/1")
    document = Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, error(code=code))
    return document.with_name(document.name + ".error.json")


def edit(companion: Path, **changes: Any) -> None:
    """`job_file` changes fields of it."""
    content = opened(companion)
    content["job_file"] |= changes.pop("job_file", {})
    companion.write_text(json.dumps({**content, **changes}))


def orphans(folders: Folders) -> list[ClaimedDocument]:
    found = list(Claims(folders).orphans(lambda _: False))
    assert all(isinstance(orphan, ClaimedDocument) for orphan in found)
    return [orphan for orphan in found if isinstance(orphan, ClaimedDocument)]


def everything(folder: Path) -> dict[str, bytes]:
    return files_in(folder)


@pytest.mark.parametrize("name", ["../../x", "../../../outside/planted.sh", "/tmp/planted", "..", "a/b", "a\0b", ""])
def test_an_error_file_with_another_name_writes_nowhere(folders: Folders, tmp_path: Path, name: str) -> None:
    (tmp_path / "outside").mkdir()
    edit(failed(folders), job_file={"disk_name": name})
    before = everything(tmp_path)
    with pytest.raises(OSError, match=r"does not bear|not in failed"):
        Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["../../x", "..", "a/b", "a\0b", ""])
def test_a_name_that_leads_elsewhere_is_refused_even_with_our_signature(folders: Folders, name: str) -> None:
    companion = failed(folders)
    content = opened(companion)
    content["job_file"]["disk_name"] = name
    signed = folders.error_files.sign(content, ACCOUNT, PATIENT)
    companion.write_text(json.dumps(signed))
    before = everything(folders.inbox.parent)
    with pytest.raises(OSError, match="does not bear"):
        Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert everything(folders.inbox.parent) == before


@pytest.mark.parametrize(
    "changes",
    [
        {"job_file": {"patient_id": OTHER_PATIENT}},
        {"job_file": {"account": "south_clinic"}},
        {"job_file": {"committed": False}},
        {"job_file": {"callback_url": "https://elsewhere.example/"}},
        {"job_file": {"options": {"document_id": "1"}}},
        {"job_file": {"size_bytes": 1}},
        {"code": "file_empty"},
        {"final": False},
        {"more": 1},
        {"signature": None},
        {"signature": 7},
        {"signature": "0" * 64},
    ],
)
def test_an_edited_error_file_brings_no_document_back(folders: Folders, changes: dict[str, Any]) -> None:
    companion = failed(folders, committed=True, code="outcome_unknown")
    edit(companion, **changes)
    with pytest.raises(OSError, match="does not bear"):
        Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert copies(folders) == [companion.with_name("referral.pdf")]


def test_an_error_file_that_was_indented_anew_is_as_good_as_before(folders: Folders) -> None:
    companion = failed(folders)
    companion.write_text(json.dumps(dict(reversed(said(companion).items())), indent=7, ensure_ascii=True))
    assert Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT).path.read_bytes() == CONTENT


@pytest.mark.parametrize(("account", "patient"), [(ACCOUNT, OTHER_PATIENT), ("south_clinic", PATIENT)])
def test_a_document_that_was_moved_to_another_patients_folder_does_not_go_to_that_patient(
    folders: Folders, account: str, patient: str
) -> None:
    companion = failed(folders)
    other = folders.failed / account / patient
    other.mkdir(parents=True)
    for path in (companion, companion.with_name("referral.pdf")):
        path.rename(other / path.name)
    with pytest.raises(OSError, match="does not bear"):
        Claims(folders).reopen_failed(JOB, account, patient)
    with pytest.raises(FileNotFoundError):
        Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert copies(folders) == [other / "referral.pdf"]


def test_what_another_installation_has_signed_proves_nothing_here(folders: Folders) -> None:
    failed(folders)
    others = Folders(folders.inbox.parent, Seal("another secret"))
    with pytest.raises(OSError, match="does not bear"):
        Claims(others).reopen_failed(JOB, ACCOUNT, PATIENT)


def test_a_document_that_the_ledger_knows_comes_back_by_what_the_ledger_says(folders: Folders) -> None:
    """The error file is of an earlier version, which did not sign, or was edited."""
    companion = failed(folders)
    known = job_file(companion.with_name("referral.pdf"), description="a letter", commit=Commit(stands=True))
    edit(companion, job_file={"patient_id": OTHER_PATIENT, "disk_name": "../x"}, signature=None)
    claimed = Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT, known)
    told = claimed.job_file
    assert claimed.path.name == "referral.pdf"
    assert (told.document.patient_id, told.document.description) == (PATIENT, "a letter")
    assert (told.committed, told.document.round) == (True, 1)
    assert files_in(folders.failed) == {}


def test_a_forged_receipt_does_not_make_a_document_count_as_delivered(folders: Folders) -> None:
    claim(folders, drop(folders))
    forged = folders.delivered / ACCOUNT / PATIENT / "referral.pdf.receipt.json"
    forged.parent.mkdir(parents=True)
    forged.write_text(json.dumps({**receipt(), "record": {"id": "77"}, "signature": "0" * 64}))
    before = forged.read_bytes()
    with capture_logs() as logged:
        (orphan,) = orphans(folders)
        assert orphans(folders) == [orphan]
    assert orphan.path == folders.processing / JOB / "referral.pdf"
    assert [entry for entry in logged if entry["event"] == "evidence_not_believed"] == [
        {"event": "evidence_not_believed", "log_level": "warning", "job": JOB, "what": "receipt"}
    ], "once, however often it is looked at"
    # Once it is delivered in truth, nothing is overwritten.
    delivered = Outcomes(folders).deliver(JOB, ACCOUNT, PATIENT, receipt())
    assert delivered.document.name == "referral-11111111.pdf"
    assert forged.read_bytes() == before
    assert Outcomes(folders).find_receipt(JOB, ACCOUNT, PATIENT)


def test_a_forged_receipt_is_not_found(folders: Folders) -> None:
    folder = folders.delivered / ACCOUNT / PATIENT
    folder.mkdir(parents=True)
    (folder / "a.pdf.receipt.json").write_text(json.dumps(receipt()))
    assert Outcomes(folders).find_receipt(JOB, ACCOUNT, PATIENT) is None


def test_a_receipt_of_another_job_patient_or_kind_proves_nothing(folders: Folders) -> None:
    claim(folders, drop(folders))
    genuine = Outcomes(folders).deliver(JOB, ACCOUNT, PATIENT, receipt()).companion
    other = folders.delivered / ACCOUNT / OTHER_PATIENT / genuine.name
    other.parent.mkdir()
    other.write_bytes(genuine.read_bytes())
    assert Outcomes(folders).find_receipt(JOB, ACCOUNT, OTHER_PATIENT) is None
    as_error = folders.failed / ACCOUNT / PATIENT / "referral.pdf.error.json"
    as_error.parent.mkdir(parents=True)
    as_error.write_bytes(genuine.read_bytes())
    path = claim(folders, drop(folders, content=b"another"), OTHER_JOB)
    (orphan,) = orphans(folders)
    assert orphan.path == path
    found = folders.error_files.find(JOB, ACCOUNT, PATIENT)
    assert found
    assert not found.believed


def test_a_forged_error_file_does_not_end_a_job(folders: Folders) -> None:
    path = claim(folders, drop(folders))
    folder = folders.failed / ACCOUNT / PATIENT
    folder.mkdir(parents=True)
    (folder / "referral.pdf.error.json").write_text(json.dumps(error()))
    assert [orphan.path for orphan in orphans(folders)] == [path]


def test_a_signed_error_file_of_an_earlier_round_that_was_put_back_does_not_end_a_later_one(folders: Folders) -> None:
    companion = failed(folders)
    kept = companion.read_bytes()
    claimed = Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    companion.write_bytes(kept)
    assert [orphan.path for orphan in orphans(folders)] == [claimed.path]


def test_a_document_that_came_back_beside_an_edited_error_file_is_searched_for_first(folders: Folders) -> None:
    companion = failed(folders, committed=True, code="outcome_unknown")
    edit(companion, code="file_empty", job_file={"committed": False, "provider_facts": {"id": "evil"}})
    back = companion.with_name("referral.pdf").rename(folders.inbox / ACCOUNT / PATIENT / "referral.pdf")
    Claims(folders).claim(back, JOB, job_file(back), continues=True)
    told = folders.read_job_file(JOB)
    assert (told.committed, dict(told.commit.provider_facts), told.document.round) == (True, {}, 1)


@pytest.mark.parametrize("changed", [False, True])
def test_a_late_delivery_takes_a_document_beside_an_unsigned_error_file_only_if_it_is_what_was_sent(
    folders: Folders, *, changed: bool
) -> None:
    companion = failed(folders, code="not_confirmed")
    edit(companion, signature=None)
    document = companion.with_name("referral.pdf")
    sent = SentDocument(len(CONTENT), identity_of(document.stat()), None)
    if changed:
        document.write_bytes(b"of somebody else")
    delivered = Outcomes(folders).deliver(JOB, ACCOUNT, PATIENT, receipt(), sent)
    assert delivered.document.exists() is not changed
    assert document.exists() is changed
    assert list(folders.processing.iterdir()) == []


def test_an_unsigned_error_file_gets_new_content_and_no_signature(folders: Folders) -> None:
    companion = failed(folders, code="not_confirmed")
    edit(companion, job_file={"patient_id": OTHER_PATIENT}, final=False)
    Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, error(code="not_confirmed", final=True))
    assert said(companion)["final"] is True
    found = folders.error_files.find(JOB, ACCOUNT, PATIENT)
    assert found
    assert not found.believed


def test_a_signed_error_file_is_signed_again_when_it_gets_new_content(folders: Folders) -> None:
    failed(folders, code="not_confirmed")
    Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, error(code="not_confirmed", final=False))
    found = folders.error_files.find(JOB, ACCOUNT, PATIENT)
    assert found
    assert (found.believed, found.content["final"]) == (True, False)


def test_the_signed_one_of_two_error_files_counts(folders: Folders) -> None:
    companion = failed(folders)
    forged = companion.with_name("a.pdf.error.json")
    forged.write_text(json.dumps(error(name="a.pdf")))
    found = folders.error_files.find(JOB, ACCOUNT, PATIENT)
    assert found
    assert (found.companion, found.believed) == (companion, True)


@pytest.mark.parametrize("kind", ["pipe", "link", "folder", "large"])
def test_what_is_not_a_plain_file_of_ours_is_no_receipt(folders: Folders, tmp_path: Path, kind: str) -> None:
    path = folders.delivered / ACCOUNT / PATIENT / "a.pdf.receipt.json"
    path.parent.mkdir(parents=True)
    if kind == "pipe":  # opening it would wait for a writer
        os.mkfifo(path)
    elif kind == "link":
        (tmp_path / "elsewhere").write_text(json.dumps(receipt()))
        path.symlink_to(tmp_path / "elsewhere")
    elif kind == "folder":
        path.mkdir()
    else:
        path.write_text(json.dumps({**receipt(), "padding": "x" * (5 << 20)}))

    def look() -> None:
        assert read_companion(path) == {}
        assert list(Outcomes(folders).receipts()) == []

    hindered(look, "none", lambda _: None)


def test_every_value_counts_for_the_signature() -> None:
    evidence, content = Evidence(Seal("a secret")), {"job_id": JOB, "n": 1, "list": [1, {"a": None}], "name": "\udcff"}
    signed = evidence.signed("receipt", content, ACCOUNT, PATIENT)
    assert evidence.believes("receipt", json.loads(json.dumps(signed)), ACCOUNT, PATIENT)
    for other in (
        {**signed, "n": True},
        {**signed, "n": "1"},
        {**signed, "n": 1.5},
        {**signed, "list": [1, {"a": False}]},
        {**signed, "name": "\udcfe"},
        {name: value for name, value in signed.items() if name != "n"},
    ):
        assert not evidence.believes("receipt", other, ACCOUNT, PATIENT)
    assert not evidence.believes("error", signed, ACCOUNT, PATIENT)
    assert not evidence.believes("receipt", signed, ACCOUNT, None)
    assert not evidence.believes("receipt", signed, PATIENT, ACCOUNT)


def test_a_file_that_is_nested_too_deep_is_not_ours_and_stops_nobody(folders: Folders) -> None:
    """At one depth it can just be read, and what is done with it then needs more room on the stack."""
    claim(folders, drop(folders), OTHER_JOB)
    Outcomes(folders).deliver(OTHER_JOB, ACCOUNT, PATIENT, receipt(OTHER_JOB))
    folder = folders.delivered / ACCOUNT / PATIENT
    for depth in range(500, 1000):
        nested = "[" * depth + "]" * depth
        (folder / f"{depth}.pdf.receipt.json").write_text(f'{{"job_id": "{JOB}", "record": {nested}}}')
    assert [closed.content["job_id"] for closed in Outcomes(folders).receipts()] == [OTHER_JOB]
    assert Outcomes(folders).find_receipt(JOB, ACCOUNT, PATIENT) is None


def test_an_error_file_with_options_as_deep_as_a_sidecar_may_have_them_is_ours(folders: Folders) -> None:
    options: dict[str, Any] = {}
    for _ in range(200):
        options = {"a": options}
    claim(folders, drop(folders), options=options)
    Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, error())
    (found,) = Outcomes(folders).error_files()
    assert found.believed
