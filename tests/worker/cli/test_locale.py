"""A process whose locale is not one of UTF-8 would bring file names into charts as rubbish. It does not start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from config.errors import SettingsError
from config.load import check_file_system_encoding
from tests.harness.sandbox import ROOT
from tests.harness.waiting import PATIENCE_SECONDS

# Without the last two Python would take UTF-8 itself where the locale is missing, or none.
OTHER = {"LC_ALL": "en_US.ISO-8859-1", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def run(*command: str, folder: Path, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        env={**os.environ, **OTHER, "PYTHONPATH": str(ROOT), **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,  # a service that starts all the same would run for ever
        check=False,
    )


@pytest.mark.parametrize(
    "command",
    [
        *("run", "watch", "watch --once", "worker", "intake", "jobs", "check", "health"),
        *("send a.pdf --account a", "show 1", "retry --all"),
    ],
)
def test_no_command_starts_in_another_locale(tmp_path: Path, command: str) -> None:
    (tmp_path / "a.pdf").write_bytes(b"x")
    ended = run("worker", *command.split(), folder=tmp_path)
    assert ended.returncode == 2
    assert "LC_ALL=C.UTF-8" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["a.pdf"], "it has left nothing behind"


def test_a_worker_under_celerys_own_command_line_does_not_start_either(tmp_path: Path) -> None:
    ended = run("celery", "-A", "worker", "worker", folder=tmp_path)
    assert ended.returncode != 0
    assert "LC_ALL=C.UTF-8" in ended.stderr


def test_either_remedy_helps(tmp_path: Path) -> None:
    for remedy in ({"LC_ALL": "C.UTF-8"}, {"PYTHONUTF8": "1"}):
        ended = run("worker", "jobs", folder=tmp_path, **remedy)
        assert "LC_ALL" not in ended.stderr


def test_utf8_is_known_under_each_of_its_names() -> None:
    for name in ("utf-8", "UTF-8", "utf8", "utf_8"):
        check_file_system_encoding(name)
    for name in ("ascii", "iso8859-1", "cp1252"):
        with pytest.raises(SettingsError, match=name):
            check_file_system_encoding(name)
