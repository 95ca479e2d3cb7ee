"""Any FHIR R4 server: a document becomes a DocumentReference there, its bytes inline or as a Binary.

https://hl7.org/fhir/R4/http.html (create, conditional create and update, search, transaction),
https://hl7.org/fhir/R4/documentreference.html and https://hl7.org/fhir/R4/binary.html. The record carries an identifier
that follows from the job. A create names it in If-None-Exist, and a search finds the record by it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pydantic import BaseModel

from config.accounts import FhirAccount
from tasks.http.api import Body, not_understood, parse_answer
from tasks.http.commit_gate import NoCommit
from tasks.http.exchange import Answer
from tasks.model.document import Document
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, OutcomeUnknown, RetryLater
from tasks.model.job import Assurance, Facts, Job, Record, Stored
from tasks.model.names import check_file_name
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tasks.providers.base import ChartRecord, DocumentGate, Found, GivenFile, RecordQuery, Registered
from tasks.providers.checks import check_size
from tasks.providers.connection import Connection
from tasks.providers.digests import Digests
from tasks.providers.document_body import DocumentBody
from tasks.providers.fhir import fixed_id
from tasks.providers.fhir_server.access import api_of
from tasks.providers.fhir_server.answers import (
    ACCEPT,
    CONTENT_TYPE,
    CREATE_STATUSES,
    NAME,
    READ_STATUSES,
    Named,
    committed,
    created,
)
from tasks.providers.fhir_server.capabilities import Capabilities, Statement, check
from tasks.providers.fhir_server.patients import Patients
from tasks.providers.fhir_server.reading_back import DocumentReference, ReadingBack
from tasks.providers.fhir_server.records import Chart
from tasks.providers.fhir_server.resources import (
    URIS,
    binary_id,
    check_parts,
    document_identifier,
    document_reference,
    identifier_query,
    transaction,
)
from tasks.sources.stream import changed_while_sending

# Nobody needs the document back in the answer (https://hl7.org/fhir/R4/http.html#return).
_HEADERS = {"Accept": ACCEPT, "Prefer": "return=minimal"}
_ACCEPT = {"Accept": ACCEPT}
_NO_DOCUMENT = [("identifier", f"{URIS}|urn:uuid:{fixed_id('fhir', 'no document')}")]
_SUMMARY = [("_summary", "true")]
_INLINE_READ_BACK_BYTES = 2_000_000  # in base64 it still fits into what is read of an answer, and into memory
_EMBEDDED_REMARK = (
    "It was too large to be embedded (413), and was uploaded instead: lower this account's embed_below_bytes."
)
_SEVERAL = "The server has several records with this document's identifier: remove all but one of them there."


class FhirServer:
    """One account at a FHIR server."""

    kind = "fhir"
    stages: tuple[Stage, ...] = (Stage.STORED, Stage.REGISTERED)
    assurance = Assurance.CONFIRMED

    def __init__(self, name: str, account: FhirAccount, connection: Connection) -> None:
        self.limit_group = account.limit_group
        self._account = account
        self._on_unknown_outcome = OnUnknownOutcome(account.on_unknown_outcome)
        self._api = api_of(name, account, connection)
        self._statement = Statement(connection.cache, account.base_url, self._metadata)
        self._patients = Patients(account, self._api, self._statement, connection.cache)
        open_api = connection.api(account.base_url, provider=NAME, headers={})
        self._reading_back = ReadingBack(account, self._api, open_api)
        self._chart = Chart(account, self._api, open_api, self._patients, connection.list_limiter)

    # --- before any call -------------------------------------------------------------------------------------

    def route(self, document: Document) -> Route:
        """Small documents travel in the DocumentReference, larger ones are uploaded as a Binary before."""
        if self._travels_alone(document):
            return Route(self.stages, Step.POST, together=False, on_unknown_outcome=self._on_unknown_outcome)
        return Route((Stage.REGISTERED,), Step.REGISTER, together=False, on_unknown_outcome=self._on_unknown_outcome)

    def check(self, document: Document) -> None:
        """Patient, size, name, options, and what a DocumentReference needs. Raises DocumentRefused."""
        check_size(document, self._account.max_bytes)
        check_file_name(document.file_name)
        check_parts(document, self._account)
        self._patients.check(document)

    def before_sending(self, job: Job) -> Facts:
        """Note the patient's reference. The identifier follows from the job."""
        self._usable()
        return replace(job.facts, provider={**job.facts.provider, "patient": self._patients.reference(job.document)})

    # --- sending ---------------------------------------------------------------------------------------------

    def store(self, job: Job, gate: DocumentGate) -> Stored:
        """Upload the document as a Binary, in its own format, with the patient as its security context.

        Under an id of ours where the server lets us choose it: then a second upload is the same Binary. Elsewhere a
        kill between the upload and its answer leaves a Binary that nothing refers to. A server without Binaries gets
        the document in its DocumentReference.
        """
        capabilities = self._usable()
        if not (capabilities.binary_ids_of_ours or capabilities.binary_creates):
            digests = Digests.of(gate)
            return Stored("", None, False, digests.sha256, digests.md5)
        headers = {**_HEADERS, "X-Security-Context": self._patients.reference(job.document)}
        method, path = ("PUT", ("Binary", binary_id(job))) if capabilities.binary_ids_of_ours else ("POST", ("Binary",))
        body, no_commit = DocumentBody(job.document, gate), NoCommit(gate)
        try:
            answer = self._api.send(
                lambda api: api.create(method, *path, body=body.raw(), gate=no_commit, headers=headers)
            )
            CREATE_STATUSES.success(answer)
            id_ = binary_id(job) if method == "PUT" else created(answer, "Binary", self._api.base_url).id
        except OutcomeUnknown as error:
            raise RetryLater(str(error), unreachable=error.unreachable) from error
        return body.stored(id_, f"Binary/{id_}")

    def register(self, job: Job, gate: DocumentGate) -> Registered:
        """Create the DocumentReference, and read it back. Raises OutcomeUnknown if it may have been created."""
        capabilities = self._usable()
        if job.uncertainty.perhaps_sent and (earlier := self._read_back(job, self._searched(job, capabilities))):
            return earlier
        patient = job.facts.provider.get("patient") or self._patients.reference(job.document)
        stored = job.facts.stored
        if stored is None and self._travels_alone(job.document):
            stored = self.store(job, gate)
        remarks: tuple[str, ...] = ()
        if stored is None or not stored.location:
            try:
                record, stored = self._create_holding(job, patient, gate, capabilities)
                return self._confirmed(job, record, stored, capabilities)
            except DocumentRefused as refusal:
                if refusal.code is not Code.FILE_TOO_LARGE or not self._may_travel_alone(capabilities):
                    raise
            # Nothing was created (413): it goes as larger documents do.
            stored, remarks = self.store(job, gate), (_EMBEDDED_REMARK,)
        record = self._create_referring(job, patient, stored, gate, capabilities)
        registered = self._confirmed(job, record, stored, capabilities)
        return replace(registered, remarks=(*remarks, *registered.remarks))

    # --- finding ---------------------------------------------------------------------------------------------

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str], *, thorough: bool = False) -> Mapping[str, Found]:
        """The jobs whose records are there under their identifiers, each read back."""
        capabilities = self._statement.current()
        found = {job.id: self._found(job, self._records_of(job, capabilities)) for job in jobs}
        return {id_: each for id_, each in found.items() if each is not None}

    def still_there(self, document: Document, record: Record) -> bool:
        """Whether the record can be read, and is not marked as entered in error."""
        if not self._statement.current().reads:
            return True  # the server shows nothing: what it has created is taken to stand
        reference = self._read(record.id, _INLINE_READ_BACK_BYTES + 1)
        return reference is not None and reference.status != "entered-in-error"

    def probe(self) -> None:
        """The statement, with a login that is made now: a remembered one would hide that it is refused.

        Many servers show their statement to everybody. So where there is a search, one for no document is made as well.
        """
        capabilities = self._statement.fresh()
        check(capabilities, self._account)
        if not capabilities.searches_by_identifier:
            return
        answer = self._api.send(lambda api: api.call("GET", "DocumentReference", params=_NO_DOCUMENT, headers=_ACCEPT))
        # A client may be allowed to create and not to search, where that is all that it needs.
        if answer.status != 403 or self._on_unknown_outcome is OnUnknownOutcome.RECONCILE:
            parse_answer(READ_STATUSES.success(answer), Named, NAME)

    # --- records for people ----------------------------------------------------------------------------------

    def check_query(self, query: RecordQuery) -> None:
        self._chart.check_query(query)

    def records(self, query: RecordQuery) -> Iterator[ChartRecord]:
        return self._chart.records(query)

    def record(self, record_id: str) -> ChartRecord:
        return self._chart.record(record_id)

    def download(self, record_id: str, take: Callable[[bytes], object], *, most_bytes: int) -> GivenFile:
        return self._chart.download(record_id, take, most_bytes=most_bytes)

    # --- private: what the server offers ---------------------------------------------------------------------

    def _metadata(self, fresh_login: bool) -> Answer:
        send = self._api.send_fresh if fresh_login else self._api.send
        return READ_STATUSES.success(send(lambda api: api.call("GET", "metadata", headers=_ACCEPT)))

    def _usable(self) -> Capabilities:
        capabilities = self._statement.current()
        check(capabilities, self._account)
        return capabilities

    def _travels_alone(self, document: Document) -> bool:
        """Whether the document is uploaded as a Binary before its DocumentReference."""
        payload = self._account.payload
        return payload == "binary" or (payload == "auto" and document.size_bytes >= self._account.embed_below_bytes)

    def _may_travel_alone(self, capabilities: Capabilities) -> bool:
        return self._account.payload == "auto" and (capabilities.binary_creates or capabilities.binary_ids_of_ours)

    # --- private: creating -----------------------------------------------------------------------------------

    def _create_referring(
        self, job: Job, patient: str, stored: Stored, gate: DocumentGate, capabilities: Capabilities
    ) -> Record:
        # Read once more: the hash is of what lies there now, which must be what was uploaded.
        digests = Digests.of(gate)
        if digests.sha256 != stored.sha256:
            raise changed_while_sending()
        resource = document_reference(job, self._account, patient, digests, {"url": stored.location or ""})
        return self._create(job, Body.of(json.dumps(resource).encode(), CONTENT_TYPE), gate, capabilities)

    def _create_holding(
        self, job: Job, patient: str, gate: DocumentGate, capabilities: Capabilities
    ) -> tuple[Record, Stored]:
        """With the bytes inline, or in a transaction beside it."""
        digests = Digests.of(gate)
        # The document is read again while it is sent: with other bytes its hash would be wrong.
        body = DocumentBody(job.document, gate, expected_sha256=digests.sha256)
        account, put = self._account, capabilities.binary_ids_of_ours

        def holding(data: str) -> dict[str, Any]:
            if account.payload == "transaction":
                return transaction(job, account, patient, digests, data, put=put, once=capabilities.conditional_create)
            return document_reference(job, account, patient, digests, {"data": data})

        record = self._create(job, body.in_json(CONTENT_TYPE, holding), gate, capabilities)
        # From the first reading: a conditional create may be answered before all of the second was sent.
        return record, Stored(document_identifier(job), None, False, digests.sha256, digests.md5)

    def _create(self, job: Job, body: Body, gate: DocumentGate, capabilities: Capabilities) -> Record:
        conditional, in_bundle = self._account.conditional, self._account.payload == "transaction"
        method, path, headers, params = "POST", ["DocumentReference"], dict(_HEADERS), []
        if in_bundle:
            path = []
        elif conditional == "update":
            method, params = "PUT", [("identifier", f"{URIS}|{document_identifier(job)}")]
        elif conditional == "create" and capabilities.conditional_create:
            headers["If-None-Exist"] = identifier_query(job)
        answer = self._api.send(
            lambda api: api.create(method, *path, body=body, gate=gate, params=params, headers=headers)
        )
        CREATE_STATUSES.success(answer)
        name = committed if in_bundle else created
        return name(answer, "DocumentReference", self._api.base_url)

    # --- private: reading back -------------------------------------------------------------------------------

    def _confirmed(self, job: Job, record: Record, stored: Stored, capabilities: Capabilities) -> Registered:
        """The record that the server has named, as far as reading it back has shown what it holds."""
        job = replace(job, facts=replace(job.facts, stored=stored))
        seen = self._read_back(job, self._made(job, record, capabilities))
        if seen is not None:
            return seen
        if self._on_unknown_outcome is OnUnknownOutcome.RECONCILE:
            return Registered(record, processed=False, stored=stored)  # the confirming searches go on
        remark = "Confirmed by the server's answer alone: its record could not be read back."
        return Registered(record, processed=True, stored=stored, remarks=(remark,))

    def _made(self, job: Job, record: Record, capabilities: Capabilities) -> Sequence[DocumentReference]:
        """The record that was made; none if the server cannot be asked just now, since it is made already."""
        try:
            return self._records_of(replace(job, facts=replace(job.facts, record=record)), capabilities)
        except (RetryLater, AccountBlocked):
            return []

    def _records_of(self, job: Job, capabilities: Capabilities) -> Sequence[DocumentReference]:
        """By the id that the server has named, which every server can; else by the identifier."""
        record = job.facts.record
        if record is None or not capabilities.reads:
            return self._searched(job, capabilities)
        reference = self._read(record.id, job.document.size_bytes)
        return [reference] if reference else []

    def _read_back(self, job: Job, references: Sequence[DocumentReference]) -> Registered | None:
        """The job's record, if it is there and its document with it. Raises DocumentRefused if it is not ours."""
        try:
            found = self._found(job, references)
        except (RetryLater, AccountBlocked):
            return None
        if found is None:
            return None
        if found.fault or found.doubt:
            said = found.fault or DocumentRefused(Code.OUTCOME_UNKNOWN, found.doubt)
            raise DocumentRefused(Code.OUTCOME_UNKNOWN, said.message, hint=said.hint, detail=said.detail)
        return Registered(found.record, processed=True, stored=job.facts.stored, remarks=found.remarks)

    def _found(self, job: Job, references: Sequence[DocumentReference]) -> Found | None:
        """What the records under the job's identifier prove."""
        if not references:
            return None
        reference = references[0]
        version = reference.meta.versionId if isinstance(reference.meta.versionId, str) else None
        record = Record(str(reference.id), self._api.url("DocumentReference", str(reference.id)), version=version)
        if len({each.id for each in references}) > 1:
            return Found(record, doubt=_SEVERAL)
        verdict = self._reading_back.verdict(job, reference)
        if verdict.absent:
            return None
        remarks = tuple(filter(None, (verdict.remark, _of_another(job, reference))))
        return Found(record, remarks=remarks, fault=verdict.fault)

    def _read(self, record_id: str, size_bytes: int = 0) -> DocumentReference | None:
        """The record, if it is there; without its bytes if those could be too many for one answer."""
        params = _SUMMARY if size_bytes > _INLINE_READ_BACK_BYTES else ()
        answer = self._api.send(
            lambda api: api.call("GET", "DocumentReference", record_id, params=params, headers=_ACCEPT)
        )
        if answer.status in (404, 410):
            return None
        reference = parse_answer(READ_STATUSES.success(answer), DocumentReference, NAME)
        if reference.resourceType != "DocumentReference" or reference.id != record_id:
            raise not_understood(NAME, "something else than the DocumentReference that was asked for")
        return reference

    def _searched(self, job: Job, capabilities: Capabilities) -> Sequence[DocumentReference]:
        """The job's records by its identifier: one, or none."""
        if not capabilities.searches_by_identifier:
            return []
        params = [("identifier", f"{URIS}|{document_identifier(job)}")]
        if job.document.size_bytes > _INLINE_READ_BACK_BYTES:
            params += _SUMMARY
        answer = self._api.send(lambda api: api.call("GET", "DocumentReference", params=params, headers=_ACCEPT))
        bundle = parse_answer(READ_STATUSES.success(answer), _Bundle, NAME)
        if bundle.resourceType != "Bundle":
            raise not_understood(NAME, "no Bundle to a search")
        # By the identifier once more: servers may ignore a parameter, and then show everything.
        found = [each.resource for each in bundle.entry if each.resource and each.resource.has_identifier(job)]
        return [each for each in found if isinstance(each.id, str)]


def _of_another(job: Job, reference: DocumentReference) -> str:
    """A sentence, if the record is another patient's than it was sent for, as after a merge."""
    sent, subject = job.facts.provider.get("patient"), reference.subject.reference if reference.subject else None
    if not sent or not isinstance(subject, str) or f"/{subject}".partition("/_history/")[0].endswith(f"/{sent}"):
        return ""
    return "The server shows the record under another patient than it was sent for: look at it in the chart."


class _Entry(BaseModel):
    resource: DocumentReference | None = None


class _Bundle(BaseModel):
    resourceType: Any = None  # noqa: N815, as FHIR writes it
    entry: list[_Entry] = []
