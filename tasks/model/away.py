"""Far sides that did not answer a moment ago: nobody else waits for them meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tasks.model.errors import RetryLater
from tasks.model.times import steady_seconds

_SLOW_SECONDS = 5.0


class Away:
    """Of one process. Whoever has hung once is asked by one at a time, until it answers in time.

    `pause_seconds` lie between two of these.
    """

    def __init__(self, pause_seconds: float, *, now: Callable[[], float] = steady_seconds) -> None:
        self._pause_seconds = pause_seconds
        self._now = now
        self._lock = threading.Lock()
        self._asked_at: dict[str, list[float]] = {}
        self._away_until: dict[str, float] = {}

    @contextmanager
    def asking(self, whom: str, what: str) -> Iterator[None]:
        """The block asks `whom`. Raises RetryLater at once where it would hang; `what` names it in the sentence.

        A RetryLater that the block raises after some seconds is taken as no answer.
        """
        began = self._now()
        with self._lock:
            asked_at = self._asked_at.setdefault(whom, [])
            away_until = self._away_until.get(whom)
            hangs = bool(asked_at) and began - min(asked_at) > _SLOW_SECONDS
            if hangs or (away_until is not None and (began < away_until or asked_at)):
                raise RetryLater(f"{what} did not answer a moment ago.")
            asked_at.append(began)
        answers = True
        try:
            yield
        except RetryLater:
            answers = self._now() - began <= _SLOW_SECONDS
            raise
        finally:
            with self._lock:
                asked_at.remove(began)
                if not asked_at:
                    self._asked_at.pop(whom, None)
                if answers:
                    self._away_until.pop(whom, None)
                else:
                    self._away_until[whom] = self._now() + self._pause_seconds
