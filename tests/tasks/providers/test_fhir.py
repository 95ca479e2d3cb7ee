"""What the providers that speak FHIR share."""

from __future__ import annotations

from tasks.providers.fhir import Issue


def test_an_issue_that_says_the_same_twice_is_told_once() -> None:
    said = {"code": "not-found", "details": {"text": "No such document"}, "diagnostics": "No such document"}
    assert Issue.model_validate(said).words == "not-found: No such document"
    assert Issue.model_validate(said | {"diagnostics": "Ask us"}).words == "not-found: No such document; Ask us"
