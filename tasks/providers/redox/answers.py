"""What Redox answers: where an upload lies, whether a message was taken, and what each status means.

A 200 says that a message was taken only if nothing in its body says otherwise
(https://docs.redoxengine.com/permalink/6KZGPlHtX7trpaYW7Wg5Om). Callers have seen an OperationOutcome, and a Bundle
whose entries have a `response`; errors may stand in either. The page also names a list of issues in a 200, whose form
it leaves open: the receipt remarks upon such issues, unless one calls itself an error. What is neither yes nor no may
have been taken: its outcome is unknown, never guessed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from tasks.http.api import not_understood
from tasks.http.exchange import Answer
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, OutcomeUnknown
from tasks.model.job import Record
from tasks.providers.fhir import Issue, issue_in, issues_of, outcome_in, sentences, words_of
from tasks.providers.statuses import StatusTable, blocked, locked_out, refused

NAME = "Redox"

# https://hl7.org/fhir/R4/valueset-issue-type.html: what may work when it is tried again, so may have been done in part
_TRANSIENT = {"transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"}

_MOST_REMARKS = 10


class Uploaded(BaseModel):
    location: Any = None


def location_of(answer: Answer) -> str:
    """Where an uploaded file lies: the Location header, or as the vendor's page shows it, in the body."""
    location: object = answer.headers.get("location")
    if not location:
        try:
            location = Uploaded.model_validate_json(answer.body[:65_536]).location
        except ValidationError:
            location = None
    if not isinstance(location, str) or not re.fullmatch(r"[\x21-\x7e]{1,4000}", location):
        raise not_understood(NAME, "an uploaded file without a Location")
    return location


# --- the answer to a message -----------------------------------------------------------------------------------------


class Response(BaseModel):
    status: Any = None
    location: Any = None
    outcome: Any = None

    @property
    def code(self) -> int | None:
        """The status of this entry alone, which is written "201 Created"."""
        match = re.match(r"\s*([1-5][0-9][0-9])\b", str(self.status)) if isinstance(self.status, (str, int)) else None
        return int(match[1]) if match else None


class Entry(BaseModel):
    response: Response | None = None
    resource: Any = None


class MessageAnswer(BaseModel):
    """An OperationOutcome, a Bundle, or an object with a list of issues. Either may have that list as well."""

    resourceType: str = ""  # noqa: N815, as FHIR writes it
    entry: list[Entry] = []
    issue: Any = None
    issues: list[Any] | None = Field(default=None, validation_alias=AliasChoices("issues", "Issues"))


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a message was accepted as, and what Redox remarked."""

    record: Record
    remarks: tuple[str, ...] = ()


def accepted_as(answer: Answer, identifier: str, base_url: str) -> Accepted:
    """With the record that a 2xx to the message names, else the document under its own `identifier`.

    Raises DocumentRefused if the body refuses it, OutcomeUnknown if it may have been done in part, and AccountBlocked
    (of unknown outcome) if it is not understood.
    """
    if answer.too_large:
        raise _unclear()
    try:
        parsed = MessageAnswer.model_validate_json(answer.body)
    except ValidationError:
        raise _unclear() from None
    listed = parsed.issues or []
    if parsed.resourceType not in ("OperationOutcome", "Bundle") and parsed.issues is None:
        raise _unclear()
    responses = [entry.response for entry in parsed.entry if entry.response]
    itself = parsed.model_dump(include={"resourceType", "issue"})
    resources = [itself, *(entry.resource for entry in parsed.entry), *(response.outcome for response in responses)]
    outcomes = [outcome for resource in resources if (outcome := outcome_in(resource)) is not None]
    statuses = [response.code for response in responses]
    known = [issue for each in listed if (issue := issue_in(each)) is not None]
    _check_for_refusal([*(issue for outcome in outcomes for issue in outcome.issue), *known], statuses)
    if not outcomes and not any(statuses) and parsed.issues is None:
        raise _unclear()
    return Accepted(_record_in(responses, base_url) or Record(identifier), _remarks(listed))


def _remarks(issues: Sequence[object]) -> tuple[str, ...]:
    """One sentence with the codes of FHIR and none of the issues' words, since those may name the patient."""
    known = [issue_in(issue) or Issue() for issue in issues]
    counts = Counter(f"{_code(issue.severity)} {_code(issue.code)}" for issue in known)
    if not counts:
        return ()
    listed = ", ".join(f"{what} ({count})" for what, count in sorted(counts.items())[:_MOST_REMARKS])
    return (f"Redox took it, and remarked upon it: {listed}. Redox's log of the message has the words.",)


def _code(value: object) -> str:
    """The value, if it looks like one of FHIR's codes."""
    return value if isinstance(value, str) and re.fullmatch(r"[a-z][a-z-]{0,30}", value) else "unknown"


