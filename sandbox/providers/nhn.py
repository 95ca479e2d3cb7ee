"""NHN's document sharing: changing a document's security labels, and providing documents (ITI-65).

After "Patch Document Reference" and "Provide Document Bundle" at https://utviklerportal.nhn.no and, where the pages are
silent, the reference implementation (https://github.com/timmo-nhn/XcaDocumentSource). Callers have HelseID's tokens,
which are bound to a key (RFC 9449 section 7).
"""

import json
import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import Message
from typing import Any

from aiohttp import web

from sandbox.admin import PREFIX as ADMIN_PREFIX
from sandbox.charts import Record
from sandbox.context import Context, Handler, Setting
from sandbox.faults.commit_faults import Document, after_commit, before_commit
from sandbox.faults.connection import ConnectionCut
from sandbox.faults.disturbances import TROUBLED_CALLS, Disturbances, Refusal
from sandbox.faults.words import Faults
from sandbox.providers.fhir import (
    JSON,
    Issue,
    Json,
    Refused,
    Resource,
    bundle_in,
    codings,
    content_type_is,
    error,
    fhir_answer,
    outcome,
    read_json,
    refusal_answer,
)
from sandbox.providers.helseid import SCOPES, Grant, HelseId
from sandbox.providers.jose import PROOF_ALGORITHMS, NonceWanted, NotProven, Proofs
from sandbox.providers.nhn_bundle import (
    DOCUMENT_TYPE,
    FACILITY_TYPE,
    NATIONAL_ID,
    PRACTICE_SETTING,
    Provided,
    Submission,
    is_label_list,
    submission_in,
)

NAME = "nhn"
ACCOUNT = "nhn_hospital"
API = "/nhn/R4/fhir"
BUCKET = "nhn-dokumentlager"
COMMUNITY = "2.16.578.1.12.4.5.100.3.15"
JSON_PATCH = "application/json-patch+json"
MAX_BYTES = 100_000_000
MAX_PATCH_BYTES = 1_000_000
FHIR_ID = re.compile(r"[A-Za-z0-9.-]{1,64}")
NORMAL = {"system": "urn:oid:2.16.840.1.113883.5.25", "code": "N", "display": "Normal"}
FORMAT = "http://ihe.net/fhir/ihe.formatcode.fhir/CodeSystem/formatcode|urn:ihe:iti:xds:2017:mimeTypeSufficient"
# Ids of documents that begin so are answered with that status; README.md has the whole table.
NOT_FOUND = ("402", "404", "400")
TROUBLED = ("429", "500", "503")


@dataclass
class RegisteredDocument:
    """A document in the registry, as a DocumentReference, and how often its labels were set."""

    resource: dict[str, Any]
    times_set: int = 0

    def set_labels(self, labels: list[Resource]) -> None:
        self.times_set += 1
        self.resource = self.resource | {
            "securityLabel": labels,
            "meta": {"versionId": str(self.times_set + 1)},
        }


