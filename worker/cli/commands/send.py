"""`chartpost send`: one file into our care, and if wanted its way to the receipt."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from worker.cli.context import Context, pass_context
from worker.cli.output import json_option, note, print_json, print_sheet
from worker.cli.params import Option, Said, check_account

if TYPE_CHECKING:
    from tasks.folders.claims import ClaimedDocument
    from tasks.folders.job_json import JobFile
    from tasks.model.errors import DocumentRefused
    from tasks.model.job import Job
    from tasks.runtime import Runtime


@dataclass(frozen=True)
class Parcel:
    """What one call asks to be sent."""

    file: Path
    account: str
    patient_id: str | None
    description: str | None
    options: Mapping[str, Any]

    def job_file(self, job_id: str) -> JobFile:
        from tasks.folders.disk_names import clean
        from tasks.folders.job_json import JobFile
        from tasks.model.document import Door

        return JobFile(
            job_id=job_id,
            account=self.account,
            patient_id=self.patient_id,
            file_name=clean(self.file.name),
            disk_name=self.file.name,
            size_bytes=self.file.stat().st_size,
            received_at=datetime.now(UTC),
            door=Door.SEND,
            description=self.description,
            options=self.options,
        )


@click.command
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--account", required=True, help="The account to send it to.")
@click.option("--patient", type=Said(), help="The patient's id; @FILE or @- reads it.")
@click.option("--description", type=Said(), help="What it is; @FILE or @- reads it.")
@click.option("--option", "options", type=Option(), multiple=True, help="One of the document's options; k=@FILE too.")
@click.option("--wait", is_flag=True, help="Wait until it is delivered or has failed, and print the receipt.")
@json_option
@pass_context
def send(
    context: Context,
    file: Path,
    account: str,
    patient: str | None,
    description: str | None,
    options: tuple[tuple[str, Any], ...],
    wait: bool,
    as_json: bool,
) -> None:
    """Copy one FILE into our care and enqueue it; it ends in delivered/ or failed/."""
    check_account(context, account)
    parcel = Parcel(file, account, patient, description, _each_once(options))
    from tasks.model.errors import DocumentRefused

    try:
        job_id = take(context.runtime, parcel)
    except DocumentRefused as refusal:
        if not as_json:
            raise
        print_json(_refused(parcel, refusal))
        raise SystemExit(1) from refusal
    if wait:
        wait_for_end(context.runtime, job_id, as_json=as_json)
    else:
        say_taken(context.runtime, job_id, as_json=as_json)


def take(runtime: Runtime, parcel: Parcel) -> str:
    """Copy the file into our care and open its job; returns the job's id. Raises DocumentRefused and OSError.

    The same document as one whose outcome is still open continues that one's job.
    """
    from tasks.folders.claims import ClaimedDocument
    from worker.inbox.build import inbox_claims, job_opener

    job_file = parcel.job_file(str(uuid4()))
    _check(runtime, parcel.file, job_file)
    runtime.redis.ping()  # rather than find out when the copy is made
    path = runtime.claims.adopt_copy(parcel.file, job_file.job_id, job_file)
    earlier = job_opener(runtime).earlier_job(job_file, path)
    held = _joined(runtime, job_file, path, earlier) if earlier else None
    if held is None:
        held = ClaimedDocument(job_file.job_id, runtime.folders.read_job_file(job_file.job_id), path, None)
    inbox_claims(runtime).recover(held)
    return held.job_id


def _joined(runtime: Runtime, job_file: JobFile, path: Path, earlier: str) -> ClaimedDocument | None:
    """The copy in the earlier job's folder; None if that has a document of its own again."""
    from tasks.folders.claims import AlreadyInCare, ClaimedDocument

    folders = runtime.folders
    try:
        path = runtime.claims.claim(path, earlier, job_file, continues=True)
    except AlreadyInCare:
        return None
    own = folders.job_folder(job_file.job_id)
    with own.lock():
        own.remove()
    return ClaimedDocument(earlier, folders.read_job_file(earlier), path, None)


def _check(runtime: Runtime, file: Path, job_file: JobFile) -> None:
    """Refuse what can be refused before anything is copied. Raises DocumentRefused."""
    from tasks.model.names import check_file_name, check_patient_id
    from tasks.sources.base import empty, irregular

    check_patient_id(job_file.patient_id)
    check_file_name(job_file.file_name)
    if not stat.S_ISREG(file.stat().st_mode):
        raise irregular("a pipe or a device")
    if not job_file.size_bytes:
        raise empty()
    runtime.accounts[job_file.account].provider.check(job_file.document(file.absolute()))


def _each_once(options: tuple[tuple[str, Any], ...]) -> dict[str, Any]:
    named = dict(options)
    if len(named) < len(options):
        raise click.BadParameter("the same option is given twice.", param_hint="--option")
    return named


def say_taken(runtime: Runtime, job_id: str, *, as_json: bool) -> None:
    """Print the job's id, or what has become of it at once."""
    job = runtime.ledger.get(job_id)
    if job and job.failure:
        _end(job, as_json=as_json)
    elif as_json and job:
        from tasks.closing.receipts import fields_of

        print_json(fields_of(job))
    else:
        click.echo(job_id)
        note(f"It is on its way; look with: chartpost show {job_id}")


def wait_for_end(runtime: Runtime, job_id: str, *, as_json: bool) -> None:
    """Wait for a job's end, and print its receipt; exit with 1 for its error."""
    from worker.cli.progress import wait_for

    try:
        job = wait_for(runtime, job_id)
    except KeyboardInterrupt:
        note(f"It goes on without us; look with: chartpost show {job_id}")
        raise SystemExit(1) from None
    _end(job, as_json=as_json)


def _end(job: Job, *, as_json: bool) -> None:
    """Print the receipt; or the error, and exit with 1."""
    from tasks.closing.receipts import written
    from tasks.model.route import Stage

    ending = written(job)
    if job.stage is Stage.DELIVERED:
        print_sheet(ending, as_json=as_json)
        return
    if as_json:
        print_json(ending)
    else:
        note(f"Error: {ending['code']}: {ending['message']} {ending['hint']}".rstrip())
        note(f"The whole of it: chartpost show {job.id}")
    raise SystemExit(1)


def _refused(parcel: Parcel, refusal: DocumentRefused) -> dict[str, Any]:
    """What would have become the error file of a document that was not even taken."""
    return {
        "job_id": None,
        "account": parcel.account,
        "patient_id": parcel.patient_id,
        "file_name": parcel.file.name,
        "state": "failed",
        "code": refusal.code,
        "message": refusal.message,
        "hint": refusal.hint,
    }
