"""A report for programs, in the fields of the public contract: as one JSON object, and its groups as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection
from typing import Any

from tasks.model.times import from_ms, iso
from tasks.reporting.counts import ABOVE
from tasks.reporting.report import Group, Report


def as_json(report: Report, by: Collection[str]) -> str:
    return json.dumps(report_fields(report, by), indent=2) + "\n"


def as_csv(report: Report) -> str:
    """A line for each group, under a line with the names of the fields."""
    text = io.StringIO()
    period = {"since": iso(report.since), "until": iso(report.until)}
    rows = [period | group_fields(group) for group in report.groups]
    writer = csv.DictWriter(text, list(period | group_fields(report.total)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def report_fields(report: Report, by: Collection[str]) -> dict[str, Any]:
    return {
        "since": iso(report.since),
        "until": iso(report.until),
        "made_at": iso(report.made_at),
        "accounts": list(report.accounts),
        "by": list(by),
        "total": group_fields(report.total),
        "groups": [group_fields(group) for group in report.groups],
        "failures": [
            {"account": ending.account, "code": ending.code, "documents": number} for ending, number in report.failures
        ],
        "slowest": [
            {
                "id": job.job_id,
                "account": job.account,
                "seconds": job.seconds,
                "delivered_at": iso(from_ms(job.ended_ms)),
            }
            for job in report.slowest
        ],
        "interval": report.interval,
        "intervals": [
            {
                "begins": iso(interval.begins),
                "delivered": interval.delivered,
                "failed": interval.failed,
                "cancelled": interval.cancelled,
            }
            for interval in report.intervals
        ],
        "seconds_classes": [
            {"up_to": None if bound == ABOVE else bound, "documents": report.classes[bound]}
            for bound in sorted(report.classes)
        ],
        "rolled_up_days": [day.isoformat() for day in report.rolled_up],
        "approximate": report.approximate,
    }


def group_fields(group: Group) -> dict[str, Any]:
    waiting = group.waiting
    return {
        "account": group.account,
        "code": group.code,
        "documents": group.documents,
        "delivered": group.delivered,
        "duplicates": group.duplicates,
        "failed": group.failed,
        "cancelled": group.cancelled,
        "waiting": waiting.documents if waiting else None,
        "oldest_waiting_at": iso(waiting.oldest) if waiting else None,
        "median_seconds": _rounded(group.median_seconds),
        "p95_seconds": _rounded(group.p95_seconds),
        "provider_calls": group.provider_calls,
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
