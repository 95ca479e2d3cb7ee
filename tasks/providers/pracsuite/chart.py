"""PracSuite's records for people: a patient's list, single records and their files.

Vendor pages: https://docs.api.pracsuite.com/openapi/patient-attachment. They have no list of all patients' records,
and nothing that archives, renames or deletes one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from tasks.http.api import ApiClient, not_understood
from tasks.http.json_values import whole_number
from tasks.providers.base import ChartRecord, GivenFile, RecordQuery
from tasks.providers.media_types import BY_ENDING
from tasks.providers.pracsuite.answers import NAME, Attachment
from tasks.providers.pracsuite.lists import PAGE_SIZE, Attachments
from tasks.providers.records import check_query, check_size, listed, patiently, receive, text


class Chart:
    """All charts of one clinic."""

    def __init__(
        self, attachments: Attachments, storage: ApiClient, hosts: Sequence[str], list_limiter: Callable[[], None]
    ) -> None:
        self._attachments = attachments
        self._storage = storage
        self._hosts = hosts
        self._list_limiter = list_limiter

    def check_query(self, query: RecordQuery) -> None:
        check_query(query, NAME, most_per_page=PAGE_SIZE)

    def records(self, query: RecordQuery) -> Iterator[ChartRecord]:
        """In PracSuite's order. With `whole` each record's file name is asked for, unless it is known."""
        size = query.per_page or PAGE_SIZE
        pages = self._attachments.pages(query.patient_id or "", limiter=self._list_limiter, page_size=size)
        for attachment in listed(pages, query):
            yield self._shown(attachment, self._name(attachment, query))

    def record(self, record_id: str) -> ChartRecord:
        attachment = self._attachments.read(record_id)
        return self._shown(attachment, text(attachment.file_name) or self._attachments.name_of(attachment.id))

    def download(self, record_id: str, take: Callable[[bytes], object], *, most_bytes: int) -> GivenFile:
        size = self._attachments.read(record_id).size
        check_size(size, most_bytes)
        address = text(self._attachments.download(record_id).url)
        if address is None:
            raise not_understood(NAME, "no address for a record's file")
        return receive(self._storage, address, take, hosts=self._hosts, most_bytes=most_bytes, size=size)

    def _name(self, attachment: Attachment, query: RecordQuery) -> str | None:
        known = text(attachment.file_name) or self._attachments.known_name(attachment.id)
        if known is not None or not query.whole:
            return known
        # As further pages of a list: documents that are being sent keep their share of the limit.
        patiently(self._list_limiter, query.wait)
        return patiently(lambda: self._attachments.name_of(attachment.id), query.wait)

    def _shown(self, attachment: Attachment, name: str | None) -> ChartRecord:
        return ChartRecord(
            id=attachment.id,
            file_name=name or None,
            description=text(attachment.description),
            content_type=_media_type(attachment.file_type),
            size_bytes=attachment.size,
            created_at=text(attachment.file_date),
            processed=True,  # there is no record before (https://docs.api.pracsuite.com/guides/uploading-attachments)
            url=self._attachments.reference(attachment).url,
            patient_id=_id(attachment.client_id),
            user_id=_id(attachment.user_id),
            content_url=self._attachments.content_address(attachment),
        )


def _media_type(file_type: object) -> str | None:
    """The reference does not say whether it is an ending or a media type."""
    said = (text(file_type) or "").lower()
    return said if "/" in said else BY_ENDING.get(said.removeprefix("."))


def _id(value: object) -> str | None:
    """A number or text."""
    number = whole_number(value)
    return text(value) if number is None else str(number)
