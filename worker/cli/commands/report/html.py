"""A report as one HTML file that needs nothing else: no scripts, nothing from outside, plots inside it.

Needs the extra `report` (Jinja2 and pygal): import this module late.
"""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.model.times import from_ms
from tasks.reporting.report import Report
from worker.cli.commands.report import plots, wording
from worker.cli.times import duration, local_time


def as_html(report: Report) -> str:
    environment = Environment(
        loader=PackageLoader("worker.cli.commands.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        report=report,
        wording=wording,
        duration=duration,
        local_time=lambda ms: local_time(from_ms(ms)).strip(),
        colours=plots.COLOURS,
        made_at=f"{report.made_at.astimezone():%Y-%m-%d %H:%M %Z}",
        plots={
            "documents": plots.documents(report),
            "times": plots.times(report) if report.classes else "",
            "failures": plots.failures(report) if report.failures else "",
        },
    )
