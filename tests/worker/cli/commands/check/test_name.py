"""`chartpost check --name` shows how the patterns read the name of a file."""

from __future__ import annotations

import pytest

from tests.worker.cli.conftest import CommandLine, lines

PATTERNS = """
[inbox.name_patterns]
north_clinic = "{patient_id}_{name}"
south_clinic = ["{patient_id}-{date}-{name}", "P{patient_id}"]
"""


@pytest.fixture
def patterned(chartpost: CommandLine) -> CommandLine:
    chartpost.config.write_text(chartpost.config.read_text() + PATTERNS)
    return chartpost


def test_each_account_with_patterns_says_what_it_reads(patterned: CommandLine) -> None:
    result = patterned("check", "--json", "--name", "4711_letter.pdf")
    assert result.exit_code == 0
    north, south = lines(result)
    assert {name: north[name] for name in ("account", "ok", "patient_id", "file_name")} == {
        "account": "north_clinic",
        "ok": True,
        "patient_id": "4711",
        "file_name": "letter.pdf",
    }
    assert (south["account"], south["ok"], south["patient_id"]) == ("south_clinic", False, None)
    assert "{patient_id}-{date}-{name} or P{patient_id}" in south["message"]


@pytest.mark.parametrize("place", ["south_clinic/P4711.pdf", "data/inbox/south_clinic/P4711.pdf"])
def test_a_folder_before_the_name_chooses_the_account(patterned: CommandLine, place: str) -> None:
    (row,) = lines(patterned("check", "--json", "--name", place))
    assert (row["account"], row["patient_id"], row["file_name"]) == ("south_clinic", "4711", "P4711.pdf")


def test_a_name_that_fits_nowhere_exits_with_1(patterned: CommandLine) -> None:
    result = patterned("check", "--name", "letter.pdf")
    assert result.exit_code == 1
    assert "does not fit the pattern {patient_id}_{name}" in result.output


def test_a_name_may_stay_out_of_the_process_list(patterned: CommandLine) -> None:
    assert patterned("check", "--name", "@-", stdin="4711_letter.pdf\n").exit_code == 0


def test_without_patterns_it_says_which_setting_is_missing(chartpost: CommandLine) -> None:
    result = chartpost("check", "--name", "4711_letter.pdf")
    assert result.exit_code == 2
    assert "inbox.name_patterns" in result.output
