"""`chartpost relabel`: the security labels of a document that the provider has, replaced as a whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click

from worker.cli.commands.send import say_taken, wait_for_end
from worker.cli.context import Context, pass_context
from worker.cli.output import json_option
from worker.cli.params import Said

if TYPE_CHECKING:
    from tasks.runtime import Runtime


class LabelText(click.ParamType[Any]):
    """`SYSTEM|CODE[|DISPLAY]`."""

    name = "system|code[|display]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        system, code, *display = value.split("|")[:3] if value.count("|") in (1, 2) else ("", "")
        if not (system.strip() and code.strip()):
            self.fail("A label is written SYSTEM|CODE, or SYSTEM|CODE|DISPLAY.", param, ctx)
        return {"system": system, "code": code} | ({"display": display[0]} if display and display[0] else {})


@click.command
@click.option("--account", required=True, help="The account that the document belongs to.")
@click.option("--document", required=True, type=Said(), help="The document's id at the provider; @FILE or @- reads it.")
@click.option("--label", "labels", type=LabelText(), multiple=True, required=True, help="One of the new labels.")
@click.option("--allow-unblock", is_flag=True, help="The new labels may leave out NORS, which blocks a document.")
@click.option(
    "--payload", type=click.Choice(["resource", "json-patch"]), default="resource", help="How the change is written."
)
@click.option("--wait", is_flag=True, help="Wait until the labels are set or have failed, and print the receipt.")
@json_option
@pass_context
def relabel(
    context: Context,
    account: str,
    document: str,
    labels: tuple[dict[str, str], ...],
    allow_unblock: bool,
    payload: str,
    wait: bool,
    as_json: bool,
) -> None:
    """Replace all security labels of a document that the provider has.

    What is not among the new labels is gone: a document whose list loses NORS can be read again.
    """
    fields = {"account": account, "document_id": document, "labels": list(labels), "payload": payload}
    job_id = _open(context.runtime, fields | {"allow_unblock": allow_unblock})
    if wait:
        wait_for_end(context.runtime, job_id, as_json=as_json)
    else:
        say_taken(context.runtime, job_id, as_json=as_json)


def _open(runtime: Runtime, fields: dict[str, Any]) -> str:
    """Open the job; returns its id. What could never be set is a wrong use of the command: nothing is opened."""
    from tasks.intake.relabeling import relabeling_of
    from tasks.intake.requests import read_relabel_request
    from tasks.model.document import Door
    from tasks.model.errors import DocumentRefused

    try:
        request = read_relabel_request(fields)
        runtime.relabel_admission.admit(request, relabeling_of(request, Door.COMMAND))
    except DocumentRefused as refusal:
        raise click.UsageError(f"{refusal.message} {refusal.hint}".rstrip()) from None
    return runtime.relabel_admission.open_call(str(uuid4()), fields, Door.COMMAND).job_id
