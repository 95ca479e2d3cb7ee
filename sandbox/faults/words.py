"""The fault words: what goes wrong with a document is chosen by its file name, or by its patient's id.

Words combine, and each acts by its own count: `BUSY-2 LOST` is busy twice, then stores the document and loses the
answer, then behaves.
"""

import re
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

_SECONDS = r"(\d+(?:\.\d+)?)"


@dataclass(frozen=True)
class Faults:
    """What a file name asks for."""

    invalid: bool = False
    slow_seconds: float | None = None
    busy_times: int = 0
    cut: bool = False
    lost: bool = False
    expired: bool = False
    lost_create: bool = False
    lost_commit: bool = False
    down_commit: bool = False
    bad_type: bool = False
    timeout_504: bool = False
    error_200: bool = False
    virus: bool = False
    storage_code: str | None = None
    stall_seconds: float = 0.0

    @classmethod
    def read(cls, file_name: str) -> "Faults":
        slow, stall = _after("SLOW-" + _SECONDS, file_name), _after("STALL-" + _SECONDS, file_name)
        return cls(
            invalid="INVALID" in file_name,
            slow_seconds=None if slow is None else float(slow),
            busy_times=int(_after(r"BUSY-(\d+)", file_name) or 0),
            cut="CUT" in file_name,
            lost=_after(r"(LOST)(?!CREATE|COMMIT)", file_name) is not None,
            lost_create="LOSTCREATE" in file_name,
            lost_commit="LOSTCOMMIT" in file_name,
            down_commit="DOWNCOMMIT" in file_name,
            bad_type="BADTYPE" in file_name,
            timeout_504="TIMEOUT504" in file_name,
            error_200="ERR200" in file_name,
            virus="VIRUS" in file_name,
            expired="EXPIRED" in file_name,
            storage_code=_after(r"S3-([A-Za-z]+)", file_name),
            stall_seconds=float(stall or 0),
        )


class Turns:
    """Counts what has happened already, so that a fault acts the first few times only."""

    def __init__(self) -> None:
        self._taken: Counter[Hashable] = Counter()

    def take(self, whose: Hashable, word: str, times: int = 1) -> bool:
        """Whether `word` still acts on `whose`, of whom it takes one of `times` turns if it does."""
        if self._taken[whose, word] >= times:
            return False
        self._taken[whose, word] += 1
        return True


def _after(pattern: str, file_name: str) -> str | None:
    found = re.search(pattern, file_name)
    return found and found[1]
