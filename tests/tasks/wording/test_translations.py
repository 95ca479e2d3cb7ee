"""Every message is there in every language, and the compiled files are those of their sources."""

from __future__ import annotations

import typing

import polib
import pytest

from config.types import Language
from tasks.wording.language import Words
from tests.translations import LANGUAGES, compiled, messages, placeholders, po_file


def test_the_settings_offer_english_and_what_is_translated() -> None:
    assert set(typing.get_args(Language)) == {"en", *LANGUAGES}


def test_there_are_messages_to_be_translated() -> None:
    assert len(messages()) > 100


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated_and_no_other(language: str) -> None:
    entries = {entry.msgid: entry for entry in polib.pofile(str(po_file(language)))}
    assert set(entries) == set(messages()), "run `make translations`, and translate what is new"
    assert [entry.msgid for entry in entries.values() if not entry.msgstr.strip() or entry.fuzzy] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_translation_has_the_values_of_its_message(language: str) -> None:
    for entry in polib.pofile(str(po_file(language))):
        assert placeholders(entry.msgstr) == placeholders(entry.msgid), entry.msgid


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_compiled_messages_are_those_of_their_source(language: str) -> None:
    assert po_file(language).with_suffix(".mo").read_bytes() == compiled(language), "run `make translations`"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_process_speaks_the_language(language: str) -> None:
    entries = {entry.msgid: entry.msgstr for entry in polib.pofile(str(po_file(language)))}
    assert Words(language).say("The file is empty") == entries["The file is empty"] != "The file is empty"
