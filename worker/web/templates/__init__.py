"""The pages' templates, and how they are filled in. Whatever is put into one is escaped."""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined

from tasks.wording.language import Words
from worker.web.language import LANGUAGES
from worker.web.shown import Shows


@cache
def _environment(language: str) -> Environment:
    environment = Environment(
        loader=PackageLoader("worker.web"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = Words(language)
    environment.globals |= {"languages": LANGUAGES, "language": language, "say": words.say, "show": Shows(words)}
    return environment


def render(template: str, language: str, **values: object) -> str:
    """The page in this language."""
    return _environment(language).get_template(template).render(**values)
