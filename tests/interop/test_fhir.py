"""The provider `fhir` at a server that nobody here wrote: it creates, repeats, finds, reads back, and is refused."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from config.accounts import FhirAccount
from tasks.http.clients import Clients
from tasks.model.errors import Code, DocumentRefused, OutcomeUnknown
from tasks.model.job import Job, Uncertainty
from tasks.model.route import Stage, Step
from tasks.providers.base import RecordQuery, Registered
from tasks.providers.fhir_server.client import FhirServer
from tests.interop.claims import MEDPLUM, claim
from tests.interop.node import NodeServer
from tests.tasks.providers.doubles import NO_OWNERS, DictCache, Slots, connected, job
from tests.tasks.providers.odd_redox import gate_for

PATIENTS = "urn:oid:2.999.1"
CONTENT = b"%PDF-1.7 some bytes"
LARGE = b"%PDF-1.7" + b"x" * 1_200_000


@pytest.fixture(scope="module")
def server(packages: None) -> Iterator[httpx.Client]:
    """A client of the server, at its root."""
    with NodeServer("fhir_server.mjs") as process, httpx.Client(base_url=process.url, trust_env=False) as client:
        yield client


class Chart:
    """A patient at the server, and an account that sends documents for that patient."""

    def __init__(self, server: httpx.Client, clients: Clients, **said: Any) -> None:
        self.server = server
        self.patient = self.add_patient("4711")
        self._clients = clients
        self.slots = Slots()
        self.fhir = self.account(**said)

    def account(self, **said: Any) -> FhirServer:
        settings = {
            "provider": "fhir",
            "base_url": str(self.server.base_url).rstrip("/") + "/fhir/R4",
            "auth": "none",
            "insecure": True,
            "metadata": {"type": "http://loinc.org|34133-9|Summary of episode note", "author": {"name": "Anna Berg"}},
            **said,
        }
        connection = connected(self._clients, self.slots, DictCache())
        return FhirServer("hospital", FhirAccount.model_validate(settings), connection)

    def add_patient(self, number: str) -> str:
        """The id of a new patient with this number."""
        patient = {"resourceType": "Patient", "identifier": [{"system": PATIENTS, "value": number}]}
        made: str = self.server.post("/fhir/R4/Patient", json=patient).raise_for_status().json()["id"]
        return made

    def job(self, content: bytes = CONTENT, **document: Any) -> Job:
        made = job(patient_id=self.patient, size_bytes=len(content), account="hospital")
        return replace(made, provider="fhir", document=replace(made.document, **document))

    def sent(self, job: Job, content: bytes = CONTENT, fhir: FhirServer | None = None) -> Registered:
        """The document taken all the way, as the pipeline would."""
        fhir = fhir or self.fhir
        fhir.check(job.document)
        job = replace(job, facts=fhir.before_sending(job))
        if fhir.route(job.document).first is Step.POST:
            stored = fhir.store(job, gate_for(content))
            job = replace(job, facts=replace(job.facts, stored=stored), stage=Stage.STORED)
        return fhir.register(job, gate_for(content))

    def lose_next_answer(self) -> None:
        self.server.post("/lose").raise_for_status()

    def documents(self) -> list[dict[str, Any]]:
        """All that the chart holds."""
        found = self.server.get("/fhir/R4/DocumentReference", params={"subject": f"Patient/{self.patient}"})
        return [entry["resource"] for entry in found.raise_for_status().json().get("entry", [])]

    def bytes_of(self, document: dict[str, Any]) -> bytes:
        attachment = document["content"][0]["attachment"]
        if "data" in attachment:
            return base64.b64decode(attachment["data"])
        return self.server.get(f"/fhir/R4/{attachment['url']}").raise_for_status().content


@pytest.fixture
def chart(server: httpx.Client, clients: Clients) -> Callable[..., Chart]:
    """Makes a chart; keywords are the account's settings."""
    return lambda **said: Chart(server, clients, **said)


each_payload = pytest.mark.parametrize("payload", ["inline", "binary", "transaction"])


# --- created ---------------------------------------------------------------------------------------------------------


def test_the_server_is_found_fit(chart: Callable[..., Chart]) -> None:
    chart().fhir.probe()


@claim("FHIR: a document is created for its patient, and read back with the bytes that were sent", MEDPLUM)
@each_payload
def test_a_document_is_created_and_read_back(chart: Callable[..., Chart], payload: str) -> None:
    at = chart(payload=payload)
    registered = at.sent(at.job())
    assert registered.processed
    assert registered.remarks == ()
    (document,) = at.documents()
    assert document["id"] == registered.record.id
    assert at.bytes_of(document) == CONTENT


@claim("FHIR: a large document goes as a Binary, and is read back with the bytes that were sent", MEDPLUM)
def test_a_large_document_goes_as_a_binary(chart: Callable[..., Chart]) -> None:
    at = chart()
    registered = at.sent(at.job(LARGE), LARGE)
    assert registered.processed
    (document,) = at.documents()
    assert document["content"][0]["attachment"]["url"].startswith("Binary/")
    assert at.bytes_of(document) == LARGE


# --- repeated --------------------------------------------------------------------------------------------------------


@claim("FHIR: after a lost answer the document is found by its identifier, and is there once", MEDPLUM)
@each_payload
def test_after_a_lost_answer_the_document_is_found(chart: Callable[..., Chart], payload: str) -> None:
    at = chart(payload=payload)
    made = at.job()
    at.lose_next_answer()
    with pytest.raises(OutcomeUnknown):
        at.sent(made)
    found = at.fhir.find([made], NO_OWNERS)[made.id]
    (document,) = at.documents()
    assert found.record.id == document["id"]
    assert found.fault is None


