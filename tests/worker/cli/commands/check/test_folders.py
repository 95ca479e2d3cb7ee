"""Folders that cannot be used, or that others could replace, are reported."""

from __future__ import annotations

import pytest

from tasks.runtime import Runtime
from tests.harness.rights import modes_count
from tests.worker.cli.commands.check.lines import lines_of
from tests.worker.cli.conftest import CommandLine


def test_a_folder_that_is_a_file_is_found(chartpost: CommandLine, runtime: Runtime) -> None:
    runtime.settings.data_dir.mkdir(0o750)
    (runtime.settings.data_dir / "failed").write_text("")
    (row,) = lines_of(chartpost, "folders")
    assert not row["ok"]
    assert "failed: it is not a folder" in row["message"]


@pytest.mark.parametrize(
    ("mode", "ok", "words"),
    [
        (0o750, True, "can be written"),
        (0o700, True, "can be written"),
        (0o755, True, "may be entered by every user"),
        (0o770, False, "other users may write to it (mode 0770)"),
        (0o777, False, "other users may write to it (mode 0777)"),
    ],
)
def test_a_data_dir_that_is_too_wide_is_named(
    chartpost: CommandLine, runtime: Runtime, mode: int, *, ok: bool, words: str
) -> None:
    runtime.folders.create()
    runtime.settings.data_dir.chmod(mode)
    row = lines_of(chartpost, "folders")[0]
    assert row["ok"] is ok
    assert words in row["message"]


def test_a_processing_folder_that_others_may_enter_is_named(chartpost: CommandLine, runtime: Runtime) -> None:
    runtime.folders.create()
    runtime.folders.processing.chmod(0o750)
    assert "run chmod 700" in lines_of(chartpost, "folders")[0]["message"]


def test_an_accounts_folder_that_is_a_link_is_named(chartpost: CommandLine, runtime: Runtime) -> None:
    runtime.folders.create()
    (runtime.folders.delivered / "north_clinic").symlink_to(runtime.folders.inbox)
    row = lines_of(chartpost, "folders")[0]
    assert not row["ok"]
    assert "is a link, and nothing is filed by way of it" in row["message"]


def test_a_patients_folder_in_which_nothing_can_be_filed_is_named(chartpost: CommandLine, runtime: Runtime) -> None:
    runtime.folders.create()
    patient = runtime.folders.delivered / "north_clinic" / "4711"
    patient.mkdir(parents=True, mode=0o500)
    with modes_count():
        row = lines_of(chartpost, "folders")[0]
    assert not row["ok"]
    assert f"{patient}: this user cannot read or write it" in row["message"]
