"""Sets aside keys of the wrong type that would stop everybody, and has the due entries made again.

A key that stops one account alone is left to a person (`tasks/ledger/key_types.py`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping

import redis
import structlog

from config.redaction import crash_site
from tasks.ledger.key_types import WrongKey, set_aside, wrong_lane_keys, wrong_shared_keys
from tasks.ledger.keys import PREFIX
from tasks.ledger.redis import REDIS_ERRORS, log_redis_error

log = structlog.get_logger()

_LOOK_SECONDS = 5.0
# The rate limit of a group, which a minute makes again.
_OF_GROUPS = tuple(f"{PREFIX}{family}:" for family in ("gate", "gate-reason", "calls-of"))


class KeyGuard:
    """`groups`: account -> limit group. `producers` are those of the settings.

    `make_due_again` gives each job with work left a due entry, if it has none.
    """

    def __init__(
        self,
        client: redis.Redis,
        groups: Callable[[], Mapping[str, str]],
        make_due_again: Callable[[], int],
        producers: Collection[str] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = client
        self._groups = groups
        self._make_due_again = make_due_again
        self._producers = producers
        self._clock = clock
        self._looked_at = float("-inf")
        self._thread: threading.Thread | None = None

    def look_now_and_then(self) -> None:
        if self._clock() - self._looked_at >= _LOOK_SECONDS:
            self.look()

    def look(self, *, of_groups: bool = False) -> bool:
        """Set aside what would stop everybody; with `of_groups` also the rate limits. True if there was something."""
        self._looked_at = self._clock()
        wrong: list[WrongKey] = wrong_shared_keys(self._redis, self._producers)
        if of_groups:
            found = wrong_lane_keys(self._redis, self._groups())
            wrong += {key.key: key for key in found if key.key.startswith(_OF_GROUPS)}.values()
        moved = set_aside(self._redis, wrong)
        if moved:
            self._start_making_due_again()
        return bool(moved)

    def _start_making_due_again(self) -> None:
        """In a thread: it reads every job, and documents must go on meanwhile."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="due-entries", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            log.warning("due_entries_made_again", count=self._make_due_again())
        except REDIS_ERRORS as error:
            log_redis_error(error)
        except Exception as error:  # noqa: BLE001, outermost of its thread
            log.error("due_entries_not_made", **crash_site(error))
