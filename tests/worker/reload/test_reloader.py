"""A reload in a real process that does not end, and the requests that reach it through Redis."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from config.load import load
from tests.harness.installation import Child
from tests.harness.waiting import PATIENCE_SECONDS, wait_until
from worker.reload.reloader import Reloader
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


def test_a_request_of_somebody_who_sees_the_part_is_new_to_it(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    add = valkey.sadd

    def seen_at_once(*entry: str) -> None:
        add(*entry)
        asked.append(ReloadRequests(valkey).ask())

    monkeypatch.setattr(valkey, "sadd", seen_at_once)
    part = ReloadRequests(valkey)
    assert part.poll("watch here:1") == 0
    assert [part.poll("watch here:1")] == asked


def test_a_part_whose_settings_are_older_than_a_request_takes_the_new_ones(
    valkey: redis.Redis, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings change, and somebody asks, after it has read them and before it is there to be asked."""
    monkeypatch.delenv("_CHARTPOST_RELOADED", raising=False)
    config.write_text(config.read_text() + "[inbox]\nrescan_seconds = 5\n")
    old = load(config, {})
    change(config, "5", "6")
    ReloadRequests(valkey).ask()
    ended: list[str] = []
    reloader = Reloader(old, "watch", ReloadRequests(valkey), lambda: ended.append("it"), load=lambda: load(config, {}))
    thread = threading.Thread(target=reloader._run, daemon=True)
    thread.start()
    wait_until(lambda: ended, "it begins to end, to be started with the new ones")
    reloader.end_for_good()
    thread.join(PATIENCE_SECONDS)


def test_one_that_is_gone_is_no_part_any_more(valkey: redis.Redis) -> None:
    requests = ReloadRequests(valkey)
    requests.poll("watch here:1")
    assert requests.parts() == ["watch here:1"]
    requests.leave("watch here:1")
    assert requests.parts() == []
    assert not valkey.scard("chartpost:parts")
