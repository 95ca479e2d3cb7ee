"""A report for people, as text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console

from tasks.model.times import from_ms
from tasks.reporting.report import Group, Report
from worker.cli.commands.report import wording
from worker.cli.table import Column, table_lines
from worker.cli.times import duration, local_time


def as_text(report: Report, console: Console) -> str:
    return "\n".join(_lines(report, console)) + "\n"


def _lines(report: Report, console: Console) -> Iterator[str]:
    yield f"Documents that ended from {wording.period(report)}"
    yield ""
    yield wording.totals(report)
    yield wording.times(report)
    groups = [{"group": group} for group in report.groups]
    yield from _table(None, _group_columns(report), groups, console)
    failures = [{"documents": n, "code": ending.code, "account": ending.account} for ending, n in report.failures]
    yield from _table("Failed", _FAILURES, failures, console)
    slowest = [{"job": job} for job in report.slowest]
    yield from _table("Slowest to be delivered", _SLOWEST, slowest, console)
    for remark in wording.remarks(report):
        yield ""
        yield remark


def _table(heading: str | None, columns: list[Column], rows: list[dict[str, Any]], console: Console) -> Iterator[str]:
    if rows:
        yield ""
        if heading:
            yield heading
        yield from table_lines(columns, rows, console)


def _group_columns(report: Report) -> list[Column]:
    def group(row: Any) -> Group:
        found: Group = row["group"]
        return found

    def number(name: str) -> Column:
        return Column(name, lambda row: getattr(group(row), name), right=True)

    failed = Column("failed", lambda row: group(row).failed, right=True, style=lambda row: _red(group(row).failed))
    return [
        Column("account", lambda row: group(row).account, flexible=True, least=12, most=30),
        Column("code", lambda row: wording.code(group(row))),
        number("delivered"),
        failed,
        Column("cancelled", lambda row: group(row).cancelled, right=True, dispensable=3),
        Column("waiting", lambda row: waiting.documents if (waiting := group(row).waiting) else None, right=True),
        Column("oldest", lambda row: wording.oldest(report, group(row)), right=True, dispensable=2),
        Column("median", lambda row: wording.seconds(group(row).median_seconds), right=True, dispensable=1),
        Column("95 %", lambda row: wording.seconds(group(row).p95_seconds), right=True, dispensable=4),
        Column("calls", lambda row: group(row).provider_calls, right=True, dispensable=5),
    ]


def _red(failed: int) -> str:
    return "red" if failed else ""


_FAILURES = [
    Column("documents", lambda row: row["documents"], right=True),
    Column("code", lambda row: row["code"]),
    Column("account", lambda row: row["account"], flexible=True, least=12, most=30),
]
_SLOWEST = [
    Column("id", lambda row: row["job"].job_id[:8]),
    Column("took", lambda row: duration(row["job"].seconds), right=True),
    Column("delivered", lambda row: local_time(from_ms(row["job"].ended_ms)), dispensable=1),
    Column("account", lambda row: row["job"].account, flexible=True, least=12, most=30),
]
