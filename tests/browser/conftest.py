"""A running installation, a Chromium, and visitors.

`visitor` is somebody at the login page, `anna` somebody who is logged in with all rights. After each test both must
have seen no error, and asked no other host for anything. Everything is of this package, not of the session: Playwright
keeps an event loop running, in which other tests could not start theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.chromium import ARGUMENTS, AXE, NO_AXE, NOT_THERE, find_chromium
from tests.browser.visitor import Visitor, assert_no_complaints, assert_no_foreign_requests
from tests.harness.installation import Installation, installed
from tests.harness.page import CHEAP, PASSWORD
from tests.harness.ports import free_port
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until
from worker.web.users import Right, User, Users, new_stamp

WIDTH, HEIGHT = 1280, 800

NewVisitor = Callable[..., Visitor]


class Clinic:
    """An installation whose page runs. For documents that move, see `busy_clinic`."""

    def __init__(self, installation: Installation, port: int) -> None:
        self.installation = installation
        self.url = f"http://127.0.0.1:{port}"
        self.users = Users(installation.data)

    def add(self, name: str, **rights: Right) -> None:
        """A person with PASSWORD; without `rights` one who may do everything."""
        self.users.put(name, lambda _: User(name, CHEAP.hash(PASSWORD), rights or {"*": Right.ADMIN}, new_stamp()))

    def end_sessions(self) -> None:
        """As if nobody had asked for anything for half an hour."""
        for key in self.installation.redis.scan_iter("chartpost:web-session:*"):
            self.installation.redis.delete(key)

    def forget_tries(self) -> None:
        for key in self.installation.redis.scan_iter("chartpost:web-logins:*"):
            self.installation.redis.delete(key)


@pytest.fixture(scope="package")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clinic]:
    port = free_port()
    with ExitStack() as stack:
        world = stack.enter_context(SandboxProcess(validation_seconds=0.2))
        web = f"[web]\nenabled = true\nport = {port}\n"
        installation = stack.enter_context(installed(tmp_path_factory.mktemp("browser") / "clinic", world, end=web))
        served = Clinic(installation, port)
        served.add("anna")
        served.add("looker", north_clinic=Right.LOOK)
        child = installation.start("worker", "web")
        wait_until(lambda: _answers(served.url), f"the page answers: {child.log}")
        yield served


@pytest.fixture(scope="package")
def busy_clinic(clinic: Clinic) -> Clinic:
    """The same, with a watched inbox and a worker: documents that are dropped arrive."""
    clinic.installation.start("worker", "watch")
    clinic.installation.start_worker()
    return clinic


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/login", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    program = find_chromium()
    if program is None:
        pytest.skip(NOT_THERE)
    if not AXE.exists():
        pytest.skip(NO_AXE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Browser, url: str, **options: Any) -> Iterator[Visitor]:
    context = browser.new_context(**{"locale": "en-GB", "viewport": {"width": WIDTH, "height": HEIGHT}, **options})
    try:
        visitor = Visitor(context, url)
        yield visitor
        assert_no_complaints(visitor)
        assert_no_foreign_requests(visitor)
    finally:
        context.close()


@pytest.fixture
def new_visitor(browser: Browser, clinic: Clinic) -> Iterator[NewVisitor]:
    """Opens a browser of its own for each call; takes the options of Playwright's `new_context`."""
    clinic.forget_tries()
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(visiting(browser, clinic.url, **options))


@pytest.fixture
def visitor(new_visitor: NewVisitor) -> Visitor:
    visitor = new_visitor()
    visitor.go("/login")
    return visitor


@pytest.fixture
def anna(visitor: Visitor) -> Visitor:
    visitor.log_in("anna")
    visitor.page.wait_for_url(f"{visitor.url}/")
    return visitor
