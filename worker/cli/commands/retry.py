"""`chartpost retry`: failed documents once more, one, some or all of a kind."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from tasks.model.errors import Code
from worker.cli.context import Context, pass_context
from worker.cli.output import json_option, note, print_rows

if TYPE_CHECKING:
    from tasks.folders.claims import ClaimedDocument
    from tasks.model.document import Document
    from tasks.model.job import Job
    from tasks.runtime import Runtime
    from worker.cli.lookup import Departed

_CLOSING_SECONDS = 5.0
_COLUMNS = ("id", "account", "code", "outcome")
_UNCERTAIN = (Code.NOT_CONFIRMED, Code.OUTCOME_UNKNOWN)
_NOT_SENT: dict[str, Any] = {
    "committed": False,
    "unknown_since": None,
    "snapshot": None,
    "key": None,
    "provider_facts": {},
}


class NotRetried(Exception):
    """Why a document is not sent again."""


@dataclass(frozen=True)
class Target:
    """A document to be sent again: its job, or what that left on disk when it left Redis."""

    job_id: str
    job: Job | None = None
    departed: Departed | None = None

    @property
    def account(self) -> str | None:
        return self.job.account if self.job else self.departed.content.get("account") if self.departed else None

    @property
    def code(self) -> str | None:
        return self.job.code if self.job else self.departed.content.get("code") if self.departed else None


@click.command
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option("--all", "everything", is_flag=True, help="All that have failed; cancelled ones only by their code.")
@click.option("--account", help="With --all: only this account's.")
@click.option("--code", type=click.Choice([str(code) for code in Code]), help="With --all: only those with this code.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and do nothing.")
@click.option("--send-again", is_flag=True, help="Send at once even where the first sending's outcome is not known.")
@json_option
@pass_context
def retry(
    context: Context,
    jobs: tuple[str, ...],
    everything: bool,
    account: str | None,
    code: str | None,
    dry_run: bool,
    send_again: bool,
    as_json: bool,
) -> None:
    """Send failed documents again, also those whose jobs have left Redis.

    A document whose outcome is not known is looked for first; --send-again sends it at once, and the chart may then
    hold it twice.
    """
    if bool(jobs) == everything:
        raise click.UsageError("Name the jobs, or say --all.")
    if (account or code) and not everything:
        raise click.UsageError("--account and --code go with --all.")
    targets = _all(context.runtime, account, code) if everything else (_named(context.runtime, name) for name in jobs)
    again = Again(context.runtime, send_again=send_again, dry_run=dry_run)
    print_rows(_COLUMNS, again.rows(targets), as_json=as_json)
    if not again.count:
        note("No document has failed in that way.")
    if again.failed:
        raise SystemExit(1)


class Again:
    """Sends documents again, and counts those that it could not."""

    def __init__(self, runtime: Runtime, *, send_again: bool, dry_run: bool) -> None:
        self._runtime = runtime
        self._send_again = send_again
        self._dry_run = dry_run
        self.count = 0
        self.failed = 0

    def rows(self, targets: Iterator[Target]) -> Iterator[dict[str, Any]]:
        for target in targets:
            self.count += 1
            try:
                outcome = self._one(target)
            except NotRetried as reason:
                self.failed += 1
                outcome = f"not sent again: {reason}"
            yield {"id": target.job_id, "account": target.account, "code": target.code, "outcome": outcome}

    def _one(self, target: Target) -> str:
        _check(self._runtime, target)
        looks = self._looks_first(target)
        job = target.job if target.job and not target.job.document.door.has_folder else None
        document = _located(self._runtime, job.document) if job else None
        if self._dry_run:
            return "would look first" if looks else "would be sent again"
        if job and document:
            self._move(job, document, looks=looks)
        else:
            self._reopen(target, looks=looks)
        return "looks first" if looks else "is sent again"

    def _looks_first(self, target: Target) -> bool:
        """Until it has been looked for during a day, a document that may have arrived is not simply sent."""
        from tasks.model.job import still_reconciling

        if self._send_again or target.code not in _UNCERTAIN:
            return False
        if target.job:
            return target.code == Code.OUTCOME_UNKNOWN or still_reconciling(target.job)
        return True

    def _reopen(self, target: Target, *, looks: bool) -> None:
        """Bring the document back from failed/, then its job."""
        from worker.inbox.build import inbox_claims, job_opener

        claims = inbox_claims(self._runtime)
        held = self._held(target)
        if target.job is None:
            claims.recover(held)
            return
        with _reasons():
            held = claims.reread_sidecar(held)
            _, document = job_opener(self._runtime).locate(held.job_file, held.document)
        self._move(target.job, document, looks=looks)

    def _held(self, target: Target) -> ClaimedDocument:
        folders, job = self._runtime.folders, target.job
        if job:
            _wait_until_closed(self._runtime, job)
            patient_id: str | None = job.document.patient_id
        else:
            patient_id = target.departed.content.get("patient_id") if target.departed else None
        self._check_sidecar(target, patient_id)
        try:
            held = self._runtime.claims.reopen_failed(target.job_id, target.account or "", patient_id)
        except FileNotFoundError:
            raise NotRetried("its file is not in failed/ here; put it into the inbox instead.") from None
        if not self._send_again:
            return held
        if self._runtime.staging:
            self._runtime.staging.remove(target.job_id)
        return replace(held, job_file=folders.update_job_file(target.job_id, **_NOT_SENT))

    def _check_sidecar(self, target: Target, patient_id: str | None) -> None:
        """A sidecar that is still faulty leaves its document where it is: it would go out without what it asks for."""
        from worker.inbox.sidecar import Sidecar

        place = self._runtime.outcomes.find_error_file(target.job_id, target.account or "", patient_id)
        if place and place.sidecar.exists():
            with _reasons():
                Sidecar.read(place.sidecar)

    def _move(self, job: Job, document: Document, *, looks: bool) -> None:
        ledger, first = self._runtime.ledger, self._runtime.route(document).first
        again = ledger.retry_reconciling if looks else ledger.retry
        why = again(job, document, first=first)
        now = ledger.get(job.id) if why == "moved" else None
        if why != "ok" and (now is None or now.stage.final):
            raise NotRetried("somebody else has changed it meanwhile; look at it, then repeat the command.")


def _check(runtime: Runtime, target: Target) -> None:
    """Raises NotRetried for what has not failed, and for what nobody could send."""
    from tasks.model.route import Stage

    if target.job is None and target.departed is None:
        raise NotRetried("no such job is known.")
    delivered = target.job.stage is Stage.DELIVERED if target.job else target.departed and target.departed.delivered
    if delivered:
        raise NotRetried("it has arrived.")
    if target.job and not target.job.stage.final:
        raise NotRetried("it is still on its way.")
    if target.account not in runtime.accounts:
        raise NotRetried("the settings do not name its account any more.")


def _located(runtime: Runtime, document: Document) -> Document:
    """The document as it lies at its sender's now; a relabeling has none. Raises NotRetried."""
    if document.relabeling:
        return document
    with _reasons():
        found = runtime.sources.locate(document.source)
    return replace(document, size_bytes=found.size_bytes, identity=found.identity)


