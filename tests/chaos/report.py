"""A campaign's result as a table for people and as JSON for programs."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from tests.harness.installation import LEASE_SECONDS


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of fault. Seconds are the longest; `consuming` is until every worker took a message again."""

    fault: str
    times: int
    in_flight: int
    lost: int
    duplicated: int
    recovery_seconds: float | None
    consuming_seconds: float | None = None


@dataclass
class Report:
    """`problems` and `notes` are sentences; without problems the campaign is passed."""

    seed: int
    documents: int
    seconds: float
    rows: list[Row] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "passed": self.passed, "lease_seconds": LEASE_SECONDS}

    def as_text(self) -> str:
        lines = [_line(*_HEAD), _line(*("-" * min(width, 3) for width in _WIDTHS))]
        lines += [_line(*_cells(row)) for row in self.rows]
        lines += ["", *(f"note: {note}" for note in self.notes), *(f"PROBLEM: {each}" for each in self.problems)]
        injected = sum(row.times for row in self.rows)
        verdict = "passed" if self.passed else f"{len(self.problems)} problems"
        lines.append(
            f"seed {self.seed}: {self.documents} documents, {injected} faults, {self.seconds:.0f} s: {verdict}"
        )
        return "\n".join(lines)


_HEAD = ("fault", "times", "in flight", "lost", "twice", "flowing again", "all workers consuming")
_WIDTHS = (43, 5, 9, 4, 5, 18, 21)


def _line(*cells: str) -> str:
    padded = [
        cell.ljust(width) if at == 0 else cell.rjust(width)
        for at, (cell, width) in enumerate(zip(cells, _WIDTHS, strict=True))
    ]
    return "| " + " | ".join(padded) + " |"


def _cells(row: Row) -> tuple[str, ...]:
    counts = (str(row.times), str(row.in_flight), str(row.lost), str(row.duplicated))
    return (row.fault, *counts, _seconds(row.recovery_seconds), _seconds(row.consuming_seconds))


def _seconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds:.1f} s, {seconds / LEASE_SECONDS:.1f} leases"
