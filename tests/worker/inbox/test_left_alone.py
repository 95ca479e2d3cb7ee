"""What is left in the inbox for a minute is logged once and counted, with its reason."""

from __future__ import annotations

import errno
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from config.settings import Inbox
from tasks.folders.claims import AlreadyInCare, Claims
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.sources.entries import OpenFolder
from tasks.sources.writers import Writers
from tests.harness.keys import SEAL
from tests.worker.inbox.recording import RecordingLedger, inbox, watcher
from worker.inbox.events import ChangeEvents
from worker.inbox.filter import Reason
from worker.inbox.look import look_into
from worker.inbox.rights import FolderRights
from worker.inbox.scan import scan
from worker.inbox.watcher import Watcher

NORTH = "north_clinic"
OTHER_USER = 65534  # nobody


def put(folders: Folders, place: str, content: bytes = b"x") -> Path:
    path = folders.inbox / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def watch_for(
    seconds: float,
    folders: Folders,
    ledger: RecordingLedger,
    settings: Inbox | None = None,
    *,
    claims: Claims | None = None,
    each_second: Callable[[float], object] = lambda _: None,
) -> tuple[Watcher, Sequence[Mapping[str, Any]]]:
    """A watcher after so many seconds, and what it logged. Time passes only while it waits."""
    now, stop = 0.0, threading.Event()

    class Passing(ChangeEvents):
        def wait(self, at_most: float) -> bool:
            nonlocal now
            now += min(1.0, max(0.01, at_most))
            each_second(now)
            if now >= seconds:
                stop.set()
            return at_most <= 1.0

    watched = watcher(folders, ledger, settings or inbox(settle_seconds=2.0), stop, Passing, claims, lambda: now)
    with capture_logs() as logs:
        watched.run()
    return watched, logs


