"""PracSuite: presign, upload, and wait until its validation has made a record of the file.

Vendor pages: https://docs.api.pracsuite.com/guides/uploading-attachments and the reference beside it. What they leave
open (the name of the list's array, ids as numbers or text, a record's name) is tolerated; what cannot be understood
blocks the account with a sentence that says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from config.accounts import PracsuiteAccount
from config.fingerprint import fingerprint
from tasks.http.api import not_understood, parse_answer
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused, RetryLater, invalid_request
from tasks.model.job import Assurance, Facts, Form, Job, Record
from tasks.model.names import check_file_name, composed, upload_name
from tasks.model.route import Route, Stage
from tasks.providers.base import ChartRecord, DocumentGate, Found, GivenFile, RecordQuery
from tasks.providers.checks import check_patient, check_size, patient_of
from tasks.providers.connection import Connection
from tasks.providers.pages import not_adding_up
from tasks.providers.patient_list import Known, PatientList
from tasks.providers.pracsuite.answers import (
    NAME,
    STATUSES,
    Attachment,
    AttachmentPage,
    Presigned,
    attachments_in,
    bare,
    check_error,
)
from tasks.providers.pracsuite.chart import Chart
from tasks.providers.pracsuite.lists import ATTACHMENTS, Attachments

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
        self._attachments = Attachments(self._api, self._cache, self._scope)
        # For the addresses of files, which hold their own signature: no key goes there.
        storage = connection.api(account.base_url, provider=NAME, headers={})
        self._chart = Chart(self._attachments, storage, account.upload_hosts, connection.list_limiter)

    # --- before any call -------------------------------------------------------------------------------------

    def route(self, document: Document) -> Route:
        return Route(self.stages)

    def check(self, document: Document) -> None:
        """Patient, size, name, and what PracSuite has no place for. Raises DocumentRefused."""
        check_patient(document, NAME)
        check_size(document, self._max_bytes)
        check_file_name(document.file_name)
        _check_all_is_taken(document)

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
        path = ("patient", patient_of(job.document), ATTACHMENTS)
        answer = self._api.call("POST", *path, json={"file_name": self.sent_name(job.document)})
        presigned = parse_answer(STATUSES.success(answer), Presigned, NAME)
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
        answer = self._api.call("GET", "patient", "0", ATTACHMENTS, params=[("page_size", "1")])
        if answer.success:
            page = parse_answer(answer, AttachmentPage, NAME)
            # Many servers answer with some empty list; the reference has `total_entries` in each of PracSuite's.
            if not (attachments_in(page.model_extra or {}) or page.total_entries is not None or page.links):
                raise not_understood(NAME, "a list without total_entries")
        elif not isinstance(error := STATUSES.error(answer), DocumentRefused):
            raise error
        else:
            check_error(answer)

    # --- records, for people ---------------------------------------------------------------------------------

    def check_query(self, query: RecordQuery) -> None:
        self._chart.check_query(query)

    def records(self, query: RecordQuery) -> Iterator[ChartRecord]:
        return self._chart.records(query)

    def record(self, record_id: str) -> ChartRecord:
        return self._chart.record(record_id)

    def download(self, record_id: str, take: Callable[[bytes], object], *, most_bytes: int) -> GivenFile:
        return self._chart.download(record_id, take, most_bytes=most_bytes)

    # --- private: lists and records --------------------------------------------------------------------------

    def _list_of(self, patient: str, search: str = "") -> PatientList[Attachment]:
        """The patient's list, shared by all who need it; or a reading of its own for one search."""
        pages = self._attachments.pages(patient, limiter=self._list_limiter)
        return PatientList(self._cache, pages, f"{self._scope} {search}".strip(), patient, bare)

    def _match(self, jobs: Sequence[Job], known: Known[Attachment], owners: Mapping[str, str]) -> Mapping[str, Found]:
        """Each record proves one job at most: one that came after its snapshot, with its size and its name."""
        found: dict[str, Found] = {}
        taken = dict(owners)
        names = _Names(self._attachments.name_of)
        try:
            for job in sorted(jobs, key=lambda job: job.created_at):
                for attachment in _candidates(job, known, taken):
                    if names.match(attachment, self.sent_name(job.document)):
                        found[job.id] = Found(
                            self._attachments.reference(attachment), doubt=_doubt(job, known, attachment)
                        )
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
                    similar[job.id] = Found(self._attachments.reference(attachment), doubt=sentence)
                    break
        return similar


def _check_all_is_taken(document: Document) -> None:
    """What PracSuite has no place for must not be dropped: the document would not become what was asked for.

    A request for a form holds `file_name` alone (https://docs.api.pracsuite.com/guides/uploading-attachments).
    """
    given = {
        "options": document.options,
        "a description": document.description,
        "a content_type": document.content_type,
    }
    if named := [what for what, value in given.items() if value]:
        raise invalid_request(
            f"PracSuite takes a file and its name alone; this document has {' and '.join(named)}.",
            "Leave that out: PracSuite tells the type by the ending of the file name.",
        )


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
