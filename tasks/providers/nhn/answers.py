"""What NHN's answers mean: who refuses what, which labels a document has now, and where a document was filed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel

from tasks.http.api import not_understood, understood
from tasks.http.exchange import Answer
from tasks.model.document import Label
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, RetryLater, StageError
from tasks.providers.auth.dpop import PROOF_REFUSED, nonce_wanted, proof_error
from tasks.providers.fhir import Issue, issues_of, outcome_in, sentences, words_of
from tasks.providers.nhn.bundle import Ids
from tasks.providers.statuses import Answers, blocked, refused

NAME = "NHN"
EARLIER = "An earlier sending of it had been stored; NHN knew its ids."
UNSEEN_LABELS = "NHN said that the labels were changed, and did not show them."

_LOCATION = re.compile(r"(?:^|/)DocumentReference/([A-Za-z0-9.-]{1,64})(?:/_history/[A-Za-z0-9.-]{1,64})?$")
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# ITI TF-3, 4.2.4.1; the words of the reference implementation's repository
_ID_TAKEN = re.compile(r"XDSDocumentUniqueIdError|XDSDuplicateUniqueIdInRegistry|Non unique ID", re.IGNORECASE)


# --- refusals --------------------------------------------------------------------------------------------------------


def _unauthorized(answer: Answer) -> StageError:
    if nonce_wanted(answer):
        return RetryLater("NHN asked for another nonce than the one that it had just given.", unreachable=True)
    if proof_error(answer) == PROOF_REFUSED:
        return AccountBlocked("NHN refused the proof of our key: check this machine's clock.", credentials=True)
    return AccountBlocked(
        "NHN refused a token that HelseID had just given: ask NHN whether client and organization may use its API.",
        credentials=True,
    )


_FORBIDDEN = blocked("NHN does not allow this client to do this: ask NHN about scope and organization.")
_NO_DOCUMENT = refused(
    "NHN has no such document.",
    "Check the document's id, and home_community_id and base_url in the settings.",
    words_of,
)
_NO_PATIENT = refused("NHN does not know this patient.", "Check the patient's national id.", words_of)
_NOT_RELABELED = refused("NHN refused the labels.", "Read its words, and correct the labels.", words_of)
_NOT_TAKEN = refused("NHN refused the document.", "Read its words, and correct the document or its metadata.", words_of)


def _not_found(answer: Answer) -> bool:
    return any(issue.code == "not-found" for issue in issues_of(answer))


def _no_endpoint(answer: Answer) -> StageError:
    return AccountBlocked(f"NHN answered {answer.status} where documents are to be sent: check base_url.")


_SENDING = Answers(
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
# NHN's page has "402 Not Found"; the reference implementation a 400 with the issue code not-found.
_RELABELING = Answers(
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


def check_probe(answer: Answer) -> None:
    """Raises what an answer to the call that changes nothing says of the account; that it is refused says nothing."""
    if answer.success or answer.status == 500:  # "unhandled exception", which an odd call may well be
        return
    if not isinstance(error := _RELABELING.error(answer), DocumentRefused):
        raise error


def proof_came_late() -> AccountBlocked:
    """The refusal of a proof that went with a large body, which may have been judged only when that had come."""
    return AccountBlocked(
        "NHN refused the proof of our key that went with a large document: check this machine's clock; if small "
        "documents get through, the line is too slow for this one, since a proof lives for some seconds.",
        credentials=True,
    )


# --- labels ----------------------------------------------------------------------------------------------------------


class _Any(BaseModel):
    """Any resource."""

    resourceType: str  # noqa: N815, as FHIR writes it


class _Coding(BaseModel):
    system: str | None = None
    code: str | None = None


class _Concept(BaseModel):
    coding: list[_Coding] | None = None


class _Labelled(BaseModel):
    """A DocumentReference, of which only this matters; without labels it has none."""

    resourceType: Literal["DocumentReference"]  # noqa: N815
    id: str | None = None
    securityLabel: list[_Concept] | None = None  # noqa: N815

    @property
    def labels(self) -> set[tuple[str, str]]:
        concepts = self.securityLabel or []
        return {(each.system or "", each.code or "") for concept in concepts for each in concept.coding or []}


def relabeled(answer: Answer, document_id: str, wanted: Sequence[Label]) -> str | None:
    """Whether the document's labels are now those that were asked for: a remark, empty where there is none.

    None: it shows others. Raises what the answer means otherwise.
    """
    _RELABELING.success(answer)
    if understood(answer, _Any, NAME).resourceType == "OperationOutcome":
        _refuse_if_grave(issues_of(answer), "NHN did not change the labels.")
        return UNSEEN_LABELS
    shown = understood(answer, _Labelled, NAME)
    if shown.id not in (None, document_id):
        raise not_understood(NAME, "another document than the one that was asked for")
    return "" if shown.labels == {(label.system, label.code) for label in wanted} else None


def other_labels() -> DocumentRefused:
    """It was done twice, and the answers show other labels."""
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        "NHN took the change, and shows other labels than those that were asked for.",
        hint="Look at the document's labels in NHN: they may or may not have changed. Then retry it.",
    )


# --- a document that was provided ------------------------------------------------------------------------------------


class _Response(BaseModel):
    status: Any = None  # a status line, as text or number
    location: Any = None
    outcome: Any = None

    @property
    def failed(self) -> bool:
        return str(self.status or "")[:1] in ("4", "5")


class _Entry(BaseModel):
    response: _Response | None = None
    resource: Any = None


class _Transaction(BaseModel):
    """The answer of a transaction: not one entry for each of the request's, and in no order that may be relied on."""

    entry: list[_Entry] | None = None

    @property
    def issues(self) -> list[Issue]:
        said = [each.resource for each in self.entry or []]
        said += [each.response.outcome for each in self.entry or [] if each.response]
        return [issue for outcome in map(outcome_in, said) if outcome for issue in outcome.issue]

    @property
    def failed(self) -> bool:
        return any(each.response and each.response.failed for each in self.entry or [])

    @property
    def document_ids(self) -> set[str]:
        """The ids of the DocumentReferences that were made."""
        said = [each.response.location for each in self.entry or [] if each.response]
        found = [_LOCATION.search(location) for location in said if isinstance(location, str)]
        return {match[1] for match in found if match}


