"""What NHN answers: where a document was filed, which labels it has now, and what each status means."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from config.oids import oid_as_uri
from tasks.http.api import not_understood, parse_answer
from tasks.http.exchange import Answer
from tasks.model.document import Label
from tasks.model.errors import About, AccountBlocked, Code, DocumentRefused, RetryLater, StepError
from tasks.providers.auth.dpop import NONCE_WANTED, PROOF_REFUSED, proof_error
from tasks.providers.fhir import Issue, issues_of, outcome_in, sentences, words_of
from tasks.providers.nhn.bundle import Ids
from tasks.providers.statuses import StatusTable, blocked, refused

NAME = "NHN"
EARLIER = "An earlier sending of it had been stored; NHN knew its ids."
SHOWN = "An earlier sending of it had been stored; NHN shows the document."
LABELS_NOT_SHOWN = "NHN said that the labels were changed, and did not show them."

_LOCATION = re.compile(r"(?:^|/)DocumentReference/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?$")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# ITI TF-3, 4.2.4.1; the words of the reference implementation's repository
_ID_TAKEN = re.compile(r"XDSDocumentUniqueIdError|XDSDuplicateUniqueIdInRegistry|Non unique ID", re.IGNORECASE)
_MOST_BYTES = 1_000_000


class _AnyResource(BaseModel):
    resourceType: str  # noqa: N815, as FHIR writes it


# --- a document that was provided ------------------------------------------------------------------------------------


class Response(BaseModel):
    status: Any = None  # a status line, as text or number
    location: Any = None
    outcome: Any = None

    @property
    def failed(self) -> bool:
        return str(self.status or "")[:1] in ("4", "5")


class Entry(BaseModel):
    response: Response | None = None
    resource: Any = None


class Transaction(BaseModel):
    """The answer to a Bundle.

    IHE has one entry for each of the request's. The reference implementation has one for each DocumentReference, and
    may add one that holds warnings. So no entry is read by its position.
    """

    entry: list[Entry] | None = None

    @property
    def responses(self) -> list[Response]:
        return [entry.response for entry in self.entry or [] if entry.response]

    @property
    def issues(self) -> list[Issue]:
        resources = [entry.resource for entry in self.entry or []]
        outcomes = map(outcome_in, [*resources, *(response.outcome for response in self.responses)])
        return [issue for outcome in outcomes if outcome for issue in outcome.issue]

    @property
    def failed(self) -> bool:
        return any(response.failed for response in self.responses)

    @property
    def document_ids(self) -> set[str]:
        """The ids of the DocumentReferences that were made."""
        locations = [response.location for response in self.responses]
        matches = [_LOCATION.search(location) for location in locations if isinstance(location, str)]
        return {match[1] for match in matches if match}


@dataclass(frozen=True, slots=True)
class Filed:
    """Under which id the document is there, and sentences for the receipt."""

    document_id: str
    remarks: tuple[str, ...] = ()


def filed(answer: Answer, ids: Ids) -> Filed:
    """Where the document is now. Raises what the answer means otherwise."""
    if _ids_taken(issues_of(answer), ids):
        return Filed(ids.document, (EARLIER,))
    PROVIDE_STATUSES.success(answer)
    if parse_answer(answer, _AnyResource, NAME, outcome_unknown=True).resourceType == "OperationOutcome":
        _refuse_if_grave(issues_of(answer), "NHN did not take the document.")
        raise not_understood(NAME, "an outcome without the document's place", outcome_unknown=True)
    transaction = parse_answer(answer, Transaction, NAME, outcome_unknown=True)
    if _ids_taken(transaction.issues, ids):
        return Filed(ids.document, (EARLIER,))
    _refuse_if_grave(transaction.issues, "NHN did not take the document.")
    if transaction.failed:
        raise _not_done("NHN did not take the document.", transaction.issues)
    made = transaction.document_ids
    if ids.document not in made and len(made) != 1:
        raise not_understood(NAME, f"{len(made)} places for one document", outcome_unknown=True)
    document_id = ids.document if ids.document in made else made.pop()
    return Filed(document_id, _remarks(transaction.issues))


def validated(answer: Answer) -> Sequence[str]:
    """What NHN says of a Bundle that it was only to validate, in its own words. Raises what it would refuse it for."""
    if answer.status in (404, 405, 501) and not _not_found(answer):
        return (f"NHN validates nothing at this address ({answer.status}): only chartpost's own checks were made.",)
    PROVIDE_STATUSES.success(answer)
    if parse_answer(answer, _AnyResource, NAME).resourceType != "OperationOutcome":
        raise not_understood(NAME, "no outcome of the validation")
    issues = issues_of(answer)
    _refuse_if_grave(issues, "NHN would not take the document.")
    return [f"{_code(issue.severity)}: {issue.words}" for issue in issues]


def _ids_taken(issues: Sequence[Issue], ids: Ids) -> bool:
    """Whether all that is wrong is that our own ids are there already: only we can have sent them."""
    grave = [issue.words for issue in issues if issue.grave]
    if not grave or not all(_ID_TAKEN.search(words) for words in grave):
        return False
    named = {uuid for words in grave for uuid in _UUID.findall(words.lower())}
    # The reference implementation's repository knows a document by the id of its Binary.
    return not named or bool(named & {ids.document, ids.submission, ids.binary})


def _remarks(issues: Sequence[Issue]) -> tuple[str, ...]:
    """One sentence with the codes of FHIR and none of the issues' words, since those may name the patient."""
    counts = Counter(f"{_code(issue.severity)} {_code(issue.code)}" for issue in issues)
    if not counts:
        return ()
    listed = ", ".join(f"{what} ({count})" for what, count in sorted(counts.items()))
    return (f"NHN remarked upon it: {listed}.",)


