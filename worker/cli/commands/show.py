"""`chartpost show`: one job, its receipt or error, and what happens next."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from tasks.accounts.account import Accounts
from tasks.accounts.status import AccountHealth, AccountStatuses
from tasks.closing.receipts import fields_of, receipt_or_error_file
from tasks.dispatch.waiting import MachinesWaitedFor, waits_for
from tasks.dispatch.workers import Workers
from tasks.ledger.ledger import Ledger
from tasks.model.errors import UNCERTAIN_CODES
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from worker.cli.context import Context, pass_context
from worker.cli.lookup import (
    JobOnDisk,
    RejectedMessage,
    find_job,
    find_on_disk,
    find_rejected,
    not_found,
)
from worker.cli.output import Output, output_option
from worker.cli.startup import open_runtime
from worker.stream.build import rejected_stream


@click.command
@click.argument("job")
@output_option
@pass_context
def show(context: Context, job: str, output: Output) -> None:
    """Show one JOB with its receipt or error.

    JOB is the id of a job, of a Celery call or of a stream entry. Jobs that have left Redis are found by their files
    in delivered/ and failed/.
    """
    runtime = open_runtime(context)
    if found := find_job(runtime.ledger, job):
        next_step = NextStep(runtime.ledger, runtime.accounts, runtime.account_statuses, runtime.workers).of(found)
        output.sheet(_job_sheet(found, next_step))
    elif rejected := find_rejected(rejected_stream(runtime), job):
        output.sheet(_rejected_sheet(rejected))
    # Last, since it reads every file in failed/ and delivered/.
    elif on_disk := find_on_disk(runtime.outcomes, job):
        output.sheet(_on_disk_sheet(on_disk))
    else:
        raise not_found(job)


def _job_sheet(job: Job, next_step: str) -> dict[str, Any]:
    return fields_of(job) | {
        "receipt": receipt_or_error_file(job) if job.stage is Stage.DELIVERED else None,
        "error": receipt_or_error_file(job) if job.stage in (Stage.FAILED, Stage.CANCELLED) else None,
        "next": next_step,
    }


def _rejected_sheet(rejected: RejectedMessage) -> dict[str, Any]:
    return rejected.fields() | {
        "receipt": None,
        "error": {"entry": rejected.entry_id, "sent": rejected.message},
        "next": "No job was opened: correct the message and add it to the stream again.",
    }


def _on_disk_sheet(job: JobOnDisk) -> dict[str, Any]:
    # job.json stands in the error file for our own use: a retry needs it.
    content = {name: value for name, value in job.content.items() if name != "job_file"}
    if job.delivered:
        ending = {"receipt": content, "error": None, "next": "Nothing: it has arrived, and has left Redis."}
    else:
        again = f"{content.get('hint') or ''} `chartpost retry {job.job_id}` sends it again.".strip()
        ending = {"receipt": None, "error": content, "next": again}
    return job.fields() | ending


class NextStep:
    """Says what happens next to a job, and what to do if that is not enough."""

    def __init__(self, ledger: Ledger, accounts: Accounts, statuses: AccountStatuses, workers: Workers) -> None:
        self._ledger = ledger
        self._workers = workers
        self._accounts = accounts
        self._statuses = statuses

    def of(self, job: Job) -> str:
        if job.stage is Stage.DELIVERED:
            return "Nothing: it has arrived."
        if job.stage.final:
            return _after_failure(job)
        account = self._accounts.get(job.account)
        if account is None:
            return "The settings no longer name its account: add it again, or cancel the job."
        # What holds the whole account up comes before what holds this job up.
        health = self._statuses.health(job.account)
        if health.status != "ok":
            return _while_account_waits(job, health)
        machine = MachinesWaitedFor(self._ledger.redis, self._workers).of_job(job)
        if machine:
            return waits_for(machine)
        if job.unknown_since:
            return _while_reconciling(job, account.settings.confirm.look_seconds)
        if job.earlier_sending_unknown:
            return "An answer was lost. The same document is sent again under the same ids, so it cannot be doubled."
        holder = self._ledger.name_holder(job.document) if job.stage is Stage.RECEIVED else None
        if holder and holder != job.id:
            return f"It waits for another of the same name and patient, whose outcome is open: chartpost show {holder}"
        next_in = f"It continues automatically{_when(job)}."
        # What may have arrived cannot be cancelled any more.
        too_late = job.committed or job.step is Step.CONFIRM
        return next_in if too_late else f"{next_in} `chartpost cancel {job.id}` stops it."


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
    how_long = "a day" if job.day_of_searching else f"{look_seconds:.0f} s (confirm.look_seconds)"
    return (
        f"An answer was lost. chartpost searches for the record for {how_long} before it sends the document again. "
        "Wait, or look into the chart."
    )


def _when(job: Job) -> str:
    if job.next_at is None or job.step is Step.NONE:
        return ""
    seconds = (job.next_at - datetime.now(UTC)).total_seconds()
    return f", next in {seconds:.0f} s" if seconds >= 1 else ""
