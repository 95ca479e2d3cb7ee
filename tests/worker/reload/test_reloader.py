"""A reload in a real process that does not end, and the requests that reach it through Redis."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from tests.harness.installation import Child
from tests.harness.waiting import wait_until
from worker.reload.requests import Answer, ReloadRequests


@pytest.fixture
def stubborn(config: Path, valkey: redis.Redis, tmp_path: Path) -> Iterator[Child]:
    config.write_text(config.read_text() + "[inbox]\nrescan_seconds = 5\n")
    child = Child(["tests.worker.reload.stubborn"], config, tmp_path / "log")
    wait_until(lambda: "started" in child.log, "it has started")
    yield child
    child.kill()


def change(config: Path, old: str, new: str) -> None:
    config.write_text(config.read_text().replace(f"rescan_seconds = {old}", f"rescan_seconds = {new}"))


def test_a_process_that_does_not_end_is_replaced_by_force_under_its_own_id(stubborn: Child, config: Path) -> None:
    change(config, "5", "6")
    stubborn.send(signal.SIGHUP)
    wait_until(lambda: f"started {stubborn.pid} 6.0" in stubborn.log, "it begins again with the new setting")
    assert "reload_forced" in stubborn.log
    change(config, "6", "7")
    stubborn.send(signal.SIGHUP)
    wait_until(lambda: f"started {stubborn.pid} 7.0" in stubborn.log, "and again")


def test_a_request_is_answered_once_the_new_process_stands_and_survives_a_wipe(
    stubborn: Child, config: Path, valkey: redis.Redis
) -> None:
    requests = ReloadRequests(valkey)
    (part,) = wait_until(requests.parts, "it says that it is there")
    assert part.startswith("stubborn ")
    change(config, "5", "6")
    number = requests.ask()
    answer = wait_until(lambda: requests.answers(number).get(part), "it answers")
    assert answer == Answer(True, "Reloaded: inbox.rescan_seconds.")
    assert f"started {stubborn.pid} 6.0" in stubborn.log

    requests.ask()
    valkey.flushall()
    wait_until(requests.parts, "it says again that it is there")
    again = requests.ask()
    answer = wait_until(lambda: requests.answers(again).get(part), "it hears the first request after the wipe")
    assert answer == Answer(True, "Nothing has changed.")


def test_one_that_is_gone_is_no_part_any_more(valkey: redis.Redis) -> None:
    requests = ReloadRequests(valkey)
    requests.poll("watch here:1")
    assert requests.parts() == ["watch here:1"]
    requests.leave("watch here:1")
    assert requests.parts() == []
    assert not valkey.scard("chartpost:parts")
