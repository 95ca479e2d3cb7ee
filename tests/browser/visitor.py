"""Somebody at a browser, and what must hold of every page that they see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Request

from tests.browser.chromium import AXE
from tests.harness.page import PASSWORD
from tests.harness.sandbox import ROOT

PICTURES = ROOT / "docs" / "pictures"
ASKED_FOR = "CHARTPOST_PICTURES"
"""With this variable the pictures of the docs are written anew: `make pictures`."""
# WCAG 2.2 at level AA, and axe's own good practice.
_RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


class Visitor:
    """A browser with cookies of its own, at its first page. `page` is Playwright's."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.url = url
        self.complaints: list[str] = []
        self.requests: list[str] = []
        self.page: Page = context.new_page()
        self.page.set_default_timeout(30_000)
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        context.on("request", self._note)

    def go(self, path: str) -> Page:
        self.page.goto(self.url + path)
        return self.page

    def log_in(self, name: str, password: str = PASSWORD) -> Page:
        """From the login page, or from any page that leads to it."""
        if not self.page.url.startswith(f"{self.url}/login"):
            self.go("/login")
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_label("Password").fill(password)
        self.page.get_by_role("button", name="Log in").click()
        return self.page

    def _hear(self, message: ConsoleMessage) -> None:
        # Of a page that is answered with 403 or 404, which a test has asked for.
        if message.type in ("error", "warning") and not message.text.startswith("Failed to load resource: the server"):
            self.complaints.append(message.text)

    def _note(self, request: Request) -> None:
        self.requests.append(request.url)


def assert_no_complaints(visitor: Visitor) -> None:
    """No error in a script, nothing that the Content-Security-Policy has stopped."""
    assert not visitor.complaints, visitor.complaints


def assert_no_foreign_requests(visitor: Visitor) -> None:
    """Whoever looks after another host learns nothing of the page's visitors."""
    ours = urlsplit(visitor.url).netloc
    assert visitor.requests
    foreign = [url for url in visitor.requests if urlsplit(url).netloc != ours and not url.startswith("data:")]
    assert not foreign, foreign


def assert_accessible(page: Page) -> None:
    """axe-core finds nothing. Fails with each rule that is broken, and where."""
    page.evaluate(AXE.read_text())
    found: dict[str, Any] = page.evaluate("rules => axe.run({runOnly: rules})", _RULES)
    assert found["passes"], "axe has looked at nothing"
    broken = [
        f"{each['id']}: {each['help']}: {node['html'][:120]}" for each in found["violations"] for node in each["nodes"]
    ]
    assert not broken, "\n".join(broken)


def assert_fits(page: Page) -> None:
    """Nothing needs to be scrolled sideways."""
    wide, room = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide <= room, f"{wide} pixels in {room}"


def screenshot(page: Page, name: str) -> Path | None:
    """Write docs/pictures/<name>.png, if pictures are asked for."""
    if not os.environ.get(ASKED_FOR):
        return None
    path = PICTURES / f"{name}.png"
    page.screenshot(path=path, animations="disabled")
    return path
