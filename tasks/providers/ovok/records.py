"""Ovok's documents for people: the account's list, single ones, their files, new names, and deleting.

Vendor pages: https://docs.ovok.com/dev/api/high-level/document (search-files, get-file-url, update-document-metadata,
delete-document). The list does not tell whose a document is, and no call shows one alone: its name is searched for in
the list. The publicToken in Ovok's answers lets anyone read the file; it is not read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Annotated, Any

from pydantic import BaseModel, FailFast

from tasks.http.api import ApiClient, not_understood, parse_answer
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, invalid_request
from tasks.model.names import check_file_name, upload_name
from tasks.providers.auth.bearer import BearerApi
from tasks.providers.base import ChartRecord, GivenFile, RecordQuery
from tasks.providers.ovok.answers import NAME, READ_STATUSES, REPLACE_STATUSES, Entry
from tasks.providers.ovok.file import FIRST_BYTE, File, file_in
from tasks.providers.pages import Page, Pages, Query
from tasks.providers.records import address_in, check_query, check_size, listed, receive, text

_DOCUMENT = "document"
_PAGE_SIZE = 100
_MAX_PAGES = 1000
_LATEST_FIRST = "-_lastUpdated"
_ORDERS = (_LATEST_FIRST, "_lastUpdated")
# To show one document, its name is searched for among so many that were changed last.
_SEARCHED = 2000


class Chart:
    """The documents of one login."""

    def __init__(
        self, api: BearerApi, storage: ApiClient, hosts: Sequence[str], list_limiter: Callable[[], None]
    ) -> None:
        self._api = api
        self._storage = storage
        self._hosts = hosts
        self._list_limiter = list_limiter

    def check_query(self, query: RecordQuery) -> None:
        check_query(query, NAME, one_patient=False, all_patients=True, sort=True, most_per_page=_PAGE_SIZE)
        if query.sort not in (None, *_ORDERS):
            raise invalid_request(f"Ovok sorts documents by {' or '.join(_ORDERS)} alone.", "Write one of them.")

    def records(self, query: RecordQuery) -> Iterator[ChartRecord]:
        """The last changed first, unless it says otherwise."""
        for entry in listed(self._pages(query.sort or _LATEST_FIRST, query.per_page or _PAGE_SIZE), query):
            yield self._shown(entry)

    def record(self, record_id: str) -> ChartRecord:
        address = self._address(record_id)
        file: File | None = None
        known = False
        with suppress(AccountBlocked):  # a storage that may not be asked leaves the size unknown
            file, known = self._file_at(address), True
        latest = islice(listed(self._pages(_LATEST_FIRST, _PAGE_SIZE), RecordQuery()), _SEARCHED)
        entry = next((each for each in latest if each.id == record_id), _Listed(id=record_id))
        return self._shown(entry, size_bytes=file.size if file else None, processed=file is not None if known else None)

    def download(self, record_id: str, take: Callable[[bytes], object], *, most_bytes: int) -> GivenFile:
        address = self._address(record_id)
        file = self._file_at(address)
        if file is None:
            raise DocumentRefused(
                Code.REFUSED_BY_PROVIDER, "This Ovok document has no file yet.", hint="Repeat it when one was uploaded."
            )
        check_size(file.size, most_bytes)
        return receive(self._storage, address, take, hosts=self._hosts, most_bytes=most_bytes, size=file.size)

    def delete(self, record_id: str) -> None:
        """For good: the document and its file. Raises DocumentRefused if there is none."""
        answer = self._api.send(lambda api: api.call("DELETE", _DOCUMENT, record_id))
        if answer.status == 404:
            raise _no_such_record()
        READ_STATUSES.success(answer)

    def rename(self, record_id: str, file_name: str) -> ChartRecord:
        """Raises DocumentRefused if there is none, or the name will not do. Neither file nor isPublic is changed."""
        check_file_name(file_name)
        wanted = {"fileName": upload_name(file_name)}
        answer = self._api.send(lambda api: api.call("PATCH", _DOCUMENT, record_id, json=dict(wanted)))
        if answer.status == 404:
            raise _no_such_record()
        return self._shown(parse_answer(REPLACE_STATUSES.success(answer), _Listed, NAME))

    def _pages(self, sort: str, count: int) -> Pages[_Listed]:
        def ask(query: Query) -> Page[_Listed]:
            answer = self._api.send(lambda api: api.call("GET", _DOCUMENT, params=query))
            page = parse_answer(READ_STATUSES.success(answer), _ListedPage, NAME)
            return Page.of(page.resources, page.total, None)

        def numbered(page: int) -> Query:
            return (("_sort", sort), ("_count", str(count)), ("_offset", str((page - 1) * count)))

        return Pages(NAME, self._api.url(_DOCUMENT), ask, numbered, _MAX_PAGES, self._list_limiter)

    def _address(self, record_id: str) -> str:
        """Where the document's file lies, for some minutes. Raises DocumentRefused if there is no such document."""
        answer = self._api.send(lambda api: api.call("GET", _DOCUMENT, record_id))
        if answer.status == 404:
            raise _no_such_record()
        address = address_in(answer, NAME)
        if address is None:
            READ_STATUSES.success(answer)
            raise not_understood(NAME, "no address for a document's file")
        return address

    def _file_at(self, address: str) -> File | None:
        return file_in(self._storage.fetch(address, hosts=self._hosts, headers=FIRST_BYTE))

    def _shown(self, entry: _Listed, *, size_bytes: int | None = None, processed: bool | None = None) -> ChartRecord:
        url = self._api.url(_DOCUMENT, entry.id)
        return ChartRecord(
            id=entry.id,
            file_name=text(entry.fileName),
            content_type=text(entry.contentType),
            size_bytes=size_bytes,
            processed=processed,
            url=url,
            updated_at=entry.changed,
            user_id=entry.author_id,
            content_url=url,
        )


class _Listed(Entry):
    author: Any = None

    @property
    def changed(self) -> str | None:
        """The vendor's schema has it in `meta`, its example beside it."""
        inside = self.meta.get("lastUpdated") if isinstance(self.meta, Mapping) else None
        return text(inside) or text(self.lastUpdated)

    @property
    def author_id(self) -> str | None:
        """Such as `Practitioner/de5c57ff-…`; the name beside it is not shown."""
        return text(self.author.get("reference")) if isinstance(self.author, Mapping) else None


class _ListedPage(BaseModel):
    # Not every fault of every entry: each costs more memory than the entry.
    resources: Annotated[list[_Listed], FailFast()]
    total: Any = None


def _no_such_record() -> DocumentRefused:
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        "Ovok knows no such document.",
        hint="Check the id: it is the one in the document's receipt; and whether this account may see it.",
    )
