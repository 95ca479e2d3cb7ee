"""Which Patient on the server a document is for: never a guess, and never one of several."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

from config.accounts import FhirAccount
from tasks.http.api import not_understood, parse_answer
from tasks.model.document import Document
from tasks.model.errors import About, Code, DocumentRefused, invalid_request
from tasks.providers.checks import check_patient
from tasks.providers.connection import Cache
from tasks.providers.fhir import words_of
from tasks.providers.fhir_server.access import Api
from tasks.providers.fhir_server.answers import ACCEPT, ID, NAME, READ_STATUSES
from tasks.providers.fhir_server.capabilities import Statement
from tasks.providers.fhir_server.document_options import options_of

_TOPIC = "fhir patient"
_KEEP_SECONDS = 300.0  # one visit's documents share a look-up; who is merged meanwhile is merged at the server, too


class Patients:
    """The patients of one account."""

    def __init__(self, account: FhirAccount, api: Api, statement: Statement, cache: Cache) -> None:
        self._account = account
        self._api = api
        self._statement = statement
        self._cache = cache

    def check(self, document: Document) -> None:
        """Without a call: somebody is named, in a form that can be looked up. Raises DocumentRefused."""
        if options_of(document).patient:
            return
        check_patient(document, NAME)
        if not self._account.patient_system and not re.fullmatch(ID, document.patient_id or ""):
            raise invalid_request(
                "The patient id is not an id of FHIR's: 1 to 64 of A-Z a-z 0-9 . -",
                hint="Give the server's own id of the patient, or set patient_system and give an identifier.",
                about=About.PATIENT,
            )

    def reference(self, document: Document) -> str:
        """`Patient/<id>`, which the server has. Raises DocumentRefused if it has none or several, and RetryLater."""
        said = options_of(document).patient
        if not said and self._account.patient_system:
            return self._remembered(document.patient_id or "", self._found)
        reference = said or f"Patient/{document.patient_id}"
        if self._account.check_patient and self._statement.current().patient_reads:
            return self._remembered(reference, self._read)
        return reference

    def _remembered(self, who: str, look_up: Callable[[str], str]) -> str:
        key = f"{self._account.base_url}\0{self._account.patient_system}\0{who}"
        if known := self._cache.get(_TOPIC, key):
            return known
        found = look_up(who)
        self._cache.put(_TOPIC, key, found, _KEEP_SECONDS)
        return found

    def _read(self, reference: str) -> str:
        params = [("_elements", "id,active")]  # no more of the patient's data than is needed
        answer = self._api.send(
            lambda api: api.call("GET", *reference.split("/"), params=params, headers={"Accept": ACCEPT})
        )
        if answer.status in (404, 410):
            raise _unknown(words_of(answer))
        patient = parse_answer(READ_STATUSES.success(answer), _Patient, NAME)
        if patient.resourceType != "Patient":
            raise not_understood(NAME, "something else than the Patient that was asked for")
        if patient.active is False:
            raise _not_active()
        return reference

    def _found(self, value: str) -> str:
        """https://hl7.org/fhir/R4/search.html#token: `system|value` matches both, exactly."""
        params = [
            ("identifier", f"{_escaped(self._account.patient_system)}|{_escaped(value)}"),
            ("_elements", "id,active,identifier"),
            ("_count", "3"),
        ]
        answer = self._api.send(lambda api: api.call("GET", "Patient", params=params, headers={"Accept": ACCEPT}))
        bundle = parse_answer(READ_STATUSES.success(answer), _Bundle, NAME)
        if bundle.resourceType != "Bundle":
            raise not_understood(NAME, "no Bundle to a search")
        patients = [entry.resource for entry in bundle.entry if entry.resource and entry.mode == "match"]
        ours = {p.id: p for p in patients if p.resourceType == "Patient" and p.has(self._account.patient_system, value)}
        if not ours:
            raise _unknown("")
        if len(ours) > 1 or bundle.has_more:
            raise DocumentRefused(
                Code.REFUSED_BY_PROVIDER,
                f"{NAME} has several patients with this identifier.",
                hint="Give the one that is meant in options.patient, as in Patient/123, or have them merged there.",
                about=About.PATIENT,
            )
        (patient,) = ours.values()
        if not isinstance(patient.id, str) or not re.fullmatch(ID, patient.id):
            raise not_understood(NAME, "a Patient without an id")
        if patient.active is False:
            raise _not_active()
        return f"Patient/{patient.id}"


def _escaped(text: str) -> str:
    """https://hl7.org/fhir/R4/search.html#escaping"""
    return re.sub(r"([\\,$|])", r"\\\1", text)


def _unknown(words: str) -> DocumentRefused:
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        f"{NAME} knows no such patient.",
        hint="Check the patient's id, and whether this account's patient_system is the one that it is of.",
        detail=words,
        about=About.PATIENT,
    )


def _not_active() -> DocumentRefused:
    return DocumentRefused(
        Code.REFUSED_BY_PROVIDER,
        f"{NAME} says that this patient's record is not in use any more: it may have been merged into another.",
        hint="Find the patient's record that is in use, and send the document for that one.",
        about=About.PATIENT,
    )


class _Identifier(BaseModel):
    system: Any = None
    value: Any = None


class _Patient(BaseModel):
    resourceType: Any = None  # noqa: N815, as FHIR writes it
    id: Any = None
    active: Any = None
    identifier: list[_Identifier] = []

    def has(self, system: str, value: str) -> bool:
        """Whether the server has really searched by this identifier: some ignore what they do not know."""
        return any(each.system == system and each.value == value for each in self.identifier)


class _Search(BaseModel):
    mode: Any = "match"


class _Entry(BaseModel):
    resource: _Patient | None = None
    search: _Search = _Search()

    @property
    def mode(self) -> Any:
        return self.search.mode


class _Link(BaseModel):
    relation: Any = None


class _Bundle(BaseModel):
    resourceType: Any = None  # noqa: N815, as FHIR writes it
    entry: list[_Entry] = []
    link: list[_Link] = []

    @property
    def has_more(self) -> bool:
        return any(each.relation == "next" for each in self.link)
