"""What every provider must do, at the sandbox: a second witness of what reached the chart."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from config.accounts import AnyAccount
from config.settings import ACCOUNT_KINDS, Account
from tasks.errors import AccountBlocked, Code, DocumentRefused, OutcomeUnknown, PresignAgain, RetryLater
from tasks.http import Clients
from tasks.job import Job, Record, Stored
from tasks.providers import KINDS, assurance_of, build
from tasks.providers.base import Provider, TakesForms
from tasks.sources import Files, file_address
from tasks.transfer import post
from tests.providers.doubles import NO_CLAIMS, DictMemory, Slots, Trying, job
from tests.worlds import SandboxProcess

_patients = itertools.count(100)
PATIENCE_SECONDS = 8


class AtWork:
    """One account of a kind, and one document's way through it as the pipeline would take it."""

    def __init__(self, sandbox: SandboxProcess, clients: Clients, folder: Path, name: str) -> None:
        self.sandbox = sandbox
        self.name = name
        self.settings: Account = TypeAdapter(AnyAccount).validate_python(sandbox.settings["accounts"][name])
        self.slots = Slots()
        self.memory = DictMemory()
        self.provider: Provider = build(
            name,
            self.settings,
            clients=clients,
            limiter=self.slots.take,
            on_call=self.slots.count,
            memory=self.memory,
        )
        self.attempt = Trying()
        self._clients = clients
        self._files = Files([folder])
        self._folder = folder

    def job(self, content: bytes = b"content", *, patient_id: str = "", file_name: str = "referral.pdf") -> Job:
        """A job for a patient of its own, whose file lies in the folder."""
        path = self._folder / f"{next(_patients)}"
        path.write_bytes(content)
        made = job(
            patient_id=patient_id or f"patient-{next(_patients)}",
            file_name=file_name,
            size_bytes=len(content),
            account=self.name,
        )
        address = file_address(path)
        identity = self._files.locate(address).identity
        return replace(made, document=replace(made.document, source=address, identity=identity))

    def presigned(self, job: Job) -> Job:
        self.provider.check(job.document)
        facts = self.provider.before_sending(job)
        assert isinstance(self.provider, TakesForms)
        form = self.provider.presign(replace(job, facts=facts), self.attempt)
        return replace(job, facts=replace(facts, form=form, key=form.key))

    def post(self, job: Job) -> Stored:
        assert job.facts.form is not None
        assert isinstance(self.provider, TakesForms)
        with self._files.open(job.document.source, job.document.identity) as source:
            return post(
                job.facts.form,
                source,
                self.provider.sent_name(job.document),
                client=self._clients.storage(),
                allowed_hosts=self.settings.upload_hosts,
                insecure=self.settings.insecure,
                guard=self.attempt,
                on_call=self.slots.count,
            )

    def sent(self, job: Job) -> Job:
        job = self.presigned(job)
        return replace(job, facts=replace(job.facts, stored=self.post(job)))

    def record_of(self, job: Job) -> Record:
        """The record, once it is there."""
        found = eventually(lambda: self.provider.look([job], NO_CLAIMS))
        record: Record = found[job.id].record
        return record

    def chart(self, job: Job) -> list[dict[str, Any]]:
        return self.sandbox.charts(patient_id=job.document.patient_id)


