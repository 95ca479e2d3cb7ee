"""What a file's name tells of its patient: one reading, or a refusal."""

from __future__ import annotations

import time
from datetime import date
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from config.name_patterns import NameField, NamePattern
from tasks.model.errors import Code, DocumentRefused
from tasks.model.names import check_patient_id
from worker.inbox.name_patterns import NameReader, NameReading

FUZZ = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)


@pytest.mark.parametrize(
    ("pattern", "name", "patient_id", "file_name"),
    [
        ("{patient_id}_{name}", "4711_letter.pdf", "4711", "letter.pdf"),
        ("{patient_id}_{name}", "4711_letter_2.pdf", "4711", "letter_2.pdf"),
        ("{patient_id}_{name}", "4711_archive.tar.gz", "4711", "archive.tar.gz"),
        ("{patient_id}_{name}", "4711_letter", "4711", "letter"),
        ("{patient_id}_{name}", "A.b:c@d-9_Überweisung 2.PDF", "A.b:c@d-9", "Überweisung 2.PDF"),
        ("{name}_{patient_id}", "letter_2_4711.pdf", "4711", "letter_2.pdf"),
        ("{name} ({patient_id})", "letter (2) (4711).pdf", "4711", "letter (2).pdf"),
        ("{patient_id}", "4711.pdf", "4711", "4711.pdf"),
        ("P{patient_id}", "P4711.pdf", "4711", "P4711.pdf"),
        ("{patient_id}-{date}-{name}", "4711-20260131-letter.pdf", "4711", "letter.pdf"),
        ("{patient_id}-{date}-{name}", "A-12-2026-01-31-letter-2.pdf", "A-12", "letter-2.pdf"),
        ("{date}_{patient_id}_{any}", "20260131_4711_MFP2_0001.pdf", "4711", "20260131_4711_MFP2_0001.pdf"),
        ("{patient_id}-{date}", "47-20260131.xyz", "47", "47-20260131.xyz"),
        ("{any}-{patient_id}-{name}", "scan-4711-letter.pdf", "4711", "letter.pdf"),
        ("Größe {patient_id}", "Gro\u0308ße 4711.pdf", "4711", "Größe 4711.pdf"),
    ],
)
def test_a_name_that_fits_tells_patient_and_name(pattern: str, name: str, patient_id: str, file_name: str) -> None:
    assert NameReader([pattern]).read(name) == NameReading(patient_id, file_name)


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{patient_id}_{name}", "letter.pdf"),
        ("{patient_id}_{name}", "_letter.pdf"),
        ("{patient_id}_{name}", "4711_.pdf"),
        ("{patient_id}_{name}", "Müller_letter.pdf"),
        ("{patient_id}_{name}", "47 11_letter.pdf"),
        ("{patient_id}_{name}", ".._letter.pdf"),
        ("{patient_id}_{name}", "x" * 129 + "_letter.pdf"),
        ("{patient_id}-{date}-{name}", "4711-20261331-letter.pdf"),
        ("{patient_id}-{date}-{name}", "4711-11111111-letter.pdf"),
        ("{patient_id}-{date}-{name}", "4711-2026-0131-letter.pdf"),
        ("P{patient_id}", "p4711.pdf"),
    ],
)
def test_a_name_that_does_not_fit_is_refused_with_the_pattern(pattern: str, name: str) -> None:
    with pytest.raises(DocumentRefused) as caught:
        NameReader([pattern]).read(name)
    assert caught.value.code is Code.PATIENT_REQUIRED
    assert pattern in caught.value.message
    assert name.removesuffix(".pdf") not in caught.value.message


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{any}-{patient_id}-{name}", "scan-01-4711-letter.pdf"),
        ("{patient_id}-{date}-{name}", "4711-20260131-20260201-letter.pdf"),
        ("{name}_{patient_id}", "letter_47.A1"),  # is A1 an ending, or the rest of an id?
        ("{any} {name} {patient_id}", "a b c 4711.pdf"),
    ],
)
def test_a_name_that_can_be_read_in_two_ways_is_no_guess(pattern: str, name: str) -> None:
    with pytest.raises(DocumentRefused) as caught:
        NameReader([pattern]).read(name)
    assert caught.value.code is Code.INVALID_REQUEST
    assert "more than one way" in caught.value.message


