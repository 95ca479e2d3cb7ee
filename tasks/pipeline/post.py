"""TODO"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tasks.model.errors import OutcomeUnknown, RetryLater


@contextmanager
def _harmless_unless(creates: bool) -> Iterator[None]:
    """An upload that creates nothing may be repeated, whatever became of it: it only replaces itself."""
    try:
        yield
    except OutcomeUnknown as error:
        if creates:
            raise
        raise RetryLater(str(error), unreachable=error.unreachable) from error