def _code(value: object) -> str:
    """The value, if it looks like one of FHIR's codes."""
    return value if isinstance(value, str) and re.fullmatch(r"[a-z][a-z-]{0,30}", value) else "unknown"


# --- a document that may be there -----------------------------------------------------------------------------------


class _Shown(BaseModel):
    resourceType: Literal["DocumentReference"]  # noqa: N815
    id: str
    status: str = ""


def is_there(answer: Answer, document_id: str) -> bool | None:
    """What the answer to a GET says: the document is there, is not there, or nothing (None).

    The reference implementation answers 200 and `null` for a document that it does not have. Refusals say nothing:
    machines need not be allowed to read, and a server need not offer it.
    """
    if answer.status == 410 or (answer.success and answer.body.strip() == b"null"):
        return False
    if not answer.success:
        return None
    try:
        shown = _Shown.model_validate_json(answer.body[:_MOST_BYTES])
    except ValidationError:
        return None
    if shown.id.lower() != document_id.lower():
        return None
    return shown.status != "entered-in-error"


# --- labels ----------------------------------------------------------------------------------------------------------


class _Coding(BaseModel):
    system: str | None = None
    code: str | None = None


class _Concept(BaseModel):
    coding: list[_Coding] | None = None


class Labelled(BaseModel):
    """A DocumentReference, as far as its labels go."""

    resourceType: Literal["DocumentReference"]  # noqa: N815
    id: str | None = None
    securityLabel: list[_Concept] | None = None  # noqa: N815

    @property
    def labels(self) -> set[tuple[str, str]]:
        concepts = self.securityLabel or []
        codings = [coding for concept in concepts for coding in concept.coding or []]
        return {(oid_as_uri(coding.system or ""), coding.code or "") for coding in codings}


def relabeled(answer: Answer, document_id: str, wanted: Sequence[Label]) -> str | None:
    """A remark for the receipt (empty if there is none) if the document has the wanted labels; None if it has others.

    Raises what the answer means otherwise.
    """
    RELABEL_STATUSES.success(answer)
    # The reference implementation answers an outcome when it cannot render the document.
    if parse_answer(answer, _AnyResource, NAME).resourceType == "OperationOutcome":
        _refuse_if_grave(issues_of(answer), "NHN did not change the labels.")
        return LABELS_NOT_SHOWN
    shown = parse_answer(answer, Labelled, NAME)
    if shown.id not in (None, document_id):
        raise not_understood(NAME, "another document than the one that was asked for")
    # A job of an earlier version may hold bare OIDs; NHN answers with URIs.
    asked = {(oid_as_uri(coding.system), coding.code) for label in wanted for coding in label.codings}
    return "" if shown.labels == asked else None


def check_patch_taken(answer: Answer) -> None:
    """Raises DocumentRefused for a JSON Patch that is refused for its form. Another form may be taken.

    NHN's page has the form; the reference implementation answers it with a 403 before it looks at anything else.
    """
    if answer.status in (403, 415):
        raise DocumentRefused(
            Code.REFUSED_BY_PROVIDER,
            f"NHN refused the change of labels in the form of a JSON Patch ({answer.status}).",
            hint='Ask for it again as a resource: --payload resource, or payload "resource" in a call.',
            detail=words_of(answer),
        )