class Nhn:
    """The API; tokens come from `HelseId`."""

    bucket = BUCKET

    def __init__(self, context: Context) -> None:
        self._context = context
        self._disturbances = Disturbances(NAME, context.state, context.turns)
        self._helseid = HelseId(context, NAME)
        self._proofs = Proofs(context.state)
        self._documents: dict[str, RegisteredDocument] = {}
        self._unique_ids: set[str] = set()

    def routes(self) -> Sequence[web.AbstractRouteDef]:
        return [
            *self._helseid.routes(),
            web.patch(API + "/DocumentReference/{id}", self._guarded(self._relabel)),
            web.get(API + "/DocumentReference/{id}", self._guarded(self._show)),
            web.post(API + "/Bundle", self._guarded(self._provide)),
            web.post(API + "/Bundle/$validate", self._guarded(self._validate)),
            web.route("*", API + "/{anything:.*}", self._guarded(no_such_endpoint)),
            web.get(ADMIN_PREFIX + "/labels", self._show_labels),
        ]

    def accounts(self) -> dict[str, dict[str, Setting]]:
        return {
            ACCOUNT: {
                "provider": NAME,
                "base_url": self._context.base_url + API,
                **self._helseid.settings(),
                "source_system": "Sandbox EPJ 1.0",
                "home_community_id": COMMUNITY,
                "patient_system": NATIONAL_ID,
                "insecure": True,
                "requests_per_minute": 60_000,
                "metadata": {
                    "type": f"{DOCUMENT_TYPE}|I02-2|Brev",
                    "category": f"{DOCUMENT_TYPE}|I00-1|Korrespondanse",
                    "format": FORMAT,
                    "facility_type": f"{FACILITY_TYPE}|86.100|Sykehustjenester",
                    "practice_setting": f"{PRACTICE_SETTING}|A04|Overvåkningsenhet",
                    "security_label": "|".join(NORMAL.values()),
                    "author": {"name": "Grønn Vits", "identifier": "urn:oid:2.16.578.1.12.4.1.4.4|9144900"},
                },
            }
        }

    async def stop(self) -> None:
        """Nothing runs in the background."""

    def _guarded(self, handler: Handler) -> Handler:
        async def answer(request: web.Request) -> web.Response:
            try:
                await self._admit(request)
                return await handler(request)
            except Refused as refused:
                return refusal_answer(refused)

        return answer

    async def _admit(self, request: web.Request) -> None:
        """Raises Refused if an outage, the caller's token or proof, the throttle or a header stands in the way."""
        refuse(await self._disturbances.outage(request))
        self._authorize(request)  # before the body has come: `iat` in the proof must be recent
        refuse(self._disturbances.throttle())
        check_headers(request)

    def _authorize(self, request: web.Request) -> None:
        """RFC 9449 sections 7 and 9."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        grant = self._helseid.grant(token) if scheme == "DPoP" else None
        if grant is None:
            raise unauthorized("invalid_token", "there is no valid token")
        self._check_proof(request, token, grant)
        if not grant.scopes & set(SCOPES):
            raise Refused(403, error("forbidden", f"the token has none of the scopes {', '.join(SCOPES)}"))

    def _check_proof(self, request: web.Request, token: str, grant: Grant) -> None:
        address = self._context.base_url + request.rel_url.raw_path
        try:
            proof = self._proofs.check(request.headers.getall("DPoP", []), request.method, address, token)
        except NotProven as wrong:
            raise unauthorized("invalid_dpop_proof", str(wrong)) from None
        except NonceWanted as wanted:
            raise unauthorized("use_dpop_nonce", str(wanted), wanted.nonce) from None
        if proof.thumbprint != grant.thumbprint:
            raise unauthorized("invalid_token", "the token is bound to another key")

    async def _relabel(self, request: web.Request) -> web.Response:
        if request.query.getall("homeCommunityId", []) != [COMMUNITY]:
            raise Refused(400, error("value", "homeCommunityId is missing, or names no dokumentlager"))
        document_id = request.match_info["id"]
        if not FHIR_ID.fullmatch(document_id):
            raise Refused(400, error("value", "the id in the address is not one of FHIR's"))
        if request.content_type == JSON_PATCH and not self._context.state.nhn_json_patch:
            raise Refused(403, error("forbidden", f"Unknown content type: {JSON_PATCH}"))
        content_type_is(request, JSON, JSON_PATCH)
        read_labels = labels_in_patch if request.content_type == JSON_PATCH else labels_in_resource
        labels = read_labels(await read_json(request, MAX_PATCH_BYTES), document_id)
        if not is_label_list(labels):
            raise Refused(400, error("required", "securityLabel is not a list of labels with codes"))
        return self._set_labels(document_id, labels)

    async def _show(self, request: web.Request) -> web.Response:
        """One document, where machines may read; the reference implementation writes `null` for one that it lacks."""
        if not self._context.state.nhn_reads:
            raise Refused(403, error("forbidden", "denied by policy: no person is logged in"))
        document = self._documents.get(request.match_info["id"])
        return web.Response(text=json.dumps(document and document.resource), content_type=JSON)

    def _set_labels(self, document_id: str, labels: list[Resource]) -> web.Response:
        document = self._find(document_id)
        if "UNCHANGED" not in document_id:
            document.set_labels(labels)
        if "LOST" in document_id and self._context.turns.take((NAME, document_id), "LOST"):
            raise ConnectionCut
        if "OUTCOME" in document_id:
            return fhir_answer(outcome(Issue("information", "informational", "the document has been updated")))
        return fhir_answer(document.resource)

    def _find(self, document_id: str) -> RegisteredDocument:
        """A document exists for every id, unless the id's first three letters ask for something else."""
        if document_id not in self._documents:
            self._refuse_document(document_id)
            self._documents[document_id] = RegisteredDocument(
                {
                    "resourceType": "DocumentReference",
                    "id": document_id,
                    "meta": {"versionId": "1"},
                    "status": "current",
                    "securityLabel": [{"coding": [NORMAL]}],
                    "content": [{"attachment": {"contentType": "application/pdf"}}],
                }
            )
        return self._documents[document_id]

    def _refuse_document(self, document_id: str) -> None:
        prefix = document_id[:3]
        if prefix in NOT_FOUND:
            raise Refused(int(prefix), error("not-found", f"DocumentReference/{document_id} not found"))
        if prefix == "401":
            raise unauthorized("invalid_token", "there is no valid token")
        if prefix == "403":
            raise Refused(403, error("forbidden", "denied by policy"))
        if prefix in TROUBLED and self._context.turns.take((NAME, document_id), prefix, TROUBLED_CALLS):
            refuse(Refusal(int(prefix), 1 if prefix == "429" else None))

    async def _validate(self, request: web.Request) -> web.Response:
        """Says what `_provide` would, and provides nothing. Only the reference implementation has it."""
        content_type_is(request, JSON)
        submission = submission_in(bundle_in(await read_json(request, MAX_BYTES)), COMMUNITY)
        self._refuse_patient(submission.patient_id)
        refuse_content(Faults.read(" ".join(each.title for each in submission.documents)))
        self._check_ids(submission)
        good = Issue("information", "success", "Bundle validated with 0 errors or warnings")
        return fhir_answer(outcome(*submission.remarks, good))

    async def _provide(self, request: web.Request) -> web.Response:
        content_type_is(request, JSON)
        submission = submission_in(bundle_in(await read_json(request, MAX_BYTES)), COMMUNITY)
        titles = " ".join(each.title for each in submission.documents)
        document: Document = (NAME, ACCOUNT, submission.patient_id, titles)
        faults = Faults.read(titles)
        self._refuse_patient(submission.patient_id)
        refuse(before_commit(document, faults, self._context.turns))
        refuse_content(faults)
        self._reserve_ids(submission)
        locations = [await self._accept(submission.patient_id, each) for each in submission.documents]
        if await after_commit(document, faults, self._context.turns):
            return web.Response(status=504, text="Gateway Timeout")
        return fhir_answer(transaction_response(locations, submission.remarks))

    def _refuse_patient(self, patient_id: str) -> None:
        if patient_id.startswith("401"):
            raise unauthorized("invalid_token", "there is no valid token")
        refusal = self._disturbances.patient(ACCOUNT, patient_id)
        if refusal and refusal.status == 404:
            raise Refused(400, error("not-found", "XDSUnknownPatientId: the patient is not known"))
        refuse(refusal)

    def _reserve_ids(self, submission: Submission) -> None:
        """Every id may be used once. Raises Refused."""
        self._unique_ids.update(self._check_ids(submission))

    def _check_ids(self, submission: Submission) -> set[str]:
        """The ids of the submission set, the documents and their Binaries. Raises Refused if one is used already.

        In the reference implementation the registry knows a document by its own id, the repository by its Binary's.
        """
        ids = [submission.unique_id, *(each.unique_id for each in submission.documents)]
        known = sorted(self._unique_ids & set(ids))
        issues = []
        if known or len(set(ids[1:])) < len(ids[1:]):
            message = f"XDSDuplicateUniqueIdInRegistry: Duplicate UUIDs in request and registry {', '.join(known)}"
            issues.append(error("duplicate", message))
        binaries = {each.binary_id for each in submission.documents}
        for binary_id in sorted(self._unique_ids & binaries):
            context = f"Non unique ID in Repository {binary_id}"
            text = f"XDSError_Code: XDSDocumentUniqueIdError, XDSError_CodeContext: {context}"
            issues.append(error("value", text))
        if issues:
            raise Refused(400, *issues)
        return {*ids, *binaries}

    async def _accept(self, patient_id: str, document: Provided) -> str:
        """File one document. Returns its id."""
        document_id = document.unique_id.removeprefix("urn:uuid:")
        key = f"documents/{uuid.uuid4()}"
        await self._context.objects.put(BUCKET, key, document.content)
        witness = await self._context.objects.witness(BUCKET, key)
        self._documents[document_id] = RegisteredDocument(
            {**document.resource, "id": document_id, "meta": {"versionId": "1"}}
        )
        if document.replaces in self._documents:
            self._documents[document.replaces].resource["status"] = "superseded"
        self._context.charts.add(
            Record(NAME, ACCOUNT, patient_id, document.title, witness.size_bytes, witness.sha256, document_id)
        )
        return document_id

    async def _show_labels(self, request: web.Request) -> web.Response:
        return web.json_response(
            {
                "labels": {
                    document_id: {
                        "labels": [coding for label in stored.resource["securityLabel"] for coding in codings(label)],
                        "times_set": stored.times_set,
                    }
                    for document_id, stored in self._documents.items()
                }
            }
        )


