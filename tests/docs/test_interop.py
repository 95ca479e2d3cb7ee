"""docs/interop.md has every claim of the tests, with the witness and its version, and none that was refuted."""

from __future__ import annotations

import re
from typing import Literal

import pytest

from tasks.providers.table import KINDS
from tests.docs.pages import page, rows
from tests.interop.claims import NOT_TRIED, OIDC_PROVIDER, PROVEN, REFUTED, claimed, results

PAGE = page("docs/interop.md")

Outcome = Literal["passed", "failed", "skipped"]


def test_the_page_has_the_table_that_a_run_prints() -> None:
    expected = [[words, witness.with_version, PROVEN] for words, witness in claimed()]
    assert rows(PAGE.section("What they say")) == expected, "make interop prints it"


def test_the_page_says_what_each_witness_is() -> None:
    named = {name for row in rows(PAGE.section("The witnesses")) for name in row[0].split(", ")}
    assert named == {witness.name for _, witness in claimed()}


def test_the_page_has_questions_for_the_vendor_of_each_provider() -> None:
    headings = re.findall(r"^### (.+)$", PAGE.section("Before going live"), re.MULTILINE)
    asked = {heading.lower(): PAGE.section(heading) for heading in headings}
    assert asked.keys() == KINDS.keys()
    assert {kind for kind, questions in asked.items() if "?" not in questions} == set()


@pytest.mark.parametrize(
    ("outcomes", "result"),
    [(["passed"], PROVEN), (["passed", "failed"], REFUTED), (["passed", "skipped"], PROVEN), (["skipped"], NOT_TRIED)],
)
def test_a_claim_is_proven_only_if_no_test_of_it_has_failed(outcomes: list[Outcome], result: str) -> None:
    reports = [report(outcome) for outcome in outcomes]
    assert results(reports) == {("it works", OIDC_PROVIDER.name): result}


def report(outcome: Outcome) -> pytest.TestReport:
    properties: list[tuple[str, object]] = [("claim", ["it works", OIDC_PROVIDER.name])]
    return pytest.TestReport("test", ("file", 1, "test"), {}, outcome, None, "call", user_properties=properties)
