"""The demo's last words: what arrived, what did not and why, and where to read on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from textwrap import indent

from rich.console import Console
from rich.text import Text

from tasks.model.document import Door
from worker.demo.expectations import Evidence, companion_path, read_companion
from worker.demo.scenario import DemoDocument
from worker.demo.workspace import KEPT_RUNS, Workspace

_RECEIPT = ("job_id", "assurance", "sha256", "record", "stored", "attempts")
_ERROR_FILE = ("job_id", "code", "message", "hint", "attempts", "stage", "final")


def print_summary(
    console: Console,
    workspace: Workspace,
    documents: Sequence[DemoDocument],
    evidence: Evidence,
    shortcomings: Sequence[str],
) -> None:
    def say(words: str = "", style: str = "") -> None:
        console.print(Text(words, style=style), soft_wrap=True)  # one piece, so that a path can be copied

    delivered = [document for document in documents if not document.fails_with]
    failed = [document for document in documents if document.fails_with]
    say()
    if shortcomings:
        say("✘ Not everything ended as the demo expects:", "bold red")
        for shortcoming in shortcomings:
            say(f"    {shortcoming}", "red")
        say(f"    The logs are in {workspace.logs}")
    else:
        say(f"✔ {len(delivered)} of {len(documents)} documents were delivered, each exactly once.", "bold green")
        say("    The sandbox's charts hold these and no others, byte for byte (SHA-256).")
        if failed:
            say(f"✘ {len(failed)} failed, as expected; in failed/, beside the reason:", "bold yellow")
        for document in failed:
            job = evidence.jobs[document.key]
            say(f"    {document.file_name}: {job.code}. {job.message}")
    for what, ended, fields in (("A receipt", delivered, _RECEIPT), ("An error file", failed, _ERROR_FILE)):
        example = next((each for each in ended if each.door is Door.INBOX), None)
        if example:
            path = companion_path(example, workspace.data)
            content = read_companion(path)
            shortened = {name: content.get(name) for name in fields}
            say(f"\n{what}, shortened: {path.relative_to(workspace.data)}", "bold")
            say(indent(json.dumps(shortened, indent=2, ensure_ascii=False), "    "))
    say(f"\nLook around: {workspace.data}", "bold")
    say("    delivered/ and failed/ hold the documents, with receipts and error files beside them.")
    say(f"    Settings and logs are one folder up. The last {KEPT_RUNS} runs are kept.")
    say("Read next: README.md; sandbox/README.md has what else can go wrong here.", "bold")
