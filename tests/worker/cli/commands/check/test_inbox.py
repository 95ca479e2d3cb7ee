"""Files in the inbox that are not accepted are listed with the reason."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from config.settings import Inbox
from tasks.runtime import Runtime
from tests.harness import formats
from tests.worker.cli.commands.check.lines import lines_of
from tests.worker.cli.conftest import CommandLine
from worker.cli.commands.check.inbox import REASONS, check_inbox
from worker.inbox.filter import Reason


def test_files_that_are_not_accepted_are_listed_by_path_and_pseudonym(chartpost: CommandLine, runtime: Runtime) -> None:
    inbox = runtime.folders.inbox
    (inbox / "east_clinic").mkdir(parents=True)
    (inbox / "east_clinic" / "scan.pdf").write_text("")
    (inbox / "north_clinic" / "4711").mkdir(parents=True)
    (inbox / "north_clinic" / "4711" / "scan.pdf").write_text("")
    (inbox / "north_clinic" / "4711" / "scan.pdf.part").write_text("")
    rows = lines_of(chartpost, "inbox")
    by_path = {Path(row["message"].partition(" is left alone")[0]).relative_to(inbox).as_posix(): row for row in rows}
    assert {path: row["ok"] for path, row in by_path.items()} == {
        "east_clinic": False,
        "north_clinic/4711/scan.pdf.part": True,
    }
    mark = runtime.seal.lookup("inbox", "north_clinic", "4711", "scan.pdf.part")  # what the watcher logs
    assert mark in by_path["north_clinic/4711/scan.pdf.part"]["message"]


def test_an_error_file_that_came_back_with_its_document_is_listed_and_is_not_a_fault(
    chartpost: CommandLine, runtime: Runtime
) -> None:
    folder = runtime.folders.inbox / "north_clinic" / "4711"
    folder.mkdir(parents=True)
    (folder / "scan.pdf.error.json").write_text("{}")
    (row,) = lines_of(chartpost, "inbox")
    assert row["ok"] is True
    assert "a receipt, an error file or a note" in row["message"]


def test_every_reason_has_a_sentence() -> None:
    assert set(REASONS) == set(Reason)


def put(runtime: Runtime, *places: str) -> None:
    for place in places:
        path = runtime.folders.inbox / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")


def test_a_sidecar_under_a_wrong_name_is_told_its_right_one(chartpost: CommandLine, runtime: Runtime) -> None:
    put(runtime, "north_clinic/4711/scan.pdf", "north_clinic/4711/scan.meta.json")
    sidecar, document = sorted(lines_of(chartpost, "inbox"), key=lambda row: str(row["message"]))
    assert not sidecar["ok"]
    assert not document["ok"]
    assert "rename it to scan.pdf.meta.json, else give it another name" in sidecar["message"]
    assert (
        "beside it lies scan.meta.json; if that is its sidecar, rename it to scan.pdf.meta.json" in document["message"]
    )


def test_many_expected_files_are_counted_instead_of_listed(chartpost: CommandLine, runtime: Runtime) -> None:
    put(runtime, *(f"north_clinic/{number}/Thumbs.db" for number in range(30)))
    put(runtime, *(f"north_clinic/1/{number} (conflicted copy 2026-01-31).pdf" for number in range(15)))
    rows = lines_of(chartpost, "inbox")
    conflicts = [row for row in rows if "synchronising" in row["message"]]
    expected = [row for row in rows if row not in conflicts]
    assert (len(conflicts), len(expected)) == (15, 11)
    assert "20 more are left alone for the same reason" in expected[-1]["message"]
    assert {row["ok"] for row in conflicts} == {False}
    assert {row["ok"] for row in expected} == {True}


def test_a_document_that_nobody_takes_is_a_fault(chartpost: CommandLine, runtime: Runtime) -> None:
    put(runtime, "north_clinic/4711/waits.pdf")
    chartpost.config.write_text(chartpost.config.read_text() + "[inbox]\nsettle_seconds = 0.01\n")
    assert lines_of(chartpost, "inbox") == [], "it came a moment ago"
    later = time.time() + 120
    waiting = check_inbox(runtime.folders.inbox, ["north_clinic"], Inbox(), runtime.writers, now=lambda: later)
    assert [(row.ok, "see that the watcher runs" in row.message) for row in waiting] == [(False, True)]


def test_a_file_that_changes_is_a_fault_once_the_watcher_has_seen_it_do_so_for_a_minute(runtime: Runtime) -> None:
    put(runtime, "north_clinic/4711/endless.pdf")
    path = runtime.folders.inbox / "north_clinic" / "4711" / "endless.pdf"
    stop = threading.Event()

    def write() -> None:
        while not stop.wait(0.01):
            with path.open("ab") as file:
                file.write(b"more")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        settings = Inbox(settle_seconds=0.3)
        verdicts = []
        for lasting in ([], [("north_clinic", "still_changing")]):
            rows = check_inbox(runtime.folders.inbox, ["north_clinic"], settings, runtime.writers, lasting=lasting)
            verdicts.append([(row.ok, "still changing" in row.message) for row in rows])
    finally:
        stop.set()
        thread.join()
    assert verdicts == [[(True, True)], [(False, True)]]


def test_what_is_not_whole_is_listed_with_its_reason_and_is_not_a_fault(
    chartpost: CommandLine, runtime: Runtime
) -> None:
    folder = runtime.folders.inbox / "north_clinic" / "4711"
    folder.mkdir(parents=True)
    (folder / "whole.pdf").write_bytes(formats.pdf())
    (folder / "cut.pdf").write_bytes(formats.pdf()[:-50])
    with (folder / "scan.pdf").open("wb"):
        rows = {Path(row["message"].partition(" is left alone")[0]).name: row for row in lines_of(chartpost, "inbox")}
    assert {name: row["ok"] for name, row in rows.items()} == {"cut.pdf": True, "scan.pdf": True}
    assert "its end is missing" in rows["cut.pdf"]["message"]
    assert "still has it open for writing" in rows["scan.pdf"]["message"]


def test_it_says_how_writers_are_recognised(chartpost: CommandLine, runtime: Runtime) -> None:
    runtime.folders.create()
    messages = [row["message"] for row in lines_of(chartpost, "folders")]
    assert any("open for writing are recognised" in message for message in messages)
    assert any("Writers on other machines" in message for message in messages)
