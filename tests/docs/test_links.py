"""Whoever follows a link arrives, and every page can be reached from the README."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs.pages import PAGES, Page
from tests.harness.sandbox import ROOT

BY_PATH = {page.path: page for page in PAGES}
LINKS = [(page, link) for page in PAGES for link in page.links if "://" not in link and not link.startswith("mailto:")]


def target(page: Page, link: str) -> tuple[Path, str]:
    """The file that a relative link leads to, and the place in it."""
    file, _, anchor = link.partition("#")
    return (page.path.parent / file).resolve() if file else page.path, anchor


@pytest.mark.parametrize(("page", "link"), LINKS, ids=[f"{page}-{link}" for page, link in LINKS])
def test_a_relative_link_leads_to_a_file_and_a_heading_that_are_there(page: Page, link: str) -> None:
    path, anchor = target(page, link)
    assert path.exists(), f"{page.name} links to {link}"
    assert path.is_relative_to(ROOT)
    if anchor:
        assert anchor in BY_PATH[path].anchors, f"{page.name} links to {link}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    ahead = [ROOT / "README.md"]
    while ahead:
        path = ahead.pop()
        if path in BY_PATH and path not in reached:
            reached.add(path)
            ahead += [target(page, link)[0] for page, link in LINKS if page.path == path]
    assert {page.name for page in PAGES if page.path not in reached} == set()
