"""NHN's document sharing: documents are provided (ITI-65, experimental) and their security labels replaced.

Vendor pages: "Patch Document Reference" and "Provide Document Bundle" at https://utviklerportal.nhn.no. The answer
itself holds the result, and ids that are fixed before sending make a second sending harmless.

The pages let only persons read who are logged in. The reference implementation also lets machines read single
documents, with the scope to create them. So after a lost answer the document is looked for under its id. Unless it is
shown, the same ids are sent again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import uuid4

import structlog

from config.accounts import NhnAccount
from config.oids import oid_as_uri
from tasks.http.api import Body
from tasks.http.exchange import Answer
from tasks.model.document import Document, LabelCoding, Relabeling
from tasks.model.errors import AccountBlocked, OutcomeUnknown, RetryLater, invalid_request
from tasks.model.job import Assurance, Facts, Job, Record, Stored
from tasks.model.names import check_file_name
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tasks.providers.auth.dpop import PROOF_REFUSED, DpopApi, proof_error
from tasks.providers.auth.jwt import Signer
from tasks.providers.base import DocumentGate, Found, Registered, Relabeled
from tasks.providers.checks import check_patient, check_size
from tasks.providers.connection import Connection
from tasks.providers.digests import Digests
from tasks.providers.document_body import DocumentBody
from tasks.providers.fhir import check_text, is_text, metadata_of
from tasks.providers.nhn.answers import (
    NAME,
    SHOWN,
    check_patch_taken,
    check_probe,
    filed,
    is_there,
    other_labels,
    proof_came_late,
    relabeled,
    validated,
)
from tasks.providers.nhn.bundle import CONTENT_TYPE, Bundle, Ids, missing_metadata
from tasks.providers.nhn.helseid import HelseId
from tasks.providers.nhn.media_types import check_content, type_for
from tasks.providers.nhn.options import options_of

log = structlog.get_logger()

_ACCEPT = "application/fhir+json; fhirVersion=4.0"
_JSON_PATCH = "application/json-patch+json"
_NO_DOCUMENT = "00000000-0000-0000-0000-000000000000"
_LARGE_BYTES = 1_000_000
_PAYLOADS = ("resource", "json-patch")
# https://hl7.org/fhir/R4/datatypes.html: id, uri and code
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9.-]{1,64}")
_URI = re.compile(r"[^\s\x00-\x1f\x7f]+")
_CODE = re.compile(r"[^\s\x00-\x1f\x7f]+(?: [^\s\x00-\x1f\x7f]+)*")


class Nhn:
    """One organization's account."""

    kind = "nhn"
    stages: tuple[Stage, ...] = (Stage.REGISTERED,)
    assurance = Assurance.CONFIRMED

    def __init__(self, name: str, account: NhnAccount, connection: Connection) -> None:
        self._name = name
        self.limit_group = account.limit_group
        self._account = account
        self._clock = connection.clock
        key = account.private_key.get_secret_value()
        signer = Signer(key, account.algorithm, usual=account.usual_algorithms, now=connection.clock.now)
        self._tokens = HelseId(account, signer, connection).tokens
        self._api = DpopApi(connection, account.base_url, provider=NAME, signer=signer, tokens=self._tokens)

    # --- before any call -------------------------------------------------------------------------------------

    def route(self, document: Document) -> Route:
        """One call for either: to provide a document, or to replace its labels."""
        return Route(self.stages, first=Step.REGISTER, together=False, on_unknown_outcome=OnUnknownOutcome.RESEND)

    def check(self, document: Document) -> None:
        """All that NHN could never take, named as in the settings. Raises DocumentRefused."""
        if document.relabeling:
            _check_relabeling(document.relabeling)
            return
        check_patient(document, NAME)
        check_size(document, self._account.max_bytes)
        check_file_name(document.file_name)
        type_for(document, self._account.media_types)
        options_of(document, self._clock.now())
        check_text(document)
        if missing := missing_metadata(self._account, metadata_of(document, self._account.metadata)):
            raise invalid_request(
                f"NHN takes no document without {', '.join(missing)}.",
                "Set it in the account's settings; metadata may also stand in the document's options.metadata.",
            )

    def before_sending(self, job: Job) -> Facts:
        """Fix the time that the Bundle holds at the first try; all its ids follow from the job and the bytes."""
        at = self._clock.now().isoformat(timespec="seconds").replace("+00:00", "Z")
        return replace(job.facts, provider={"at": at, **job.facts.provider})

    # --- sending ---------------------------------------------------------------------------------------------

    def register(self, job: Job, gate: DocumentGate) -> Registered:
        """Provide the document. A second sending carries the same ids, and NHN says that it has them."""
        digests = Digests.of(gate)
        ids = Ids.of(job, digests.sha256)
        # From the first reading: NHN may say that it knows the ids before all of the second was sent.
        stored = Stored(f"urn:uuid:{ids.document}", None, False, digests.sha256, digests.md5)
        if job.uncertainty.perhaps_sent and self._shows(ids.document, job.id):
            return Registered(self._record(ids.document), processed=True, stored=stored, remarks=(SHOWN,))
        bundle = self._bundle(job, digests, ids)
        # The document is read again while it is sent: with other bytes the Bundle's hash and ids would be wrong.
        document = DocumentBody(job.document, gate, expected_sha256=digests.sha256)
        body = document.in_json(CONTENT_TYPE, bundle.resource)
        answer = self._api.send(
            lambda api: api.create("POST", "Bundle", body=body, gate=gate, headers=self._headers(job.id))
        )
        if proof_error(answer) == PROOF_REFUSED and body.length > _LARGE_BYTES:
            raise proof_came_late()
        result = filed(answer, ids)
        return Registered(self._record(result.document_id), processed=True, stored=stored, remarks=result.remarks)

    def validate(self, job: Job, gate: DocumentGate) -> Sequence[str]:
        """Ask NHN what it would say of the document. Only the reference implementation is known to answer that."""
        digests = Digests.of(gate)
        bundle = self._bundle(job, digests, Ids.of(job, digests.sha256))
        body = DocumentBody(job.document, gate, expected_sha256=digests.sha256).in_json(CONTENT_TYPE, bundle.resource)
        try:
            answer = self._api.send(
                lambda api: api.create(
                    "POST", "Bundle", "$validate", body=body, gate=gate, headers=self._headers("dry-run")
                )
            )
        except OutcomeUnknown as error:  # nothing is stored, whatever became of it
            raise RetryLater(str(error), unreachable=error.unreachable) from error
        return validated(answer)

    def relabel(self, job: Job, gate: DocumentGate) -> Relabeled:
        """Replace all labels, and check them in the answer; if it shows other ones, try once again."""
        wanted = job.document.relabeling
        assert wanted is not None  # noqa: S101, the step is only for jobs that have one
        body = _relabeling_body(wanted)
        for _ in range(2):
            answer = self._replace_labels(job, wanted, body, gate)
            if wanted.payload == "json-patch":
                check_patch_taken(answer)
            remark = relabeled(answer, wanted.document_id, wanted.labels)
            if remark is not None:
                return Relabeled(self._record(wanted.document_id), (remark,) if remark else ())
        raise other_labels()

    # --- finding ---------------------------------------------------------------------------------------------

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str], *, thorough: bool = False) -> Mapping[str, Found]:
        """Sending again finds out: `register` looks for the document first."""
        return {}

    def still_there(self, document: Document, record: Record) -> bool:
        """What was filed is taken to stand, unless NHN lets us read and no longer has it."""
        return self._shows(record.id, "duplicate") is not False

    def probe(self) -> None:
        """Get a new token, then call the API in a way that cannot change anything.

        The call is a PATCH without labels, for a document that does not exist: a client with access is told that the
        call is wrong, any other is refused. It is not a JSON Patch, since the reference implementation refuses those
        before it looks at the client.
        """
        self._tokens.fresh()
        nothing = {"resourceType": "DocumentReference", "id": _NO_DOCUMENT}
        answer = self._api.send(
            lambda api: api.call(
                "PATCH",
                "DocumentReference",
                _NO_DOCUMENT,
                params=self._community,
                content=json.dumps(nothing).encode(),
                headers={**self._headers("probe"), "Content-Type": CONTENT_TYPE},
            )
        )
        check_probe(answer)

    # --- private: calls --------------------------------------------------------------------------------------

    def _bundle(self, job: Job, digests: Digests, ids: Ids) -> Bundle:
        """Raises DocumentRefused for a document whose content is of another type than it says."""
        kind = type_for(job.document, self._account.media_types)
        check_content(kind, digests.head)
        metadata = metadata_of(job.document, self._account.metadata)
        options = options_of(job.document, self._clock.now())
        return Bundle(job, self._account, metadata, options, kind, digests, ids, job.facts.provider["at"])

    def _shows(self, document_id: str, job_id: str) -> bool | None:
        """True if NHN shows the document, False if it says that there is none, None if it does not let us read."""
        path = ("DocumentReference", document_id)
        try:
            answer = self._api.send(
                lambda api: api.call("GET", *path, params=self._community, headers=self._headers(job_id)),
                renew=False,  # a token that may not read is no reason for a new one
            )
        except AccountBlocked as error:
            if error.credentials:
                raise
            return None  # a page in the place of an answer: where reading is not offered, anything may stand
        return is_there(answer, document_id)

    def _replace_labels(self, job: Job, wanted: Relabeling, body: Body, gate: DocumentGate) -> Answer:
        try:
            return self._api.send(
                lambda api: api.create(
                    "PATCH",
                    "DocumentReference",
                    wanted.document_id,
                    body=body,
                    gate=gate,
                    params=self._community,
                    headers=self._headers(job.id),
                    not_processed=range(500, 600),  # processed or not: the same call again changes nothing
                )
            )
        except OutcomeUnknown as error:
            raise RetryLater(str(error), unreachable=error.unreachable) from error

    @property
    def _community(self) -> Sequence[tuple[str, str]]:
        return [("homeCommunityId", self._account.home_community_id)]

    def _headers(self, job: str) -> dict[str, str]:
        """Those of every call; the event's id is logged, so that NHN can find the call by it."""
        event_id = str(uuid4())
        log.info("nhn_called", account=self._name, job=job, nhn_event_id=event_id)
        return {"Accept": _ACCEPT, "nhn-source-system": self._account.source_system, "nhn-event-id": event_id}

    def _record(self, document_id: str) -> Record:
        return Record(document_id, self._api.url("DocumentReference", document_id))


