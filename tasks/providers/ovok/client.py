"""Ovok: a document is made, its file is uploaded to S3, and read back, since Ovok gives no sign of its own.

Vendor pages: https://docs.ovok.com/dev/api/high-level/document. Each create makes another document, so that its id is
kept before anything is uploaded, and every later try asks for a new form of the same document. What the pages leave
open is tolerated; what cannot be understood blocks the account with a sentence that says so.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel, StrictStr, StringConstraints

from config.accounts import OvokAccount
from tasks.http.api import not_understood, understood
from tasks.http.clients import Clients
from tasks.http.exchange import Answer
from tasks.model.document import Document
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, OutcomeUnknown, RetryLater
from tasks.model.job import Assurance, Facts, Form, Job, Record
from tasks.model.route import OnUnknownOutcome, Route, Stage
from tasks.providers.base import Cache, DocumentGate, Found
from tasks.providers.checks import check_size, invalid, sendable_name
from tasks.providers.media_types import media_type
from tasks.providers.ovok.file import ONE_BYTE, File, file_in, is_ours, noted
from tasks.providers.ovok.session import NAME, Session
from tasks.providers.statuses import Answers, Meaning, blocked, locked_out, refused

_DOCUMENT = "document"
_PAGE_SIZE = 50
_MOST_PAGES = 200
_CLOCKS_DIFFER = timedelta(minutes=5)
_A_MOMENT = timedelta(seconds=2)
_READ = "ovok file"
_READ_SECONDS = 3600.0
_DOCUMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # FHIR's ids are shorter, and of fewer characters
_OPTIONS = ("document_id",)


class Ovok:
    """One login's documents. `limiter` and `on_call` are asked and told before each API call."""

    kind = "ovok"
    stages: tuple[Stage, ...] = (Stage.PRESIGNED, Stage.STORED)
    assurance = Assurance.CONFIRMED
    presign_creates = True

    def __init__(
        self,
        name: str,
        account: OvokAccount,
        *,
        clients: Clients,
        limiter: Callable[[], None],
        on_call: Callable[[], None],
        cache: Cache,
    ) -> None:
        self._max_bytes = account.max_bytes
        self._hosts = account.upload_hosts
        self._cache = cache
        self._session = Session(account, clients=clients, limiter=limiter, on_call=on_call, cache=cache)

    @property
    def limit_group(self) -> str:
        """Ovok says nothing of limits; they are taken to be of a login at one API."""
        return f"{self.kind}:{self._session.who}"

    def route(self, document: Document) -> Route:
        return Route(self.stages, together=False, account_wide=True, on_unknown_outcome=OnUnknownOutcome.RECONCILE)

    def check(self, document: Document) -> None:
        """Size, name, type and options; a patient is not needed. Raises DocumentRefused."""
        check_size(document, self._max_bytes)
        sendable_name(document)
        media_type(document)
        _check_options(document.options)

    def sent_name(self, document: Document) -> str:
        return sendable_name(document)

    def before_sending(self, job: Job) -> Facts:
        """Note when it was first tried, and what stands now in the document that it goes into, if that is there.

        Raises DocumentRefused if there is no document of the option `document_id`. One that was made for the job and
        is gone is forgotten, so that another is made.
        """
        since = job.facts.provider.get("since") or datetime.now(UTC).isoformat()
        facts = replace(job.facts, record=self._place(job), provider={"since": since})
        if facts.record is None:
            return facts
        address = self._address(facts.record.id)
        if address is None:
            if facts.record.shared:
                raise _no_such_document()
            return replace(facts, record=None)
        return replace(facts, provider={"since": since, **noted(self._visited(address))})

    def presign(self, job: Job, gate: DocumentGate) -> Form:
        """Ask for a form: of the document that it goes into, else of one that is made for it.

        Neither `isPublic` nor anything else is said of it. Raises OutcomeUnknown for a create whose answer is not
        understood: something was made.
        """
        wanted = {"fileName": sendable_name(job.document), "contentType": media_type(job.document)}
        record = self._place(job)
        if record is None:
            return self._made(wanted, gate)
        answer = self._session.call("POST", _DOCUMENT, record.id, json=dict(wanted))
        if answer.status == 404 and not record.shared:
            raise RetryLater("Ovok does not know the document any more that was made for this one; another is made.")
        presigned = understood(_REPLACING.success(answer), _Presigned, NAME)
        if presigned.id != record.id:
            raise not_understood(NAME, "the form of another document than was asked for")
        return presigned.form(record)

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str]) -> Mapping[str, Found]:
        """Read back what stands in each job's document; where its create was not seen, look for the document first."""
        found = {job.id: self._found(job, owners) for job in jobs}
        return {job_id: each for job_id, each in found.items() if each is not None}

    def still_there(self, document: Document, record: Record) -> bool:
        """Whether the record still has the file that it had; a document that is to go into another wants that one."""
        into = document.options.get("document_id")
        if into is not None and into != record.id:
            return False
        file = self._file_of(record.id)
        if file is None or file.size != document.size_bytes:
            return False
        return record.version in (None, file.etag)

    def probe(self) -> None:
        """List one document: what matters is who is asking."""
        _OTHERS.success(self._session.call("GET", _DOCUMENT, params=[("_count", "1")]))

    # --- the document that the file goes into --------------------------------------------------------------------

    def _place(self, job: Job) -> Record | None:
        """The document whose file is replaced, or the one that was made for the job already."""
        if (into := job.document.options.get("document_id")) is not None:
            return Record(str(into), self._url(str(into)), shared=True)
        own = job.facts.record
        return None if own is None or own.shared else replace(own, url=self._url(own.id))

    def _made(self, wanted: Mapping[str, str], gate: DocumentGate) -> Form:
        content = json.dumps(wanted, ensure_ascii=False, separators=(",", ":")).encode()
        answer = _CREATING.success(self._session.create(_DOCUMENT, content=content, gate=gate))
        try:
            presigned = understood(answer, _Presigned, NAME)
        except AccountBlocked as error:
            raise OutcomeUnknown(f"{NAME} has made a document. {error}") from None
        return presigned.form(Record(presigned.id, self._url(presigned.id)))

    def _url(self, document_id: str) -> str:
        return self._session.api.url(_DOCUMENT, document_id)

    # --- looking -------------------------------------------------------------------------------------------------

    def _found(self, job: Job, owners: Mapping[str, str]) -> Found | None:
        record = self._place(job)
        if record is None:
            made = self._made_before(job, owners)
            return Found(made, Stage.RECEIVED) if made else None
        address = self._address(record.id)
        if address is None:
            return None
        file = self._visited(address)
        if file is not None and self._ours(job, address, file):
            return Found(replace(record, version=file.etag))
        return Found(record, Stage.RECEIVED) if _may_go_again(job) else None

    def _ours(self, job: Job, address: str, file: File) -> bool:
        """Whether the file is the job's; where nothing else tells, it is read whole and its digest compared."""
        ours, stored = is_ours(job, file), job.facts.stored
        if ours is not None or stored is None:
            return bool(ours)
        which = f"{job.id} {file.etag} {stored.sha256}"
        known = self._cache.get(_READ, which) if file.etag else None
        if known is not None:
            return known == stored.sha256
        digest = sha256()
        if not self._session.api.visit_whole(address, hosts=self._hosts, take=digest.update, size=file.size):
            return False
        self._cache.put(_READ, which, digest.hexdigest(), _READ_SECONDS)
        return digest.hexdigest() == stored.sha256

    def _made_before(self, job: Job, owners: Mapping[str, str]) -> Record | None:
        """The document that a create made whose answer was lost: of our name and type, nobody's, and still empty."""
        name, kind = _composed(sendable_name(job.document)), media_type(job.document)
        for entry in self._changed_since(_first_tried(job)):
            free = owners.get(entry.id, job.id) == job.id
            if free and entry.is_of(name, kind) and self._is_empty(entry):
                return Record(entry.id, self._url(entry.id))
        return None

    def _is_empty(self, entry: _Entry) -> bool:
        if entry.changed_at is None:
            raise not_understood(NAME, "a document without lastUpdated")
        address = self._address(entry.id)
        file = self._visited(address) if address else None
        return address is not None and (file is None or file.size == 0)

    def _changed_since(self, since: datetime) -> Iterator[_Entry]:
        """The documents that were changed since then, the latest first, and those of which it is not known."""
        seen: set[str] = set()
        for _ in range(_MOST_PAGES):
            page = self._page(len(seen))
            fresh = [entry for entry in page.resources if entry.id not in seen]
            yield from (entry for entry in fresh if entry.changed_at is None or entry.changed_at >= since)
            seen |= {entry.id for entry in fresh}
            if not fresh or page.reaches(since) or page.total == len(seen):
                return
        raise not_understood(NAME, f"a list of more than {_MOST_PAGES} pages")

    def _page(self, offset: int) -> _List:
        query = [("_sort", "-_lastUpdated"), ("_count", str(_PAGE_SIZE)), ("_offset", str(offset))]
        page = understood(_OTHERS.success(self._session.call("GET", _DOCUMENT, params=query)), _List, NAME)
        if not page.latest_first:
            raise not_understood(NAME, "a list in another order than was asked for")
        return page

    # --- files ---------------------------------------------------------------------------------------------------

    def _file_of(self, document_id: str) -> File | None:
        """What stands in storage for a document; None if there is nothing, or no such document."""
        address = self._address(document_id)
        return self._visited(address) if address else None

    def _visited(self, address: str) -> File | None:
        return file_in(self._session.api.visit(address, hosts=self._hosts, headers=ONE_BYTE))

    def _address(self, document_id: str) -> str | None:
        """Where a document's file lies, for some minutes; None if there is no such document."""
        answer = self._session.call("GET", _DOCUMENT, document_id)
        if answer.status == 404:
            return None
        if answer.status in (302, 303, 307) and (address := answer.headers.get("location")):
            return address
        if answer.success:
            raise not_understood(NAME, "no address for a document's file")
        raise _OTHERS.error(answer)


