"""The lines of one check, as `chartpost check --json` prints them."""

from __future__ import annotations

from typing import Any

from tests.worker.cli.conftest import CommandLine, lines


def lines_of(chartpost: CommandLine, check: str) -> list[dict[str, Any]]:
    return [row for row in lines(chartpost("check", "--json")) if row["check"] == check]
