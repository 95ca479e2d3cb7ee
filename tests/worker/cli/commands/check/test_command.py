"""`chartpost check` prints a line for each result, and exits with 1 if one of them is a fault."""

from __future__ import annotations

from tests.worker.cli.conftest import CommandLine, lines


def test_every_line_has_the_fields_of_the_contract(chartpost: CommandLine) -> None:
    rows = lines(chartpost("check", "--json"))
    assert all(list(row) == ["check", "account", "ok", "message"] for row in rows)
    assert {row["check"] for row in rows} >= {"settings", "folders", "redis", "persistence", "clock", "account"}


def test_while_redis_is_away_no_account_is_asked(chartpost: CommandLine, valkey_url: str) -> None:
    chartpost.config.write_text(chartpost.config.read_text().replace(valkey_url, "redis://127.0.0.1:1/0"))
    rows = lines(chartpost("check", "--json"))
    assert [row["ok"] for row in rows if row["check"] == "redis"] == [False]
    assert [row["ok"] for row in rows if row["check"] == "account"] == [False, False]
