"""Ovok: an Ovok document is made, our file is uploaded to S3, and read back, since Ovok does not confirm an upload.

Vendor pages: https://docs.ovok.com/dev/api/high-level/document. "Ovok document" is Ovok's resource, which has at most
one file. Each create makes another one, so its id is kept before anything is uploaded, and every later try asks for a
new form of the same Ovok document. What the pages leave open is tolerated; what cannot be understood blocks the
account with a sentence that says so.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from config.accounts import OvokAccount
from tasks.http.api import Body, not_understood, parse_answer
from tasks.http.json_values import moment
from tasks.model.document import Document
from tasks.model.errors import AccountBlocked, OutcomeUnknown, RetryLater, invalid_request
from tasks.model.job import Assurance, Facts, Form, Job, Record
from tasks.model.names import check_file_name, upload_name
from tasks.model.route import OnUnknownOutcome, Route, Stage
from tasks.providers.auth.bearer import FORGET_LAST, KEEP_LAST, BearerApi
from tasks.providers.base import ChartRecord, DocumentGate, Found, GivenFile, RecordQuery
from tasks.providers.checks import check_size
from tasks.providers.connection import Connection
from tasks.providers.media_types import media_type
from tasks.providers.ovok.answers import (
    CREATE_STATUSES,
    NAME,
    READ_STATUSES,
    REPLACE_STATUSES,
    Entry,
    EntryList,
    Presigned,
    no_such_document,
)
from tasks.providers.ovok.file import FIRST_BYTE, File, file_in, is_ours, noted
from tasks.providers.ovok.login import Login
from tasks.providers.ovok.records import Chart

_DOCUMENT = "document"
_PAGE_SIZE = 50
_MAX_PAGES = 200
# Ovok's clocks from one another, and what is reckoned of them from the truth.
_CLOCKS_DIFFER = timedelta(minutes=5)
_DIGEST_SECONDS = 3600.0
_DOCUMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")  # FHIR's ids are shorter, and of fewer characters
_OPTIONS = ("document_id",)


class Ovok:
    """One login's Ovok documents."""

    kind = "ovok"
    stages: tuple[Stage, ...] = (Stage.PRESIGNED, Stage.STORED)
    assurance = Assurance.CONFIRMED
    presign_creates = True

    def __init__(self, name: str, account: OvokAccount, connection: Connection) -> None:
        self.limit_group = account.limit_group
        self._max_bytes = account.max_bytes
        self._hosts = account.upload_hosts
        self._cache = connection.cache
        self._clock = connection.clock
        self._api = BearerApi(
            connection,
            account.base_url,
            provider=NAME,
            tokens=Login(account, connection).tokens,
            # A refused token is replaced by refresh or login; if the new one is refused too, by the login alone.
            replacements=(KEEP_LAST, FORGET_LAST),
        )
        # For the addresses of files, which hold their own signature: no token goes there.
        self._storage = connection.api(account.base_url, provider=NAME, headers={})
        self._chart = Chart(self._api, self._storage, self._hosts, connection.list_limiter)

    # --- before any call -------------------------------------------------------------------------------------

    def route(self, document: Document) -> Route:
        return Route(self.stages, together=False, account_wide=True, on_unknown_outcome=OnUnknownOutcome.RECONCILE)

    def check(self, document: Document) -> None:
        """Size, name, type and options; a patient is not needed. Raises DocumentRefused."""
        check_size(document, self._max_bytes)
        check_file_name(document.file_name)
        media_type(document)
        _check_options(document.options)

    def before_sending(self, job: Job) -> Facts:
        """Note when the job was first tried, by Ovok's clock, and what file its Ovok document has now, if it has one.

        Raises DocumentRefused if there is no Ovok document of the option `document_id`.
        """
        since = job.facts.provider.get("since") or self._clock.earliest().isoformat()
        facts = replace(job.facts, record=self._target(job), provider={"since": since})
        if facts.record is None:
            return facts
        address = self._address(facts.record.id)
        if address is None:
            if facts.record.shared:
                raise no_such_document()
            return replace(facts, record=None)  # it was made for the job and is gone: another is made
        return replace(facts, provider={"since": since, **noted(self._file_at(address))})

    # --- sending ---------------------------------------------------------------------------------------------

    def sent_name(self, document: Document) -> str:
        return upload_name(document.file_name)

    def presign(self, job: Job, gate: DocumentGate) -> Form:
        """Ask for a form: of the Ovok document that the file goes into, else of a new one.

        Raises OutcomeUnknown for a create whose answer is not understood, since an Ovok document was made.
        """
        # isPublic is not sent: a clinical document must not be public
        # (https://docs.ovok.com/dev/api/high-level/document/document-controller-create-upload-credentials).
        wanted = {"fileName": self.sent_name(job.document), "contentType": media_type(job.document)}
        record = self._target(job)
        if record is None:
            return self._create(wanted, gate)
        path = (_DOCUMENT, record.id)
        answer = self._api.send(lambda api: api.call("POST", *path, json=dict(wanted)))
        if answer.status == 404 and not record.shared:
            raise RetryLater("Ovok does not know the document any more that was made for this one; another is made.")
        presigned = parse_answer(REPLACE_STATUSES.success(answer), Presigned, NAME)
        if presigned.id != record.id:
            raise not_understood(NAME, "the form of another document than was asked for")
        return _form(presigned, record)

    # --- finding ---------------------------------------------------------------------------------------------

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str], *, thorough: bool = False) -> Mapping[str, Found]:
        """Read back the file of each job's Ovok document. If its create was not seen, search for that one first."""
        return {job.id: found for job in jobs if (found := self._find_one(job, owners)) is not None}

    def still_there(self, document: Document, record: Record) -> bool:
        """Whether the Ovok document still has the file that it had, and is the one that `document_id` names, if any."""
        wanted = document.options.get("document_id")
        if wanted is not None and wanted != record.id:
            return False
        address = self._address(record.id)
        file = self._file_at(address) if address else None
        if file is None or file.size != document.size_bytes:
            return False
        return record.version in (None, file.etag)

    def probe(self) -> None:
        """List one Ovok document: the answer shows whether the login works."""
        answer = self._api.send(lambda api: api.call("GET", _DOCUMENT, params=[("_count", "1")]))
        parse_answer(READ_STATUSES.success(answer), EntryList, NAME)

    # --- records, for people ---------------------------------------------------------------------------------

    def check_query(self, query: RecordQuery) -> None:
        self._chart.check_query(query)

    def records(self, query: RecordQuery) -> Iterator[ChartRecord]:
        return self._chart.records(query)

    def record(self, record_id: str) -> ChartRecord:
        return self._chart.record(record_id)

    def download(self, record_id: str, take: Callable[[bytes], object], *, most_bytes: int) -> GivenFile:
        return self._chart.download(record_id, take, most_bytes=most_bytes)

    def delete(self, record_id: str) -> None:
        self._chart.delete(record_id)

    def rename(self, record_id: str, file_name: str) -> ChartRecord:
        return self._chart.rename(record_id, file_name)

    # --- private: the Ovok document that the file goes into --------------------------------------------------

    def _target(self, job: Job) -> Record | None:
        """The Ovok document whose file is replaced, or the one that was made for the job already."""
        if (document_id := job.document.options.get("document_id")) is not None:
            return replace(self._record(str(document_id)), shared=True)
        made = job.facts.record
        return None if made is None or made.shared else replace(made, url=self._record(made.id).url)

    def _create(self, wanted: Mapping[str, str], gate: DocumentGate) -> Form:
        content = json.dumps(wanted, ensure_ascii=False, separators=(",", ":")).encode()
        answer = self._api.send(lambda api: api.create("POST", _DOCUMENT, body=Body.of(content), gate=gate))
        CREATE_STATUSES.success(answer)
        try:
            presigned = parse_answer(answer, Presigned, NAME)
        except AccountBlocked as error:
            raise OutcomeUnknown(f"{NAME} has made a document. {error}") from None
        return _form(presigned, self._record(presigned.id))

    def _record(self, document_id: str) -> Record:
        return Record(document_id, self._api.url(_DOCUMENT, document_id))

    # --- private: searching ----------------------------------------------------------------------------------

    def _find_one(self, job: Job, owners: Mapping[str, str]) -> Found | None:
        record = self._target(job)
        if record is None:
            created = self._find_created(job, owners)
            return Found(created, Stage.RECEIVED) if created else None
        address = self._address(record.id)
        if address is None:
            return None
        file = self._file_at(address)
        if file is not None and self._holds_our_bytes(job, address, file):
            return Found(replace(record, version=file.etag))
        return Found(record, Stage.RECEIVED) if _may_be_repeated(job) else None

    def _holds_our_bytes(self, job: Job, address: str, file: File) -> bool:
        """As `is_ours`; where only the bytes can tell, the file is downloaded and its digest compared."""
        ours, stored = is_ours(job, file), job.facts.stored
        if ours is not None or stored is None:
            return bool(ours)
        topic, key = "ovok file", f"{job.id} {file.etag} {stored.sha256}"
        known = self._cache.get(topic, key) if file.etag else None
        if known is not None:
            return known == stored.sha256
        digest = sha256()
        if not self._storage.download(address, hosts=self._hosts, take=digest.update, size=file.size):
            return False
        self._cache.put(topic, key, digest.hexdigest(), _DIGEST_SECONDS)
        return digest.hexdigest() == stored.sha256

    def _find_created(self, job: Job, owners: Mapping[str, str]) -> Record | None:
        """The Ovok document of a create whose answer was lost: of our name and type, not owned by a job, and empty."""
        tried_at = moment(job.facts.provider.get("since")) or job.created_at
        for entry in self._list_changed(tried_at - _CLOCKS_DIFFER):
            free = owners.get(entry.id, job.id) == job.id
            if free and entry.is_of(self.sent_name(job.document), media_type(job.document)) and self._is_empty(entry):
                return self._record(entry.id)
        return None

    def _is_empty(self, entry: Entry) -> bool:
        if entry.changed_at is None:
            raise not_understood(NAME, "a document without lastUpdated")
        address = self._address(entry.id)
        if address is None:
            return False
        file = self._file_at(address)
        return file is None or file.size == 0

    def _list_changed(self, since: datetime) -> Iterator[Entry]:
        """The Ovok documents that were changed since then, the latest first, and those that do not say when."""
        seen: set[str] = set()
        for _ in range(_MAX_PAGES):
            query = [("_sort", "-_lastUpdated"), ("_count", str(_PAGE_SIZE)), ("_offset", str(len(seen)))]
            page = self._list(query)
            fresh = [entry for entry in page.resources if entry.id not in seen]
            yield from (entry for entry in fresh if entry.changed_at is None or entry.changed_at >= since)
            seen |= {entry.id for entry in fresh}
            if not fresh or page.reaches(since) or page.total == len(seen):
                return
        raise RetryLater(f"{NAME} lists more than {_MAX_PAGES} pages of changed documents, and so many are not read.")

    def _list(self, query: Sequence[tuple[str, str]]) -> EntryList:
        answer = self._api.send(lambda api: api.call("GET", _DOCUMENT, params=query))
        page = parse_answer(READ_STATUSES.success(answer), EntryList, NAME)
        if not page.latest_first:
            raise RetryLater(f"{NAME}'s list is in another order than was asked for.")
        return page

    # --- private: files --------------------------------------------------------------------------------------

    def _address(self, document_id: str) -> str | None:
        """Where an Ovok document's file lies, for some minutes; None if there is no such one."""
        answer = self._api.send(lambda api: api.call("GET", _DOCUMENT, document_id))
        if answer.status == 404:
            return None
        if answer.status in (302, 303, 307) and (address := answer.headers.get("location")):
            return address
        if answer.success:
            raise not_understood(NAME, "no address for a document's file")
        raise READ_STATUSES.error(answer)

    def _file_at(self, address: str) -> File | None:
        return file_in(self._storage.fetch(address, hosts=self._hosts, headers=FIRST_BYTE))


def _form(presigned: Presigned, record: Record) -> Form:
    # The version is that of the file before: the upload will change it.
    return Form(presigned.uploadOptions.url, presigned.uploadOptions.fields, replace(record, version=None))


def _may_be_repeated(job: Job) -> bool:
    """Whether an upload of unknown outcome is repeated now: it goes into the same Ovok document, so it harms nothing.

    The first repeat follows the first search without our file, the next follows the second search after it, and so on.
    Not after `chartpost retry`, which first only searches.
    """
    enough = job.counts.searches >= job.counts.presigns - 1
    return job.uncertainty.outcome_unknown and not job.uncertainty.day_of_searching and enough


def _check_options(options: Mapping[str, Any]) -> None:
    if unknown := len(set(options) - set(_OPTIONS)):
        raise invalid_request(
            f"{unknown} of the document's options are not known for Ovok, which takes {', '.join(_OPTIONS)} alone."
        )
    document_id = options.get("document_id")
    if "document_id" in options and not (isinstance(document_id, str) and _DOCUMENT_ID.fullmatch(document_id)):
        raise invalid_request(
            "The option document_id must be the id of an Ovok document: text of letters, digits and . _ - alone.",
            "Copy the id as Ovok shows it, or leave the option out to make a new document.",
        )
