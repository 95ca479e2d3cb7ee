"""Which patterns of file names the settings accept."""

from __future__ import annotations

import pytest

from config.name_patterns import NameField, NamePattern


def test_a_pattern_is_text_and_fields_in_turn() -> None:
    assert NamePattern.parse("Scan {patient_id}-{date}_{name}").parts == (
        "Scan ",
        NameField.PATIENT_ID,
        "-",
        NameField.DATE,
        "_",
        NameField.NAME,
    )


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "a file name's pattern"),
        ("{name}", "must hold {patient_id} once"),
        ("{patient_id}_{patient_id}", "must hold {patient_id} once"),
        ("{patient_id}_{name}_{name}", "at most once each"),
        ("{patient_id}{name}", "must have text between {patient_id} and {name}"),
        ("{date}{any}-{patient_id}", "must have text between {date} and {any}"),
        ("{patient_id}_{nmae}", "did you mean name?"),
        ("{patient_id}_{}", "the fields are {patient_id}"),
        ("{patient_id", "no other braces"),
        ("patient_id}", "no other braces"),
        ("{{patient_id}}", "no other braces"),
        ("{patient_id}/{name}", "without folders"),
        ("{patient_id}\\{name}", "without folders"),
        ("{patient_id}\n{name}", "without folders"),
        ("{patient_id}_{name}.pdf", "must leave out the ending"),
        ("{patient_id}1{name}", "not only letters and digits"),
        ("{name}x{patient_id}", "not only letters and digits"),
        ("_".join(["{any}"] * 8) + "-{patient_id}", "at most 8 fields"),
        ("{patient_id}" + "_" * 200, "at most 200 characters"),
    ],
)
def test_a_pattern_that_is_wrong_or_could_be_read_in_several_ways_is_refused(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=r"must|has a field") as caught:
        NamePattern.parse(text)
    assert words in str(caught.value)


@pytest.mark.parametrize("text", ["{patient_id}", "P{patient_id}", "{patient_id}.{name}", "{name} ({patient_id})"])
def test_text_at_the_ends_may_be_anything(text: str) -> None:
    assert NamePattern.parse(text).text == text
