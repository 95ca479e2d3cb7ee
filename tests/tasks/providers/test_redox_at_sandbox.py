"""What is special to Redox, at the sandbox."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tasks.http.clients import Clients
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, OutcomeUnknown, RetryLater
from tasks.model.job import Job, Uncertainty
from tests.harness.sandbox import ROOT, SandboxProcess
from tests.tasks.providers.at_work import AtWork, fresh

LARGE = b"x" * 300_000
NOBODY = "0c5b7e22-8a54-4f0e-9d6b-999999999999"


@pytest.fixture
def making(world: SandboxProcess, clients: Clients, tmp_path: Path) -> Callable[..., AtWork]:
    """The hospital with settings of its own."""
    return lambda **settings: AtWork(world, clients, tmp_path, "redox_hospital", **settings)


@pytest.fixture
def at_work(making: Callable[..., AtWork]) -> AtWork:
    return making()


def test_the_example_of_its_page_delivers(making: Callable[..., AtWork], sandbox: SandboxProcess) -> None:
    page = (ROOT / "docs" / "providers" / "redox.md").read_text()
    example = tomllib.loads(page.partition("```toml\n")[2].partition("```")[0])["accounts"]["north_hospital"]
    del example["private_key_file"]
    ours = sandbox.settings["accounts"]["redox_hospital"]
    where = {name: ours[name] for name in ("client_id", "key_id", "source_id", "destination", "environment")}
    at_work = making(**(example | where))
    at_work.record_of(at_work.sent(at_work.job()))
    at_work.record_of(at_work.sent(at_work.job(LARGE)))


def test_an_application_without_uploads_is_told_so_and_small_documents_still_go(at_work: AtWork) -> None:
    at_work.sandbox.world(redox_binary_forbidden=True)
    with pytest.raises(AccountBlocked, match="free accounts") as blocked:
        at_work.sent(at_work.job(LARGE))
    assert not blocked.value.credentials
    at_work.record_of(at_work.sent(at_work.job()))


def test_an_account_without_uploads_can_embed_what_its_threshold_allows(making: Callable[..., AtWork]) -> None:
    at_work = making(embed_below_bytes=7_499_998)
    at_work.sandbox.world(redox_binary_forbidden=True)
    content = b"x" * 7_499_997
    job = at_work.sent(at_work.job(content))
    assert at_work.chart(job)[0]["size_bytes"] == len(content)


@pytest.mark.parametrize("size", [200_000, 200_001])
def test_documents_on_both_sides_of_the_threshold_arrive(at_work: AtWork, size: int) -> None:
    job = at_work.sent(at_work.job(b"x" * size))
    assert at_work.chart(job)[0]["size_bytes"] == size


def test_a_success_may_be_an_outcome_instead_of_a_record(at_work: AtWork) -> None:
    at_work.sandbox.world(redox_outcomes=True)
    job = at_work.sent(at_work.job())
    assert at_work.record_of(job).id.startswith("urn:uuid:")
    assert len(at_work.chart(job)) == 1


@pytest.mark.parametrize("word", ["ERR200", "ERR200-ENTRY"])
def test_an_error_within_a_success_is_a_refusal(at_work: AtWork, word: str) -> None:
    job = at_work.ready(at_work.named(word))
    with pytest.raises(DocumentRefused) as refused:
        at_work.created(job)
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert "the destination answered with an error" in refused.value.detail
    assert at_work.chart(job) == []


@pytest.mark.parametrize("content", [b"small", LARGE])
@pytest.mark.parametrize("word", ["LOST", "TIMEOUT504"])
def test_where_the_receiver_knows_identifiers_again_a_repetition_is_no_second_copy(
    making: Callable[..., AtWork], word: str, content: bytes
) -> None:
    at_work = making(on_unknown_outcome="resend")
    at_work.sandbox.world(redox_dedupe=True)
    job = at_work.ready(at_work.named(word, content))
    with pytest.raises(OutcomeUnknown):
        at_work.created(job)
    again = at_work.created(replace(job, uncertainty=Uncertainty(earlier_sending_unknown=True)))
    (charted,) = at_work.chart(job)
    assert at_work.record_of(again).id == charted["record_id"]


@pytest.mark.parametrize("content", [b"small", LARGE])
def test_a_repetition_is_understood_even_where_the_receiver_makes_a_copy_of_it(
    making: Callable[..., AtWork], content: bytes
) -> None:
    """What an operator who chooses to resend must know; an uploaded file is good for one message only."""
    at_work = making(on_unknown_outcome="resend")
    job = at_work.ready(at_work.named("LOST", content))
    with pytest.raises(OutcomeUnknown):
        at_work.created(job)
    at_work.record_of(at_work.created(replace(job, uncertainty=Uncertainty(earlier_sending_unknown=True))))
    assert len(at_work.chart(job)) == 2


def test_tokens_that_die_early_are_replaced(at_work: AtWork) -> None:
    at_work.sent(at_work.job())
    at_work.sandbox.world(kill_tokens=["redox"])
    time.sleep(0.01)
    at_work.record_of(at_work.sent(at_work.job()))
    at_work.record_of(at_work.sent(at_work.job(LARGE)))


def test_tokens_that_live_for_two_seconds_are_renewed_in_time(at_work: AtWork) -> None:
    at_work.sandbox.world(redox_token_seconds=2)
    for _ in range(3):
        at_work.record_of(at_work.sent(at_work.job()))
        time.sleep(1.05)  # longer than half of its life


def test_a_key_that_is_revoked_is_noticed_by_a_probe_at_once(at_work: AtWork) -> None:
    at_work.sent(at_work.job())
    at_work.sandbox.world(revoke=[at_work.sandbox.settings["accounts"]["redox_hospital"]["client_id"]])
    with pytest.raises(AccountBlocked) as blocked:
        at_work.provider.probe()
    assert blocked.value.credentials


@pytest.mark.parametrize(
    ("wrong", "credentials"),
    [
        ({"client_id": "another"}, True),
        ({"key_id": "another"}, True),
        ({"algorithm": "RS256"}, True),
        ({"destination": "elsewhere"}, False),
        ({"environment": "Production"}, False),
    ],
)
def test_each_wrong_setting_blocks_the_account_with_a_sentence_that_names_it(
    making: Callable[..., AtWork], wrong: dict[str, str], credentials: bool
) -> None:
    at_work = making(**wrong)
    with pytest.raises(AccountBlocked, match=next(iter(wrong))) as blocked:
        at_work.sent(at_work.job())
    assert blocked.value.credentials is credentials


@pytest.mark.parametrize("how", ["503", "504", "reset"])
def test_the_api_is_probed_too(at_work: AtWork, how: str) -> None:
    at_work.sandbox.world(down={"redox": how})
    with pytest.raises(RetryLater) as later:
        at_work.provider.probe()
    assert later.value.unreachable


def test_a_patient_of_the_options_arrives_with_its_id(at_work: AtWork) -> None:
    patient = {"name": [{"family": "Meier", "given": ["Anna"]}], "birthDate": "1980-12-31", "gender": "female"}
    job: Job = at_work.sent(at_work.job(patient_id=f"p-{fresh()}", options={"patient": patient}))
    (charted,) = at_work.chart(job)
    assert charted["patient_id"] == job.document.patient_id


def test_options_of_other_providers_are_refused(at_work: AtWork) -> None:
    options: dict[str, Any] = {"document_id": "5"}
    with pytest.raises(DocumentRefused) as refused:
        at_work.sent(at_work.job(options=options))
    assert refused.value.code is Code.INVALID_REQUEST


def test_a_destination_or_a_source_that_is_not_there_is_named(making: Callable[..., AtWork]) -> None:
    making().provider.probe()
    for wrong in ({"destination": "no-such-destination"}, {"environment": "Staging"}, {"source_id": NOBODY}):
        at_work = making(**wrong)
        with pytest.raises(AccountBlocked, match=next(iter(wrong))):
            at_work.provider.probe()


def test_options_arrive_as_the_destination_reads_them(making: Callable[..., AtWork]) -> None:
    at_work = making(source_id="")
    options = {
        "patient_reference": "Patient/p-1",
        "encounter": "urn:oid:2.999.7|17",
        "authenticator": {"name": "Dr North"},
        "doc_status": "amended",
        "period": {"start": "2026-05"},
    }
    job = at_work.sent(at_work.job(options=options))
    assert len(at_work.chart(job)) == 1
