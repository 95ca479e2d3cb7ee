"""The sentences and the cells of a report that people read, as text and as HTML."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.reporting.report import Group, Report
from worker.cli.times import age, duration, local_time


def period(report: Report) -> str:
    return f"{_moment(report, 'since')} to {_moment(report, 'until')}"


def _moment(report: Report, which: str) -> str:
    moment = report.since if which == "since" else report.until
    return (
        f"{moment.astimezone():%Y} {local_time(moment).strip()}" if _spans_years(report) else local_time(moment).strip()
    )


def _spans_years(report: Report) -> bool:
    return report.since.astimezone().year != report.made_at.astimezone().year


def totals(report: Report) -> str:
    total = report.total
    skipped = f" ({total.duplicates} of them skipped as duplicates)" if total.duplicates else ""
    return f"{total.delivered} delivered{skipped}, {total.failed} failed, {total.cancelled} cancelled. {waits(report)}"


def waits(report: Report) -> str:
    waiting = report.total.waiting
    if not waiting or not waiting.documents:
        return "Nothing waits now."
    if waiting.documents == 1:
        return f"One waits now, for {oldest(report, report.total)}."
    return f"{waiting.documents} wait now, the oldest for {oldest(report, report.total)}."


def times(report: Report) -> str:
    """How long documents took, and how many calls that cost."""
    total = report.total
    if total.median_seconds is None or total.p95_seconds is None:
        took = "No document was delivered."
    else:
        about = "about " if report.approximate else ""
        took = f"From received to delivered: half within {about}{duration(total.median_seconds)}, "
        took += f"95 % within {about}{duration(total.p95_seconds)}."
    return f"{took} {total.provider_calls} calls to providers and their storage."


def remarks(report: Report) -> Iterator[str]:
    """What a reader must know to read the figures right."""
    if report.rolled_up:
        days = "1 day is" if len(report.rolled_up) == 1 else f"{len(report.rolled_up)} days are"
        yield (
            f"{days} told by daily counts (days of UTC), since jobs have left Redis or were sent again. "
            "Median and 95 % are approximate, and the slowest documents are those of the other days."
        )


def seconds(value: float | None) -> str:
    return "" if value is None else duration(value)


def about(report: Report, value: float | None) -> str:
    """With a sign if the report tells only about how long it took."""
    return f"≈ {duration(value)}" if value is not None and report.approximate else seconds(value)


def oldest(report: Report, group: Group) -> str:
    """The age of the oldest document that waits; empty if none does."""
    waiting = group.waiting
    return age((report.made_at - waiting.oldest).total_seconds()) if waiting and waiting.oldest else ""


def code(group: Group) -> str:
    return "" if group.code is None else group.code or "none"
