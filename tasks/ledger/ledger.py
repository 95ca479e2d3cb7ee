"""The Redis record of every job, and one due entry for every job with work left.

The ledger is the truth; Celery's messages only wake workers. Each change of a job is a move (`moves.py`), which one
script carries out (`scripts/move.lua`): only from the stages that the move allows, and only for the holder of the
lease, who shows the fencing token that `start` gave. Without a lease: `take_over`, by a person, the watcher, or a
commit that was forgotten. It raises the token, so the holder loses the job.

What decides goes by the ledger's own clock (`scripts/parts/clock.lua`), what people read by Redis's.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import redis

from tasks.ledger import keys, moves
from tasks.ledger.clock import LedgerClock
from tasks.ledger.codec import SEALED_PARTS, JobCodec
from tasks.ledger.failures import note_failure
from tasks.ledger.identity import LedgerIdentity
from tasks.ledger.keys import CLOSING_LANE, PREFIX
from tasks.ledger.lease import Lease, NotStarted
from tasks.ledger.moves import Move
from tasks.ledger.owners import RecordOwners
from tasks.ledger.script_loader import load_script
from tasks.ledger.seal import Seal, SealBroken
from tasks.ledger.thread_connection import run_id
from tasks.ledger.validation_times import read_validations, written
from tasks.model.document import Document
from tasks.model.errors import Code, DocumentRefused, LeaseLost
from tasks.model.job import Facts, Failure, Job
from tasks.model.route import OnUnknownOutcome, Route, Stage, Step
from tasks.model.times import from_ms, steady_seconds

_SCRIPTS = ("open", "start", "renew", "reserve_name", "move", "bind")

_FORGOTTEN_KEPT_SECONDS = 8 * 86_400  # as long as `folders.commit_journal` keeps commits
_UNREADABLE_SECONDS = 3600.0
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
class NameReserved:
    """Who has the name of a document, and what was delivered under it."""

    # The id of the job that holds the name: the one that asked, if it was free.
    holder: str
    # Deliveries of this name, patient and size within 30 days: SHA-256 -> job id.
    deliveries: Mapping[str, str]


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
        self.seal = seal
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
        if maybe_sent:
            row |= _maybe_sent(maybe_sent.step, self.codec.seal_facts(job_id, maybe_sent.facts), route)
            # It has its name at once: no other document of that name may be sent before its outcome is known.
            self.redis.set(keys.name(row["name"]), job_id)
        fields = [str(part) for pair in row.items() for part in pair]
        look = "1" if maybe_sent is None and failure is None and not document.door.has_folder else ""
        in_order = row["name"] if document.in_order else ""
        kind, found = self._run("open", job_id, lane, key, self.codec.fingerprint(document), look, in_order, *fields)
        if kind == "forgotten":
            sent = self._read_commit(job_id, found)
            return self.open(job_id, document, provider, maybe_sent=sent, reserve_key=reserve_key, route=route)
        return Opened(kind, found)

    def open_together(self, openings: Iterable[tuple[str, Document, str, Route]]) -> list[Opened | None]:
        """Open new jobs (job id, document, provider, its route) in one round trip, each as `open` would do it alone.

        None for each of which only `open` can tell more: its script failed, or Redis had forgotten a commit of it.
        Raises LedgerRefused.
        """
        self.identity.confirm()
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id, document, provider, route in openings:
                key, fingerprint = self.codec.idempotency_key(document), self.codec.fingerprint(document)
                look = "" if document.door.has_folder else "1"
                row = self.codec.opening(job_id, document, provider, route)
                in_order = row["name"] if document.in_order else ""
                fields = [str(text) for pair in row.items() for text in pair]
                args = [PREFIX, job_id, document.account, key, fingerprint, look, in_order, *fields]
                self._scripts["open"](args=args, client=pipe)
            answers = pipe.execute(raise_on_error=False)
        told = [answer if isinstance(answer, list) and answer[0] != "forgotten" else None for answer in answers]
        return [Opened(*answer) if answer else None for answer in told]

    def get(self, job_id: str) -> Job | None:
        """The job with this id or alias. Raises SealBroken if it was sealed with another `secret_key`."""
        row, ahead_ms = self._row(job_id)
        if not row:
            job_id = str(self.redis.get(keys.alias(job_id)) or "")
            row, ahead_ms = self._row(job_id) if job_id else ({}, 0)
        return self.codec.job(job_id, row, ahead_ms=ahead_ms) if row else None

    def get_all(self, job_ids: Sequence[str]) -> list[Job]:
        """Those of these jobs that are there, in their order, in one round trip. Raises SealBroken as `get` does."""
        with self.redis.pipeline(transaction=False) as pipe:
            for job_id in job_ids:
                pipe.hgetall(keys.job(job_id))
                pipe.mget([keys.sealed(part, job_id) for part in SEALED_PARTS])
            pipe.hget(keys.CLOCK, "ahead")
            *answers, ahead = pipe.execute()
        rows = zip(job_ids, answers[::2], answers[1::2], strict=True)
        return [
            self.codec.job(job_id, _with_sealed(row, sealed), ahead_ms=int(ahead or 0))
            for job_id, row, sealed in rows
            if row
        ]

    def sealed_documents(self, job_ids: Sequence[str]) -> list[str | None]:
        """What is sealed of each document; None for a job that has left."""
        found = []
        sealed = self.redis.mget([keys.sealed("document", job_id) for job_id in job_ids])
        for job_id, value in zip(job_ids, sealed, strict=True):
            # Rows of an earlier version hold it themselves.
            value = self.redis.hget(keys.job(job_id), "document") if value is None else value
            found.append(None if value is None else str(value))
        return found

    def known(self, job_id: str) -> bool:
        return bool(self.redis.exists(keys.job(job_id)))

    def named(self, job_id: str) -> bool:
        """As `known`, also for an id that stands for a job."""
        return bool(self.redis.exists(keys.job(job_id), keys.alias(job_id)))

    def bind(self, job_id: str, machine: str) -> bool:
        """Note that the job's files lie on this machine, which alone can work on it. True if that is news."""
        return bool(self._run("bind", job_id, machine))

    def bound_to(self, job_id: str) -> str | None:
        """The machine that alone can work on the job; None if any can."""
        machine = self.redis.hget(keys.job(job_id), "home")
        return str(machine) if machine else None

    def alias(self, alias: str, job_id: str) -> None:
        """Let `alias` (the id of a stream entry, or of a second call) find the job."""
        self.redis.set(keys.alias(alias), job_id, ex=int(self._jobs_days * 86400))

    def alias_all(self, aliases: Mapping[str, str]) -> None:
        """As `alias`, for each alias and its job's id, in one round trip."""
        with self.redis.pipeline(transaction=False) as pipe:
            for alias, job_id in aliases.items():
                pipe.set(keys.alias(alias), job_id, ex=int(self._jobs_days * 86400))
            pipe.execute()

    def adopt_alias(self, alias: str, job_id: str) -> None:
        """Let another call, which asks for the same, show this job's outcome, now and when it changes."""
        self.alias(alias, job_id)
        self.redis.sadd(keys.aliases(job_id), alias)
        self.redis.expire(keys.aliases(job_id), int(self._jobs_days * 86400))

    def unalias(self, alias: str, job_id: str) -> None:
        self.redis.delete(keys.alias(alias))
        self.redis.srem(keys.aliases(job_id), alias)

    def aliases(self, job_id: str) -> list[str]:
        """The ids of other calls whose result is this job's outcome."""
        return sorted(str(alias) for alias in self.redis.smembers(keys.aliases(job_id)))

    def redis_run(self) -> str:
        """Which Redis this is. Another one after a restart, a failover or a wipe, so that a commit may be forgotten."""
        return run_id(self.redis)

    # --- commits that Redis had forgotten ----------------------------------------------------------------------

    def remember(self, commits: Iterable[tuple[str, Step, str]]) -> list[str]:
        """Keep commits (job id, step, sealed facts) that Redis had forgotten, for when a message opens the job again.

        Returns the ids of those jobs that Redis knows.
        """
        pipe = self.redis.pipeline(transaction=False)
        ids = []
        for job_id, step, sealed_facts in commits:
            kept = json.dumps({"step": step, "facts": sealed_facts})
            pipe.set(keys.forgotten(job_id), kept, ex=_FORGOTTEN_KEPT_SECONDS)
            pipe.exists(keys.job(job_id))
            ids.append(job_id)
        return [job_id for job_id, known in zip(ids, pipe.execute()[1::2], strict=True) if known]

    def remember_commit(self, job: Job, step: Step, sealed_facts: str, route: Route) -> str:
        """Redis had forgotten this commit of a job that it knows. Returns what `take_over` does."""
        self.redis.set(keys.name(self.codec.name_key(job.document)), job.id)
        return self.take_over(job, moves.commit_remembered(job, step, sealed_facts, route))

    def _read_commit(self, job_id: str, kept: str) -> MaybeSent:
        """A commit that `remember` has kept. Raises DocumentRefused if it was sealed with another `secret_key`."""
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
        asked_at = steady_seconds()
        started, *seen = self._run("start", job_id, step, self._lease_ms, together, self._machine() or "")
        if started == "refused":
            return NotStarted(str(seen[0]))
        owners, mark, validations = seen
        seen_then = _pairs(owners) if owners != "" else None, str(mark), read_validations(str(validations))
        leases = []
        for started_id, token, flat_row, now, wall in started:
            row = _pairs(flat_row)
            try:
                job = self.codec.job(started_id, row, ahead_ms=now - wall)
            except Exception:
                # No version of ours wrote it, or another secret_key did. Not again after each lease: it may stay so.
                failures = min(int(row.get("failures") or 0), 20)
                due_in_ms = _ms(min(2**failures * self.lease_seconds, _UNREADABLE_SECONDS))
                change = json.dumps({"adds": {"failures": 1}, "due_in_ms": due_in_ms})
                self._run("move", started_id, token, row.get("stage", ""), change)
                if started_id == job_id:
                    raise
                continue
            leases.append(
                Lease(job, str(token), from_ms(now), f"{now} {wall}", self._taken_at(asked_at, now, row), *seen_then)
            )
        return leases

    def renew(self, leases: Iterable[tuple[str, str]], slow: Collection[str] = ()) -> list[bool]:
        """Renew the leases of these (job id, token) pairs. False for each that is lost.

        `slow` are the jobs whose steps have run for longer than they should: their accounts do not answer.
        """
        flat = [part for job_id, token in leases for part in (job_id, token, "1" if job_id in slow else "")]
        return [bool(renewed) for renewed in self._run("renew", self._lease_ms, *flat)] if flat else []

    def reserve_name(self, job: Job) -> NameReserved:
        """Reserve the document's name, unless another job holds it."""
        name, sent = self.codec.name_key(job.document), self.codec.sent_key(job.document)
        holder, deliveries = self._run("reserve_name", job.id, name, sent)
        return NameReserved(str(holder), _pairs(deliveries))

    # --- moves -------------------------------------------------------------------------------------------------

    def apply(self, lease: Lease, move: Move) -> bool:
        """Carry out a move for the holder of the lease. False if it needs a record that proves another job.

        Raises LeaseLost if it was refused otherwise: another worker or a person was faster.
        """
        return self._apply(lease, move) == "ok"

    def go_on(self, lease: Lease, move: Move) -> Lease | None:
        """Carry out a move, and start the step that it leads to under the same fencing token.

        The lease is renewed with the move, the slot stays taken, and the start is counted as `start` counts it. After a
        kill from here on, the lease runs out, and a feeder sends that step. Returns the lease with the job as it is
        now; None if the move needs a record that proves another job. Raises LeaseLost as `apply` does.
        """
        job = lease.job
        # The due entry is the end of the lease, whatever the move says, and no message goes.
        change = {**self._change(job, move), "due_in_ms": self._lease_ms, "goes_on": move.step}
        change.pop("message_sent", None)
        asked_at = steady_seconds()
        answer = self._run("move", job.id, lease.token, ",".join(move.allowed), json.dumps(change), lease.clock)
        if isinstance(answer, list):
            flat_row, now, wall, validations = answer
            row = _pairs(flat_row)
            moved = self.codec.job(
                job.id, row, ahead_ms=now - wall, document=job.document, facts=move.facts or job.facts
            )
            taken_at = self._taken_at(asked_at, now, row)
            times = read_validations(str(validations))
            return replace(
                lease, job=moved, now=from_ms(now), clock=f"{now} {wall}", taken_at=taken_at, validations=times
            )
        if answer != "owned_by_another":
            raise _lost(str(answer))
        return None

    def commit(self, lease: Lease, facts: Facts | None = None, run_mark: str = "") -> int | None:
        """Pass the commit point: from here on the last block may leave. Returns the commit's number. Raises LeaseLost.

        `facts` are what a search would need. None if Redis is in another run by now than the one with this mark.
        """
        answer = self._apply(lease, moves.committed(facts, run_mark))
        return None if answer == "another_run" else int(answer.removeprefix("ok "))

    def _taken_at(self, asked_at: float, now: int, row: Mapping[str, str]) -> float:
        """Since when the lease of this row runs, by `steady_seconds`: perhaps a little longer (`parts/lease.lua`)."""
        return asked_at - (now + self._lease_ms - int(row["lease_until"])) / 1000

    def take_over(self, job: Job, move: Move) -> str:
        """Carry out a move without a lease; it takes the job from the worker that holds it.

        Returns 'ok', or why nothing was changed: 'committed', 'moved' (to another stage), 'owned_by_another', 'gone'.
        """
        return self._move(job, "", move, clock="")

    def _apply(self, lease: Lease, move: Move) -> str:
        answer = self._move(lease.job, lease.token, move, lease.clock)
        if not answer.startswith("ok") and answer not in ("owned_by_another", "another_run"):
            raise _lost(answer)
        return answer

    def _move(self, job: Job, token: str, move: Move, clock: str) -> str:
        change = self._change(job, move)
        return str(self._run("move", job.id, token, ",".join(move.allowed), json.dumps(change), clock))

    def _change(self, job: Job, move: Move) -> dict[str, Any]:
        """A move as `move.lua` reads it, under the names of its attributes. What stays as it is, is left out."""
        fields = {
            **move.fields,
            **({"document": self.codec.seal_document(job.id, move.document)} if move.document else {}),
            **({"facts": self.codec.seal_facts(job.id, move.facts)} if move.facts else {}),
            **({"facts": move.sealed_facts} if move.sealed_facts else {}),
            **({"failure": self.codec.seal_failure(job.id, move.failure)} if move.failure else {}),
            **({"dismissed": self.codec.seal_dismissal(job.id, move.dismissal)} if move.dismissal else {}),
        }
        due_in_ms = self._lease_ms if move.message_sent else None if move.due_in is None else _ms(move.due_in)
        sha256 = move.delivered_sha256
        change = {
            "only_uncommitted": move.only_uncommitted or None,
            "in_run": move.in_run or None,
            "owns": move.owns.id if move.owns else None,
            "stage": move.stage,
            "passed": move.passed,
            "step": move.step,
            "lane": move.lane,
            "due_in_ms": due_in_ms,
            "message_sent": move.message_sent or None,
            "keeps_lease": move.keeps_lease or None,
            "no_work_left": move.no_work_left or None,
            "kept_days": self._jobs_days if move.no_work_left else None,
            "fields": fields or None,
            "clears": move.clears or None,
            "adds": {name: by for name, by in move.adds.items() if by} or None,
            "unknown_from_now": move.unknown_from_now or None,
            "is_commit": move.is_commit or None,
            "provider_answered": move.provider_answered or None,
            "validation": written(move.validation) if move.validation else None,
            "frees_name": move.frees_name or None,
            "delivered_sha256": [self.codec.sent_key(job.document), sha256] if sha256 else None,
            "event": [part for pair in move.event.items() for part in pair] or None,
            "shows": [move.shows.key, move.shows.text, move.shows.seconds] if move.shows else None,
            "shows_outcome": asdict(move.shows_outcome) if move.shows_outcome else None,
        }
        return {name: value for name, value in change.items() if value is not None}

    # --- closings that are left --------------------------------------------------------------------------------

    def note_step_given_up(self, job_id: str) -> None:
        """The closing has gone on without one of its steps: `chartpost check` says so."""
        self.redis.zadd(keys.CLOSING_GIVEN_UP, {job_id: self._clock.read().wall_ms})

    def note_failure(self, job_id: str) -> None:
        """A failure is closed: it needs a person's attention until it is taken up again or dismissed."""
        note_failure(self.redis, job_id, self._clock.read().wall_ms, self._jobs_days)

    def leave_to(self, machine: str, job_id: str) -> None:
        """Tell the machine that has the document's folders that it must close this job's files."""
        self.redis.sadd(keys.left_to(machine), job_id)

    def left_to(self, machine: str) -> list[str]:
        """The jobs whose files this machine must close. Those that are closed by now are removed from its list."""
        left = [str(job_id) for job_id in self.redis.smembers(keys.left_to(machine))]
        done = [job_id for job_id in left if self.redis.hget(keys.job(job_id), "step") != Step.NOTIFY]
        if done:
            self.redis.srem(keys.left_to(machine), *done)
        return [job_id for job_id in left if job_id not in done]

    def unclosed(self, machine: str, seconds: float) -> list[str]:
        """Jobs whose closing has been due for this long, and which only this machine can close."""
        due_before = self._clock.read().now_ms - _ms(seconds)
        return [str(job_id) for job_id in self.redis.zrangebyscore(keys.due(CLOSING_LANE, machine), 0, due_before)]

    # --- earlier deliveries, owners and names --------------------------------------------------------------------

    def record_owners(self, job: Job) -> Mapping[str, str]:
        """The records that prove a job already, in the job's scope (patient or account): record id -> job id."""
        return RecordOwners(self.redis, keys.record_owners(job.scope))

    def owners_at_start(self, lease: Lease) -> Mapping[str, str]:
        """As `record_owners`. Those of a patient are as they were when the step started.

        A record that another job has got since is refused by the move that would give it to this one.
        """
        return self.record_owners(lease.job) if lease.owners is None else lease.owners

    def names_held(self, name_keys: Iterable[str]) -> list[bool]:
        """For each name (`JobCodec.name_key`), whether a job holds it."""
        reserved = [keys.name(name_key) for name_key in name_keys]
        return [holder is not None for holder in self.redis.mget(reserved)] if reserved else []

    def name_holder(self, document: Document) -> str | None:
        """The id of the job that holds this document's name, if any."""
        holder = self.redis.get(keys.name(self.codec.name_key(document)))
        return str(holder) if holder else None

    # --- inside ------------------------------------------------------------------------------------------------

    def _row(self, job_id: str) -> tuple[Mapping[str, str], int]:
        """The row, empty without a job, and how far the ledger's clock is ahead of Redis's, in ms."""
        with self.redis.pipeline(transaction=False) as pipe:
            pipe.hgetall(keys.job(job_id))
            pipe.mget([keys.sealed(part, job_id) for part in SEALED_PARTS])
            pipe.hget(keys.CLOCK, "ahead")
            row, sealed, ahead = pipe.execute()
        return (_with_sealed(row, sealed), int(ahead or 0)) if row else ({}, 0)

    def _run(self, script: str, *args: object) -> Any:
        return self._scripts[script](args=[PREFIX, *(str(arg) for arg in args)])


