"""One account of any kind at work, as the pipeline would have it: what the provider contract is tried with."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from config.accounts import Account, AnyAccount
from tasks.http.clients import Clients
from tasks.http.provider_clock import ProviderClock
from tasks.model.job import Job, Record, Stored
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tasks.providers.base import Found, Provider, Registers, Stores, TakesForms
from tasks.providers.table import build
from tasks.sources.base import OpenSource
from tasks.sources.files import Files
from tasks.transfer.upload import post
from tests.harness.sandbox import SandboxProcess
from tests.tasks.providers.doubles import NO_OWNERS, CountingGate, DictCache, Slots, connected, job
from tests.tasks.sources.addresses import file_address

PATIENCE_SECONDS = 60  # with a sandbox that hangs; no test passes or fails by how slow the machine is
_numbers = itertools.count(100)


@dataclass(frozen=True)
class Habits:
    """How a provider and its sandbox behave, as far as the contract must know.

    `calls` is the most that one small document may cost. `lost` is the word in a file's name by which the answer to
    the creating call is lost. `secret` names the setting by which the sandbox revokes the account. `patients`: it
    keeps charts of patients. `validates`: it drops or refuses what is INVALID.
    """

    calls: int
    lost: str = "LOST"
    secret: str = "api_key"
    patients: bool = True
    refuses_at_once: bool = False


HABITS = {
    "pracsuite": Habits(calls=5),  # list, presign, upload; list, name
    "cliniko": Habits(calls=5, lost="LOSTCOMMIT"),  # presign, upload, register; list
    "ovok": Habits(calls=6, secret="password", patients=False),  # login, create, upload; read back: two
    "redox": Habits(calls=2, secret="client_id", refuses_at_once=True),  # token, message
    "nhn": Habits(calls=2, secret="client_id", refuses_at_once=True),  # token, bundle
    # where tokens are, token; statement, patient; create, read back
    "fhir": Habits(calls=6, secret="client_id", refuses_at_once=True),
}


def fresh() -> int:
    """A number that is used once in this process."""
    return next(_numbers)


def eventually(condition: Callable[[], Any]) -> Any:
    until = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < until:
        if result := condition():
            return result
        time.sleep(0.05)
    raise AssertionError("it did not become true")


class AtWork:
    """An account at the sandbox. `sent` takes a document all the way; the single steps may be taken on their own."""

    def __init__(self, sandbox: SandboxProcess, clients: Clients, folder: Path, name: str, **settings: Any) -> None:
        self.sandbox = sandbox
        self.name = name
        said = {**sandbox.settings["accounts"][name], **settings}
        self.settings: Account = TypeAdapter(AnyAccount).validate_python(said)
        self.kind = self.settings.provider
        self.habits = HABITS[self.kind]
        self.slots = Slots()
        self.cache = DictCache()
        self.gate = CountingGate()
        self._clients = clients
        self._files = Files([folder])
        self._folder = folder
        self.start_process()

    def start_process(self, clock: ProviderClock | None = None) -> None:
        """The account as another process has it: what workers share is there, what one has learned is not."""
        connection = connected(self._clients, self.slots, self.cache, insecure=self.settings.insecure, clock=clock)
        self.provider: Provider = build(self.name, self.settings, connection)

    # --- documents ---------------------------------------------------------------------------------------------

    def job(self, content: bytes = b"content", *, patient_id: str = "", file_name: str = "", **document: Any) -> Job:
        """A job whose file lies in the folder; for a patient and under a name of its own, unless they are given."""
        path = self._folder / f"{fresh()}"
        path.write_bytes(content)
        made = job(
            patient_id=(patient_id or f"patient-{fresh()}") if self.habits.patients else None,
            file_name=file_name or f"referral-{fresh()}.pdf",
            size_bytes=len(content),
            account=self.name,
        )
        address = file_address(path)
        identity = self._files.locate(address).identity
        whole = replace(made.document, source=address, identity=identity, **document)
        return replace(made, provider=self.kind, document=whole, step=self.provider.route(whole).first)

    def named(self, word: str, content: bytes = b"content") -> Job:
        """A job whose file's name asks the sandbox for a fault."""
        return self.job(content, file_name=f"{word} {fresh()}.pdf")

    def route(self, job: Job) -> Route:
        return self.provider.route(job.document)

    def chart(self, job: Job) -> list[dict[str, Any]]:
        """What the chart holds of this document, by its patient or else its name."""
        if self.habits.patients:
            return self.sandbox.charts(provider=self.kind, patient_id=job.document.patient_id)
        return self.sandbox.charts(provider=self.kind, file_name=job.document.file_name)

    def charted_name(self, job: Job) -> str:
        """The document's name as the chart shows it."""
        if isinstance(self.provider, TakesForms):
            return self.provider.sent_name(job.document)
        return job.document.file_name

    # --- steps -------------------------------------------------------------------------------------------------

    def begun(self, job: Job) -> Job:
        self.provider.check(job.document)
        return replace(job, facts=self.provider.before_sending(job))

    def presigned(self, job: Job) -> Job:
        """With a form, where it takes one; else begun."""
        job = self.begun(job)
        if not isinstance(self.provider, TakesForms):
            return job
        form = self.provider.presign(job, self.new_gate(job))
        facts = replace(job.facts, form=form, key=form.key, record=form.record)
        return replace(job, facts=facts, stage=Stage.PRESIGNED, step=Step.POST)

    def stored(self, job: Job) -> Job:
        """With its bytes where they belong; unchanged if they go with the registering."""
        if Stage.STORED not in self.route(job).stages:
            return job
        facts = replace(job.facts, stored=self.post(job), form=None)
        return replace(job, facts=facts, stage=Stage.STORED, step=Step.REGISTER)

    def post(self, job: Job) -> Stored:
        if isinstance(self.provider, Stores):
            return self.provider.store(job, self.new_gate(job))
        assert isinstance(self.provider, TakesForms)
        assert job.facts.form is not None
        with self._open(job) as source:
            return post(
                job.facts.form,
                source,
                self.provider.sent_name(job.document),
                client=self._clients.fresh(),
                allowed_hosts=self.settings.upload_hosts,
                insecure=self.settings.insecure,
                gate=self.gate,
                on_call=self.slots.count,
            )

    def registered(self, job: Job) -> Job:
        """Registered with the provider, where that is a step of its own."""
        if not isinstance(self.provider, Registers):
            return job
        registered = self.provider.register(job, self.new_gate(job))
        stage = Stage.DELIVERED if registered.processed else Stage.REGISTERED
        stored = registered.stored or job.facts.stored
        facts = replace(job.facts, record=registered.record, stored=stored)
        return replace(job, facts=facts, stage=stage, step=Step.CONFIRM)

    def sent(self, job: Job) -> Job:
        """With all steps taken but the confirmation."""
        return self.registered(self.stored(self.presigned(job)))

    def created(self, job: Job) -> Job:
        """The creating call of a job that is ready for it; it may be repeated."""
        return self.registered(job) if isinstance(self.provider, Registers) else self.stored(job)

    def ready(self, job: Job) -> Job:
        """All that comes before the call that creates the document in the chart."""
        job = self.presigned(job)
        return self.stored(job) if isinstance(self.provider, Registers) else job

    # --- finding -----------------------------------------------------------------------------------------------

    def found(self, job: Job) -> Found | None:
        return self.provider.find([job], NO_OWNERS).get(job.id) if self.reconciles(job) else None

    def reconciles(self, job: Job) -> bool:
        return self.route(job).on_unknown_outcome is OnUnknownOutcome.RECONCILE

    def record_of(self, job: Job) -> Record:
        """The record that proves it, once it is there."""
        if job.stage is Stage.DELIVERED:
            assert job.facts.record is not None
            return job.facts.record

        def proven() -> Record | None:
            found = self.found(job)
            return found.record if found and found.stage is Stage.DELIVERED and not found.fault else None

        record: Record = eventually(proven)
        return record

    def new_gate(self, job: Job) -> CountingGate:
        self.gate = CountingGate(lambda: self._open(job), self.gate)
        return self.gate

    def _open(self, job: Job) -> OpenSource:
        return self._files.open(job.document.source, job.document.identity)