def unauthorized(code: str, description: str, nonce: str | None = None) -> Refused:
    algorithms = " ".join(PROOF_ALGORITHMS)
    challenge = f'DPoP error="{code}", error_description="{description}", algs="{algorithms}"'
    headers = {"WWW-Authenticate": challenge} | ({} if nonce is None else {"DPoP-Nonce": nonce})
    return Refused(401, error("login", description), headers=headers)


def refuse(refusal: Refusal | None) -> None:
    if refusal is None:
        return
    seconds = refusal.retry_after_seconds
    headers = {} if seconds is None else {"Retry-After": str(seconds)}
    code = "throttled" if refusal.status == 429 else "exception"
    raise Refused(refusal.status, error(code, "not now"), headers=headers)


async def no_such_endpoint(request: web.Request) -> web.Response:
    raise Refused(404, error("not-supported", "there is no such endpoint"))


def check_headers(request: web.Request) -> None:
    """The two headers that the vendor's pages require."""
    if not any(is_fhir_4(each) for each in request.headers.get("Accept", "").split(",")):
        raise Refused(400, error("invalid", "Accept is not application/fhir+json; fhirVersion=4.0"))
    if not request.headers.get("nhn-source-system", "").strip():
        raise Refused(400, error("required", "the header nhn-source-system is missing"))


