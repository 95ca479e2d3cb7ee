"""What Redox answers to a message: a 200 says that it was taken only if nothing in its body says otherwise.

Seen by callers are an OperationOutcome, and a Bundle whose entries have a `response`; errors may stand in either. What
is neither yes nor no may have been taken: its outcome is unknown, never guessed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from tasks.http.api import not_understood
from tasks.http.exchange import JSON_BYTES, Answer
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, OutcomeUnknown
from tasks.model.job import Record
from tasks.providers.fhir import Issue, Outcome, outcome_in, sentences

# https://hl7.org/fhir/R4/valueset-issue-type.html: what may work when it is tried again, so may have been done in part
_PASSING_TROUBLES = {"transient", "lock-error", "no-store", "exception", "timeout", "incomplete", "throttled"}


class _Response(BaseModel):
    status: Any = None
    location: Any = None
    outcome: Any = None

    @property
    def code(self) -> int | None:
        """The status of this entry alone, which is written "201 Created"."""
        found = re.match(r"\s*([1-5][0-9][0-9])\b", str(self.status)) if isinstance(self.status, (str, int)) else None
        return int(found[1]) if found else None


class _Entry(BaseModel):
    response: _Response | None = None
    resource: Any = None


class _Said(BaseModel):
    """An OperationOutcome or a Bundle."""

    resourceType: str  # noqa: N815, as FHIR writes it
    entry: list[_Entry] = []
    issue: Any = None


def accepted_as(answer: Answer, identifier: str, base_url: str) -> Record:
    """The record that a 2xx to the message names, else the document under its own `identifier`.

    Raises DocumentRefused where the body refuses it, OutcomeUnknown where it may have been done in part, and
    AccountBlocked (unseen) where it is not understood.
    """
    said = _understood(answer)
    responses = [entry.response for entry in said.entry if entry.response]
    outcomes = list(_outcomes(said, responses))
    issues = [issue for outcome in outcomes for issue in outcome.issue]
    statuses = [response.code for response in responses]
    _check_for_refusal(issues, statuses)
    if not outcomes and not any(statuses):
        raise _unclear()
    return _record(responses, base_url) or Record(identifier)


def _understood(answer: Answer) -> _Said:
    if len(answer.body) > JSON_BYTES:
        raise _unclear()
    try:
        said = _Said.model_validate_json(answer.body)
    except ValidationError:
        raise _unclear() from None
    if said.resourceType not in ("OperationOutcome", "Bundle"):
        raise _unclear()
    return said


def _unclear() -> AccountBlocked:
    return not_understood(
        "Redox", "a success that is neither an outcome nor a bundle with a response", outcome_unknown=True
    )


def _outcomes(said: _Said, responses: Sequence[_Response]) -> Iterator[Outcome]:
    whole = said.model_dump(include={"resourceType", "issue"})
    for each in (whole, *(entry.resource for entry in said.entry), *(response.outcome for response in responses)):
        if (outcome := outcome_in(each)) is not None:
            yield outcome


def _check_for_refusal(issues: Sequence[Issue], statuses: Sequence[int | None]) -> None:
    """Raises DocumentRefused, and OutcomeUnknown where what went wrong may have been done all the same."""
    grave = [issue for issue in issues if issue.grave]
    odd = [status for status in statuses if status is not None and not 200 <= status < 300]
    if any(status >= 500 for status in odd) or any(_may_pass(issue) for issue in grave):
        raise OutcomeUnknown(
            "Redox took the message, and says that something went wrong with it then.", unreachable=True
        )
    if grave or odd:
        raise DocumentRefused(
            Code.REFUSED_BY_PROVIDER,
            "Redox took the call, and refuses the document in its answer.",
            hint="Read the provider's words, correct patient, options or file, and send it again.",
            detail=sentences(issues) or ", ".join(map(str, odd)),
        )


def _may_pass(issue: Issue) -> bool:
    return isinstance(issue.code, str) and issue.code in _PASSING_TROUBLES


def _record(responses: Sequence[_Response], base_url: str) -> Record | None:
    """The DocumentReference that an entry has the location of."""
    for response in responses:
        place = response.location if isinstance(response.location, str) else ""
        found = re.search(r"(?:^|/)DocumentReference/([A-Za-z0-9.-]{1,64})(?:/_history/[^/]*)?$", place)
        if found:
            return Record(found[1], place if place.startswith(base_url + "/") else None)
    return None
