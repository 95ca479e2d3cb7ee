"""The Redis record of every job: named, guarded moves, and one due entry for every job with work left.

The ledger is the truth and Celery's messages are wake-ups. Each move is one Lua script in `scripts/`: it happens only
from the stage that was read and only for the holder of the lease, who shows the fencing token that `start` gave.
All times are Redis's own, so that hosts' clocks do not matter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import redis

from tasks.ledger.codec import JobCodec
from tasks.ledger.lease import Lease, NotStarted
from tasks.ledger.owners import RecordOwners
from tasks.ledger.redis import CLOSING_LANE, PREFIX, load_script
from tasks.ledger.seal import Seal
from tasks.model.document import Document
from tasks.model.errors import Code, LeaseLost
from tasks.model.job import Facts, Failure, Job, Record
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tasks.model.times import from_ms

_UNFINISHED = (Stage.RECEIVED, Stage.PRESIGNED, Stage.STORED, Stage.REGISTERED)
_BEFORE_THE_RECORD = (Stage.RECEIVED, Stage.PRESIGNED, Stage.STORED)
_USUAL = Route()


@dataclass(frozen=True, slots=True)
class Opened:
    """`kind`: opened, exists (the same id before), same (another job under this idempotency key), conflict."""

    kind: str
    job_id: str


@dataclass(frozen=True, slots=True)
class MaybeSent:
    """What is known without the ledger of a document that may have been sent: by which step, what a look needs."""

    facts: Facts
    step: Step = Step.POST


class Ledger:
    def __init__(self, client: redis.Redis, seal: Seal, *, lease_seconds: float, jobs_days: float) -> None:
        self.redis = client
        self.codec = JobCodec(seal)
        self.lease_seconds = lease_seconds
        self._lease = int(lease_seconds * 1000)
        self._jobs_days = jobs_days
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
        route: Route = _USUAL,
    ) -> Opened:
        """Open a job, once per id and once per idempotency key, on the route that its provider has for it.

        With `failure` the job was refused at the door and only its closing is left. With `maybe_sent` (after a
        wipe) its outcome is unknown. Without `reserve_key` its idempotency key stays with whoever has it.
        """
        row = self.codec.opening(job_id, document, provider, route)
        lane, key = document.account, self.codec.idempotency_key(document) if reserve_key else ""
        if failure:
            lane, key = CLOSING_LANE, ""
            row |= {"stage": Stage.FAILED, "step": Step.NOTIFY, "code": failure.code}
            row["failure"] = self.codec.seal_failure(job_id, failure)
        if maybe_sent:
            row |= _sent_already(maybe_sent, route) | {"facts": self.codec.seal_facts(job_id, maybe_sent.facts)}
        fields = [str(part) for pair in row.items() for part in pair]
        if maybe_sent:
            # It has flown already: no other document of its name may take off before its outcome is known.
            self.redis.set(PREFIX + "name:" + row["name"], job_id)
        kind, found = self._run("open", job_id, lane, key, self.codec.fingerprint(document), *fields)
        return Opened(kind, found)

    def get(self, job_id: str) -> Job | None:
        """The job under this id or an alias of it."""
        row = self._row(job_id)
        if not row:
            job_id = str(self.redis.get(PREFIX + "alias:" + job_id) or "")
            row = self._row(job_id) if job_id else {}
        return self.codec.job(job_id, row) if row else None

    def known(self, job_id: str) -> bool:
        return bool(self.redis.exists(PREFIX + "job:" + job_id))

    def alias(self, alias: str, job_id: str) -> None:
        """Let `alias` (a stream entry, a second call's id) find the job."""
        self.redis.set(PREFIX + "alias:" + alias, job_id, ex=int(self._jobs_days * 86400))

    def adopt_alias(self, alias: str, job_id: str) -> None:
        """Let a call that asks for the same show this job's outcome, now and when it changes."""
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
        """Which Redis this is: another run after a restart, a failover or a wipe."""
        return str(self.redis.info("server")["run_id"])

    # --- holding -----------------------------------------------------------------------------------------------

    def start(self, job_id: str, step: Step) -> list[Lease] | NotStarted:
        """Start a step. For confirm, all of the patient's waiting jobs that nobody holds are started with it."""
        started = self._run("start", job_id, step, self._lease, "1" if step is Step.CONFIRM else "")
        if started[0][0] == "refused":
            return NotStarted(started[0][1])
        return [
            Lease(self.codec.job(found, dict(_pairs(row))), str(token), from_ms(now))
            for found, token, row, now in started
        ]

    def renew(self, leases: Iterable[tuple[str, str]]) -> list[bool]:
        """Renew the leases of (job id, token) pairs; False where another holds the job by now."""
        flat = [part for pair in leases for part in pair]
        return [bool(kept) for kept in self._run("renew", self._lease, *flat)] if flat else []

    def reserve_name(self, job: Job) -> str:
        """The id of the job that holds this document's name; ours if it was free."""
        return str(self._run("reserve", job.id, self.codec.name_key(job.document)))

    # --- moves forward -----------------------------------------------------------------------------------------

    def presigned(self, lease: Lease, facts: Facts, redis_run: str, calls: int) -> bool:
        """There is a form. False when the record that it leads to belongs to another job."""
        why = self._try_move(
            lease,
            (Stage.RECEIVED,),
            stage=Stage.PRESIGNED,
            step=Step.POST,
            set={"facts": self.codec.seal_facts(lease.job.id, facts), "redis_run": redis_run, "failures": 0},
            unset=["committed", "unknown_since", "unknown_step", "failing_since"],
            incr={"calls": calls, "presigns": 1},
            due_in=self._lease,
            in_flight=True,
            healthy=True,
            **_claim(facts.record),
        )
        if why == "claimed":
            return False
        _unless_ok(why)
        return True

    def committed(self, lease: Lease, facts: Facts | None = None) -> None:
        """The commit point: from here on the last block may leave. Raises LeaseLost."""
        known = {"facts": self.codec.seal_facts(lease.job.id, facts)} if facts else {}
        self._move(lease, _BEFORE_THE_RECORD, set={"committed": "1", **known}, unset=["looked"], keep=True)

    def uncommitted(self, lease: Lease) -> None:
        """The last block certainly did not leave, or was answered with 'not stored'."""
        self._move(lease, _BEFORE_THE_RECORD, unset=["committed"], keep=True)

    def stored(self, lease: Lease, facts: Facts, step: Step, due_in: float, calls: int) -> None:
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
            unset=[*_OPEN_QUESTIONS, "failing_since", "looks", "blocked_since"],
            incr={"calls": calls},
            due_in=self._lease if step is Step.REGISTER else _ms(due_in),
            in_flight=step is Step.REGISTER,
            healthy=True,
        )

    def registered(self, lease: Lease, facts: Facts, due_in: float, calls: int) -> bool:
        """The provider has a record, which it has not processed yet. False when it already proves another job."""
        assert facts.record is not None  # noqa: S101, the caller has it
        why = self._try_move(
            lease,
            _BEFORE_THE_RECORD,
            stage=Stage.REGISTERED,
            step=Step.CONFIRM,
            set={"facts": self.codec.seal_facts(lease.job.id, facts), "failures": 0},
            unset=[*_OPEN_QUESTIONS, "failing_since", "looks", "blocked_since"],
            incr={"calls": calls},
            due_in=_ms(due_in),
            healthy=True,
            **_claim(facts.record),
        )
        if why == "claimed":
            return False
        _unless_ok(why)
        return True

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
        """The record is known. False when it already proves another job.

        `facts` are those of the job unless more became known; `passed` is a stage that was reached together with it.
        """
        facts = _with_record(facts or lease.job.facts, record)
        row_set: dict[str, Any] = {"facts": self.codec.seal_facts(lease.job.id, facts), "failures": 0}
        change: dict[str, Any] = {"healthy": True, **self._closing()}
        if not lease.job.document.relabeling:  # the same record may be relabelled any number of times
            change |= _claim(record)
        if passed:
            change["stamp"] = passed
        if sha256:
            row_set["sha256"] = sha256
            change["sent"] = [self.codec.sent_key(lease.job.document), sha256]
        why = self._try_move(
            lease,
            (*_UNFINISHED, Stage.FAILED),
            stage=Stage.DELIVERED,
            set=row_set,
            unset=["code", "failure", *_OPEN_QUESTIONS, "failing_since", "closed"],
            incr={"calls": calls},
            release=True,
            **change,
        )
        if why == "claimed":
            return False
        _unless_ok(why)
        return True

    def duplicate(self, lease: Lease, earlier: Job, calls: int) -> None:
        """The same bytes under the same name stand in the chart already: delivered, by the earlier job."""
        facts = _with_record(lease.job.facts, earlier.facts.record)
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
        """The job failed. `keep_name`: its outcome may still turn, so nobody else may use name and patient."""
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
        """Nobody but a human can say what became of it: it is failed, and its name stays its own until one has."""
        outcome = {"failure": self.codec.seal_failure(lease.job.id, failure), "code": failure.code, "held": "1"}
        self._move(
            lease,
            _UNFINISHED,
            stage=Stage.FAILED,
            set=outcome | ({"sha256": sha256} if sha256 else {}),
            unset=["closed"],
            unknown=True,
            incr={"calls": calls},
            **self._closing(),
        )

    # --- waiting and turning back ------------------------------------------------------------------------------

    def deferred(self, lease: Lease, due_in: float, calls: int, *, failed: bool = False, polled: bool = False) -> None:
        """The same step again in `due_in` seconds. `failed` adds to the back-off; `looked`: a poll without result."""
        incr = {"calls": calls, "failures": int(failed), "looks": int(polled)}
        change: dict[str, Any] = {}
        if failed and lease.job.failing_since is None:
            change["set"] = {"failing_since": _stamp(lease.now)}
        if not failed:
            change["unset"] = ["failing_since", "blocked_since"] if polled else ["failing_since"]
            change["healthy"] = polled
        self._move(lease, (*_UNFINISHED, Stage.FAILED), incr=incr, due_in=_ms(due_in), **change)

    def blocked(self, lease: Lease, due_in: float, calls: int) -> None:
        """It parked its account: it waits untouched, and is tried again, behind others, when the account is well."""
        blocked = {} if lease.job.blocked_since else {"blocked_since": _stamp(lease.now)}
        self._move(
            lease,
            (*_UNFINISHED, Stage.FAILED),
            set=blocked,
            incr={"calls": calls},
            due_in=_ms(due_in),
            step=lease.job.step,
        )

    def presign_again(self, lease: Lease, due_in: float, calls: int) -> None:
        self._move(
            lease,
            _BEFORE_THE_RECORD,
            stage=Stage.RECEIVED,
            step=Step.PRESIGN,
            unset=["committed", "unknown_since", "unknown_step"],
            incr={"calls": calls},
            due_in=_ms(due_in),
        )

    def unknown(self, lease: Lease, due_in: float, calls: int) -> None:
        """An outcome that we could not see: look for the record before sending again."""
        self._move(
            lease,
            _BEFORE_THE_RECORD,
            step=Step.CONFIRM,
            set={"committed": "1", "unknown_step": lease.job.step},
            unknown=True,
            incr={"calls": calls},
            due_in=_ms(due_in),
        )

    def repeated(self, lease: Lease, due_in: float, calls: int) -> None:
        """An outcome that we could not see, and ids by which the provider knows it again: the same step once more."""
        failing = {"failing_since": _stamp(lease.now)} if lease.job.failing_since is None else {}
        self._move(
            lease,
            _BEFORE_THE_RECORD,
            set={"sent_before": "1", **failing},
            unset=["committed"],
            incr={"calls": calls, "failures": 1},
            due_in=_ms(due_in),
        )

    def send_again(
        self, lease: Lease, calls: int, route: Route = _USUAL, *, reconciled_commit_at: datetime | None = None
    ) -> None:
        """Looked long enough and found nothing: the step whose outcome nobody saw once more.

        `looked_for` is when job.json was told of the commit; another one there, or a Redis that is another one by
        then, is to be looked for anew.
        """
        step = lease.job.unknown_step or Step.POST
        known = {"looked": reconciled_commit_at.isoformat() if reconciled_commit_at else ""}
        if lease.job.redis_run:
            known["redis_run"] = self.redis_run()
        if route.on_unknown_outcome is OnUnknownOutcome.RESEND:
            known["sent_before"] = "1"
        self._move(
            lease,
            _BEFORE_THE_RECORD,
            stage=route.stage_before(step),
            step=step,
            set=known,
            unset=["committed", "unknown_since", "unknown_step", "looks", "long_look"],
            incr={"calls": calls},
            due_in=0,
        )

    def record_found(self, lease: Lease, facts: Facts, calls: int) -> bool:
        """The provider has made a record for the document, still empty: go on with it. False if it is another job's."""
        assert facts.record is not None  # noqa: S101, the caller has it
        why = self._try_move(
            lease,
            _BEFORE_THE_RECORD,
            stage=Stage.RECEIVED,
            step=Step.PRESIGN,
            set={"facts": self.codec.seal_facts(lease.job.id, facts)},
            unset=[*_OPEN_QUESTIONS, "looks"],
            incr={"calls": calls},
            due_in=0,
            **_claim(facts.record),
        )
        if why == "claimed":
            return False
        _unless_ok(why)
        return True

    # --- closing -----------------------------------------------------------------------------------------------

    def closed(self, lease: Lease, done: Iterable[str], event: Mapping[str, str] | None = None) -> None:
        """Record which closing steps are done, with the event that is one of them; the holder goes on."""
        change: dict[str, Any] = {"event": [part for pair in event.items() for part in pair]} if event else {}
        self._move(lease, _FINAL, set={"closed": ",".join(sorted(done))}, keep=True, **change)

    def closing_deferred(self, lease: Lease, due_in: float) -> None:
        self._move(lease, _FINAL, incr={"failures": 1}, due_in=_ms(due_in))

    def finished(self, lease: Lease) -> None:
        """No work is left; the row leaves after the retention time."""
        self._move(lease, _FINAL, step=Step.NONE, due_in=-1, expire_days=self._jobs_days)

    def leave_to(self, machine: str, job_id: str) -> None:
        """Let the machine that has the document's folders know that there is something to close."""
        self.redis.sadd(PREFIX + "home:" + machine, job_id)

    def left_to(self, machine: str) -> list[str]:
        """The jobs whose files this machine has to close; those that are closed by now are forgotten."""
        left = [str(job_id) for job_id in self.redis.smembers(PREFIX + "home:" + machine)]
        done = [job_id for job_id in left if self.redis.hget(f"{PREFIX}job:{job_id}", "step") != Step.NOTIFY]
        if done:
            self.redis.srem(PREFIX + "home:" + machine, *done)
        return [job_id for job_id in left if job_id not in done]

    def reconcile_slowly(self, lease: Lease, due_in: float) -> None:
        """Closed for the time being, but its record may still appear: back to its account's lane for a slow look."""
        self._move(lease, (Stage.FAILED,), step=Step.CONFIRM, lane=lease.job.account, due_in=_ms(due_in))

    def reconciliation_ended(self, lease: Lease, failure: Failure, calls: int) -> None:
        """The slow look found nothing in its day: the failure is final, the name is free again."""
        self._move(
            lease,
            (Stage.FAILED,),
            set={"failure": self.codec.seal_failure(lease.job.id, failure)},
            unset=["closed", "unknown_since"],
            incr={"calls": calls},
            release=True,
            **self._closing(),
        )

    # --- a human's moves ---------------------------------------------------------------------------------------

    def cancel(self, job: Job) -> str:
        """Stop a job that is not committed: 'ok', 'committed', 'moved' (already final) or 'gone'."""
        failure = Failure(_CANCELLED, "The job was cancelled.", "Move the file back to the inbox to send it after all.")
        # What is stored and still to be registered is in no chart yet.
        stages = (Stage.RECEIVED, Stage.PRESIGNED, *((Stage.STORED,) if job.step is Step.REGISTER else ()))
        return self._free_move(
            job,
            stages,
            stage=Stage.CANCELLED,
            set={"failure": self.codec.seal_failure(job.id, failure), "code": failure.code},
            uncommitted=True,
            release=True,
            **self._closing(),
        )

    def retry(self, job: Job, document: Document | None = None, *, first: Step = Step.PRESIGN) -> str:
        """From the start again, with a document whose file may lie elsewhere by now.

        A record that the provider has made for it already stays its own: a second one would be a second document.
        """
        document = document or job.document
        return self._free_move(
            job,
            (Stage.FAILED, Stage.CANCELLED),
            stage=Stage.RECEIVED,
            step=first,
            lane=job.account,
            set={
                "document": self.codec.seal_document(job.id, document),
                "facts": self.codec.seal_facts(job.id, Facts(record=job.facts.record)),
                "failures": 0,
            },
            unset=[*_OUTCOME_FIELDS, *_OPEN_QUESTIONS, "presigns", "looks"],
            due_in=0,
        )

    def retry_reconciling(self, job: Job, document: Document | None = None, *, first: Step = Step.PRESIGN) -> str:
        """Continue a job whose outcome is unknown: look first, send only after that, from the start."""
        document = document or job.document
        return self._free_move(
            job,
            (Stage.FAILED,),
            stage=Stage.PRESIGNED if first is Step.PRESIGN else Stage.RECEIVED,  # no other has a form
            step=Step.CONFIRM,
            lane=job.account,
            set={
                "document": self.codec.seal_document(job.id, document),
                "committed": "1",
                "failures": 0,
                "long_look": "1",
                "unknown_step": first,
            },
            unset=[*_OUTCOME_FIELDS, "looks", "held"],
            unknown=True,
            due_in=0,
        )

    def resolve_delivered(self, job: Job, record: Record | None) -> str:
        """A human found it in the chart, and perhaps its record; the same document is then known as delivered."""
        facts = _with_record(job.facts, record or job.facts.record)
        known = {"sent": [self.codec.sent_key(job.document), job.sha256]} if job.sha256 else {}
        return self._free_move(
            job,
            (Stage.FAILED,),
            stage=Stage.DELIVERED,
            set={"facts": self.codec.seal_facts(job.id, facts), "human": "1"},
            unset=[*_OUTCOME_FIELDS, *_OPEN_QUESTIONS],
            release=True,
            **known,
            **_claim(record),
            **self._closing(),
        )

    # --- what is known of a patient's and a document's past -----------------------------------------------------

    def record_owners(self, job: Job) -> Mapping[str, str]:
        """The records that already prove a job, of the patient or, where there is none, of the account: id -> job."""
        return RecordOwners(self.redis, PREFIX + "claims:" + job.scope)

    def earlier_deliveries(self, document: Document) -> dict[str, str]:
        """Deliveries of this name, patient and size within 30 days: SHA-256 -> job id."""
        sent = self.redis.hgetall(PREFIX + "sent:" + self.codec.sent_key(document))
        return {str(sha256): str(job) for sha256, job in sent.items()}

    def name_holder(self, document: Document) -> str | None:
        """The job that holds this name for this patient, if any."""
        holder = self.redis.get(PREFIX + "name:" + self.codec.name_key(document))
        return str(holder) if holder else None

    # --- inside ------------------------------------------------------------------------------------------------

    def _closing(self) -> dict[str, Any]:
        """A final move leaves closing work, and its message is sent at once."""
        return {"step": Step.NOTIFY, "lane": CLOSING_LANE, "due_in": self._lease, "in_flight": True}

    def _row(self, job_id: str) -> Mapping[str, str]:
        return {str(k): str(v) for k, v in self.redis.hgetall(PREFIX + "job:" + job_id).items()}

    def _move(self, lease: Lease, stages: Sequence[Stage], **change: Any) -> None:
        _unless_ok(self._try_move(lease, stages, **change))

    def _try_move(self, lease: Lease, stages: Sequence[Stage], **change: Any) -> str:
        return str(self._run("move", lease.job.id, lease.token, ",".join(stages), json.dumps(change)))

    def _free_move(self, job: Job, stages: Sequence[Stage], **change: Any) -> str:
        """A move that needs no holder; it takes the job from whoever holds it."""
        return str(self._run("move", job.id, "", ",".join(stages), json.dumps(change)))

    def _run(self, script: str, *args: object) -> Any:
        return self._scripts[script](args=[PREFIX, *(str(arg) for arg in args)])


