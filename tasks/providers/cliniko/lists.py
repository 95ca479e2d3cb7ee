"""Cliniko's lists of records: their pages, their filters and their order.

Vendor pages: https://docs.api.cliniko.com/developer-portal (Filtering Results, Ordering, Pagination) and the reference
https://docs.api.cliniko.com/openapi/reference/tag/Patient-Attachment/. The vendor does not say how it answers a filter
that makes no sense. If it ignored one, a list of few records would become a list of all. So each is checked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from enum import Enum

from tasks.http.api import ApiClient, parse_answer
from tasks.model.errors import DocumentRefused, invalid_request
from tasks.model.job import Record
from tasks.providers.cliniko.answers import (
    ACCOUNT_STATUSES,
    NAME,
    PATIENT_STATUSES,
    Attachment,
    AttachmentList,
)
from tasks.providers.pages import Page, Pages, Query, own_link

ATTACHMENTS = "patient_attachments"
# Lists leave archived records out unless they are asked for (https://docs.api.cliniko.com/developer-portal).
ARCHIVED_TOO = ("q[]", "archived_at:*")
PAGE_SIZE = 100
_MAX_PAGES = 1000


class Attachments:
    """The records of one account, as its API lists and shows them."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def pages(
        self,
        path: Sequence[str],
        filters: Query,
        sort: str,
        *,
        most: int = _MAX_PAGES,
        per_page: int = PAGE_SIZE,
        limiter: Callable[[], None] = lambda: None,
    ) -> Pages[Attachment]:
        """The list at this path. One without a patient in its path is the whole account's."""
        statuses = ACCOUNT_STATUSES if len(path) == 1 else PATIENT_STATUSES

        def ask(query: Query) -> Page[Attachment]:
            answer = self._api.call("GET", *path, params=query)
            listed = parse_answer(statuses.success(answer), AttachmentList, NAME)
            return Page.of(listed.patient_attachments, listed.total_entries, listed.links)

        def numbered(page: int) -> Query:
            return [*filters, ("sort", sort), ("page", str(page)), ("per_page", str(per_page))]

        return Pages(NAME, self._api.url(*path), ask, numbered, most, limiter)

    def read(self, record_id: str, *, archived_too: bool) -> Attachment | None:
        params = [ARCHIVED_TOO] if archived_too else []
        answer = self._api.call("GET", ATTACHMENTS, record_id, params=params)
        if answer.status == 404:
            return None
        return parse_answer(ACCOUNT_STATUSES.success(answer), Attachment, NAME)

    def reference(self, attachment: Attachment) -> Record:
        constructed = self._api.url(ATTACHMENTS, attachment.id)
        return Record(attachment.id, own_link(attachment.links, self._api.base_url, constructed))


# --- filters and order -----------------------------------------------------------------------------------------------


class _Kind(Enum):
    """What a field holds: its operators, and what a value of it looks like."""

    TIME = (">=", ">", "<=", "<", "?", "!?", "*")
    NUMBER = ("=", "!=", ">=", ">", "<=", "<", "?", "!?")
    TEXT = ("=", "!=", "~", "~~", "?", "!?")


_WITHOUT_VALUE = ("?", "!?", "*")
_VALUES = {
    _Kind.TIME: (
        re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII),
        "a time in UTC, such as 2026-11-21T18:00:00Z",
    ),
    _Kind.NUMBER: (re.compile(r"-?\d{1,30}(,-?\d{1,30})*", re.ASCII), "a whole number"),
    _Kind.TEXT: (re.compile(r".+", re.DOTALL), "some text"),
}
_FIELDS = {
    "archived_at": _Kind.TIME,
    "content_type": _Kind.TEXT,
    "created_at": _Kind.TIME,
    "description": _Kind.TEXT,
    "filename": _Kind.TEXT,
    "id": _Kind.NUMBER,
    "patient_id": _Kind.NUMBER,
    "processed_at": _Kind.TIME,
    "size": _Kind.NUMBER,
    "updated_at": _Kind.TIME,
    "user_id": _Kind.NUMBER,
}
_EXAMPLE = "Write it as Cliniko does, such as created_at:>=2026-11-21T00:00:00Z."


def as_filter(moment: datetime) -> str:
    """A time as Cliniko's filters take it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def field_of(written: str) -> str:
    """The field that a filter is about."""
    return written.partition(":")[0]


def check_filter(written: str) -> None:
    """A filter must be `field:<operator><value>`. Raises DocumentRefused, whose sentence does not repeat the value."""
    field, _, test = written.partition(":")
    kind = _FIELDS.get(field)
    if kind is None:
        raise _not_one(f"Cliniko filters records by {', '.join(_FIELDS)} alone.")
    # The longest first: ">=" begins with ">".
    sign = next((sign for sign in sorted(kind.value, key=len, reverse=True) if test.startswith(sign)), None)
    if sign is None:
        raise _not_one(f"A filter by {field} has one of the operators {' '.join(kind.value)} after the colon.")
    value = test.removeprefix(sign)
    pattern, form = _VALUES[kind]
    if sign in _WITHOUT_VALUE:
        if value:
            raise _not_one(f"The operator {sign} of a filter takes no value.")
    elif not pattern.fullmatch(value):
        raise _not_one(f"A filter by {field} with the operator {sign} needs {form}.")


def check_sort(written: str) -> None:
    """An order must be `column[:asc|:desc],…`. Raises DocumentRefused."""
    for each in written.split(","):
        field, colon, direction = each.partition(":")
        if field not in _FIELDS or (colon and direction not in ("asc", "desc")):
            raise invalid_request(
                f"Cliniko sorts records by {', '.join(_FIELDS)}, each with :asc, :desc or neither, and commas between.",
                "Write it as Cliniko does, such as created_at:desc.",
            )


def _not_one(message: str) -> DocumentRefused:
    return invalid_request(message, _EXAMPLE)
