"""What providers share that list a chart's records for people, and give out their files.

A list is read page by page and given on as it comes. It may be as long as a chart: only the ids of its records are
kept, so that none is shown twice when the list moves while its pages are turned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from tasks.http.api import ApiClient, not_understood
from tasks.http.exchange import Answer, TooManyBytes
from tasks.http.s3_headers import bare_etag, has_request_id, is_storages_etag
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, RetryLater, invalid_request
from tasks.providers.base import GivenFile, RecordQuery
from tasks.providers.pages import MOST_RECORDS, Page, Pages, Query, R

T = TypeVar("T")

_LONGEST_WAIT_SECONDS = 120.0
_REDIRECTS = (302, 303, 307)


# --- lists -----------------------------------------------------------------------------------------------------------


def check_query(
    query: RecordQuery,
    provider: str,
    *,
    one_patient: bool = True,
    all_patients: bool = False,
    cases: bool = False,
    filters: bool = False,
    sort: bool = False,
    archived: bool = False,
    most_per_page: int,
) -> None:
    """Raises DocumentRefused (`invalid_request`) for what this provider's lists cannot be asked for."""
    if query.patient_id is None and not all_patients:
        raise invalid_request(f"{provider} lists the records of one patient only.", "Name the patient.")
    if query.patient_id is not None and not one_patient:
        raise invalid_request(
            f"{provider}'s list does not tell one patient's records from another's.", "Ask for all of the account's."
        )
    asked = {
        "cases": (query.case_id is not None, cases),
        "filters": (bool(query.filters), filters),
        "another order": (query.sort is not None, sort),
        "archived records": (query.archived, archived),
    }
    for what, (wanted, able) in asked.items():
        if wanted and not able:
            raise invalid_request(f"{provider}'s lists of records know no {what}.", "Leave that out.")
    if query.case_id is not None and query.patient_id is None:
        raise invalid_request("A case is one patient's.", "Name the patient too.")
    if query.per_page is not None and query.per_page > most_per_page:
        raise invalid_request(f"{provider} shows at most {most_per_page} records on a page.", "Ask for fewer.")


def listed(pages: Pages[R], query: RecordQuery) -> Iterator[R]:
    """The records of a list while its pages are read, or those of the one page that the query names.

    Raises RetryLater at its end if it has shown fewer than it announced, and DocumentRefused if it is too long.
    """
    if query.page is not None:
        asked = pages.numbered(query.page)
        yield from patiently(lambda: pages.ask(asked), query.wait).records
        return

    def turned_to(number: int, asked: Query) -> Page[R]:
        if number > 1:
            patiently(pages.limiter, query.wait)
        return patiently(lambda: pages.page(number, asked), query.wait)

    seen: set[str] = set()
    announced: int | None = None
    number, asked = 1, pages.numbered(1)
    while asked:
        page = turned_to(number, asked)
        announced = page.total if number == 1 else announced
        fresh = {record.id: record for record in page.records if record.id not in seen}
        seen |= fresh.keys()
        if len(seen) > MOST_RECORDS or number > pages.most:
            raise _too_long(pages.provider)
        yield from fresh.values()
        asked = pages.following(page, number, seen=len(seen), of=announced) if fresh else ()
        number += 1
    if announced is not None and len(seen) < announced:
        raise RetryLater(f"{pages.provider} has shown fewer records than it announced: repeat the command.")


def patiently(ask: Callable[[], T], wait: Callable[[float], object]) -> T:
    """What `ask` returns. Waits while calls are to be made later, such as while the account's own limit is used up.

    Raises RetryLater if that is in more than two minutes, or nobody knows when.
    """
    left = _LONGEST_WAIT_SECONDS
    while True:
        try:
            return ask()
        except RetryLater as error:
            seconds = error.after_seconds
            if error.unreachable or seconds is None or seconds > left:
                raise
        left -= max(seconds, 1.0)
        wait(seconds)


def _too_long(provider: str) -> DocumentRefused:
    return DocumentRefused(
        Code.GAVE_UP,
        f"{provider} lists more than {MOST_RECORDS:_} records, and no more are read at once.",
        hint="Ask for a part of them, by a filter or by pages.",
    )


# --- files -----------------------------------------------------------------------------------------------------------


def text(value: object) -> str | None:
    """A provider's value, if it is text."""
    return value if isinstance(value, str) and value else None


def address_in(answer: Answer, provider: str) -> str | None:
    """Where the answer redirects to; None if it is no redirect. It is never followed with the keys."""
    if answer.status not in _REDIRECTS:
        return None
    address = answer.headers.get("location")
    if not address:
        raise not_understood(provider, "a redirect that leads nowhere")
    return address


def check_size(size: int | None, most_bytes: int) -> None:
    """Raises DocumentRefused for a file that is known to be too large, before anything of it is read."""
    if size is not None and size > most_bytes:
        raise _too_large(most_bytes, f"The file has {size} bytes")


def receive(
    storage: ApiClient,
    address: str,
    take: Callable[[bytes], object],
    *,
    hosts: Sequence[str],
    most_bytes: int,
    size: int | None,
) -> GivenFile:
    """Give the file at a signed address to `take`, without the account's keys. `size`: as the record has it, if known.

    Raises DocumentRefused for too many bytes and for another size, RetryLater while storage is not well or the file
    broke off, AccountBlocked for a host that is not allowed and for an answer that is not storage's.
    """
    received = 0

    def count(block: bytes) -> None:
        nonlocal received
        received += len(block)
        take(block)

    try:
        answer = storage.receive(
            address,
            hosts=hosts,
            take=count,
            most_bytes=most_bytes,
            expected_bytes=most_bytes if size is None else size,
        )
    except TooManyBytes:
        raise _too_large(most_bytes, f"The file has more than {most_bytes} bytes") from None
    if answer.lost:
        raise RetryLater("The file broke off, or came too slowly.", unreachable=True)
    if answer.status >= 500 or answer.status == 429:
        raise RetryLater(f"The storage answered {answer.status}.", unreachable=answer.status >= 500)
    etag = answer.headers.get("etag", "")
    known = size is not None or has_request_id(answer.headers) or is_storages_etag(etag)
    if answer.status != 200 or not known:
        raise AccountBlocked(
            f"The storage answered {answer.status} when the file was asked for, which is not understood: check whether "
            "something stands between chartpost and the storage.",
            never_the_document=True,
        )
    if size is not None and received != size:
        raise DocumentRefused(
            Code.REFUSED_BY_STORAGE,
            f"What came has {received} bytes, and the record says {size}.",
            hint="Repeat the command; if it stays so, look at the record in the chart.",
        )
    return GivenFile(received, bare_etag(etag) or None)


def _too_large(most_bytes: int, what: str) -> DocumentRefused:
    return DocumentRefused(
        Code.FILE_TOO_LARGE,
        f"{what}; at most {most_bytes} are downloaded.",
        hint="Allow more with --max-bytes, if there is room for it.",
    )
