"""Changes of how the outside world behaves."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sandbox.faults.state import PLAIN, State
from tests.harness.sandbox import SandboxProcess

WRONG: dict[str, Any] = {
    "weather": "rain",
    "form_seconds": "soon",
    "down": {"cliniko": "a bit"},
    "throttle": {"cliniko": {"per_hour": 1}},
    "revoke": 7,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_name_or_value_that_is_wrong_changes_nothing(sandbox: SandboxProcess, name: str) -> None:
    before = sandbox.world()
    good = {"list_key": "x", "revoke": ["key"], "down": {"ovok": "503"}, "kill_tokens": ["ovok"]}
    answer = httpx.post(f"{sandbox.base}/_sandbox/world", json={**good, name: WRONG[name]})
    assert answer.status_code == 400
    assert sandbox.world() == before


def test_each_change_sets_the_value_of_its_name() -> None:
    state = State()
    assert PLAIN.keys() <= vars(state).keys()
    state.change({"list_key": "x", "revoke": ["key"], "down": {"ovok": "503"}})
    assert (state.list_key, state.revoked, state.down) == ("x", {"key"}, {"ovok": "503"})
