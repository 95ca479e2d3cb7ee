"""`chartpost dismiss`: a person has dealt with failures, and they need no attention any more."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from tasks.ledger import moves
from tasks.model.job import Job, Statement
from tasks.model.route import Stage
from tasks.model.times import iso
from tasks.runtime import Runtime
from worker.cli.context import Context, pass_context
from worker.cli.job_search import AmbiguousJob, Match, job_search
from worker.cli.output import note as say
from worker.cli.params import by_option, note_option, person
from worker.cli.startup import open_runtime


@click.command
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@by_option
@note_option
@pass_context
def dismiss(context: Context, jobs: tuple[str, ...], by: str | None, note: str | None) -> None:
    """Record that failures have been dealt with.

    They leave the list of failures, and what counts those that need attention. The documents stay where they are, and
    can still be sent again. JOB is an id, six characters or more of one, or a file, as `chartpost show` takes it. If
    one of them fits several jobs, nothing is done.
    """
    runtime = open_runtime(context)
    search, failures, found = job_search(runtime), 0, dict[str, Match]()
    # All of them first: one that is ambiguous must leave every job as it is.
    for name in jobs:
        try:
            found[name] = search.only(name)
        except AmbiguousJob:
            raise
        except click.ClickException as error:
            failures += 1
            say(f"{name}: {error.message}")
    dismissal = Statement(by or person(), datetime.now(UTC), note or "")
    for name, match in found.items():
        try:
            told = dismiss_job(runtime, match.job, dismissal) if match.job else _on_disk(runtime, match, dismissal)
        except click.ClickException as error:
            failures += 1
            say(f"{name}: {error.message}")
        else:
            click.echo(f"{name}: dismissed")
            if told:
                say(f"{name}: {told}")
    if failures:
        raise SystemExit(1)


def dismiss_job(runtime: Runtime, job: Job, dismissal: Statement) -> str:
    """Returns what else there is to say. Raises ClickException. One that was dismissed before stays as it is."""
    if job.stage not in (Stage.FAILED, Stage.CANCELLED):
        raise click.ClickException(f"only a failure can be dismissed; this job is {job.stage}.")
    if job.dismissal:
        return f"it was dismissed before, by {job.dismissal.by}."
    if "files" not in job.closed:
        raise click.ClickException("it is still being closed; try again in a moment.")
    if runtime.ledger.take_over(job, moves.dismissed(dismissal)) != "ok":
        raise click.ClickException(f"it has changed meanwhile: see `chartpost show {job.id}`.")
    now = runtime.ledger.get(job.id)
    if now and now.dismissal and job.document.door.has_folder and not runtime.document_files().tell_of_dismissal(now):
        return "its error file does not lie in failed/ on this machine, and does not say so."
    return ""


def _on_disk(runtime: Runtime, match: Match, dismissal: Statement) -> str:
    """Of a job that has left Redis. Raises ClickException."""
    found = match.on_disk
    if found is None or found.delivered or not found.believed:
        raise click.ClickException("only a failure can be dismissed, and nothing proves that it is one.")
    if found.content.get("dismissed"):
        return "it was dismissed before."
    told = {"dismissed": {"by": dismissal.by, "at": iso(dismissal.at), "note": dismissal.note}}
    account, patient_id = str(found.content["account"]), found.content.get("patient_id")
    if not runtime.outcomes.tell(found.job_id, account, patient_id, told):
        raise click.ClickException("its error file is not where it was written.")
    return ""
