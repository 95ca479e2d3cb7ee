"""What a patient's id asks of the chart and its list: many earlier records, or a list that does not behave."""

import random
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

Row = TypeVar("Row")

# How many records are there before anything is sent, where the id does not say.
USUALLY = {"many": 1600, "moving": 250, "overlapping": 250, "announces-one-more": 3, "hiding": 0}
# At most five digits, and a hyphen after them: what follows may be any text that tells patients apart.
ASKS = re.compile(rf"({'|'.join(USUALLY)})(?:-(\d{{1,5}})(?=-|$))?")


@dataclass(frozen=True)
class Habit:
    """Of one patient's chart. `kind` is empty for a usual one."""

    kind: str = ""
    earlier: int = 0

    @classmethod
    def of(cls, patient_id: str) -> "Habit":
        asked = ASKS.match(patient_id)
        if asked is None:
            return cls()
        return cls(asked[1], USUALLY[asked[1]] if asked[2] is None else int(asked[2]))

    def earlier_records(self) -> list[tuple[str, int]]:
        """Names and sizes in bytes, oldest first."""
        return [(f"earlier-{number}.pdf", 1000 + number) for number in range(1, self.earlier + 1)]

    def listed(self, rows: Sequence[Row], rng: random.Random, hiding_seconds: float) -> Sequence[Row]:
        """The rows, oldest first, as this list has them just now."""
        if self.kind == "moving":  # another order on each page
            return rng.sample(rows, len(rows))
        if self.kind == "hiding" and int(time.monotonic() / hiding_seconds) % 2:
            return rows[: self.earlier]
        return rows

    def announced(self, rows: int) -> int:
        """How many records a list of so many rows says that it has."""
        return rows + 1 if self.kind == "announces-one-more" else rows

    def rows_of(self, page: int, size: int) -> slice:
        """Which rows are on a page, whose number is from 1."""
        if self.kind == "overlapping":  # each page begins with the last row of the one before
            return slice((page - 1) * (size - 1), (page - 1) * (size - 1) + size)
        return slice((page - 1) * size, page * size)


def renamed(file_name: str) -> str:
    """The name with a suffix, as providers give one to a name that they have already."""
    stem, dot, ending = file_name.rpartition(".")
    return f"{stem}-1{dot}{ending}" if stem else f"{file_name}-1"
