"""`chartpost jobs`: the jobs in the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click

from tasks.closing.receipts import fields_of
from tasks.ledger.queries import Wanted
from tasks.ledger_runtime import LedgerRuntime
from tasks.model.errors import Code
from tasks.model.route import Stage
from tasks.model.times import to_ms
from worker.cli.context import Context, pass_context
from worker.cli.open_ledger import open_ledger
from worker.cli.output import Output, note, output_option
from worker.cli.params import ProviderId
from worker.cli.times import Moment, age, local_time, zone_of
from worker.cli.why_waiting import WhyWaiting

if TYPE_CHECKING:
    from worker.cli.table import Column

_COLUMNS = ("id", "account", "state", "code", "patient_id", "file_name", "created_at", "message")
_AT_A_TERMINAL = 50
_STYLES = {"failed": "red", "cancelled": "dim", "delivered": ""}


@click.command
@click.option("--state", type=click.Choice([str(stage) for stage in Stage]), help="Only those in this state.")
@click.option("--account", help="Only this account's.")
@click.option("--code", type=click.Choice([str(code) for code in Code]), help="Only those with this code.")
@click.option(
    "--patient",
    type=ProviderId(),
    help="Only this patient's. @FILE or @- reads the id, so that it stays out of the process list.",
)
@click.option("--since", type=Moment(), help="Only those that came in since: 2026-11-30, 2026-11-30T08:15, 7d, 36h.")
@click.option("--until", type=Moment(whole_day=True), help="Only those that came in before; of a date, that day too.")
@click.option("--unfinished", is_flag=True, help="Only those that have not ended.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many. Without it 50 at a terminal, else all.")
@click.option("--dismissed", is_flag=True, help="Only failures that were dismissed.")
@output_option
@pass_context
def jobs(
    context: Context,
    state: str | None,
    account: str | None,
    code: str | None,
    patient: str | None,
    since: datetime | None,
    until: datetime | None,
    unfinished: bool,
    limit: int | None,
    dismissed: bool,
    output: Output,
) -> None:
    """List the jobs that Redis knows, newest first.

    Those that have ended, if only such are asked for, by when they ended; all others by when they came in.
    With --state failed, failures that were dismissed are left out.
    """
    if unfinished and state and Stage(state).final:
        raise click.UsageError(f"A job that is {state} has ended: leave out --unfinished or --state.")
    runtime = open_ledger(context)
    wanted = Wanted(
        state,
        account,
        code,
        unfinished=unfinished,
        dismissed=dismissed or (False if state == Stage.FAILED else None),
        patients=None if patient is None else _digests(runtime, account, patient),
        since_ms=to_ms(since) if since else None,
        until_ms=to_ms(until) if until else None,
    )
    if not output.at_terminal:
        output.rows(_COLUMNS, _rows(runtime, wanted, limit))
        return
    from worker.cli.table import print_table  # late: it imports rich, which a pipe does not need

    shown = limit or _AT_A_TERMINAL
    rows = list(_rows(runtime, wanted, shown + 1))  # one more tells that there are more
    print_table(_columns(rows[:shown]), rows[:shown])
    if len(rows) > shown:
        note(f"There are more than these {shown}: --limit N shows N.")
    if not rows:
        note("No job fits.")


def _digests(runtime: LedgerRuntime, account: str | None, patient: str) -> frozenset[str]:
    accounts = [account] if account else runtime.queries.accounts()
    return frozenset(runtime.ledger.codec.patient_key(name, patient) for name in accounts)


def _rows(runtime: LedgerRuntime, wanted: Wanted, limit: int | None) -> Iterator[dict[str, Any]]:
    why_waiting = WhyWaiting(runtime)
    for job in runtime.queries.jobs(wanted, limit):
        reason = why_waiting.of(job)
        yield fields_of(job) | ({"message": reason} if reason else {})


def _columns(rows: Sequence[Mapping[str, Any]]) -> list[Column]:
    from worker.cli.table import Column  # late, too

    came = {row["id"]: datetime.fromisoformat(row["created_at"]) for row in rows}
    zone, now, ids = zone_of(came.values()), datetime.now(UTC), _short(list(came))

    def style(row: Mapping[str, Any]) -> str:
        return _STYLES.get(row["state"], "yellow")

    def waits(row: Mapping[str, Any]) -> str:
        return "" if Stage(row["state"]).final else age((now - came[row["id"]]).total_seconds())

    def why(row: Mapping[str, Any]) -> str:
        return ": ".join(filter(None, (row["code"], row["message"])))

    return [
        Column("id", lambda row: ids[row["id"]]),
        Column(f"received {zone}".strip(), lambda row: local_time(came[row["id"]], zone), dispensable=2),
        Column("waits", waits, style=style, right=True),
        Column("account", lambda row: row["account"], flexible=True, least=12, most=24, dispensable=3),
        Column("state", lambda row: row["state"], style=style),
        Column("patient", lambda row: row["patient_id"], flexible=True, least=8, most=16, dispensable=4),
        Column("file", lambda row: row["file_name"], flexible=True, least=12, most=30, dispensable=1),
        Column("why", why, flexible=True, least=14, most=80),
    ]


def _short(ids: Sequence[str]) -> dict[str, str]:
    """The first eight characters of each, or as many more as tell it from the others here."""
    length = 8
    while length < 36 and len({job_id[:length] for job_id in ids}) < len(set(ids)):
        length += 1
    return {job_id: job_id[:length] for job_id in ids}
