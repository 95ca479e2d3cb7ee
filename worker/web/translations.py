"""The sentences of the page in each language."""

from __future__ import annotations

from gettext import NullTranslations


def translations(language: str) -> NullTranslations:
    return NullTranslations()
