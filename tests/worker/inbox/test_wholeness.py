"""What is not whole waits in the inbox: files that are open for writing, and files whose end is missing."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tasks.folders.claims import Claims
from tasks.folders.layout import Folders
from tests.harness import formats
from tests.worker.inbox.recording import RecordingLedger, inbox, wait_until, watcher, watching
from tests.worker.inbox.test_watcher import Passing, append, failed, names, put
from worker.inbox.watcher import Watcher

WHOLE = formats.pdf()
CUT = WHOLE[:-100]


def watcher_by(
    folders: Folders, ledger: RecordingLedger, clock: Callable[[], float], *, claims: Claims | None = None
) -> Watcher:
    """A watcher whose files settle at once and wait for 300 seconds of this clock."""
    return watcher(folders, ledger, inbox(settle_seconds=0.01), Passing(), claims=claims, clock=clock)


def waits(watching: Watcher) -> list[tuple[str, str, str]]:
    """What the last scan reports: name, account and reason."""
    return sorted((entry.path.name, entry.account, str(entry.reason)) for entry in watching.left_in_the_inbox)


# --- open for writing --------------------------------------------------------------------------------------------


def test_a_scanner_that_adds_pages_to_an_open_file_is_waited_for(folders: Folders, ledger: RecordingLedger) -> None:
    path = put(folders, "north_clinic/4711/scan.bin", b"page 1,")
    now = 0.0
    looking = watcher_by(folders, ledger, lambda: now)
    with path.open("ab", buffering=0) as scanner:
        for page in range(2, 6):
            for _ in range(50):  # it holds still for far longer than the settle time
                now += 0.1
                looking.pass_once()
            assert ledger.opened == {}
            assert waits(looking) == [("scan.bin", "north_clinic", "open_for_writing")]
            scanner.write(b"page %d," % page)
    for _ in range(10):
        now += 0.1
        looking.pass_once()
    (job_file,) = ledger.opened.values()
    assert job_file.document.size_bytes == len(b"page 1,") * 5
    assert waits(looking) == []


def test_a_sidecar_that_is_open_for_writing_is_waited_for(folders: Folders, ledger: RecordingLedger) -> None:
    sidecar = put(folders, "north_clinic/4711/a.pdf.meta.json", b"{}")
    put(folders, "north_clinic/4711/a.pdf", WHOLE)
    with sidecar.open("ab"):
        watcher(folders, ledger, inbox()).once()
        assert ledger.opened == {}
    watcher(folders, ledger, inbox()).once()
    assert names(ledger.opened) == ["a.pdf"]


def test_a_program_that_opens_it_between_the_look_and_the_claim_gets_it_back(
    folders: Folders, ledger: RecordingLedger
) -> None:
    path = put(folders, "north_clinic/4711/scan.bin", b"page 1,")
    put(folders, "north_clinic/4711/scan.bin.meta.json", b'{"description": "pages"}')
    writers = []
    ledger.meanwhile = lambda: writers.append(path.open("ab", buffering=0))  # it writes nothing yet
    watcher(folders, ledger, inbox()).once()
    assert ledger.opened == {}
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["scan.bin", "scan.bin.meta.json"]
    assert list(folders.processing.iterdir()) == []
    writers[0].write(b"page 2,")  # into the same file, which is back under its name
    writers[0].close()
    ledger.meanwhile = lambda: None
    watcher(folders, ledger, inbox()).once()
    (job_file,) = ledger.opened.values()
    assert (job_file.document.size_bytes, job_file.document.description) == (len(b"page 1,page 2,"), "pages")


def test_after_a_kill_a_claimed_document_that_is_still_written_is_not_sent(
    folders: Folders, ledger: RecordingLedger
) -> None:
    """Killed between the claim's move and its second look: only processing/ has the document."""
    path = put(folders, "north_clinic/4711/scan.bin", b"page 1,")

    class Killed(BaseException):
        pass

    class KilledAfterTheMove(Claims):
        def claim(self, *arguments: object, **more: object) -> Path:
            def killed(_: Path) -> bool:
                raise Killed

            return super().claim(*arguments, **{**more, "has_writer": killed})  # type: ignore[arg-type]

    scanners = []
    ledger.meanwhile = lambda: scanners.append(path.open("ab", buffering=0))
    with suppress(Killed):
        watcher(folders, ledger, inbox(), claims=KilledAfterTheMove(folders)).once()
    (job_id,) = folders.job_ids()
    assert folders.document(job_id)
    for content in (b"page 2,", b"page 3,"):
        watcher(folders, ledger, inbox()).once()
        assert (ledger.orphans_opened, ledger.opened) == ({}, {})
        scanners[0].write(content)
    scanners[0].close()
    watcher(folders, ledger, inbox()).once()
    assert ledger.orphans_opened[job_id].document.size_bytes == len(b"page 1,page 2,page 3,")


