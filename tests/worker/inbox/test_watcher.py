"""The watcher over real folders: what it claims and when, which orphans it opens, and what it logs."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs
from watchfiles._rust_notify import RustNotify

from tasks.folders.claims import ClaimedDocument, Claims
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.model.document import Document, Door
from tests.worker.inbox.recording import MAX_BYTES, RecordingLedger, inbox, wait_until, watcher, watching
from worker.inbox.events import ChangeEvents
from worker.inbox.opening import LedgerAway
from worker.inbox.outage import OutagePause

JOB = "11111111-2222-4333-8444-555555555555"


def put(folders: Folders, place: str, content: bytes = b"x") -> Path:
    """Drop a file as a careful sender does: written elsewhere, moved in whole."""
    path = folders.inbox / place
    path.parent.mkdir(parents=True, exist_ok=True)
    hidden = path.with_name(".being-written")
    hidden.write_bytes(content)
    return hidden.rename(path)


def append(path: Path, content: bytes) -> None:
    with path.open("ab") as file:
        file.write(content)


class Passing(threading.Event):
    """Time, `now`, that passes only while it is waited for; `meanwhile` is done in each wait."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        super().__init__()
        self.now = 0.0
        self._meanwhile = meanwhile

    def wait(self, timeout: float | None = None) -> bool:
        self._meanwhile()
        self.now += timeout or 0.0
        return self.is_set()


def names(jobs: dict[str, Any]) -> list[str]:
    return sorted(job.disk_name for job in jobs.values())


def events(logs: Sequence[Mapping[str, Any]]) -> list[str]:
    return [line["event"] for line in logs]


def failed(folders: Folders) -> dict[str, dict[str, Any]]:
    """Error files: name of the document -> content."""
    errors = {}
    for path in folders.failed.rglob("*.error.json"):
        errors[path.name.removesuffix(".error.json")] = json.loads(path.read_bytes())
    return errors


# --- once --------------------------------------------------------------------------------------------------------


