"""What a front desk must know of a document that is not in the chart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from tasks.wording.language import Words


class WhoActs(StrEnum):
    """Who can do something about it."""

    FRONT_DESK = "front desk"
    IT = "IT"
    PRACTICE_MANAGER = "practice manager"
    NOBODY = "nobody"  # it goes on by itself


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a document failed or waits, in sentences of one language. They name no file."""

    title: str
    what_happened: str
    # One step after the other.
    what_to_do: Sequence[str]
    who_acts: WhoActs
    # False: the same bytes, for the same patient, must fail again until something else has changed.
    trying_again_helps: bool

    def as_sentences(self) -> Explanation:
        """The same, each text beginning with a capital, also where that is the name of something."""
        to_do = tuple(map(_capital, self.what_to_do))
        return replace(self, title=_capital(self.title), what_happened=_capital(self.what_happened), what_to_do=to_do)


PROVIDERS: Final[Mapping[str, str]] = {
    "pracsuite": "PracSuite",
    "cliniko": "Cliniko",
    "ovok": "Ovok",
    "redox": "Redox",
    "nhn": "NHN",
    "fhir": "the FHIR server",
}
"""The kind of provider, as the settings name it -> what people call it."""
_PAGES_SHOW_PATIENTS = ("pracsuite", "cliniko", "ovok")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def provider_name(words: Words, kind: str) -> str:
    """A provider as sentences name it."""
    return PROVIDERS.get(kind) or words.say("the practice system")


def where_the_number_stands(words: Words, kind: str) -> str:
    """Where staff find the patient's id at this kind of provider, as the end of a sentence."""
    if kind in _PAGES_SHOW_PATIENTS:
        return words.say("the web address of the patient's page in {provider}", provider=PROVIDERS[kind])
    if kind == "nhn":
        return words.say("the patient's record: it is the national identity number")
    return words.say("the patient's record in your practice system")


def who_acts_name(words: Words, who: WhoActs) -> str:
    """Who acts, in this language."""
    return {
        WhoActs.FRONT_DESK: words.say("front desk"),
        WhoActs.IT: words.say("IT"),
        WhoActs.PRACTICE_MANAGER: words.say("practice manager"),
        WhoActs.NOBODY: words.say("nobody: it goes on by itself"),
    }[who]
