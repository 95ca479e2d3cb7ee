"""Patterns of file names, such as `{patient_id}_{name}`: scanners cannot put a file into a folder for each patient.

A pattern is text and fields in turn. It describes a name without its ending: `4711_letter.pdf` fits the one above.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

from config.errors import did_you_mean

_MOST_FIELDS = 8
_LONGEST = 200  # characters of a pattern


class NameField(StrEnum):
    """What a part of a file's name means."""

    PATIENT_ID = "patient_id"
    NAME = "name"  # the document's name in the chart
    DATE = "date"  # 20260131 or 2026-01-31
    ANY = "any"  # left out


@dataclass(frozen=True)
class NamePattern:
    """`text` as the settings write it. `parts` are its fields, and between them the text that separates them."""

    text: str
    parts: tuple[NameField | str, ...]

    @classmethod
    def parse(cls, text: str) -> "NamePattern":
        """Raises ValueError, worded to follow the key's name, for a pattern that could be read in several ways."""
        if not text or len(text) > _LONGEST or not text.isprintable() or "/" in text or "\\" in text:
            raise ValueError(f"must be a file name's pattern of at most {_LONGEST} characters, without folders")
        parts: list[NameField | str] = []
        for literal, braced in re.findall(r"([^{}]+)|\{([^{}]*)\}", text):
            if braced or not literal:
                parts.append(_field(braced))
            else:
                parts.append(literal)
        if "".join(part if type(part) is str else f"{{{part}}}" for part in parts) != text:
            raise ValueError("must have each field between { and }, and no other braces")
        _check(parts)
        return cls(text, tuple(parts))


def _field(name: str) -> NameField:
    try:
        return NameField(name)
    except ValueError:
        known = ", ".join(f"{{{field}}}" for field in NameField)
        hint = did_you_mean(name, list(NameField), f"the fields are {known}")
        raise ValueError(f"has a field that is not known: {hint}") from None


def _check(parts: list[NameField | str]) -> None:
    fields = [part for part in parts if isinstance(part, NameField)]
    if fields.count(NameField.PATIENT_ID) != 1:
        raise ValueError("must hold {patient_id} once")
    if max(fields.count(NameField.NAME), fields.count(NameField.DATE)) > 1:
        raise ValueError("must hold {name} and {date} at most once each")
    if len(fields) > _MOST_FIELDS:
        raise ValueError(f"must have at most {_MOST_FIELDS} fields")
    for left, right in pairwise(parts):
        if isinstance(left, NameField) and isinstance(right, NameField):
            raise ValueError(f"must have text between {{{left}}} and {{{right}}}, such as _ or -")
    last = parts[-1]
    if not isinstance(last, NameField) and re.search(r"\.[A-Za-z0-9]{1,8}$", last):
        raise ValueError("must leave out the ending of the file's name, such as .pdf: any ending fits")
    for number, part in enumerate(parts):
        between_fields = 0 < number < len(parts) - 1 and not isinstance(part, NameField)
        # `{patient_id}1{name}` would read 47 out of 4711.
        if between_fields and NameField.PATIENT_ID in parts[number - 1 : number + 2] and part.isalnum():
            raise ValueError("must separate {patient_id} by text that is not only letters and digits, such as _ or -")