@claim("FHIR: a create that is repeated makes nothing new", MEDPLUM)
@each_payload
@pytest.mark.parametrize("known", [False, True], ids=["after a wipe", "after a lost answer"])
def test_a_repeated_create_makes_nothing_new(chart: Callable[..., Chart], payload: str, known: bool) -> None:
    at = chart(payload=payload)
    made = at.job()
    first = at.sent(made)
    again = replace(made, uncertainty=Uncertainty(earlier_sending_unknown=True)) if known else made
    assert at.sent(again).record.id == first.record.id
    assert len(at.documents()) == 1


@claim("FHIR: a conditional update that is repeated makes nothing new", MEDPLUM)
def test_a_repeated_update_makes_nothing_new(chart: Callable[..., Chart]) -> None:
    at = chart(conditional="update")
    made = at.job()
    assert at.sent(made).record.id == at.sent(made).record.id
    assert len(at.documents()) == 1


@claim("FHIR: a record that was removed is no longer there", MEDPLUM)
def test_a_record_that_was_removed_is_no_longer_there(chart: Callable[..., Chart]) -> None:
    at = chart()
    made = at.job()
    record = at.sent(made).record
    assert at.fhir.still_there(made.document, record)
    at.server.delete(f"/fhir/R4/DocumentReference/{record.id}").raise_for_status()
    assert not at.fhir.still_there(made.document, record)


@claim("FHIR: a chart's documents are listed, filtered and in order, and their files downloaded", MEDPLUM)
def test_a_chart_is_listed_and_its_files_are_downloaded(chart: Callable[..., Chart]) -> None:
    at = chart(payload="binary")
    named = [at.job(file_name=name) for name in ("one.pdf", "two.pdf")]
    made = [at.sent(each).record.id for each in named]
    at.sent(at.job(options={"doc_status": "preliminary"}))

    query = RecordQuery(patient_id=at.patient, filters=("type=http://loinc.org|34133-9",), sort="-date")
    at.fhir.check_query(query)
    listed = [record.id for record in at.fhir.records(query)]
    assert len(listed) == 3
    assert [each for each in listed if each in made] == made[::-1]
    assert list(at.fhir.records(replace(query, filters=("type=http://loinc.org|11502-2",)))) == []

    record = at.fhir.record(made[0])
    assert (record.file_name, record.size_bytes, record.patient_id) == ("one.pdf", len(CONTENT), at.patient)
    received: list[bytes] = []
    assert at.fhir.download(made[0], received.append, most_bytes=1000).size_bytes == len(CONTENT)
    assert b"".join(received) == CONTENT


# --- patients --------------------------------------------------------------------------------------------------------


@claim("FHIR: the patient is found by an identifier; a document for nobody, or for one of several, is refused", MEDPLUM)
def test_the_patient_is_found_by_an_identifier(chart: Callable[..., Chart]) -> None:
    at = chart()
    fhir = at.account(patient_system=PATIENTS)
    numbers = [f"{at.patient}-{number}" for number in (1, 2)]
    at.patient = at.add_patient(numbers[0])
    at.sent(replace(made := at.job(), document=replace(made.document, patient_id=numbers[0])), fhir=fhir)
    assert len(at.documents()) == 1
    for _ in range(2):
        at.add_patient(numbers[1])
    for number in ("nobody", numbers[1]):
        other = at.job(patient_id=number)
        with pytest.raises(DocumentRefused, match=r"no such patient|several patients"):
            at.sent(other, fhir=fhir)


@claim("FHIR: an id that no patient has is refused before anything is sent", MEDPLUM)
def test_an_id_that_no_patient_has_is_refused(chart: Callable[..., Chart]) -> None:
    at = chart()
    with pytest.raises(DocumentRefused, match="no such patient"):
        at.sent(at.job(patient_id="57a07380-1818-460f-85bb-81f8e4e45c42"))


# --- refused ---------------------------------------------------------------------------------------------------------

# What the settings let pass, since servers differ, and what R4 does not allow.
NOT_R4: dict[str, Any] = {"options": {"metadata": {"type": "http://loinc.org|34133  9"}}}


@claim(
    "FHIR: what is not valid R4 is refused by the server, whose words are in the refusal, and nothing is stored",
    MEDPLUM,
)
@each_payload
def test_what_is_not_valid_is_refused_by_the_server(chart: Callable[..., Chart], payload: str) -> None:
    at = chart(payload=payload)
    with pytest.raises(DocumentRefused) as refused:
        at.sent(at.job(**NOT_R4))
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert "code" in (refused.value.detail or "")
    assert at.documents() == []


@claim("FHIR: a document that is too large for the server is refused, in the server's words", MEDPLUM)
@pytest.mark.parametrize("payload", ["inline", "transaction"])
def test_a_document_that_is_too_large_is_refused(chart: Callable[..., Chart], payload: str) -> None:
    at = chart(payload=payload)
    with pytest.raises(DocumentRefused) as refused:
        at.sent(at.job(LARGE), LARGE)
    assert "exceeds 1048576 bytes" in (refused.value.detail or "")
    assert at.documents() == []


@claim("FHIR: where several records have the document's identifier, a person is asked", MEDPLUM)
def test_several_records_with_one_identifier_need_a_person(chart: Callable[..., Chart]) -> None:
    at = chart()
    made = at.job()
    at.sent(made)
    copy = {name: value for name, value in at.documents()[0].items() if name not in ("id", "meta")}
    at.server.post("/fhir/R4/DocumentReference", json=copy).raise_for_status()
    with pytest.raises(DocumentRefused, match="several records") as refused:
        at.sent(made)
    assert refused.value.code is Code.OUTCOME_UNKNOWN
