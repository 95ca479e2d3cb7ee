"""What is special to NHN, at the sandbox: nonces, tokens that die, labels, and what was stored without our knowing."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from config.keys import new_key, public_jwk, read_key
from tasks.http.clients import Clients
from tasks.model.document import Label, Relabeling
from tasks.model.errors import AccountBlocked, DocumentRefused, OutcomeUnknown, RetryLater
from tasks.model.job import Record, Uncertainty
from tasks.providers.nhn.client import Nhn
from tests.harness.sandbox import SandboxProcess
from tests.tasks.providers.at_work import AtWork
from tests.tasks.providers.doubles import NO_GATE, job


@pytest.fixture
def at_work(world: SandboxProcess, clients: Clients, tmp_path: Path) -> AtWork:
    return AtWork(world, clients, tmp_path, "nhn_hospital")


def labels_at(at_work: AtWork, document_id: str) -> set[str]:
    return {label["code"] for label in at_work.sandbox.labels(document_id).get("labels", [])}


def relabeled(at_work: AtWork, document_id: str, *codes: str, payload: str = "resource") -> Any:
    provider = at_work.provider
    assert isinstance(provider, Nhn)
    labels = tuple(Label("urn:oid:2.999", code) for code in codes)
    made = job(patient_id=None, file_name="", size_bytes=0)
    asked = Relabeling(document_id, labels, payload)
    return provider.relabel(replace(made, document=replace(made.document, source="", relabeling=asked)), NO_GATE)


@pytest.mark.parametrize("payload", ["resource", "json-patch"])
def test_labels_are_changed_at_the_sandbox(at_work: AtWork, payload: str) -> None:
    relabeled(at_work, f"doc-{payload}", "N", "NORS", payload=payload)
    assert labels_at(at_work, f"doc-{payload}") == {"N", "NORS"}


@pytest.mark.parametrize("prefix", ["402", "404", "400"])
def test_a_document_that_is_not_there_is_not_found_whatever_the_status(at_work: AtWork, prefix: str) -> None:
    with pytest.raises(DocumentRefused, match="no such document"):
        relabeled(at_work, f"{prefix}-doc", "N")


def test_other_faults_of_relabelings_at_the_sandbox(at_work: AtWork) -> None:
    with pytest.raises(AccountBlocked) as blocked:
        relabeled(at_work, "401-doc", "N")
    assert blocked.value.credentials
    with pytest.raises(AccountBlocked):
        relabeled(at_work, "403-doc", "N")
    for document_id in ("429-doc", "500-doc", "503-doc"):
        for _ in range(2):
            with pytest.raises(RetryLater):
                relabeled(at_work, document_id, "N")
        relabeled(at_work, document_id, "N")
    with pytest.raises(RetryLater):
        relabeled(at_work, "LOST-doc", "NORS")
    assert labels_at(at_work, "LOST-doc") == {"NORS"}
    relabeled(at_work, "LOST-doc", "NORS")
    assert relabeled(at_work, "OUTCOME-doc", "N").remarks
    with pytest.raises(DocumentRefused, match="other labels"):
        relabeled(at_work, "UNCHANGED-doc", "NORS")


@pytest.mark.parametrize("size", [10, 20_000_000])
def test_servers_that_want_nonces_get_them_whatever_the_size(at_work: AtWork, size: int) -> None:
    at_work.sandbox.world(dpop_nonce=True)
    job = at_work.sent(at_work.job(b"x" * size))
    assert len(at_work.chart(job)) == 1
    calls = at_work.slots.calls
    assert calls == 4, "each server refused once"
    at_work.sent(at_work.job())
    assert at_work.slots.calls == calls + 1
    at_work.sandbox.world(dpop_nonce=True)  # others
    at_work.sent(at_work.job(b"x" * size))


def test_tokens_that_die_or_run_out_are_replaced(at_work: AtWork) -> None:
    at_work.sent(at_work.job())
    at_work.sandbox.world(kill_tokens=["nhn"])
    time.sleep(0.01)  # tokens are told apart by their time
    at_work.sent(at_work.job())
    assert at_work.slots.calls == 2 + 3


def test_a_scope_that_is_rejected_blocks_the_account(at_work: AtWork) -> None:
    at_work.sandbox.world(helseid_rejected_scopes=[at_work.sandbox.settings["accounts"]["nhn_hospital"]["scope"]])
    with pytest.raises(AccountBlocked, match="scope"):
        at_work.sent(at_work.job())


@pytest.mark.parametrize("how", ["503", "reset"])
def test_a_helseid_that_is_down_is_no_refusal(at_work: AtWork, how: str) -> None:
    at_work.sandbox.world(down={"helseid": how})
    for act in (lambda: at_work.sent(at_work.job()), at_work.provider.probe):
        with pytest.raises(RetryLater) as later:
            act()
        assert later.value.unreachable


@pytest.mark.parametrize("word", ["TIMEOUT504", "LOSTCREATE", "BUSY-1"])
def test_what_may_or_may_not_have_been_stored_is_stored_once_when_it_is_sent_again(at_work: AtWork, word: str) -> None:
    job = at_work.ready(at_work.named(word))
    with pytest.raises(OutcomeUnknown):
        at_work.created(job)
    again = at_work.created(job)
    (charted,) = at_work.chart(job)
    assert charted["record_id"] == again.facts.record.id  # type: ignore[union-attr]


def test_a_virus_is_refused_in_nhns_words(at_work: AtWork) -> None:
    with pytest.raises(DocumentRefused) as refused:
        at_work.sent(at_work.named("VIRUS"))
    assert "virus" in refused.value.detail
    assert "virus" not in str(refused.value)


def test_an_organization_alone_and_the_newer_scope_are_welcome_too(
    world: SandboxProcess, clients: Clients, tmp_path: Path
) -> None:
    said = world.settings["accounts"]["nhn_hospital"]
    lock = {"organization": {"child": said["organization"]["child"]}, "scope": "nhn:phr-repo/mhd/create"}
    at_work = AtWork(world, clients, tmp_path, "nhn_hospital", **lock)
    assert at_work.chart(at_work.sent(at_work.job()))


def test_a_wrong_organization_or_key_id_blocks_the_account(
    world: SandboxProcess, clients: Clients, tmp_path: Path
) -> None:
    for wrong in ({"organization": {"child": "999999999"}}, {"key_id": "another"}, {"client_id": "another"}):
        at_work = AtWork(world, clients, tmp_path, "nhn_hospital", **wrong)
        with pytest.raises(AccountBlocked) as blocked:
            at_work.provider.probe()
        assert blocked.value.credentials


@pytest.mark.parametrize("algorithm", ["PS256", "RS256", "ES384"])
def test_a_key_whose_public_half_was_handed_in_gets_tokens_and_one_for_another_algorithm_does_not(
    world: SandboxProcess, clients: Clients, tmp_path: Path, algorithm: str
) -> None:
    private, key_id = new_key(algorithm, f"handed-in-{algorithm}")
    public = public_jwk(read_key(private), key_id, algorithm)
    assert httpx.post(f"{world.base}/_sandbox/helseid/keys", json=public, trust_env=False).status_code == 204
    AtWork(world, clients, tmp_path, "nhn_hospital", private_key=private, key_id=key_id).provider.probe()
    nameless = json.dumps({name: value for name, value in json.loads(private).items() if name != "alg"})
    if algorithm == "RS256":  # without alg the key signs with PS256, for which it is not registered
        at_work = AtWork(world, clients, tmp_path, "nhn_hospital", private_key=nameless, key_id=key_id)
        with pytest.raises(AccountBlocked, match="key_id, private_key, algorithm"):
            at_work.provider.probe()


@pytest.mark.parametrize("organization", [{}, {"parent": "100000001"}, {"child": "200000002"}])
def test_a_client_names_a_unit_a_legal_body_or_none(
    world: SandboxProcess, clients: Clients, tmp_path: Path, organization: dict[str, str]
) -> None:
    AtWork(world, clients, tmp_path, "nhn_hospital", organization=organization).provider.probe()


def test_where_machines_may_read_a_document_is_looked_for_and_not_sent_again(
    world: SandboxProcess, at_work: AtWork
) -> None:
    world.world(nhn_reads=True)
    ready = at_work.ready(at_work.named("LOST"))
    with pytest.raises(OutcomeUnknown):
        at_work.registered(ready)
    world.forget_requests()
    again = at_work.registered(replace(ready, uncertainty=Uncertainty(earlier_sending_unknown=True)))
    (record,) = at_work.chart(again)
    assert at_work.record_of(again).id == record["record_id"]
    assert list(world.requests()["counts"]) == ["GET /nhn/R4/fhir/DocumentReference/{id} 200"], "only looked for"
    assert at_work.provider.still_there(again.document, at_work.record_of(again))
    assert not at_work.provider.still_there(again.document, Record("00000000-0000-4000-8000-000000000009"))


def test_a_dry_run_says_what_nhn_would_say_and_leaves_nothing(at_work: AtWork) -> None:
    provider = at_work.provider
    assert isinstance(provider, Nhn)
    good = at_work.begun(at_work.job())
    remarks = provider.validate(good, at_work.new_gate(good))
    assert any("0 errors" in remark for remark in remarks)
    wrong = at_work.begun(at_work.named("INVALID"))
    with pytest.raises(DocumentRefused) as refused:
        provider.validate(wrong, at_work.new_gate(wrong))
    assert "could not be stored" in refused.value.detail
    assert at_work.chart(good) == at_work.chart(wrong) == []


def test_a_json_patch_that_is_refused_parks_nothing(world: SandboxProcess, at_work: AtWork) -> None:
    world.world(nhn_json_patch=False)
    at_work.provider.probe()
    with pytest.raises(DocumentRefused, match="JSON Patch"):
        relabeled(at_work, "unpatched", "N", payload="json-patch")


def test_the_document_that_was_provided_can_be_relabelled(at_work: AtWork) -> None:
    record = at_work.record_of(at_work.sent(at_work.job()))
    relabeled(at_work, record.id, "N", "NORS")
    assert labels_at(at_work, record.id) == {"N", "NORS"}
