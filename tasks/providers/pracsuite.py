"""PracSuite: presign, upload, and wait until its validation has made a record of the file.

Vendor pages: https://docs.api.pracsuite.com/guides/uploading-attachments and the reference beside it. What they leave
open (the name of the list's array, ids as numbers or text, a record's name) is tolerated; what cannot be understood
blocks the account with a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel, StrictStr, ValidationError

from config.accounts import PracsuiteAccount
from config.fingerprint import fingerprint
from tasks.http.api import check_json, not_understood, parse_answer
from tasks.http.exchange import Answer
from tasks.http.json_values import whole_number
from tasks.model.document import Document
from tasks.model.errors import About, Code, DocumentRefused, RetryLater
from tasks.model.job import Assurance, Facts, Form, Job, Record
from tasks.model.names import check_file_name, composed, upload_name
from tasks.model.route import Route, Stage
from tasks.providers.base import DocumentGate, Found
from tasks.providers.checks import check_patient, check_size, patient_of
from tasks.providers.connection import Connection
from tasks.providers.pages import Page, Pages, Query, RecordId, not_adding_up, own_link
from tasks.providers.patient_list import Known, PatientList
from tasks.providers.statuses import StatusTable, locked_out, refused

NAME = "PracSuite"

_ATTACHMENTS = "patient_attachment"
_PAGE_SIZE = 100
_MAX_PAGES = 1000
_NAME_SECONDS = 86_400.0

# In `Facts.provider`: how many records the list announced, if it did not show them all.
_ANNOUNCED = "announced"


class PracSuite:
    """One clinic's account."""

    kind = "pracsuite"
    stages: tuple[Stage, ...] = (Stage.PRESIGNED, Stage.STORED)
    assurance = Assurance.CONFIRMED
    presign_creates = False

    def __init__(self, name: str, account: PracsuiteAccount, connection: Connection) -> None:
        vendor_key, clinic_key = account.vendor_api_key.get_secret_value(), account.api_key.get_secret_value()
        self.limit_group = account.limit_group
        self._max_bytes = account.max_bytes
        self._cache = connection.cache
        self._list_limiter = connection.list_limiter
        # With the clinic's key: under another clinic's, the same id is another record.
        self._scope = f"{name} {fingerprint(account.base_url, vendor_key, clinic_key)}"
        keys = {"x-api-key": vendor_key, "a-api-key": clinic_key}
        self._api = connection.api(account.base_url, provider=NAME, headers=keys)

    # --- before any call -------------------------------------------------------------------------------------

    def route(self, document: Document) -> Route:
        return Route(self.stages)

    def check(self, document: Document) -> None:
        """Patient, size and name. Raises DocumentRefused."""
        check_patient(document, NAME)
        check_size(document, self._max_bytes)
        check_file_name(document.file_name)

    def before_sending(self, job: Job) -> Facts:
        """Note the ids of the records that the patient has. A job that was sent before keeps its first snapshot."""
        if job.facts.snapshot is not None:
            return job.facts
        # One listing may serve all documents that are sent within some seconds: it was taken before any of their
        # presigns, and records that have proved another job since then are left out by their owners.
        known = self._list_of(patient_of(job.document)).complete()
        hidden = {_ANNOUNCED: known.announced} if known.unseen else {}
        return replace(job.facts, snapshot=tuple(known.entries), provider={**job.facts.provider, **hidden})

    # --- sending ---------------------------------------------------------------------------------------------

    def sent_name(self, document: Document) -> str:
        """The name that was asked for: the validation compares name and ending with it."""
        return upload_name(document.file_name)

    def presign(self, job: Job, gate: DocumentGate) -> Form:
        """Ask for a form. Repeating it harms nothing: only an upload creates something."""
        path = ("patient", patient_of(job.document), _ATTACHMENTS)
        answer = self._api.call("POST", *path, json={"file_name": self.sent_name(job.document)})
        presigned = parse_answer(_STATUSES.success(answer), _Presigned, NAME)
        return Form(presigned.url, presigned.fields)

    # --- finding ---------------------------------------------------------------------------------------------

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str], *, thorough: bool = False) -> Mapping[str, Found]:
        """One listing for all jobs of a patient, and one more call for each new record whose size fits."""
        if not jobs:
            return {}
        patient = patient_of(jobs[0].document)
        try:
            if not thorough:
                return self._match(jobs, self._list_of(patient).latest(), owners)
            # A list of its own: nothing of it was read before this search began.
            known = self._list_of(patient, min(job.id for job in jobs)).read_alone()
        except DocumentRefused as error:
            if error.code is Code.GAVE_UP:
                raise
            # The patient is not there now. That proves nothing about the upload: the search goes on until its deadline.
            return {}
        found = self._match(jobs, known, owners)
        if any(job.id not in found and known.unseen > _unseen_before(job) for job in jobs):
            raise not_adding_up(NAME)  # the record that it does not show may be ours
        return found

    def still_there(self, document: Document, record: Record) -> bool:
        """Whether the patient's list still has the record."""
        try:
            return self._list_of(patient_of(document)).shows(record.id)
        except DocumentRefused:
            return False

    def probe(self) -> None:
        """List the attachments of a patient who need not exist: the answer shows whether the keys work."""
        answer = self._api.call("GET", "patient", "0", _ATTACHMENTS, params=[("page_size", "1")])
        if answer.success:
            _attachments_in(parse_answer(answer, _List, NAME).model_extra or {})
        elif not isinstance(error := _STATUSES.error(answer), DocumentRefused):
            raise error
        else:
            check_json(answer, NAME)

    # --- private: lists and records --------------------------------------------------------------------------

    def _list_of(self, patient: str, search: str = "") -> PatientList[Attachment]:
        """The patient's list, shared by all who need it; or a reading of its own for one search."""

        def ask(query: Query) -> Page[Attachment]:
            answer = self._api.call("GET", "patient", patient, _ATTACHMENTS, params=query)
            listed = parse_answer(_STATUSES.success(answer), _List, NAME)
            return Page.of(_attachments_in(listed.model_extra or {}), listed.total_entries, listed.links)

        def numbered(page: int) -> Query:
            return (("page", str(page)), ("page_size", str(_PAGE_SIZE)))

        url = self._api.url("patient", patient, _ATTACHMENTS)
        pages = Pages(NAME, url, ask, numbered, _MAX_PAGES, self._list_limiter)
        return PatientList(self._cache, pages, f"{self._scope} {search}".strip(), patient, _bare)

    def _match(self, jobs: Sequence[Job], known: Known[Attachment], owners: Mapping[str, str]) -> Mapping[str, Found]:
        """Each record proves one job at most: one that came after its snapshot, with its size and its name."""
        found: dict[str, Found] = {}
        taken = dict(owners)
        names = _Names(self._name_of)
        try:
            for job in sorted(jobs, key=lambda job: job.created_at):
                for attachment in _candidates(job, known, taken):
                    if names.match(attachment, self.sent_name(job.document)):
                        found[job.id] = Found(self._record(attachment), doubt=_doubt(job, known, attachment))
                        taken[attachment.id] = job.id
                        break
            return self._similar([job for job in jobs if job.id not in found], known, taken, names) | found
        except RetryLater:
            # What is found settles its jobs now. But a job that would be sent again if it is not found must not be
            # reported as not found because a name could not be asked for. Names that came are remembered.
            if not found or any(job.uncertainty.outcome_unknown and job.id not in found for job in jobs):
                raise
        return found

    def _similar(
        self, jobs: Sequence[Job], known: Known[Attachment], taken: Mapping[str, str], names: _Names
    ) -> dict[str, Found]:
        """Records that came since, of the right size and under another name: PracSuite may have changed it.

        They prove nothing. A person must look.
        """
        similar = {}
        for job in jobs:
            for attachment in _candidates(job, known, taken):
                if attachment.size is not None and names.known(attachment):
                    sentence = f"A record of the same size came under another name: record {attachment.id}."
                    similar[job.id] = Found(self._record(attachment), doubt=sentence)
                    break
        return similar

    def _name_of(self, attachment_id: str) -> str:
        """The file name behind a record, asked for once and remembered; empty if it has none."""
        known = self._cache.get(f"names {self._scope}", attachment_id)
        if known is not None:
            return known
        # A record itself holds no file name. Its download does:
        # https://docs.api.pracsuite.com/openapi/patient-attachment/getpatientattachmentpresignurl.md
        answer = self._api.call("GET", _ATTACHMENTS, attachment_id, "presign_url")
        try:
            name = parse_answer(_STATUSES.success(answer), _Download, NAME).file_name or ""
        except DocumentRefused:
            return ""  # removed meanwhile, or without a file
        self._cache.put(f"names {self._scope}", attachment_id, name, _NAME_SECONDS)
        return name

    def _record(self, attachment: Attachment) -> Record:
        constructed = self._api.url(_ATTACHMENTS, attachment.id)
        return Record(attachment.id, own_link(attachment.links, self._api.base_url, constructed))


