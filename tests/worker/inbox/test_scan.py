"""Which entries of the inbox are documents."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from worker.inbox.filter import InboxFilter, Reason
from worker.inbox.scan import Candidate, Scan, in_turn, scan

ACCOUNTS = ("north_clinic", "south_clinic")
FILE, FOLDER, LINK, PIPE = stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFIFO
inbox_filter = InboxFilter(ACCOUNTS)


def put(inbox: Path, place: str, content: bytes = b"x") -> Path:
    path = inbox / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def reasons(found: Scan, inbox: Path) -> dict[str, Reason]:
    return {str(entry.path.relative_to(inbox)): entry.reason for entry in found.ignored}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (".hidden.pdf", Reason.HIDDEN),
        ("~$letter.docx", Reason.HIDDEN),
        ("scan.pdf.part", Reason.UNFINISHED),
        ("scan.TMP", Reason.UNFINISHED),
        ("scan.pdf.crdownload", Reason.UNFINISHED),
        ("scan.pdf.filepart", Reason.UNFINISHED),
        ("Thumbs.db", Reason.SYSTEM_FILE),
        ("THUMBS.DB", Reason.SYSTEM_FILE),
        ("desktop.ini", Reason.SYSTEM_FILE),
        ("tmp", None),
        ("part.pdf", None),
        ("scan.tmp.pdf", None),
        ("Thumbs.db.pdf", None),
        ("a", None),
        ("\udcff", None),
    ],
)
def test_a_file_is_accepted_by_its_name(name: str, reason: Reason | None) -> None:
    assert inbox_filter.why_ignored_in_patient_folder(name, FILE) is reason
    assert inbox_filter.why_ignored_in_account_folder(name, FILE) is reason


@pytest.mark.parametrize("mode", [LINK, PIPE, stat.S_IFSOCK, stat.S_IFCHR, stat.S_IFBLK])
def test_only_regular_files_are_documents(mode: int) -> None:
    assert inbox_filter.why_ignored_in_patient_folder("scan.pdf", mode) is Reason.NOT_A_REGULAR_FILE
    assert inbox_filter.why_ignored_in_account_folder("scan.pdf", mode) is Reason.NOT_A_REGULAR_FILE
    assert inbox_filter.why_ignored_in_inbox("north_clinic", mode) is Reason.NOT_A_REGULAR_FILE


def test_folders_are_accounts_then_patients_and_no_deeper() -> None:
    assert inbox_filter.why_ignored_in_inbox("north_clinic", FOLDER) is None
    assert inbox_filter.why_ignored_in_inbox("east_clinic", FOLDER) is Reason.UNKNOWN_ACCOUNT
    assert inbox_filter.why_ignored_in_inbox(".snapshot", FOLDER) is Reason.HIDDEN
    assert inbox_filter.why_ignored_in_inbox("scan.pdf", FILE) is Reason.NO_ACCOUNT
    assert inbox_filter.why_ignored_in_account_folder("4711", FOLDER) is None
    assert inbox_filter.why_ignored_in_account_folder(".Trash-1000", FOLDER) is Reason.HIDDEN
    assert inbox_filter.why_ignored_in_patient_folder("letters", FOLDER) is Reason.TOO_DEEP


def test_documents_are_found_with_account_patient_and_sidecar(tmp_path: Path) -> None:
    with_sidecar = put(tmp_path, "north_clinic/4711/scan.pdf")
    sidecar = put(tmp_path, "north_clinic/4711/scan.pdf.meta.json")
    put(tmp_path, "north_clinic/4712/scan.pdf")
    without_patient = put(tmp_path, "south_clinic/scan.pdf")
    found = scan(tmp_path, ACCOUNTS)
    assert [
        (c.account, c.patient_id, c.path.name) for c in sorted(found.candidates.values(), key=lambda c: c.path)
    ] == [
        ("north_clinic", "4711", "scan.pdf"),
        ("north_clinic", "4712", "scan.pdf"),
        ("south_clinic", None, "scan.pdf"),
    ]
    assert found.candidates[with_sidecar].sidecar == sidecar
    assert found.candidates[without_patient].sidecar is None
    assert found.ignored == []


def test_a_sidecar_is_not_a_document_and_waits_for_its_own(tmp_path: Path) -> None:
    put(tmp_path, "north_clinic/4711/scan.pdf.meta.json")
    assert scan(tmp_path, ACCOUNTS) == Scan()


def test_a_sidecar_that_is_not_a_regular_file_still_counts_as_there(tmp_path: Path) -> None:
    path = put(tmp_path, "north_clinic/4711/scan.pdf")
    path.with_name("scan.pdf.meta.json").symlink_to("elsewhere")
    candidate = scan(tmp_path, ACCOUNTS).candidates[path]
    assert candidate.sidecar
    assert candidate.sidecar_identity is None


def test_each_ignored_entry_has_its_reason(tmp_path: Path) -> None:
    put(tmp_path, "north_clinic/4711/deeper/scan.pdf")
    put(tmp_path, "north_clinic/4711/scan.part")
    put(tmp_path, "east_clinic/4711/scan.pdf")
    put(tmp_path, "scan.pdf")
    (tmp_path / "empty_clinic").mkdir()
    os.mkfifo(tmp_path / "north_clinic" / "pipe.pdf")
    (tmp_path / "south_clinic").symlink_to(tmp_path / "north_clinic")
    found = scan(tmp_path, ACCOUNTS)
    assert found.candidates == {}
    assert reasons(found, tmp_path) == {
        "north_clinic/4711/deeper": Reason.TOO_DEEP,
        "north_clinic/4711/scan.part": Reason.UNFINISHED,
        "north_clinic/pipe.pdf": Reason.NOT_A_REGULAR_FILE,
        "east_clinic": Reason.UNKNOWN_ACCOUNT,
        "scan.pdf": Reason.NO_ACCOUNT,
        "south_clinic": Reason.NOT_A_REGULAR_FILE,
    }


def test_a_folder_that_cannot_be_read_does_not_hide_the_others(tmp_path: Path) -> None:
    put(tmp_path, "north_clinic/4712/scan.pdf")
    (tmp_path / "north_clinic" / "4711").mkdir()
    (tmp_path / "north_clinic" / "4711").chmod(0)
    found = scan(tmp_path, ACCOUNTS)
    assert len(found.candidates) == 1
    if os.geteuid() != 0:  # root may read everything
        assert reasons(found, tmp_path) == {"north_clinic/4711": Reason.UNREADABLE}


def test_an_inbox_that_is_not_there_is_an_error_and_not_an_empty_one(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan(tmp_path / "unmounted", ACCOUNTS)


def test_accounts_are_taken_in_turn_and_the_oldest_first(tmp_path: Path) -> None:
    for number in range(3):
        os.utime(put(tmp_path, f"north_clinic/1/{number}.pdf"), ns=(0, 10 - number))
    os.utime(put(tmp_path, "south_clinic/1/late.pdf"), ns=(0, 99))
    candidates: list[Candidate] = list(scan(tmp_path, ACCOUNTS).candidates.values())
    assert [candidate.path.name for candidate in in_turn(candidates)] == ["2.pdf", "late.pdf", "1.pdf", "0.pdf"]


def test_every_name_that_linux_allows_is_found_as_it_is(tmp_path: Path) -> None:
    names = [b"\xff\xfe", "ü.pdf".encode(), b"new\nline", b"x" * 255, b" ", b"-rf", b"*"]
    folder = tmp_path / "north_clinic" / "4711"
    folder.mkdir(parents=True)
    for name in names:
        (folder / os.fsdecode(name)).write_bytes(b"x")
    found = scan(tmp_path, ACCOUNTS)
    assert {os.fsencode(path.name) for path in found.candidates} == set(names)
