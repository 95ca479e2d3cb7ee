"""`chartpost show`: one job, its receipt or error, and what happens next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from tasks.accounts.status import AccountHealth
from tasks.closing.receipts import fields_of, receipt_or_error_file
from tasks.dispatch.waiting import MachinesWaitedFor, waits_for
from tasks.folders.evidence import SIGNATURE
from tasks.ledger_runtime import LedgerRuntime
from tasks.model.errors import UNCERTAIN_CODES
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from tasks.wording.waiting import WaitingReason
from worker.cli.context import Context, pass_context
from worker.cli.lookup import JobOnDisk, RejectedMessage, find_job, find_rejected, not_found
from worker.cli.open_ledger import open_ledger
from worker.cli.output import Output, note, output_option
from worker.stream.rejected import rejected_stream

_NOT_BELIEVED = (
    "Look into the chart: this file does not bear this installation's signature, so it proves nothing. It was edited "
    "or moved, or an earlier version or another key wrote it."
)


@click.command
@click.argument("job")
@output_option
@pass_context
def show(context: Context, job: str, output: Output) -> None:
    """Show one JOB with its receipt or error.

    JOB is the id of a job (six characters or more of it will do), of a Celery call or of a stream entry; a file in
    chartpost's folders; or the name of a file, of which the newest is shown. Jobs that have left Redis are found by
    their files in delivered/ and failed/.
    """
    runtime = open_ledger(context)
    if found := find_job(runtime.ledger, job):
        output.sheet(_job_sheet(found, NextStep(runtime).of(found)))
    elif rejected := find_rejected(rejected_stream(runtime), job):
        output.sheet(_rejected_sheet(rejected))
    else:
        _show_searched(runtime, job, output)


def _show_searched(runtime: LedgerRuntime, name: str, output: Output) -> None:
    """Raises ClickException if nothing is found, and AmbiguousJob for a short id that fits several jobs."""
    from worker.cli.job_search import By, ambiguous, job_search  # late: most jobs that are asked for are in Redis

    by, matches = job_search(runtime).all(name)
    if not matches:
        raise not_found(name)
    newest, *others = matches
    if others and by is By.ID:
        raise ambiguous(name, matches)
    if newest.job:
        output.sheet(_job_sheet(newest.job, NextStep(runtime).of(newest.job)))
    elif newest.on_disk:
        output.sheet(_on_disk_sheet(newest.on_disk))
    if others:
        note("\n".join(["This is the newest of that name. The others:", *(f"  {match}" for match in others)]))


def _job_sheet(job: Job, next_step: str) -> dict[str, Any]:
    return fields_of(job) | {
        "receipt": receipt_or_error_file(job) if job.stage is Stage.DELIVERED else None,
        "error": receipt_or_error_file(job) if job.stage in (Stage.FAILED, Stage.CANCELLED) else None,
        "next": next_step,
    }


def _rejected_sheet(rejected: RejectedMessage) -> dict[str, Any]:
    return rejected.fields() | {
        "receipt": None,
        "error": {
            **{"entry": rejected.entry_id, "sent": rejected.message},
            **({"sent_bytes": int(rejected.size_bytes), "sent_sha256": rejected.sha256} if rejected.sha256 else {}),
        },
        "next": "No job was opened: correct the message and add it to the stream again.",
    }


def _on_disk_sheet(job: JobOnDisk) -> dict[str, Any]:
    # job.json stands in the error file for our own use: a retry needs it.
    content = {name: value for name, value in job.content.items() if name not in ("job_file", SIGNATURE)}
    if not job.believed:
        kind = "receipt" if job.delivered else "error"
        ending = {"receipt": None, "error": None, kind: content, "next": _NOT_BELIEVED}
    elif job.delivered:
        ending = {"receipt": content, "error": None, "next": "Nothing: it has arrived, and has left Redis."}
    else:
        again = f"{content.get('hint') or ''} `chartpost retry {job.job_id}` sends it again.".strip()
        ending = {"receipt": None, "error": content, "next": again}
    return job.fields() | ending


class NextStep:
    """Says what happens next to a job, and what to do if that is not enough."""

    def __init__(self, runtime: LedgerRuntime) -> None:
        self._runtime = runtime
        self._reasons = runtime.waiting_reasons()

    def of(self, job: Job) -> str:
        if job.stage.final:
            ends = "Nothing: it has arrived." if job.stage is Stage.DELIVERED else _after_failure(job)
            return f"{ends} {_closing_trouble(job)}".strip()
        machine = MachinesWaitedFor(self._runtime.redis, self._runtime.workers).of_job(job)
        wait = self._reasons.why(job, machine_is_idle=bool(machine))
        if wait.health:
            return _while_account_waits(job, wait.health)
        match wait.reason:
            case WaitingReason.NOT_IN_SETTINGS:
                return "The settings no longer name its account: add it again, or cancel the job."
            case WaitingReason.ANOTHER_MACHINE:
                return waits_for(machine)
            case WaitingReason.UNKNOWN_OUTCOME if wait.since:
                return _while_reconciling(job, wait.patience_seconds)
            case WaitingReason.UNKNOWN_OUTCOME:
                return (
                    "An answer was lost. The same document is sent again under the same ids, so it cannot be doubled."
                )
            case WaitingReason.SAME_NAME:
                return (
                    "It waits for another of the same name and patient, whose outcome is open: "
                    f"chartpost show {wait.holder}"
                )
        next_in = f"It continues automatically{_when(job)}."
        # What may have arrived cannot be cancelled any more.
        too_late = job.uncertainty.committed or job.step is Step.CONFIRM
        return next_in if too_late else f"{next_in} `chartpost cancel {job.id}` stops it."


def _closing_trouble(job: Job) -> str:
    """What of the closing fails; empty if nothing does."""
    if not job.closing_error:
        return ""
    if job.step is Step.NONE:
        return f"Its closing went on without one step, {job.closing_error}: the log names the place."
    return f"Its closing is not complete: {job.closing_error}. That step is tried again{_when(job)}."


def _after_failure(job: Job) -> str:
    hint = job.failure.hint if job.failure else ""
    if "chartpost retry JOB" in hint:  # such a hint says all that can be done; only the job's id is missing
        return hint.replace(" JOB", f" {job.id}")
    again = f"`chartpost retry {job.id}` sends it again."
    if job.code in UNCERTAIN_CODES:
        again = (
            f"If it is in the chart: `chartpost resolve {job.id} --delivered`. "
            f"If not: `chartpost retry {job.id}` searches again; with --send-again it is sent at once."
        )
    return f"{hint} {again}".strip()


def _while_account_waits(job: Job, health: AccountHealth) -> str:
    waits = f"It waits because its account is {health.status}: {health.reason}"
    again = "It continues" if health.status == "throttled" else "It is tried again"
    return f"{waits} {again} automatically; at once with `chartpost accounts resume {job.account}`."


def _while_reconciling(job: Job, look_seconds: float) -> str:
    how_long = "a day" if job.uncertainty.day_of_searching else f"{look_seconds:.0f} s (confirm.look_seconds)"
    return (
        f"An answer was lost. chartpost searches for the record for {how_long} before it sends the document again. "
        "Wait, or look into the chart."
    )


def _when(job: Job) -> str:
    if job.next_at is None or job.step is Step.NONE:
        return ""
    seconds = (job.next_at - datetime.now(UTC)).total_seconds()
    return f", next in {seconds:.0f} s" if seconds >= 1 else ""
