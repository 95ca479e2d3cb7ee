"""Keeps the last quarter of a worker's slots from calls whose source hangs: a storage, or a folder of a network."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tasks.model.errors import RetryLater

_PATIENCE_SECONDS = 0.3  # locating a source takes some hundredths


class LocatingSlots:
    """Of one process. `slots`: how many tasks it runs at once."""

    def __init__(self, slots: int) -> None:
        self._free = threading.BoundedSemaphore(max(1, slots - math.ceil(slots / 4)))

    @contextmanager
    def slot(self) -> Iterator[None]:
        """A source is located in the block. Raises RetryLater if others hold too many slots."""
        if not self._free.acquire(timeout=_PATIENCE_SECONDS):
            raise RetryLater("Calls that wait for their sources hold as many slots as they may.")
        try:
            yield
        finally:
            self._free.release()
