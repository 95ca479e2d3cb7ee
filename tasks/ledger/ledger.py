"""The Redis record of every job: named, guarded moves, and one due entry for every job with work left.

The ledger is the truth; Celery's messages only wake workers. Each move is one Lua script in `scripts/`. It happens only
from the stage that the caller has read, and only for the holder of the lease, which shows the fencing token that
`start` gave. What decides goes by the ledger's own clock (`scripts/clock.lua`), what people read by Redis's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import redis

from tasks.ledger.clock import LedgerClock
from tasks.ledger.codec import JobCodec
from tasks.ledger.identity import LedgerIdentity
from tasks.ledger.lease import Lease, NotStarted
from tasks.ledger.owners import RecordOwners
from tasks.ledger.redis import CLOSING_LANE, PREFIX, due_key, load_script
from tasks.ledger.seal import Seal, SealBroken
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused, LeaseLost
from tasks.model.job import Facts, Failure, Job, Record
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tasks.model.times import from_ms, to_ms

_SCRIPTS = ("open", "start", "renew", "reserve_name", "move", "bind")

_BEFORE_THE_RECORD = (Stage.RECEIVED, Stage.PRESIGNED, Stage.STORED)
_UNFINISHED = (*_BEFORE_THE_RECORD, Stage.REGISTERED)
_FINAL = (Stage.DELIVERED, Stage.FAILED, Stage.CANCELLED)

_OUTCOME_FIELDS = ("code", "failure", "closed", "failing_since")
"""Of the row, what says how the job has ended."""
_UNKNOWN_OUTCOME_FIELDS = (
    "committed",
    "unknown_since",
    "unknown_step",
    "long_look",
    "sent_before",
    "held",
    "looking_for",
)
"""Of the row, what tells that something may have been sent. A known outcome clears them all."""

_FORGOTTEN_KEPT_SECONDS = 8 * 86_400  # as long as `folders.commit_journal` keeps commits
_USUAL_ROUTE = Route()
_SENT_UNDER_ANOTHER_KEY = (
    "It may have been sent before secret_key was changed, and what a search needs was sealed with the earlier key. "
    "Look into the chart."
)


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of opening a job."""

    # opened; exists (the same id before); same (the idempotency key has opened another job); conflict (the key was used
    # for another document)
    kind: str
    # Of the job that is there now.
    job_id: str


@dataclass(frozen=True, slots=True)
class MaybeSent:
    """What is known about a document that may have been sent, when the ledger has lost it."""

    # What a search needs.
    facts: Facts
    # The step that may have sent it.
    step: Step = Step.POST


