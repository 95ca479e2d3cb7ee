"""`chartpost jobs` and `chartpost show`: what is where, and why."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tasks.model.errors import Code
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from worker.cli.context import Context, pass_context
from worker.cli.output import json_option, print_rows, print_sheet

if TYPE_CHECKING:
    from tasks.runtime import Runtime
    from worker.cli.lookup import Departed, Rejected

COLUMNS = ("id", "account", "state", "code", "patient_id", "file_name", "created_at", "message")


@click.command
@click.option("--state", type=click.Choice([str(stage) for stage in Stage]), help="Only those in this state.")
@click.option("--account", help="Only this account's.")
@click.option("--code", type=click.Choice([str(code) for code in Code]), help="Only those with this code.")
@json_option
@pass_context
def jobs(context: Context, state: str | None, account: str | None, code: str | None, as_json: bool) -> None:
    """List the jobs that Redis knows, in the order in which they came in."""
    from tasks.closing.receipts import fields_of
    from tasks.ledger.queries import Wanted

    runtime = context.runtime
    found = (fields_of(job) for job in runtime.queries.jobs(Wanted(state, account, code)))
    print_rows(COLUMNS, found, as_json=as_json)


@click.command
@click.argument("job")
@json_option
@pass_context
def show(context: Context, job: str, as_json: bool) -> None:
    """Show one JOB with its receipt or error: by its id, or by the id of its stream entry."""
    from worker.cli.lookup import find_departed, find_job, find_rejected, not_found

    runtime = context.runtime
    found = find_job(runtime, job)
    if found:
        _print(_shown(runtime, found), as_json=as_json)
    elif rejected := find_rejected(runtime, job):
        _print(_shown_rejected(rejected), as_json=as_json)
    elif departed := find_departed(runtime.folders, job):
        _print(_shown_departed(departed), as_json=as_json)
    else:
        raise not_found(job)


def _print(shown: dict[str, Any], *, as_json: bool) -> None:
    """People need not read twice what the job's own lines have said."""
    if not as_json:
        for ending in ("receipt", "error"):
            said = shown[ending] or {}
            shown[ending] = {name: value for name, value in said.items() if name not in (*shown, "job_id")}
    print_sheet(shown, as_json=as_json)


def _shown(runtime: Runtime, job: Job) -> dict[str, Any]:
    from tasks.closing.receipts import fields_of, receipt_or_error_file

    ending = receipt_or_error_file(job) if job.stage.final else None
    delivered = job.stage is Stage.DELIVERED
    return fields_of(job) | {
        "receipt": ending if delivered else None,
        "error": None if delivered else ending,
        "next": _next(runtime, job),
    }


def _shown_rejected(rejected: Rejected) -> dict[str, Any]:
    return rejected.fields() | {
        "receipt": None,
        "error": {"entry": rejected.entry, "sent": rejected.message},
        "next": "No job was opened: correct the message and add it to the stream again.",
    }


def _shown_departed(departed: Departed) -> dict[str, Any]:
    said = {name: value for name, value in departed.content.items() if name != "job_file"}
    again = f"{said.get('hint') or ''} `chartpost retry {departed.job_id}` sends it again.".strip()
    return departed.fields() | {
        "receipt": said if departed.delivered else None,
        "error": None if departed.delivered else said,
        "next": "Nothing: it has arrived, and has left Redis." if departed.delivered else again,
    }


def _next(runtime: Runtime, job: Job) -> str:
    """What happens now, and what to do if that is not enough."""
    if job.stage is Stage.DELIVERED:
        return "Nothing: it has arrived."
    if job.stage.final:
        return _next_after_failure(job)
    account = runtime.accounts.get(job.account)
    if account is None:
        return "The settings do not name its account any more: add it again, or cancel the job."
    health = runtime.account_statuses.health(job.account)
    if health.status != "ok":
        return _next_of_the_unwell(job, health.status, health.reason)
    if job.unknown_since:
        seconds = account.settings.confirm.look_seconds
        for_how_long = "a day" if job.long_reconciliation else f"{seconds:.0f} s (confirm.look_seconds)"
        return (
            f"An answer was not seen: it looks for the record for {for_how_long} before it sends again. "
            "Leave it, or look into the chart."
        )
    if job.earlier_sending_unknown:
        return "An answer was not seen: the same document goes again under the same ids. Leave it."
    holder = runtime.ledger.name_holder(job.document) if job.stage is Stage.RECEIVED else None
    if holder and holder != job.id:
        return f"It waits for another of the same name and patient, whose outcome is open: chartpost show {holder}"
    return f"It goes on by itself{_when(job)}; stop it with `chartpost cancel {job.id}`."


def _next_after_failure(job: Job) -> str:
    hint = job.failure.hint if job.failure else ""
    if "chartpost retry JOB" in hint:  # all that can be done is said; the job's id is missing
        return hint.replace(" JOB", f" {job.id}")
    again = f"`chartpost retry {job.id}` sends it again."
    if job.code in (Code.NOT_CONFIRMED, Code.OUTCOME_UNKNOWN):
        again = (
            f"If it is in the chart: `chartpost resolve {job.id} --delivered`. "
            f"If not: `chartpost retry {job.id}` looks again, with --send-again it sends at once."
        )
    return f"{hint} {again}".strip()


def _next_of_the_unwell(job: Job, status: str, reason: str) -> str:
    waits = f"It waits, since its account is {status}: {reason}"
    if status == "throttled":
        return f"{waits} It goes on by itself."
    return f"{waits} It is tried again by itself; at once with `chartpost accounts resume {job.account}`."


def _when(job: Job) -> str:
    if job.next_at is None or job.step is Step.NONE:
        return ""
    seconds = (job.next_at - datetime.now(UTC)).total_seconds()
    return f", next in {seconds:.0f} s" if seconds >= 1 else ""
