"""Ovok: a document that comes with a patient ends as that patient's, whatever is lost or refused on the way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from config.accounts import OvokAccount
from tasks.http.clients import Clients
from tasks.model.errors import About, AccountBlocked, Code, DocumentRefused, RetryLater, StepError
from tasks.model.job import Assurance, Job, Record
from tasks.model.route import Stage
from tasks.providers.base import Found
from tasks.providers.ovok.client import Ovok
from tests.harness.sandbox import SandboxProcess
from tests.tasks.providers.at_work import AtWork, fresh
from tests.tasks.providers.doubles import NO_OWNERS, CountingGate, DictCache, Slots, connected, job
from tests.tasks.providers.odd_ovok import API, CREATE, FHIR, OddOvok, entry, resource
from tests.tasks.providers.odd_server import Reply, Request
from tests.tasks.providers.test_ovok import CONTENT, stored

PATIENT = f"GET {API}/fhir/R4/Patient/p-1"
READ, PATCH, PUT = (f"{method} {FHIR}/d-1" for method in ("GET", "PATCH", "PUT"))
OUTCOME = {"resourceType": "OperationOutcome", "issue": [{"severity": "error", "code": "invalid"}]}
OURS = {"reference": "Patient/p-1"}


@pytest.fixture
def odd() -> Iterator[OddOvok]:
    with OddOvok() as server:
        server.knows("p-1")
        server.leases("d-1", CONTENT)
        yield server


class Making:
    def __init__(self, odd: OddOvok, clients: Clients) -> None:
        self._odd, self._clients, self.cache = odd, clients, DictCache()

    def __call__(self, **changed: Any) -> Ovok:
        said = {
            "provider": "ovok",
            "base_url": self._odd.base + API,
            "email": "worker@clinic.example",
            "password": "the-password",
            "client_id": "the-client",
            "insecure": True,
        }
        account = OvokAccount.model_validate(said | changed)
        return Ovok("ovok_clinic", account, connected(self._clients, Slots(), self.cache))


@pytest.fixture
def making(odd: OddOvok, clients: Clients) -> Making:
    return Making(odd, clients)


@pytest.fixture
def ovok(making: Making) -> Ovok:
    return making()


def of_patient(patient_id: str | None = "p-1", into: str | None = None, **facts: Any) -> Job:
    made = job(patient_id=patient_id, account="ovok_clinic", **facts)
    options = {} if into is None else {"document_id": into}
    return replace(made, provider="ovok", document=replace(made.document, options=options))


def uploaded(**changed: Any) -> Job:
    """A job whose upload the storage has acknowledged."""
    return of_patient(record=Record("d-1"), stored=stored(), **changed)


def found(ovok: Ovok, job: Job) -> Found:
    return ovok.find([job], NO_OWNERS)[job.id]


# --- before anything is made -----------------------------------------------------------------------------------------


def test_a_patient_whom_ovok_does_not_know_is_refused_before_anything_is_made(odd: OddOvok, ovok: Ovok) -> None:
    for status in (404, 410):
        odd.answers[PATIENT] = Reply(status, OUTCOME)
        with pytest.raises(DocumentRefused, match="no such patient") as refused:
            ovok.before_sending(of_patient())
        assert (refused.value.code, refused.value.about) == (Code.REFUSED_BY_PROVIDER, About.PATIENT)
        assert "p-1" not in str(refused.value) + refused.value.hint
    assert CREATE not in odd.paths()


def test_a_patient_is_asked_for_once_in_a_while(odd: OddOvok, making: Making) -> None:
    for _ in range(3):
        making().before_sending(of_patient())
    assert odd.paths().count(PATIENT) == 1
    making.cache.pass_seconds(601)
    making().before_sending(of_patient())
    making(email="another@clinic.example").before_sending(of_patient())  # who may see other patients
    assert odd.paths().count(PATIENT) == 3


@pytest.mark.parametrize(("status", "meant"), [(401, AccountBlocked), (403, AccountBlocked), (429, RetryLater)])
def test_a_login_that_may_not_read_patients_parks_its_account(
    odd: OddOvok, ovok: Ovok, status: int, meant: type[StepError]
) -> None:
    odd.answers[PATIENT] = Reply(status, OUTCOME)
    with pytest.raises(meant):
        ovok.before_sending(of_patient())


@pytest.mark.parametrize("patient_id", ["Meier, Anna", "a/b", "x" * 65, "ä", "a b", "a_b"])
def test_an_id_that_no_patient_at_ovok_can_have_is_refused_without_a_call(
    odd: OddOvok, ovok: Ovok, making: Making, patient_id: str
) -> None:
    with pytest.raises(DocumentRefused, match="not one of Ovok's") as refused:
        ovok.check(of_patient(patient_id).document)
    assert refused.value.about is About.PATIENT
    assert patient_id not in str(refused.value) + refused.value.hint
    making(set_patient=False).check(of_patient(patient_id).document)
    assert odd.requests == []


def test_a_document_is_never_moved_from_one_chart_to_another(odd: OddOvok, ovok: Ovok) -> None:
    odd.keeps("d-1", "Patient/p-2")
    with pytest.raises(DocumentRefused, match="another patient") as refused:
        ovok.before_sending(of_patient(into="d-1"))
    assert refused.value.about is About.PATIENT
    assert not any(request.method in ("POST", "PATCH", "PUT") for request in odd.requests[1:])
    for subject in ("", "Patient/p-1", f"{odd.base}{API}/fhir/R4/Patient/p-1", "Practitioner/9"):
        odd.keeps("d-1", subject)
        assert ovok.before_sending(of_patient(into="d-1")).record is not None


# --- once the file is there ------------------------------------------------------------------------------------------


def test_a_document_is_given_its_patient_before_it_counts_as_delivered(odd: OddOvok, ovok: Ovok) -> None:
    kept = odd.keeps("d-1")
    seen = found(ovok, uploaded())
    assert (seen.stage, seen.doubt, seen.record.id) == (Stage.DELIVERED, "", "d-1")
    assert kept["subject"] == OURS
    (patch,) = [request for request in odd.requests if request.method == "PATCH"]
    assert patch.headers["content-type"] == "application/json-patch+json"
    assert patch.headers["if-match"] == 'W/"1"'
    assert json.loads(patch.body) == [{"op": "add", "path": "/subject", "value": OURS}]
    # A second search, as after a kill, changes nothing.
    found(ovok, uploaded())
    assert [request.method for request in odd.requests].count("PATCH") == 1


def test_no_patient_is_set_before_the_file_is_there(odd: OddOvok, ovok: Ovok) -> None:
    kept = odd.keeps("d-1")
    for content in (None, "not ours"):
        odd.leases("d-1", content)
        assert ovok.find([uploaded()], NO_OWNERS) == {}
    assert "subject" not in kept


@pytest.mark.parametrize("set_patient", [True, False])
def test_documents_without_a_patient_stay_without_one(odd: OddOvok, making: Making, set_patient: bool) -> None:
    ovok, patient = making(set_patient=set_patient), None if set_patient else "p-1"
    job = of_patient(patient, record=Record("d-1"), stored=stored())
    ovok.before_sending(job)
    assert found(ovok, job).stage is Stage.DELIVERED
    assert not any("/fhir/" in path for path in odd.paths())


def test_a_lost_answer_is_followed_by_a_search_that_finds_the_patient_set(odd: OddOvok, ovok: Ovok) -> None:
    kept = odd.keeps("d-1")
    change = odd.answers[PATCH]

    def changed_and_lost(request: Request) -> Reply:
        assert callable(change)
        change(request)
        return Reply(200, "{", {"Content-Length": "1000", "Connection": "close"})

    odd.answers[PATCH] = changed_and_lost
    with pytest.raises(RetryLater):
        found(ovok, uploaded())
    assert kept["subject"] == OURS
    assert found(ovok, uploaded()).stage is Stage.DELIVERED
    assert odd.paths().count(PATCH) == 1


@pytest.mark.parametrize("status", [400, 404, 405, 415, 422, 501])
def test_where_no_patch_is_taken_the_whole_resource_goes_back(odd: OddOvok, ovok: Ovok, status: int) -> None:
    kept = odd.keeps("d-1", more={"of": "theirs"})
    before = json.loads(json.dumps(kept))
    odd.answers[PATCH] = Reply(status, OUTCOME)
    assert not found(ovok, uploaded()).doubt
    (put,) = [request for request in odd.requests if request.method == "PUT"]
    assert put.headers["content-type"] == "application/fhir+json"
    assert put.headers["if-match"] == 'W/"1"'
    assert json.loads(put.body) == {**before, "subject": OURS}


@pytest.mark.parametrize("status", [409, 412, 429, 500, 502, 503])
def test_a_change_of_somebody_else_and_an_outage_are_followed_by_another_search(
    odd: OddOvok, ovok: Ovok, status: int
) -> None:
    odd.keeps("d-1")
    odd.answers[PATCH] = Reply(status, OUTCOME)
    with pytest.raises(RetryLater):
        found(ovok, uploaded())


def test_a_login_that_may_not_change_documents_parks_its_account(odd: OddOvok, ovok: Ovok) -> None:
    odd.keeps("d-1")
    odd.answers[PATCH] = Reply(403, OUTCOME)
    with pytest.raises(AccountBlocked, match="set_patient") as blocked:
        found(ovok, uploaded())
    assert blocked.value.credentials


@pytest.mark.parametrize("status", [400, 422])
def test_a_patient_whom_ovok_does_not_take_leaves_the_delivery_in_doubt(odd: OddOvok, ovok: Ovok, status: int) -> None:
    """Such a document is looked for further, so that it is delivered once somebody has assigned it in Ovok."""
    odd.keeps("d-1")
    odd.answers[PATCH] = odd.answers[PUT] = Reply(status, OUTCOME)
    seen = found(ovok, uploaded())
    assert "d-1" in seen.doubt
    assert str(status) in seen.doubt
    assert "p-1" not in seen.doubt
    odd.keeps("d-1", "Patient/p-1")
    assert not found(ovok, uploaded()).doubt


def test_a_document_that_another_patient_has_got_meanwhile_stays_there(odd: OddOvok, ovok: Ovok) -> None:
    kept = odd.keeps("d-1", "Patient/p-2")
    assert "another patient" in found(ovok, uploaded()).doubt
    assert kept["subject"] == {"reference": "Patient/p-2"}


def test_a_document_that_fhir_does_not_show_is_in_doubt(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers[READ] = Reply(404, OUTCOME)
    assert "d-1" in found(ovok, uploaded()).doubt


def test_an_answer_that_does_not_show_the_patient_proves_nothing(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers |= {READ: Reply(body=resource()), PATCH: Reply(204)}
    assert "does not show the patient" in found(ovok, uploaded()).doubt
    odd.answers[READ] = Reply(body={"resourceType": "Patient", "id": "d-1"})
    with pytest.raises(AccountBlocked, match="not understood"):
        found(ovok, uploaded())


def test_a_file_that_cannot_be_read_back_belongs_to_its_patient_all_the_same(odd: OddOvok, ovok: Ovok) -> None:
    kept = odd.keeps("d-1")
    odd.leads("d-1", "https://elsewhere.example/f")
    seen = found(ovok, uploaded())
    assert (seen.assurance, seen.doubt) == (Assurance.ACCEPTED, "")
    assert kept["subject"] == OURS


def test_r5_has_another_path(odd: OddOvok, making: Making) -> None:
    with pytest.raises(DocumentRefused):
        making(fhir_version="R5").before_sending(of_patient())
    assert odd.paths()[-1] == f"GET {API}/fhir/R5/Patient/p-1"


@pytest.mark.parametrize(
    ("reply", "named"),
    [
        (Reply(404, {"message": "Cannot GET"}), "fhir_version"),
        (Reply(403, OUTCOME), "set_patient"),
        (Reply(200, "welcome"), "not understood"),
    ],
)
def test_a_probe_says_yes_only_if_documents_can_get_their_patient(
    odd: OddOvok, ovok: Ovok, making: Making, reply: Reply, named: str
) -> None:
    odd.lists()
    ovok.probe()
    odd.answers[f"GET {FHIR}"] = reply
    with pytest.raises(AccountBlocked, match=named):
        ovok.probe()
    making(set_patient=False).probe()


# --- public documents ------------------------------------------------------------------------------------------------


def test_a_document_is_public_only_if_its_sender_asks_for_that(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers |= {CREATE: Reply(body=entry()), f"{CREATE}/d-1": Reply(body=entry())}
    plain = of_patient(None)
    for options in ({}, {"is_public": False}, {"is_public": True}):
        ovok.presign(replace(plain, document=replace(plain.document, options=options)), CountingGate())
    into = replace(plain, document=replace(plain.document, options={"document_id": "d-1", "is_public": True}))
    ovok.presign(into, CountingGate())
    bodies = [json.loads(request.body) for request in odd.requests if request.path.startswith(f"{API}/document")]
    assert [body.get("isPublic") for body in bodies] == [None, None, "true", True]


def test_the_receipt_of_a_public_document_says_that_it_is(odd: OddOvok, ovok: Ovok) -> None:
    plain = of_patient(None, record=Record("d-1"), stored=stored())
    public = replace(plain, document=replace(plain.document, options={"is_public": True}))
    assert any("public" in remark for remark in found(ovok, public).remarks)
    assert not found(ovok, plain).remarks


@pytest.mark.parametrize("value", ["true", 1, None, "yes"])
def test_an_option_that_is_neither_true_nor_false_makes_nothing_public(ovok: Ovok, value: object) -> None:
    document = replace(of_patient(None).document, options={"is_public": value})
    with pytest.raises(DocumentRefused, match="is_public") as refused:
        ovok.check(document)
    assert refused.value.code is Code.INVALID_REQUEST


def test_the_public_token_is_in_no_words_of_a_refusal(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers[CREATE] = Reply(422, {"message": "no", "publicToken": "short", "more": {"publicToken": "a.b.c"}})
    with pytest.raises(DocumentRefused) as refused:
        ovok.presign(of_patient(None), CountingGate())
    assert "no" in refused.value.detail
    assert not any(token in refused.value.detail for token in ("short", "a.b.c"))


# --- at the sandbox --------------------------------------------------------------------------------------------------


@pytest.fixture
def at_work(world: SandboxProcess, clients: Clients, tmp_path: Path) -> AtWork:
    return AtWork(world, clients, tmp_path, "ovok_clinic")


def with_patient(at_work: AtWork, patient_id: str) -> Job:
    made = at_work.job()
    return replace(made, document=replace(made.document, patient_id=patient_id))


def test_a_document_arrives_in_its_patients_chart(at_work: AtWork) -> None:
    patient = f"p-{fresh()}"
    job = at_work.sent(with_patient(at_work, patient))
    at_work.record_of(job)
    (charted,) = at_work.chart(job)
    assert charted["patient_id"] == patient
    at_work.provider.probe()


def test_a_patient_who_is_not_there_and_one_in_trouble(at_work: AtWork) -> None:
    with pytest.raises(DocumentRefused, match="no such patient"):
        at_work.begun(with_patient(at_work, f"404-{fresh()}"))
    troubled = with_patient(at_work, f"500-{fresh()}")
    with pytest.raises(RetryLater):
        at_work.begun(troubled)


@pytest.mark.parametrize(
    "login",
    [
        {"login": "staff", "client_id": ""},
        {"login": "staff", "client_id": "", "tenant": "sandbox-clinic"},
        {"login": "b2b", "tenant": "87ea5dfc-8b8e-384d-8489-79496e706390"},
    ],
)
def test_each_kind_of_user_can_send(
    world: SandboxProcess, clients: Clients, tmp_path: Path, login: dict[str, str]
) -> None:
    at_work = AtWork(world, clients, tmp_path, "ovok_clinic", **login)
    at_work.record_of(at_work.sent(at_work.job()))
    wrong = AtWork(world, clients, tmp_path, "ovok_clinic", **{**login, "password": "wrong"})
    with pytest.raises(AccountBlocked, match="refused the login"):
        wrong.provider.probe()
    if login.get("tenant"):
        elsewhere = AtWork(world, clients, tmp_path, "ovok_clinic", **{**login, "tenant": "elsewhere"})
        with pytest.raises(AccountBlocked, match="tenant"):
            elsewhere.provider.probe()
