"""The parts of FHIR R4 (https://hl7.org/fhir/R4) that the providers need: ids fixed beforehand, codings, outcomes."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from config.accounts import Metadata
from tasks.http.exchange import Answer
from tasks.model.document import Document
from tasks.model.errors import invalid_request

# The namespace of all ids that we make. Another one would give documents that were sent already other ids.
_IDS = uuid.UUID("6f1b6f7e-6d44-4f0a-9c44-0d6a3a0d8a51")
AnyMetadata = TypeVar("AnyMetadata", bound=Metadata)


def fixed_id(*parts: str) -> str:
    """An id that follows from these parts alone (UUIDv5), so that a second sending carries the same one."""
    return str(uuid.uuid5(_IDS, "\0".join(parts)))


def is_text(value: str) -> bool:
    """Whether UTF-8 can write it, and FHIR's strings can hold it (https://hl7.org/fhir/R4/datatypes.html#string)."""
    try:
        value.encode()
    except UnicodeEncodeError:  # half a character
        return False
    return not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f]", value)


def holds_text(value: object) -> bool:
    """The same of all texts in parsed JSON, keys included."""
    return all(map(is_text, _texts_in(value)))


def check_text(document: Document) -> None:
    """Raises DocumentRefused for a description or metadata that is not text."""
    for what, value in (("description", document.description), ("options.metadata", document.options.get("metadata"))):
        if not holds_text(value):
            raise invalid_request(f"The {what} holds characters that are not text.")


def _texts_in(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from (text for pair in value.items() for part in pair for text in _texts_in(part))
    elif isinstance(value, list | tuple):
        yield from (text for part in value for text in _texts_in(part))


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


def metadata_of(document: Document, account: AnyMetadata) -> AnyMetadata:
    """The document's metadata: the account's, overridden by those in its options. Raises DocumentRefused."""
    own = document.options.get("metadata")
    if own is None:
        return account
    if not isinstance(own, Mapping):
        raise invalid_request("options.metadata is not an object.")
    try:
        return type(account).model_validate(_merged(account.model_dump(), own))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False, include_context=False)
        known = set(type(account).model_fields)
        names = sorted({str(fault["loc"][0]) for fault in faults if fault["loc"]} & known)
        raise invalid_request(
            f"options.metadata is not understood ({', '.join(names) or 'a field that is not known'}).",
            hint='Write codings as "system|code|display", identifiers as "system|value".',
        ) from None


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `below`, replaced by those of `above` at every depth."""
    merged = dict(below)
    for name, value in above.items():
        nested = isinstance(value, Mapping) and isinstance(below.get(name), dict)
        merged[name] = _merged(below[name], value) if nested else value
    return merged


# --- answers ---------------------------------------------------------------------------------------------------------


class _Text(BaseModel):
    text: Any = None


class Issue(BaseModel):
    """One issue of an OperationOutcome; any field may be missing or of an unexpected type."""

    severity: Any = None
    code: Any = None
    details: _Text | None = None
    diagnostics: Any = None

    @property
    def grave(self) -> bool:
        """Whether it reports that something was not done."""
        return self.severity in ("error", "fatal")

    @property
    def words(self) -> str:
        """The issue in the provider's words, which may name the patient: for the error file only."""
        fields = [self.details.text if self.details else None, self.diagnostics]
        texts = dict.fromkeys(text for text in fields if isinstance(text, str) and text)  # often the same text twice
        return f"{self.code or self.severity or 'issue'}: {'; '.join(texts)}" if texts else str(self.code or "")


class Outcome(BaseModel):
    """An OperationOutcome."""

    resourceType: str = ""  # noqa: N815, as FHIR writes it
    issue: list[Issue] = []


def issue_in(value: object) -> Issue | None:
    """The value as an issue, if it is an object that can be read as one."""
    if not isinstance(value, Mapping):
        return None
    try:
        return Issue.model_validate(value)
    except ValidationError:
        return None


def outcome_in(resource: object) -> Outcome | None:
    """The resource as an OperationOutcome, if it is one."""
    if not isinstance(resource, Mapping) or resource.get("resourceType") != "OperationOutcome":
        return None
    try:
        return Outcome.model_validate(resource)
    except ValidationError:
        return Outcome(resourceType="OperationOutcome")


def issues_of(answer: Answer) -> Sequence[Issue]:
    """The issues of an answer that is an OperationOutcome; none of any other."""
    try:
        return Outcome.model_validate_json(answer.body[:1_000_000]).issue
    except ValidationError:
        return ()


def words_of(answer: Answer) -> str:
    """The provider's own words, for the error file only."""
    return sentences(issues_of(answer))


def sentences(issues: Sequence[Issue]) -> str:
    """The issues' words in one line, the grave ones first."""
    words = [issue.words for issue in sorted(issues, key=lambda issue: not issue.grave)]
    return " ".join(text if text.endswith(".") else text + "." for text in words if text)[:2000]
