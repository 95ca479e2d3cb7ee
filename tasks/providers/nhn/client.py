"""NHN's document sharing: documents are provided (ITI-65, experimental) and their security labels replaced.

Vendor pages: "Patch Document Reference" and "Provide Document Bundle" at https://utviklerportal.nhn.no. The answer
itself holds the result, and ids that are fixed before sending make a second sending harmless, so nothing is ever looked
for: reading needs a person who is logged in.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import uuid4

import structlog

from config.accounts import NhnAccount
from tasks.http.api import Body
from tasks.http.clients import Clients
from tasks.http.exchange import Answer
from tasks.model.document import Document, Label, Relabeling
from tasks.model.errors import OutcomeUnknown, RetryLater
from tasks.model.job import Assurance, Facts, Job, Record, Stored
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tasks.providers.auth.dpop import PROOF_REFUSED, DpopApi, proof_error
from tasks.providers.auth.jwt import Signer
from tasks.providers.base import Cache, DocumentGate, Found, Registered, Relabeled
from tasks.providers.checks import check_patient, check_size, invalid, sendable_name
from tasks.providers.fhir import metadata_of
from tasks.providers.media_types import media_type
from tasks.providers.nhn.answers import NAME, check_probe, filed, other_labels, proof_came_late, relabeled
from tasks.providers.nhn.bundle import FHIR_JSON, Digests, Ids, Provided, lacking
from tasks.providers.nhn.helseid import HelseId

log = structlog.get_logger()

_ACCEPT = "application/fhir+json; fhirVersion=4.0"
_JSON_PATCH = "application/json-patch+json"
_NOBODYS_DOCUMENT = "00000000-0000-0000-0000-000000000000"
_LARGE_BYTES = 1_000_000
_PAYLOADS = ("resource", "json-patch")
# https://hl7.org/fhir/R4/datatypes.html: id, uri and code
_ID = re.compile(r"(?!\.{1,2}\Z)[A-Za-z0-9.-]{1,64}")
_URI = re.compile(r"[^\s\x00-\x1f\x7f]+")
_CODE = re.compile(r"[^\s\x00-\x1f\x7f]+(?: [^\s\x00-\x1f\x7f]+)*")


class Nhn:
    """One organization's account. `limiter` and `on_call` are asked and told before each call, HelseID's too."""

    kind = "nhn"
    stages: tuple[Stage, ...] = (Stage.REGISTERED,)
    assurance = Assurance.CONFIRMED

    def __init__(
        self,
        name: str,
        account: NhnAccount,
        *,
        clients: Clients,
        limiter: Callable[[], None],
        on_call: Callable[[], None],
        cache: Cache,
    ) -> None:
        self._name = name
        self._account = account
        signer = Signer(account.private_key.get_secret_value(), account.algorithm)
        self._helseid = HelseId(account, signer, clients=clients, limiter=limiter, on_call=on_call, cache=cache)
        self._api = DpopApi(
            clients,
            account.base_url,
            provider=NAME,
            signer=signer,
            tokens=self._helseid,
            limiter=limiter,
            on_call=on_call,
            cache=cache,
            insecure=account.insecure,
        )

    @property
    def limit_group(self) -> str:
        """The client at one API; NHN names no limits."""
        who = f"{self._account.base_url}\0{self._account.client_id}"
        return f"{self.kind}:{sha256(who.encode()).hexdigest()[:12]}"

    def route(self, document: Document) -> Route:
        """One call for either: to provide a document, or to replace its labels."""
        return Route(self.stages, first=Step.REGISTER, together=False, on_unknown_outcome=OnUnknownOutcome.RESEND)

    def before_sending(self, job: Job) -> Facts:
        """The time that the Bundle tells, fixed at the first try; all ids follow from the job and the bytes."""
        at = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        return replace(job.facts, provider={"at": at, **job.facts.provider})

    def find(self, jobs: Sequence[Job], owners: Mapping[str, str]) -> Mapping[str, Found]:
        """Nothing can be looked up by a machine."""
        return {}

    def still_there(self, document: Document, record: Record) -> bool:
        """Nothing can be looked up by a machine: what was filed is taken to stand."""
        return True

    def probe(self) -> None:
        """A token that is not remembered but given now, and a call to the API that cannot change anything.

        That is a JSON Patch without any operation, of a document that nobody has: whoever may call is told that it is
        wrong, whoever may not is refused.
        """
        self._helseid.anew()
        path, headers = ("DocumentReference", _NOBODYS_DOCUMENT), {"Content-Type": _JSON_PATCH}
        check_probe(
            self._api.sent(
                lambda api: api.call(
                    "PATCH", *path, params=self._where, content=b"[]", headers={**self._headers("probe"), **headers}
                )
            )
        )

    # --- before any call ---------------------------------------------------------------------------------------

    def check(self, document: Document) -> None:
        """All that NHN could never take, in the words of the settings. Raises DocumentRefused."""
        if document.relabeling:
            _check_relabeling(document.relabeling)
            return
        check_patient(document, NAME)
        check_size(document, self._account.max_bytes)
        sendable_name(document)
        media_type(document)
        _check_text(document)
        if missing := lacking(metadata_of(document, self._account.metadata)):
            raise invalid(
                f"NHN takes no document without {', '.join(missing)}.",
                "Set it in the account's metadata, or in the document's options.metadata.",
            )

    # --- providing a document ----------------------------------------------------------------------------------

    def register(self, job: Job, gate: DocumentGate) -> Registered:
        """Provide the document. A second sending carries the same ids, and NHN says that it has them."""
        digests = Digests.of(gate)
        ids = Ids.of(job, digests.sha256)
        metadata = metadata_of(job.document, self._account.metadata)
        body = Provided(job, self._account, metadata, digests, ids, job.facts.provider["at"]).body(gate)
        answer = self._api.sent(
            lambda api: api.create("POST", "Bundle", body=body, gate=gate, headers=self._headers(job.id))
        )
        if proof_error(answer) == PROOF_REFUSED and body.length > _LARGE_BYTES:
            raise proof_came_late()
        found = filed(answer, ids)
        record = Record(found.document_id, self._api.url("DocumentReference", found.document_id))
        stored = Stored(f"urn:uuid:{ids.document}", None, False, digests.sha256, digests.md5)
        return Registered(record, processed=True, stored=stored, remarks=found.remarks)

    # --- replacing labels --------------------------------------------------------------------------------------

    def relabel(self, job: Job, gate: DocumentGate) -> Relabeled:
        """Replace all labels, and see in the answer that they are what was asked for; once more if they are not."""
        asked = job.document.relabeling
        assert asked is not None  # noqa: S101, the caller has looked
        content, kind = _payload(asked)
        for _ in range(2):
            answer = self._relabeled(job, asked, Body.of(content, kind), gate)
            remark = relabeled(answer, asked.document_id, asked.labels)
            if remark is not None:
                record = Record(asked.document_id, self._api.url("DocumentReference", asked.document_id))
                return Relabeled(record, (remark,) if remark else ())
        raise other_labels()

    def _relabeled(self, job: Job, asked: Relabeling, body: Body, gate: DocumentGate) -> Answer:
        path = ("DocumentReference", asked.document_id)
        try:
            return self._api.sent(
                lambda api: api.create(
                    "PATCH",
                    *path,
                    body=body,
                    gate=gate,
                    params=self._where,
                    headers=self._headers(job.id),
                    not_taken=range(500, 600),  # done or not: it is done again
                )
            )
        except OutcomeUnknown as lost:
            raise RetryLater(str(lost), unreachable=lost.unreachable) from lost

    @property
    def _where(self) -> Sequence[tuple[str, str]]:
        return [("homeCommunityId", self._account.home_community_id)]

    def _headers(self, job: str) -> dict[str, str]:
        """Those of every call; the event's id is logged, for NHN to find the call by."""
        event_id = str(uuid4())
        log.info("nhn_called", account=self._name, job=job, nhn_event_id=event_id)
        return {"Accept": _ACCEPT, "nhn-source-system": self._account.source_system, "nhn-event-id": event_id}


