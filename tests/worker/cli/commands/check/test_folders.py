"""Folders that cannot be used are reported."""

from __future__ import annotations

from tasks.runtime import Runtime
from tests.worker.cli.commands.check.lines import lines_of
from tests.worker.cli.conftest import CommandLine


def test_a_folder_that_is_a_file_is_found(chartpost: CommandLine, runtime: Runtime) -> None:
    runtime.settings.data_dir.mkdir()
    (runtime.settings.data_dir / "failed").write_text("")
    (row,) = lines_of(chartpost, "folders")
    assert not row["ok"]
    assert "failed: it is not a folder" in row["message"]