# --- jobs ------------------------------------------------------------------------------------------------------------


def _check_options(options: Mapping[str, Any]) -> None:
    if unknown := len(set(options) - set(_OPTIONS)):
        raise invalid(
            f"{unknown} of the document's options are not known for Ovok, which takes {', '.join(_OPTIONS)} alone."
        )
    into = options.get("document_id")
    if "document_id" in options and not (isinstance(into, str) and _DOCUMENT_ID.fullmatch(into)):
        raise invalid(
            "The option document_id must be the id of an Ovok document: text of letters, digits and . _ - alone.",
            "Copy the id as Ovok shows it, or leave the option out to make a new document.",
        )


def _first_tried(job: Job) -> datetime:
    """When the job was first tried, with room for clocks that differ; by its own age where that was not noted."""
    return (_moment(job.facts.provider.get("since")) or job.created_at) - _CLOCKS_DIFFER


def _may_go_again(job: Job) -> bool:
    """Whether an upload that nobody saw arrive is repeated now: into the same document, so that it harms nothing.

    Each time after one more look than the time before. Not while a human's retry only looks.
    """
    return bool(job.unknown_step) and not job.long_reconciliation and job.polls >= job.presigns - 1


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(kind: str) -> str:
    """A media type without its parameters."""
    return kind.partition(";")[0].strip().lower()


