"""Cliniko: presign, upload, register, and wait until it has processed the file.

Vendor pages: https://docs.api.cliniko.com/developer-portal/guides/uploading_patient_attachments/ and the reference
https://docs.api.cliniko.com/openapi/reference/tag/Patient-Attachment/. The upload alone creates nothing. Registering
creates the record, and cannot be repeated blindly.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from urllib.parse import unquote

from pydantic import TypeAdapter, ValidationError

from config.accounts import ClinikoAccount
from config.fingerprint import fingerprint
from tasks.http.api import Body, parse_answer
from tasks.http.exchange import Answer
from tasks.model.document import Document
from tasks.model.errors import (
    AccountBlocked,
    Code,
    DocumentRefused,
    OutcomeUnknown,
    PresignAgain,
    RetryLater,
    invalid_request,
)
from tasks.model.job import Assurance, Facts, Form, Job, Record
from tasks.model.names import check_file_name
from tasks.model.route import Route, Stage
from tasks.providers.base import ChartRecord, DocumentGate, Found, GivenFile, RecordQuery, Registered
from tasks.providers.checks import check_patient, check_size, patient_of
from tasks.providers.cliniko.answers import (
    ACCOUNT_STATUSES,
    NAME,
    PATIENT_STATUSES,
    Attachment,
    AttachmentList,
    fault,
    form_in,
    refused_fields,
    remarks,
    upload_not_found,
)
from tasks.providers.cliniko.chart import Chart
from tasks.providers.cliniko.lists import ARCHIVED_TOO, ATTACHMENTS, Attachments, as_filter
from tasks.providers.cliniko.naming import description, sent_name, token
from tasks.providers.connection import Connection

_CLOCKS_DIFFER = timedelta(days=1)  # so wide, since a patient gets few documents in a day

_RECENT = timedelta(hours=1)
_RECENT_PAGES = 3
_RECENT_SECONDS = 2.0
_RECENT_LOCK_SECONDS = 10.0
_PRESIGNED_AGAIN_SECONDS = 86_400.0

# In `Facts.provider`: a moment before the first sending, so that a search after a wipe need not read a whole chart.
_SINCE = "since"

_CACHED = TypeAdapter(list[Attachment])
_NOT_CACHED = {
    *("description", "created_at", "updated_at", "processed_at", "pinned_at", "archived_at"),
    *("patient", "user", "content"),
}
_OTHER_PROVIDERS_OPTIONS = ("document_id", "metadata", "patient")
# The error names another field than the one that was sent: https://github.com/redguava/cliniko-api/issues/283
_UPLOAD_FIELDS = {"temp_attachment_url", "upload_url"}


class Cliniko:
    """One user's account. `now` is aware, UTC."""

    kind = "cliniko"
    stages: tuple[Stage, ...] = (Stage.PRESIGNED, Stage.STORED, Stage.REGISTERED)
    assurance = Assurance.CONFIRMED
    presign_creates = False

    def __init__(
        self,
        name: str,
        account: ClinikoAccount,
        connection: Connection,
        *,
        now: Callable[[], datetime] | None = None,
    ) -> None:
        key = account.api_key.get_secret_value()
        self.limit_group = account.limit_group
        self._max_bytes = account.max_bytes
        self._cache = connection.cache
        self._list_limiter = connection.list_limiter
        self._clock = connection.clock
        self._now = now or connection.clock.now
        # A key works with its shard ("…-au1") and without: both are the same user.
        self._scope = f"{name} {fingerprint(account.base_url, key.rpartition('-')[0] or key)}"
        basic = base64.b64encode(f"{key}:".encode()).decode()  # the key as user name, no password (RFC 7617)
        headers = {"Authorization": f"Basic {basic}", "User-Agent": account.contact}
        self._api = connection.api(account.base_url, provider=NAME, headers=headers)
        self._attachments = Attachments(self._api)
        # For the addresses of files, which hold their own signature: no key goes there.
        storage = connection.api(account.base_url, provider=NAME, headers={})
        self._chart = Chart(self._api, self._attachments, storage, account.upload_hosts, connection.list_limiter)

    # --- before any call -------------------------------------------------------------------------------------

    def route(self, document: Document) -> Route:
        return Route(self.stages)

    def check(self, document: Document) -> None:
        """Patient, size, name and options. Raises DocumentRefused."""
        check_patient(document, NAME)
        check_size(document, self._max_bytes)
        check_file_name(document.file_name)
        _check_options(document)

    def before_sending(self, job: Job) -> Facts:
        """Note since when a record may be ours. Makes no call."""
        if _SINCE in job.facts.provider:
            return job.facts
        # When the job was opened, Redis's clock has said: it may have been ahead.
        since = min(job.created_at, self._clock.earliest())
        return replace(job.facts, provider={**job.facts.provider, _SINCE: since.isoformat()})

    # --- sending ---------------------------------------------------------------------------------------------

    def sent_name(self, document: Document) -> str:
        return sent_name(document)

    def presign(self, job: Job, gate: DocumentGate) -> Form:
        """Obtain a form, whose key ends in `${filename}`. It is a GET and creates nothing."""
        answer = self._api.call("GET", "patients", patient_of(job.document), "attachment_presigned_post")
        form = form_in(PATIENT_STATUSES.success(answer))
        if form is None:
            raise RetryLater("Cliniko gave no address to upload to.")
        return form

    def register(self, job: Job, gate: DocumentGate) -> Registered:
        """Make the upload a record of the patient's. Raises PresignAgain if the upload is missing."""
        stored = job.facts.stored
        if stored is None or stored.form_url is None:
            raise PresignAgain("The upload is not known any more.")
        attachment = {
            "description": description(job),
            "patient_id": patient_of(job.document),
            # The form's address and the raw key, not S3's Location, in which the key is percent-encoded:
            # https://github.com/redguava/cliniko-api/issues/290
            "upload_url": f"{stored.form_url.removesuffix('/')}/{stored.key}",
        }
        answer = self._api.create("POST", ATTACHMENTS, body=Body.of(json.dumps(attachment).encode()), gate=gate)
        if answer.success:
            return self._registered(job, self._created(answer))
        if refused_fields(answer) & _UPLOAD_FIELDS:
            return self._after_refused_upload(job, answer)
        raise PATIENT_STATUSES.error(answer)

    # --- finding ---------------------------------------------------------------------------------------------

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str], *, thorough: bool = False) -> Mapping[str, Found]:
        """By the record's id where that is known, else by our token in the patient's list."""
        known = {job.facts.record.id: job for job in jobs if job.facts.record}
        without_record = [job for job in jobs if not job.facts.record]
        # One list of all that was changed lately serves all patients. What it does not show is read on its own, or, for
        # several, in one list of the patient's.
        seen = dict(self._list_recent(set(known))) if known else {}
        missing = [job for record_id, job in known.items() if record_id not in seen]
        found: dict[str, Found] = {}
        if without_record or len(missing) > 1:
            listed = self._list_of_patient([*without_record, *missing], thorough=thorough)
            seen = {**listed, **seen}
            found |= self._match(without_record, listed, owners)
        for record_id, job in known.items():
            if attachment := seen.get(record_id) or self._attachments.read(record_id, archived_too=True):
                found[job.id] = self._found(job, attachment)
        return found

    def still_there(self, document: Document, record: Record) -> bool:
        """Whether the record is there and not archived."""
        attachment = self._attachments.read(record.id, archived_too=False)
        return attachment is not None and not attachment.archived_at

    def probe(self) -> None:
        """Ask for the shortest list: the answer shows whether the key works."""
        answer = self._api.call("GET", ATTACHMENTS, params=[("per_page", "1")])
        if not answer.success and isinstance(error := ACCOUNT_STATUSES.error(answer), DocumentRefused):
            raise AccountBlocked(f"Cliniko answered {answer.status} to the shortest list: check base_url.") from error
        parse_answer(ACCOUNT_STATUSES.success(answer), AttachmentList, NAME)

    # --- records, for people ---------------------------------------------------------------------------------

    def check_query(self, query: RecordQuery) -> None:
        self._chart.check_query(query)

    def records(self, query: RecordQuery) -> Iterator[ChartRecord]:
        return self._chart.records(query)

    def record(self, record_id: str) -> ChartRecord:
        return self._chart.record(record_id)

    def download(self, record_id: str, take: Callable[[bytes], object], *, most_bytes: int) -> GivenFile:
        return self._chart.download(record_id, take, most_bytes=most_bytes)

    def archive(self, record_id: str) -> None:
        self._chart.archive(record_id)

    # --- private: registering --------------------------------------------------------------------------------

    def _created(self, answer: Answer) -> Attachment:
        """The record that a success tells of. It is there in any case: if none can be read, it must be searched for."""
        try:
            return Attachment.model_validate_json(answer.body[:1_000_000])
        except ValidationError:
            base, _, record_id = answer.headers.get("location", "").rpartition("/")
        if record_id and base == self._api.url(ATTACHMENTS):
            return Attachment(id_=unquote(record_id)[:200])
        raise OutcomeUnknown("Cliniko has registered the document, and its answer does not say as what.")

    def _registered(self, job: Job, attachment: Attachment) -> Registered:
        processed = attachment.stage is Stage.DELIVERED and fault(job, attachment) is None
        return Registered(
            self._attachments.reference(attachment), processed, remarks=remarks(job, attachment) if processed else ()
        )

    def _after_refused_upload(self, job: Job, answer: Answer) -> Registered:
        """An earlier registering, unseen, may have consumed the upload; if not, Cliniko has removed it."""
        if attachment := _with_token(job, self._list_of_patient([job], thorough=True).values()):
            return self._registered(job, attachment)
        # A new upload is worth one attempt. A second refusal, or one that names other fields too, is not about that.
        topic = f"again {self._scope}"
        presigned_again = job.counts.presigns >= 2 and self._cache.get(topic, job.id) is not None
        if not refused_fields(answer) <= _UPLOAD_FIELDS:
            raise PATIENT_STATUSES.error(answer)
        if presigned_again:
            raise upload_not_found(answer)
        self._cache.put(topic, job.id, "1", _PRESIGNED_AGAIN_SECONDS)
        raise PresignAgain("Cliniko does not know the upload, or not any more.")

    # --- private: lists and records --------------------------------------------------------------------------

    def _list_recent(self, wanted: set[str]) -> Mapping[str, Attachment]:
        """The latest changes of all patients, as far as the wanted records are among them; shared for some seconds."""
        known = self._cached_recent()
        if known is None:
            with self._cache.lock("recent", self._scope, _RECENT_LOCK_SECONDS):
                known = self._cached_recent()
                if known is None:
                    since = ("q[]", f"updated_at:>={as_filter(self._now() - _RECENT)}")
                    pages = self._attachments.pages(
                        [ATTACHMENTS], [since, ARCHIVED_TOO], "updated_at:desc", most=_RECENT_PAGES
                    )
                    known = pages.until(lambda records: wanted <= records.keys())
                    kept = _CACHED.dump_json(list(known.values()), by_alias=True, exclude={"__all__": _NOT_CACHED})
                    self._cache.put("recent", self._scope, kept.decode(), _RECENT_SECONDS)
        return known

    def _cached_recent(self) -> Mapping[str, Attachment] | None:
        kept = self._cache.get("recent", self._scope)
        if kept is None:
            return None
        return {attachment.id: attachment for attachment in _CACHED.validate_json(kept)}

    def _list_of_patient(self, jobs: Sequence[Job], *, thorough: bool) -> Mapping[str, Attachment]:
        """The patient's records since the first of these jobs was opened; none if the patient is not there now.

        `thorough`: raises RetryLater if the list does not show all that it announces.
        """
        since = [str(job.facts.provider.get(_SINCE, "")) for job in jobs]
        created = []
        if all(since):
            earliest = datetime.fromisoformat(min(since)) - _CLOCKS_DIFFER
            created = [("q[]", f"created_at:>={as_filter(earliest)}")]
        path = ["patients", patient_of(jobs[0].document), ATTACHMENTS]
        try:
            filters = [*created, ARCHIVED_TOO]
            pages = self._attachments.pages(path, filters, "created_at:desc", limiter=self._list_limiter)
            # By our token a record is recognised in any part of a list, so a part will do unless it is the last search.
            return pages.all() if thorough else pages.once().records
        except DocumentRefused as error:
            if error.code is Code.GAVE_UP:
                raise
            return {}  # a missing patient proves nothing about the document: the search goes on until its deadline

    def _match(
        self, jobs: Sequence[Job], listed: Mapping[str, Attachment], owners: Mapping[str, str]
    ) -> Mapping[str, Found]:
        """The records that bear the jobs' tokens, as far as no other job owns them."""
        found = {}
        for job in jobs:
            free = [attachment for attachment in listed.values() if owners.get(attachment.id, job.id) == job.id]
            if attachment := _with_token(job, free):
                copies = sum(each.bears(token(job)) and not each.archived_at for each in free)
                found[job.id] = self._found(job, attachment, copies)
        return found

    def _found(self, job: Job, attachment: Attachment, copies: int = 1) -> Found:
        return Found(
            self._attachments.reference(attachment),
            attachment.stage,
            remarks(job, attachment, copies),
            fault(job, attachment),
        )


def _with_token(job: Job, attachments: Iterable[Attachment]) -> Attachment | None:
    """The record that bears the job's token: a processed one first, else the newest."""
    ours = [attachment for attachment in attachments if attachment.bears(token(job))]
    return next((attachment for attachment in ours if attachment.processing_completed), ours[0] if ours else None)


def _check_options(document: Document) -> None:
    """An option that cannot be followed must not be ignored: the document would not become what was asked for."""
    if not document.options:
        return
    # An unknown name is not repeated: a caller may have put a patient's into the wrong place.
    named = [name if name in _OTHER_PROVIDERS_OPTIONS else "an unknown one" for name in sorted(document.options)]
    raise invalid_request(
        f"Cliniko takes no options; this document has {', '.join(dict.fromkeys(named))}.",
        "Leave the options out, or send the document to an account of the provider that they are meant for.",
    )
