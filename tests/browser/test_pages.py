"""The pages in a browser: what staff do on them, on every screen, in every language, with the keyboard alone."""

from __future__ import annotations

import random
import time
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import redis
from playwright.sync_api import Browser, FilePayload, Locator, expect

from tasks.reporting.report import Reports
from tests.browser.conftest import Clinic, NewVisitor
from tests.browser.test_login import PHONE, ZOOMED, tab_to
from tests.browser.visitor import Visitor, assert_accessible, assert_fits, screenshot
from tests.harness.waiting import wait_until
from tests.tasks.reporting.ended import ended
from worker.cli.commands.report.html import as_html

TEXT = b"%PDF-1.4\nA letter.\n%%EOF\n"


@pytest.fixture(scope="module")
def full_clinic(busy_clinic: Clinic) -> Clinic:
    """With documents in each state: in the chart, on the way, failed in three ways, left alone."""
    installation = busy_clinic.installation
    for number in range(3):
        installation.drop("4711", f"referral {number}.pdf", TEXT)
    installation.drop("4711", "letter from Dr Müller <b>.pdf", b"")
    installation.drop("4712", "empty scan.pdf", b"")
    installation.drop(None, "no patient.pdf", TEXT)
    installation.drop("4713", "SLOW-600 report.pdf", TEXT, "south_clinic")
    wait_until(lambda: len(installation.receipts()) == 3, "three have arrived")
    wait_until(lambda: len(installation.errors()) == 3, "three have failed")
    return busy_clinic


def paths(clinic: Clinic) -> list[str]:
    failed, delivered = clinic.installation.errors()[0]["job_id"], clinic.installation.receipts()[0]["job_id"]
    return ["/", "/attention", "/find", "/send", f"/document/{failed}", f"/document/{delivered}"]


@pytest.mark.parametrize("screen", [PHONE, ZOOMED], ids=["phone in the dark", "zoomed"])
def test_every_page_fits_and_is_for_everybody(
    new_visitor: NewVisitor, full_clinic: Clinic, screen: dict[str, object]
) -> None:
    visitor = new_visitor(**screen)
    page = visitor.log_in("anna")
    expect(page).to_have_url(f"{visitor.url}/")
    for path in paths(full_clinic):
        visitor.go(path)
        assert_fits(page)
        assert_accessible(page)


@pytest.mark.parametrize(
    ("locale", "title"),
    [("de-DE", "Zu erledigen"), ("nb-NO", "Må følges opp"), ("nl-NL", "Vraagt aandacht")],
    ids=["de", "nb", "nl"],
)
def test_every_page_speaks_the_persons_language(
    new_visitor: NewVisitor, full_clinic: Clinic, locale: str, title: str
) -> None:
    visitor = new_visitor(locale=locale)
    page = visitor.go("/login")
    page.locator("#name").fill("anna")
    page.locator("#password").fill("a long walk by the sea")
    page.locator("button.main").click()
    expect(page).to_have_url(f"{visitor.url}/")
    for path in paths(full_clinic):
        visitor.go(path)
        text = page.locator("body").inner_text()
        for word in ("Today", "Needs attention", "Log out", "The file is empty", "What has happened"):
            assert word not in text, path
    visitor.go("/attention")
    expect(page.get_by_role("heading", level=1)).to_have_text(title)


def test_a_failure_is_dealt_with_by_the_keyboard_alone(anna: Visitor, full_clinic: Clinic) -> None:
    name = f"{uuid4()}.pdf"
    full_clinic.installation.drop("4714", name, b"")
    wait_until(lambda: any(each["file_name"] == name for each in full_clinic.installation.errors()), "it has failed")
    page = anna.go("/find")
    page.get_by_label("Part of the file's name").press_sequentially(name)
    page.keyboard.press("Enter")
    page.get_by_role("link", name=name).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="The file is empty")).to_be_visible()
    page.get_by_label("Note for colleagues, if you like").press_sequentially("scanned again")
    tab_to(page, "Dealt with")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status", name="What was done")).to_contain_text("Done.")
    expect(page.get_by_text("Dealt with by anna.")).to_be_visible()
    anna.go("/attention")
    expect(page.get_by_text(name)).to_have_count(0)


