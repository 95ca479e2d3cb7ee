"""What was handed in during a campaign, and the outcome that each caller was told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from tasks.model.document import Door
from tests.chaos.documents import Document


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a caller was told: `delivered`, or the code of a failure, with the receipt if the caller was given one."""

    state: str
    code: str = ""
    receipt: dict[str, Any] = field(default_factory=dict)


class Tracker:
    """Shared by all threads. Documents are known by their numbers."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self.documents = {document.number: document for document in documents}
        self.outcomes: dict[int, Outcome] = {}
        self.outside: set[int] = set()  # calls and messages that were open when Redis was wiped: docs/chaos.md
        self.open_at_wipe: set[int] = set()
        self.resent = 0
        self.wipes = 0
        self.seconds: dict[int, float] = {}  # from handing in to the outcome
        self._handed_in: dict[int, float] = {}
        self._lock = threading.Lock()

    def handed_in(self, document: Document) -> None:
        with self._lock:
            self._handed_in.setdefault(document.number, time.monotonic())

    def settled(self, document: Document, outcome: Outcome) -> None:
        with self._lock:
            self.seconds.setdefault(document.number, time.monotonic() - self._handed_in[document.number])
            self.outcomes.setdefault(document.number, outcome)

    def in_flight(self) -> set[int]:
        with self._lock:
            return self._handed_in.keys() - self.outcomes.keys()

    def wiped(self) -> None:
        """From now on the promise does not hold for calls and messages that are open; their callers send them again."""
        open_ones = self.in_flight()
        with self._lock:
            self.wipes += 1
            self.open_at_wipe |= open_ones
            self.outside |= {number for number in open_ones if self.documents[number].door is not Door.INBOX}

    @property
    def finished(self) -> bool:
        return len(self.outcomes) == len(self.documents)
