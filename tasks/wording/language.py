"""Languages: messages by gettext, and sizes and moments as people of that language write them.

A message is marked by being the first argument of `Words.say`, as a literal. `python -m tests.translations` collects
them into `locale/<language>/LC_MESSAGES/chartpost.po`, and compiles these into the `.mo` files beside them.
"""

from __future__ import annotations

import gettext
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path

LOCALE = Path(__file__).parent / "locale"
DOMAIN = "chartpost"

_UNITS = ((1_000_000_000, "GB"), (1_000_000, "MB"), (1_000, "kB"))
# With a point between thousands and parts as English has it; the others have a comma.
_DECIMAL = {"en": "."}


class Words:
    """The words of one language. Raises FileNotFoundError for a language that has no translation."""

    def __init__(self, language: str) -> None:
        self.language = language
        self._messages = _messages(language)

    def say(self, message: str, **values: str) -> str:
        """The message in this language, with the values in the places of the same names."""
        return self._messages.gettext(message).format(**values)

    def sizes(self, *sizes_bytes: int) -> Sequence[str]:
        """Sizes in people's units, each told apart from the others: "1.2 MB". 1 MB is 1,000,000 bytes."""
        for digits in range(7):
            told = [self._size(size, digits) for size in sizes_bytes]
            if len(set(told)) == len(set(sizes_bytes)):
                return told
        return [self.say("{number} bytes", number=str(size)) for size in sizes_bytes]

    def moment(self, moment: datetime) -> str:
        """A moment in this machine's time zone, such that nobody takes the day for the month."""
        local = moment.astimezone()
        return self.say(
            "{weekday}, {day} {month} {year}, {time} ({zone})",
            weekday=self._weekdays[local.weekday()],
            day=str(local.day),
            month=self._months[local.month - 1],
            year=str(local.year),
            time=local.strftime("%H:%M"),
            zone=local.tzname() or "UTC",
        )

    def _size(self, size_bytes: int, digits: int) -> str:
        for unit, name in _UNITS:
            if size_bytes >= unit:
                # Down and not to the nearest: what is just below a limit must not seem to have reached it.
                scaled = size_bytes * 10**digits // unit
                whole, part = divmod(scaled, 10**digits)
                point = _DECIMAL.get(self.language, ",")
                parts = f"{part:0{digits}}".rstrip("0") if digits else ""
                return f"{whole}{point + parts if parts else ''} {name}"
        return self.say("{number} bytes", number=str(size_bytes))

    @property
    def _weekdays(self) -> Sequence[str]:
        return (
            self.say("Monday"),
            self.say("Tuesday"),
            self.say("Wednesday"),
            self.say("Thursday"),
            self.say("Friday"),
            self.say("Saturday"),
            self.say("Sunday"),
        )

    @property
    def _months(self) -> Sequence[str]:
        return (
            self.say("January"),
            self.say("February"),
            self.say("March"),
            self.say("April"),
            self.say("May"),
            self.say("June"),
            self.say("July"),
            self.say("August"),
            self.say("September"),
            self.say("October"),
            self.say("November"),
            self.say("December"),
        )


@lru_cache(maxsize=8)
def _messages(language: str) -> gettext.NullTranslations:
    if language == "en":  # the messages themselves
        return gettext.NullTranslations()
    return gettext.translation(DOMAIN, LOCALE, [language])
