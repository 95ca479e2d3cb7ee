"""Takes the patient and the document's name from a file's name, by the account's `inbox.name_patterns`.

What a name means must never be a guess: it would bring a document into another patient's chart. So every way to read
a name is tried, and a name that two patients or two names could be read from is refused. Three rules keep ordinary
names clear:

1.  An id does not hold the text that separates it from the field beside it: `{patient_id}_{name}` reads
    `4711_letter_2.pdf` as 4711 and `letter_2.pdf`. Beside a `{date}` it may, since a date cannot be mistaken:
    `{patient_id}-{date}-{name}` reads the id A-12 from `A-12-20260131-letter.pdf`.
2.  A date is a day of the calendar from 1900 to 2099, written 20260131 or 2026-01-31.
3.  The ending (.pdf) is not part of what the fields match. It stays at the end of the document's name.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache

from config.name_patterns import NameField, NamePattern
from tasks.model.errors import About, Code, DocumentRefused
from tasks.model.names import check_patient_id
from tasks.providers.media_types import ENDINGS

_ENDING = re.compile(r"\.[A-Za-z0-9]{1,8}$")
_DATE = re.compile(r"((?:19|20)[0-9]{2})(-?)([0-9]{2})\2([0-9]{2})")


@dataclass(frozen=True, slots=True)
class NameReading:
    """What a file's name says. `file_name` is the document's name in the chart."""

    patient_id: str
    file_name: str


class NameReader:
    """Reads the names of one account's files. Without patterns every name is only a name."""

    def __init__(self, patterns: Sequence[str] = ()) -> None:
        self.patterns = tuple(NamePattern.parse(pattern) for pattern in patterns)

    def read(self, disk_name: str) -> NameReading:
        """The reading by the first pattern that fits.

        Raises DocumentRefused: `patient_required` when none fits, `invalid_request` when one fits in several ways.
        """
        for pattern in self.patterns:
            readings = _readings(pattern, unicodedata.normalize("NFC", disk_name))
            if len(readings) > 1:
                raise DocumentRefused(
                    Code.INVALID_REQUEST,
                    f"The file's name can be read in more than one way by the pattern {pattern.text}.",
                    hint="Rename the file so that its parts are clear, or put it into a folder named by the patient's "
                    "id. chartpost check --name shows how a name is read.",
                    about=About.FILE_NAME,
                )
            for reading in readings:
                return reading
        wanted = " or ".join(pattern.text for pattern in self.patterns)
        raise DocumentRefused(
            Code.PATIENT_REQUIRED,
            f"The file's name does not fit the pattern {wanted}, so that its patient is not known.",
            hint="Rename the file so that it fits, or put it into a folder named by the patient's id. "
            "chartpost check --name shows how a name is read.",
            about=About.FILE_NAME,
        )


def name_readers(patterns: Mapping[str, Sequence[str]]) -> dict[str, NameReader]:
    """Account -> the reader of its files' names, as `inbox.name_patterns` says; only of accounts with patterns."""
    return {account: NameReader(texts) for account, texts in patterns.items()}


def _readings(pattern: NamePattern, name: str) -> set[NameReading]:
    """The ways to read a name, two of them at most: that is enough to refuse it."""
    found: set[NameReading] = set()
    for stem, ending in _stems(name):
        for patient_id, inner_name in _matches(pattern.parts, stem):
            found.add(NameReading(patient_id, inner_name + ending if inner_name else name))
    return found


def _stems(name: str) -> Iterator[tuple[str, str]]:
    """The name without its ending, and the ending."""
    ending = _ENDING.search(name)
    if ending and ending.start() > 0:
        yield name[: ending.start()], ending.group()
    # What looks like an ending may be the rest of an id or a name, unless it is a known one: `47.11` has none.
    if ending is None or ending.group()[1:].lower() not in ENDINGS:
        yield name, ""


def _matches(parts: Sequence[NameField | str], stem: str) -> frozenset[tuple[str, str]]:
    """The patient ids and names that the parts find in a stem, two pairs at most. The name is empty without a field."""

    # Remembered by part and place, so that no name takes longer than its length squared.
    @cache
    def rest(number: int, at: int) -> frozenset[tuple[str, str]]:
        if number == len(parts):
            return frozenset({("", "")} if at == len(stem) else ())
        part = parts[number]
        if not isinstance(part, NameField):
            return rest(number + 1, at + len(part)) if stem.startswith(part, at) else frozenset()
        found: set[tuple[str, str]] = set()
        for end in _ends(parts, number, stem, at):
            for patient_id, name in rest(number + 1, end):
                value = stem[at:end]
                found.add(
                    (
                        value if part is NameField.PATIENT_ID else patient_id,
                        value if part is NameField.NAME else name,
                    )
                )
                if len(found) > 1:
                    return frozenset(found)
        return frozenset(found)

    return rest(0, 0)


def _ends(parts: Sequence[NameField | str], number: int, stem: str, at: int) -> Iterator[int]:
    """Where the field may end that begins at `at`."""
    field = parts[number]
    if field is NameField.DATE:
        found = _DATE.match(stem, at)
        if found and _is_a_day(*found.group(1, 3, 4)):
            yield found.end()
        return
    if number == len(parts) - 1:
        ends = iter((len(stem),))
    else:
        separator = parts[number + 1]
        ends = _places(stem, str(separator), at + 1)
    forbidden = _beside_an_id(parts, number) if field is NameField.PATIENT_ID else ()
    for end in ends:
        value = stem[at:end]
        if not value:
            continue
        if field is NameField.PATIENT_ID and (not _is_patient_id(value) or any(text in value for text in forbidden)):
            continue
        yield end


def _beside_an_id(parts: Sequence[NameField | str], number: int) -> list[str]:
    """The separators that an id may not hold: those beyond which there is another field, and not a date."""
    sides = ((number - 1, number - 2), (number + 1, number + 2))
    return [
        str(parts[separator])
        for separator, beyond in sides
        if 0 <= beyond < len(parts) and parts[beyond] is not NameField.DATE
    ]


def _places(text: str, part: str, start: int) -> Iterator[int]:
    at = text.find(part, start)
    while at >= 0:
        yield at
        at = text.find(part, at + 1)


def _is_patient_id(text: str) -> bool:
    try:
        check_patient_id(text)
    except DocumentRefused:
        return False
    return True


def _is_a_day(year: str, month: str, day: str) -> bool:
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return False
    return True
