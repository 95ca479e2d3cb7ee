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

_LEFT_OUT = shutil.ignore_patterns(".venv", ".git", "__pycache__", ".*_cache", "data", "*.egg-info")


def main() -> None:
    chosen = [mutant for mutant in MUTANTS if " ".join(sys.argv[1:]) in mutant.name]
    if not chosen:
        sys.exit("No fault's name holds these words; tests/mutants/table.py has the names.")
    survived = []
    for number, mutant in enumerate(chosen, start=1):
        print(f"{number:2}/{len(chosen)} {mutant.name} … ", end="", flush=True)  # noqa: T201
        began = time.monotonic()
        verdict = try_out(mutant)
        survived += [] if verdict == "noticed" else [mutant.name]
        print(f"{verdict} ({time.monotonic() - began:.0f} s)")  # noqa: T201
    print(f"{len(chosen) - len(survived)} noticed, {len(survived)} not")  # noqa: T201
    sys.exit(1 if survived else 0)


def try_out(mutant: Mutant) -> str:
    """What became of a copy of the project with this fault in it: noticed, or why not."""
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
    return {0: "NO TEST NOTICED", 1: "noticed"}.get(run.returncode, f"NO TEST RAN: {run.stdout[-300:]}")


if __name__ == "__main__":
    main()
