"""PracSuite's records as its API lists and shows them, and the names of their files.

Vendor pages: https://docs.api.pracsuite.com/openapi/patient-attachment.
"""

from __future__ import annotations

from collections.abc import Callable

from tasks.http.api import ApiClient, parse_answer
from tasks.model.errors import DocumentRefused
from tasks.model.job import Record
from tasks.providers.connection import Cache
from tasks.providers.pages import Page, Pages, Query, own_link
from tasks.providers.pracsuite.answers import (
    NAME,
    RECORD_STATUSES,
    STATUSES,
    Attachment,
    AttachmentPage,
    Download,
    attachments_in,
)

ATTACHMENTS = "patient_attachment"
PAGE_SIZE = 100
_MAX_PAGES = 1000
_NAME_SECONDS = 86_400.0


class Attachments:
    """The records of one account. `scope` tells it from others in the cache."""

    def __init__(self, api: ApiClient, cache: Cache, scope: str) -> None:
        self._api = api
        self._cache = cache
        self._topic = f"names {scope}"

    def pages(self, patient: str, *, limiter: Callable[[], None], page_size: int = PAGE_SIZE) -> Pages[Attachment]:
        """A patient's list."""

        def ask(query: Query) -> Page[Attachment]:
            answer = self._api.call("GET", "patient", patient, ATTACHMENTS, params=query)
            listed = parse_answer(STATUSES.success(answer), AttachmentPage, NAME)
            return Page.of(attachments_in(listed.model_extra or {}), listed.total_entries, listed.links)

        def numbered(page: int) -> Query:
            return (("page", str(page)), ("page_size", str(page_size)))

        return Pages(NAME, self._api.url("patient", patient, ATTACHMENTS), ask, numbered, _MAX_PAGES, limiter)

    def read(self, record_id: str) -> Attachment:
        """One record. Raises DocumentRefused if there is none."""
        answer = self._api.call("GET", ATTACHMENTS, record_id)
        return parse_answer(RECORD_STATUSES.success(answer), Attachment, NAME)

    def download(self, record_id: str) -> Download:
        """Where a record's file lies, and its name. Raises DocumentRefused if there is no record, or no file of it.

        A record itself holds no file name. Its download does:
        https://docs.api.pracsuite.com/openapi/patient-attachment/getpatientattachmentpresignurl.md
        """
        answer = self._api.call("GET", ATTACHMENTS, record_id, "presign_url")
        return parse_answer(RECORD_STATUSES.success(answer), Download, NAME)

    def known_name(self, record_id: str) -> str | None:
        """The file name behind a record, if it was asked for within a day."""
        return self._cache.get(self._topic, record_id)

    def name_of(self, record_id: str) -> str:
        """The file name behind a record, asked for once and remembered; empty if it has none."""
        known = self.known_name(record_id)
        if known is not None:
            return known
        try:
            name = self.download(record_id).file_name or ""
        except DocumentRefused:
            return ""  # removed meanwhile, or without a file
        self._cache.put(self._topic, record_id, name, _NAME_SECONDS)
        return name

    def reference(self, attachment: Attachment) -> Record:
        constructed = self._api.url(ATTACHMENTS, attachment.id)
        return Record(attachment.id, own_link(attachment.links, self._api.base_url, constructed))

    def content_address(self, attachment: Attachment) -> str:
        """Where the API gives the file out to whoever has the keys."""
        return self._api.url(ATTACHMENTS, attachment.id, "content")
