"""`notes` prints the sheet for a front desk's wall."""

from __future__ import annotations

from pathlib import Path

from tests.worker.cli.conftest import CommandLine


def test_the_sheet_is_in_the_language_asked_for(chartpost: CommandLine, tmp_path: Path) -> None:
    assert chartpost("notes", "--sheet", "--language", "nb", "--out", str(tmp_path / "sheet.html")).exit_code == 0
    page = (tmp_path / "sheet.html").read_text()
    assert '<html lang="nb">' in page
    assert "Filen er tom" in page


def test_without_a_file_the_sheet_is_printed_in_the_language_of_the_settings(chartpost: CommandLine) -> None:
    result = chartpost("notes", "--sheet")
    assert result.exit_code == 0
    assert "The file is empty" in result.stdout


def test_wrong_usage_and_a_place_that_cannot_be_written(chartpost: CommandLine, tmp_path: Path) -> None:
    assert chartpost("notes").exit_code == 2
    assert chartpost("notes", "--sheet", "--language", "se").exit_code == 2
    result = chartpost("notes", "--sheet", "--out", str(tmp_path / "nowhere" / "x.html"))
    assert result.exit_code == 1
    assert "cannot be written" in result.stderr
