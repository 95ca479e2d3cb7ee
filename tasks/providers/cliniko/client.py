"""Cliniko: presign, upload, register, and wait until it has processed the file.

Vendor pages: https://docs.api.cliniko.com/developer-portal/guides/uploading_patient_attachments/ and the reference
https://docs.api.cliniko.com/openapi/reference/tag/Patient-Attachment/. An upload means nothing until it is registered;
registering creates the record, and cannot be repeated blindly.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import unquote

from pydantic import BaseModel, StrictStr, TypeAdapter, ValidationError

from config.accounts import ClinikoAccount
from tasks.http.api import ApiClient, Body, not_understood, understood
from tasks.http.clients import Clients
from tasks.http.exchange import Answer
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused, OutcomeUnknown, PresignAgain, RetryLater
from tasks.model.job import Assurance, Facts, Form, Job, Record, Stored
from tasks.model.route import Route, Stage
from tasks.providers.base import Cache, DocumentGate, Found, Registered, fingerprint
from tasks.providers.checks import check_patient, check_size, invalid, sendable_name
from tasks.providers.cliniko import records as records
from tasks.providers.cliniko.records import Attachment
from tasks.providers.pages import Page, Pages, Query, own_link
from tasks.providers.statuses import Answers, blocked, locked_out, refused

_NAME = "Cliniko"
_ATTACHMENTS = "patient_attachments"
_PAGE_SIZE = 100
_MOST_PAGES = 200
_ARCHIVED_TOO = ("q[]", "archived_at:*")
_THROTTLED_SECONDS = 60.0  # the limit is one of a minute
_CLOCKS_DIFFER = timedelta(days=1)  # a patient gets few documents in a day

_RECENT = timedelta(hours=1)
_RECENT_PAGES = 3
_RECENT_SECONDS = 2.0
_RECENT_TURN_SECONDS = 10.0
_AGAIN_SECONDS = 86_400.0

_SINCE = "since"
"""Of `Facts.provider`: when the job was opened, so that a look after a wipe need not read a patient's whole chart."""

_CACHED = TypeAdapter(list[Attachment])
_UNPUBLIC = {"description", "created_at", "processed_at", "archived_at"}
_OPTIONS = ("document_id", "metadata", "patient")