def test_once_takes_what_is_there_and_returns(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/a.pdf")
    put(folders, "south_clinic/b.pdf")
    watcher(folders, ledger, inbox()).once()
    assert names(ledger.opened) == ["a.pdf", "b.pdf"]
    (job_id, job_file), *_ = sorted(ledger.opened.items(), key=lambda item: item[1].disk_name)
    document = job_file.document
    assert (document.account, document.patient_id, document.size_bytes) == ("north_clinic", "4711", 1)
    assert folders.document(job_id) == folders.processing / job_id / "a.pdf"


def test_once_leaves_what_is_still_being_written(folders: Folders, ledger: RecordingLedger) -> None:
    path = put(folders, "north_clinic/4711/a.pdf")
    put(folders, "north_clinic/4711/whole.pdf")
    passing = Passing(lambda: append(path, b"more"))
    watcher(folders, ledger, inbox(settle_seconds=0.3), passing, clock=lambda: passing.now).once()
    assert names(ledger.opened) == ["whole.pdf"]
    assert path.exists()


def test_once_does_not_wait_for_an_empty_inbox(folders: Folders, ledger: RecordingLedger) -> None:
    passing = Passing()
    watcher(folders, ledger, inbox(settle_seconds=30.0), passing, clock=lambda: passing.now).once()
    assert passing.now == 0.0


def test_once_raises_when_the_ledger_is_away_and_loses_nothing(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/a.pdf")
    ledger.away_after = 1  # it answers whether the document continues another, and then not any more
    with pytest.raises(LedgerAway):
        watcher(folders, ledger, inbox()).once()
    assert ledger.opened == {}
    ledger.away_after = 1 << 60
    watcher(folders, ledger, inbox()).once()
    assert names(ledger.orphans_opened) == ["a.pdf"]
    assert len(list(folders.processing.iterdir())) == 1


# --- what a document is ------------------------------------------------------------------------------------------


def test_the_sidecar_says_what_is_sent(folders: Folders, ledger: RecordingLedger) -> None:
    fields = {"description": "a letter", "file_name": "letter.pdf", "options": {"a": 1}, "idempotency_key": "k"}
    put(folders, "north_clinic/4711/scan1.pdf.meta.json", json.dumps(fields).encode())
    put(folders, "north_clinic/4711/scan1.pdf")
    watcher(folders, ledger, inbox()).once()
    (job_file,) = ledger.opened.values()
    document = job_file.document
    assert (document.description, document.file_name, job_file.disk_name) == ("a letter", "letter.pdf", "scan1.pdf")
    assert (document.options, document.idempotency_key) == ({"a": 1}, "k")
    assert list((folders.inbox / "north_clinic" / "4711").iterdir()) == []


def test_a_name_that_is_not_text_comes_into_no_chart(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/M\udcfcller.pdf")
    watcher(folders, ledger, inbox()).once()
    assert ledger.opened == {}
    (error,) = failed(folders).values()
    assert error["code"] == "invalid_request"
    assert "UTF-8" in error["message"]
    assert [os.fsencode(path.name) for path in folders.failed.rglob("*.pdf")] == [b"M\xfcller.pdf"]


def test_a_document_is_opened_as_its_job_json_has_it(folders: Folders, ledger: RecordingLedger) -> None:
    """After a kill the watcher goes by that file, so both must ask for the same."""
    fields: dict[str, object] = {
        "description": "A letter: \u00e4 \U0001f4c4",
        "options": {"patient": {"name": "Erika", "birthDate": "1970-01-01"}, "numbers": [1, 2.5, None, True]},
        "idempotency_key": "k",
        "content_type": "application/pdf",
    }
    sidecars = {"a.pdf": fields, "b\udcff.pdf": {"file_name": "b.pdf"}}
    for name, sidecar in sidecars.items():
        put(folders, f"north_clinic/4711/{name}.meta.json", json.dumps(sidecar).encode())
        put(folders, f"north_clinic/4711/{name}")
    watcher(folders, ledger, inbox()).once()
    assert len(ledger.opened) == len(sidecars)
    for job_id, job_file in ledger.opened.items():
        assert folders.read_job_file(job_id) == job_file


def test_a_sidecar_can_give_the_name_of_a_file_whose_own_is_not_text(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/M\udcfcller.pdf.meta.json", '{"file_name": "Müller.pdf"}'.encode())
    put(folders, "north_clinic/4711/M\udcfcller.pdf")
    watcher(folders, ledger, inbox()).once()
    ((job_id, job_file),) = ledger.opened.items()
    assert (job_file.document.file_name, job_file.disk_name) == ("Müller.pdf", "M\udcfcller.pdf")
    document = folders.document(job_id)
    assert document
    assert os.fsencode(document.name) == b"M\xfcller.pdf"


@pytest.mark.parametrize(
    ("place", "content", "code"),
    [
        ("4711/a.pdf", b"", "file_empty"),
        ("4711/a.pdf", b"x" * (MAX_BYTES + 1), "file_too_large"),
        ("Erika Muster/a.pdf", b"x", "invalid_request"),
        ("Müller, Hans/a.pdf", b"x", "invalid_request"),
        ("\udcff/a.pdf", b"x", "invalid_request"),
        ("4711/back\\slash.pdf", b"x", "invalid_request"),
    ],
)
def test_what_cannot_be_sent_fails_beside_its_reason(
    folders: Folders, ledger: RecordingLedger, place: str, content: bytes, code: str
) -> None:
    put(folders, "north_clinic/" + place, content)
    watcher(folders, ledger, inbox()).once()
    assert (folders.failed / "north_clinic" / place).read_bytes() == content
    assert [error["code"] for error in failed(folders).values()] == [code]
    assert list(folders.processing.iterdir()) == []
    assert not (folders.inbox / "north_clinic" / place).exists()


@pytest.mark.parametrize("kind", ["half", "link"])
def test_a_document_with_a_faulty_sidecar_fails_and_is_not_sent_without_it(
    folders: Folders, ledger: RecordingLedger, kind: str
) -> None:
    sidecar = folders.inbox / "north_clinic" / "4711" / "a.pdf.meta.json"
    put(folders, "north_clinic/4711/a.pdf")
    if kind == "half":
        sidecar.write_bytes(b'{"description": "ha')
    else:
        sidecar.symlink_to("elsewhere")
    watcher(folders, ledger, inbox()).once()
    assert ledger.opened == {}
    assert failed(folders)["a.pdf"]["code"] == "invalid_request"
    assert "sidecar" in failed(folders)["a.pdf"]["message"]
    if kind == "half":
        beside = folders.failed / "north_clinic" / "4711" / "a.pdf.meta.json"
        assert beside.read_bytes() == b'{"description": "ha'


def refused_for_its_sidecar(folders: Folders, ledger: RecordingLedger) -> ClaimedDocument:
    """A document that failed for its sidecar and was brought back into our care."""
    put(folders, "north_clinic/4711/a.pdf.meta.json", b'{"description": "ha')
    put(folders, "north_clinic/4711/a.pdf")
    watcher(folders, ledger, inbox()).once()
    return Claims(folders).reopen_failed(next(iter(ledger.refused)), "north_clinic", "4711")


def test_a_reopened_document_is_not_sent_without_what_its_faulty_sidecar_asked_for(
    folders: Folders, ledger: RecordingLedger
) -> None:
    refused_for_its_sidecar(folders, ledger)
    watcher(folders, ledger, inbox()).once()
    assert ledger.orphans_opened == {}
    assert failed(folders)["a.pdf"]["code"] == "invalid_request"


def test_a_sidecar_that_was_corrected_meanwhile_is_read_again(folders: Folders, ledger: RecordingLedger) -> None:
    held = refused_for_its_sidecar(folders, ledger)
    assert held.sidecar
    held.sidecar.write_bytes(b'{"description": "half a letter", "file_name": "letter.pdf"}')
    watcher(folders, ledger, inbox()).once()
    job_file = ledger.orphans_opened[held.job_id]
    document = job_file.document
    assert (document.description, document.file_name, job_file.disk_name) == ("half a letter", "letter.pdf", "a.pdf")


def test_a_document_that_may_have_been_sent_is_searched_for_as_it_was_sent(
    folders: Folders, ledger: RecordingLedger
) -> None:
    held = refused_for_its_sidecar(folders, ledger)
    assert held.sidecar
    held.sidecar.write_bytes(b'{"file_name": "letter.pdf"}')
    folders.update_commit(held.job_id, stands=True)
    watcher(folders, ledger, inbox()).once()
    assert ledger.orphans_opened[held.job_id].document.file_name == "a.pdf"


def test_what_the_ledger_refuses_when_it_is_opened_fails_too(folders: Folders, ledger: RecordingLedger) -> None:
    ledger.conflicting_key = "k"
    put(folders, "north_clinic/4711/a.pdf.meta.json", b'{"idempotency_key": "k"}')
    put(folders, "north_clinic/4711/a.pdf")
    watcher(folders, ledger, inbox()).once()
    assert failed(folders)["a.pdf"]["code"] == "invalid_request"


def test_a_refusal_is_not_forgotten_when_the_ledger_goes_away(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/a.pdf", b"")
    ledger.away = True
    with pytest.raises(LedgerAway):
        watcher(folders, ledger, inbox()).once()
    ledger.away = False
    watcher(folders, ledger, inbox()).once()
    assert ledger.orphans_opened == {}
    assert failed(folders)["a.pdf"]["code"] == "file_empty"


def test_a_document_that_continues_an_earlier_job_gets_its_id(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/a.pdf")
    watcher(folders, ledger, inbox()).once()
    ((job_id, _),) = ledger.opened.items()
    folders.update_commit(job_id, stands=True, key="uploads/1")
    failed_at = Outcomes(folders).fail(job_id, "north_clinic", "4711", {"job_id": job_id, "file_name": "a.pdf"})
    ledger.opened.clear()
    ledger.failed_before["a.pdf"] = job_id
    failed_at.rename(folders.inbox / "north_clinic" / "4711" / "a.pdf")
    watcher(folders, ledger, inbox()).once()
    assert list(ledger.opened) == [job_id]
    assert (ledger.opened[job_id].committed, ledger.opened[job_id].commit.key) == (True, "uploads/1")


def test_a_document_whose_earlier_job_is_still_on_its_way_waits(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/a.pdf")
    watcher(folders, ledger, inbox()).once()
    ((job_id, _),) = ledger.opened.items()
    ledger.failed_before["a.pdf"] = job_id
    again = put(folders, "north_clinic/4711/a.pdf")
    with capture_logs() as logs:
        watcher(folders, ledger, inbox()).once()
    assert again.exists()
    assert [line["event"] for line in logs] == ["document_held_back"]


def test_a_file_replaced_while_it_is_checked_is_checked_again(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/a.pdf")
    ledger.meanwhile = lambda: put(folders, "north_clinic/4711/a.pdf", b"another document")
    watcher(folders, ledger, inbox()).once()
    assert ledger.opened == {}
    ledger.meanwhile = lambda: None
    watcher(folders, ledger, inbox()).once()
    assert [job_file.document.size_bytes for job_file in ledger.opened.values()] == [len(b"another document")]


def test_files_of_an_unknown_account_stay_where_they_are(folders: Folders, ledger: RecordingLedger) -> None:
    path = put(folders, "east_clinic/4711/a.pdf")
    watcher(folders, ledger, inbox()).once()
    assert path.exists()
    assert ledger.opened == {}


# --- going on ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("polling", [False, True])
def test_files_are_claimed_as_they_come(folders: Folders, ledger: RecordingLedger, polling: bool) -> None:
    put(folders, "north_clinic/4711/before.pdf")
    with watching(folders, ledger, inbox(polling=polling)):
        wait_until(lambda: names(ledger.opened) == ["before.pdf"])
        put(folders, "north_clinic/4711/after.pdf")
        wait_until(lambda: "after.pdf" in names(ledger.opened))
        put(folders, "south_clinic/a new patient/later.pdf")
        wait_until(lambda: names(ledger.refused) == ["later.pdf"])


def watch_while(folders: Folders, ledger: RecordingLedger, *changes: Callable[[], object]) -> None:
    """Watch until something is claimed, which must not be before the last of these changes.

    They come a tenth of a second after one another, of the four tenths for which a file has to hold still, by a clock
    that passes only while the watcher waits.
    """
    left, now, stop = list(changes), 0.0, threading.Event()

    class Changing(ChangeEvents):
        def wait(self, seconds: float) -> bool:
            nonlocal now
            if left:
                assert ledger.opened == {}
                left.pop(0)()
                now += 0.1
                return True
            now += max(0.01, seconds)
            if ledger.opened:
                stop.set()
            return False

    watcher(folders, ledger, inbox(settle_seconds=0.4), stop, Changing, clock=lambda: now).run()


def test_a_file_is_not_claimed_before_it_has_held_still(folders: Folders, ledger: RecordingLedger) -> None:
    path = put(folders, "north_clinic/4711/a.pdf")
    watch_while(folders, ledger, *[lambda: append(path, b"more")] * 6)
    (job_file,) = ledger.opened.values()
    assert job_file.document.size_bytes == 1 + 6 * 4


def test_a_sidecar_that_is_still_being_written_holds_its_document_back(
    folders: Folders, ledger: RecordingLedger
) -> None:
    sidecar = put(folders, "north_clinic/4711/a.pdf.meta.json", b'{"description": "')
    put(folders, "north_clinic/4711/a.pdf")
    watch_while(folders, ledger, *[lambda: append(sidecar, b"la")] * 6, lambda: append(sidecar, b'"}'))
    (job_file,) = ledger.opened.values()
    assert job_file.document.description == "la" * 6


def test_names_that_are_not_text_do_not_deafen_the_watcher(folders: Folders, ledger: RecordingLedger) -> None:
    with watching(folders, ledger, inbox()):
        put(folders, "north_clinic/4711/M\udcfcller.pdf")
        wait_until(lambda: len(ledger.refused) == 1)
        put(folders, "north_clinic/4711/plain.pdf")
        wait_until(lambda: len(ledger.opened) == 1)


class Deaf(ChangeEvents):
    """Hears of no change."""

    def wait(self, seconds: float) -> bool:
        self._stop.wait(seconds)
        return False


def test_a_file_whose_event_was_missed_is_found_by_the_rescan(folders: Folders, ledger: RecordingLedger) -> None:
    with watching(folders, ledger, inbox(rescan_seconds=0.3), Deaf):
        time.sleep(0.2)
        put(folders, "north_clinic/4711/a.pdf")
        wait_until(lambda: ledger.opened)


def test_the_watcher_waits_for_the_ledger_and_then_goes_on(folders: Folders, ledger: RecordingLedger) -> None:
    ledger.away = True
    path = put(folders, "north_clinic/4711/a.pdf")
    with capture_logs() as logs, watching(folders, ledger, inbox()):
        wait_until(lambda: "inbox_paused" in events(logs))
        assert path.exists()
        ledger.away = False
        wait_until(lambda: ledger.opened or ledger.orphans_opened)
    assert [line["event"] for line in logs if line["event"].startswith("inbox_")] == ["inbox_paused", "inbox_resumed"]


def test_what_was_claimed_when_the_ledger_went_away_is_opened_as_soon_as_it_is_back(
    folders: Folders, ledger: RecordingLedger
) -> None:
    put(folders, "north_clinic/4711/a.pdf")
    ledger.away_after = 1  # it answers whether the document continues another, and then not any more
    with watching(folders, ledger, inbox(rescan_seconds=60.0)):
        wait_until(lambda: ledger.away_after < 0)
        ledger.away_after = 1 << 60
        wait_until(lambda: names(ledger.orphans_opened) == ["a.pdf"])


def test_a_sidecar_that_a_killed_claim_took_away_is_back_before_its_document_is_claimed(
    folders: Folders, ledger: RecordingLedger
) -> None:
    path = put(folders, "north_clinic/4711/a.pdf")
    sidecar = put(folders, "north_clinic/4711/a.pdf.meta.json", b'{"description": "a letter"}')
    document = Document("north_clinic", "4711", "", "a.pdf", 1, door=Door.INBOX)
    job_file = JobFile(JOB, document, "a.pdf", received_at=datetime.now(UTC))
    Claims(folders).claim(path, JOB, job_file, sidecar=sidecar).rename(path)  # as if it had not come so far
    ledger.opened[JOB] = job_file
    with watching(folders, ledger, inbox()):
        wait_until(lambda: len(ledger.opened) == 2)
    del ledger.opened[JOB]
    assert [claimed.document.description for claimed in ledger.opened.values()] == ["a letter"]


def test_documents_that_the_ledger_has_forgotten_are_opened_again(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/4711/a.pdf")
    with watching(folders, ledger, inbox(rescan_seconds=0.3)):
        wait_until(lambda: ledger.opened)
        job_id = next(iter(ledger.opened))
        folders.update_commit(job_id, stands=True, snapshot=("1",))
        ledger.opened.clear()  # as after a wipe
        wait_until(lambda: ledger.orphans_opened)
    assert ledger.orphans_opened[job_id].committed
    assert ledger.orphans_opened[job_id].commit.snapshot == ("1",)


class Refusing(Claims):
    """Claims that fail for files of some names."""

    def __init__(self, folders: Folders, refused: dict[str, int]) -> None:
        super().__init__(folders)
        self.refused = refused

    def claim(self, path: Path, job_id: str, job_file: JobFile, **more: Any) -> Path:
        number = self.refused.get(path.name)
        if number:
            raise OSError(number, os.strerror(number), str(path))
        return super().claim(path, job_id, job_file, **more)


def test_a_document_that_cannot_be_claimed_holds_up_no_other(folders: Folders, ledger: RecordingLedger) -> None:
    claims = Refusing(folders, {"locked.pdf": errno.EACCES})
    put(folders, "north_clinic/4711/locked.pdf")
    with capture_logs() as logs, watching(folders, ledger, inbox(), claims=claims):
        put(folders, "north_clinic/4711/a.pdf")
        wait_until(lambda: names(ledger.opened) == ["a.pdf"])
        put(folders, "north_clinic/4711/b.pdf")
        wait_until(lambda: names(ledger.opened) == ["a.pdf", "b.pdf"])
    held_back = [line for line in logs if line["event"] == "document_held_back"]
    assert [line["reason"] for line in held_back] == ["EACCES"]


def test_an_unexpected_error_in_one_document_holds_up_no_other_and_is_tried_again(
    folders: Folders, ledger: RecordingLedger
) -> None:
    ledger.poison = "a.pdf"
    put(folders, "north_clinic/4711/a.pdf")
    put(folders, "north_clinic/4711/b.pdf")
    with capture_logs() as logs, watching(folders, ledger, inbox(rescan_seconds=0.2)):
        wait_until(lambda: names(ledger.opened) == ["b.pdf"])
        wait_until(lambda: "document_not_recovered" in events(logs))
        time.sleep(0.5)
        ledger.poison = ""
        wait_until(lambda: names(ledger.orphans_opened) == ["a.pdf"])
    lines = [line for line in logs if line["event"] in ("document_held_back", "document_not_recovered")]
    assert [line["error"] for line in lines] == ["UnicodeError", "UnicodeError"]
    assert "Muster" not in repr(logs)


def test_a_full_disk_pauses_everything_and_is_logged_once(folders: Folders, ledger: RecordingLedger) -> None:
    claims = Refusing(folders, {"a.pdf": errno.ENOSPC})
    put(folders, "north_clinic/4711/a.pdf")
    with capture_logs() as logs, watching(folders, ledger, inbox(), claims=claims):
        wait_until(lambda: "inbox_paused" in events(logs))
        claims.refused.clear()
        wait_until(lambda: ledger.opened)
    paused = [line for line in logs if line["event"] == "inbox_paused"]
    assert [line["reason"] for line in paused] == ["ENOSPC"]


def test_pauses_grow_up_to_a_limit_and_end_with_the_outage() -> None:
    trouble: list[BaseException] = [OSError(errno.EIO, "x")]

    def act() -> None:
        if trouble:
            raise trouble[0]

    pause = OutagePause()
    assert [pause.after(act) for _ in range(7)] == [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    trouble.clear()
    assert pause.after(act) == 0.0
    trouble.append(LedgerAway())
    assert [pause.after(act) for _ in range(3)] == [1.0, 2.0, 2.0], "documents wait for no longer than that"


def test_without_events_the_inbox_is_polled_and_that_is_logged(tmp_path: Path) -> None:
    def unavailable(_: Path) -> RustNotify:
        raise OSError(errno.ENOSPC, "OS file watch limit reached", str(tmp_path))

    stop = threading.Event()
    with (
        capture_logs() as logs,
        ChangeEvents(tmp_path, stop, polling=False, poll_seconds=0.05, begin=unavailable) as changes,
    ):
        started = time.monotonic()
        assert changes.wait(60.0)
        assert time.monotonic() - started < 60.0
    assert [(line["event"], line["reason"]) for line in logs] == [
        ("inbox_events_unavailable", "the system's limit of watches")
    ]


def limited(limit: int, *command: str) -> bool:
    """Whether a command ends well where so many folders can be watched.

    It runs in a user namespace of its own, where the limit can be set without harm to others.
    """
    limiting = 'echo "$0" > /proc/sys/user/max_inotify_watches && exec "$@"'
    within = ["unshare", "-Ur", "sh", "-c", limiting, str(limit), *command]
    return subprocess.run(within, capture_output=True, check=False).returncode == 0


def begins_to_watch(folder: Path, limit: int) -> bool:
    """Whether all of a folder can be watched by a process that may watch so many."""
    begin = "import sys, pathlib, worker.inbox.events as events; events.watch_folder(pathlib.Path(sys.argv[1]))"
    return limited(limit, sys.executable, "-c", begin, str(folder))


@pytest.mark.skipif(shutil.which("unshare") is None, reason="the limit cannot be set for one process here")
def test_more_folders_than_the_system_watches_are_not_watched_in_part(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / str(number)).mkdir()
    if not limited(50, "true"):
        pytest.skip("there are no user namespaces here")
    assert begins_to_watch(tmp_path, 50)
    assert not begins_to_watch(tmp_path, 5)


def test_a_change_before_anybody_waits_is_not_missed(tmp_path: Path) -> None:
    watched, elsewhere = tmp_path / "watched", tmp_path / "elsewhere"
    watched.mkdir()
    elsewhere.write_bytes(b"x")
    with ChangeEvents(watched, threading.Event(), polling=False, poll_seconds=60.0) as changes:
        elsewhere.rename(watched / "early")  # a single event; of several, the last may be told of by itself
        assert changes.wait(60.0)
        assert not changes.wait(0.3)


def test_waiting_ends_when_told_to_stop(tmp_path: Path) -> None:
    stop = threading.Event()
    for polling in (False, True):
        stop.clear()
        with ChangeEvents(tmp_path, stop, polling=polling, poll_seconds=60.0) as changes:
            threading.Timer(0.1, stop.set).start()
            started = time.monotonic()
            assert not changes.wait(60.0)
            assert time.monotonic() - started < 60.0


# --- what is logged ----------------------------------------------------------------------------------------------


def test_an_ignored_entry_is_logged_once_as_long_as_it_stays(folders: Folders, ledger: RecordingLedger) -> None:
    part = put(folders, "north_clinic/4711/a.pdf.part")
    put(folders, "east_clinic/a.pdf")
    watched = watcher(folders, ledger, inbox(settle_seconds=0.001))
    with capture_logs() as logs:
        watched.once()
        watched.once()
    assert sorted(line["reason"] for line in logs) == ["unfinished", "unknown_account"]
    part.unlink()
    watched.once()
    put(folders, "north_clinic/4711/a.pdf.part")
    with capture_logs() as logs:
        watched.once()
    assert [line["reason"] for line in logs] == ["unfinished"]


def test_no_line_names_a_patient_a_file_or_a_path(folders: Folders, ledger: RecordingLedger) -> None:
    secret = "muster"
    put(folders, f"north_clinic/{secret}/{secret}.pdf")
    put(folders, f"north_clinic/{secret} {secret}/{secret}.pdf")
    put(folders, f"north_clinic/{secret}/{secret}.part")
    put(folders, f"north_clinic/{secret}/{secret}/{secret}.pdf")
    put(folders, f"{secret}/{secret}.pdf")
    put(folders, f"{secret}.pdf")
    put(folders, f"north_clinic/{secret}/odd.pdf.meta.json", f'{{"{secret}": "{secret}"}}'.encode())
    put(folders, f"north_clinic/{secret}/odd.pdf")
    damaged = folders.processing / JOB
    damaged.mkdir()
    (damaged / f"{secret}.pdf").write_bytes(b"x")
    with capture_logs() as logs:
        watcher(folders, ledger, inbox()).once()
    events = {line["event"] for line in logs}
    assert events == {"inbox_entry_ignored", "document_claimed", "job_folder_not_understood"}
    assert secret not in repr(logs).lower()
    assert str(folders.inbox) not in repr(logs)


def test_an_idle_watcher_logs_nothing(folders: Folders, ledger: RecordingLedger) -> None:
    with capture_logs() as logs, watching(folders, ledger, inbox(rescan_seconds=0.1)):
        time.sleep(0.5)
    assert logs == []


# --- killed ------------------------------------------------------------------------------------------------------


def test_a_watcher_that_is_killed_again_and_again_loses_and_doubles_nothing(
    folders: Folders, ledger: RecordingLedger
) -> None:
    for number in range(120):
        put(folders, f"north_clinic/{number % 7}/{number}.pdf", f"document {number}".encode())
    for _ in range(6):
        left = files_of(folders)
        child = os.fork()
        if child == 0:
            watcher(folders, RecordingLedger(folders), inbox(settle_seconds=0.001)).once()
            os._exit(0)
        wait_until(lambda: files_of(folders) < left)  # noqa: B023
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    watcher(folders, ledger, inbox(settle_seconds=0.001)).once()
    held = [path for path in folders.processing.rglob("*.pdf") if path.is_file()]
    assert sorted(path.read_bytes() for path in held) == sorted(f"document {n}".encode() for n in range(120))
    assert len(ledger.opened) + len(ledger.orphans_opened) == 120
    assert ledger.orphans_opened, "the children were killed too early"
    assert files_of(folders) == 0


def files_of(folders: Folders) -> int:
    """How many are left in the inbox."""
    return sum(len(files) for _, _, files in os.walk(folders.inbox))
