"""Folders of the inbox that people swap for links: the watcher looks into no link, claims by none, and logs it once."""

from __future__ import annotations

import os
import threading
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tests.worker.inbox.recording import RecordingLedger, inbox, watcher
from worker.inbox import scan as scanning
from worker.inbox.filter import Reason
from worker.inbox.scan import scan
from worker.inbox.watcher import Watcher

NORTH, SOUTH = "north_clinic", "south_clinic"
CONTENT, SECRET = b"a referral", b"of another clinic"


@pytest.fixture
def theirs(folders: Folders) -> Path:
    """What was delivered to another clinic: with a sidecar's name and content in it, too."""
    folder = folders.delivered / SOUTH / "1"
    folder.mkdir(parents=True)
    (folder / "a.pdf").write_bytes(SECRET)
    (folder / "a.pdf.meta.json").write_bytes(b'{"description": "a secret"}')
    return folder


def put(folders: Folders, place: str = f"{NORTH}/4711/a.pdf", content: bytes = CONTENT) -> Path:
    path = folders.inbox / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


class Flip:
    """Turns a folder into a link and back."""

    def __init__(self, folder: Path, other: Path) -> None:
        self._folder, self._other, self._away = folder, other, folder.with_name(".away")

    def to_link(self) -> None:
        self._folder.rename(self._away)
        self._folder.symlink_to(self._other)

    def back(self) -> None:
        self._folder.unlink()
        self._away.rename(self._folder)


def settled(folders: Folders, ledger: RecordingLedger) -> Watcher:
    """A watcher that has seen what is in the inbox for long enough."""
    now = [0.0]
    watched = watcher(folders, ledger, inbox(), clock=lambda: now[0])
    watched._scan()
    now[0] += 1.0
    watched._scan()
    return watched


def nothing_of_theirs(folders: Folders, ledger: RecordingLedger, theirs: Path) -> None:
    assert (theirs / "a.pdf").read_bytes() == SECRET
    assert (theirs / "a.pdf.meta.json").exists()
    for job_id, job in ledger.opened.items():
        document = folders.document(job_id)
        assert document
        assert document.read_bytes() == CONTENT
        assert job.document.description is None


@pytest.mark.parametrize("level", ["patient", "account"])
def test_a_folder_that_is_swapped_between_the_look_and_the_claim_leads_nowhere(
    folders: Folders, ledger: RecordingLedger, theirs: Path, level: str
) -> None:
    path = put(folders)
    put(folders, f"{NORTH}/4711/a.pdf.meta.json", b"{}")
    watched = settled(folders, ledger)
    (theirs.parent / "4711").symlink_to("1")
    folder = path.parent if level == "patient" else path.parent.parent
    flip = Flip(folder, theirs if level == "patient" else theirs.parent)
    flip.to_link()
    with capture_logs() as logged:
        for _ in range(5):
            watched._claim_ready()
            watched._scan()
    assert (ledger.opened, list(folders.processing.iterdir())) == ({}, [])
    nothing_of_theirs(folders, ledger, theirs)
    assert [entry["event"] for entry in logged] == ["inbox_folder_swapped"]
    assert "4711" not in str(logged)
    flip.back()
    settled(folders, ledger)._claim_ready()
    assert len(ledger.opened) == 1


def test_a_folder_that_is_swapped_while_its_document_is_examined_leads_nowhere(
    folders: Folders, ledger: RecordingLedger, theirs: Path
) -> None:
    """After its sidecar was read and before it is claimed: the ledger is asked in between."""
    path = put(folders)
    put(folders, f"{NORTH}/4711/a.pdf.meta.json", b"{}")
    watched, flip = settled(folders, ledger), Flip(path.parent, theirs)
    ledger.meanwhile = flip.to_link
    watched._claim_ready()
    assert ledger.opened == {}
    nothing_of_theirs(folders, ledger, theirs)


