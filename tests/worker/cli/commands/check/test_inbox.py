"""Files in the inbox that are not accepted are listed with the reason."""

from __future__ import annotations

from pathlib import Path

from tasks.runtime import Runtime
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
