"""The fault words: the name of a file chooses what goes wrong with that document.

Words combine, and each has a count of its own: `BUSY-2 LOST` is busy twice, then stores the document and loses the
answer, then behaves. README.md has the meaning of each word.
"""

import re
from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

SECONDS = r"(\d+(?:\.\d+)?)"


@dataclass(frozen=True)
class Faults:
    """What a file name asks for."""

    invalid: bool = False
    slow_seconds: float | None = None
    busy_times: int = 0
    cut: bool = False
    filtered: bool = False
    lost: bool = False
    expired: bool = False
    lost_create: bool = False
    lost_commit: bool = False
    down_commit: bool = False
    bad_type: bool = False
    renamed: bool = False
    timeout_504: bool = False
    error_200: bool = False
    virus: bool = False
    storage_code: str | None = None
    stall_seconds: float = 0.0

    @classmethod
    def read(cls, file_name: str) -> "Faults":
        slow, stall = _match("SLOW-" + SECONDS, file_name), _match("STALL-" + SECONDS, file_name)
        return cls(
            invalid="INVALID" in file_name,
            slow_seconds=None if slow is None else float(slow),
            busy_times=int(_match(r"BUSY-(\d+)", file_name) or 0),
            cut="CUT" in file_name,
            filtered="FILTERED" in file_name,
            # LOSTCREATE and LOSTCOMMIT are words of their own.
            lost=re.search(r"LOST(?!CREATE|COMMIT)", file_name) is not None,
            lost_create="LOSTCREATE" in file_name,
            lost_commit="LOSTCOMMIT" in file_name,
            down_commit="DOWNCOMMIT" in file_name,
            bad_type="BADTYPE" in file_name,
            renamed="RENAMED" in file_name,
            timeout_504="TIMEOUT504" in file_name,
            error_200="ERR200" in file_name,
            virus="VIRUS" in file_name,
            expired="EXPIRED" in file_name,
            storage_code=_match(r"S3-([A-Za-z]+)", file_name),
            stall_seconds=float(stall or 0),
        )


class Turns:
    """Counts how often each fault has acted, so that it acts only the first few times."""

    def __init__(self) -> None:
        self._taken: Counter[Hashable] = Counter()

    def take(self, target: Hashable, word: str, times: int = 1) -> bool:
        """Whether `word` acts on `target` now. If it does, one of its `times` turns is used up."""
        if self._taken[target, word] >= times:
            return False
        self._taken[target, word] += 1
        return True


def _match(pattern: str, file_name: str) -> str | None:
    """What the pattern's first group matches."""
    found = re.search(pattern, file_name)
    return found and found[1]
