"""Which entries of the inbox are documents."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path

import pytest

from worker.inbox.filter import InboxFilter, Reason
from worker.inbox.scan import Candidate, Scan, in_turn, scan
from worker.inbox.sidecar_names import looks_like_sidecar

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
        ("scan.PDF.Partial", Reason.UNFINISHED),
        ("scan.pdf.download", Reason.UNFINISHED),
        ("scan.pdf.!sync", Reason.UNFINISHED),
        ("scan.pdf.!UT", Reason.UNFINISHED),
        ("scan.pdf.opdownload", Reason.UNFINISHED),
        ("scan.pdf.inprogress", Reason.UNFINISHED),
        ("scan.pdf.uploading", Reason.UNFINISHED),
        ("scan.pdf.aria2", Reason.UNFINISHED),
        ("scan.pdf.bts", Reason.UNFINISHED),
        ("letter.docx.swp", Reason.UNFINISHED),
        ("SCAN.LCK", Reason.UNFINISHED),
        ("letter.pdf.sb-1f2e3d4c-AbCdEf", Reason.UNFINISHED),
        ("letter.txt~", Reason.UNFINISHED),
        ("#letter.txt#", Reason.UNFINISHED),
        ("scan.tmp1", Reason.UNFINISHED),
        ("scan.sync-conflict-20260131-120000-ABCDEFG.pdf", Reason.SYNC_CONFLICT),
        ("scan (Anna's conflicted copy 2026-01-31).pdf", Reason.SYNC_CONFLICT),
        ("scan (In Konflikt stehende Kopie von Anna 2026-01-31).pdf", Reason.SYNC_CONFLICT),
        ("scan (conflicted copy 2026-01-31 120000).PDF", Reason.SYNC_CONFLICT),
        ("scan (SFConflict anna@clinic.example 2026-01-31-12-30-00).pdf", Reason.SYNC_CONFLICT),
        ("scan_Desk-PC_Jan-31-0901-2026_CaseConflict_1.pdf", Reason.SYNC_CONFLICT),
        ("scan_conflict-20260131-120000.pdf", Reason.SYNC_CONFLICT),
        ("scan.Conflict.pdf", Reason.SYNC_CONFLICT),
        ("scan(Conflict_anna (Web browser)_2026-01-31-22-50-36).pdf", Reason.SYNC_CONFLICT),
        ("ehthumbs.db", Reason.SYSTEM_FILE),
        ("Icon\r", Reason.SYSTEM_FILE),
        ("Thumbs.db:encryptable", Reason.SYSTEM_FILE),
        ("scan.pdf:Zone.Identifier", Reason.SYSTEM_FILE),
        ("thumbs.DB:anything", Reason.SYSTEM_FILE),
        ("scan.pdf\uf022Zone.Identifier", Reason.SYSTEM_FILE),
        ("scan.pdf:Zone.Identifier:$DATA", Reason.SYSTEM_FILE),
        ("scan.pdf - Shortcut.lnk", Reason.SHORTCUT),
        ("Lab.URL", Reason.SHORTCUT),
        ("scan.pdf.nextcloud", Reason.SHORTCUT),
        ("tmp", None),
        ("letter 12:30.pdf", None),
        ("#4711 letter.pdf", None),
        ("@home visit.pdf", None),
        ("Conflict in the family.pdf", None),
        ("Konfliktberatung (Protokoll).pdf", None),
        ("report.part2.pdf", None),
        ("locked.pdf", None),
        ("$5 receipt.pdf", None),
        ("metabolism.json", None),
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
    found = scan(tmp_path, ACCOUNTS)
    assert found.candidates == {}
    assert reasons(found, tmp_path) == {"north_clinic/4711/scan.pdf.meta.json": Reason.SIDECAR_ALONE}
    put(tmp_path, "north_clinic/4711/scan.pdf")
    found = scan(tmp_path, ACCOUNTS)
    assert [each.sidecar is not None for each in found.candidates.values()] == [True]
    assert found.ignored == []


SYSTEM_FOLDERS = (
    *("@eaDir", "@Recycle", "@tmp", "@Recently-Snapshot", "#recycle", "#snapshot", "$RECYCLE.BIN", "$AVG"),
    *("lost+found", "System Volume Information", "RECYCLER", "recycled", "__MACOSX", "Network Trash Folder"),
    *("Temporary Items", "TheVolumeSettingsFolder", "found.000", "Network Recycle Bin 1", "DfsrPrivate", "trashbox"),
)


@pytest.mark.parametrize("name", SYSTEM_FOLDERS)
def test_folders_that_systems_make_are_neither_accounts_nor_patients(name: str) -> None:
    for spelled in (name, name.lower(), name.upper()):
        assert inbox_filter.why_ignored_in_inbox(spelled, FOLDER) is Reason.SYSTEM_FILE
        assert inbox_filter.why_ignored_in_account_folder(spelled, FOLDER) is Reason.SYSTEM_FILE
        assert inbox_filter.why_ignored_in_patient_folder(spelled, FOLDER) is Reason.SYSTEM_FILE


@pytest.mark.parametrize("name", [".stversions", ".stfolder", ".AppleDouble", ".sync", ".snapshot", "~snapshot"])
def test_hidden_folders_are_no_patients(name: str) -> None:
    assert inbox_filter.why_ignored_in_account_folder(name, FOLDER) is Reason.HIDDEN


def test_an_account_is_one_whatever_its_name() -> None:
    assert InboxFilter(["recycler"]).why_ignored_in_inbox("recycler", FOLDER) is None
    assert InboxFilter(["old_clinic"], ["old*"]).why_ignored_in_inbox("old_clinic", FOLDER) is None


def test_the_settings_can_name_more_in_any_case(tmp_path: Path) -> None:
    own = InboxFilter(ACCOUNTS, ["*.bak", "Übung-*"])
    assert own.why_ignored_in_patient_folder("scan.BAK", FILE) is Reason.IGNORED_BY_SETTINGS
    assert own.why_ignored_in_account_folder("U\u0308BUNG-1", FOLDER) is Reason.IGNORED_BY_SETTINGS
    assert own.why_ignored_in_patient_folder("scan.bak.pdf", FILE) is None
    put(tmp_path, "north_clinic/4711/scan.bak")
    assert reasons(scan(tmp_path, ACCOUNTS, ["*.bak"]), tmp_path) == {
        "north_clinic/4711/scan.bak": Reason.IGNORED_BY_SETTINGS
    }


WRONG_NAMES = (
    *("scan.meta.json", "scan.pdf.META.JSON", "scan.pdf.meta.json.txt", "scan.pdf.meta (1).json", "Scan.pdf.meta.json"),
    *("scan.pdf .meta.json", "scan.pdf.meta .json", "scan.pdf.meta - Copy.json", "Copy of scan.pdf.meta.json"),
    *("scan.pdf.metadata.json", "scan.pdf.meta", "scan.pdf.meta.txt", "scan.pdf.meta.json.json", "scan.pdf_meta.json"),
)


@pytest.mark.parametrize("name", WRONG_NAMES)
def test_a_sidecar_under_a_wrong_name_is_not_sent_and_its_document_does_not_go_without_it(
    tmp_path: Path, name: str
) -> None:
    sidecar, document = put(tmp_path, f"north_clinic/4711/{name}"), put(tmp_path, "north_clinic/4711/scan.pdf")
    other = put(tmp_path, "north_clinic/4711/other.pdf")
    found = scan(tmp_path, ACCOUNTS)
    assert list(found.candidates) == [other]
    by_path = {entry.path: (entry.reason, entry.beside) for entry in found.ignored}
    assert by_path == {
        sidecar: (Reason.SIDECAR_MISNAMED, ("scan.pdf.meta.json",)),
        document: (Reason.SIDECAR_IN_DOUBT, (name,)),
    }


@pytest.mark.parametrize(
    "name", ["scan.pdf.meta.json.part", "scan.pdf.meta.sync-conflict-20260131-120000-ABCDEFG.json"]
)
def test_a_document_waits_for_a_sidecar_that_is_unfinished_or_in_conflict(tmp_path: Path, name: str) -> None:
    put(tmp_path, f"north_clinic/4711/{name}")
    put(tmp_path, "north_clinic/4711/scan.pdf")
    found = scan(tmp_path, ACCOUNTS)
    assert found.candidates == {}
    assert reasons(found, tmp_path)["north_clinic/4711/scan.pdf"] is Reason.SIDECAR_IN_DOUBT


def test_all_documents_wait_for_which_a_sidecar_may_be_meant(tmp_path: Path) -> None:
    put(tmp_path, "north_clinic/4711/scan.meta.json")
    for name in ("scan.pdf", "scan.tiff", "Scan.PDF.txt", "scan2.pdf"):
        put(tmp_path, f"north_clinic/4711/{name}")
    found = scan(tmp_path, ACCOUNTS)
    assert sorted(path.name for path in found.candidates) == ["Scan.PDF.txt", "scan2.pdf"]
    (sidecar,) = (entry for entry in found.ignored if entry.reason is Reason.SIDECAR_MISNAMED)
    assert sorted(sidecar.beside) == ["scan.pdf.meta.json", "scan.tiff.meta.json"]


def test_letters_that_are_composed_otherwise_make_another_name(tmp_path: Path) -> None:
    put(tmp_path, "north_clinic/4711/M\u00fcller.pdf")
    put(tmp_path, "north_clinic/4711/Mu\u0308ller.pdf.meta.json")  # as macOS writes it
    assert {entry.reason for entry in scan(tmp_path, ACCOUNTS).ignored} == {
        Reason.SIDECAR_IN_DOUBT,
        Reason.SIDECAR_MISNAMED,
    }


def test_what_lies_about_a_right_sidecar_does_not_hold_its_document(tmp_path: Path) -> None:
    document = put(tmp_path, "north_clinic/4711/scan.pdf")
    put(tmp_path, "north_clinic/4711/scan.pdf.meta.json")
    for name in ("scan.pdf.meta.json~", ".scan.pdf.meta.json.swp", "scan.pdf.meta.json.error.json"):
        put(tmp_path, f"north_clinic/4711/{name}")
    put(tmp_path, "north_clinic/4711/scan.pdf.meta.json:Zone.Identifier")
    assert list(scan(tmp_path, ACCOUNTS).candidates) == [document]


def test_a_folder_called_as_a_sidecar_is_a_faulty_one_and_no_patient(tmp_path: Path) -> None:
    for place in ("north_clinic/scan.pdf", "north_clinic/4711/scan.pdf"):
        put(tmp_path, place)
        (tmp_path / f"{place}.meta.json").mkdir()
        put(tmp_path, f"{place}.meta.json/inner.pdf")
    found = scan(tmp_path, ACCOUNTS)
    assert [(each.path.name, each.sidecar is not None) for each in found.candidates.values()] == [
        ("scan.pdf", True),
        ("scan.pdf", True),
    ]


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
    (tmp_path / "north_clinic" / "4711" / "empty").mkdir()  # nothing waits in it
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


@pytest.mark.parametrize(
    "name",
    [
        *("meta " * 51, " " * 250 + "meta", "meta" + " " * 250, ".meta" * 51, "-meta.json" * 25, "meta." * 51),
        *("(" * 255, "(conflict" * 28, "_jan-01-" * 31, ":" * 255, "a:" * 127, "#" * 255, ".tmp" * 63, "a.sb-" * 51),
    ],
)
def test_no_name_takes_long(name: str) -> None:
    started = time.process_time()
    for _ in range(20):
        inbox_filter.why_ignored_in_patient_folder(name, FILE)
        looks_like_sidecar(name)
    # An ordinary name takes some microseconds, and a regular expression that explodes takes for ever.
    assert time.process_time() - started < 20
