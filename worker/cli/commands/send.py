"""`chartpost send`: takes in a copy of one file, and with `--wait` follows it to its receipt."""

from __future__ import annotations

import stat
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import click

from tasks.folders.claims import AlreadyInCare, ClaimedDocument, Claims
from tasks.folders.disk_names import check_is_text, clean
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.ledger.ledger import Ledger
from tasks.model.document import Document, Door
from tasks.model.errors import DocumentRefused
from tasks.model.names import check_file_name, check_patient_id
from tasks.runtime import Runtime
from tasks.sources.base import empty, incomplete, irregular, still_written
from tasks.sources.writers import Writers
from worker.cli.context import Context, pass_context
from worker.cli.dry_run import ask
from worker.cli.output import Output, note, output_option
from worker.cli.params import KeyAndValue, TextOrFile, require_account
from worker.cli.progress import JobProgress, print_accepted, print_end
from worker.cli.startup import open_runtime
from worker.inbox.build import inbox_claims, job_opener
from worker.inbox.claim import InboxClaims
from worker.inbox.opening import JobOpener
from worker.inbox.wholeness import has_writer, missing_end

_WRITER_SECONDS = 1.0


@click.command
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--account", required=True, help="The account to send it to.")
@click.option("--patient", type=TextOrFile(), help="The patient's id; @FILE or @- reads it.")
@click.option("--description", type=TextOrFile(), help="What the document is; @FILE or @- reads it.")
@click.option("--option", "options", type=KeyAndValue(), multiple=True, help="An option of the provider; also k=@FILE.")
@click.option("--as-it-is", is_flag=True, help="Send it even if its end is missing or a program is writing it.")
@click.option(
    "--dry-run", is_flag=True, help="Say what would be refused, also by a provider that can tell; send nothing."
)
@click.option("--wait", is_flag=True, help="Wait until it is delivered or has failed, and print the receipt.")
@output_option
@pass_context
def send(
    context: Context,
    file: Path,
    account: str,
    patient: str | None,
    description: str | None,
    options: tuple[tuple[str, Any], ...],
    as_it_is: bool,
    dry_run: bool,
    wait: bool,
    output: Output,
) -> None:
    """Take in a copy of one FILE and send it.

    The copy ends in delivered/ or failed/; FILE itself stays where it is.
    """
    require_account(context.settings.accounts, account)
    if len(dict(options)) < len(options):
        raise click.BadParameter("the same option is given twice.", param_hint="--option")
    runtime = open_runtime(context)
    sender = sender_of(runtime)
    document = Document(
        account,
        patient,
        source="",
        file_name=clean(file.name),
        size_bytes=file.stat().st_size,
        door=Door.SEND,
        description=description,
        options=dict(options),
        as_it_is=as_it_is,
    )
    if dry_run and wait:
        raise click.UsageError("With --dry-run nothing is sent that could be waited for: leave out --wait.")
    try:
        if dry_run:
            sender.check(file, document)
            output.sheet(ask(runtime.accounts[account].provider, file, document))
            note("Nothing was sent.")
            return
        job_id = sender.take_in(file, document)
    except DocumentRefused as refusal:
        output.error(_error_fields(file, document, refusal))
        raise SystemExit(1) from refusal
    if wait:
        progress = JobProgress(runtime.ledger, runtime.accounts, runtime.account_statuses, runtime.workers)
        print_end(progress.wait(job_id), output)
    else:
        print_accepted(runtime.ledger, job_id, output)


def _error_fields(file: Path, document: Document, refusal: DocumentRefused) -> dict[str, Any]:
    """The refusal in the fields of an error file; no job was opened."""
    return {
        "job_id": None,
        "account": document.account,
        "patient_id": document.patient_id,
        "file_name": file.name,
        "state": "failed",
        "code": refusal.code,
        # The provider's own words, too, as in an error file.
        "message": f"{refusal.message} {refusal.detail}".strip(),
        "hint": refusal.hint,
    }


def sender_of(runtime: Runtime) -> Sender:
    return Sender(
        runtime.ledger, runtime.folders, runtime.claims, job_opener(runtime), inbox_claims(runtime), runtime.writers
    )


class Sender:
    """Takes copies of files into our care and opens their jobs."""

    def __init__(
        self,
        ledger: Ledger,
        folders: Folders,
        claims: Claims,
        opener: JobOpener,
        inbox_claims: InboxClaims,
        writers: Writers,
    ) -> None:
        self._ledger = ledger
        self._folders = folders
        self._claims = claims
        self._opener = opener
        self._inbox_claims = inbox_claims
        self._writers = writers

    def take_in(self, file: Path, document: Document) -> str:
        """Copy the file and open the job of its document; returns the job's id. Raises DocumentRefused and OSError.

        A document that an earlier one of unknown outcome equals continues that one's job.
        """
        # Before the copy is made, which may be large: everything that can be refused or missing.
        job_file = self.check(file, document)
        self._ledger.redis.ping()
        path = self._claims.adopt_copy(file, job_file.job_id, job_file)
        continued = self._opener.continued(job_file, path)
        claimed = self._join(continued, path) if continued else None
        if claimed:
            own = self._folders.job_folder(job_file.job_id)
            with own.lock():
                own.remove()
        if claimed is None:
            # Read back: the copy's own size is in it, should the file have grown meanwhile.
            claimed = ClaimedDocument(job_file.job_id, self._folders.read_job_file(job_file.job_id), path, None)
        # From here on a kill loses nothing: the watcher finds the copy in processing/, and opens its job.
        self._inbox_claims.open_orphan(claimed)
        return claimed.job_id

    def check(self, file: Path, document: Document) -> JobFile:
        """What the job of a file that may be taken in begins with. Raises DocumentRefused for one that may not."""
        job_file = JobFile(str(uuid4()), document, file.name, received_at=datetime.now(UTC))
        check_is_text(job_file.disk_name)
        check_patient_id(job_file.document.patient_id)
        check_file_name(job_file.document.file_name)
        if not stat.S_ISREG(file.stat().st_mode):
            raise irregular("a pipe or a device")
        if not job_file.document.size_bytes:
            raise empty()
        if not job_file.document.as_it_is:
            self._check_whole(file)
        self._opener.check(job_file.document_at(file.absolute()))
        return job_file

    def _check_whole(self, file: Path) -> None:
        """Raises DocumentRefused."""
        # More than once: a program that its writer has just started holds it open for a moment.
        if has_writer(file, self._writers) and not self._is_closed_soon(file):
            raise still_written("Close it there, then send it again; --as-it-is sends what is there now.")
        if found := missing_end(file):
            raise incomplete(found, "Scan or export it again. If it is right as it is, say --as-it-is.")

    def _is_closed_soon(self, file: Path) -> bool:
        deadline = time.monotonic() + _WRITER_SECONDS
        while time.monotonic() < deadline:
            time.sleep(_WRITER_SECONDS / 10)
            if not has_writer(file, self._writers):
                return True
        return False

    def _join(self, continued: JobFile, path: Path) -> ClaimedDocument | None:
        """Move the copy into the earlier job's folder; None if that job has a document there again."""
        try:
            path = self._claims.claim(path, continued.job_id, continued, continues=True)
        except AlreadyInCare:
            return None
        return ClaimedDocument(continued.job_id, self._folders.read_job_file(continued.job_id), path, None)