def test_a_folder_that_is_swapped_during_the_look_is_not_looked_into(
    folders: Folders, theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the entry in its parent, which says that it is a folder, and its opening."""
    path = put(folders)
    flip, entries = Flip(path.parent, theirs), scanning._entries

    def then_swap(folder: Any) -> Any:
        yield from entries(folder)
        if folder.path.name == NORTH:
            flip.to_link()

    monkeypatch.setattr(scanning, "_entries", then_swap)
    found = scan(folders.inbox, (NORTH, SOUTH))
    assert found.candidates == {}
    assert [(entry.path, entry.reason) for entry in found.ignored if entry.path.name == "4711"] == [
        (path.parent, Reason.NOT_A_REGULAR_FILE)
    ]


class Unasked(RecordingLedger):
    """Does not look at the document before it is claimed: its folder may be a link by then."""

    def continued(self, job_file: JobFile, path: Path) -> JobFile | None:
        return None


def test_a_folder_that_never_stops_swapping_gives_away_nothing(folders: Folders, theirs: Path) -> None:
    path, ledger, now = put(folders), Unasked(folders), [0.0]
    identity = (theirs / "a.pdf").stat().st_ino
    watched = watcher(folders, ledger, inbox(), clock=lambda: now[0])
    flip, stop, claimed = Flip(path.parent, theirs), threading.Event(), 0

    def flip_on() -> None:
        while not stop.is_set():
            flip.to_link()
            flip.back()
            stop.wait(0.001)  # two looks in a row must see the folder before its document is claimed

    flipping = threading.Thread(target=flip_on)
    flipping.start()
    try:
        with capture_logs() as logged:
            for _ in range(600):
                now[0] += 1.0
                watched._scan()
                assert all(candidate.identity.inode != identity for candidate in watched._ready)
                watched._claim_ready()
                if ledger.opened:
                    nothing_of_theirs(folders, ledger, theirs)
                    ledger.opened.clear()
                    claimed += 1
                    put_back(folders, path.name, (path.parent, flip._away))
    finally:
        stop.set()
        flipping.join()
    nothing_of_theirs(folders, ledger, theirs)
    assert claimed > 0, "it was a folder now and then"
    events = Counter(entry["event"] for entry in logged)
    # What stays as it is for a minute by the watcher's clock is named, as ever.
    assert events.keys() <= {"inbox_folder_swapped", "document_claimed", "inbox_entry_ignored"}
    assert events["inbox_folder_swapped"] <= 1
    assert events["inbox_entry_ignored"] <= 600 / 60


def put_back(folders: Folders, name: str, places: tuple[Path, ...]) -> None:
    """Another document, by whichever name its folder has now."""
    while True:
        for place in places:
            try:
                # By descriptor: between a look at the name and a write through it, it may have become the link.
                folder = os.open(place, os.O_DIRECTORY | os.O_NOFOLLOW)
            except OSError:
                continue
            try:
                with os.fdopen(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, dir_fd=folder), "wb") as file:
                    file.write(CONTENT)
            finally:
                os.close(folder)
            return


@pytest.mark.parametrize(("protected", "taken"), [(True, True), (False, False)])
def test_a_second_name_for_a_file_is_taken_only_where_nobody_can_give_one_to_what_is_not_theirs(
    folders: Folders,
    ledger: RecordingLedger,
    theirs: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    *,
    protected: bool,
    taken: bool,
) -> None:
    setting = tmp_path / "protected_hardlinks"
    setting.write_text("1\n" if protected else "0\n")
    monkeypatch.setattr(scanning, "_PROTECTED_HARD_LINKS", setting)
    (folders.inbox / NORTH / "4711").mkdir(parents=True)
    (folders.inbox / NORTH / "4711" / "b.pdf").hardlink_to(theirs / "a.pdf")
    watched = settled(folders, ledger)
    watched._claim_ready()
    assert bool(ledger.opened) is taken
    if not taken:
        assert [(entry.path.name, entry.reason) for entry in watched.left_in_the_inbox] == [("b.pdf", Reason.HARD_LINK)]
        (theirs / "a.pdf").unlink()
        settled(folders, ledger)._claim_ready()
        assert ledger.opened, "a program may move a file by a second name for it"
