"""When to look for the record of a stored document: pure functions of its age and the account's last validations."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

from tasks.model import backoff
from tasks.model.backoff import Chance

ENOUGH_VALIDATIONS = 5  # with fewer, an account counts as new

# tests/benchmarks/polling.py shows what these cost and gain. More looks, or shorter pauses: more calls and less delay.
_SHARES = (0.5, 0.7, 0.85, 0.97)
_SHORTEST_PAUSE = 0.5
_PAUSES_IN_A_SPREAD = 3

_ROUNDING = 1e-9
_ROUNDS = 3  # of the estimate: more would make it surer than a few documents can
_LATE, _LATE_SECONDS = 1.2, 1.0  # what a poll's jitter and a feeder add to a pause


@dataclass(frozen=True, slots=True)
class Validation:
    """How long the provider took for one document: it ended between two looks, in seconds since the upload."""

    # The last look that found no record; 0 without one.
    after: float
    # The look that found it.
    until: float


class Looks:
    """When an account's documents are looked for.

    The looks are at the ages by which 50, 70, 85 and 97 % of the last validations had ended. Then the pauses double
    again, from a third of the time between the first and the last of these looks, or `first` seconds if that is less. A
    new account is looked at after `first` seconds, and then with doubling pauses. `soonest`: no pause is shorter.
    """

    def __init__(self, validations: Sequence[Validation], first: float, cap: float, soonest: float = 0.0) -> None:
        self._first = first
        self._cap = cap
        self._soonest = max(min(_SHORTEST_PAUSE, first), soonest)
        self._ages = _looks(validations) if len(validations) >= ENOUGH_VALIDATIONS else []

    def first(self) -> float:
        """Seconds from the upload until the first look."""
        return min(self._cap, max(self._soonest, self._ages[0])) if self._ages else self._first

    def after(self, age: float, searches: int, chance: Chance) -> float:
        """Seconds until the next look at a document of this age, after so many that found nothing."""
        if not self._ages:
            return backoff.poll_delay(searches, self._first, self._cap, chance)
        # One search serves all documents of a patient, whichever is due. A look that would follow on it closely is left
        # out, or else each document would have its own.
        last = self._ages[-1]
        shortest = max(self._soonest, (last - self._ages[0]) / _PAUSES_IN_A_SPREAD)
        # Of few validations the longest is soon exceeded, mostly by little.
        later = max(min(self._first, shortest), abs(age - last))
        pause = next((look - age for look in self._ages if look - age >= shortest), later)
        return min(pause, self._doubled(age))

    def was_in_time(self, validation: Validation) -> bool:
        """False if the look that found the record came late, as after a throttling: it tells little of the provider."""
        pause = self._doubled(validation.after) if validation.after else max(self._first, self.first())
        return validation.until - validation.after <= pause * _LATE + _LATE_SECONDS

    def _doubled(self, age: float) -> float:
        """The pause at this age if pauses double from the first: as long as the age."""
        return min(self._cap, max(self._first, age))


def _looks(validations: Sequence[Validation]) -> list[float]:
    """The ages at which to look. Of looks that are close together, the last is enough."""
    *earlier, last = _ages(validations)
    looks = [last]
    for age in reversed(earlier):
        if looks[0] - age >= _SHORTEST_PAUSE:
            looks.insert(0, age)
    return looks


def _ages(validations: Sequence[Validation]) -> list[float]:
    """The ages by which the shares of the validations had ended.

    At which moment between two looks a validation has ended is not known. At first each moment is as likely. In each
    round those become likelier at which others may have ended too (B. W. Turnbull, "The empirical distribution function
    with arbitrarily grouped, censored and truncated data", 1976).
    """
    edges = sorted({edge for each in validations for edge in (each.after, each.until)})
    place = {edge: number for number, edge in enumerate(edges)}
    spans = [(place[each.after], place[each.until]) for each in validations]
    parts = [later - earlier for earlier, later in pairwise(edges)]
    for _ in range(_ROUNDS):
        ended = [0.0, *accumulate(parts)]
        changes = [0.0] * len(edges)
        for begin, end in spans:
            weight = 1 / ((ended[end] - ended[begin]) * len(spans))
            changes[begin] += weight
            changes[end] -= weight
        parts = [part * weight for part, weight in zip(parts, accumulate(changes), strict=False)]
    ended = [0.0, *accumulate(parts)]
    return [_age(edges, ended, share) for share in _SHARES]


def _age(edges: Sequence[float], ended: Sequence[float], share: float) -> float:
    place = min(bisect_left(ended, share - _ROUNDING), len(edges) - 1)
    before, after = ended[place - 1], ended[place]
    within = (share - before) / (after - before) if after > before else 1.0
    return edges[place - 1] + (edges[place] - edges[place - 1]) * min(1.0, within)