def logged(logs: Sequence[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Account, reason, level of each entry of the inbox that was logged."""
    lines = [line for line in logs if line["event"] == "inbox_entry_ignored"]
    return sorted((line["account"], str(line["reason"]), line["log_level"]) for line in lines)


def test_what_is_left_is_named_after_a_minute_and_not_before(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/a.pdf.meta.json")
    put(folders, "north_clinic/4711/b.pdf.part")
    put(folders, "east_clinic/c.pdf")
    put(folders, "d.pdf")
    watched, logs = watch_for(58, folders, ledger)
    assert logged(logs) == []
    assert watched.report.counts == {}
    watched, logs = watch_for(62, folders, ledger)
    assert logged(logs) == [
        ("", "no_account", "warning"),
        ("", "unknown_account", "warning"),
        (NORTH, "sidecar_alone", "warning"),
        (NORTH, "unfinished", "info"),
    ]
    assert watched.report.counts == {
        ("", "no_account"): 1,
        ("", "unknown_account"): 1,
        (NORTH, "sidecar_alone"): 1,
        (NORTH, "unfinished"): 1,
    }


def test_it_is_logged_once_as_long_as_it_stays(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "d.pdf")
    _, logs = watch_for(400, folders, ledger)
    assert len(logged(logs)) == 1


def test_a_minute_is_a_minute_however_seldom_the_inbox_is_read(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "d.pdf")
    _, logs = watch_for(70, folders, ledger, inbox(settle_seconds=2.0, rescan_seconds=3600.0))
    assert len(logged(logs)) == 1


def test_a_file_that_is_written_without_end_is_named(folders: Folders, ledger: RecordingLedger) -> None:
    path = put(folders, "north_clinic/4711/endless.pdf")

    def grow(_: float) -> None:
        with path.open("ab") as file:
            file.write(b"more")

    watched, logs = watch_for(75, folders, ledger, each_second=grow)
    assert logged(logs) == [(NORTH, "still_changing", "warning")]
    assert watched.report.counts == {(NORTH, "still_changing"): 1}
    assert ledger.opened == {}


def test_a_document_on_its_ordinary_way_is_never_named(folders: Folders, ledger: RecordingLedger) -> None:
    def come(now: float) -> None:
        put(folders, f"north_clinic/4711/{now:.2f}.pdf.meta.json", b"{}")
        put(folders, f"north_clinic/4711/{now:.2f}.pdf")

    watched, logs = watch_for(90, folders, ledger, each_second=come)
    assert {line["event"] for line in logs} == {"document_claimed"}
    assert watched.report.counts == {}
    assert len(ledger.opened) > 60


class Refusing(Claims):
    """No document can be claimed."""

    def __init__(self, folders: Folders, error: Exception) -> None:
        super().__init__(folders)
        self._error = error

    def claim(self, path: Path, job_id: str, job_file: JobFile, **more: Any) -> Path:
        raise self._error


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.EACCES, "x"), "not_claimed"),
        (OSError(errno.ENAMETOOLONG, "x"), "name_too_long"),
        (AlreadyInCare(), "earlier_try"),
        (RuntimeError("x"), "not_claimed"),
    ],
)
def test_what_cannot_be_claimed_is_counted_by_its_reason_and_logged_once(
    folders: Folders, ledger: RecordingLedger, error: Exception, reason: str
) -> None:
    put(folders, "north_clinic/4711/a.pdf")
    watched, logs = watch_for(100, folders, ledger, claims=Refusing(folders, error))
    assert watched.report.counts == {(NORTH, reason): 1}
    assert [line["event"] for line in logs] == ["document_held_back"]


def test_documents_that_wait_during_an_outage_are_counted_and_not_logged_each(
    folders: Folders, ledger: RecordingLedger
) -> None:
    for number in range(20):
        put(folders, f"north_clinic/4711/{number}.pdf")
    found = scan(folders.inbox, [NORTH]).candidates
    now = 0.0
    watched = watcher(folders, ledger, inbox(settle_seconds=2.0), clock=lambda: now)
    with capture_logs() as logs:
        for now in (0.0, 5.0, 64.0, 70.0):  # noqa: B007, the watcher's clock
            watched._scan()  # each claim is put off, as by a full disk
    assert watched.report.counts == {(NORTH, "waiting"): len(found)}
    assert logs == []


# --- rights --------------------------------------------------------------------------------------------------------


def status(*, mode: int, owner: int) -> os.stat_result:
    return os.stat_result((mode, 1, 1, 1, owner, owner, 1, 0, 0, 0))


def test_the_sticky_bit_holds_what_others_own(tmp_path: Path) -> None:
    (tmp_path / "a.pdf").write_bytes(b"x")
    sticky, plain = status(mode=0o41777, owner=1), status(mode=0o40777, owner=1)
    ours, theirs = status(mode=0o100644, owner=7), status(mode=0o100644, owner=8)
    with OpenFolder.of(tmp_path) as opened:
        folder = opened.descriptor
        assert FolderRights(folder, sticky, 7).why_held("a.pdf", theirs) is Reason.FOLDER_STICKY
        assert FolderRights(folder, sticky, 7).why_held("a.pdf", ours) is None
        assert FolderRights(folder, plain, 7).why_held("a.pdf", theirs) is None
        assert FolderRights(folder, status(mode=0o41777, owner=7), 7).why_held("a.pdf", theirs) is None, "our folder"
        assert FolderRights(folder, sticky, 0).why_held("a.pdf", theirs) is None, "root may"


@pytest.fixture
def shared() -> Iterator[Folders]:
    """A data folder that another user may enter."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        made = Folders(Path(folder) / "data", SEAL)
        made.create()
        for path in (Path(folder) / "data", made.inbox, made.processing, made.delivered, made.failed):
            os.chown(path, OTHER_USER, OTHER_USER)
        yield made


def as_other_user(act: Callable[[], object]) -> None:
    """Run `act` in a child process without root's rights."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgroups([])
            os.setgid(OTHER_USER)
            os.setuid(OTHER_USER)
            act()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0, "see what the child printed"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make another user's files; the rules are tested above too")
def test_what_the_rights_of_a_folder_or_a_file_hold_back_is_found_without_trying(shared: Folders) -> None:
    theirs, sticky, dark = (shared.inbox / NORTH / name for name in ("theirs", "sticky", "dark"))
    for folder in (theirs, sticky, dark):
        put(shared, f"{folder.relative_to(shared.inbox)}/a.pdf")
    put(shared, f"{NORTH}/free/a.pdf")
    put(shared, f"{NORTH}/free/secret.pdf").chmod(0o600)
    for folder, mode in ((theirs, 0o755), (sticky, 0o1777), (dark, 0o700), (shared.inbox / NORTH / "free", 0o777)):
        folder.chmod(mode)

    def look() -> None:
        expected = {
            "theirs/a.pdf": "folder_not_writable",
            "sticky/a.pdf": "folder_sticky",
            "dark": "unreadable",
            "free/secret.pdf": "unreadable",
        }
        left = {
            str(e.path.relative_to(shared.inbox / NORTH)): str(e.reason) for e in scan(shared.inbox, [NORTH]).ignored
        }
        assert left == expected
        ledger = RecordingLedger(shared)
        watched, logs = watch_for(65, shared, ledger)
        assert [job.document.patient_id for job in ledger.opened.values()] == ["free"]
        assert logged(logs) == sorted((NORTH, reason, "warning") for reason in expected.values())
        assert sum(watched.report.counts.values()) == len(expected)

    as_other_user(look)


# --- found by looking, without the watcher ---------------------------------------------------------------------------


def look(folders: Folders, **how: Any) -> dict[str, str]:
    left = look_into(folders.inbox, [NORTH], inbox(settle_seconds=2.0), Writers(folders.processing), **how)
    return {entry.path.name: str(entry.reason) for entry in left}


def test_another_process_finds_the_same_by_looking(folders: Folders) -> None:
    later = Path(put(folders, "north_clinic/4711/waits.pdf")).stat().st_ctime + 61
    put(folders, "north_clinic/4711/again.pdf")
    put(folders, "north_clinic/4711/lonely.pdf.meta.json")
    put(folders, "north_clinic/4711/b.pdf.part")
    again = look(folders, now=lambda: later + 60, is_tried_already=lambda each: each.path.name == "again.pdf")
    assert again == {
        "waits.pdf": "waiting",
        "again.pdf": "earlier_try",
        "lonely.pdf.meta.json": "sidecar_alone",
        "b.pdf.part": "unfinished",
    }


def test_what_came_a_moment_ago_is_not_named_unless_it_changes_before_our_eyes(folders: Folders) -> None:
    growing = put(folders, "north_clinic/4711/growing.pdf")
    put(folders, "north_clinic/4711/still.pdf")
    put(folders, "north_clinic/4711/coming.pdf.meta.json")
    waited = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        growing.write_bytes(b"longer than before")

    assert look(folders, wait=wait) == {"growing.pdf": "still_changing"}
    assert waited == [2.0]


def test_nobody_waits_for_an_inbox_in_which_nothing_is_new(folders: Folders) -> None:
    later = Path(put(folders, "north_clinic/4711/waits.pdf")).stat().st_ctime + 61
    assert look(folders, now=lambda: later, wait=lambda _: pytest.fail("it waited")) == {"waits.pdf": "waiting"}