_SCRIPTS = ("open", "start", "renew", "reserve", "move")
_FINAL = (Stage.DELIVERED, Stage.FAILED, Stage.CANCELLED)
_OUTCOME_FIELDS = ("code", "failure", "closed", "failing_since")
_OPEN_QUESTIONS = ("committed", "unknown_since", "unknown_step", "long_look", "sent_before", "held")
_CANCELLED = Code.CANCELLED


def _sent_already(maybe: MaybeSent, route: Route) -> dict[str, str]:
    """How the row of a document that may have been sent begins: at the step that finds its outcome unknown."""
    if route.on_unknown_outcome is OnUnknownOutcome.RESEND:
        return {"sent_before": "1"}
    return {"stage": route.stage_before(maybe.step), "step": maybe.step, "committed": "1"}


def _unless_ok(why: str) -> None:
    if why != "ok":
        raise LeaseLost(f"The move was refused ({why}): another worker or a human was faster.")


def _with_record(facts: Facts, record: Record | None) -> Facts:
    return replace(facts, record=record)


def _claim(record: Record | None) -> dict[str, str]:
    """What makes a record prove one job alone: not where others may be put into it too."""
    return {"claim": record.id} if record and not record.shared else {}


def _ms(seconds: float) -> int:
    return max(0, int(seconds * 1000))


def _stamp(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _pairs(flat: Sequence[Any]) -> Iterable[tuple[str, str]]:
    return zip(map(str, flat[::2]), map(str, flat[1::2]), strict=True)
