"""A FHIR server's documents for people: lists, single ones, and their files.

https://hl7.org/fhir/R4/search.html, and https://hl7.org/fhir/R4/http.html#paging: a page names the next one by an
address of the server's own making, which a client must not make up. It is followed only below the account's base_url.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, unquote

import httpx
from pydantic import BaseModel

from config.accounts import FhirAccount
from tasks.http.api import ApiClient, not_understood, parse_answer
from tasks.http.exchange import Answer, TooManyBytes
from tasks.model.document import Document
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, invalid_request
from tasks.providers.base import ChartRecord, GivenFile, RecordQuery
from tasks.providers.fhir import words_of
from tasks.providers.fhir_server.access import Api
from tasks.providers.fhir_server.answers import ACCEPT, NAME, READ_STATUSES
from tasks.providers.fhir_server.patients import Patients
from tasks.providers.fhir_server.reading_back import DocumentReference, path_on
from tasks.providers.pages import MOST_RECORDS
from tasks.providers.records import check_query, check_size, patiently, receive, text

_ACCEPT = {"Accept": ACCEPT}
_PER_PAGE, _MOST_PER_PAGE = 50, 100
_MOST_PAGES = 5000
# A page without the documents' bytes, where the server knows summaries (Attachment.data is in none).
_SUMMARY = ("_summary", "true")


class _Target(NamedTuple):
    """Where a page of a list is."""

    segments: Sequence[str]
    params: Sequence[tuple[str, str]]


class Chart:
    """The documents of one account's server."""

    def __init__(
        self,
        account: FhirAccount,
        api: Api,
        open_api: ApiClient,
        patients: Patients,
        list_limiter: Callable[[], None],
    ) -> None:
        self._account = account
        self._api = api
        self._open_api = open_api
        self._patients = patients
        self._list_limiter = list_limiter

    def check_query(self, query: RecordQuery) -> None:
        check_query(query, NAME, all_patients=True, filters=True, sort=True, most_per_page=_MOST_PER_PAGE)
        if query.page not in (None, 1):
            raise invalid_request(f"{NAME}'s pages have no numbers: only the first can be asked for.", "Leave it out.")
        for each in query.filters:
            name, _, value = each.partition("=")
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9.:_-]*", name) or not value:
                raise invalid_request(
                    "A filter is a search parameter and its value, as in date=ge2026-01-01.", "Write it so."
                )
        if query.patient_id is not None:
            self._patients.check(_document_for(query.patient_id))

    def records(self, query: RecordQuery) -> Iterator[ChartRecord]:
        """In the server's order, unless the query says otherwise."""
        target = _Target(["DocumentReference"], self._params(query))
        seen: set[str] = set()
        for number in range(1, _MOST_PAGES + 1):
            if number > 1:
                patiently(self._list_limiter, query.wait)
            bundle = patiently(partial(self._page, *target), query.wait)
            fresh = [each for each in bundle.documents if isinstance(each.id, str) and each.id not in seen]
            seen |= {str(each.id) for each in fresh}
            if len(seen) > MOST_RECORDS:
                break
            yield from map(self._shown, fresh)
            following = self._following(bundle.next) if fresh and query.page is None else None
            if following is None:
                return
            target = following
        raise DocumentRefused(
            Code.GAVE_UP,
            f"{NAME} lists more than {MOST_RECORDS:_} records, and no more are read at once.",
            hint="Ask for a part of them, by a filter.",
        )

    def record(self, record_id: str) -> ChartRecord:
        return self._shown(self._read(record_id, (_SUMMARY,)))

    def download(self, record_id: str, take: Callable[[bytes], object], *, most_bytes: int) -> GivenFile:
        """The bytes in the record, or those that its attachment's address leads to."""
        attachment = self._read(record_id).attachment
        size = attachment.size if isinstance(attachment.size, int) else None
        check_size(size, most_bytes)
        if isinstance(attachment.data, str):
            return _given(attachment.data, take, most_bytes)
        url = text(attachment.url)
        if url is None:
            raise DocumentRefused(
                Code.REFUSED_BY_PROVIDER,
                f"{NAME} gives neither the bytes of this record nor their address.",
                hint="Look at the record in the chart.",
            )
        if path := path_on(self._account.base_url, url):
            return self._binary(path, text(attachment.contentType), take, most_bytes)
        hosts = self._account.download_hosts
        return receive(self._open_api, url, take, hosts=hosts, most_bytes=most_bytes, size=size)

    # --- private -----------------------------------------------------------------------------------------------

    def _params(self, query: RecordQuery) -> Sequence[tuple[str, str]]:
        params = [_SUMMARY, ("_count", str(query.per_page or _PER_PAGE))]
        if query.patient_id is not None:
            reference = self._patients.reference(_document_for(query.patient_id))
            params.append(("patient", reference.removeprefix("Patient/")))
        for each in query.filters:
            name, _, value = each.partition("=")
            params.append((name, value))
        return [*params, *([("_sort", query.sort)] if query.sort else [])]

    def _page(self, segments: Sequence[str], params: Sequence[tuple[str, str]]) -> _Bundle:
        answer = self._api.send(lambda api: api.call("GET", *segments, params=params, headers=_ACCEPT))
        if answer.status in (400, 422):
            raise DocumentRefused(
                Code.INVALID_REQUEST,
                f"{NAME} does not take this search ({answer.status}).",
                hint="Name a patient, or correct filter and order: they are search parameters of FHIR's.",
                detail=words_of(answer),
            )
        bundle = parse_answer(READ_STATUSES.success(answer), _Bundle, NAME)
        if bundle.resourceType != "Bundle":
            raise not_understood(NAME, "no Bundle to a search")
        return bundle

    def _following(self, link: str | None) -> _Target | None:
        """Path and query of the next page; None after the last. The login goes nowhere but below base_url."""
        if link is None:
            return None
        try:
            here = httpx.URL(self._account.base_url + "/")
            there = here.join(link)
            origin = (here.scheme, here.host, here.port)
            # Not `path`, in which %2F has become a slash.
            base, path = (each.raw_path.decode("ascii").partition("?")[0] for each in (here, there))
            path += "/" * (path + "/" == base)
            if (there.scheme, there.host, there.port) != origin or not path.startswith(base) or there.userinfo:
                raise _leads_elsewhere()
            query = parse_qsl(there.query.decode("ascii"), keep_blank_values=True)
        except (httpx.InvalidURL, ValueError):
            raise _leads_elsewhere() from None
        segments = [unquote(each) for each in path.removeprefix(base).split("/") if each]
        if any(not each.strip(".") for each in segments):
            raise _leads_elsewhere()
        return _Target(segments, query)

    def _read(self, record_id: str, params: Sequence[tuple[str, str]] = ()) -> DocumentReference:
        call = ("GET", "DocumentReference", record_id)
        answer = self._api.send(lambda api: api.call(*call, params=params, headers=_ACCEPT))
        if answer.status in (404, 410):
            raise DocumentRefused(
                Code.REFUSED_BY_PROVIDER, f"{NAME} has no such record.", hint="Check the id.", detail=words_of(answer)
            )
        reference = parse_answer(READ_STATUSES.success(answer), DocumentReference, NAME)
        if reference.resourceType != "DocumentReference" or reference.id != record_id:
            raise not_understood(NAME, "something else than the DocumentReference that was asked for")
        return reference

    def _binary(
        self, path: Sequence[str], content_type: str | None, take: Callable[[bytes], object], most_bytes: int
    ) -> GivenFile:
        received = 0

        def count(block: bytes) -> None:
            nonlocal received
            received += len(block)
            take(block)

        headers = {"Accept": f"{content_type}, */*;q=0.1" if content_type and content_type.isascii() else "*/*"}

        def ask(api: ApiClient) -> Answer:
            return api.read_file(*path, take=count, most_bytes=most_bytes, headers=headers)

        try:
            answer = self._api.send(ask)
        except TooManyBytes:
            check_size(most_bytes + 1, most_bytes)
            raise
        READ_STATUSES.success(answer)
        if answer.headers.get("content-type", "").startswith("application/fhir+") and "fhir" not in (
            content_type or ""
        ):
            raise not_understood(NAME, "a Binary in FHIR's own format, where the file was asked for")
        return GivenFile(received)

    def _shown(self, reference: DocumentReference) -> ChartRecord:
        attachment = reference.attachment
        patient = text(reference.subject.reference) if reference.subject else None
        url = text(attachment.url)
        path = path_on(self._account.base_url, url) if url else ()
        return ChartRecord(
            id=str(reference.id),
            file_name=text(attachment.title),
            description=text(reference.description),
            content_type=text(attachment.contentType),
            size_bytes=attachment.size if isinstance(attachment.size, int) else None,
            created_at=text(reference.date) or text(attachment.creation),
            updated_at=text(reference.meta.lastUpdated),
            processed=True,
            archived=None if reference.status is None else reference.status != "current",
            url=self._api.url("DocumentReference", str(reference.id)),
            patient_id=patient.rpartition("/")[2] if patient else None,
            content_url=self._api.url(*path) if path else None,
        )


