"""Notes for people that lie beside documents: known as ours by a mark in them, and never read as anything else.

People write to these folders, and move what is in them. So nothing is overwritten or removed because of its name. What
has a mark is a note, and is never taken for a document. What bears our signature over every character as well is as we
wrote it: that alone is replaced and removed. A note that somebody has written on stays theirs.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from tasks.folders import durable
from tasks.folders.disk_names import beside, tags
from tasks.folders.durable import DOCUMENT_MODE
from tasks.ledger.seal import Seal
from tasks.sources.entries import Entry, OpenFolder, Place, entry
from tasks.wording.note import MARK_NAME

NoteText: TypeAlias = Callable[[str], str]
"""The text of a note with this mark in it, or with an empty one."""

NOT_SENT = " - NOT SENT"
WAITING = " - WAITING"
"""What follows the document's name in the name of a note, before its ending: the same in every language."""
ENDINGS = (".html", ".txt")

_LARGEST_NOTE = 64 << 10
_NAMES_TRIED = 2
_KIND = "note"  # what `Seal.sign` is told
_JOB_ID = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_NAME = MARK_NAME.encode()
_MARKS = (
    re.compile(
        rb'\A[^\n]*\n[^\n]*\n[^\n]*\n[^\n]*\n<meta name="' + _NAME + rb'" content="((' + _JOB_ID + rb') [0-9a-f]{64})">'
    ),
    re.compile(rb"^" + _NAME + rb": ((" + _JOB_ID + rb") [0-9a-f]{64})\r?\n?\Z", re.MULTILINE),
)
"""The mark in the head of a page, and in the last line of a text."""
_PAGE_OR_TEXT = re.compile(r".*\.(html?|txt)", re.IGNORECASE)
_TAG = re.compile(r"-[0-9a-f]{8}\Z")


@dataclass(frozen=True, slots=True)
class Mark:
    """What makes a file a note of ours."""

    job_id: str
    # The whole of it, as it stands in the file.
    text: bytes


class Notes:
    """Writes and removes notes in open folders. Without `seal` there are none."""

    def __init__(self, seal: Seal | None) -> None:
        self._seal = seal

    def put(
        self, folder: OpenFolder, document: str, kind: str, job_id: str, texts: Mapping[str, NoteText], draft: Entry
    ) -> None:
        """Write the notes of a document beside it, or bring those that are there up to date.

        `kind` is NOT_SENT or WAITING. Overwrites nothing but notes as we wrote them; of those that wait, several may
        have one name, and each has notes of its own. Raises OSError.
        """
        if self._seal is None:
            return
        for ending, text in texts.items():
            mark = f"{job_id} {self._seal.sign(_KIND, text(''))}"
            content = text(mark).encode("utf-8", "replace")
            places = [folder.entry(name) for name in note_names(document, kind + ending, job_id)]
            own = [place for place in places if self._is_of(place, job_id)]
            free = [place for place in places if self._is_free(place, job_id if kind == WAITING else None)]
            for place in (*own, *free)[:1]:
                if _content(place) != content:
                    durable.replace(place, content, draft, DOCUMENT_MODE)

    def remove(self, folder: OpenFolder, document: str, kind: str, job_id: str) -> None:
        """Remove a document's notes, as far as they are as we wrote them. Raises OSError."""
        for ending in ENDINGS:
            for place in map(folder.entry, note_names(document, kind + ending, job_id)):
                if kind != WAITING or self._is_of(place, job_id):
                    self.remove_note(place)

    def _is_of(self, place: Entry, job_id: str) -> bool:
        mark = _mark(_content(place))
        return mark is not None and mark.job_id == job_id and self.is_unchanged(place)

    def _is_free(self, place: Entry, only_of: str | None) -> bool:
        """True if nothing has the name, or a note as we wrote it; of this job alone, if one is named."""
        return not place.exists() or (self._is_of(place, only_of) if only_of else self.is_unchanged(place))

    def remove_note(self, place: Entry) -> bool:
        """Remove a note if it is as we wrote it; False if it is not, or not there. Raises OSError."""
        if not self.is_unchanged(place):
            return False
        place.unlink(missing_ok=True)
        return True

    def is_unchanged(self, place: Place) -> bool:
        """True for a note that bears our signature over all that it says."""
        content = _content(place)
        mark = _mark(content)
        if mark is None or self._seal is None:
            return False
        text = content.replace(mark.text, b"", 1).decode("utf-8", "replace")
        return hmac.compare_digest(self._seal.sign(_KIND, text), mark.text.decode().rpartition(" ")[2])


def note_names(document: str, ending: str, job_id: str) -> Iterator[str]:
    """The names that a document's note may have, in this order: the second if a file of others has the first."""
    for tag, _ in zip(tags(job_id), range(_NAMES_TRIED), strict=False):
        yield beside(document + tag, f"-{job_id[:8]}", ending)


def note_on(place: Place) -> Mark | None:
    """The mark of a note, whatever it is called; None for any other file. Only pages and texts are read."""
    return _mark(_content(place)) if _PAGE_OR_TEXT.fullmatch(entry(place).name) else None


def may_be_note(name: str) -> bool:
    """True for the names that we give to notes, and for what a copy of one is called."""
    folded = name.casefold()
    return ("not sent" in folded or "waiting" in folded) and bool(_PAGE_OR_TEXT.fullmatch(name))


def is_note_of(note: str, document: str) -> bool:
    """True if a note of this name belongs to the document of that name, as `note_names` has it."""
    stem, found, _ = note.rpartition(NOT_SENT)
    if not found:
        return False
    without_tag = _TAG.sub("", stem)
    is_cut = len(os.fsencode(note)) >= 250 and without_tag != stem and document.startswith(without_tag)
    return document in (stem, without_tag) or is_cut


def _mark(content: bytes) -> Mark | None:
    for form in _MARKS:
        if found := form.search(content):
            return Mark(found[2].decode(), found[1])
    return None


def _content(place: Place) -> bytes:
    """What a small regular file holds; empty for any other."""
    with suppress(OSError), os.fdopen(entry(place).open(), "rb") as file:
        status = os.fstat(file.fileno())
        if stat.S_ISREG(status.st_mode) and status.st_size <= _LARGEST_NOTE:
            return file.read(_LARGEST_NOTE)
    return b""