class Cliniko:
    """One user's account. `limiter` and `on_call` are asked and told before each API call; `now` is aware, UTC."""

    kind = "cliniko"
    stages: tuple[Stage, ...] = (Stage.PRESIGNED, Stage.STORED, Stage.REGISTERED)
    assurance = Assurance.CONFIRMED
    presign_creates = False

    def __init__(
        self,
        name: str,
        account: ClinikoAccount,
        *,
        clients: Clients,
        limiter: Callable[[], None],
        on_call: Callable[[], None],
        cache: Cache,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        key = account.api_key.get_secret_value()
        self._max_bytes = account.max_bytes
        self._cache = cache
        self._now = now
        self._user = fingerprint(account.base_url, key.rpartition("-")[0] or key)  # the same with its shard and without
        self._scope = f"{name} {self._user}"
        self._api = ApiClient(
            clients,
            account.base_url,
            provider=_NAME,
            headers={"Authorization": _basic(key), "User-Agent": account.contact},
            limiter=limiter,
            on_call=on_call,
            insecure=account.insecure,
        )

    @property
    def limit_group(self) -> str:
        """Cliniko limits by user, whose key this is."""
        return f"{self.kind}:{self._user}"

    def route(self, document: Document) -> Route:
        return Route(self.stages)

    def check(self, document: Document) -> None:
        """Patient, size, name and options. Raises DocumentRefused."""
        check_patient(document, _NAME)
        check_size(document, self._max_bytes)
        sendable_name(document)
        _check_options(document)

    def before_sending(self, job: Job) -> Facts:
        """Note since when a record may be ours; nothing is asked."""
        if _SINCE in job.facts.provider:
            return job.facts
        return replace(job.facts, provider={**job.facts.provider, _SINCE: job.created_at.isoformat()})

    # --- sending -----------------------------------------------------------------------------------------------

    def sent_name(self, document: Document) -> str:
        return records.sent_name(document)

    def presign(self, job: Job, gate: DocumentGate) -> Form:
        """A form, whose key ends in `${filename}`. It is a GET and creates nothing.

        The reference has both the answer and its `url` as nullable: then it is asked for again later.
        """
        answer = self._api.call("GET", "patients", _patient(job.document), "attachment_presigned_post")
        presigned = _presigned(_OF_PATIENT.success(answer))
        if presigned is None or not presigned.url:
            raise RetryLater("Cliniko gave no address to upload to.")
        return Form(presigned.url, presigned.fields)

    def register(self, job: Job, gate: DocumentGate) -> Registered:
        """Make the upload a record of the patient's. The form's address and the raw key name it, not `Location`.

        Raises PresignAgain where the upload is not known or not there any more.
        """
        if job.facts.stored is None or job.facts.stored.form_url is None:
            raise PresignAgain("What was uploaded is not known any more.")
        asked = {
            "description": records.description(job),
            "patient_id": _patient(job.document),
            "upload_url": _upload_url(job.facts.stored.form_url, job.facts.stored),
        }
        answer = self._api.create("POST", _ATTACHMENTS, body=Body.of(json.dumps(asked).encode()), gate=gate)
        if answer.success:
            return self._registered(job, self._created(answer))
        if _upload_is_refused(answer):
            return self._after_a_refused_upload(job, answer)
        raise _OF_PATIENT.error(answer)

    def _registered(self, job: Job, attachment: Attachment) -> Registered:
        """Processed already only where there is nothing about it that a look would have to say."""
        processed = attachment.stage is Stage.DELIVERED and records.fault(job, attachment) is None
        said = records.remarks(job, attachment) if processed else ()
        return Registered(self._record(attachment), processed, remarks=said)

    def _created(self, answer: Answer) -> Attachment:
        """The record that a success tells of. It is there in any case: what cannot be read must be looked for."""
        try:
            return Attachment.model_validate_json(answer.body)
        except ValidationError:
            place = answer.headers.get("location", "")
        base, _, named = place.rpartition("/")
        if named and base == self._api.url(_ATTACHMENTS):
            return Attachment(id_=unquote(named)[:200])
        raise OutcomeUnknown("Cliniko has registered the document, and its answer does not say as what.")

    def _after_a_refused_upload(self, job: Job, answer: Answer) -> Registered:
        """An earlier registering, unseen, may have taken the upload away; else Cliniko has removed it."""
        if attachment := self._of_token(job, self._of_patient([job]).values()):
            return self._registered(job, attachment)
        first = job.presigns < 2 or self._cache.get(f"again {self._scope}", job.id) is None
        if not (_only_the_upload_is_refused(answer) and first):
            raise _OF_PATIENT.error(answer)
        self._cache.put(f"again {self._scope}", job.id, "1", _AGAIN_SECONDS)
        raise PresignAgain("Cliniko does not know the upload, or no longer.")

    # --- looking -----------------------------------------------------------------------------------------------

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str]) -> Mapping[str, Found]:
        """By the record's id, in a list of what was changed lately that serves all patients; else by our token.

        What that list does not show is read by itself, or for several in one list of the patient's.
        """
        known = {job.facts.record.id: job for job in jobs if job.facts.record}
        lost = [job for job in jobs if not job.facts.record]
        seen = dict(self._recent(set(known))) if known else {}
        missing = [job for record_id, job in known.items() if record_id not in seen]
        found: dict[str, Found] = {}
        if lost or len(missing) > 1:
            listed = self._of_patient([*lost, *missing])
            seen = {**listed, **seen}
            found |= self._by_token(lost, listed, owners)
        for record_id, job in known.items():
            if attachment := seen.get(record_id) or self._one(record_id, archived_too=True):
                found[job.id] = self._found(job, attachment)
        return found

    def _by_token(
        self, jobs: Sequence[Job], listed: Mapping[str, Attachment], owners: Mapping[str, str]
    ) -> Mapping[str, Found]:
        found = {}
        for job in jobs:
            free = [each for each in listed.values() if owners.get(each.id, job.id) == job.id]
            if attachment := self._of_token(job, free):
                copies = sum(each.bears(records.token(job)) and not each.archived_at for each in free)
                found[job.id] = self._found(job, attachment, copies)
        return found

    def _of_token(self, job: Job, listed: Any) -> Attachment | None:
        """The record that bears the job's token: a processed one first, else the newest."""
        ours = [attachment for attachment in listed if attachment.bears(records.token(job))]
        processed = [attachment for attachment in ours if attachment.processing_completed]
        return next(iter([*processed, *ours]), None)

    def _found(self, job: Job, attachment: Attachment, copies: int = 1) -> Found:
        said, fault = records.remarks(job, attachment, copies), records.fault(job, attachment)
        return Found(self._record(attachment), attachment.stage, said, fault)

    def _record(self, attachment: Attachment) -> Record:
        constructed = self._api.url(_ATTACHMENTS, attachment.id)
        return Record(attachment.id, own_link(attachment.links, self._api.base_url, constructed))

    def _recent(self, wanted: set[str]) -> Mapping[str, Attachment]:
        """What was changed lately, newest first, as far as the wanted are among it; shared for some seconds."""
        known = self._recalled()
        if known is None:
            with self._cache.lock("recent", self._scope, _RECENT_TURN_SECONDS):
                known = self._recalled()
                if known is None:
                    known = self._changed_lately(wanted)
                    self._remember(known)
        return known

    def _changed_lately(self, wanted: set[str]) -> Mapping[str, Attachment]:
        since = ("q[]", f"updated_at:>={_moment(self._now() - _RECENT)}")
        pages = self._pages([_ATTACHMENTS], [since, _ARCHIVED_TOO], "updated_at:desc", most=_RECENT_PAGES)
        return pages.until(lambda records: wanted <= records.keys())

    def _recalled(self) -> Mapping[str, Attachment] | None:
        kept = self._cache.get("recent", self._scope)
        if kept is None:
            return None
        return {attachment.id: attachment for attachment in _CACHED.validate_json(kept)}

    def _remember(self, known: Mapping[str, Attachment]) -> None:
        kept = _CACHED.dump_json(list(known.values()), by_alias=True, exclude={"__all__": _UNPUBLIC})
        self._cache.put("recent", self._scope, kept.decode(), _RECENT_SECONDS)

    def _of_patient(self, jobs: Sequence[Job]) -> Mapping[str, Attachment]:
        """The patient's records since the first of these jobs was opened; none where there is no such patient now."""
        since = [str(job.facts.provider.get(_SINCE, "")) for job in jobs]
        created = [("q[]", f"created_at:>={_before(min(since))}")] if all(since) else []
        place = ["patients", _patient(jobs[0].document), _ATTACHMENTS]
        try:
            return self._pages(place, [*created, _ARCHIVED_TOO], "created_at:desc").all()
        except DocumentRefused:
            return {}  # what became of the document is for the deadline to say

    def _one(self, record_id: str, *, archived_too: bool) -> Attachment | None:
        params = [_ARCHIVED_TOO] if archived_too else []
        answer = self._api.call("GET", _ATTACHMENTS, record_id, params=params)
        if answer.status == 404:
            return None
        return understood(_OF_ACCOUNT.success(answer), Attachment, _NAME)

    def still_there(self, document: Document, record: Record) -> bool:
        """Whether the record is there and not archived."""
        attachment = self._one(record.id, archived_too=False)
        return attachment is not None and not attachment.archived_at

    def probe(self) -> None:
        """The shortest list: what matters is who is asking."""
        _OF_ACCOUNT.success(self._api.call("GET", _ATTACHMENTS, params=[("per_page", "1")]))

    # --- for people --------------------------------------------------------------------------------------------

    def records(self, patient_id: str, *, case_id: str | None = None) -> Sequence[Mapping[str, Any]]:
        """The patient's records that are not archived, oldest first; of one case where that is given."""
        place, only = ["patients", patient_id, _ATTACHMENTS], []
        if case_id is not None:
            place, only = ["patient_cases", case_id, _ATTACHMENTS], [("q[]", f"patient_id:={patient_id}")]
        listed = self._pages(place, only, "created_at:asc").all()
        return [self._shown(attachment, archived=False) for attachment in listed.values()]

    def record(self, record_id: str) -> Mapping[str, Any]:
        """One record, archived or not, which only the question tells. Raises DocumentRefused."""
        for archived in (False, True):
            if attachment := self._one(record_id, archived_too=archived):
                return self._shown(attachment, archived=archived)
        raise _no_such_record()

    def archive(self, record_id: str) -> None:
        """Hide a record from the chart (`POST …/archive`; `DELETE` is deprecated). Raises DocumentRefused."""
        answer = self._api.call("POST", _ATTACHMENTS, record_id, "archive")
        if answer.status == 404:
            if self._one(record_id, archived_too=True) is None:
                raise _no_such_record()
            return  # archived already
        _OF_ACCOUNT.success(answer)

    def _shown(self, attachment: Attachment, *, archived: bool) -> Mapping[str, Any]:
        return attachment.shown(self._record(attachment).url or "", archived=archived)

    # --- lists -------------------------------------------------------------------------------------------------

    def _pages(self, place: Sequence[str], filters: Query, sort: str, *, most: int = _MOST_PAGES) -> Pages[Attachment]:
        def ask(query: Query) -> Page[Attachment]:
            answer = self._api.call("GET", *place, params=query)
            said = understood((_OF_ACCOUNT if len(place) == 1 else _OF_PATIENT).success(answer), _List, _NAME)
            return Page.of(said.patient_attachments, said.total_entries, said.links)

        def numbered(page: int) -> Query:
            return [*filters, ("sort", sort), ("page", str(page)), ("per_page", str(_PAGE_SIZE))]

        return Pages(_NAME, self._api.url(*place), ask, numbered, most)