def _with_sealed(row: Mapping[Any, Any], sealed: Sequence[Any]) -> dict[str, str]:
    """A row with its sealed parts, as they lie beside it."""
    # Rows of an earlier version hold the sealed parts themselves.
    parts = {part: str(value) for part, value in zip(SEALED_PARTS, sealed, strict=True) if value is not None}
    return {str(field): str(value) for field, value in row.items()} | parts


def _pairs(flat: Sequence[Any]) -> dict[str, str]:
    """A Redis hash that a script has returned as a list: field, value, field, value, ..."""
    return dict(zip(map(str, flat[::2]), map(str, flat[1::2]), strict=True))


def _maybe_sent(step: Step, sealed_facts: str, route: Route) -> dict[str, str]:
    """The fields of the row of a document that this step may have sent."""
    if route.on_unknown_outcome is OnUnknownOutcome.RESEND:
        return {"facts": sealed_facts, "sent_before": "1"}
    # At the step that may have sent it: that step finds the commit, and the outcome is unknown.
    return {"facts": sealed_facts, "stage": route.stage_before(step), "step": step, "committed": "1"}


def _lost(answer: str) -> LeaseLost:
    return LeaseLost(f"The move was refused ({answer}): another worker or a human was faster.")


def _ms(seconds: float) -> int:
    return max(0, int(seconds * 1000))
