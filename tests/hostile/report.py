"""A campaign's result as a table for people and as JSON for programs."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field


@dataclass
class Report:
    """`problems` and `notes` are sentences; without problems the campaign is passed."""

    seed: int
    messages: int = 0
    answers: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)  # of answers
    megabytes: dict[str, int] = field(default_factory=dict)  # the most, by process
    redis_megabytes: int = 0
    healthy: int = 0
    undisturbed_seconds: float = 0.0  # the longest of a few, before the storm
    disturbed_seconds: float = 0.0  # the longest, in the storm
    deaths: int = 0
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        return not self.problems

    def as_json(self) -> dict[str, object]:
        return {**asdict(self), "passed": self.passed}

    def as_text(self) -> str:
        rows: list[tuple[str, object]] = [
            ("messages to the queue and the stream", self.messages),
            ("answers of providers, storage, proxies and callback hosts", self.answers),
            *((f"  {kind}", count) for kind, count in self.kinds.most_common()),
            ("processes that died", self.deaths),
            *((f"{name}: most memory", f"{megabytes} MB") for name, megabytes in self.megabytes.items()),
            ("Redis: most memory", f"{self.redis_megabytes} MB"),
            ("documents of the healthy account", self.healthy),
            ("  the slowest before the storm", f"{self.undisturbed_seconds:.1f} s"),
            ("  the slowest in the storm", f"{self.disturbed_seconds:.1f} s"),
        ]
        lines = [f"| {what:60} | {value!s:>10} |" for what, value in rows]
        lines += ["", *(f"note: {note}" for note in self.notes), *(f"PROBLEM: {each}" for each in self.problems)]
        verdict = "passed" if self.passed else f"{len(self.problems)} problems"
        lines.append(
            f"seed {self.seed}: {self.messages} messages, {self.answers} answers, {self.seconds:.0f} s: {verdict}"
        )
        return "\n".join(lines)
