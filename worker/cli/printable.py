"""Text of others for a terminal, without rich: errors of commands that must start fast are printed too."""

from __future__ import annotations

import unicodedata

# Cc are control characters; Cs are the halves that stand for bytes which are not UTF-8, in file names; Zl and Zp begin
# another line for many programs.
_UNPRINTABLE = ("Cc", "Cs", "Zl", "Zp")
# They turn the direction of what follows, so that fdp.exe reads as exe.pdf.
# https://www.unicode.org/reports/tr9/#Directional_Formatting_Characters
_TURNING = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def printable(value: object) -> str:
    """A value as text for people, without characters that move the cursor or cannot be printed."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value).replace("\t", " ").replace("\n", " ")
    return "".join("�" if unicodedata.category(char) in _UNPRINTABLE or char in _TURNING else char for char in text)
