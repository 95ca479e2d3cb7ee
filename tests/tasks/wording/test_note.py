"""A note is a page that any browser and any screen reader can read, whatever the file is called."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from html.parser import HTMLParser

import pytest

from tasks.model.errors import Code
from tasks.wording.failures import FailureFacts, explain_failure
from tasks.wording.language import Words
from tasks.wording.note import Kind, Note, to_html, to_text
from tasks.wording.sheet import sheet
from tasks.wording.waiting import WaitingFacts, WaitingReason, explain_waiting, until_when

AT = datetime(2026, 12, 1, 9, 58, tzinfo=UTC)
HOSTILE = '<script>alert(1)</script><img src="http://x.example/a">"\'&.pdf'
VOID = ("meta", "br", "img", "link", "input")


class Reader(HTMLParser):
    """Notes each element, checks that all are closed, and collects the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def note(language: str, kind: Kind = Kind.NOT_SENT, **changes: str) -> Note:
    words = Words(language)
    facts = WaitingFacts(WaitingReason.ACCOUNT_DOWN, "cliniko")
    failed = kind is Kind.NOT_SENT
    values: dict[str, str] = {"file_name": "letter.pdf", "account": "north_clinic", "patient_id": "4711", **changes}
    return Note(
        kind=kind,
        explanation=explain_failure(words, FailureFacts(Code.FILE_EMPTY)) if failed else explain_waiting(words, facts),
        at=AT,
        contact="IT, extension 212",
        until="" if failed else until_when(words, facts),
        reference="file_empty 1aee5bd8",
        **values,
    )


@pytest.mark.parametrize("kind", list(Kind), ids=list(Kind))
@pytest.mark.parametrize("language", ["en", "de", "nb", "nl"])
def test_a_page_is_well_formed_has_a_language_and_headings_and_takes_nothing_from_elsewhere(
    language: str, kind: Kind
) -> None:
    page = to_html(Words(language), note(language, kind, file_name=HOSTILE, patient_id="<b>4711</b>"), "mark")
    read = Reader(page)
    names = [name for name, _ in read.tags]
    assert read.tags[0] == ("html", {"lang": language})
    assert names.count("h1") == 1
    assert names.count("h2") >= 3
    assert names.count("main") == 1
    assert not {"script", "img", "link", "iframe", "object", "b"} & set(names)
    assert not [value for _, attributes in read.tags for value in attributes.values() if value and "//" in value]
    assert not re.search(r"url\(|@import", page)
    assert HOSTILE in read.text
    assert "<b>4711</b>" in read.text
    assert "IT, extension 212" in read.text


@pytest.mark.parametrize("language", ["en", "de", "nb", "nl"])
def test_the_text_says_the_same_as_the_page(language: str) -> None:
    words, each = Words(language), note(language)
    text, page = to_text(words, each), Reader(to_html(words, each)).text
    assert text.startswith("\ufeff")
    assert text.endswith("\r\n")
    for said in (each.explanation.title, each.explanation.what_happened, *each.explanation.what_to_do, each.contact):
        assert said in text
        assert said in page


def test_a_name_cannot_hide_or_turn_the_text_around_it() -> None:
    text = to_text(Words("en"), note("en", file_name="letter\u202efdp.exe\r\nPatient: 9999\0\udcff"))
    assert "\u202e" not in text
    assert "\0" not in text
    assert "\r\nPatient: 9999" not in text
    assert len(to_text(Words("en"), note("en", file_name="x" * 100_000))) < 5000


@pytest.mark.parametrize("language", ["en", "de", "nb", "nl"])
def test_the_sheet_has_a_row_for_every_code(language: str) -> None:
    read = Reader(sheet(Words(language), "IT & <212>"))
    assert [name for name, _ in read.tags].count("tr") == 1 + len(Code)
    assert all(str(code) in read.text for code in Code)
    assert "IT & <212>" in read.text
