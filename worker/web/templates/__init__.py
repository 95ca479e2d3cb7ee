"""The pages' templates, and how they are filled in. Whatever is put into one is escaped."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from worker.web import shown
from worker.web.language import LANGUAGES
from worker.web.translations import translations


@cache
def _environment(language: str) -> Environment:
    environment = Environment(
        loader=PackageLoader("worker.web"),
        autoescape=True,
        undefined=StrictUndefined,
        extensions=["jinja2.ext.i18n"],
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.install_gettext_translations(translations(language), newstyle=True)  # type: ignore[attr-defined]
    environment.filters |= shown.FILTERS
    environment.globals |= {"languages": LANGUAGES, "language": language}
    return environment


def render(template: str, language: str, **values: object) -> str:
    """The page in this language."""
    return _environment(language).get_template(template).render(**values)
