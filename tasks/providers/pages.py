"""Lists that come in pages: read to their end, and believed only if the pages add up."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Generic, Protocol, TypeVar
from urllib.parse import parse_qsl

import httpx
from pydantic import Field, StringConstraints

from tasks.http.json_values import whole_number
from tasks.model.errors import Code, DocumentRefused, RetryLater

Query = Sequence[tuple[str, str]]

RecordId = (
    Annotated[int, Field(strict=True, ge=0, lt=10**30)]
    | Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200)]
)
"""Providers write ids as numbers or as text."""


class Listed(Protocol):
    @property
    def id(self) -> str: ...


R = TypeVar("R", bound=Listed)

MOST_RECORDS = 100_000
"""Of a list, whatever its pages hold: each is kept in memory, and its id in Redis."""


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """One page of a list."""

    records: Sequence[R]
    # How many records the whole list has, and the address of the next page, where the page tells.
    total: int | None
    next: str | None
    # Whether the page tells, by links or total, if more will come.
    announces: bool

    @classmethod
    def of(cls, records: Sequence[R], total_entries: object, links: object) -> Page[R]:
        """From the provider's values, of whatever type they are."""
        by_name = links if isinstance(links, dict) else None
        following = by_name.get("next") if by_name else None
        total = whole_number(total_entries)
        return cls(
            records=records,
            total=total,
            next=following if isinstance(following, str) and following else None,
            announces=by_name is not None or total is not None,
        )


@dataclass(frozen=True, slots=True)
class Pages(Generic[R]):
    """A list of at most `most` pages."""

    provider: str
    # The list's own address, without a query.
    url: str
    # Gets the page of a query.
    ask: Callable[[Query], Page[R]]
    # The query for a page by its number, from 1.
    numbered: Callable[[int], Query]
    most: int
    # Called before each page but the first; raises RetryLater.
    limiter: Callable[[], None] = lambda: None

    def all(self) -> Mapping[str, R]:
        """All records, by id, in their order. Raises RetryLater if the pages do not add up, even read again."""
        for _ in range(2):  # a record that is removed while we turn the pages makes them miss one
            listing = self.once()
            if listing.complete:
                return listing.records
        raise not_adding_up(self.provider)

    def once(self) -> Listing[R]:
        """The whole list, read once; it may not be complete. Raises DocumentRefused if it has too many pages."""
        *_, listing = self._growing()
        if not listing.ended:
            raise too_long(self.provider, self.most)
        return listing

    def until(self, enough: Callable[[Mapping[str, R]], bool]) -> Mapping[str, R]:
        """The records of the first pages, until there are enough, or `most` pages were read."""
        records: Mapping[str, R] = {}
        for listing in self._growing():
            records = listing.records
            if enough(records):
                break
        return records

    def page(self, number: int, query: Query) -> Page[R]:
        """The page of this number and query. One that is refused ends the list, since the first one was not."""
        try:
            return self.ask(query)
        except DocumentRefused:
            if number == 1:
                raise
            # Vendors may refuse a page beyond the last one as a thing that is not there.
            return Page(records=(), total=None, next=None, announces=True)

    def following(self, page: Page[R], number: int, *, seen: int, of: int | None) -> Query:
        """The query for the page after this one, which has this number; empty after the last.

        It is the link's, where that leads to this very list, else one by number. `seen` records were seen so far, of as
        many as the first page has announced.
        """
        if page.next is not None:
            return query_of(page.next, self.url) or self.numbered(number + 1)
        lacks = of is not None and seen < of
        return self.numbered(number + 1) if lacks or not page.announces else ()

    def _growing(self) -> Iterator[Listing[R]]:
        """The listing after each page, up to `most`."""
        listing, query = Listing[R](), self.numbered(1)
        for number in range(1, self.most + 1):
            if number > 1:
                self.limiter()
            page = self.page(number, query)
            brought_new = listing.add(page)
            if len(listing.records) > MOST_RECORDS:
                raise too_many(self.provider)
            query = self.following(page, number, seen=len(listing.records), of=listing.total)
            listing.ended = not (brought_new and query)
            yield listing
            if listing.ended:
                return


class Listing(Generic[R]):
    """The pages read so far. The first page's total counts: records that are added later may be missing."""

    def __init__(self) -> None:
        self.records: dict[str, R] = {}
        self.ended = False
        self.total: int | None = None
        self._pages = 0
        self._more = False

    def add(self, page: Page[R]) -> bool:
        """Add a page; False if it brought nothing new."""
        if not self._pages:
            self.total = page.total
        self._pages += 1
        self._more = page.next is not None
        before = len(self.records)
        self.records |= {record.id: record for record in page.records}
        return len(self.records) > before

    @property
    def complete(self) -> bool:
        return len(self.records) >= self.total if self.total is not None else not self._more


def not_adding_up(provider: str, *, lasting: bool = False) -> RetryLater:
    """The error for a list that shows fewer records than it announces, or others on each page."""
    return RetryLater(f"{provider}'s list of a patient's records does not add up.", lasting=lasting)


def too_long(provider: str, pages: int) -> DocumentRefused:
    return DocumentRefused(
        Code.GAVE_UP,
        f"{provider} lists more than {pages:_} pages of records for this patient, and so many are not read.",
        hint="Put the document into the chart by hand.",
    )


def too_many(provider: str) -> DocumentRefused:
    return DocumentRefused(
        Code.GAVE_UP,
        f"{provider} lists more than {MOST_RECORDS:_} records for this patient, and so many are not read.",
        hint="Put the document into the chart by hand.",
    )


def query_of(link: str, url: str) -> Query:
    """The query of a link that leads to the list at `url`; empty for any other link.

    PracSuite's own examples differ in the path (https://docs.api.pracsuite.com): such a link is not followed.
    """
    try:
        there, here = httpx.URL(link), httpx.URL(url)
        same = there.copy_with(query=None, fragment=None) == here
        return parse_qsl(there.query.decode("ascii")) if same else ()
    except (httpx.InvalidURL, ValueError):
        return ()


def own_link(links: object, base_url: str, constructed: str) -> str:
    """A record's address by its own `self` link, where that leads to this API; else the constructed one."""
    link = links.get("self") if isinstance(links, dict) else None
    return link if isinstance(link, str) and link.startswith(base_url + "/") else constructed
