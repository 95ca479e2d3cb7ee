"""The patient of an Ovok document, at the kind of FHIR server that Ovok stands on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tasks.http.clients import Clients
from tasks.model.errors import DocumentRefused, RetryLater
from tasks.providers.auth.bearer import BearerApi
from tasks.providers.auth.tokens import Token, Tokens
from tasks.providers.ovok.subject import Subjects
from tests.interop.claims import MEDPLUM, claim
from tests.interop.node import NodeServer
from tests.interop.relay import Relay
from tests.tasks.providers.doubles import DictCache, Slots, connected
from tests.tasks.providers.odd_server import Reply, Request

NOBODY = "57a07380-1818-460f-85bb-81f8e4e45c42"


@pytest.fixture(scope="module")
def server(packages: None) -> Iterator[httpx.Client]:
    """A client of the server, at its FHIR API."""
    with (
        NodeServer("fhir_server.mjs") as process,
        httpx.Client(base_url=f"{process.url}/fhir/R4", trust_env=False) as client,
    ):
        yield client


@pytest.fixture
def subjects(server: httpx.Client, clients: Clients) -> Subjects:
    return subjects_at(str(server.base_url).partition("/fhir/")[0], clients)


def subjects_at(base_url: str, clients: Clients) -> Subjects:
    connection = connected(clients, Slots(), cache := DictCache())
    tokens = Tokens(cache, "clinic", lambda last: Token(access="a-token", seconds=300), keep=300)
    return Subjects(BearerApi(connection, base_url, provider="Ovok", tokens=tokens), "R4", cache, "clinic")


def made(server: httpx.Client, kind: str, **elements: Any) -> str:
    """The id of a new resource."""
    answer = server.post(f"/{kind}", json={"resourceType": kind, **elements})
    return str(answer.raise_for_status().json()["id"])


def a_document(server: httpx.Client, **elements: Any) -> str:
    """As Ovok makes one for an upload: nobody's."""
    content = [{"attachment": {"contentType": "application/pdf", "title": "scan.pdf"}}]
    return made(server, "DocumentReference", status="current", content=content, **elements)


@claim("Ovok: a document becomes the patient's, and nothing else of it changes", MEDPLUM)
def test_a_document_becomes_the_patient_s(server: httpx.Client, subjects: Subjects) -> None:
    patient, document = made(server, "Patient"), a_document(server, description="Discharge")
    before = server.get(f"/DocumentReference/{document}").json()
    assert subjects.ensure(document, patient) == ""
    after = server.get(f"/DocumentReference/{document}").json()
    assert after.pop("subject") == {"reference": f"Patient/{patient}"}
    assert after.pop("meta") != before.pop("meta")
    assert after == before


@claim("Ovok: a document that is the patient's already is left alone", MEDPLUM)
def test_a_document_that_is_the_patient_s_already_is_left_alone(server: httpx.Client, subjects: Subjects) -> None:
    patient, document = made(server, "Patient"), a_document(server)
    subjects.ensure(document, patient)
    version = server.get(f"/DocumentReference/{document}").json()["meta"]["versionId"]
    assert subjects.ensure(document, patient) == ""
    assert server.get(f"/DocumentReference/{document}").json()["meta"]["versionId"] == version


@claim("Ovok: a document of one patient does not become another's", MEDPLUM)
def test_a_document_of_one_patient_does_not_become_another_s(server: httpx.Client, subjects: Subjects) -> None:
    patient, other = made(server, "Patient"), made(server, "Patient")
    document = a_document(server, subject={"reference": f"Patient/{other}"})
    assert "another patient" in subjects.ensure(document, patient)
    with pytest.raises(DocumentRefused, match="another patient"):
        subjects.check_free(document, patient)
    assert server.get(f"/DocumentReference/{document}").json()["subject"] == {"reference": f"Patient/{other}"}


class Overtaking(Relay):
    """Between chartpost and the server: before a PATCH arrives, somebody else changes the document."""

    def answer(self, request: Request) -> Reply:
        if request.method == "PATCH":
            address = self.upstream + request.path
            changed = httpx.get(address, trust_env=False).json() | {"description": "by somebody else"}
            httpx.put(address, json=changed, trust_env=False).raise_for_status()
        return super().answer(request)


@claim("Ovok: where somebody else changes the document at the same time, it is tried again", MEDPLUM)
def test_a_change_by_somebody_else_is_not_overwritten(server: httpx.Client, clients: Clients) -> None:
    patient, document = made(server, "Patient"), a_document(server)
    with Overtaking() as relay:
        relay.upstream = str(server.base_url).partition("/fhir/")[0]
        with pytest.raises(RetryLater):
            subjects_at(relay.base, clients).ensure(document, patient)
    left = server.get(f"/DocumentReference/{document}").json()
    assert "subject" not in left
    assert left["description"] == "by somebody else"


@claim("Ovok: a patient whom the server does not know is refused before anything is sent", MEDPLUM)
def test_a_patient_whom_the_server_does_not_know_is_refused(server: httpx.Client, subjects: Subjects) -> None:
    subjects.check_patient(made(server, "Patient"))
    with pytest.raises(DocumentRefused, match="no such patient"):
        subjects.check_patient(NOBODY)