def _candidates(job: Job, known: Known[Attachment], taken: Mapping[str, str]) -> Iterator[Attachment]:
    """The records that may be this job's. Without a snapshot there are none, for then nothing was sent."""
    if job.facts.snapshot is None:
        return
    before = set(job.facts.snapshot)
    for record_id, size in known.entries.items():
        free = taken.get(record_id, job.id) == job.id
        if free and record_id not in before and size in (None, job.document.size_bytes):
            yield known.record(record_id)


def _unseen_before(job: Job) -> int:
    """How many of the records that were announced before the upload the list did not show."""
    announced = job.facts.provider.get(_ANNOUNCED)
    return announced - len(job.facts.snapshot or ()) if isinstance(announced, int) else 0


def _doubt(job: Job, known: Known[Attachment], attachment: Attachment) -> str:
    """A record that the list announced and did not show before the upload may be shown now, and look like a new one.

    Then more records are shown for the first time than the list has grown by.
    """
    announced = job.facts.provider.get(_ANNOUNCED)
    if not isinstance(announced, int) or known.announced is None:
        return ""
    shown = len(known.entries.keys() - set(job.facts.snapshot or ()))
    if shown <= known.announced - announced:
        return ""
    return f"Record {attachment.id} has its name and size, and may be an older one that PracSuite's list did not show."


