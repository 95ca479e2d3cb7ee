"""What is special to FHIR servers, at the sandbox's: ways to log in, ways to send, what a server may lack."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from sandbox.providers.fhir_login import BEARER, CLIENT_ID, CLIENT_SECRET, PASSWORD, USER
from sandbox.providers.fhir_server import PATIENT_SYSTEM
from tasks.http.clients import Clients
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, OutcomeUnknown, RetryLater
from tasks.model.job import Job, Uncertainty
from tasks.model.route import Stage
from tasks.providers.base import GivesFiles, KeepsRecords, RecordQuery, Registers
from tests.harness.sandbox import SandboxProcess
from tests.tasks.providers.at_work import AtWork, fresh

ACCOUNT = "fhir_clinic"
LARGE = bytes(number % 251 for number in range(1_200_000))
Making = Callable[..., AtWork]


@pytest.fixture
def making(world: SandboxProcess, clients: Clients, tmp_path: Path) -> Making:
    """An account at the sandbox with settings of its own."""
    return lambda **settings: AtWork(world, clients, tmp_path, ACCOUNT, **settings)


def unsure(job: Job) -> Job:
    """The job as it is after a sending whose answer was lost."""
    return replace(job, uncertainty=Uncertainty(earlier_sending_unknown=True))


# --- logging in ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "login",
    [
        {"auth": "smart"},
        {"auth": "secret", "client_secret": CLIENT_SECRET},
        {"auth": "secret", "client_secret": CLIENT_SECRET, "client_auth": "body"},
        {"auth": "bearer", "token": BEARER},
        {"auth": "basic", "user": USER, "password": PASSWORD},
    ],
    ids=["smart", "secret", "secret in the body", "bearer", "basic"],
)
def test_each_way_to_log_in_delivers_and_a_refusal_of_it_blocks_the_account(making: Making, login: Any) -> None:
    at_work = making(**login)
    at_work.provider.probe()
    job = at_work.sent(at_work.job())
    assert len(at_work.chart(job)) == 1
    at_work.sandbox.world(revoke=[{"bearer": BEARER, "basic": USER}.get(login["auth"], CLIENT_ID)])
    for act in (at_work.provider.probe, lambda: at_work.sent(at_work.job())):
        with pytest.raises(AccountBlocked) as blocked:
            act()
        assert blocked.value.credentials
        assert not any(secret in str(blocked.value) for secret in (BEARER, PASSWORD, CLIENT_SECRET))


def test_without_a_login_the_server_refuses(making: Making) -> None:
    with pytest.raises(AccountBlocked, match="refuses the login"):
        making(auth="none").provider.probe()


def test_where_tokens_come_from_is_read_in_the_statement_if_there_is_no_smart_configuration(making: Making) -> None:
    at_work = making()
    at_work.sandbox.world(fhir_without=["smart-configuration"])
    assert len(at_work.chart(at_work.sent(at_work.job()))) == 1


def test_a_dead_token_is_replaced_within_the_call(making: Making) -> None:
    at_work = making()
    at_work.sent(at_work.job())
    at_work.sandbox.world(kill_tokens=["fhir"])
    job = at_work.sent(at_work.job(LARGE))
    assert len(at_work.chart(job)) == 1


# --- ways to send ----------------------------------------------------------------------------------------------------


_LACKING: tuple[list[str], ...] = ([], ["updateCreate"], ["raw Binary"], ["size and hash"], ["absolute Location"])


@pytest.mark.parametrize(
    ("payload", "without", "content"),
    [
        *(("auto", without, LARGE) for without in _LACKING),
        *((payload, [], b"small") for payload in ("auto", "inline", "binary", "transaction")),
        *((payload, [], LARGE) for payload in ("inline", "transaction")),
        ("transaction", ["updateCreate"], b"small"),
    ],
)
def test_the_document_arrives_whole_and_is_read_back(
    making: Making, payload: str, without: list[str], content: bytes
) -> None:
    at_work = making(payload=payload)
    at_work.sandbox.world(fhir_without=without)
    job = at_work.sent(at_work.job(content))
    (charted,) = at_work.chart(job)
    assert charted["sha256"] == sha256(content).hexdigest()
    assert job.stage is Stage.DELIVERED  # confirmed within the step
    assert job.facts.record is not None
    assert job.facts.record.id == charted["record_id"]


def test_the_bytes_are_read_back_unless_the_server_does_not_give_them(making: Making) -> None:
    at_work = making(payload="binary")
    registers = at_work.provider
    assert isinstance(registers, Registers)

    def remarks() -> tuple[str, ...]:
        job = at_work.ready(at_work.job())
        return registers.register(job, at_work.new_gate(job)).remarks

    assert remarks() == ()
    at_work.sandbox.world(fhir_without=["raw Binary"])
    (remark,) = remarks()
    assert "its size in the record" in remark
    assert "as FHIR only" in remark


def test_a_server_without_binaries_gets_large_documents_inline(making: Making) -> None:
    at_work = making()
    at_work.sandbox.world(fhir_without=["Binary"])
    assert len(at_work.chart(at_work.sent(at_work.job(LARGE)))) == 1


def test_the_same_create_again_is_the_same_document(making: Making) -> None:
    for settings in ({}, {"payload": "binary"}, {"payload": "transaction"}, {"conditional": "update"}):
        at_work = making(**settings)
        job = at_work.ready(at_work.job())
        first = at_work.registered(job)
        again = at_work.registered(job)
        assert first.facts.record is not None
        assert again.facts.record is not None
        assert first.facts.record.id == again.facts.record.id
        assert len(at_work.chart(job)) == 1


def test_a_binary_that_is_uploaded_again_is_the_same_one_where_the_server_lets_us_name_it(making: Making) -> None:
    at_work = making(payload="binary")
    job = at_work.presigned(at_work.job())
    first, again = at_work.post(job), at_work.post(job)
    assert first.location == again.location
    at_work.sandbox.world(fhir_without=["updateCreate"])
    at_work.cache.values.clear()  # the statement is read again
    third = at_work.post(job)
    assert third.location != first.location
    # Two Binaries, and still one document: what nothing refers to is in no chart.
    stored = replace(job, facts=replace(job.facts, stored=third), stage=Stage.STORED)
    at_work.registered(stored)
    assert len(at_work.chart(job)) == 1


# --- outcomes that nobody saw ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("payload", ["inline", "binary", "transaction"])
@pytest.mark.parametrize("unknown", ["reconcile", "resend"])
def test_after_a_lost_answer_there_is_one_document(making: Making, unknown: str, payload: str) -> None:
    at_work = making(on_unknown_outcome=unknown, payload=payload)
    job = at_work.ready(at_work.named("LOST"))
    with pytest.raises(OutcomeUnknown):
        at_work.created(job)
    record = at_work.record_of(job if unknown == "reconcile" else at_work.created(unsure(job)))
    (charted,) = at_work.chart(job)
    assert charted["record_id"] == record.id


def test_after_a_lost_answer_that_no_search_shows_yet_the_conditional_create_still_finds_it(making: Making) -> None:
    at_work = making(on_unknown_outcome="resend")
    at_work.sandbox.world(fhir_without=["identifier"])
    job = at_work.ready(at_work.named("TIMEOUT504"))
    with pytest.raises(OutcomeUnknown):
        at_work.created(job)
    at_work.record_of(at_work.created(unsure(job)))
    assert len(at_work.chart(job)) == 1


def test_an_index_that_is_late_is_waited_for(making: Making) -> None:
    at_work = making()
    at_work.sandbox.world(fhir_index_seconds=1)
    job = at_work.ready(at_work.named("LOST"))
    with pytest.raises(OutcomeUnknown):
        at_work.created(job)
    assert at_work.found(job) is None
    at_work.record_of(job)
    assert len(at_work.chart(job)) == 1


# --- what a server lacks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("without", "settings", "sentence"),
    [
        (["R4"], {}, "it is of FHIR 3.0.2, and not of R4"),
        (["create"], {}, "no create of DocumentReference"),
        (["identifier"], {}, 'no search for DocumentReference by identifier: set on_unknown_outcome = "resend"'),
        (["identifier", "conditionalCreate"], {}, 'set on_unknown_outcome = "hold"'),
        (["conditionalCreate"], {"on_unknown_outcome": "resend"}, 'set on_unknown_outcome = "reconcile"'),
        (["conditionalUpdate"], {"conditional": "update"}, 'set conditional = "create"'),
        (["Binary"], {"payload": "binary"}, "no create of Binary"),
        (["transaction"], {"payload": "transaction"}, "it offers no transaction"),
        (["Patient"], {"patient_system": PATIENT_SYSTEM}, "no search for Patient by identifier"),
    ],
)
def test_check_names_what_the_server_lacks_and_what_to_set_and_nothing_is_sent(
    making: Making, without: list[str], settings: dict[str, Any], sentence: str
) -> None:
    at_work = making(**settings)
    at_work.sandbox.world(fhir_without=without)
    job = at_work.job()
    for act in (at_work.provider.probe, lambda: at_work.sent(job)):
        with pytest.raises(AccountBlocked, match="CapabilityStatement") as blocked:
            act()
        assert sentence in str(blocked.value)
    assert at_work.chart(job) == []


def test_a_server_with_neither_search_nor_conditional_create_has_what_is_unknown_held(making: Making) -> None:
    at_work = making(on_unknown_outcome="hold")
    at_work.sandbox.world(fhir_without=["identifier", "conditionalCreate", "Binary", "updateCreate", "transaction"])
    at_work.provider.probe()
    job = at_work.sent(at_work.job())
    assert job.stage is Stage.DELIVERED
    assert len(at_work.chart(job)) == 1
    with pytest.raises(OutcomeUnknown):
        at_work.sent(at_work.named("LOST"))


def test_a_record_that_cannot_be_read_back_says_so_in_the_receipt(making: Making) -> None:
    at_work = making(on_unknown_outcome="hold")
    at_work.sandbox.world(fhir_without=["read", "identifier", "conditionalCreate"])
    job = at_work.ready(at_work.job())
    assert isinstance(at_work.provider, Registers)
    registered = at_work.provider.register(job, at_work.new_gate(job))
    assert registered.processed
    assert "by the server's answer alone" in "".join(registered.remarks)


# --- patients --------------------------------------------------------------------------------------------------------


def test_a_patient_is_found_by_identifier_if_exactly_one_has_it(making: Making) -> None:
    at_work = making(patient_system=PATIENT_SYSTEM)
    job = at_work.sent(at_work.job())
    assert len(at_work.chart(job)) == 1
    for patient, sentence in ((f"404-{fresh()}", "knows no such patient"), (f"twins-{fresh()}", "several patients")):
        with pytest.raises(DocumentRefused, match=sentence) as refused:
            at_work.sent(at_work.job(patient_id=patient))
        assert refused.value.code is Code.REFUSED_BY_PROVIDER
        assert refused.value.hint
        assert patient not in str(refused.value)


def test_the_patient_in_the_options_goes_before(making: Making) -> None:
    at_work = making()
    meant = f"meant-{fresh()}"
    job = at_work.sent(at_work.job(options={"patient": f"Patient/{meant}"}))
    assert at_work.chart(job) == []
    assert len(at_work.sandbox.charts(provider="fhir", patient_id=meant)) == 1


def test_a_patient_is_looked_up_once_for_several_documents(making: Making) -> None:
    at_work = making()
    patient = f"patient-{fresh()}"
    at_work.sent(at_work.job(patient_id=patient))
    before = at_work.slots.calls
    at_work.sent(at_work.job(patient_id=patient))
    assert at_work.slots.calls - before == 2  # create, read back


def test_without_the_check_the_server_itself_refuses_an_unknown_patient(making: Making) -> None:
    at_work = making(check_patient=False)
    with pytest.raises(DocumentRefused) as refused:
        at_work.sent(at_work.job(patient_id=f"404-{fresh()}"))
    assert "refers to a resource that does not exist" in refused.value.detail
    assert "refers" not in str(refused.value)


# --- what a person looks at ------------------------------------------------------------------------------------------


def test_a_throttled_patient_look_up_waits(making: Making) -> None:
    at_work = making()
    with pytest.raises(RetryLater) as later:
        at_work.sent(at_work.job(patient_id=f"429-{fresh()}"))
    assert later.value.after_seconds == 1


def test_a_patients_records_are_listed_shown_and_downloaded(making: Making) -> None:
    for settings in ({}, {"payload": "binary"}, {"patient_system": PATIENT_SYSTEM}):
        at_work = making(**settings)
        provider = at_work.provider
        assert isinstance(provider, KeepsRecords)
        assert isinstance(provider, GivesFiles)
        patient = f"patient-{fresh()}"
        jobs = [at_work.sent(at_work.job(LARGE, patient_id=patient)) for _ in range(5)]
        query = RecordQuery(patient, per_page=2)
        provider.check_query(query)
        listed = list(provider.records(query))
        assert [row.id for row in listed] == [at_work.record_of(job).id for job in jobs]
        assert [row.id for row in provider.records(RecordQuery(patient, page=1, per_page=2))] == [
            row.id for row in listed[:2]
        ]
        shown = provider.record(listed[0].id)
        assert shown == listed[0]
        assert (shown.file_name, shown.size_bytes) == (jobs[0].document.file_name, len(LARGE))
        assert (shown.patient_id, shown.archived) == (patient, False)
        taken = bytearray()
        assert provider.download(shown.id, taken.extend, most_bytes=len(LARGE)).size_bytes == len(LARGE)
        assert bytes(taken) == LARGE
        with pytest.raises(DocumentRefused) as refused:
            provider.download(shown.id, taken.extend, most_bytes=len(LARGE) - 1)
        assert refused.value.code is Code.FILE_TOO_LARGE