# --- answers ---------------------------------------------------------------------------------------------------------


_Id = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=200)]


class _UploadOptions(BaseModel):
    url: StrictStr
    fields: dict[StrictStr, StrictStr]


class _Presigned(BaseModel):
    """A FileEntryDto as create and replace answer it. Its publicToken is left where it is."""

    id: _Id
    uploadOptions: _UploadOptions  # noqa: N815 (Ovok's name)

    def form(self, record: Record) -> Form:
        return Form(self.uploadOptions.url, self.uploadOptions.fields, replace(record, version=None))


class _Entry(BaseModel):
    """A FileEntryDto as the list has it. Anything but the id may be missing."""

    id: _Id
    fileName: Any = None  # noqa: N815 (Ovok's names)
    contentType: Any = None  # noqa: N815
    meta: Any = None
    lastUpdated: Any = None  # noqa: N815

    def is_of(self, name: str, kind: str) -> bool:
        """Whether it has this file name, composed, and this media type, without parameters."""
        said = self.fileName, self.contentType
        return all(isinstance(each, str) for each in said) and (_composed(said[0]), _plain(said[1])) == (name, kind)

    @property
    def changed_at(self) -> datetime | None:
        """The vendor's schema has it in `meta`, its example beside it."""
        inside = self.meta.get("lastUpdated") if isinstance(self.meta, dict) else None
        return _moment(inside) or _moment(self.lastUpdated)


class _List(BaseModel):
    resources: list[_Entry]
    total: Any = None

    @property
    def latest_first(self) -> bool:
        """As far as it says when; a moment's difference is no order."""
        known = self._known
        return all(later <= earlier + _A_MOMENT for earlier, later in pairwise(known))

    def reaches(self, since: datetime) -> bool:
        """Whether its last entries are older than that."""
        return bool(self._known) and self._known[-1] < since

    @property
    def _known(self) -> Sequence[datetime]:
        return [entry.changed_at for entry in self.resources if entry.changed_at is not None]


def _moment(said: object) -> datetime | None:
    with suppress(ValueError):
        moment = datetime.fromisoformat(said) if isinstance(said, str) else None
        return moment and (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return None


# --- errors ----------------------------------------------------------------------------------------------------------


def _no_such_document() -> DocumentRefused:
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        "Ovok knows no document of the id that document_id gives.",
        hint="Check the id, and that this account may see the document; or leave document_id out to make a new one.",
    )


def _words(answer: Answer) -> str:
    """The provider's own words, for the error file only, which keeps 2 KB of them: no token that may be among them."""
    return _TOKENS.sub("…", answer.body[:65_536].decode(errors="replace"))


# A JWT (RFC 7519), and the query of a signed address.
_TOKENS = re.compile(r"[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*|(?<=\?)[A-Za-z0-9_%.~-]+=[^\s\"<>]*")

_UNACCEPTABLE = refused(
    "Ovok does not accept the file name or the media type.",
    "Check both; then send it again with a better name or content_type.",
    _words,
)
_LOCKED_OUT: Mapping[int, Meaning] = {
    401: locked_out("Ovok refused the token (401): check email, password and client_id of this account."),
    403: locked_out("Ovok refused access (403): check what the account's user may do, and base_url."),
}
_ASKING: Mapping[int, Meaning] = {
    **_LOCKED_OUT,
    400: _UNACCEPTABLE,
    422: _UNACCEPTABLE,
    413: refused("Ovok finds the document too large.", "Make the file smaller, or split it.", _words),
}
_OTHERS = Answers(NAME, _LOCKED_OUT)
_CREATING = Answers(NAME, {**_ASKING, 404: blocked("Ovok answered 404 to a new document: check base_url.")})
_REPLACING = Answers(NAME, {**_ASKING, 404: lambda _: _no_such_document()})