class Ledger:
    """`machine` tells this machine's name, so that no job is started whose files lie on another one. None: any job."""

    def __init__(
        self,
        client: redis.Redis,
        seal: Seal,
        *,
        lease_seconds: float,
        jobs_days: float,
        machine: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.redis = client
        self.codec = JobCodec(seal)
        self.identity = LedgerIdentity(client, seal)
        self._clock = LedgerClock(client)
        self.lease_seconds = lease_seconds
        self._lease_ms = int(lease_seconds * 1000)
        self._jobs_days = jobs_days
        self._machine = machine
        self._scripts = {name: load_script(client, name) for name in _SCRIPTS}

    # --- opening and reading -----------------------------------------------------------------------------------

    def open(
        self,
        job_id: str,
        document: Document,
        provider: str,
        *,
        failure: Failure | None = None,
        maybe_sent: MaybeSent | None = None,
        reserve_key: bool = True,
        route: Route = _USUAL_ROUTE,
    ) -> Opened:
        """Open a job on its provider's route, once per id and once per idempotency key.

        `failure`: it was refused at the door, and only its closing is left. `maybe_sent`: the ledger was wiped, and its
        outcome is unknown. Without `reserve_key` its idempotency key stays with the job that has it.

        Raises LedgerRefused; DocumentRefused for a document that may have been sent under another `secret_key`.
        """
        self.identity.confirm()
        row = self.codec.opening(job_id, document, provider, route)
        lane, key = document.account, self.codec.idempotency_key(document) if reserve_key else ""
        if failure:
            # No idempotency key: the corrected request must be able to use it.
            lane, key = CLOSING_LANE, ""
            row |= {"stage": Stage.FAILED, "step": Step.NOTIFY, "code": failure.code}
            row["failure"] = self.codec.seal_failure(job_id, failure)
        if maybe_sent is None and failure is None and not document.door.has_folder:
            maybe_sent = self._remembered(job_id)
        if maybe_sent:
            row |= _maybe_sent(maybe_sent.step, self.codec.seal_facts(job_id, maybe_sent.facts), route)
            # It has its name at once: no other document of that name may be sent before its outcome is known.
            self.redis.set(PREFIX + "name:" + row["name"], job_id)
        fields = [str(part) for pair in row.items() for part in pair]
        kind, opened_id = self._run("open", job_id, lane, key, self.codec.fingerprint(document), *fields)
        return Opened(kind, opened_id)

    def get(self, job_id: str) -> Job | None:
        """The job with this id or alias. Raises SealBroken if it was sealed with another `secret_key`."""
        row, ahead_ms = self._row(job_id)
        if not row:
            job_id = str(self.redis.get(PREFIX + "alias:" + job_id) or "")
            row, ahead_ms = self._row(job_id) if job_id else ({}, 0)
        return self.codec.job(job_id, row, ahead_ms=ahead_ms) if row else None

    def known(self, job_id: str) -> bool:
        return bool(self.redis.exists(PREFIX + "job:" + job_id))

    def bind(self, job_id: str, machine: str) -> bool:
        """Note that the job's files lie on this machine, which alone can work on it. True if that is news."""
        return bool(self._run("bind", job_id, machine))

    def bound_to(self, job_id: str) -> str | None:
        """The machine that alone can work on the job; None if any can."""
        machine = self.redis.hget(PREFIX + "job:" + job_id, "home")
        return str(machine) if machine else None

    def alias(self, alias: str, job_id: str) -> None:
        """Let `alias` (the id of a stream entry, or of a second call) find the job."""
        self.redis.set(PREFIX + "alias:" + alias, job_id, ex=int(self._jobs_days * 86400))

    def adopt_alias(self, alias: str, job_id: str) -> None:
        """Let another call, which asks for the same, show this job's outcome, now and when it changes."""
        self.alias(alias, job_id)
        self.redis.sadd(PREFIX + "aliases:" + job_id, alias)
        self.redis.expire(PREFIX + "aliases:" + job_id, int(self._jobs_days * 86400))

    def unalias(self, alias: str, job_id: str) -> None:
        self.redis.delete(PREFIX + "alias:" + alias)
        self.redis.srem(PREFIX + "aliases:" + job_id, alias)

    def aliases(self, job_id: str) -> list[str]:
        """The ids of other calls whose result is this job's outcome."""
        return sorted(str(alias) for alias in self.redis.smembers(PREFIX + "aliases:" + job_id))

    def redis_run(self) -> str:
        """Which Redis this is. Another one after a restart, a failover or a wipe, so that a commit may be forgotten."""
        return str(self.redis.info("server")["run_id"])

    # --- commits that Redis had forgotten ----------------------------------------------------------------------

    def remember(self, commits: Iterable[tuple[str, Step, str]]) -> list[str]:
        """Keep commits (job id, step, sealed facts) that Redis had forgotten, for when a message opens the job again.

        Returns the ids of those jobs that Redis knows.
        """
        pipe = self.redis.pipeline(transaction=False)
        ids = []
        for job_id, step, sealed_facts in commits:
            kept = json.dumps({"step": step, "facts": sealed_facts})
            pipe.set(PREFIX + "forgotten:" + job_id, kept, ex=_FORGOTTEN_KEPT_SECONDS)
            pipe.exists(PREFIX + "job:" + job_id)
            ids.append(job_id)
        return [job_id for job_id, known in zip(ids, pipe.execute()[1::2], strict=True) if known]

    def commit_remembered(self, job: Job, step: Step, sealed_facts: str, route: Route) -> str:
        """Redis had forgotten this commit of a job: it may have been sent. Returns what `move.lua` does."""
        fields = _maybe_sent(step, sealed_facts, route)
        stage, step = Stage(fields.pop("stage", job.stage)), Step(fields.pop("step", job.step))
        self.redis.set(PREFIX + "name:" + self.codec.name_key(job.document), job.id)
        return self._move_without_lease(
            job, _BEFORE_THE_RECORD, stage=stage, step=step, set=fields, uncommitted=True, due_in=0
        )

    def _remembered(self, job_id: str) -> MaybeSent | None:
        kept = self.redis.get(PREFIX + "forgotten:" + job_id)
        if kept is None:
            return None
        commit = json.loads(kept)
        try:
            return MaybeSent(self.codec.facts(job_id, commit["facts"]), Step(commit["step"]))
        except SealBroken as error:
            # Without those facts a search would find nothing, and the document would be sent again.
            hint = "If it is not there, send it again under another id."
            raise DocumentRefused(Code.OUTCOME_UNKNOWN, _SENT_UNDER_ANOTHER_KEY, hint=hint) from error

    # --- leases ------------------------------------------------------------------------------------------------

    def start(self, job_id: str, step: Step) -> list[Lease] | NotStarted:
        """Start a step, and take the lease of its job. Confirm also starts the patient's other waiting jobs.

        Raises LedgerRefused.
        """
        self.identity.confirm()
        together = "1" if step is Step.CONFIRM else ""
        started = self._run("start", job_id, step, self._lease_ms, together, self._machine() or "")
        if started[0][0] == "refused":
            return NotStarted(started[0][1])
        leases = []
        for started_id, token, flat_row, now, wall in started:
            row = dict(zip(map(str, flat_row[::2]), map(str, flat_row[1::2]), strict=True))
            job = self.codec.job(started_id, row, ahead_ms=now - wall)
            leases.append(Lease(job, str(token), from_ms(now)))
        return leases

    def renew(self, leases: Iterable[tuple[str, str]]) -> list[bool]:
        """Renew the leases of these (job id, token) pairs. False for each that is lost."""
        flat = [part for pair in leases for part in pair]
        return [bool(renewed) for renewed in self._run("renew", self._lease_ms, *flat)] if flat else []

    def reserve_name(self, job: Job) -> str:
        """Reserve the document's name. Returns the id of the job that holds it: this one's if the name was free."""
        return str(self._run("reserve_name", job.id, self.codec.name_key(job.document)))

    # --- moves forward -----------------------------------------------------------------------------------------

    def presigned(self, lease: Lease, facts: Facts, redis_run: str, calls: int) -> bool:
        """There is a form. False if the record that it leads to belongs to another job."""
        return self._move(
            lease,
            (Stage.RECEIVED,),
            stage=Stage.PRESIGNED,
            step=Step.POST,
            set={"facts": self.codec.seal_facts(lease.job.id, facts), "redis_run": redis_run, "failures": 0},
            unset=["committed", "unknown_since", "unknown_step", "failing_since"],
            incr={"calls": calls, "presigns": 1},
            due_in=self._lease_ms,
            in_flight=True,
            healthy=True,
            **_owned_alone(facts.record),
        )

    def committed(self, lease: Lease, facts: Facts | None = None) -> int:
        """The commit point: from here on the last block may leave. Returns the commit's number. Raises LeaseLost."""
        sealed = {"facts": self.codec.seal_facts(lease.job.id, facts)} if facts else {}
        # A new commit, so what an earlier search has found out ("looked") no longer counts.
        change = {"set": {"committed": "1", **sealed}, "unset": ["looked"], "keep": True, "commits": True}
        answer = self._try_move(lease, _BEFORE_THE_RECORD, **change)
        return int(answer.removeprefix("ok "))

    def uncommitted(self, lease: Lease) -> None:
        """The last block certainly did not leave, or the answer was that nothing is stored."""
        self._move(lease, _BEFORE_THE_RECORD, unset=["committed"], keep=True)

    def stored(self, lease: Lease, facts: Facts, step: Step, due_in: float, calls: int) -> None:
        """The bytes are in the storage. `step` is register, which follows at once, or confirm, in `due_in` seconds."""
        self._move(
            lease,
            (Stage.RECEIVED, Stage.PRESIGNED),
            stage=Stage.STORED,
            step=step,
            set={
                "facts": self.codec.seal_facts(lease.job.id, facts),
                "sha256": facts.stored.sha256 if facts.stored else "",
                "failures": 0,
            },
            unset=[*_UNKNOWN_OUTCOME_FIELDS, "failing_since", "looks", "blocked_since"],
            incr={"calls": calls},
            due_in=self._lease_ms if step is Step.REGISTER else _ms(due_in),
            in_flight=step is Step.REGISTER,
            healthy=True,
        )

    def registered(self, lease: Lease, facts: Facts, due_in: float, calls: int) -> bool:
        """The provider has a record, which it has not processed yet. False if it already proves another job."""
        assert facts.record is not None  # noqa: S101, the caller has it
        return self._move(
            lease,
            _BEFORE_THE_RECORD,
            stage=Stage.REGISTERED,
            step=Step.CONFIRM,
            set={"facts": self.codec.seal_facts(lease.job.id, facts), "failures": 0},
            unset=[*_UNKNOWN_OUTCOME_FIELDS, "failing_since", "looks", "blocked_since"],
            incr={"calls": calls},
            due_in=_ms(due_in),
            healthy=True,
            **_owned_alone(facts.record),
        )

    def delivered(
        self,
        lease: Lease,
        record: Record,
        calls: int,
        sha256: str | None,
        *,
        facts: Facts | None = None,
        passed: Stage | None = None,
    ) -> bool:
        """The record is known. False if it already proves another job.

        `facts` are those of the job unless more became known. `passed` is a stage that was reached together with it.
        """
        # The snapshot has served its purpose, and may be of thousands of ids.
        facts = replace(facts or lease.job.facts, record=record, snapshot=None)
        fields: dict[str, Any] = {"facts": self.codec.seal_facts(lease.job.id, facts), "failures": 0}
        # One record may be relabelled any number of times, so no relabeling owns it.
        change: dict[str, Any] = {} if lease.job.document.relabeling else _owned_alone(record)
        if passed:
            change["stamp"] = passed
        if sha256:
            fields["sha256"] = sha256
            change["delivery"] = [self.codec.sent_key(lease.job.document), sha256]
        return self._move(
            lease,
            # A failed job too: a slow search may still find its record.
            (*_UNFINISHED, Stage.FAILED),
            stage=Stage.DELIVERED,
            set=fields,
            unset=["code", "failure", *_UNKNOWN_OUTCOME_FIELDS, "failing_since", "closed"],
            incr={"calls": calls},
            release=True,
            healthy=True,
            **change,
            **self._closing(),
        )

    def duplicate(self, lease: Lease, earlier: Job, calls: int) -> None:
        """The same bytes with the same name are in the chart already: delivered, by the earlier job."""
        facts = replace(lease.job.facts, record=earlier.facts.record)
        self._move(
            lease,
            (Stage.RECEIVED,),
            stage=Stage.DELIVERED,
            set={
                "facts": self.codec.seal_facts(lease.job.id, facts),
                "duplicate_of": earlier.id,
                "sha256": earlier.sha256 or "",
                "code": "duplicate",
            },
            incr={"calls": calls},
            release=True,
            **self._closing(),
        )

    def failed(self, lease: Lease, failure: Failure, calls: int, *, keep_name: bool = False) -> None:
        """The job has failed. `keep_name`: it may still arrive, so no other job may use its name and patient."""
        self._move(
            lease,
            _UNFINISHED,
            stage=Stage.FAILED,
            set={"failure": self.codec.seal_failure(lease.job.id, failure), "code": failure.code},
            unset=["closed", "unknown_since", "held"],
            unknown=keep_name,
            incr={"calls": calls},
            release=not keep_name,
            **self._closing(),
        )

    def hold_for_person(self, lease: Lease, failure: Failure, calls: int, sha256: str | None = None) -> None:
        """Only a person can find out whether it arrived. It has failed, and keeps its name until a person decides."""
        outcome = {"failure": self.codec.seal_failure(lease.job.id, failure), "code": failure.code, "held": "1"}
        self._move(
            lease,
            _UNFINISHED,
            stage=Stage.FAILED,
            # By the digest the same document is recognised when it comes again.
            set=outcome | ({"sha256": sha256} if sha256 else {}),
            unset=["closed"],
            unknown=True,
            incr={"calls": calls},
            **self._closing(),
        )

    # --- waiting and turning back ------------------------------------------------------------------------------

    def deferred(
        self,
        lease: Lease,
        due_in: float,
        calls: int,
        *,
        failed: bool = False,
        found_nothing: bool = False,
        search_for: datetime | None = None,
    ) -> None:
        """The same step again in `due_in` seconds. `failed` adds to the back-off. `found_nothing`: by a search.

        `search_for`: from now on the search is for another commit, of which job.json was told then.
        """
        incr = {"calls": calls, "failures": int(failed), "looks": int(found_nothing)}
        change: dict[str, Any] = {}
        if failed and lease.job.failing_since is None:
            change["set"] = {"failing_since": to_ms(lease.now)}
        if not failed:
            change["unset"] = ["failing_since", "blocked_since"] if found_nothing else ["failing_since"]
            change["healthy"] = found_nothing
        if search_for:
            change["set"] = {"unknown_since": to_ms(lease.now), "looking_for": search_for.isoformat()}
        self._move(lease, (*_UNFINISHED, Stage.FAILED), incr=incr, due_in=_ms(due_in), **change)

    def blocked(self, lease: Lease, due_in: float, calls: int) -> None:
        """It has parked its account. It waits untouched, and is tried again when the account works."""
        blocked = {} if lease.job.blocked_since else {"blocked_since": to_ms(lease.now)}
        self._move(
            lease,
            (*_UNFINISHED, Stage.FAILED),
            set=blocked,
            incr={"calls": calls},
            due_in=_ms(due_in),
            step=lease.job.step,
        )

    def presign_again(self, lease: Lease, due_in: float, calls: int) -> None:
        """The form can no longer be used, and nothing was created with it."""
        self._move(
            lease,
            _BEFORE_THE_RECORD,
            stage=Stage.RECEIVED,
            step=Step.PRESIGN,
            unset=["committed", "unknown_since", "unknown_step"],
            incr={"calls": calls},
            due_in=_ms(due_in),
        )

    def outcome_unknown(self, lease: Lease, due_in: float, calls: int) -> None:
        """We did not see the outcome: search for the record before sending again."""
        self._move(
            lease,
            _BEFORE_THE_RECORD,
            step=Step.CONFIRM,
            set={"committed": "1", "unknown_step": lease.job.step},
            unset=["looks"],
            unknown=True,
            incr={"calls": calls},
            due_in=_ms(due_in),
        )

    def repeated(self, lease: Lease, due_in: float, calls: int) -> None:
        """We did not see the outcome, and the provider recognises the document by its ids: the same step again."""
        failing = {"failing_since": to_ms(lease.now)} if lease.job.failing_since is None else {}
        self._move(
            lease,
            _BEFORE_THE_RECORD,
            set={"sent_before": "1", **failing},
            unset=["committed"],
            incr={"calls": calls, "failures": 1},
            due_in=_ms(due_in),
        )

    def send_again(
        self, lease: Lease, calls: int, route: Route = _USUAL_ROUTE, *, reconciled_commit_at: datetime | None = None
    ) -> None:
        """The search has found nothing until its deadline: the step whose outcome is unknown again.

        `reconciled_commit_at` is when job.json was told of the commit that was searched for.
        """
        step = lease.job.unknown_step or Step.POST
        # What was searched for is noted, so that the step does not search for the same commit again. A later commit in
        # job.json, or another Redis by then, means that something else may have been sent since.
        fields = {"looked": reconciled_commit_at.isoformat() if reconciled_commit_at else ""}
        if lease.job.redis_run:
            fields["redis_run"] = self.redis_run()
        if route.on_unknown_outcome is OnUnknownOutcome.RESEND:
            fields["sent_before"] = "1"
        self._move(
            lease,
            _BEFORE_THE_RECORD,
            stage=route.stage_before(step),
            step=step,
            set=fields,
            unset=["committed", "unknown_since", "unknown_step", "looks", "long_look"],
            incr={"calls": calls},
            due_in=0,
        )

    def record_found(self, lease: Lease, facts: Facts, calls: int) -> bool:
        """The provider has made a record, still empty: go on with it. False if it belongs to another job."""
        assert facts.record is not None  # noqa: S101, the caller has it
        return self._move(
            lease,
            _BEFORE_THE_RECORD,
            stage=Stage.RECEIVED,
            step=Step.PRESIGN,
            set={"facts": self.codec.seal_facts(lease.job.id, facts)},
            unset=[*_UNKNOWN_OUTCOME_FIELDS, "looks"],
            incr={"calls": calls},
            due_in=0,
            **_owned_alone(facts.record),
        )

    # --- closing -----------------------------------------------------------------------------------------------

    def closed(
        self,
        lease: Lease,
        done: Iterable[str],
        event: Mapping[str, str] | None = None,
        facts: Facts | None = None,
    ) -> None:
        """Record which closing steps are done, and publish the event with the step that it is. The lease stays.

        `facts` are those of the job if the closing has changed them.
        """
        change: dict[str, Any] = {"event": [part for pair in event.items() for part in pair]} if event else {}
        fields = {"facts": self.codec.seal_facts(lease.job.id, facts)} if facts else {}
        self._move(lease, _FINAL, set={"closed": ",".join(sorted(done)), **fields}, keep=True, **change)

    def closing_deferred(self, lease: Lease, due_in: float) -> None:
        """What is left of the closing again in `due_in` seconds."""
        self._move(lease, _FINAL, incr={"failures": 1}, due_in=_ms(due_in))

    def finished(self, lease: Lease) -> None:
        """No work is left. The row expires after the retention time."""
        self._move(lease, _FINAL, step=Step.NONE, due_in=-1, expire_days=self._jobs_days)

    def leave_to(self, machine: str, job_id: str) -> None:
        """Tell the machine that has the document's folders that it must close this job's files."""
        self.redis.sadd(PREFIX + "home:" + machine, job_id)

    def left_to(self, machine: str) -> list[str]:
        """The jobs whose files this machine must close. Those that are closed by now are removed from its list."""
        left = [str(job_id) for job_id in self.redis.smembers(PREFIX + "home:" + machine)]
        done = [job_id for job_id in left if self.redis.hget(f"{PREFIX}job:{job_id}", "step") != Step.NOTIFY]
        if done:
            self.redis.srem(PREFIX + "home:" + machine, *done)
        return [job_id for job_id in left if job_id not in done]

    def unclosed(self, machine: str, seconds: float) -> list[str]:
        """Jobs whose closing has been due for this long, and which only this machine can close."""
        due_before = self._clock.read().now_ms - _ms(seconds)
        return [str(job_id) for job_id in self.redis.zrangebyscore(due_key(CLOSING_LANE, machine), 0, due_before)]

    def search_slowly(self, lease: Lease, due_in: float) -> None:
        """Closed for now, but its record may still appear: back to its account's lane for a slow search."""
        self._move(lease, (Stage.FAILED,), step=Step.CONFIRM, lane=lease.job.account, due_in=_ms(due_in))

    def slow_search_ended(self, lease: Lease, failure: Failure, calls: int) -> None:
        """The slow search has found nothing in its day. The failure is final, and the name is free again."""
        self._move(
            lease,
            (Stage.FAILED,),
            set={"failure": self.codec.seal_failure(lease.job.id, failure)},
            unset=["closed", "unknown_since"],
            incr={"calls": calls},
            release=True,
            **self._closing(),
        )

    # --- a person's moves --------------------------------------------------------------------------------------

    def cancel(self, job: Job) -> str:
        """Stop a job that is not committed. Returns 'ok', 'committed', 'moved' (it has ended) or 'gone'."""
        hint = "Move the file back to the inbox to send it after all."
        failure = Failure(Code.CANCELLED, "The job was cancelled.", hint)
        # A document that is stored and must still be registered is not in the chart yet.
        stages = (Stage.RECEIVED, Stage.PRESIGNED, *((Stage.STORED,) if job.step is Step.REGISTER else ()))
        return self._move_without_lease(
            job,
            stages,
            stage=Stage.CANCELLED,
            set={"failure": self.codec.seal_failure(job.id, failure), "code": failure.code},
            uncommitted=True,
            release=True,
            **self._closing(),
        )

    def retry(self, job: Job, document: Document | None = None, *, first: Step = Step.PRESIGN) -> str:
        """From the start again, with a document whose file may have moved. Returns 'ok', 'moved' or 'gone'."""
        document = document or job.document
        return self._move_without_lease(
            job,
            (Stage.FAILED, Stage.CANCELLED),
            stage=Stage.RECEIVED,
            step=first,
            lane=job.account,
            set={
                "document": self.codec.seal_document(job.id, document),
                **_home(document),
                # A record that the provider has made for it stays: a second one would be a second document.
                "facts": self.codec.seal_facts(job.id, Facts(record=job.facts.record)),
                "failures": 0,
            },
            unset=[*_OUTCOME_FIELDS, *_UNKNOWN_OUTCOME_FIELDS, "presigns", "looks", *_no_home(document)],
            due_in=0,
        )

    def retry_reconciling(self, job: Job, document: Document | None = None, *, first: Step = Step.PRESIGN) -> str:
        """Continue a job of unknown outcome: search for a day, then send it again from the start."""
        document = document or job.document
        return self._move_without_lease(
            job,
            (Stage.FAILED,),
            stage=Stage.PRESIGNED if first is Step.PRESIGN else Stage.RECEIVED,  # only such a route has that stage
            step=Step.CONFIRM,
            lane=job.account,
            set={
                "document": self.codec.seal_document(job.id, document),
                **_home(document),
                "committed": "1",
                "failures": 0,
                "long_look": "1",
                "unknown_step": first,
            },
            unset=[*_OUTCOME_FIELDS, "looks", "held", *_no_home(document)],
            unknown=True,
            due_in=0,
        )

    def resolve_delivered(self, job: Job, record: Record | None) -> str:
        """A person has found the document in the chart, and perhaps its record. It counts as delivered from now on."""
        facts = replace(job.facts, record=record or job.facts.record)
        delivery = {"delivery": [self.codec.sent_key(job.document), job.sha256]} if job.sha256 else {}
        return self._move_without_lease(
            job,
            (Stage.FAILED,),
            stage=Stage.DELIVERED,
            set={"facts": self.codec.seal_facts(job.id, facts), "human": "1"},
            unset=[*_OUTCOME_FIELDS, *_UNKNOWN_OUTCOME_FIELDS],
            release=True,
            **delivery,
            **_owned_alone(record),
            **self._closing(),
        )

    # --- earlier deliveries, owners and names --------------------------------------------------------------------

    def record_owners(self, job: Job) -> Mapping[str, str]:
        """The records that prove a job already, in the job's scope (patient or account): record id -> job id."""
        return RecordOwners(self.redis, PREFIX + "claims:" + job.scope)

    def earlier_deliveries(self, document: Document) -> dict[str, str]:
        """Deliveries of this name, patient and size within 30 days: SHA-256 -> job id."""
        sent = self.redis.hgetall(PREFIX + "sent:" + self.codec.sent_key(document))
        return {str(sha256): str(job) for sha256, job in sent.items()}

    def name_holder(self, document: Document) -> str | None:
        """The id of the job that holds this document's name, if any."""
        holder = self.redis.get(PREFIX + "name:" + self.codec.name_key(document))
        return str(holder) if holder else None

    # --- inside ------------------------------------------------------------------------------------------------

    def _closing(self) -> dict[str, Any]:
        """What every move to a final stage has: closing work, whose message is sent at once."""
        return {"step": Step.NOTIFY, "lane": CLOSING_LANE, "due_in": self._lease_ms, "in_flight": True}

    def _row(self, job_id: str) -> tuple[Mapping[str, str], int]:
        """The row, empty without a job, and how far the ledger's clock is ahead of Redis's, in ms."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(PREFIX + "job:" + job_id)
            pipe.hget(PREFIX + "clock", "ahead")
            row, ahead = pipe.execute()
        return {str(k): str(v) for k, v in row.items()}, int(ahead or 0)

    def _move(self, lease: Lease, stages: Sequence[Stage], **change: Any) -> bool:
        """False if the move needs a record that proves another job. Raises LeaseLost if it was refused otherwise."""
        return self._try_move(lease, stages, **change) == "ok"

    def _try_move(self, lease: Lease, stages: Sequence[Stage], **change: Any) -> str:
        """What `move.lua` answers where it did not refuse. Raises LeaseLost."""
        answer = str(self._run("move", lease.job.id, lease.token, ",".join(stages), json.dumps(change)))
        if not answer.startswith("ok") and answer != "owned_by_another":
            raise LeaseLost(f"The move was refused ({answer}): another worker or a human was faster.")
        return answer

    def _move_without_lease(self, job: Job, stages: Sequence[Stage], **change: Any) -> str:
        """A move without a lease; it takes the job from the worker that holds it. Returns what `move.lua` does."""
        return str(self._run("move", job.id, "", ",".join(stages), json.dumps(change)))

    def _run(self, script: str, *args: object) -> Any:
        return self._scripts[script](args=[PREFIX, *(str(arg) for arg in args)])


def _maybe_sent(step: Step, sealed_facts: str, route: Route) -> dict[str, str]:
    """The fields of the row of a document that this step may have sent."""
    if route.on_unknown_outcome is OnUnknownOutcome.RESEND:
        return {"facts": sealed_facts, "sent_before": "1"}
    # At the step that may have sent it: that step finds the commit, and the outcome is unknown.
    return {"facts": sealed_facts, "stage": route.stage_before(step), "step": step, "committed": "1"}


def _home(document: Document) -> dict[str, str]:
    """The field of the row for a document whose files lie on one machine. It may be another one than before."""
    return {"home": document.bound_to} if document.bound_to else {}


def _no_home(document: Document) -> list[str]:
    return [] if document.bound_to else ["home"]


def _owned_alone(record: Record | None) -> dict[str, str]:
    """The part of a change that makes this job the record's owner. A shared record may prove many jobs."""
    return {"own_record": record.id} if record and not record.shared else {}


def _ms(seconds: float) -> int:
    return max(0, int(seconds * 1000))