def other_labels() -> DocumentRefused:
    """The labels were replaced twice, and the answers show other ones."""
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        "NHN took the change, and shows other labels than those that were asked for.",
        hint="Look at the document's labels in NHN: they may or may not have changed. Then retry it.",
    )


# --- errors ----------------------------------------------------------------------------------------------------------


def check_probe(answer: Answer) -> None:
    """Raises what the answer to a probe says of the account. That the probe itself is refused says nothing."""
    if answer.status == 500:  # "unhandled exception", which an odd call may well be
        return
    if not answer.success and not isinstance(error := RELABEL_STATUSES.error(answer), DocumentRefused):
        raise error
    if not _is_fhir(answer):  # any web server answers a 404
        raise AccountBlocked(
            f"What answers at base_url is no FHIR API ({answer.status}, without a FHIR resource): check base_url."
        )


def _is_fhir(answer: Answer) -> bool:
    """Whether the answer is a FHIR resource, such as an OperationOutcome."""
    try:
        return bool(_AnyResource.model_validate_json(answer.body[:_MOST_BYTES]).resourceType)
    except ValidationError:
        return False


def proof_came_late() -> AccountBlocked:
    """The refusal of a proof that went with a large body: it may have been judged only after the body had come."""
    return AccountBlocked(
        "NHN refused the proof of our key that went with a large document: check this machine's clock; if small "
        "documents get through, the line is too slow for this one, since a proof lives for some seconds.",
        credentials=True,
    )


def _refuse_if_grave(issues: Sequence[Issue], message: str) -> None:
    if any(issue.grave for issue in issues):
        raise _not_done(message, issues)


def _not_done(message: str, issues: Sequence[Issue]) -> DocumentRefused:
    """The refusal inside a success."""
    hint = "Read its words, correct what they name, and retry."
    return DocumentRefused(Code.REFUSED_BY_PROVIDER, message, hint=hint, detail=sentences(issues))


def _unauthorized(answer: Answer) -> StepError:
    error = proof_error(answer)
    if error == NONCE_WANTED:
        return RetryLater("NHN asked for another nonce than the one that it had just given.", unreachable=True)
    if error == PROOF_REFUSED:
        return AccountBlocked(
            "NHN refused the proof of our key: check this machine's clock.", credentials=True, never_the_document=True
        )
    return AccountBlocked(
        "NHN refused a token that HelseID had just given: ask NHN whether client and organization may use its API.",
        credentials=True,
    )


def _not_found(answer: Answer) -> bool:
    return any(issue.code == "not-found" for issue in issues_of(answer))


def _no_endpoint(answer: Answer) -> StepError:
    return AccountBlocked(f"NHN answered {answer.status} where documents should be sent: check base_url.")


_FORBIDDEN = blocked("NHN does not allow this client to do this: ask NHN about scope and organization.")
_NO_DOCUMENT = refused(
    "NHN has no such document.",
    "Check the document's id, and home_community_id and base_url in the settings.",
    words_of,
)
_NO_PATIENT = refused("NHN does not know this patient.", "Check the patient's national id.", words_of, About.PATIENT)
_NOT_RELABELED = refused("NHN refused the labels.", "Read its words, and correct the labels.", words_of)
_NOT_TAKEN = refused("NHN refused the document.", "Read its words, and correct the document or its metadata.", words_of)

# NHN's page has "402 Not Found"; the reference implementation answers 400 with the issue code not-found.
PROVIDE_STATUSES = StatusTable(
    NAME,
    {
        400: lambda answer: (_NO_PATIENT if _not_found(answer) else _NOT_TAKEN)(answer),
        401: _unauthorized,
        402: _no_endpoint,
        403: _FORBIDDEN,
        404: _no_endpoint,
        409: _NOT_TAKEN,
        413: refused("The document is too large for NHN.", "Make it smaller, or split it.", words_of),
        422: _NOT_TAKEN,
    },
)
RELABEL_STATUSES = StatusTable(
    NAME,
    {
        400: lambda answer: (_NO_DOCUMENT if _not_found(answer) else _NOT_RELABELED)(answer),
        401: _unauthorized,
        402: _NO_DOCUMENT,
        403: _FORBIDDEN,
        404: _NO_DOCUMENT,
        410: _NO_DOCUMENT,
        422: _NOT_RELABELED,
    },
)
