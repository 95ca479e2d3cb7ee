"""Cliniko's records for people: lists, single records, their files, and archiving.

Vendor page: https://docs.api.cliniko.com/openapi/reference/tag/Patient-Attachment/. A record's file lies behind
`content.links.self`, which needs the key, and redirects to storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import unquote

from tasks.http.api import ApiClient, not_understood
from tasks.http.json_values import whole_number
from tasks.model.errors import Code, DocumentRefused
from tasks.providers.base import ChartRecord, GivenFile, RecordQuery
from tasks.providers.cliniko.answers import ACCOUNT_STATUSES, NAME, Attachment, no_such_record
from tasks.providers.cliniko.lists import (
    ARCHIVED_TOO,
    ATTACHMENTS,
    PAGE_SIZE,
    Attachments,
    check_filter,
    check_sort,
    field_of,
)
from tasks.providers.records import address_in, check_query, check_size, listed, receive, text

_USUAL_ORDER = "created_at:asc"
_ARCHIVED_AT = "archived_at"
# The wildcard lets archived records in, and the second filter leaves the others out.
_ARCHIVED_ONLY = [ARCHIVED_TOO, ("q[]", "archived_at:?")]


class Chart:
    """All charts of one account."""

    def __init__(
        self,
        api: ApiClient,
        attachments: Attachments,
        storage: ApiClient,
        hosts: Sequence[str],
        list_limiter: Callable[[], None],
    ) -> None:
        self._api = api
        self._attachments = attachments
        self._storage = storage
        self._hosts = hosts
        self._list_limiter = list_limiter

    def check_query(self, query: RecordQuery) -> None:
        check_query(
            query,
            NAME,
            all_patients=True,
            cases=True,
            filters=True,
            sort=True,
            archived=True,
            most_per_page=PAGE_SIZE,
        )
        for each in query.filters:
            check_filter(each)
        if query.sort is not None:
            check_sort(query.sort)

    def records(self, query: RecordQuery) -> Iterator[ChartRecord]:
        """Oldest first, unless it says otherwise."""
        filters = [("q[]", each) for each in query.filters]
        if query.archived:
            filters += _ARCHIVED_ONLY
        path = [ATTACHMENTS]
        if query.case_id is not None:
            path = ["patient_cases", query.case_id, ATTACHMENTS]
            filters.append(("q[]", f"patient_id:={query.patient_id}"))
        elif query.patient_id is not None:
            path = ["patients", query.patient_id, ATTACHMENTS]
        pages = self._attachments.pages(
            path,
            filters,
            query.sort or _USUAL_ORDER,
            per_page=query.per_page or PAGE_SIZE,
            limiter=self._list_limiter,
        )
        # Lists hold no archived records unless a filter is about archiving. Then only the record itself can tell.
        archived = None if any(field_of(each) == _ARCHIVED_AT for each in query.filters) else query.archived
        for attachment in listed(pages, query):
            yield self._shown(attachment, archived=archived)

    def record(self, record_id: str) -> ChartRecord:
        """One record, archived or not. Raises DocumentRefused."""
        # Whether it is archived is known only from which of the two requests finds it.
        for archived in (False, True):
            if attachment := self._attachments.read(record_id, archived_too=archived):
                return self._shown(attachment, archived=archived)
        raise no_such_record()

    def download(self, record_id: str, take: Callable[[bytes], object], *, most_bytes: int) -> GivenFile:
        attachment = self._attachments.read(record_id, archived_too=True)
        if attachment is None:
            raise no_such_record()
        if not attachment.processing_completed:
            raise _no_file("Cliniko has not processed this record yet, so it has no file.")
        size = whole_number(attachment.size)
        check_size(size, most_bytes)
        answer = self._api.call("GET", ATTACHMENTS, record_id, "content")
        address = address_in(answer, NAME)
        if address is None:
            if answer.status == 404:
                raise _no_file("Cliniko gives out no file of this record.")
            ACCOUNT_STATUSES.success(answer)
            raise not_understood(NAME, "no address for a record's file")
        return receive(self._storage, address, take, hosts=self._hosts, most_bytes=most_bytes, size=size)

    def archive(self, record_id: str) -> None:
        """Hide a record from the chart (`POST …/archive`; `DELETE` is deprecated). Raises DocumentRefused."""
        answer = self._api.call("POST", ATTACHMENTS, record_id, "archive")
        if answer.status == 404:
            if self._attachments.read(record_id, archived_too=True) is None:
                raise no_such_record()
            return  # archived already
        ACCOUNT_STATUSES.success(answer)

    def _shown(self, attachment: Attachment, *, archived: bool | None) -> ChartRecord:
        if archived is None and attachment.archived_at:
            archived = True
        return ChartRecord(
            id=attachment.id,
            file_name=text(attachment.filename),
            description=text(attachment.description),
            content_type=text(attachment.content_type),
            size_bytes=whole_number(attachment.size),
            created_at=text(attachment.created_at),
            processed_at=text(attachment.processed_at),
            processed=bool(attachment.processing_completed),
            archived=archived,
            url=self._attachments.reference(attachment).url,
            updated_at=text(attachment.updated_at),
            pinned_at=text(attachment.pinned_at),
            patient_id=self._id_in(attachment.patient, "patients"),
            user_id=self._id_in(attachment.user, "users"),
            content_url=self._address_with_login(attachment.content),
        )

    def _id_in(self, linked: object, collection: str) -> str | None:
        """The id at the end of a link such as `…/patients/123`."""
        base = f"{self._api.url(collection)}/"
        link = _link_of(linked)
        return unquote(link.removeprefix(base)) or None if link and link.startswith(base) else None

    def _address_with_login(self, linked: object) -> str | None:
        """A link that is of no use without the key. One with a query may be signed, and is not shown."""
        link = _link_of(linked)
        return link if link and link.startswith(f"{self._api.base_url}/") and "?" not in link else None


def _link_of(linked: object) -> str | None:
    """`{"links": {"self": …}}`, in which anything may be missing."""
    links = linked.get("links") if isinstance(linked, Mapping) else None
    return text(links.get("self")) if isinstance(links, Mapping) else None


def _no_file(message: str) -> DocumentRefused:
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER, message, hint="Look at the record with `chartpost records show`; repeat it later."
    )
