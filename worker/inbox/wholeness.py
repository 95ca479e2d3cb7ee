"""Is a file of the inbox whole? It is not while a program has it open for writing, or while its end is missing."""

from __future__ import annotations

from tasks.model.errors import StepError
from tasks.sources.entries import Place
from tasks.sources.files import open_place
from tasks.sources.whole import Format, why_incomplete
from tasks.sources.writers import Writers
from worker.inbox.filter import Reason


class NotWhole(Exception):
    """A document that must wait in the inbox, and why."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


def why_not_whole(place: Place, writers: Writers) -> Reason | None:
    """Why a file must wait; None if it need not. A file that cannot be read need not: its claim says what is wrong."""
    if has_writer(place, writers):
        return Reason.OPEN_FOR_WRITING
    return Reason.INCOMPLETE if missing_end(place) else None


def has_writer(place: Place, writers: Writers) -> bool:
    """True if a program has the file open for writing, as far as that can be known."""
    try:
        return writers.has_writer(place)
    except OSError:
        return False


def missing_end(place: Place) -> Format | None:
    """The format of a file whose end is missing."""
    try:
        with open_place(place) as file:
            return why_incomplete(file)
    except StepError:
        return None
