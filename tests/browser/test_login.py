"""Logging in and out in a browser: with the mouse, with the keyboard alone, on a phone, and when something is wrong."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Clinic, NewVisitor
from tests.browser.visitor import (
    Visitor,
    assert_accessible,
    assert_fits,
    assert_no_complaints,
    assert_no_foreign_requests,
    screenshot,
)
from tests.harness.page import PASSWORD

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True, "color_scheme": "dark"}
ZOOMED = {"viewport": {"width": 640, "height": 400}, "device_scale_factor": 2}  # 1280 by 800 pixels at 200 %


def test_a_person_logs_in_and_out(visitor: Visitor) -> None:
    page = visitor.log_in("anna")
    expect(page).to_have_url(f"{visitor.url}/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Today")
    expect(page.get_by_role("heading", name="north_clinic")).to_be_visible()
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{visitor.url}/login")


def test_a_wrong_password_is_told_and_the_right_one_goes_on(visitor: Visitor) -> None:
    page = visitor.log_in("anna", "not the password")
    expect(page.get_by_role("alert")).to_have_text("Name or password is not right.")
    assert_accessible(page)
    expect(page.get_by_label("Password")).to_have_value("")
    visitor.log_in("anna")
    expect(page).to_have_url(f"{visitor.url}/")


def test_too_many_tries_are_told(visitor: Visitor) -> None:
    for _ in range(11):
        page = visitor.log_in("anna", "not the password")
        expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("Wait a quarter of an hour")


def test_the_back_button_shows_nothing_after_logging_out(anna: Visitor) -> None:
    page = anna.page
    anna.go("/")
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(f"{anna.url}/login")
    for _ in range(2):
        page.go_back()
        expect(page.get_by_role("heading", level=1)).to_have_text("Log in")
        assert "north_clinic" not in page.content()


def test_a_person_sees_the_clinics_of_their_rights_alone(visitor: Visitor) -> None:
    page = visitor.log_in("looker")
    expect(page.get_by_role("heading", name="north_clinic")).to_be_visible()
    assert "south_clinic" not in page.content()


@pytest.mark.parametrize("language", ["de", "nb", "nl", "en"])
def test_a_language_is_chosen_and_stays(visitor: Visitor, language: str) -> None:
    page = visitor.page
    choice = page.locator(f'button[name="language"][value="{language}"]')
    choice.click()
    expect(page.locator("html")).to_have_attribute("lang", language)
    expect(choice).to_have_attribute("aria-pressed", "true")
    visitor.go("/login")
    expect(page.locator("html")).to_have_attribute("lang", language)


def test_the_browsers_language_is_taken_where_none_is_chosen(new_visitor: NewVisitor) -> None:
    expect(new_visitor(locale="nl-NL").go("/login").locator("html")).to_have_attribute("lang", "nl")


def test_a_session_that_has_ended_leads_to_the_login_and_back(anna: Visitor, clinic: Clinic) -> None:
    clinic.end_sessions()
    anna.page.get_by_role("link", name="Today").click()
    expect(anna.page).to_have_url(f"{anna.url}/login")
    anna.log_in("anna")
    expect(anna.page).to_have_url(f"{anna.url}/")


def test_a_part_of_a_page_is_not_put_into_it_after_the_session_has_ended(anna: Visitor, clinic: Clinic) -> None:
    page = anna.page
    clinic.end_sessions()
    page.evaluate("void htmx.ajax('GET', '/', {target: '#content'})")
    expect(page).to_have_url(f"{anna.url}/login")
    expect(page.get_by_role("heading", level=1)).to_have_count(1)


def focused(page: Page) -> str:
    return str(page.evaluate("document.activeElement.textContent.trim()"))


def tab_to(page: Page, text: str) -> None:
    for _ in range(30):
        page.keyboard.press("Tab")
        if focused(page) == text:
            return
    raise AssertionError(f"no {text} to be reached")


def test_the_keyboard_is_enough(visitor: Visitor) -> None:
    page = visitor.page
    page.keyboard.type("anna")  # the cursor is in the first field
    page.keyboard.press("Tab")
    page.keyboard.type(PASSWORD)
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visitor.url}/")
    page.keyboard.press("Tab")
    assert focused(page) == "Skip to the content"
    expect(page.get_by_role("link", name="Skip to the content")).to_be_in_viewport()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"
    visitor.go("/")
    tab_to(page, "Log out")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{visitor.url}/login")


@pytest.mark.parametrize("screen", [PHONE, ZOOMED], ids=["phone in the dark", "zoomed"])
def test_every_page_fits_and_is_for_everybody(new_visitor: NewVisitor, screen: dict[str, object]) -> None:
    visitor = new_visitor(**screen)
    page = visitor.go("/login")
    assert_fits(page)
    assert_accessible(page)
    visitor.log_in("anna")
    for path in ("/", "/no-such-page"):
        if path != "/":
            visitor.go(path)
        expect(page).to_have_url(visitor.url + path)
        assert_fits(page)
        assert_accessible(page)


def test_each_page_as_in_the_docs(visitor: Visitor) -> None:
    page = visitor.page
    assert_accessible(page)
    screenshot(page, "login")
    visitor.log_in("anna")
    expect(page).to_have_url(f"{visitor.url}/")
    assert_accessible(page)
    visitor.go("/no-such-page")
    expect(page.get_by_role("alert")).to_be_visible()
    assert_accessible(page)


def test_what_is_wrong_with_a_page_is_noticed(visitor: Visitor) -> None:
    page = visitor.page
    page.evaluate("document.querySelector('label').remove()")
    with pytest.raises(AssertionError, match="label"):
        assert_accessible(page)
    page.evaluate("document.querySelector('main').style.minWidth = '3000px'")
    with pytest.raises(AssertionError, match="pixels in"):
        assert_fits(page)
    page.evaluate("fetch('https://elsewhere.example/').catch(() => null)")
    with pytest.raises(AssertionError, match="elsewhere"):
        assert_no_complaints(visitor)
    visitor.complaints.clear()
    visitor.requests.append("https://elsewhere.example/")
    with pytest.raises(AssertionError, match="elsewhere"):
        assert_no_foreign_requests(visitor)
    visitor.requests.clear()
    visitor.go("/login")
