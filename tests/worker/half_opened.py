"""A process that is killed while Redis has opened half of the jobs that it was told to open together."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from typing import Any

from tasks.ledger.ledger import Ledger


def die_half_way() -> None:
    """From now on, this process opens half of those jobs, and dies before it hears of it."""
    whole = Ledger.open_together

    def half(ledger: Ledger, openings: Iterable[Any]) -> None:
        openings = list(openings)
        whole(ledger, openings[: len(openings) // 2])
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(Ledger, "open_together", half)  # noqa: B010, mypy refuses the assignment
