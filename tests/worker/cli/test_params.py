"""Arguments and options: as text, from a file, and what is wrong usage."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from worker.cli.params import KeyAndValue, ProviderId, TextOrFile, require_account


def test_a_file_gives_its_text_without_the_line_end(tmp_path: Path) -> None:
    (tmp_path / "patient").write_text("4711\r\n")
    assert TextOrFile().convert(f"@{tmp_path / 'patient'}", None, None) == "4711"
    assert TextOrFile().convert("a@b", None, None) == "a@b"


def test_a_file_that_is_not_text_is_wrong_usage(tmp_path: Path) -> None:
    (tmp_path / "scan").write_bytes(b"\xff\xfe")
    with pytest.raises(click.BadParameter, match="it is not text in UTF-8"):
        TextOrFile().convert(f"@{tmp_path / 'scan'}", None, None)


@pytest.mark.parametrize(
    ("written", "value"),
    [("a=b", "b"), ("a=", ""), ("a=b=c", "b=c"), ('a={"b": 1}', {"b": 1}), ("a=[1]", [1]), ("a=1", "1")],
)
def test_the_value_of_an_option_is_text_or_json(written: str, value: object) -> None:
    assert KeyAndValue().convert(written, None, None) == ("a", value)


@pytest.mark.parametrize("written", ["a", "=b", "a={", "a=" + "[" * 100_000])
def test_a_malformed_option_is_wrong_usage(written: str) -> None:
    with pytest.raises(click.BadParameter):
        KeyAndValue().convert(written, None, None)


def test_an_empty_id_is_wrong_usage() -> None:
    assert ProviderId().convert(" 7 ", None, None) == "7"
    with pytest.raises(click.BadParameter, match="empty"):
        ProviderId().convert(" ", None, None)


def test_an_unknown_account_is_wrong_usage_and_the_known_ones_are_named() -> None:
    require_account(["north"], "north")
    with pytest.raises(click.BadParameter, match=r"south is not in the settings.*north"):
        require_account(["north"], "south")
