"""The page that says how a provider is added, followed to the letter in a copy of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.harness.sandbox import ROOT

PAGE = ROOT / "docs" / "adding-a-provider.md"
_FENCE = re.compile(r"^```python title=(\S+)(?: (before|after)=(\"[^\n]*\"))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache", "data", "*.egg-info", "node_modules")


@dataclass(frozen=True)
class Step:
    """A new file, or lines that go before or after the first one that begins with `place`."""

    file: str
    text: str
    side: str = ""
    place: str = ""

    def apply(self, project: Path) -> None:
        path = project / self.file
        if not self.side:
            assert not path.exists(), f"{self.file} is there already"
            path.write_text(self.text)
            return
        lines = path.read_text().splitlines(keepends=True)
        found = [number for number, line in enumerate(lines) if line.startswith(self.place)]
        assert found, f"{self.file} has no line that begins with {self.place}"
        at = found[0] + (self.side == "after")
        gap = "\n\n" if self.text.startswith("class ") else ""
        path.write_text("".join([*lines[:at], self.text, gap, *lines[at:]]))


def steps() -> Iterator[Step]:
    for file, side, place, text in _FENCE.findall(PAGE.read_text()):
        yield Step(json.loads(file), text, side, json.loads(place) if place else "")


def test_a_provider_added_as_the_page_says_keeps_the_contract(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=_LEFT_OUT)
    for step in steps():
        step.apply(project)
    environ = {**os.environ, "PYTEST_ADDOPTS": "", "PYTEST_XDIST_WORKER": ""}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/tasks/providers/test_contract.py"]
    run = subprocess.run(
        [*command, "-k", "shelf or kind"], cwd=project, env=environ, capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stdout[-3000:]
    passed = re.search(r"(\d+) passed", run.stdout)
    assert passed is not None
    assert int(passed[1]) >= 20, run.stdout[-3000:]


def test_what_the_page_adds_is_as_tidy_as_the_rest(tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(ROOT, project, ignore=_LEFT_OUT)
    for step in steps():
        step.apply(project)
    ruff = Path(sys.executable).with_name("ruff")
    for command in (["check", "--no-cache"], ["format", "--no-cache", "--check"]):
        run = subprocess.run([ruff, *command, "."], cwd=project, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout[-3000:]
