"""The providers page has the contract that all of them pass, and leads to a page for each."""

from __future__ import annotations

from tasks.providers.table import KINDS
from tests.docs.pages import page
from tests.tasks.providers.table import sentences

PROVIDERS_PAGE = page("docs/providers.md")


def test_the_providers_page_has_the_whole_contract_and_every_provider() -> None:
    rows = {line.split(" | ")[0].removeprefix("| ") for line in PROVIDERS_PAGE.prose.splitlines() if line[:2] == "| "}
    assert set(sentences()) <= rows
    assert f"| | {' | '.join(KINDS)} |" in PROVIDERS_PAGE.prose
    assert "✘" not in PROVIDERS_PAGE.prose


def test_every_provider_has_a_page_that_the_providers_page_leads_to() -> None:
    assert {link for link in PROVIDERS_PAGE.links if link.startswith("providers/")} == {
        f"providers/{kind}.md" for kind in KINDS
    }