def test_the_first_pattern_that_fits_counts() -> None:
    reader = NameReader(["{patient_id}-{date}-{name}", "{patient_id}_{name}"])
    assert reader.read("1-20260131-a_b.pdf") == NameReading("1", "a_b.pdf")
    assert reader.read("2_b.pdf") == NameReading("2", "b.pdf")
    with pytest.raises(DocumentRefused, match=r"\{patient_id\}-\{date\}-\{name\} or \{patient_id\}_\{name\}"):
        reader.read("letter.pdf")


# --- any pattern, any name ---------------------------------------------------------------------------------------

separators = st.sampled_from(["_", "-", " ", "--", " - ", "#", "_x_", ".", "("])
ids = st.from_regex(r"[A-Za-z0-9._:@-]{1,12}", fullmatch=True).filter(lambda text: text not in (".", ".."))
days = st.dates(date(1900, 1, 1), date(2099, 12, 31)).flatmap(
    lambda day: st.sampled_from([day.strftime("%Y%m%d"), day.isoformat()])
)
texts = st.text("abcXYZ019 _-.#(ü", min_size=1, max_size=12)
endings = st.sampled_from(["", ".pdf", ".TIF", ".x9"])
VALUES = {NameField.PATIENT_ID: ids, NameField.DATE: days, NameField.NAME: texts, NameField.ANY: texts}


@st.composite
def named(draw: st.DrawFn) -> tuple[NamePattern, dict[NameField, str], str]:
    """A pattern, the values of its fields, and the name of a file that has them, with its ending."""
    others = draw(st.lists(st.sampled_from([NameField.NAME, NameField.DATE, NameField.ANY]), unique=True))
    fields = draw(st.permutations([NameField.PATIENT_ID, *others]))
    parts: list[str] = [draw(st.sampled_from(["", "Scan "]))]
    for number, field in enumerate(fields):
        parts += [draw(separators)] if number else []
        parts += [f"{{{field}}}"]
    values = {field: draw(VALUES[field]) for field in fields}
    pattern = NamePattern.parse("".join(parts))
    stem = "".join(values[part] if isinstance(part, NameField) else part for part in pattern.parts)
    return pattern, values, stem + draw(endings)


@FUZZ
@given(named())
def test_what_was_put_into_a_name_comes_out_of_it_or_it_is_refused(
    made: tuple[NamePattern, dict[NameField, str], str],
) -> None:
    pattern, values, name = made
    patient_id = values[NameField.PATIENT_ID]
    assume(not holds_its_separator(pattern, patient_id))
    # An id at the end of a name without an ending may look as if it had one.
    assume("." not in patient_id or not name.endswith(patient_id))
    try:
        reading = NameReader([pattern.text]).read(name)
    except DocumentRefused as refusal:
        if "more than one way" not in refusal.message:
            raise
        return
    assert reading.patient_id == patient_id
    if NameField.NAME in values:
        assert reading.file_name.startswith(values[NameField.NAME])
    else:
        assert reading.file_name == name


def holds_its_separator(pattern: NamePattern, patient_id: str) -> bool:
    """Whether an id is one of those that the pattern is documented not to find: it holds the text beside it."""
    texts = [
        left if right is NameField.PATIENT_ID else right
        for left, right in pairwise(pattern.parts)
        if NameField.PATIENT_ID in (left, right)
    ]
    return any(str(text) in patient_id for text in texts)


@FUZZ
@given(named(), st.text(max_size=60))
def test_any_name_is_read_with_an_id_that_stands_in_it_or_refused(
    made: tuple[NamePattern, dict[NameField, str], str], name: str
) -> None:
    try:
        reading = NameReader([made[0].text]).read(name)
    except DocumentRefused:
        return
    check_patient_id(reading.patient_id)
    assert reading.patient_id in name


@pytest.mark.parametrize("name", ["_" * 255, "a_" * 127, "1-" * 127, "20260131-" * 28, "_-" * 127])
def test_no_name_takes_long(name: str) -> None:
    readers = [
        NameReader(["_".join(["{any}"] * 7) + "-{patient_id}"]),
        NameReader(["{any}-{patient_id}-{date}-{name}"]),
        NameReader(["{patient_id}_{any}_{any}_{any}_{any}_{any}_{name}"]),
    ]
    started = time.process_time()
    for reader in readers:
        try:
            reader.read(name)
        except DocumentRefused:
            continue
    # An ordinary name takes microseconds. Trying every combination of seven fields would take years.
    assert time.process_time() - started < 30