def _basic(key: str) -> str:
    """The key as user name, with an empty password (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{key}:".encode()).decode()


def _patient(document: Document) -> str:
    return document.patient_id or ""


def _upload_url(form_url: str, stored: Stored) -> str:
    return f"{form_url.removesuffix('/')}/{stored.key}"


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _before(since: str) -> str:
    return _moment(datetime.fromisoformat(since) - _CLOCKS_DIFFER)


def _check_options(document: Document) -> None:
    """An option that cannot be followed must not be passed over: its document would become another one."""
    if not document.options:
        return
    named = [name if name in _OPTIONS else "an unknown one" for name in sorted(document.options)]
    raise invalid(
        f"Cliniko takes no options; this document has {', '.join(dict.fromkeys(named))}.",
        "Leave the options out, or send the document to an account of the provider that they are meant for.",
    )


def _no_such_record() -> DocumentRefused:
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        "Cliniko knows no such record.",
        hint="Check the id: it is the one in the document's receipt; and whether it is this account's.",
    )


# --- answers ---------------------------------------------------------------------------------------------------------


class _Presigned(BaseModel):
    url: StrictStr | None
    fields: dict[StrictStr, StrictStr] = {}


class _List(BaseModel):
    patient_attachments: list[Attachment]
    total_entries: Any = None
    links: Any = None


def _presigned(answer: Answer) -> _Presigned | None:
    if answer.body.strip() == b"null":
        return None
    said = understood(answer, _Presigned, _NAME)
    if said.url and not said.fields:
        raise not_understood(_NAME, "an upload form without fields")
    return said


class _Words(BaseModel):
    message: Any = ""
    errors: Any = None


def _said(answer: Answer) -> _Words:
    try:
        return _Words.model_validate_json(answer.body[:65_536])
    except ValidationError:
        return _Words()


def _words(answer: Answer) -> str:
    """Cliniko's own words, for the error file only."""
    said = _said(answer)
    errors = said.errors if isinstance(said.errors, dict) else {}
    return "; ".join(filter(None, [str(said.message or ""), *(f"{field} {what}" for field, what in errors.items())]))