@contextmanager
def _reasons() -> Iterator[None]:
    """Why a source cannot be read, as NotRetried."""
    from tasks.model.errors import DocumentRefused, RetryLater

    try:
        yield
    except DocumentRefused as refusal:
        raise NotRetried(f"{refusal.message} {refusal.hint}".strip()) from None
    except RetryLater as error:
        raise NotRetried(str(error)) from None


def _wait_until_closed(runtime: Runtime, job: Job) -> None:
    """Its file must have come to failed/ before it can come back. Raises NotRetried."""
    until = time.monotonic() + _CLOSING_SECONDS
    found: Job | None = job
    while found and "files" not in found.closed:
        if time.monotonic() > until:
            raise NotRetried("it is still being moved to failed/; try again in a moment.")
        time.sleep(0.1)
        found = runtime.ledger.get(job.id)


def _named(runtime: Runtime, name: str) -> Target:
    from worker.cli.lookup import find_departed, find_job

    job = find_job(runtime, name)
    if job:
        return Target(job.id, job)
    departed = find_departed(runtime.folders, name)
    return Target(departed.job_id if departed else name, departed=departed)


def _all(runtime: Runtime, account: str | None, code: str | None) -> Iterator[Target]:
    """All that have failed: as a list first, since what is sent again is on its way at once."""
    from tasks.ledger.queries import Wanted

    state = "cancelled" if code == Code.CANCELLED else "failed"
    wanted = Wanted(state, account, code)
    targets = [Target(job.id, job) for job in runtime.queries.jobs(wanted)]
    return iter([*targets, *_all_departed(runtime, wanted)])


def _all_departed(runtime: Runtime, wanted: Any) -> Iterator[Target]:
    from worker.cli.lookup import Departed

    for place, said in runtime.outcomes.error_files():
        if wanted.fits(said.get("state"), said.get("account"), said.get("code")):
            job_id = said["job_id"]
            if not runtime.ledger.known(job_id):
                yield Target(job_id, departed=Departed(job_id, place, said))
