"""What the providers that speak FHIR share."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tasks.model.document import Document
from tasks.model.errors import DocumentRefused
from tasks.providers.fhir import Issue, check_text


def test_an_issue_that_says_the_same_twice_is_told_once() -> None:
    said = {"code": "not-found", "details": {"text": "No such document"}, "diagnostics": "No such document"}
    assert Issue.model_validate(said).words == "not-found: No such document"
    assert Issue.model_validate(said | {"diagnostics": "Ask us"}).words == "not-found: No such document; Ask us"


@pytest.mark.parametrize(
    "said",
    [
        {"description": "a\x00b"},
        {"description": "half a character: \ud83d"},
        {"options": {"metadata": {"author": {"name": "\x01"}}}},
        {"options": {"metadata": {"categories": ["http://loinc.org|1|\x1f"]}}},
    ],
)
def test_what_no_string_of_fhir_can_hold_is_refused(said: dict[str, Any]) -> None:
    letter = Document("north_clinic", "4711", "letter.pdf", "", 10)
    author = {"author": {"name": "Ålesund"}}
    check_text(replace(letter, description="Two lines:\n\tand a tab", options={"metadata": author}))
    with pytest.raises(DocumentRefused, match="not text"):
        check_text(replace(letter, **said))
