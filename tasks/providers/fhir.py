"""The little of FHIR R4 (https://hl7.org/fhir/R4) that the providers need: codings, outcomes, ids fixed beforehand."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ValidationError

from config.accounts import Metadata
from tasks.http.exchange import Answer
from tasks.model.document import Document
from tasks.providers.checks import invalid

_IDS = uuid.UUID("6f1b6f7e-6d44-4f0a-9c44-0d6a3a0d8a51")
"""The namespace of all ids that we make for documents."""


def fixed_id(*parts: str) -> str:
    """An id that follows from these parts alone (UUIDv5), so that a second sending carries the same."""
    return str(uuid.uuid5(_IDS, "\0".join(parts)))


def coding(text: str) -> dict[str, str]:
    """A Coding from "system|code|display"."""
    system, _, rest = text.partition("|")
    code, _, display = rest.partition("|")
    return {"system": system, "code": code} | ({"display": display} if display else {})


def concept(text: str) -> dict[str, Any]:
    """A CodeableConcept with this one coding."""
    return {"coding": [coding(text)]}


def identifier(text: str) -> dict[str, str]:
    """An Identifier from "system|value"."""
    system, _, value = text.partition("|")
    return {"system": system, "value": value}


def metadata_of(document: Document, account: Metadata) -> Metadata:
    """The codings of a document: the account's, overridden by its own. Raises DocumentRefused."""
    own = document.options.get("metadata")
    if own is None:
        return account
    if not isinstance(own, Mapping):
        raise invalid("options.metadata is not an object.")
    try:
        return Metadata.model_validate(_merged(account.model_dump(), own))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        names = sorted({str(fault["loc"][0]) for fault in faults if fault["loc"]} & set(Metadata.model_fields))
        raise invalid(
            f"options.metadata is not understood ({', '.join(names) or 'a field that is not known'}).",
            hint='Write codings as "system|code|display", identifiers as "system|value".',
        ) from None


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """One table laid over another, as deep as both go."""
    both = {
        name: _merged(below[name], value) if isinstance(value, Mapping) and isinstance(below.get(name), dict) else value
        for name, value in above.items()
    }
    return {**below, **both}


# --- answers ---------------------------------------------------------------------------------------------------------


class _Text(BaseModel):
    text: Any = None


class Issue(BaseModel):
    """One issue of an OperationOutcome; anything may be missing or of an unexpected kind."""

    severity: Any = None
    code: Any = None
    details: _Text | None = None
    diagnostics: Any = None

    @property
    def grave(self) -> bool:
        """Whether it says that something was not done."""
        return self.severity in ("error", "fatal")

    @property
    def words(self) -> str:
        said = [self.details.text if self.details else None, self.diagnostics]
        texts = dict.fromkeys(text for text in said if isinstance(text, str) and text)
        return f"{self.code or self.severity or 'issue'}: {'; '.join(texts)}" if texts else str(self.code or "")


class Outcome(BaseModel):
    """An OperationOutcome, as tolerant of what stands in it as its issues."""

    resourceType: str = ""  # noqa: N815, as FHIR writes it
    issue: list[Issue] = []


def outcome_in(resource: object) -> Outcome | None:
    """The OperationOutcome that this is, if it is one."""
    if not isinstance(resource, Mapping) or resource.get("resourceType") != "OperationOutcome":
        return None
    try:
        return Outcome.model_validate(resource)
    except ValidationError:
        return Outcome(resourceType="OperationOutcome")


def issues_of(answer: Answer) -> Sequence[Issue]:
    """The issues of an answer that is an OperationOutcome; none otherwise."""
    try:
        return Outcome.model_validate_json(answer.body[:1_000_000]).issue
    except ValidationError:
        return ()


def words_of(answer: Answer) -> str:
    """The provider's own words, for the error file only."""
    return sentences(issues_of(answer))


def sentences(issues: Sequence[Issue]) -> str:
    """Issues in one line, the grave ones first."""
    return " ".join(_in_order(issues))[:2000]


def _in_order(issues: Sequence[Issue]) -> Iterator[str]:
    for issue in sorted(issues, key=lambda issue: not issue.grave):
        if issue.words:
            yield issue.words if issue.words.endswith(".") else issue.words + "."
