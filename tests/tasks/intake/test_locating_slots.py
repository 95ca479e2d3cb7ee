"""Calls whose sources hang never hold a worker's last quarter of slots."""

from __future__ import annotations

from contextlib import ExitStack

import pytest

from tasks.intake.locating_slots import LocatingSlots
from tasks.model.errors import RetryLater


@pytest.mark.parametrize(("slots", "most"), [(1, 1), (2, 1), (4, 3), (8, 6), (16, 12)])
def test_the_last_quarter_stays_free(slots: int, most: int) -> None:
    locating = LocatingSlots(slots)
    with ExitStack() as hanging:
        for _ in range(most):
            hanging.enter_context(locating.slot())
        with pytest.raises(RetryLater), locating.slot():
            pass
    with locating.slot():
        pass
