"""The plots are SVG that can be read, and say how far a row is from its target."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from tests.benchmarks.plots import looks, share_of_target, targets
from tests.benchmarks.table import Row

ROWS = [
    Row("CPU, to <the chain>", 1.3, "×", at_most=0.65).as_json(),
    Row("messages a second", 2000, "a second", at_least=1000).as_json(),
    Row("for reading only", 54, "ms").as_json(),
]


def test_a_row_is_as_far_from_its_target_whichever_way_that_goes() -> None:
    assert [share_of_target(row) for row in ROWS[:2]] == pytest.approx([2.0, 0.5])


def test_each_row_with_a_target_has_a_bar_of_each_run() -> None:
    drawn = ElementTree.fromstring(targets([ROWS, ROWS]))  # noqa: S314, ours
    assert len([each for each in drawn if each.tag.endswith("rect")]) == 1 + 2 * 2
    words = [each.text for each in drawn if each.tag.endswith("text")]
    assert "CPU, to <the chain>" in words
    assert "for reading only" not in words


def test_the_looks_are_drawn() -> None:
    drawn = ElementTree.fromstring(looks())  # noqa: S314, ours
    assert len([each for each in drawn if each.tag.endswith("circle")]) == 12