class _Names:
    """Compares the names of records, asking for each at most once."""

    def __init__(self, ask: Callable[[str], str]) -> None:
        self._ask = ask
        self._asked: dict[str, str] = {}

    def match(self, attachment: Attachment, name: str) -> bool:
        wanted = composed(name)
        if isinstance(attachment.file_name, str) and attachment.file_name:
            return composed(attachment.file_name) == wanted
        if isinstance(attachment.name, str) and composed(attachment.name) == wanted:
            return True
        if attachment.id not in self._asked:
            self._asked[attachment.id] = composed(self._ask(attachment.id))
        return self._asked[attachment.id] == wanted

    def known(self, attachment: Attachment) -> bool:
        """Whether the record has a name that differs from what it was compared with. False if it is gone by now."""
        return self._asked.get(attachment.id) != ""


# --- answers ---------------------------------------------------------------------------------------------------------


class _Presigned(BaseModel):
    url: StrictStr
    fields: dict[StrictStr, StrictStr]


class _Download(BaseModel):
    file_name: StrictStr | None


class _List(BaseModel, extra="allow"):
    """A page of a list; its records are in one of the extra fields."""

    total_entries: Any = None
    links: Any = None


class Attachment(BaseModel):
    """A Patient Attachment record. Any field but the id may be missing or of an unexpected type."""

    attachment_client_id: RecordId
    file_size: Any = None
    file_name: Any = None
    name: Any = None
    links: Any = None

    @property
    def id(self) -> str:
        return str(self.attachment_client_id)

    @property
    def size(self) -> int | None:
        """In bytes; None where the record does not say, in digits."""
        return whole_number(self.file_size)


def _bare(record_id: str, size: int | None) -> Attachment:
    """A record that was listed before: only this is kept of it."""
    return Attachment(attachment_client_id=record_id, file_size=size)


def _attachments_in(fields: Mapping[str, object]) -> Sequence[Attachment]:
    """The one top-level value that is a list of objects, whatever its name.

    The reference has another name for each list (`attachment_client_folders`, `items`) and none for this one.
    """
    arrays = [value for value in fields.values() if isinstance(value, list)]
    filled = [array for array in arrays if array and all(isinstance(item, dict) for item in array)]
    if len(filled) > 1 or not arrays or (not filled and any(arrays)):
        raise not_understood(NAME, f"{len(filled) or 'no'} lists of records in one answer")
    try:
        return [Attachment.model_validate(item) for item in (filled[0] if filled else ())]
    except ValidationError:
        raise not_understood(NAME, "records without attachment_client_id") from None


class _ErrorBody(BaseModel):
    class Error(BaseModel):
        code: Any = ""
        detail: Any = ""

    error: Error
    request_id: Any = ""


def _words(answer: Answer) -> str:
    """PracSuite's own words, for the error file only."""
    try:
        body = _ErrorBody.model_validate_json(answer.body[:65_536])
    except ValidationError:
        return ""
    return f"{body.error.code}: {body.error.detail} {body.request_id}".strip()


_UNACCEPTABLE = refused(
    "PracSuite does not accept the patient id or the file name.",
    "Check both, then send it again with a better one.",
    _words,
)

# By the status alone: in the example of a 401 at https://docs.api.pracsuite.com the body says 403.
_STATUSES = StatusTable(
    NAME,
    {
        400: _UNACCEPTABLE,
        409: _UNACCEPTABLE,
        413: _UNACCEPTABLE,
        422: _UNACCEPTABLE,
        404: refused(
            "PracSuite knows no such patient.",
            "Check the patient id: it must be the one that PracSuite's addresses show.",
            _words,
            About.PATIENT,
        ),
        401: locked_out("PracSuite refused the keys (401): check vendor_api_key and api_key of this account."),
        # As AWS words a wrong path too: "the requested endpoint does not exist".
        403: locked_out(
            "PracSuite refused access (403): check the keys, the permissions of the clinic's key, and base_url."
        ),
    },
)
