"""`check` finds what is set up wrongly before a document does; `health` answers containers."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis

from tasks.dispatch.workers import Workers
from tasks.runtime import Runtime
from tests.valkeys import running_valkey
from tests.worker.cli.conftest import CommandLine, lines
from tests.worlds import SandboxProcess
from worker.cli.commands.check.folders import _WORDS
from worker.cli.commands.check.redis import _default_user, of_redis
from worker.inbox.filter import Reason


def found(chartpost: CommandLine, check: str) -> list[dict[str, Any]]:
    """The lines of one check."""
    return [row for row in lines(chartpost("check", "--json")) if row["check"] == check]


def test_every_line_has_the_fields_of_the_contract(chartpost: CommandLine) -> None:
    rows = lines(chartpost("check", "--json"))
    assert all(list(row) == ["check", "account", "ok", "message"] for row in rows)
    assert {row["check"] for row in rows} >= {"settings", "folders", "redis", "persistence", "clock", "account"}


def test_a_provider_that_does_not_answer_is_found(chartpost: CommandLine) -> None:
    rows = found(chartpost, "account")
    assert [(row["account"], row["ok"]) for row in rows] == [("north_clinic", False), ("south_clinic", False)]
    assert chartpost("check").exit_code == 1


def test_credentials_are_tried_at_the_provider(chartpost: CommandLine) -> None:
    sandbox = SandboxProcess()
    try:
        address = sandbox.settings["accounts"]["north_clinic"]["base_url"]
        text = chartpost.config.read_text().replace("http://127.0.0.1:1/v1", address)
        for key in ("vendor_api_key", "api_key"):
            right = sandbox.settings["accounts"]["north_clinic"][key]
            text = text.replace(f'\n{key} = "{key[0]}"', f'\n{key} = "{right}"')
        chartpost.config.write_text(text)
        rows = found(chartpost, "account")
    finally:
        sandbox.stop()
    assert [(row["account"], row["ok"]) for row in rows] == [("north_clinic", True), ("south_clinic", False)]


def test_a_folder_that_is_a_file_is_found(chartpost: CommandLine, runtime: Runtime) -> None:
    runtime.settings.data_dir.mkdir()
    (runtime.settings.data_dir / "failed").write_text("")
    (row,) = found(chartpost, "folders")
    assert not row["ok"]
    assert "failed: it is not a folder" in row["message"]


def test_what_the_inbox_leaves_alone_is_told_by_its_path(chartpost: CommandLine, runtime: Runtime) -> None:
    inbox = runtime.folders.inbox
    (inbox / "east_clinic").mkdir(parents=True)
    (inbox / "east_clinic" / "scan.pdf").write_text("")
    (inbox / "north_clinic" / "4711").mkdir(parents=True)
    (inbox / "north_clinic" / "4711" / "scan.pdf").write_text("")
    (inbox / "north_clinic" / "4711" / "scan.pdf.part").write_text("")
    rows = found(chartpost, "inbox")
    told = {Path(row["message"].partition(" is left alone")[0]).relative_to(inbox).as_posix(): row for row in rows}
    assert {path: row["ok"] for path, row in told.items()} == {
        "east_clinic": False,
        "north_clinic/4711/scan.pdf.part": True,
    }
    mark = runtime.seal.lookup("inbox", "north_clinic", "4711", "scan.pdf.part")  # what the watcher logs
    assert mark in told["north_clinic/4711/scan.pdf.part"]["message"]


def test_an_error_file_that_came_back_with_its_document_is_told_and_harms_nothing(
    chartpost: CommandLine, runtime: Runtime
) -> None:
    folder = runtime.folders.inbox / "north_clinic" / "4711"
    folder.mkdir(parents=True)
    (folder / "scan.pdf.error.json").write_text("{}")
    (row,) = found(chartpost, "inbox")
    assert row["ok"] is True
    assert "an error file of ours" in row["message"]


def test_there_are_words_for_every_reason_to_leave_something_alone() -> None:
    assert set(_WORDS) == set(Reason)


def test_settings_that_are_unwise_are_told_and_harm_nothing(chartpost: CommandLine) -> None:
    chartpost.config.write_text(chartpost.config.read_text().replace("a secret for tests", "short"))
    first, second = found(chartpost, "settings")
    assert (first["ok"], second["ok"]) == (True, True)
    assert "secret_key is short" in second["message"]


def test_a_redis_that_is_away_is_found_and_no_account_is_asked(chartpost: CommandLine, valkey_url: str) -> None:
    chartpost.config.write_text(chartpost.config.read_text().replace(valkey_url, "redis://127.0.0.1:1/0"))
    rows = lines(chartpost("check", "--json"))
    assert [row["ok"] for row in rows if row["check"] == "redis"] == [False]
    assert [row["ok"] for row in rows if row["check"] == "account"] == [False, False]


def findings(client: redis.Redis) -> dict[str, bool]:
    return {finding.check: finding.ok for finding in of_redis(client)}


def test_a_redis_that_would_forget_or_evict_is_found(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as url:
        client = redis.Redis.from_url(url, decode_responses=True)
        assert all(findings(client).values())
        client.config_set("appendonly", "no")
        client.config_set("maxmemory-policy", "allkeys-lru")
        assert findings(client) == {"redis": True, "persistence": False, "memory": False, "clock": True}


def test_a_default_user_that_may_not_replay_the_file_is_found(tmp_path: Path) -> None:
    with running_valkey(tmp_path) as url:
        client = redis.Redis.from_url(url, decode_responses=True)
        affected = {"valkey_version": "8.1.8"}
        assert not list(_default_user(client, affected))
        everything = {"keys": ["*"], "channels": ["*"], "categories": ["+@all"]}
        client.acl_setuser("app", enabled=True, passwords=["+x"], **everything)  # type: ignore[arg-type]
        app = redis.Redis.from_url(url.replace("redis://:", "redis://app:").replace(urlsplit(url).password or "", "x"))
        client.acl_setuser("default", enabled=False, reset_keys=True, categories=["-@all"])
        assert [finding.ok for finding in _default_user(app, affected)] == [False]
        assert not list(_default_user(app, {"valkey_version": "9.1.2"}))
        app.acl_setuser("default", enabled=False, **everything)  # type: ignore[arg-type]
        assert not list(_default_user(app, affected))


def test_health_needs_a_worker_that_consumes(chartpost: CommandLine, runtime: Runtime) -> None:
    alone = chartpost("health")
    assert alone.exit_code == 1
    assert "no worker" in alone.stderr
    Workers(runtime.redis, "w", 4, lambda: True).beat()
    assert chartpost("health").exit_code == 0


@pytest.mark.parametrize("command", ["health", "jobs", "accounts"])
def test_a_redis_that_is_away_is_said_in_a_sentence(chartpost: CommandLine, valkey_url: str, command: str) -> None:
    chartpost.config.write_text(chartpost.config.read_text().replace(valkey_url, "redis://:hidden@127.0.0.1:1/0"))
    result = chartpost(command)
    assert result.exit_code == 1
    assert "Redis does not answer" in result.stderr
    assert "hidden" not in result.output
