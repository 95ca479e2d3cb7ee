"""`python -m tests.tasks.providers.table`: print the provider contract as the table of docs/providers.md."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import defaultdict

from tasks.providers.table import KINDS
from tests.harness.sandbox import ROOT

CONTRACT = ROOT / "tests" / "tasks" / "providers" / "test_contract.py"
_RESULT = re.compile(r"^(PASSED|FAILED|ERROR) .*::test_(\w+)\[(\w+)(?:-([^\]]*))?\]", re.MULTILINE)
_SIGNS = {"PASSED": "✓"}


def sentences() -> list[str]:
    """What the contract says, in its order: the names of its tests that are tried with every provider."""
    return [
        name.replace("_", " ")
        for name, arguments in re.findall(r"^def test_(\w+)\(([^)]*)\)", CONTRACT.read_text(), re.MULTILINE)
        if "at_work" in arguments
    ]


def main() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-rA", str(CONTRACT)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    verdicts: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for verdict, name, kind, more in _RESULT.findall(run.stdout):
        kind = kind if kind in KINDS else more.rpartition("-")[2]
        verdicts[name.replace("_", " "), kind].add(_SIGNS.get(verdict, "✘"))
    print(table(verdicts))  # noqa: T201
    sys.exit(run.returncode)


def table(verdicts: defaultdict[tuple[str, str], set[str]]) -> str:
    lines = [f"| | {' | '.join(KINDS)} |", "|---" * (len(KINDS) + 1) + "|"]
    for sentence in sentences():
        signs = (verdicts[sentence, kind] for kind in KINDS)
        cells = ("✘" if "✘" in seen else "✓" if seen else "–" for seen in signs)  # a skipped one is not told by name
        lines.append(f"| {sentence} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
