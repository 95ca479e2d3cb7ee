"""A document's way out of our care, into delivered/ or failed/."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tasks.folders.claims import Claims
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
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
from tests.tasks.folders.killed import hindered, refusal


def deliver(folders: Folders, job_id: str = JOB, patient: str | None = PATIENT, name: str = "referral.pdf") -> Path:
    return Outcomes(folders).deliver(job_id, ACCOUNT, patient, receipt(job_id, name)).document


def fail(folders: Folders, job_id: str = JOB, *, code: str = "refused_by_provider", final: bool = True) -> Path:
    return Outcomes(folders).fail(job_id, ACCOUNT, PATIENT, error(job_id, code=code, final=final))


def test_a_delivered_document_lies_beside_its_receipt(folders: Folders) -> None:
    claim(folders, drop(folders))
    assert deliver(folders) == folders.delivered / ACCOUNT / PATIENT / "referral.pdf"
    assert sorted(files_in(folders.delivered / ACCOUNT / PATIENT)) == ["referral.pdf", "referral.pdf.receipt.json"]
    told = said(folders.delivered / ACCOUNT / PATIENT / "referral.pdf.receipt.json")
    assert told.pop("signature")
    assert told == receipt()
    assert list(folders.processing.iterdir()) == []


def test_a_failed_document_lies_beside_its_error_file_and_its_sidecar(folders: Folders) -> None:
    path, sidecar = drop(folders), drop(folders, "referral.pdf.meta.json", b"{")
    Claims(folders).claim(path, JOB, job_file(path), sidecar=sidecar)
    failed = fail(folders)
    lying = files_in(failed.parent)
    assert sorted(lying) == ["referral.pdf", "referral.pdf.error.json", "referral.pdf.meta.json"]
    assert lying["referral.pdf.meta.json"] == b"{"
    told = said(failed.with_name("referral.pdf.error.json"))
    assert error().items() <= told.items()
    assert list(folders.processing.iterdir()) == []


def test_without_a_patient_the_document_lies_in_the_accounts_folder(folders: Folders) -> None:
    path = drop(folders)
    Claims(folders).claim(path, JOB, job_file(path, patient_id=None))
    assert deliver(folders, patient=None) == folders.delivered / ACCOUNT / "referral.pdf"


def test_closing_twice_changes_nothing(folders: Folders) -> None:
    claim(folders, drop(folders))
    first = deliver(folders)
    before = files_in(folders.delivered)
    assert deliver(folders) == first
    assert files_in(folders.delivered) == before


def test_closing_twice_changes_nothing_when_the_name_on_disk_is_not_the_name_sent(folders: Folders) -> None:
    claim(folders, drop(folders, "scan\udcff.pdf"))
    first = deliver(folders, name="letter.pdf")
    assert first.name == "scan\udcff.pdf"
    before = files_in(folders.delivered)
    assert deliver(folders, name="letter.pdf") == first
    assert files_in(folders.delivered) == before


@pytest.mark.parametrize(
    ("taken", "expected"),
    [
        (["referral.pdf"], "referral-11111111.pdf"),
        (["referral.pdf.receipt.json"], "referral-11111111.pdf"),
        (["referral.pdf", "referral-11111111.pdf"], "referral-11111111-2.pdf"),
        (["referral.pdf", "referral-11111111.pdf.receipt.json"], "referral-11111111-2.pdf"),
        (["another.pdf"], "referral.pdf"),
    ],
)
def test_a_taken_name_is_never_overwritten(folders: Folders, taken: list[str], expected: str) -> None:
    folder = folders.delivered / ACCOUNT / PATIENT
    folder.mkdir(parents=True)
    for name in taken:
        (folder / name).write_bytes(b"here before")
    claim(folders, drop(folders))
    assert deliver(folders).name == expected
    lying = files_in(folder)
    assert lying[expected] == CONTENT
    assert expected + ".receipt.json" in lying
    assert all(lying[name] == b"here before" for name in taken)
    assert len(lying) == len(taken) + 2


def test_an_equal_document_that_lies_there_already_stays_a_document_of_its_own(folders: Folders) -> None:
    folder = folders.delivered / ACCOUNT / PATIENT
    folder.mkdir(parents=True)
    (folder / "referral.pdf").write_bytes(CONTENT)
    claim(folders, drop(folders))
    assert deliver(folders).name == "referral-11111111.pdf"
    assert len(copies(folders)) == 2


def test_documents_called_as_each_others_companions_keep_apart(folders: Folders) -> None:
    claim(folders, drop(folders, "a.pdf.receipt.json", b"a document"), OTHER_JOB)
    deliver(folders, OTHER_JOB, name="a.pdf.receipt.json")
    claim(folders, drop(folders, "a.pdf"))
    deliver(folders, name="a.pdf")
    lying = files_in(folders.delivered / ACCOUNT / PATIENT)
    assert lying["a.pdf.receipt.json"] == b"a document"
    assert lying["a-11111111.pdf"] == CONTENT
    assert sorted(lying) == [
        "a-11111111.pdf",
        "a-11111111.pdf.receipt.json",
        "a.pdf.receipt.json",
        "a.pdf.receipt.json.receipt.json",
    ]


def test_two_documents_with_one_name_both_stay(folders: Folders) -> None:
    for job_id, content in ((JOB, b"one"), (OTHER_JOB, b"two")):
        claim(folders, drop(folders, content=content), job_id)
        deliver(folders, job_id)
    lying = files_in(folders.delivered / ACCOUNT / PATIENT)
    assert (lying["referral.pdf"], lying["referral-99999999.pdf"]) == (b"one", b"two")
    assert said(folders.delivered / ACCOUNT / PATIENT / "referral-99999999.pdf.receipt.json")["job_id"] == OTHER_JOB


def test_a_name_too_long_for_a_companion_is_cut_for_the_companion_only(folders: Folders) -> None:
    name = "ü" * 125 + ".pdf"  # 254 bytes
    for job_id, content in ((JOB, b"one"), (OTHER_JOB, b"two")):
        claim(folders, drop(folders, name, content), job_id)
        deliver(folders, job_id, name=name)
    lying = files_in(folders.delivered / ACCOUNT / PATIENT)
    assert lying[name] == b"one"
    companions = sorted(name for name in lying if name.endswith(".receipt.json"))
    assert len(companions) == 2
    assert all(len(os.fsencode(companion)) <= 255 for companion in companions)
    assert "ü" * 121 + ".receipt.json" in companions
    (second,) = (other for other, content in lying.items() if content == b"two")
    assert second.endswith("-99999999.pdf")


def test_a_failed_document_with_a_cut_companion_is_found_again(folders: Folders) -> None:
    name = "n" * 255
    claim(folders, drop(folders, name))
    failed = Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, error(name=name))
    closed = Outcomes(folders).find_error_file(JOB, ACCOUNT, PATIENT)
    assert closed
    assert closed.document == failed
    assert Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT).path.name == name


def test_a_patients_folder_keeps_clear_of_a_document_with_its_name(folders: Folders) -> None:
    path = drop(folders, PATIENT)
    Claims(folders).claim(path, OTHER_JOB, job_file(path, OTHER_JOB, patient_id=None))
    deliver(folders, OTHER_JOB, patient=None, name=PATIENT)
    claim(folders, drop(folders))
    assert deliver(folders) == folders.delivered / ACCOUNT / "4711-11111111" / "referral.pdf"
    assert (folders.delivered / ACCOUNT / PATIENT).read_bytes() == CONTENT
    assert deliver(folders).read_bytes() == CONTENT


@pytest.mark.parametrize("patient", ["..", ".", "", "a/b"])
def test_a_name_that_would_lead_elsewhere_is_refused(folders: Folders, patient: str) -> None:
    claim(folders, drop(folders), patient_id=patient)
    with pytest.raises(ValueError, match="name of one"):
        deliver(folders, patient=patient)
    assert copies(folders) == [folders.processing / JOB / "referral.pdf"]


def test_a_patients_folder_whose_name_is_not_utf8_keeps_its_name(folders: Folders) -> None:
    path = drop(folders)
    Claims(folders).claim(path, JOB, job_file(path, patient_id="\udcff"))
    known_to_the_job = folders.read_job_file(JOB).document_at(path).patient_id
    assert known_to_the_job == "\N{REPLACEMENT CHARACTER}"
    failed = Outcomes(folders).fail(JOB, ACCOUNT, known_to_the_job, error())
    assert failed == folders.failed / ACCOUNT / "\udcff" / "referral.pdf"
    assert failed.read_bytes() == CONTENT


def test_a_document_that_has_gone_leaves_its_companion(folders: Folders) -> None:
    claim(folders, drop(folders)).unlink()
    failed = fail(folders, code="file_missing")
    assert not failed.exists()
    assert said(failed.with_name("referral.pdf.error.json"))["code"] == "file_missing"
    assert list(folders.processing.iterdir()) == []


def test_a_document_with_a_damaged_job_file_can_still_be_closed(folders: Folders) -> None:
    claimed = claim(folders, drop(folders))
    (claimed.parent / "job.json").write_bytes(b"{")
    assert fail(folders).read_bytes() == CONTENT
    assert list(folders.processing.iterdir()) == []


def test_an_error_file_of_the_same_round_gets_the_new_content(folders: Folders) -> None:
    claim(folders, drop(folders))
    fail(folders, code="not_confirmed", final=False)
    failed = fail(folders, code="not_confirmed", final=True)
    told = opened(failed.with_name("referral.pdf.error.json"))
    assert told["final"] is True
    assert told["job_file"]["disk_name"] == "referral.pdf"
    assert sorted(files_in(failed.parent)) == ["referral.pdf", "referral.pdf.error.json"]


def test_a_failed_document_can_still_turn_out_delivered(folders: Folders) -> None:
    path, sidecar = drop(folders), drop(folders, "referral.pdf.meta.json", b"{}")
    Claims(folders).claim(path, JOB, job_file(path), sidecar=sidecar)
    fail(folders, code="not_confirmed", final=False)
    assert deliver(folders).read_bytes() == CONTENT
    assert files_in(folders.failed) == {}
    assert sorted(files_in(folders.delivered)) == [
        "north_clinic/4711/referral.pdf",
        "north_clinic/4711/referral.pdf.receipt.json",
    ]


def test_a_failed_document_that_a_person_has_moved_away_gets_its_receipt_alone(folders: Folders) -> None:
    claim(folders, drop(folders))
    fail(folders, code="not_confirmed", final=False).unlink()
    deliver(folders)
    assert files_in(folders.failed) == {}
    assert sorted(files_in(folders.delivered)) == ["north_clinic/4711/referral.pdf.receipt.json"]


def test_a_reopened_document_is_in_our_care_again_with_all_that_was_known(folders: Folders) -> None:
    path, sidecar = drop(folders), drop(folders, "referral.pdf.meta.json", b"{}")
    Claims(folders).claim(path, JOB, job_file(path, description="a letter"), sidecar=sidecar)
    folders.update_commit(JOB, stands=True, snapshot=("1",))
    fail(folders, code="not_confirmed", final=False)
    claimed = Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert claimed.path.read_bytes() == CONTENT
    assert claimed.sidecar
    assert claimed.sidecar.read_bytes() == b"{}"
    told = claimed.job_file
    assert (told.document.description, told.document.round) == ("a letter", 1)
    assert (told.committed, told.commit.snapshot) == (True, ("1",))
    assert files_in(folders.failed) == {}
    assert Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT) == claimed


def test_a_document_that_fails_again_is_found_under_its_own_name(folders: Folders) -> None:
    claim(folders, drop(folders))
    fail(folders)
    Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert fail(folders).name == "referral.pdf"
    assert sorted(files_in(folders.failed / ACCOUNT / PATIENT)) == ["referral.pdf", "referral.pdf.error.json"]


def test_a_document_can_be_reopened_from_an_error_file_without_its_job_file(folders: Folders) -> None:
    (claim(folders, drop(folders)).parent / "job.json").write_bytes(b"{")
    assert "job_file" not in said(fail(folders, code="not_confirmed").with_name("referral.pdf.error.json"))
    claimed = Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert claimed.path.read_bytes() == CONTENT
    assert claimed.job_file.committed


def test_a_document_that_has_left_failed_cannot_be_reopened(folders: Folders) -> None:
    claim(folders, drop(folders))
    fail(folders).unlink()
    with pytest.raises(FileNotFoundError):
        Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert list(folders.processing.iterdir()) == []


def test_all_error_files_are_listed_and_no_document_that_looks_like_one(folders: Folders) -> None:
    looks_like_one = b'{"job_id": "%s"}' % JOB.encode()
    claim(folders, drop(folders, "x.pdf.error.json", looks_like_one), OTHER_JOB)
    Outcomes(folders).fail(OTHER_JOB, ACCOUNT, PATIENT, error(OTHER_JOB))
    assert [closed.content["job_id"] for closed in Outcomes(folders).error_files()] == [OTHER_JOB]
    assert Outcomes(folders).find_error_file(JOB, ACCOUNT, PATIENT) is None


def test_a_document_that_came_back_by_the_inbox_brings_what_was_known(folders: Folders) -> None:
    claim(folders, drop(folders))
    folders.update_commit(JOB, stands=True, key="uploads/1")
    failed = fail(folders, code="outcome_unknown", final=False)
    back = failed.rename(folders.inbox / ACCOUNT / PATIENT / failed.name)
    claimed = Claims(folders).claim(back, JOB, job_file(back), continues=True)
    told = folders.read_job_file(JOB)
    assert (told.committed, told.commit.key, told.document.round) == (True, "uploads/1", 1)
    assert files_in(folders.failed) == {}
    assert copies(folders) == [claimed]


def test_a_document_that_was_copied_back_to_the_inbox_does_not_stay_in_failed_too(folders: Folders) -> None:
    claim(folders, drop(folders))
    fail(folders, code="not_confirmed", final=False)
    copy = drop(folders)
    claimed = Claims(folders).claim(copy, JOB, job_file(copy), continues=True)
    assert copies(folders) == [claimed]
    assert files_in(folders.failed) == {}


def test_a_stale_error_file_does_not_end_the_new_round(folders: Folders) -> None:
    claim(folders, drop(folders))
    failed = fail(folders, code="not_confirmed", final=False)
    failed.write_bytes(b"changed by hand")
    back = drop(folders)
    Claims(folders).claim(back, JOB, job_file(back), continues=True)
    assert failed.read_bytes() == b"changed by hand"
    (orphan,) = Claims(folders).orphans(lambda _: False)
    assert orphan.job_id == JOB


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_documents_are_closed_where_there_are_no_hard_links(folders: Folders, number: int) -> None:
    folder = folders.delivered / ACCOUNT / PATIENT
    folder.mkdir(parents=True)
    (folder / "referral.pdf").write_bytes(b"here before")
    claim(folders, drop(folders))
    hindered(lambda: deliver(folders), "os.link", refusal(number))
    lying = files_in(folder)
    assert lying["referral.pdf"] == b"here before"
    assert lying["referral-11111111.pdf"] == CONTENT
    assert len(lying) == 3
    assert list(folders.processing.iterdir()) == []


def test_a_disk_that_refuses_leaves_everything_as_it_was(folders: Folders) -> None:
    claimed = claim(folders, drop(folders))

    def try_to_deliver() -> None:
        with pytest.raises(OSError, match="No space"):
            deliver(folders)

    hindered(try_to_deliver, "os.mkdir", refusal(errno.ENOSPC))
    assert copies(folders) == [claimed]
    assert deliver(folders).read_bytes() == CONTENT


def test_documents_are_closed_across_file_systems(folders: Folders, another_disk: Path) -> None:
    folders.delivered.rmdir()
    folders.delivered.symlink_to(another_disk)
    claimed = claim(folders, drop(folders))
    os.utime(claimed, ns=(1, 1_000_000_007))
    delivered = deliver(folders)
    assert delivered.stat().st_mtime_ns == 1_000_000_007
    assert sorted(files_in(another_disk / ACCOUNT / PATIENT)) == ["referral.pdf", "referral.pdf.receipt.json"]
    assert list(folders.processing.iterdir()) == []