def is_fhir_4(media_range: str) -> bool:
    parsed = Message()
    parsed["Content-Type"] = media_range.strip()
    return parsed.get_content_type() == JSON and parsed.get_param("fhirVersion") == "4.0"


def labels_in_resource(body: Json, document_id: str) -> Json:
    """From a DocumentReference that has only its id and the whole new list. Raises Refused."""
    if not isinstance(body, dict) or body.get("resourceType") != "DocumentReference":
        raise Refused(400, error("structure", "the body is not a DocumentReference"))
    if body.keys() != {"resourceType", "id", "securityLabel"}:
        raise Refused(400, error("not-supported", "only securityLabel can be updated"))
    if body["id"] != document_id:
        raise Refused(400, error("value", "id is not the one in the address"))
    return body["securityLabel"]


def labels_in_patch(body: Json, document_id: str) -> Json:
    """From a JSON Patch (RFC 6902) of one operation, which replaces the whole list. Raises Refused."""
    if not isinstance(body, list) or len(body) != 1 or not isinstance(body[0], dict):
        raise Refused(400, error("structure", "the body is not a JSON Patch of one operation"))
    (operation,) = body
    if (operation.get("op"), operation.get("path")) != ("replace", "/securityLabel"):
        raise Refused(400, error("not-supported", "only a replace of /securityLabel is supported"))
    return operation.get("value")


def refuse_content(faults: Faults) -> None:
    if faults.virus:
        raise Refused(400, error("invalid", "a document did not pass the virus scan"))
    if faults.invalid:
        raise Refused(400, error("invalid", "XDSRepositoryError: a document could not be stored"))


def transaction_response(document_ids: list[str], remarks: list[Issue]) -> dict[str, Json]:
    """Has entries for the DocumentReferences only; remarks are in a last entry, which has no response."""
    entries: list[Json] = [
        {"response": {"status": "201 Created", "location": f"DocumentReference/{each}"}} for each in document_ids
    ]
    if remarks:
        entries.append({"resource": outcome(*remarks)})
    return {"resourceType": "Bundle", "type": "transaction-response", "entry": entries}
