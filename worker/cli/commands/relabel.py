"""`chartpost relabel`: replaces the security labels of a document that the provider has."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import click

from tasks.intake.producers import Producer
from tasks.intake.relabeling import RelabelAdmission, relabeling_of
from tasks.intake.requests import read_relabel_request
from tasks.model.document import Door
from tasks.model.errors import DocumentRefused
from worker.cli.context import Context, pass_context
from worker.cli.output import Output, output_option
from worker.cli.params import TextOrFile
from worker.cli.progress import JobProgress, print_accepted, print_end
from worker.cli.startup import open_runtime


class LabelText(click.ParamType[Any]):
    """`SYSTEM|CODE[|DISPLAY]`, as an item of the field `labels` of a relabel request; further codings after `||`."""

    name = "system|code[|display][||system|code...]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        first, *further = (self._coding(text, param, ctx) for text in str(value).split("||"))
        return {**first, "further": further} if further else first

    def _coding(self, text: str, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, Any]:
        parts = text.split("|")
        if len(parts) not in (2, 3) or not (parts[0].strip() and parts[1].strip()):
            self.fail(
                "A label is written SYSTEM|CODE, or SYSTEM|CODE|DISPLAY; further codings of it follow after ||.",
                param,
                ctx,
            )
        return {name: part for name, part in zip(("system", "code", "display"), parts, strict=False) if part}


@click.command
@click.option("--account", required=True, help="The account that the document belongs to.")
@click.option(
    "--document", required=True, type=TextOrFile(), help="The document's id at the provider; @FILE or @- reads it."
)
@click.option("--label", "labels", type=LabelText(), multiple=True, required=True, help="One of the new labels.")
@click.option("--allow-unblock", is_flag=True, help="Allow labels without NORS, which blocks a document.")
@click.option(
    "--payload", type=click.Choice(["resource", "json-patch"]), default="resource", help="How the change is written."
)
@click.option("--wait", is_flag=True, help="Wait until the labels are set or have failed, and print the receipt.")
@output_option
@pass_context
def relabel(
    context: Context,
    account: str,
    document: str,
    labels: tuple[dict[str, str], ...],
    allow_unblock: bool,
    payload: str,
    wait: bool,
    output: Output,
) -> None:
    """Replace all security labels of a document.

    The new list replaces the old one as a whole: a document whose new list lacks NORS can be read again.
    """
    runtime = open_runtime(context)
    fields = {
        "account": account,
        "document_id": document,
        "labels": list(labels),
        "payload": payload,
        "allow_unblock": allow_unblock,
    }
    job_id = _open_job(runtime.relabel_admission, runtime.producers.everybody, fields)
    if wait:
        progress = JobProgress(runtime.ledger, runtime.accounts, runtime.account_statuses, runtime.workers)
        print_end(progress.wait(job_id), output)
    else:
        print_accepted(runtime.ledger, job_id, output)


def _open_job(admission: RelabelAdmission, operator: Producer, fields: dict[str, Any]) -> str:
    """Open the job; returns its id. Raises UsageError (exit code 2), and opens nothing, for labels that cannot be set.

    A service's faulty call becomes a failed job, for its records. A person at a terminal needs only the sentence.
    """
    try:
        request = read_relabel_request(fields)
        admission.admit(request, relabeling_of(request, Door.COMMAND, operator), operator)
    except DocumentRefused as refusal:
        raise click.UsageError(f"{refusal.message} {refusal.hint}".rstrip()) from None
    return admission.open_call(str(uuid4()), fields, operator, Door.COMMAND).job_id