def _payload(asked: Relabeling) -> tuple[bytes, str]:
    """The request's body and its media type, one of the two that the vendor's page has."""
    labels = [{"coding": [_coding(label)]} for label in asked.labels]
    if asked.payload == "json-patch":
        patch: Any = [{"op": "replace", "path": "/securityLabel", "value": labels}]
        return json.dumps(patch).encode(), _JSON_PATCH
    resource = {"resourceType": "DocumentReference", "id": asked.document_id, "securityLabel": labels}
    return json.dumps(resource).encode(), FHIR_JSON


def _coding(label: Label) -> dict[str, str]:
    return {"system": label.system, "code": label.code} | ({"display": label.display} if label.display else {})


def _check_relabeling(asked: Relabeling) -> None:
    if not _ID.fullmatch(asked.document_id):
        raise invalid("The document's id is not one of FHIR's: 1 to 64 of A-Z a-z 0-9 . -")
    if asked.payload not in _PAYLOADS:
        raise invalid(f"The payload is none of {', '.join(_PAYLOADS)}.")
    if not asked.labels:
        raise invalid("There are no labels: the whole new list must be given.")
    for number, label in enumerate(asked.labels, 1):
        if not _URI.fullmatch(label.system) or not _is_text(label.system):
            raise invalid(f"The system of label {number} is no URI, such as urn:oid:2.16.840.1.113883.5.25.")
        if not _CODE.fullmatch(label.code) or not _is_text(label.code):
            raise invalid(f"The code of label {number} is empty, or holds what no code can.")
        if not _is_text(label.display or ""):
            raise invalid(f"The display of label {number} is no text.")


def _check_text(document: Document) -> None:
    if not _is_text(document.description or ""):
        raise invalid("The description holds characters that are no text.")
    if not _is_text(json.dumps(document.options.get("metadata"), ensure_ascii=False, default=repr)):
        raise invalid("options.metadata holds characters that are no text.")


def _is_text(text: str) -> bool:
    """Whether it can be written in UTF-8, and holds nothing that FHIR's strings cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", text)