def test_a_writer_that_never_ends_does_not_hold_up_the_others(folders: Folders, ledger: RecordingLedger) -> None:
    path = put(folders, "north_clinic/4711/open.bin")
    with path.open("ab"), watching(folders, ledger, inbox()):
        for number in range(5):
            put(folders, f"north_clinic/4711/{number}.pdf", WHOLE)
        wait_until(lambda: len(ledger.opened) == 5)
        assert path.exists()


# --- without its end ---------------------------------------------------------------------------------------------


def test_a_file_without_its_end_waits_and_then_fails_with_a_reason(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/scan.pdf", CUT)
    now = 0.0
    looking = watcher_by(folders, ledger, lambda: now)
    while now < 299:
        looking.pass_once()
        now += 7
    assert waits(looking) == [("scan.pdf", "north_clinic", "incomplete")]
    assert (ledger.opened, ledger.refused) == ({}, {})
    for _ in range(6):
        looking.pass_once()
        now += 2
    assert ledger.opened == {}
    error = failed(folders)["scan.pdf"]
    assert (error["code"], error["message"]) == ("file_incomplete", "The file is a PDF whose end is missing.")
    assert (folders.failed / "north_clinic" / "4711" / "scan.pdf").read_bytes() == CUT
    now += 10
    looking.pass_once()
    assert waits(looking) == []


def test_its_patience_begins_again_with_each_change(folders: Folders, ledger: RecordingLedger) -> None:
    path = put(folders, "north_clinic/4711/scan.pdf", WHOLE[:50])
    now = 0.0
    looking = watcher_by(folders, ledger, lambda: now)
    for number in range(20):
        looking.pass_once()
        now += 100
        looking.pass_once()
        append(path, WHOLE[50 + number : 51 + number])
    assert ledger.refused == {}
    append(path, WHOLE[70:])
    for _ in range(3):
        now += 1
        looking.pass_once()
    (job_file,) = ledger.opened.values()
    assert job_file.document.size_bytes == len(WHOLE)


def test_a_sidecar_may_say_that_it_is_right_as_it_is(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/scan.pdf.meta.json", b'{"as_it_is": true}')
    put(folders, "north_clinic/4711/scan.pdf", CUT)
    watcher(folders, ledger, inbox()).once()
    (job_file,) = ledger.opened.values()
    assert job_file.document.as_it_is


def test_once_leaves_it_until_it_is_old(folders: Folders, ledger: RecordingLedger) -> None:
    path = put(folders, "north_clinic/4711/scan.pdf", CUT)
    with capture_logs() as logs:
        watcher(folders, ledger, inbox()).once()
    assert path.exists()
    assert [(line["event"], line["reason"]) for line in logs] == [("inbox_entry_ignored", "incomplete")]
    watcher(folders, ledger, inbox(incomplete_seconds=0.01)).once()
    assert failed(folders)["scan.pdf"]["code"] == "file_incomplete"


@pytest.mark.parametrize("content", [formats.jpeg(), formats.png(), formats.tiff(2), formats.zip_file(), b"any text"])
def test_whole_files_go_at_once(folders: Folders, ledger: RecordingLedger, content: bytes) -> None:
    ledger.max_bytes = 1 << 20
    put(folders, "north_clinic/4711/scan", content)
    watcher(folders, ledger, inbox()).once()
    assert names(ledger.opened) == ["scan"]


def test_a_copy_that_is_written_slowly_is_sent_once_and_whole(folders: Folders, ledger: RecordingLedger) -> None:
    """By a program that opens and closes the file for each part, as some copy over SMB."""
    ledger.max_bytes = 1 << 20
    path = put(folders, "north_clinic/4711/scan.pdf", WHOLE[:20])
    done = threading.Event()

    def write() -> None:
        for at in range(20, len(WHOLE), 120):
            done.wait(0.15)  # longer than it must hold still
            append(path, WHOLE[at : at + 120])

    with watching(folders, ledger, inbox(settle_seconds=0.05)):
        writer = threading.Thread(target=write)
        writer.start()
        wait_until(lambda: ledger.opened)
        writer.join()
    (job_file,) = ledger.opened.values()
    assert job_file.document.size_bytes == len(WHOLE)
