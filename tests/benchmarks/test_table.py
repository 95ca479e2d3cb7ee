"""The table says what was measured, what it should be, and whether it is."""

from __future__ import annotations

import pytest

from tests.benchmarks.table import Row, percentile, ratio, shown, table


@pytest.mark.parametrize(
    ("row", "held"),
    [
        (Row("", 0.65, "×", at_most=0.65), True),
        (Row("", 0.66, "×", at_most=0.65), False),
        (Row("", 1000, "a second", at_least=1000), True),
        (Row("", 999, "a second", at_least=1000), False),
        (Row("", 999, "s"), None),
    ],
)
def test_a_target_holds_up_to_its_limit(row: Row, held: bool | None) -> None:
    assert row.held is held
    assert row.as_json()["held"] is held


def test_the_table_has_a_line_for_each_row_and_its_columns_line_up() -> None:
    rows = [
        Row("CPU a document", 0.4321, "×", at_most=0.65, detail="14.0 to 35.1 ms"),
        Row("messages", 812, "a second", at_least=1000),
        Row("an upload", 1.0, "× CPU"),
    ]
    assert table(rows).splitlines() == [
        "| what           | target           | measured                 | held |",
        "|----------------|------------------|--------------------------|------|",
        "| CPU a document | ≤ 0.65 ×         | 0.43 × (14.0 to 35.1 ms) | yes  |",
        "| messages       | ≥ 1,000 a second | 812 a second             | no   |",
        "| an upload      |                  | 1 × CPU                  |      |",
    ]


@pytest.mark.parametrize(
    ("number", "text"),
    [(0.0342, "0.034"), (0.4321, "0.43"), (1.0, "1"), (1.5, "1.5"), (14.23, "14.2"), (100, "100"), (1600.4, "1,600")],
)
def test_a_number_is_shown_with_the_digits_that_say_something(number: float, text: str) -> None:
    assert shown(number) == text


def test_a_round_that_was_slow_for_both_does_not_change_their_ratio() -> None:
    assert ratio([1.0, 10.0, 1.0], [2.0, 20.0, 2.0]) == 0.5


def test_one_disturbed_round_of_three_does_not_change_the_ratio() -> None:
    assert ratio([1.0, 9.0, 1.0], [2.0, 2.0, 2.0]) == 0.5


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([float(number) for number in range(100, 0, -1)], 0.95) == 95
    assert percentile([3.0], 0.95) == 3