def _refused_fields(answer: Answer) -> set[str]:
    errors = _said(answer).errors if answer.status == 422 else None
    return set(errors) if isinstance(errors, dict) else set()


def _upload_is_refused(answer: Answer) -> bool:
    """The error bears another name than the field that was sent, as users of github.com/redguava/cliniko-api report."""
    return bool(_refused_fields(answer) & {"temp_attachment_url", "upload_url"})


def _only_the_upload_is_refused(answer: Answer) -> bool:
    return _refused_fields(answer) <= {"temp_attachment_url", "upload_url"}


_UNACCEPTABLE = refused(
    "Cliniko does not accept the document.",
    "Read Cliniko's own words in the detail; check the patient id and the description, then retry.",
    _words,
)
_MEANINGS = {
    400: _UNACCEPTABLE,
    409: _UNACCEPTABLE,
    413: _UNACCEPTABLE,
    422: _UNACCEPTABLE,
    401: locked_out("Cliniko refused the key (401): check api_key, and that its user is still active."),
    402: blocked("Cliniko asks for payment (402): check the subscription of this account."),
    403: locked_out(
        "Cliniko refused access (403): check what the key's user may do, and that contact is a name and a mail address."
    ),
}
_NO_SUCH_PATIENT = refused(
    "Cliniko knows no such patient.",
    "Check the patient id: it must be the one that Cliniko's addresses show, and of this account's shard.",
    _words,
)
_OF_ACCOUNT = Answers(_NAME, _MEANINGS, throttled_seconds=_THROTTLED_SECONDS)
_OF_PATIENT = Answers(_NAME, {**_MEANINGS, 404: _NO_SUCH_PATIENT}, throttled_seconds=_THROTTLED_SECONDS)