def _given(data: str, take: Callable[[bytes], object], most_bytes: int) -> GivenFile:
    try:
        content = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        raise not_understood(NAME, "an attachment whose data is not base64") from None
    check_size(len(content), most_bytes)
    take(content)
    return GivenFile(len(content))


def _document_for(patient_id: str) -> Document:
    """What `Patients` looks at, for somebody whose records are listed."""
    return Document("", patient_id, "", "", 0)


def _leads_elsewhere() -> AccountBlocked:
    return AccountBlocked(
        f"{NAME} names a next page that is not below base_url, where this account's login must not go: "
        "set base_url to the address by which the server knows itself.",
        never_the_document=True,
    )


class _Link(BaseModel):
    relation: Any = None
    url: Any = None


class _Search(BaseModel):
    mode: Any = None


class _Entry(BaseModel):
    resource: DocumentReference | None = None
    search: _Search | None = None


class _Bundle(BaseModel):
    resourceType: Any = None  # noqa: N815, as FHIR writes it
    entry: list[_Entry] = []
    link: list[_Link] = []

    @property
    def documents(self) -> Iterator[DocumentReference]:
        for each in self.entry:
            if each.resource and each.resource.resourceType == "DocumentReference":
                yield each.resource

    @property
    def next(self) -> str | None:
        return next((text(each.url) for each in self.link if each.relation == "next"), None)
