"""Our notes that come into the inbox are never sent, and go when their document is taken; nothing else does."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tasks.folders.layout import Folders
from tasks.folders.notes import NOT_SENT
from tasks.folders.outcomes import Outcomes
from tests.tasks.folders.documents import JOB, error
from tests.tasks.folders.documents import claim as claimed
from tests.tasks.folders.test_notes import texts
from tests.worker.inbox.recording import RecordingLedger, inbox, watcher
from worker.inbox.filter import Reason
from worker.inbox.scan import scan

NAME = "referral.pdf"
HTML, TEXT = f"{NAME}{NOT_SENT}.html", f"{NAME}{NOT_SENT}.txt"
PLACE = Path("north_clinic") / "4711"


@pytest.fixture
def failed(folders: Folders) -> Path:
    """The folder of a document that was not sent, with its notes."""
    path = folders.inbox / PLACE / NAME
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a referral")
    claimed(folders, path)
    return Outcomes(folders).fail(JOB, "north_clinic", "4711", error(), lambda _: texts()).parent


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def taken(ledger: RecordingLedger) -> list[str]:
    return sorted(job.disk_name for job in (*ledger.opened.values(), *ledger.refused.values()))


def once(folders: Folders, ledger: RecordingLedger) -> None:
    watcher(folders, ledger, inbox()).once()


def test_a_folder_that_is_put_back_whole_sends_its_document_alone(
    folders: Folders, ledger: RecordingLedger, failed: Path
) -> None:
    failed.rename(folders.inbox / PLACE)
    once(folders, ledger)
    assert taken(ledger) == [NAME]
    assert names(folders.inbox / PLACE) == []


def test_an_error_file_goes_with_its_document_also_to_the_right_patient(
    folders: Folders, ledger: RecordingLedger, failed: Path
) -> None:
    failed.rename(folders.inbox / "north_clinic" / "4712")
    once(folders, ledger)
    assert taken(ledger) == [NAME]
    assert names(folders.inbox / "north_clinic" / "4712") == []


@pytest.mark.parametrize("change", [b'{"job_id": "%s", "code": "mine"}' % JOB.encode(), b"not ours", b""])
def test_an_error_file_that_is_not_as_we_wrote_it_stays(
    folders: Folders, ledger: RecordingLedger, failed: Path, change: bytes
) -> None:
    (failed / f"{NAME}.error.json").write_bytes(change)
    (failed / "other.pdf.error.json").write_bytes(b"of nothing here")
    failed.rename(folders.inbox / PLACE)
    once(folders, ledger)
    assert taken(ledger) == [NAME]
    assert names(folders.inbox / PLACE) == ["other.pdf.error.json", f"{NAME}.error.json"]


def test_a_document_that_is_put_back_alone_leaves_no_note_in_failed(
    folders: Folders, ledger: RecordingLedger, failed: Path
) -> None:
    (failed / NAME).rename(folders.inbox / PLACE / NAME)
    once(folders, ledger)
    assert taken(ledger) == [NAME]
    assert names(failed) == [f"{NAME}.error.json"]


def test_the_notes_of_a_document_that_lies_in_failed_again_stay(
    folders: Folders, ledger: RecordingLedger, failed: Path
) -> None:
    (folders.inbox / PLACE / NAME).write_bytes(b"another one of the same name")
    once(folders, ledger)
    assert taken(ledger) == [NAME]
    assert names(failed) == [NAME, HTML, TEXT, f"{NAME}.error.json"]


@pytest.mark.parametrize("content", [b"<p>A letter about what was not sent</p>", b"", b"chartpost-note: mine"])
def test_a_document_that_is_called_as_a_note_is_sent(folders: Folders, ledger: RecordingLedger, content: bytes) -> None:
    ours = folders.inbox / PLACE
    ours.mkdir(parents=True)
    (ours / HTML).write_bytes(content or b"x")
    (ours / f"{HTML}.meta.json").write_text('{"description": "its own"}')
    (ours / NAME).write_bytes(b"a referral")
    once(folders, ledger)
    assert taken(ledger) == [NAME, HTML]
    assert [job.document.description for job in ledger.opened.values() if job.disk_name == HTML] == ["its own"]
    assert names(ours) == []


def test_a_document_that_is_called_as_a_note_has_notes_of_its_own_when_it_fails(folders: Folders) -> None:
    path = folders.inbox / PLACE / HTML
    path.parent.mkdir(parents=True)
    path.write_bytes(b"<p>A letter</p>")
    claimed(folders, path)
    place = Outcomes(folders).fail(JOB, "north_clinic", "4711", error(name=HTML), lambda _: texts()).parent
    assert names(place) == sorted([HTML, f"{HTML}{NOT_SENT}.html", f"{HTML}{NOT_SENT}.txt", f"{HTML}.error.json"])
    assert Outcomes(folders).drop_stale_notes() == 0
    place.rename(path.parent)
    found = scan(folders.inbox, ["north_clinic"])
    (candidate,) = found.candidates.values()
    assert (candidate.path.name, len(candidate.notes), found.lone_notes) == (HTML, 3, [])


@pytest.mark.parametrize("called", ["what to do.html", f"{NAME}{NOT_SENT} (1).html", f"Copy of {TEXT}", "letter.txt"])
def test_a_note_is_not_sent_whatever_people_have_called_it(
    folders: Folders, ledger: RecordingLedger, failed: Path, called: str
) -> None:
    note = failed / (TEXT if called.endswith(".txt") else HTML)
    note.rename(folders.inbox / PLACE / called)
    once(folders, ledger)
    assert taken(ledger) == []
    assert names(folders.inbox / PLACE) == [called]


def test_a_note_that_somebody_has_written_on_is_neither_sent_nor_removed(
    folders: Folders, ledger: RecordingLedger, failed: Path
) -> None:
    note = failed / TEXT
    note.write_bytes(b"Anna has called the ward.\r\n" + note.read_bytes())
    failed.rename(folders.inbox / PLACE)
    once(folders, ledger)
    assert taken(ledger) == [NAME]
    assert TEXT in names(folders.inbox / PLACE)


def test_notes_that_came_after_their_document_was_taken_go_after_a_minute(
    folders: Folders, ledger: RecordingLedger, failed: Path
) -> None:
    now = [0.0]
    work = watcher(folders, ledger, inbox(rescan_seconds=1), clock=lambda: now[0])
    (failed / HTML).rename(folders.inbox / PLACE / HTML)
    left = {}
    for now[0] in (0.0, 30.0, 59.0, 61.0):
        work.pass_once()
        left[now[0]] = names(folders.inbox / PLACE)
    assert left == {0.0: [HTML], 30.0: [HTML], 59.0: [HTML], 61.0: []}


def test_a_kill_before_the_notes_are_removed_leaves_no_second_document(
    folders: Folders, ledger: RecordingLedger, failed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException): ...

    def kill(*_: object) -> bool:
        raise Killed

    failed.rename(folders.inbox / PLACE)
    with monkeypatch.context() as patched:
        patched.setattr(folders.notes, "remove_note", kill)
        with pytest.raises(Killed):
            once(folders, ledger)
    once(folders, ledger)
    assert [job.disk_name for job in ledger.orphans_opened.values()] == [NAME]
    assert set(names(folders.inbox / PLACE)) == {HTML, TEXT, f"{NAME}.error.json"}
    assert taken(ledger) == []


def test_the_scan_leaves_notes_alone_and_says_so(folders: Folders, failed: Path) -> None:
    failed.rename(folders.inbox / PLACE)
    found = scan(folders.inbox, ["north_clinic"])
    (candidate,) = found.candidates.values()
    assert set(candidate.notes) == {HTML, TEXT, f"{NAME}.error.json"}
    assert {entry.path.name: entry.reason for entry in found.ignored} == {
        HTML: Reason.OUTCOME_FILE,
        TEXT: Reason.OUTCOME_FILE,
        f"{NAME}.error.json": Reason.OUTCOME_FILE,
    }
    assert replace(candidate, notes=()).fingerprint == candidate.fingerprint
