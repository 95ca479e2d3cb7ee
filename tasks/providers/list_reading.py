"""How far a patient's list has been read, in a form that is kept between workers."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from typing import Any, Protocol, TypeVar

from tasks.providers.pages import MOST_RECORDS, Page, Pages, Query, too_many

_SAME_READINGS = 3

Entries = Mapping[str, int | None]
"""Record id -> size in bytes, in the list's order."""


class Sized(Protocol):
    @property
    def id(self) -> str: ...

    @property
    def size(self) -> int | None: ...


R = TypeVar("R", bound=Sized)


@dataclass(slots=True)
class Reading:
    """How far the list has been read. `listed` is of the reading under way, and all there is once it is complete."""

    # The page that comes next, its number from 1. No query: the reading has ended.
    page: int
    query: Query
    listed: dict[str, int | None] = field(default_factory=dict)
    # What readings before this one have shown, which did not add up.
    earlier: dict[str, int | None] = field(default_factory=dict)
    # By the first page: records that are added later may be missing.
    announced: int | None = None
    more: bool = False
    per_page: int = 0
    # Whether each page begins where its number says, so that a record's page is known.
    regular: bool = True
    newest_first: bool = False
    complete: bool = False
    unseen: int = 0
    # How many readings in a row have shown the same, and a digest of what that was.
    same: int = 0
    shown: str = ""

    @classmethod
    def load(cls, kept: str) -> Reading:
        fields: dict[str, Any] = json.loads(zlib.decompress(base64.b85decode(kept)))
        for name in ("listed", "earlier"):
            fields[name] = dict(zip(*fields[name], strict=True))
        return cls(**{**fields, "query": [(name, value) for name, value in fields["query"]]})

    def dump(self) -> str:
        fields = asdict(self)
        for name in ("listed", "earlier"):
            fields[name] = [list(fields[name]), list(fields[name].values())]
        return base64.b85encode(zlib.compress(json.dumps(fields, separators=(",", ":")).encode())).decode()

    @property
    def long(self) -> bool:
        """Whether reading it anew takes more than one page."""
        return self.page > 1 or bool(self.earlier) or bool(self.unseen) or len(self.listed) > self.per_page

    @property
    def last_page(self) -> int:
        """The number of the page on which the last record is."""
        return -(-len(self.listed) // self.per_page) if self.listed and self.per_page else 1

    def page_of(self, record_id: str) -> int | None:
        """The number of the page on which this record was; None if that is not known."""
        if not (self.complete and self.regular and self.per_page and record_id in self.listed):
            return None
        return list(self.listed).index(record_id) // self.per_page + 1

    def add(self, page: Page[R], pages: Pages[R]) -> None:
        """Add the next page. Raises DocumentRefused if the list has too many records."""
        if len(self.listed) + len(page.records) > MOST_RECORDS:
            raise too_many(pages.provider)
        if self.page == 1:
            self.announced, self.per_page = page.total, len(page.records)
        begins_in_place = len(self.listed) == (self.page - 1) * self.per_page
        before = len(self.listed)
        self.listed |= {record.id: record.size for record in page.records}
        brought = len(self.listed) - before
        self.more = page.next is not None
        self.regular = self.regular and (not page.records or (begins_in_place and brought == len(page.records)))
        self.query = pages.following(page, self.page, seen=len(self.listed), of=self.announced) if brought else ()
        if self.query:
            self.page += 1
            self.regular = self.regular and ("page", str(self.page)) in self.query

    def end(self) -> None:
        """The last page was read: it is complete, or the list must be read again."""
        shown = sha256(json.dumps([self.announced, sorted(self.listed)]).encode()).hexdigest()
        self.same, self.shown = (self.same + 1 if shown == self.shown else 1), shown
        if self.announced is None:
            self.complete = not self.more
        elif len(self.listed) >= self.announced:
            self.complete = True
        elif len(self.earlier | self.listed) >= self.announced or self.same >= _SAME_READINGS:
            self.regular = self.regular and self.earlier.keys() <= self.listed.keys()
            self.listed = self.earlier | self.listed
            self.complete = True
            self.unseen = max(0, self.announced - len(self.listed))
        if self.complete and self.announced is not None:
            self.announced = len(self.listed) + self.unseen

    def begin_again(self, query: Query) -> None:
        """Read the list anew, and keep what it has shown."""
        self.earlier |= self.listed
        self.listed, self.page, self.query, self.regular = {}, 1, query, True