def _relabeling_body(wanted: Relabeling) -> Body:
    """One of the two forms that the vendor's page has."""
    labels = [{"coding": [_coding(coding) for coding in label.codings]} for label in wanted.labels]
    if wanted.payload == "json-patch":
        patch: Any = [{"op": "replace", "path": "/securityLabel", "value": labels}]
        return Body.of(json.dumps(patch).encode(), _JSON_PATCH)
    resource = {"resourceType": "DocumentReference", "id": wanted.document_id, "securityLabel": labels}
    return Body.of(json.dumps(resource).encode(), CONTENT_TYPE)


def _coding(coding: LabelCoding) -> dict[str, str]:
    # A job of an earlier version may hold a bare OID.
    written = {"system": oid_as_uri(coding.system), "code": coding.code}
    return written | ({"display": coding.display} if coding.display else {})


def _check_relabeling(wanted: Relabeling) -> None:
    if not _ID.fullmatch(wanted.document_id):
        raise invalid_request("The document's id is not one of FHIR's: 1 to 64 of A-Z a-z 0-9 . -")
    if wanted.payload not in _PAYLOADS:
        raise invalid_request(f"The payload is none of {', '.join(_PAYLOADS)}.")
    if not wanted.labels:
        raise invalid_request("There are no labels: the whole new list must be given.")
    codings = [(number, coding) for number, label in enumerate(wanted.labels, 1) for coding in label.codings]
    for number, label in codings:
        if not _URI.fullmatch(label.system) or not is_text(label.system):
            raise invalid_request(f"The system of label {number} is not a URI, such as urn:oid:2.16.840.1.113883.5.25.")
        if not _CODE.fullmatch(label.code) or not is_text(label.code):
            raise invalid_request(f"The code of label {number} is empty, or holds what no code can.")
        if not is_text(label.display or ""):
            raise invalid_request(f"The display of label {number} is not text.")