def _unclear() -> AccountBlocked:
    return not_understood(
        NAME, "a success that is neither an outcome nor a bundle with a response", outcome_unknown=True
    )


def _check_for_refusal(issues: Sequence[Issue], statuses: Sequence[int | None]) -> None:
    """Raises DocumentRefused, and OutcomeUnknown if what went wrong may have been done all the same."""
    grave = [issue for issue in issues if issue.grave]
    unsuccessful = [status for status in statuses if status is not None and not 200 <= status < 300]
    transient = any(isinstance(issue.code, str) and issue.code in _TRANSIENT for issue in grave)
    if transient or any(status >= 500 for status in unsuccessful):
        raise OutcomeUnknown(
            "Redox took the message, and says that something went wrong with it then.", unreachable=True
        )
    if grave or unsuccessful:
        raise DocumentRefused(
            Code.REFUSED_BY_PROVIDER,
            "Redox took the call, and refuses the document in its answer.",
            hint="Read the provider's words, correct patient, options or file, and send it again.",
            detail=sentences(issues) or ", ".join(map(str, unsuccessful)),
        )


def _record_in(responses: Sequence[Response], base_url: str) -> Record | None:
    """The DocumentReference whose location an entry has."""
    for response in responses:
        location = response.location if isinstance(response.location, str) else ""
        match = re.search(r"(?:^|/)DocumentReference/([A-Za-z0-9.-]{1,64})(?:/_history/[^/]*)?$", location)
        if match:
            return Record(match[1], location if location.startswith(base_url + "/") else None)
    return None


# --- the answer to a probe -------------------------------------------------------------------------------------------


class _Resource(BaseModel):
    resourceType: str  # noqa: N815, as FHIR writes it


def check_probe(answer: Answer) -> None:
    """Raises what an answer to `metadata` means, unless the destination is there and takes the token.

    403 and 404 are the answers for a destination, an environment or an operation that is not there or not permitted:
    https://developer.redoxengine.com/api-reference/error-handling-and-responses. Any other refusal in FHIR comes from a
    destination that is there.
    """
    if answer.status in (401, 408, 425, 429) or answer.status >= 500:
        raise CREATE_STATUSES.error(answer)
    in_fhir = _is_fhir(answer)
    if in_fhir and any(issue.code == "not-supported" for issue in issues_of(answer)):
        return  # the destination is there, and does not tell what it can do
    if answer.status == 403 or (answer.status == 404 and in_fhir):
        raise AccountBlocked(
            f"Redox knows no such destination in this environment, or does not let this account use it "
            f"({answer.status}): check destination, environment and source_id of this account."
        )
    if not in_fhir:
        raise AccountBlocked(
            f"There is no FHIR API at this account's base_url ({answer.status}, and no FHIR resource): check it. "
            "Redox's ends in /fhir/R4."
        )


def _is_fhir(answer: Answer) -> bool:
    try:
        return not answer.too_large and bool(_Resource.model_validate_json(answer.body).resourceType)
    except ValidationError:
        return False


# --- errors: https://developer.redoxengine.com/api-reference/error-handling-and-responses ----------------------------


def _too_large(answer: Answer) -> DocumentRefused:
    return DocumentRefused(
        Code.FILE_TOO_LARGE,
        "Redox does not take a document of this size (413).",
        hint="Make the file smaller, or split it.",
        detail=words_of(answer),
    )


_UNACCEPTABLE = refused(
    "Redox does not accept this document, or not for this patient.",
    "Read the provider's words, correct patient, options or file, and send it again.",
    words_of,
)
_REFUSED_TOKEN = locked_out(
    "Redox refused a token that it has just given (401): check this account's client_id and key."
)
UPLOAD_STATUSES = StatusTable(
    NAME,
    {
        400: _UNACCEPTABLE,
        413: _too_large,
        422: _UNACCEPTABLE,
        401: _REFUSED_TOKEN,
        # https://developer.redoxengine.com/api-reference/quotas-and-constraints
        403: blocked(
            "Redox refused the upload of a file (403), as it does for free accounts: ask Redox, check environment, or "
            "send only what embed_below_bytes lets travel in the message."
        ),
        404: blocked("Redox knows no such address for uploads (404): check base_url and environment of this account."),
    },
)
CREATE_STATUSES = StatusTable(
    NAME,
    {
        400: _UNACCEPTABLE,
        409: _UNACCEPTABLE,
        413: _too_large,
        422: _UNACCEPTABLE,
        401: _REFUSED_TOKEN,
        403: blocked(
            "Redox does not let this account write documents there (403): check destination and environment, and in "
            "Redox's dashboard whether the destination takes DocumentReference.create."
        ),
        404: blocked(
            "Redox knows no such destination (404): check base_url, destination and environment of this account."
        ),
    },
)
