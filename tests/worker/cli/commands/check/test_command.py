"""`chartpost check` prints a line for each result, and exits with 1 if one of them is a fault."""

from __future__ import annotations

import re

import pytest

from tests.worker.cli.conftest import CommandLine, lines
from worker.cli.commands.check.command import print_results


def test_every_line_has_the_fields_of_the_contract(chartpost: CommandLine) -> None:
    rows = lines(chartpost("check", "--json"))
    assert all(list(row) == ["check", "account", "ok", "message"] for row in rows)
    assert {row["check"] for row in rows} >= {"settings", "folders", "redis", "persistence", "clock", "account"}


def test_while_redis_is_away_no_account_is_asked(chartpost: CommandLine, valkey_url: str) -> None:
    chartpost.config.write_text(chartpost.config.read_text().replace(valkey_url, "redis://127.0.0.1:1/0"))
    rows = lines(chartpost("check", "--json"))
    assert [row["ok"] for row in rows if row["check"] == "redis"] == [False]
    assert [row["ok"] for row in rows if row["check"] == "account"] == [False, False]


def test_it_ends_with_a_count_that_no_program_reads_as_a_line_of_its_own(chartpost: CommandLine) -> None:
    result = chartpost("check")
    printed = [line.split("\t") for line in result.stdout.splitlines()]
    assert {len(line) for line in printed} == {4}
    yes, no = ([line[2] for line in printed].count(word) for word in ("yes", "no"))
    assert no > 0
    assert result.stderr.splitlines()[-1] == f"{yes} yes, {no} no"
    assert "yes, " not in chartpost("check", "--json").stderr


def test_at_a_terminal_yes_and_no_have_colours_and_sentences_are_read_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR", raising=False)
    sentence = "The provider refused access: correct the key of this account."
    rows: list[dict[str, object]] = [
        {"check": "redis", "account": None, "ok": True, "message": "Valkey answers."},
        {"check": "account", "account": "north_clinic", "ok": False, "message": sentence},
    ]
    print_results(rows)
    printed = capsys.readouterr().out
    assert "\x1b[32myes\x1b[0m" in printed
    assert "\x1b[1;31mno\x1b[0m" in printed
    plain = re.sub(r"\x1b\[[0-9;]*m", "", printed)
    assert all(len(line) <= 60 and line == line.rstrip() for line in plain.splitlines())
    assert "refused access: correct" in " ".join(plain.split())
    assert "…" not in plain
