"""`chartpost retry`: failed documents are sent again, one, some, or all of a kind."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import click

from tasks.model.errors import Code
from tasks.runtime import Runtime
from worker.cli.commands.retry.failed_documents import FailedDocuments, NotRetried
from worker.cli.commands.retry.hopeless import Hopeless, summary
from worker.cli.commands.retry.retries import Retries
from worker.cli.commands.retry.targets import Target, TargetSearch
from worker.cli.context import Context, pass_context
from worker.cli.job_search import job_search
from worker.cli.output import Output, note, output_option
from worker.cli.startup import open_runtime
from worker.inbox.build import inbox_claims, job_opener

_COLUMNS = ("id", "account", "code", "outcome")


@click.command
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--all", "everything", is_flag=True, help="All that have failed; cancelled ones only by their code.")
@click.option("--account", help="With --all: only this account's.")
@click.option("--code", type=click.Choice([str(code) for code in Code]), help="With --all: only those with this code.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--send-again", is_flag=True, help="Send at once even if the earlier outcome is unknown.")
@click.option("--as-it-is", is_flag=True, help="Send them even if their end is missing.")
@click.option("--even-hopeless", is_flag=True, help="With --all: also those that must fail again, or were dismissed.")
@output_option
@pass_context
def retry(
    context: Context,
    jobs: tuple[str, ...],
    everything: bool,
    account: str | None,
    code: str | None,
    dry_run: bool,
    send_again: bool,
    as_it_is: bool,
    even_hopeless: bool,
    output: Output,
) -> None:
    """Send failed documents again.

    Also those whose jobs have left Redis. A document whose earlier outcome is unknown is searched for first. With
    --send-again it is sent at once, and the chart may then hold it twice. With --as-it-is a document is sent although
    it failed as file_incomplete. --all leaves out what must fail again as it is, such as an empty file, and what was
    dismissed, unless --even-hopeless is said. JOB is an id, six characters or more of one, or a file, as
    `chartpost show` takes it; if one of them fits several jobs, nothing is done.
    """
    if bool(jobs) == everything:
        raise click.UsageError("Name the jobs, or say --all.")
    if (account or code or even_hopeless) and not everything:
        raise click.UsageError("--account, --code and --even-hopeless go with --all.")
    runtime = open_runtime(context)
    search = TargetSearch(runtime.ledger, runtime.queries, runtime.outcomes, job_search(runtime))
    retries = retries_of(runtime)
    failures: list[Target] = []

    def row(target: Target) -> dict[str, Any]:
        try:
            plan = retries.plan(target, send_again=send_again, as_it_is=as_it_is)
            if dry_run:
                retries.rehearse(plan)
            else:
                retries.carry_out(plan)
            action = "searched for first" if plan.search_first else "sent again"
            outcome = f"would be {action}" if dry_run else f"is {action}"
        except NotRetried as reason:
            failures.append(target)
            outcome = f"not sent again: {reason}"
        return {"id": target.job_id, "account": target.account, "code": target.code, "outcome": outcome}

    targets: Iterable[Target] = search.all_failed(account, code) if everything else search.named(jobs)
    left_out: list[str] = []
    if everything and targets and not even_hopeless:
        hopeless = Hopeless(runtime, as_it_is=as_it_is, send_again=send_again)
        reasons = [(target, hopeless.why(target)) for target in targets]
        targets = [target for target, why in reasons if not why]
        left_out = [why for _, why in reasons if why]
    output.rows(_COLUMNS, map(row, targets))
    if not targets and not left_out:
        note("No document has failed in that way.")
    if left_out:
        note(summary(left_out))
    if failures:
        raise SystemExit(1)


def retries_of(runtime: Runtime, *, closing_seconds: float = 5.0) -> Retries:
    """Builds `Retries`. `closing_seconds` is how long it waits for a file that is being moved to failed/."""
    claims = inbox_claims(runtime)
    failed_documents = FailedDocuments(
        folders=runtime.folders,
        claims=runtime.claims,
        outcomes=runtime.outcomes,
        staging=runtime.staging,
        opener=job_opener(runtime),
        inbox_claims=claims,
    )
    return Retries(
        runtime.ledger,
        runtime.accounts,
        runtime.producers,
        runtime.documents,
        failed_documents,
        claims,
        closing_seconds,
    )
