"""In which language somebody sees the page: as chosen on it, else as the browser asks, else in English."""

from __future__ import annotations

from starlette.requests import Request

from config.settings import Settings

LANGUAGES = {"en": "English", "de": "Deutsch", "nb": "Norsk", "nl": "Nederlands"}
LANGUAGE_COOKIE = "chartpost_language"

_KNOWN_AS = {"no": "nb", "nn": "nb"}  # what browsers in Norway also ask for


def language_of(request: Request, settings: Settings) -> str:
    """A key of LANGUAGES."""
    chosen = request.cookies.get(LANGUAGE_COOKIE, "")
    if chosen in LANGUAGES:
        return chosen
    for wanted in request.headers.get("Accept-Language", "").split(",")[:10]:
        name = wanted.partition(";")[0].strip().partition("-")[0].lower()
        name = _KNOWN_AS.get(name, name)
        if name in LANGUAGES:
            return name
    return "en"
