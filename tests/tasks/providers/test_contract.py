"""What every provider must do, at the sandbox: a second witness of what reached the chart.

What is special to one provider stands in its own file; docs/providers.md has this contract as a table.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from config.accounts import ACCOUNT_KINDS
from tasks.http.clients import Clients
from tasks.model.errors import (
    AccountBlocked,
    Code,
    DocumentRefused,
    OutcomeUnknown,
    PresignAgain,
    RetryLater,
    StepError,
)
from tasks.model.job import Record, Uncertainty
from tasks.model.route import OnUnknownOutcome, Stage
from tasks.providers.base import Registers, TakesForms
from tasks.providers.table import KINDS, assurance_of
from tests.harness.sandbox import SandboxProcess
from tests.tasks.providers.at_work import HABITS, AtWork, eventually, fresh
from tests.tasks.providers.doubles import NO_OWNERS


@pytest.fixture(params=sorted(KINDS))
def at_work(request: pytest.FixtureRequest, world: SandboxProcess, clients: Clients, tmp_path: Path) -> AtWork:
    accounts = world.settings["accounts"]
    name = next(name for name, account in accounts.items() if account["provider"] == request.param)
    return AtWork(world, clients, tmp_path, name)


def test_every_kind_that_settings_know_has_a_provider() -> None:
    assert set(KINDS) == set(ACCOUNT_KINDS) == set(HABITS)


def test_a_provider_is_what_its_kind_says(at_work: AtWork) -> None:
    route = at_work.route(at_work.job())
    assert at_work.provider.kind == at_work.settings.provider
    assert at_work.provider.assurance is assurance_of(at_work.provider.kind)
    assert at_work.provider.limit_group.startswith(at_work.provider.kind)
    assert set(route.stages) <= set(at_work.provider.stages)
    assert (Stage.REGISTERED in route.stages) == isinstance(at_work.provider, Registers)


def test_what_shares_a_limit_shows_no_secret(at_work: AtWork) -> None:
    settings = at_work.sandbox.settings["accounts"][at_work.name]
    for secret in (settings[at_work.habits.secret], settings["base_url"]):
        assert secret not in at_work.provider.limit_group


@pytest.mark.parametrize("size", [1, 7, 300_000, 3_000_001])
def test_a_document_reaches_the_chart_unchanged_and_its_record_is_found(at_work: AtWork, size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    job = at_work.sent(at_work.job(content, file_name=f"Über weisung ({fresh()}).pdf"))
    record = at_work.record_of(job)
    (charted,) = at_work.sandbox.charts(provider=at_work.kind, record_id=record.id)
    assert charted["sha256"] == sha256(content).hexdigest()
    assert charted["file_name"] == at_work.charted_name(job)
    assert job.facts.stored is not None
    assert job.facts.stored.sha256 == sha256(content).hexdigest()
    if at_work.habits.patients:
        assert charted["patient_id"] == job.document.patient_id


def test_what_creates_something_is_committed_once_and_what_does_not_is_not(at_work: AtWork) -> None:
    job = at_work.sent(at_work.job())
    created_at_presign = isinstance(at_work.provider, TakesForms) and at_work.provider.presign_creates
    assert 1 <= at_work.gate.commits <= (2 if created_at_presign or at_work.kind == "cliniko" else 1)
    at_work.record_of(job)


def test_before_anything_is_sent_nothing_is_found(at_work: AtWork) -> None:
    found = at_work.found(at_work.presigned(at_work.job()))
    assert found is None or found.stage is not Stage.DELIVERED


def test_a_record_that_was_in_the_chart_before_is_not_treated_as_ours(at_work: AtWork) -> None:
    """The patient has a document of the same name and size already."""
    first = at_work.sent(at_work.job())
    earlier = at_work.record_of(first)
    at_work.cache.values.clear()  # some seconds later
    again = at_work.job(patient_id=first.document.patient_id or "", file_name=first.document.file_name)
    second = at_work.ready(again)
    found = at_work.found(second)
    assert found is None or found.stage is not Stage.DELIVERED
    assert at_work.record_of(at_work.created(second)).id != earlier.id
    assert len(at_work.chart(first)) == 2


def test_many_documents_of_a_patient_each_find_their_own_record(at_work: AtWork) -> None:
    patient = f"patient-{fresh()}"
    jobs = [at_work.sent(at_work.job(b"x" * (number % 3 + 1), patient_id=patient)) for number in range(8)]
    if at_work.reconciles(jobs[0]) and at_work.route(jobs[0]).together:
        eventually(lambda: len(at_work.provider.find(jobs, NO_OWNERS)) == len(jobs))
    records = {job.id: at_work.record_of(job).id for job in jobs}
    names = {charted["record_id"]: charted["file_name"] for charted in at_work.sandbox.charts(provider=at_work.kind)}
    assert {job.id: names[records[job.id]] for job in jobs} == {job.id: at_work.charted_name(job) for job in jobs}


def test_a_document_costs_few_calls(at_work: AtWork) -> None:
    job = at_work.sent(at_work.job())
    eventually(lambda: at_work.chart(job))
    at_work.record_of(job)
    assert at_work.slots.calls <= at_work.habits.calls + (2 if at_work.kind == "cliniko" else 0)


def test_what_validation_drops_is_refused_or_never_found(at_work: AtWork) -> None:
    job = at_work.ready(at_work.named("INVALID"))
    if at_work.habits.refuses_at_once:
        with pytest.raises(DocumentRefused) as refused:
            at_work.created(job)
        assert refused.value.code is Code.REFUSED_BY_PROVIDER
        return
    job = at_work.created(job)
    at_work.record_of(at_work.sent(at_work.job()))
    found = at_work.found(job)
    assert found is None or found.stage is not Stage.DELIVERED


def test_a_creating_call_whose_answer_is_lost_is_of_unknown_outcome_and_leads_to_one_copy(at_work: AtWork) -> None:
    job = at_work.ready(at_work.named(at_work.habits.lost))
    with pytest.raises(OutcomeUnknown):
        at_work.created(job)
    if at_work.reconciles(job):
        at_work.record_of(job)
    elif at_work.route(job).on_unknown_outcome is OnUnknownOutcome.RESEND:
        at_work.record_of(at_work.created(job))
    assert len(at_work.chart(job)) == 1


def test_an_upload_that_is_cut_leaves_nothing_in_the_chart_and_can_be_repeated(at_work: AtWork) -> None:
    job = at_work.presigned(at_work.named("CUT", b"x" * 4_000_000))
    # Unknown, if all of it fitted into the sockets' buffers before the cut was felt.
    with pytest.raises((RetryLater, OutcomeUnknown)):
        at_work.registered(at_work.stored(job))
    assert at_work.chart(job) == []
    at_work.record_of(at_work.registered(at_work.stored(job)))
    assert len(at_work.chart(job)) == 1


def test_a_form_that_has_expired_is_asked_for_again(at_work: AtWork) -> None:
    if not isinstance(at_work.provider, TakesForms):
        pytest.skip("takes no forms")
    job = at_work.presigned(at_work.named("EXPIRED"))
    with pytest.raises(PresignAgain):
        at_work.post(job)
    at_work.record_of(at_work.sent(replace(job, stage=Stage.RECEIVED)))


def test_an_unknown_patient_is_refused_with_a_hint(at_work: AtWork) -> None:
    if not at_work.habits.patients:
        pytest.skip("knows no patients")
    with pytest.raises(DocumentRefused) as refused:
        at_work.sent(at_work.job(patient_id=f"404-{fresh()}"))
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert refused.value.hint
    assert "404-" not in str(refused.value)


def test_a_document_that_is_too_large_or_empty_is_refused_without_a_call(at_work: AtWork) -> None:
    made = at_work.job()
    for size, code in ((0, Code.FILE_EMPTY), (at_work.settings.max_bytes + 1, Code.FILE_TOO_LARGE)):
        with pytest.raises(DocumentRefused) as refused:
            at_work.provider.check(replace(made.document, size_bytes=size))
        assert refused.value.code is code
    assert at_work.slots.calls == 0


def test_throttling_says_how_long_to_wait(at_work: AtWork) -> None:
    at_work.sent(at_work.job())
    at_work.sandbox.world(throttle={at_work.kind: {"per_minute": 1}})
    with pytest.raises(RetryLater) as later:
        _ = [at_work.sent(at_work.job()) for _ in range(3)]
    assert later.value.throttled
    assert later.value.after_seconds is None or 0 < later.value.after_seconds <= 120


@pytest.mark.parametrize("how", ["503", "504", "reset"])
def test_a_provider_that_is_down_is_told_from_one_that_refuses(at_work: AtWork, how: str) -> None:
    at_work.sent(at_work.job())
    made = at_work.job()
    at_work.sandbox.world(down={at_work.kind: how})
    with pytest.raises((RetryLater, OutcomeUnknown)) as unwell:
        at_work.sent(made)
    assert isinstance(unwell.value, (RetryLater, OutcomeUnknown))
    assert unwell.value.unreachable
    with pytest.raises(RetryLater) as later:
        at_work.provider.probe()
    assert later.value.unreachable
    at_work.sandbox.world(down={at_work.kind: None})
    at_work.provider.probe()


def test_a_web_filter_in_front_of_the_api_is_believed_nowhere(at_work: AtWork) -> None:
    """Its answer is a 200 with a page, whatever is asked."""
    before = at_work.sent(at_work.job())
    record, ready = at_work.record_of(before), at_work.ready(at_work.job())
    at_work.sandbox.world(down={at_work.kind: "filter"})

    def blocked_by(act: Any) -> AccountBlocked:
        with pytest.raises(AccountBlocked, match=r"did not come from .* \(200 text/html\)") as blocked:
            act()
        return blocked.value

    assert blocked_by(at_work.provider.probe).never_the_document
    assert blocked_by(lambda: at_work.sent(at_work.job())).never_the_document
    if at_work.reconciles(before):  # the others ask nobody
        assert blocked_by(lambda: at_work.provider.still_there(before.document, record)).never_the_document
        assert blocked_by(
            lambda: at_work.found(replace(ready, uncertainty=Uncertainty(committed=True)))
        ).never_the_document
    if isinstance(at_work.provider, Registers):
        created = blocked_by(lambda: at_work.registered(ready))
        assert created.never_the_document
        assert created.outcome_unknown
    assert at_work.chart(ready) == []
    at_work.sandbox.world(down={at_work.kind: None})
    at_work.provider.probe()


def test_a_web_filter_in_front_of_the_storage_is_believed_nowhere(at_work: AtWork) -> None:
    if not isinstance(at_work.provider, TakesForms):
        pytest.skip("takes no forms")
    before = at_work.sent(at_work.job())
    record, ready = at_work.record_of(before), at_work.presigned(at_work.job())
    at_work.sandbox.world(storage_down="filter")
    with pytest.raises(OutcomeUnknown, match=r"did not come from the storage \(200 text/html\)"):
        at_work.post(ready)
    if at_work.provider.presign_creates:  # it reads the file back from the storage
        with pytest.raises(AccountBlocked, match="stands between") as blocked:
            at_work.provider.still_there(before.document, record)
        assert blocked.value.never_the_document
    at_work.sandbox.world(storage_down=None)
    at_work.record_of(at_work.registered(at_work.stored(ready)))


def test_an_upload_that_a_web_filter_has_answered_is_never_taken_for_stored(at_work: AtWork) -> None:
    job = at_work.presigned(at_work.named("FILTERED"))
    with pytest.raises((OutcomeUnknown, AccountBlocked)) as raised:
        at_work.registered(at_work.stored(job))
    assert not isinstance(raised.value, AccountBlocked) or raised.value.outcome_unknown
    record = at_work.record_of(at_work.registered(at_work.stored(job)))
    assert [one["record_id"] for one in at_work.chart(job)] == [record.id]


def test_refused_keys_block_the_account_until_they_work_again(at_work: AtWork) -> None:
    secret = at_work.sandbox.settings["accounts"][at_work.name][at_work.habits.secret]
    at_work.sent(at_work.job())
    at_work.sandbox.world(revoke=[secret])

    def blocked_by(act: Any) -> None:
        with pytest.raises(AccountBlocked) as blocked:
            act()
        assert blocked.value.credentials
        assert secret not in str(blocked.value)

    blocked_by(lambda: at_work.sent(at_work.job()))
    blocked_by(at_work.provider.probe)
    at_work.sandbox.world(restore=[secret])
    at_work.provider.probe()
    at_work.record_of(at_work.sent(at_work.job()))


def test_a_record_still_stands_until_it_does_not(at_work: AtWork) -> None:
    job = at_work.sent(at_work.job())
    assert at_work.provider.still_there(job.document, at_work.record_of(job))
    if at_work.reconciles(job):
        assert not at_work.provider.still_there(job.document, Record("1"))


def test_no_slot_no_call(at_work: AtWork) -> None:
    job = at_work.job()
    at_work.slots.free = 0
    with pytest.raises(RetryLater):
        at_work.sent(job)
    assert at_work.slots.calls == 0


def test_errors_name_neither_patient_nor_file(at_work: AtWork) -> None:
    patient = f"500-{fresh()}"
    job = at_work.job(patient_id=patient, file_name=f"secret-name-{fresh()} INVALID.pdf")
    at_work.sandbox.world(throttle={at_work.kind: {"per_minute": 1}})
    messages = []
    for _ in range(4):
        try:
            at_work.sent(job)
        except StepError as error:
            messages.append(str(error))
    assert messages
    assert patient not in "".join(messages)
    assert "secret-name" not in "".join(messages)
