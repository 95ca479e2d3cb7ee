"""Each code is explained, and what the troubleshooting page quotes is what the product says."""

from __future__ import annotations

import ast
import re

import pytest

from tasks.model.errors import Code
from tests.docs.codes import table, who_and_whether
from tests.docs.pages import coded, first_column, page, rows
from tests.harness.sandbox import ROOT

TROUBLESHOOTING = page("docs/troubleshooting.md")
CONTRACT = page("docs/contract.md")
CODES = {str(code) for code in Code}


def test_the_troubleshooting_page_explains_every_code() -> None:
    assert first_column(TROUBLESHOOTING.section("Codes")) == CODES


def test_the_contract_lists_every_code() -> None:
    assert first_column(CONTRACT.section("Codes")) == CODES


def test_the_contract_says_of_every_code_who_acts_and_whether_trying_again_helps() -> None:
    shown = {coded(row[0])[0]: (row[2], row[3]) for row in rows(CONTRACT.section("Codes"))}
    assert shown == who_and_whether()


def test_the_page_for_the_front_desk_is_what_the_notes_say() -> None:
    assert "\n".join(table()) in (ROOT / "docs" / "front-desk.md").read_text(), "python -m tests.docs.codes prints it"


def said_by_the_product() -> str:
    """All text in the product's code; `…` where a value goes into it."""
    texts = []
    for folder in ("tasks", "worker"):
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    texts.append("".join(str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    texts.append(node.value)
    return "\n".join(texts)


def quoted() -> list[str]:
    """The sentences in italics in the tables of the troubleshooting page."""
    cells = [cell for row in rows(TROUBLESHOOTING.prose) for cell in row]
    return [sentence for cell in cells for sentence in re.findall(r"(?<![\w*])\*([^*]+)\*(?![\w*])", cell)]


SAID = said_by_the_product()


@pytest.mark.parametrize("sentence", quoted())
def test_a_sentence_that_the_page_quotes_is_one_that_the_product_says(sentence: str) -> None:
    assert sentence in SAID


def test_the_page_quotes_some() -> None:
    assert len(quoted()) >= len(CODES)
