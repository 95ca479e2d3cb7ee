"""The plots of a report as SVG, drawn by pygal: without scripts, and with nothing from outside."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from xml.etree import ElementTree

from pygal import Bar, HorizontalBar, StackedBar
from pygal.config import Config
from pygal.graph.graph import Graph
from pygal.style import Style

from tasks.reporting.counts import ABOVE
from tasks.reporting.report import Report
from worker.cli.times import MONTHS

COLOURS = {"delivered": "#2b7a4b", "failed": "#b5482f", "cancelled": "#9a9a9a"}
_CLASSES = (
    *((2, "2 s"), (5, "5 s"), (10, "10 s"), (20, "20 s"), (30, "30 s"), (60, "1 min"), (120, "2 min")),
    *((300, "5 min"), (600, "10 min"), (1800, "30 min"), (3600, "1 h"), (21_600, "6 h"), (86_400, "1 day")),
    (ABOVE, "longer"),
)
"""Upper bounds in seconds, each one of `counts.BOUNDS`, and what they are called below the plot."""
_MOST_LABELS = 10
_MOST_CODES = 12


def documents(report: Report) -> str:
    """How many ended in each hour, day or week, by how they ended."""
    chart = StackedBar(_config(height=300, colours=tuple(COLOURS.values())))
    labels = [_label(interval.begins, report.interval) for interval in report.intervals]
    chart.x_labels = labels
    every = -(-len(labels) // _MOST_LABELS)
    chart.x_labels_major = labels[::every]
    chart.show_minor_x_labels = False
    for name in COLOURS:
        chart.add(name, [getattr(interval, name) for interval in report.intervals])
    return _svg(chart)


def times(report: Report) -> str:
    """How long it took from received to delivered."""
    chart = Bar(_config(height=260, colours=(COLOURS["delivered"],)))
    counted = _coarse(report.classes)
    # From the first to the last that has any.
    there = [place for place, number in enumerate(counted) if number] or [0]
    names = [name if bound == ABOVE else f"≤ {name}" for bound, name in _CLASSES]
    chart.x_labels = names[there[0] : there[-1] + 1]
    chart.add("documents", counted[there[0] : there[-1] + 1])
    return _svg(chart)


def failures(report: Report) -> str:
    """How many failed with each code."""
    codes = Counter[str]()
    for ending, number in report.failures:
        codes[ending.code] += number
    shown = codes.most_common(_MOST_CODES)[::-1]  # a horizontal bar chart begins at the bottom
    chart = HorizontalBar(_config(height=90 + 28 * len(shown), colours=(COLOURS["failed"],)))
    chart.x_labels = [code for code, _ in shown]
    chart.add("documents", [number for _, number in shown])
    return _svg(chart)


def _config(*, height: int, colours: tuple[str, ...]) -> Config:
    style = Style(
        background="transparent",
        plot_background="transparent",
        foreground="#222222",
        foreground_strong="#222222",
        foreground_subtle="#888888",
        guide_stroke_color="#dddddd",
        guide_stroke_dasharray="1,0",
        major_guide_stroke_color="#dddddd",
        major_guide_stroke_dasharray="1,0",
        opacity="1",
        colors=colours,
        font_family="system-ui, sans-serif",
        label_font_size=12,
        major_label_font_size=12,
    )
    return Config(
        style=style,
        width=900,
        height=height,
        js=(),
        show_legend=False,  # the page has one, which wraps
        include_x_axis=True,
        value_formatter=lambda value: f"{value:.0f}",
        max_scale=6,
        min_scale=2,
        margin=8,
        truncate_label=-1,  # none: there are few enough to be read whole
    )


def _svg(chart: Graph) -> str:
    tree = chart.render_tree()
    for parent in list(tree.iter()):
        for child in list(parent):
            # pygal writes its settings as a script, whether there are scripts to read them or not, and its address.
            if child.tag is ElementTree.Comment or str(child.tag).rpartition("}")[2] == "script":
                parent.remove(child)
    ElementTree.register_namespace("", "http://www.w3.org/2000/svg")
    return ElementTree.tostring(tree, encoding="unicode")


def _coarse(classes: Counter[float]) -> list[int]:
    counted, below = [], 0.0
    for bound, _ in _CLASSES:
        counted.append(sum(number for each, number in classes.items() if below < each <= bound))
        below = bound
    return counted


def _label(begins: datetime, interval: str) -> str:
    if interval == "hour":
        here = begins.astimezone()
        return f"{here.day} {MONTHS[here.month - 1]} {here:%H:%M}"
    year = f" {begins.year}" if interval == "week" else ""
    return f"{begins.day} {MONTHS[begins.month - 1]}{year}"
