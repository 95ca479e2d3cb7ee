"""A real worker on a machine whose clock is wrong.

`python -m tests.harness.shifted_worker SECONDS`: `time.time` and `datetime.now` are that many seconds ahead of the true
time. Clocks that only measure how long something takes are not.
"""

from __future__ import annotations

import datetime
import sys
import time
from typing import Any

_real_time = time.time


def shift_clock(seconds: float) -> None:
    """Call before anything of the product is imported: it keeps what it imports by name."""

    real: Any = datetime.datetime

    class LikeDatetime(type):
        # What C code makes is of the real class.
        def __instancecheck__(cls, instance: object) -> bool:
            return isinstance(instance, real)

        def __subclasscheck__(cls, other: type) -> bool:
            return issubclass(other, real)

    class ShiftedDatetime(datetime.datetime, metaclass=LikeDatetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return real.fromtimestamp(_real_time() + seconds, tz)

    time.time = lambda: _real_time() + seconds
    datetime.datetime = ShiftedDatetime  # type: ignore[misc]


def main() -> None:
    shift_clock(float(sys.argv[1]))
    from worker.celery.worker_app import app

    app.worker_main(["worker", "--without-mingle", "--without-gossip"])


if __name__ == "__main__":
    main()
