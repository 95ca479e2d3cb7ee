"""`python -m tests.benchmarks.polling`: what looking for records costs in calls, and how late it finds them.

Pure and seeded: it simulates stored documents whose validations take a random time. They are looked for as a new
account's (`confirm.first_seconds`, then doubling pauses), and as those of an account that learns. The documents of a
patient are looked for together.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median, quantiles

from tasks.model.polling import Looks, Validation

FIRST, CAP = 2.0, 60.0
PATIENTS = 400
DOCUMENTS = (1, 12)
KEPT = 20
WARMING_UP = 0.25  # the share of patients in which an account learns, and which is not counted
SEARCH_SECONDS = 0.1
SPREAD_SECONDS = 3.0  # over which the documents of a patient are stored
OTHER_CALLS = 2  # for the form, and for the name of the record that was found
LISTS_BEFORE = 1  # before the form; it serves all documents of a patient that are sent within five seconds

Took = Callable[[random.Random], float]
VALIDATIONS: dict[str, Took] = {
    "0.5 s": lambda chance: 0.5,
    "2–6 s": lambda chance: chance.uniform(2, 6),
    "30–90 s": lambda chance: chance.uniform(30, 90),
}


@dataclass(order=True)
class Waiting:
    """A document that was stored and has not been found yet."""

    due: float
    stored: float = field(compare=False)
    validated: float = field(compare=False)
    searches: int = field(compare=False, default=0)
    last_look: float = field(compare=False, default=0.0)  # its age then


@dataclass(frozen=True)
class Outcome:
    calls: float
    delays: list[float]

    @property
    def median_delay(self) -> float:
        return median(self.delays)

    @property
    def late_delay(self) -> float:
        """95 % of the records are found sooner."""
        return quantiles(self.delays, n=20)[-1]


def simulate(took: Took, documents: int, *, learns: bool, seed: int = 1) -> Outcome:
    """`documents` are those of one patient. Patients follow one another."""
    chance = random.Random(seed)
    learned: list[Validation] = []
    searches, delays = 0, []
    for patient in range(PATIENTS):
        found, calls = _patient(took, documents, learned, chance, learns=learns)
        if patient >= PATIENTS * WARMING_UP:
            delays += found
            searches += calls
    return Outcome(OTHER_CALLS + searches / len(delays), delays)


def _patient(
    took: Took, documents: int, learned: list[Validation], chance: random.Random, *, learns: bool
) -> tuple[list[float], int]:
    waiting: list[Waiting] = []
    for _ in range(documents):
        stored = chance.uniform(0, SPREAD_SECONDS) if documents > 1 else 0.0
        first = Looks(learned, FIRST, CAP).first()
        waiting.append(Waiting(stored + first, stored, stored + took(chance)))
    heapq.heapify(waiting)
    delays, searches = [], LISTS_BEFORE
    while waiting:
        now = waiting[0].due
        searches += 1
        looks = Looks(learned, FIRST, CAP)
        left = []
        for document in waiting:
            age = now - document.stored
            if document.stored > now:
                left.append(document)
            elif document.validated <= now:
                delays.append(now + SEARCH_SECONDS - document.validated)
                validation = Validation(document.last_look, age)
                if learns and looks.was_in_time(validation):
                    learned[:] = [*learned, validation][-KEPT:]
            else:
                document.due = now + SEARCH_SECONDS + looks.after(age, document.searches, chance.random)
                document.searches += 1
                document.last_look = age
                left.append(document)
        heapq.heapify(left)
        waiting = left
    return delays, searches


def table() -> list[str]:
    """The rows, as docs/architecture.md has them."""
    return [
        f"| {name} | {documents} | {_shown(took, documents, learns=False)} | {_shown(took, documents, learns=True)} |"
        for name, took in VALIDATIONS.items()
        for documents in DOCUMENTS
    ]


def _shown(took: Took, documents: int, *, learns: bool) -> str:
    outcome = simulate(took, documents, learns=learns)
    return f"{outcome.calls:.1f} | {outcome.median_delay:.1f} s, {outcome.late_delay:.1f} s"


HEAD = """\
| validation takes | documents of a patient | calls, doubling | delay, doubling | calls, learned | delay, learned |
|---|---|---|---|---|---|"""

if __name__ == "__main__":
    print("\n".join((HEAD, *table())))  # noqa: T201
