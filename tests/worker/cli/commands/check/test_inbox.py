"""Files in the inbox that are not accepted are listed with the reason."""

from __future__ import annotations

from pathlib import Path

from tasks.runtime import Runtime
from tests.harness import formats
from tests.worker.cli.commands.check.lines import lines_of
from tests.worker.cli.conftest import CommandLine
from worker.cli.commands.check.inbox import REASONS
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
    assert "a receipt or an error file" in row["message"]


def test_every_reason_has_a_sentence() -> None:
    assert set(REASONS) == set(Reason)


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
