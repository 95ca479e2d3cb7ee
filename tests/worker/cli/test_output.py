"""What a person sees, and what a program reads."""

from __future__ import annotations

import json

import pytest

from worker.cli.output import JsonOutput, Output
from worker.cli.printable import printable

JOB = {"id": "j-1", "code": "duplicate", "receipt": {"job_id": "j-1", "code": "duplicate", "duplicate_of": "j-0"}}


def test_lists_are_shown_item_by_item(capsys: pytest.CaptureFixture[str]) -> None:
    Output().sheet({"remarks": ["Look at it."], "labels": [{"code": "N"}, {"code": "NORS", "display": None}]})
    assert [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()] == [
        ["remarks.1", "Look at it."],
        ["labels.1.code", "N"],
        ["labels.2.code", "NORS"],
    ]


def test_people_do_not_read_twice_what_a_receipt_repeats_of_its_job(capsys: pytest.CaptureFixture[str]) -> None:
    Output().sheet(JOB)
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == ["id", "code", "receipt.duplicate_of"]


def test_programs_get_everything(capsys: pytest.CaptureFixture[str]) -> None:
    JsonOutput().sheet(JOB)
    assert json.loads(capsys.readouterr().out) == JOB


def test_in_a_pipe_a_list_has_tabs_between_its_columns_and_a_dash_for_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Output().rows(("name", "reason", "ok"), [{"name": "north\tclinic", "reason": None, "ok": True, "more": 1}])
    assert capsys.readouterr().out == "north clinic\t-\tyes\n"


def test_at_a_terminal_a_list_is_a_table_with_times_to_the_second(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("TERM", "dumb")  # no colours
    Output().rows(("name", "created_at"), [{"name": "[a].pdf", "created_at": "2026-11-30T03:46:33.318Z"}])
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["name", "created_at"],
        ["[a].pdf", "2026-11-30", "03:46:33"],
    ]


def test_no_text_of_a_stranger_moves_the_cursor_ends_a_line_or_turns_it_around() -> None:
    assert printable("a\x1b[2Jb\x9bc\rd\u2028e\u2029f\u202eg\u2066h\udcff") == "a�[2Jb�c�d�e�f�g�h�"
    assert printable("Ærlig 日本 👩‍⚕️ می‌خواهم.pdf") == "Ærlig 日本 👩‍⚕️ می‌خواهم.pdf"


def test_an_error_goes_to_people_on_standard_error_and_to_programs_on_standard_output(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = {"job_id": None, "code": "file_empty", "message": "The file is empty.", "hint": ""}
    Output().error(error)
    assert capsys.readouterr() == ("", "Error: file_empty: The file is empty.\n")
    JsonOutput().error(error)
    assert json.loads(capsys.readouterr().out) == error


@pytest.mark.parametrize(("value", "text"), [(None, ""), (True, "yes"), ("a\x1b[2Jb\r\nc", "a�[2Jb� c"), (7, "7")])
def test_nothing_that_moves_the_cursor_is_printed(value: object, text: str) -> None:
    assert printable(value) == text


def test_names_are_shown_without_what_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of a receipt or an error file are whatever somebody has written there."""
    Output().sheet({"receipt": {"\x1b]0;x\x07\nstate": "delivered"}})
    assert capsys.readouterr().out == "receipt.�]0;x� state  delivered\n"


def test_a_note_keeps_its_lines_and_nothing_else_that_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    Output().error({"job_id": "j-1", "code": "refused_by_provider", "message": "\x1b[2Kno.", "hint": ""})
    assert capsys.readouterr().err.splitlines() == [
        "Error: refused_by_provider: �[2Kno.",
        "All details: chartpost show j-1",
    ]


@pytest.mark.parametrize("char", ["\u202e", "\u2066", "\u2028", "\x9b", "\udcff"])
def test_what_turns_or_breaks_a_line_is_not_printed(char: str) -> None:
    assert printable(f"a{char}fdp.exe") == "a�fdp.exe"
