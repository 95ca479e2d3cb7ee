"""A clock that tests set: other processes see it, by libfaketime, while they run.

Only the clock that people set too (`CLOCK_REALTIME`) is another. The time since boot goes on as it is.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

_LIBRARY = "vendor/libfaketime/src/libfaketime.so.1"
HOUR = 3600
_NOTICED_SECONDS = 0.25  # an idle Valkey reads the clock ten times a second


class FakedClock:
    """`environ` is for the processes that are to see it. Where no clock can be faked it is empty."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / f"clock-{time.monotonic_ns()}"
        self.set(0)

    @property
    def environ(self) -> Mapping[str, str]:
        if not can_be_faked():
            return {}
        return {
            "LD_PRELOAD": str(_library()),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, ahead_seconds: float) -> None:
        """Set it so far ahead of the true clock."""
        draft = self._file.with_suffix(".draft")
        draft.write_text(f"{ahead_seconds:+.3f}\n")
        draft.rename(self._file)  # at once: nobody reads half of it
        time.sleep(_NOTICED_SECONDS)


def _library() -> Path:
    spec = find_spec("libfaketime")
    locations = spec.submodule_search_locations if spec else None
    return Path(next(iter(locations or [""]))) / _LIBRARY


def can_be_faked() -> bool:
    return sys.platform == "linux" and _library().exists()


needs_faked_clock = pytest.mark.skipif(
    not can_be_faked(), reason="libfaketime is here for Linux on x86-64 only, and no promise differs elsewhere"
)


@contextmanager
def seeing(clock: FakedClock) -> Iterator[None]:
    """Processes that start during the block see this clock."""
    before = dict(os.environ)
    os.environ.update(clock.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
