"""The requests that came to the sandbox: counts, the last ones in order, and keys sent where they do not belong."""

import time
from collections import Counter, deque
from dataclasses import asdict, dataclass

KEPT_REQUESTS = 2000


@dataclass(frozen=True)
class LoggedRequest:
    """One request. `status` is a number, `reset` (the sandbox cut the connection) or `gone` (the client did)."""

    at: float
    method: str
    route: str
    path: str
    status: str


@dataclass(frozen=True)
class Leak:
    """A header that must never be sent to storage. Its value is not kept."""

    at: float
    path: str
    header: str


class RequestLog:
    """Kept in memory, without bodies."""

    def __init__(self) -> None:
        self.leaks: list[Leak] = []
        self._counts: Counter[str] = Counter()
        self._last: deque[LoggedRequest] = deque(maxlen=KEPT_REQUESTS)

    def add(self, method: str, route: str, path: str, status: str) -> None:
        self._counts[f"{method} {route} {status}"] += 1
        self._last.append(LoggedRequest(time.time(), method, route, path, status))

    def add_leak(self, path: str, header: str) -> None:
        self.leaks.append(Leak(time.time(), path, header))

    def forget_requests(self) -> None:
        self._counts.clear()
        self._last.clear()

    def requests_as_json(self) -> dict[str, object]:
        return {"counts": dict(self._counts), "last": [asdict(request) for request in self._last]}

    def leaks_as_json(self) -> dict[str, object]:
        return {"leaks": [asdict(leak) for leak in self.leaks]}
