"""Lines that say what is being measured, while it takes its time."""

from __future__ import annotations

import sys
import time

_began = time.monotonic()


def say(what: str) -> None:
    minutes, seconds = divmod(int(time.monotonic() - _began), 60)
    print(f"{minutes:3}:{seconds:02}  {what}", file=sys.stderr, flush=True)  # noqa: T201
