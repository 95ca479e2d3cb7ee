"""`make mutants`: apply each fault to a copy of the project, and fail unless a test goes red for every one.

python -m tests.mutants            all of them
python -m tests.mutants WORDS      those whose name holds these words
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.harness.sandbox import ROOT
from tests.mutants.table import MUTANTS, Mutant

_LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache", "data", "*.egg-info", "node_modules")
_NOTICED = "noticed"


def main() -> None:
    chosen = [mutant for mutant in MUTANTS if " ".join(sys.argv[1:]) in mutant.name]
    if not chosen:
        sys.exit("No fault's name holds these words; tests/mutants/table.py has the names.")
    began = time.monotonic()
    survived = []
    for number, mutant in enumerate(chosen, start=1):
        print(f"{_minutes(began)}  {number:2} of {len(chosen)}  {mutant.name} … ", end="", flush=True)  # noqa: T201
        outcome = outcome_of(mutant)
        survived += [] if outcome == _NOTICED else [mutant.name]
        print(outcome, flush=True)  # noqa: T201
    print(f"{_minutes(began)}  {len(chosen) - len(survived)} noticed, {len(survived)} not")  # noqa: T201
    for name in survived:
        print(f"    {name}")  # noqa: T201
    sys.exit(1 if survived else 0)


def outcome_of(mutant: Mutant) -> str:
    """Whether a test notices this fault in a copy of the project, else why not."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "project"
        shutil.copytree(ROOT, copy, ignore=_LEFT_OUT)
        path = copy / mutant.file
        source = path.read_text()
        if source.count(mutant.old) != 1:
            return "THE FAULT NO LONGER FITS THE CODE"
        path.write_text(source.replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *mutant.tests]
        run = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    return {0: "NO TEST NOTICED", 1: _NOTICED}.get(run.returncode, f"NO TEST RAN: {run.stdout[-300:]}")


def _minutes(began: float) -> str:
    return "{:3.0f}:{:02.0f}".format(*divmod(time.monotonic() - began, 60))


if __name__ == "__main__":
    main()