@dataclass(frozen=True, slots=True)
class Filed:
    """Under which id the document is there, and sentences for the receipt."""

    document_id: str
    remarks: tuple[str, ...] = ()


def filed(answer: Answer, ids: Ids) -> Filed:
    """Where the document is now. Raises what the answer means otherwise."""
    if _ids_taken(issues_of(answer), ids):
        return Filed(ids.document, (EARLIER,))
    _SENDING.success(answer)
    if understood(answer, _Any, NAME, outcome_unknown=True).resourceType == "OperationOutcome":
        _refuse_if_grave(issues_of(answer), "NHN did not take the document.")
        raise not_understood(NAME, "an outcome without the document's place", outcome_unknown=True)
    said = understood(answer, _Transaction, NAME, outcome_unknown=True)
    if _ids_taken(said.issues, ids):
        return Filed(ids.document, (EARLIER,))
    _refuse_if_grave(said.issues, "NHN did not take the document.")
    if said.failed:
        raise _not_done("NHN did not take the document.", said.issues)
    return Filed(_the_one(said.document_ids, ids), tuple(_remarks(said.issues)))


def _the_one(found: set[str], ids: Ids) -> str:
    if ids.document in found:
        return ids.document
    if len(found) != 1:
        raise not_understood(NAME, f"{len(found)} places for one document", outcome_unknown=True)
    return found.pop()


def _ids_taken(issues: Sequence[Issue], ids: Ids) -> bool:
    """Whether all that is wrong is that our own ids are there already: nobody else could have sent them."""
    grave = [issue.words for issue in issues if issue.grave]
    if not grave or not all(_ID_TAKEN.search(words) for words in grave):
        return False
    named = {found for words in grave for found in _UUID.findall(words.lower())}
    return not named or bool(named & {ids.document, ids.submission})


def _refuse_if_grave(issues: Sequence[Issue], message: str) -> None:
    if any(issue.grave for issue in issues):
        raise _not_done(message, issues)


def _not_done(message: str, issues: Sequence[Issue]) -> DocumentRefused:
    """An error inside a success."""
    hint = "Read its words, correct what they name, and retry."
    return DocumentRefused(Code.REFUSED_BY_PROVIDER, message, hint=hint, detail=sentences(issues))


def _remarks(issues: Sequence[Issue]) -> Iterator[str]:
    """One sentence of ours with the codes of FHIR, since the words may name the patient."""
    said = Counter(f"{_word(issue.severity)} {_word(issue.code)}" for issue in issues)
    if said:
        yield "NHN remarked upon it: " + ", ".join(f"{what} ({count})" for what, count in sorted(said.items())) + "."


def _word(value: object) -> str:
    """A code of FHIR's, if it is one."""
    return value if isinstance(value, str) and re.fullmatch(r"[a-z][a-z-]{0,30}", value) else "unknown"
