"""What was asked of the sandbox: counts, the order of the last requests, and keys sent where they do not belong."""

import time
from collections import Counter, deque
from dataclasses import asdict, dataclass

REMEMBERED = 2000


@dataclass(frozen=True)
class Seen:
    """One request. `status` is a number, `reset` (we cut the connection) or `gone` (the client did)."""

    at: float
    method: str
    route: str
    path: str
    status: str


@dataclass(frozen=True)
class Leak:
    """A header that must never come this way; its value is not kept."""

    at: float
    path: str
    header: str


class Journal:
    """Kept in memory, without bodies."""

    def __init__(self) -> None:
        self.leaks: list[Leak] = []
        self._counts: Counter[str] = Counter()
        self._last: deque[Seen] = deque(maxlen=REMEMBERED)

    def note(self, method: str, route: str, path: str, status: str) -> None:
        self._counts[f"{method} {route} {status}"] += 1
        self._last.append(Seen(time.time(), method, route, path, status))

    def note_leak(self, path: str, header: str) -> None:
        self.leaks.append(Leak(time.time(), path, header))

    def forget_requests(self) -> None:
        self._counts.clear()
        self._last.clear()

    def requests_as_json(self) -> dict[str, object]:
        return {"counts": dict(self._counts), "last": [asdict(seen) for seen in self._last]}

    def leaks_as_json(self) -> dict[str, object]:
        return {"leaks": [asdict(leak) for leak in self.leaks]}