def eventually(look: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if seen := look():
            return seen
        time.sleep(0.05)
    raise AssertionError("it did not come true in time")


@pytest.fixture(params=sorted(KINDS))
def at_work(request: pytest.FixtureRequest, world: SandboxProcess, clients: Clients, tmp_path: Path) -> AtWork:
    accounts = world.settings["accounts"]
    name = next(name for name, account in accounts.items() if account["provider"] == request.param)
    return AtWork(world, clients, tmp_path, name)


def test_every_kind_that_settings_know_has_a_provider() -> None:
    assert set(KINDS) == set(ACCOUNT_KINDS)


def test_a_provider_is_what_its_kind_says(at_work: AtWork) -> None:
    assert at_work.provider.kind == at_work.settings.provider
    assert at_work.provider.assurance is assurance_of(at_work.provider.kind)
    assert at_work.provider.limit_group.startswith(at_work.provider.kind)


@pytest.mark.parametrize("size", [1, 7, 300_000])
def test_a_document_reaches_the_chart_unchanged_and_its_record_is_found(at_work: AtWork, size: int) -> None:
    content = bytes(number % 251 for number in range(size))
    job = at_work.sent(at_work.job(content, file_name="Über weisung (1).pdf"))
    record = at_work.record_of(job)
    (charted,) = at_work.chart(job)
    assert charted["record_id"] == record.id
    assert charted["sha256"] == job.facts.stored.sha256 == sha256(content).hexdigest()  # type: ignore[union-attr]
    assert charted["file_name"] == "Über weisung (1).pdf"
    assert job.facts.stored.etag_verified  # type: ignore[union-attr]
    assert job.facts.stored.key == job.facts.key  # type: ignore[union-attr]


def test_before_anything_is_sent_nothing_is_found(at_work: AtWork) -> None:
    job = at_work.presigned(at_work.job(patient_id=f"old-3-{next(_patients)}"))
    assert at_work.provider.look([job], NO_CLAIMS) == {}


def test_what_was_in_the_chart_before_is_not_taken_for_ours(at_work: AtWork) -> None:
    """The patient has a record of the same name and size already."""
    first = at_work.sent(at_work.job())
    earlier = at_work.record_of(first)
    at_work.memory.values.clear()  # some seconds later
    second = at_work.presigned(at_work.job(patient_id=str(first.document.patient_id)))
    assert at_work.provider.look([second], NO_CLAIMS) == {}
    at_work.post(second)
    assert at_work.record_of(second).id != earlier.id
    assert len(at_work.chart(first)) == 2


def test_many_documents_of_a_patient_each_find_their_own_record(at_work: AtWork) -> None:
    patient = f"patient-{next(_patients)}"
    jobs = [
        at_work.sent(at_work.job(b"x" * (number % 3 + 1), patient_id=patient, file_name=f"{number}.pdf"))
        for number in range(12)
    ]
    eventually(lambda: len(at_work.provider.look(jobs, NO_CLAIMS)) == 12)
    found = at_work.provider.look(jobs, NO_CLAIMS)
    names = {charted["record_id"]: charted["file_name"] for charted in at_work.chart(jobs[0])}
    assert {job.id: names[found[job.id].record.id] for job in jobs} == {job.id: job.document.file_name for job in jobs}


def test_a_document_costs_few_calls(at_work: AtWork) -> None:
    job = at_work.sent(at_work.job())
    eventually(lambda: at_work.chart(job))
    assert at_work.provider.look([job], NO_CLAIMS)
    assert at_work.slots.calls <= 5  # list, presign, upload; list, name


def test_what_validation_drops_is_never_found(at_work: AtWork) -> None:
    job = at_work.sent(at_work.job(file_name="INVALID.pdf"))
    witness = at_work.sent(at_work.job())
    at_work.record_of(witness)
    assert at_work.provider.look([job], NO_CLAIMS) == {}


def test_an_upload_whose_answer_is_lost_is_found_by_looking(at_work: AtWork) -> None:
    job = at_work.presigned(at_work.job(file_name="LOST.pdf"))
    with pytest.raises(OutcomeUnknown):
        at_work.post(job)
    at_work.record_of(job)
    assert len(at_work.chart(job)) == 1


def test_an_upload_that_is_cut_stores_nothing_and_the_same_form_serves_again(at_work: AtWork) -> None:
    job = at_work.presigned(at_work.job(b"x" * 3_000_000, file_name="CUT.pdf"))
    # Unknown, if all of it fitted into the sockets' buffers before the cut was felt.
    with pytest.raises((RetryLater, OutcomeUnknown)):
        at_work.post(job)
    at_work.post(job)
    at_work.record_of(job)
    assert len(at_work.chart(job)) == 1


def test_a_busy_storage_is_tried_again(at_work: AtWork) -> None:
    job = at_work.presigned(at_work.job(file_name="BUSY-1.pdf"))
    with pytest.raises(RetryLater):
        at_work.post(job)
    at_work.post(job)
    at_work.record_of(job)


def test_an_expired_form_is_asked_for_again_before_a_byte_is_sent(at_work: AtWork) -> None:
    job = at_work.presigned(at_work.job(file_name="EXPIRED.pdf"))
    calls = at_work.slots.calls
    with pytest.raises(PresignAgain):
        at_work.post(job)
    assert at_work.slots.calls == calls
    at_work.record_of(at_work.sent(job))


def test_an_unknown_patient_is_refused_with_a_hint(at_work: AtWork) -> None:
    with pytest.raises(DocumentRefused) as refused:
        at_work.presigned(at_work.job(patient_id=f"404-{next(_patients)}"))
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert refused.value.hint
    assert "404-" not in str(refused.value)


def test_a_document_that_is_too_large_or_empty_is_refused_without_a_call(at_work: AtWork) -> None:
    made = at_work.job()
    for size in (0, at_work.settings.max_bytes + 1):
        with pytest.raises(DocumentRefused):
            at_work.provider.check(replace(made.document, size_bytes=size))
    assert at_work.slots.calls == 0


def test_throttling_says_how_long_to_wait(at_work: AtWork) -> None:
    with pytest.raises(RetryLater) as later:
        at_work.presigned(at_work.job(patient_id=f"429-{next(_patients)}"))
    assert later.value.throttled
    assert later.value.after_seconds == 1


@pytest.mark.parametrize("how", ["503", "504", "reset"])
def test_a_provider_that_is_down_is_told_from_one_that_refuses(at_work: AtWork, how: str) -> None:
    made = at_work.job()
    at_work.sandbox.world(down={at_work.provider.kind: how})
    for act in (lambda: at_work.presigned(made), at_work.provider.probe):
        with pytest.raises(RetryLater) as later:
            act()
        assert later.value.unreachable
    at_work.sandbox.world(down={at_work.provider.kind: None})
    at_work.provider.probe()


def test_refused_keys_block_the_account_until_they_work_again(at_work: AtWork) -> None:
    key = at_work.sandbox.settings["accounts"][at_work.name]["api_key"]
    made = at_work.job()
    at_work.sandbox.world(revoke=[key])
    for act in (lambda: at_work.presigned(made), at_work.provider.probe):
        with pytest.raises(AccountBlocked) as blocked:
            act()
        assert blocked.value.credentials
        assert key not in str(blocked.value)
    at_work.sandbox.world(restore=[key])
    at_work.provider.probe()
    at_work.record_of(at_work.sent(made))


def test_a_record_still_stands_until_it_does_not(at_work: AtWork) -> None:
    job = at_work.sent(at_work.job())
    assert at_work.provider.still_there(job.document, at_work.record_of(job))
    assert not at_work.provider.still_there(job.document, Record("1"))


@pytest.mark.parametrize(
    "change", [{"list_key": "anything"}, {"ids_as_text": True}, {"name_in_record": True}, {"newest_first": True}]
)
def test_what_the_vendors_pages_leave_open_does_not_matter(at_work: AtWork, change: dict[str, Any]) -> None:
    at_work.sandbox.world(**change)
    patient = f"old-120-{next(_patients)}"
    job = at_work.sent(at_work.job(patient_id=patient))
    assert len(job.facts.snapshot or ()) == 120
    at_work.record_of(job)


def test_an_encrypted_bucket_is_noted_and_nothing_more(at_work: AtWork) -> None:
    at_work.sandbox.world(etag_not_md5=True)
    job = at_work.sent(at_work.job())
    assert not job.facts.stored.etag_verified  # type: ignore[union-attr]
    at_work.record_of(job)
