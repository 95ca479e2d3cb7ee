"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

# Only for what hangs: a test waits for what happens, and neither passes nor fails by how fast the machine is.
PATIENCE_SECONDS = 120.0
LONG_PATIENCE_SECONDS = 300.0  # with a dozen kills one after the other


def wait_until(true: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> Any:
    """The first true value; fails with `what` when there is none."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if value := true():
            return value
        time.sleep(0.05)
    raise AssertionError(f"in vain: {what}")