def test_files_are_sent_and_followed(anna: Visitor, full_clinic: Clinic) -> None:
    name, patient = f"{uuid4()}.pdf", f"p{uuid4()}"
    page = anna.go("/send")
    page.get_by_label("Clinic").select_option("north_clinic")
    page.get_by_label("Patient's number").fill(patient)
    page.get_by_label("Files").set_input_files(
        [
            FilePayload(name=name, mimeType="application/pdf", buffer=TEXT),
            FilePayload(name="nothing.pdf", mimeType="application/pdf", buffer=b""),
        ]
    )
    page.get_by_role("button", name="Send", exact=True).click()
    expect(page.get_by_role("status", name="What was sent")).to_contain_text(f"{name} is on its way.")
    expect(page.get_by_text("nothing.pdf: The file is empty")).to_be_visible()
    assert_accessible(page)
    wait_until(lambda: len(full_clinic.installation.chart(patient_id=patient)) == 1, "it is in the chart")
    wait_until(
        lambda: any(each["patient_id"] == patient for each in full_clinic.installation.receipts()),
        "and has its receipt",
    )
    page.get_by_role("link", name=f"See how far it has come {name}").click()
    expect(page.get_by_text("It is in the chart.")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the file").click()
    assert download.value.suggested_filename == name
    assert download.value.path().read_bytes() == TEXT


class Steps:
    """What a person does on the page: each click and each field counts, as does each page that is loaded for it."""

    def __init__(self, visitor: Visitor) -> None:
        self.page = visitor.page
        self.done, self.loads, self._began = list[str](), 0, time.monotonic()
        self.page.on("load", self._loaded)

    def _loaded(self, _: object) -> None:
        self.loads += 1

    def click(self, name: str, what: Locator | None = None) -> None:
        """The link or button of this name, or what is called so here."""
        self.done.append(f"click {name}")
        named = self.page.get_by_role("link", name=name).or_(self.page.get_by_role("button", name=name))
        (what or named).first.click()

    def fill(self, label: str, text: str) -> None:
        self.done.append(f"fill in {label}")
        self.page.get_by_label(label).fill(text)

    def choose(self, label: str, option: str) -> None:
        self.done.append(f"choose {option}")
        self.page.get_by_label(label).select_option(label=option)

    def tell(self, question: str) -> None:
        """For who runs the tests with -s: what the answer took."""
        seconds = time.monotonic() - self._began
        print(f"{question}: {'; '.join(self.done)}: {self.loads} pages, {seconds:.1f} s")  # noqa: T201


def test_three_questions_are_answered_in_a_few_steps(anna: Visitor, full_clinic: Clinic) -> None:
    today = f"{datetime.now():%Y-%m-%d}"  # noqa: DTZ005, as the person's calendar has it
    page = anna.page

    steps = Steps(anna)
    steps.click("Find")
    steps.fill("Patient's number", "4711")
    steps.fill("From day", today)
    steps.click("Find", page.get_by_role("button", name="Find"))
    expect(page.locator("li", has=page.get_by_role("link", name="referral 0.pdf"))).to_contain_text("In the chart")
    steps.click("referral 0.pdf")
    expect(page.get_by_text("It is in the chart.")).to_be_visible()
    steps.tell("What became of this patient's referral?")
    assert (len(steps.done), steps.loads) == (5, 3)

    anna.go("/")
    steps = Steps(anna)
    steps.click("Find")
    steps.choose("State", "Failed")
    steps.fill("From day", today)
    steps.click("Find", page.get_by_role("button", name="Find"))
    expect(page.get_by_role("heading", name="By clinic and reason")).to_be_visible()
    for reason in ("north_clinic: The file is empty", "north_clinic: The patient is missing"):
        expect(page.get_by_text(reason)).to_be_visible()
    steps.tell("What failed this week and why, per clinic?")
    assert (len(steps.done), steps.loads) == (4, 2)

    full_clinic.installation.drop("4713", name := f"SLOW-600 {uuid4()}.pdf", TEXT, "south_clinic")
    wait_until(lambda: name in anna.go("/find?state=open").content(), "it is on its way")
    anna.go("/")
    steps = Steps(anna)
    on_the_way = page.get_by_role("region", name="south_clinic").locator("a[href^='/find?state=open']")
    steps.click("the number on the way", on_the_way)
    waiting = page.locator("li", has=page.get_by_role("link", name=name))
    expect(waiting).to_contain_text("since")
    expect(waiting).to_contain_text("is still checking the document")
    assert_accessible(page)
    steps.tell("What waits, and how long?")
    assert (len(steps.done), steps.loads) == (1, 1)


def test_a_report_is_for_everybody_and_as_in_the_docs(browser: Browser, valkey: redis.Redis) -> None:
    a_busy_week(valkey)
    now = datetime.now(UTC)
    made = Reports(valkey, jobs_days=30).make(now - timedelta(days=7), now, (), ("account",))
    with browser.new_context(viewport={"width": 1000, "height": 1300}) as context:
        page = context.new_page()
        page.set_content(as_html(made))
        expect(page.get_by_role("heading", name="Time to confirmation")).to_be_visible()
        assert_accessible(page)
        assert_fits(page)
        screenshot(page, "report")


def a_busy_week(valkey: redis.Redis) -> None:
    """Two clinics that send by day, and some of whose documents fail."""
    chance = random.Random(7)
    codes = ("refused_by_provider", "refused_by_provider", "file_empty", "file_too_large", "gave_up", "outcome_unknown")
    for hours in range(1, 7 * 24):
        at = datetime.now(UTC) - timedelta(hours=hours)
        for _ in range(chance.randint(2, 9) if 7 <= at.hour <= 17 and at.weekday() < 5 else 0):
            account = chance.choice(("north_clinic", "north_clinic", "south_clinic"))
            when = at - timedelta(minutes=chance.randint(0, 59))
            if chance.random() < 0.04:
                ended(valkey, when, account=account, state="failed", code=chance.choice(codes), calls=2)
            else:
                ended(valkey, when, account=account, seconds=chance.lognormvariate(2.6, 0.9))


def test_today_brings_itself_up_to_date(anna: Visitor, full_clinic: Clinic) -> None:
    page = anna.go("/")
    board = page.locator("#board")
    expect(board.get_by_role("heading", name="north_clinic")).to_be_visible()
    page.evaluate("document.querySelector('#board h2').textContent = 'old'")
    page.evaluate("document.querySelector('#board').dispatchEvent(new Event('refresh'))")
    expect(page.locator("#board").get_by_role("heading", name="north_clinic")).to_be_visible()


def test_each_page_as_in_the_docs(new_visitor: NewVisitor, full_clinic: Clinic) -> None:
    visitor = new_visitor(viewport={"width": 1000, "height": 760})
    page = visitor.log_in("anna")
    expect(page).to_have_url(f"{visitor.url}/")
    for name, path in zip(
        ("today", "attention", "find", "send", "failure", "document"), paths(full_clinic), strict=True
    ):
        visitor.go(path)
        if name == "find":
            page.get_by_label("Patient's number").fill("4711")
            page.get_by_role("button", name="Find").click()
            expect(page.get_by_role("heading", name="Found")).to_be_visible()
        assert_accessible(page)
        screenshot(page, name)
