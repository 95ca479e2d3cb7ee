"""Notes beside documents: as we wrote them they are ours, and nothing else is ever overwritten or removed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tasks.folders.claims import Claims
from tasks.folders.evidence import Evidence
from tasks.folders.layout import Folders
from tasks.folders.notes import NOT_SENT, Notes, NoteText, is_note_of, may_be_note, note_names, note_on
from tasks.folders.outcomes import Outcomes
from tasks.ledger.seal import Seal
from tests.harness.keys import SEAL
from tests.tasks.folders.documents import (
    ACCOUNT,
    CONTENT,
    JOB,
    OTHER_JOB,
    PATIENT,
    claim,
    drop,
    error,
    files_in,
    opened,
    said,
)

NAME = "referral.pdf"
HTML, TEXT = f"{NAME}{NOT_SENT}.html", f"{NAME}{NOT_SENT}.txt"


def texts(words: str = "It is empty.") -> Mapping[str, NoteText]:
    """Notes in the form of those of `tasks.wording.note`."""
    return {
        ".html": lambda mark: (
            f'<!doctype html>\n<html>\n<head>\n<meta>\n<meta name="chartpost-note" content="{mark}">\n{words}\n'
        ),
        ".txt": lambda mark: f"\ufeff{words}\r\nchartpost-note: {mark}\r\n",
    }


def fail(folders: Folders, job_id: str = JOB, name: str = NAME, words: str = "It is empty.") -> Path:
    return Outcomes(folders).fail(job_id, ACCOUNT, PATIENT, error(job_id, name), lambda _: texts(words))


def failed(folders: Folders, name: str = NAME, job_id: str = JOB) -> Path:
    claim(folders, drop(folders, name), job_id)
    return fail(folders, job_id, name)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_failed_document_gets_a_page_and_a_text_beside_it(folders: Folders) -> None:
    document = failed(folders)
    assert names(document.parent) == [NAME, HTML, TEXT, f"{NAME}.error.json"]
    for name in (HTML, TEXT):
        note = document.with_name(name)
        assert folders.notes.is_unchanged(note)
        mark = note_on(note)
        assert mark
        assert mark.job_id == JOB
        assert note.stat().st_mode & 0o777 == 0o640


def test_notes_are_brought_up_to_date_and_written_again_after_a_kill(folders: Folders) -> None:
    document = failed(folders)
    document.with_name(TEXT).unlink()
    fail(folders, words="It was looked for.")
    assert b"looked for" in document.with_name(HTML).read_bytes()
    assert b"looked for" in document.with_name(TEXT).read_bytes()
    assert len(names(document.parent)) == 4


@pytest.mark.parametrize("back", ["retried", "delivered"])
def test_notes_go_when_the_document_leaves_failed(folders: Folders, back: str) -> None:
    failed(folders)
    if back == "retried":
        Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    else:
        Outcomes(folders).deliver(JOB, ACCOUNT, PATIENT, {"job_id": JOB, "account": ACCOUNT, "file_name": NAME})
    assert files_in(folders.failed) == {}


def test_a_file_of_others_that_has_a_notes_name_is_left_alone(folders: Folders) -> None:
    place = folders.failed / ACCOUNT / PATIENT
    place.mkdir(parents=True)
    (place / HTML).write_bytes(b"<p>A page of ours</p>")
    document = failed(folders)
    assert (place / HTML).read_bytes() == b"<p>A page of ours</p>"
    assert f"{NAME}-{JOB[:8]}{NOT_SENT}.html" in names(place)
    Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert names(document.parent) == [HTML]


def test_a_note_that_somebody_has_written_on_is_neither_overwritten_nor_removed(folders: Folders) -> None:
    document = failed(folders)
    note = document.with_name(TEXT)
    edited = note.read_bytes().replace(b"It is empty.", b"I have called the ward. Anna")
    note.write_bytes(edited)
    assert note_on(note)
    assert not folders.notes.is_unchanged(note)
    fail(folders, words="Again.")
    assert note.read_bytes() == edited
    Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert names(document.parent) == [TEXT]


def test_the_notes_of_another_key_are_known_and_never_removed(folders: Folders) -> None:
    document = failed(folders)
    others = Notes(Seal("another key"))
    assert note_on(document.with_name(HTML))
    assert not others.is_unchanged(document.with_name(HTML))
    assert not Notes(None).is_unchanged(document.with_name(HTML))


@pytest.mark.parametrize(
    "name", ["x" * 236 + ".pdf", "ü" * 120 + ".pdf", "x" * 255], ids=["long", "umlauts", "longest"]
)
def test_a_long_name_is_cut_for_its_notes_and_they_are_found_again(folders: Folders, name: str) -> None:
    document = failed(folders, name)
    notes = [each for each in names(document.parent) if NOT_SENT in each]
    assert len(notes) == 2
    assert all(is_note_of(note, document.name) for note in notes)
    assert Outcomes(folders).drop_stale_notes() == 0
    Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert files_in(folders.failed) == {}


def test_a_second_document_of_the_same_name_has_notes_of_its_own(folders: Folders) -> None:
    failed(folders)
    second = failed(folders, job_id=OTHER_JOB)
    assert second.name != NAME
    assert sum(NOT_SENT in name for name in names(second.parent)) == 4
    assert Outcomes(folders).drop_stale_notes() == 0


def test_notes_whose_document_a_person_has_taken_away_go_and_all_else_stays(folders: Folders) -> None:
    document = failed(folders)
    mine = document.with_name(f"mine{NOT_SENT}.html")
    mine.write_bytes(b"<p>Not a note</p>")
    document.unlink()
    assert Outcomes(folders).drop_stale_notes() == 2
    assert names(document.parent) == [mine.name, f"{NAME}.error.json"]


def test_nothing_is_removed_by_way_of_a_link(folders: Folders, tmp_path: Path) -> None:
    document = failed(folders)
    document.unlink()
    outside = tmp_path / "outside"
    document.parent.rename(outside)
    document.parent.symlink_to(outside)
    assert Outcomes(folders).drop_stale_notes() == 0
    assert HTML in names(outside)


def test_without_the_right_to_write_a_note_the_document_is_closed_all_the_same(folders: Folders) -> None:
    claim(folders, drop(folders))

    def hindered(name: str) -> Mapping[str, NoteText]:
        for each in note_names(name, f"{NOT_SENT}.html", JOB):
            (folders.failed / ACCOUNT / PATIENT / each).mkdir()
        return texts()

    document = Outcomes(folders).fail(JOB, ACCOUNT, PATIENT, error(), hindered)
    assert document.read_bytes() == CONTENT
    assert document.with_name(TEXT).exists()
    assert list(folders.processing.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "may_be"),
    [
        (HTML, True),
        (f"{NAME} - NOT SENT (1).html", True),
        ("Copy of letter.pdf - not sent.TXT", True),
        (f"{NAME} - WAITING.html", True),
        ("not sent.pdf", False),
        ("letter.html", False),
    ],
    ids=["note", "second-download", "copy", "waiting", "pdf", "page"],
)
def test_which_names_are_looked_into(name: str, may_be: bool) -> None:
    assert may_be_note(name) is may_be


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html>chartpost-note</html>",
        b'<meta name="chartpost-note" content="x">',
        b"A letter about chartpost-note: " + JOB.encode() + b" " + b"0" * 64 + b"\nand more",
        b"x" * 70_000,
    ],
    ids=["empty", "word", "page", "inside", "large"],
)
def test_a_file_without_a_whole_mark_is_no_note(tmp_path: Path, content: bytes) -> None:
    (tmp_path / HTML).write_bytes(content)
    assert note_on(tmp_path / HTML) is None


# --- the error file ------------------------------------------------------------------------------------------------


def test_an_error_file_shows_people_nothing_of_our_bookkeeping(folders: Folders) -> None:
    path = drop(folders)
    claim(folders, path, description="a letter", options={"document_id": "99"})
    folders.update_commit(JOB, stands=True, snapshot=("17",), key="uploads/1")
    companion = fail(folders).with_name(f"{NAME}.error.json")
    content = said(companion)
    assert isinstance(content["job_file"], str)
    assert list(content)[-2:] == ["job_file", "signature"]
    for word in (b"snapshot", b"committed", b"uploads/1", b"a letter", b"document_id"):
        assert word not in companion.read_bytes()
    assert len(companion.read_bytes().splitlines()) < 20
    assert opened(companion)["job_file"]["snapshot"] == ["17"]


def test_a_document_comes_back_from_the_error_file_of_an_earlier_version(folders: Folders) -> None:
    path = drop(folders)
    claim(folders, path, description="a letter")
    folders.update_commit(JOB, stands=True, snapshot=("17",))
    companion = fail(folders).with_name(f"{NAME}.error.json")
    # As that version wrote it: job.json in plain sight, and signed as it stands there.
    content = opened(companion)
    del content["signature"]
    text = json.dumps([ACCOUNT, PATIENT, content], sort_keys=True, separators=(",", ":"))
    companion.write_text(json.dumps({**content, "signature": SEAL.sign("error", text)}, indent=2))
    assert Evidence(SEAL).believes("error", said(companion), ACCOUNT, PATIENT)
    claimed = Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert (claimed.job_file.committed, claimed.job_file.commit.snapshot) == (True, ("17",))
    assert claimed.job_file.document.description == "a letter"
    again = fail(folders).with_name(f"{NAME}.error.json")
    assert isinstance(said(again)["job_file"], str)
    assert Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT).job_file.document.round == 2


@pytest.mark.parametrize("edit", ["cut", "of_another_job"])
def test_bookkeeping_that_does_not_open_brings_no_document_back(folders: Folders, edit: str) -> None:
    document = failed(folders)
    other = failed(folders, "other.pdf", OTHER_JOB)
    companion = document.with_name(f"{NAME}.error.json")
    content = said(companion)
    theirs = said(other.with_name("other.pdf.error.json"))["job_file"]
    content["job_file"] = theirs if edit == "of_another_job" else content["job_file"][:-8]
    signed = folders.error_files.sign(content, ACCOUNT, PATIENT)
    companion.write_text(json.dumps(signed))
    with pytest.raises(OSError, match="does not bear"):
        Claims(folders).reopen_failed(JOB, ACCOUNT, PATIENT)
    assert document.read_bytes() == CONTENT
