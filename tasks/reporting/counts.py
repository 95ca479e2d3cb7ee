"""How many documents ended and how, and how long they took: values that add up, and that name no patient."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple

from tasks.model.route import Stage
from tasks.reporting.ended_jobs import EndedJob

BOUNDS = (
    *(1, 1.5, 2, 3, 4, 5, 7, 10, 15, 20, 30, 45, 60, 90),
    *(120, 180, 240, 300, 450, 600, 900, 1200, 1800, 2700),
    *(3600, 5400, 7200, 10_800, 14_400, 21_600, 28_800, 43_200),
    *(86_400, 172_800, 345_600, 604_800),
)
"""Seconds: the upper bounds of a histogram's classes. Above the last is one more class.

Stored with each count, so that a later version may choose others.
"""
ABOVE = float("inf")


class Ending(NamedTuple):
    """How documents ended. `code` is empty if there is none."""

    account: str
    state: str
    code: str


class Counts:
    """The documents of a time, by how they ended. Filled by `add`, or from what Redis has kept of a day."""

    def __init__(self) -> None:
        self.documents = Counter[Ending]()
        self.provider_calls = Counter[Ending]()
        # Of documents whose jobs are still there: account -> seconds from received to delivered.
        self._seconds: dict[str, list[float]] = {}
        # Of the others: account -> upper bound of a class -> how many.
        self._classes: dict[str, Counter[float]] = {}

    def add(self, job: EndedJob) -> None:
        ending = Ending(job.account, job.state, job.code)
        self.documents[ending] += 1
        self.provider_calls[ending] += job.provider_calls
        if job.seconds is not None:
            self._seconds.setdefault(job.account, []).append(job.seconds)

    def update(self, other: Counts) -> None:
        """Add all that `other` has counted."""
        self.documents.update(other.documents)
        self.provider_calls.update(other.provider_calls)
        for account, seconds in other._seconds.items():
            self._seconds.setdefault(account, []).extend(seconds)
        for account, classes in other._classes.items():
            self._classes.setdefault(account, Counter()).update(classes)

    def of(self, accounts: Collection[str]) -> Counts:
        """Of these accounts alone."""
        part = Counts()
        part.documents = Counter({ending: n for ending, n in self.documents.items() if ending.account in accounts})
        part.provider_calls = Counter({e: n for e, n in self.provider_calls.items() if e.account in accounts})
        part._seconds = {name: list(values) for name, values in self._seconds.items() if name in accounts}
        part._classes = {name: Counter(values) for name, values in self._classes.items() if name in accounts}
        return part

    def with_code(self, code: str) -> Counts:
        """Those that ended with this code, "" for those without one: of these the times to delivery, too."""
        part = Counts()
        part.documents = Counter({ending: n for ending, n in self.documents.items() if ending.code == code})
        part.provider_calls = Counter({e: n for e, n in self.provider_calls.items() if e.code == code})
        if not code:
            part._seconds, part._classes = self._seconds, self._classes
        return part

    @property
    def accounts(self) -> set[str]:
        return {ending.account for ending in self.documents}

    @property
    def total(self) -> int:
        return self.documents.total()

    # --- how long they took --------------------------------------------------------------------------------------

    @property
    def approximate(self) -> bool:
        """True if quantiles rest on classes, at least in part: they may be off by as much as a class is wide."""
        return any(self._classes.values())

    def quantile(self, share: float) -> float | None:
        """The seconds within which this share of the documents was delivered; None if none was."""
        if not self.approximate:
            values = sorted(value for seconds in self._seconds.values() for value in seconds)
            return _of_sorted(values, share) if values else None
        return _of_classes(self.classes(), share)

    def classes(self) -> Counter[float]:
        """Upper bound of a class, in seconds, -> how many documents took longer than the bound before it."""
        counted = Counter[float]()
        for seconds in self._seconds.values():
            counted.update(map(_class_of, seconds))
        for classes in self._classes.values():
            counted.update(classes)
        return counted

    # --- as Redis keeps them -------------------------------------------------------------------------------------

    def fields(self) -> dict[str, int]:
        """The fields of a hash: `<account>:ended:<state>[:<code>]`, `<account>:calls:…`, `<account>:within:<bound>`."""
        found: dict[str, int] = {}
        for what, counted in (("ended", self.documents), ("calls", self.provider_calls)):
            for account, state, code in counted:
                name = ":".join(filter(None, (account, what, state, code)))
                found[name] = counted[Ending(account, state, code)]
        for account in {*self._seconds, *self._classes}:
            for bound, number in self.of([account]).classes().items():
                found[f"{account}:within:{bound:g}"] = number
        return found

    @classmethod
    def from_fields(cls, fields: Mapping[str, str]) -> Counts:
        """What `fields` gave. Fields that this version does not know are passed over."""
        counts = cls()
        for name, number in fields.items():
            match name.split(":"):
                case [account, "ended", state, *code]:
                    counts.documents[Ending(account, state, "".join(code))] = int(number)
                case [account, "calls", state, *code]:
                    counts.provider_calls[Ending(account, state, "".join(code))] = int(number)
                case [account, "within", bound]:
                    counts._classes.setdefault(account, Counter())[float(bound)] = int(number)
        return counts

    # --- groups --------------------------------------------------------------------------------------------------

    def number(self, state: Stage, code: str | None = None) -> int:
        return sum(n for e, n in self.documents.items() if e.state == state and code in (None, e.code))

    def failures(self) -> Iterator[tuple[Ending, int]]:
        """Those that failed, the most frequent first."""
        failed = Counter({ending: n for ending, n in self.documents.items() if ending.state == Stage.FAILED})
        yield from sorted(failed.items(), key=lambda each: (-each[1], each[0]))


def _class_of(seconds: float) -> float:
    place = bisect_left(BOUNDS, seconds)
    return float(BOUNDS[place]) if place < len(BOUNDS) else ABOVE


def _of_sorted(values: Sequence[float], share: float) -> float:
    """The value at this share, between neighbours in proportion."""
    place = share * (len(values) - 1)
    below = int(place)
    above = min(below + 1, len(values) - 1)
    return values[below] + (values[above] - values[below]) * (place - below)


def _of_classes(counted: Mapping[float, int], share: float) -> float | None:
    """As if the documents of a class were spread evenly over it."""
    wanted, seen = share * sum(counted.values()), 0
    for bound in sorted(counted):
        if counted[bound] and seen + counted[bound] >= wanted:
            below = max((float(b) for b in (0, *BOUNDS) if b < bound), default=0.0)
            return below if bound == ABOVE else below + (bound - below) * (wanted - seen) / counted[bound]
        seen += counted[bound]
    return None
