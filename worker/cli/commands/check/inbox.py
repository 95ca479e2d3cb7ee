"""`chartpost check`: files in the inbox that are not accepted, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import click

from worker.cli.commands.check.result import CheckResult, failed, passed
from worker.inbox.filter import Reason
from worker.inbox.scan import scan

REASONS = {
    Reason.HIDDEN: "its name begins with . or ~",
    Reason.UNFINISHED: "its name is that of an unfinished file",
    Reason.OUTCOME_FILE: "it is a receipt or an error file, which came back together with its document",
    Reason.SYSTEM_FILE: "Windows puts it into every folder",
    Reason.NOT_A_REGULAR_FILE: "it is a link or something else that is not a regular file",
    Reason.TOO_DEEP: "it is a folder in a patient's folder; put files into inbox/<account>/<patient id>/",
    Reason.NO_ACCOUNT: "it lies beside the accounts' folders; put it into inbox/<account>/<patient id>/",
    Reason.UNKNOWN_ACCOUNT: "the settings name no such account",
    Reason.UNREADABLE: "it cannot be read; correct its permissions",
}
# Expected in an inbox that people and programs use; the others are documents that would wait for ever.
_EXPECTED = (Reason.HIDDEN, Reason.UNFINISHED, Reason.OUTCOME_FILE, Reason.SYSTEM_FILE)


def check_inbox(
    inbox: Path, accounts: Collection[str], mark: Callable[..., str] | None = None
) -> Iterator[CheckResult]:
    """`mark` gives the pseudonym under which the log names a file, since logs must not hold its name."""
    try:
        ignored = scan(inbox, accounts).ignored
    except FileNotFoundError:
        return
    except OSError as error:
        yield failed("inbox", f"{inbox}: it cannot be read ({error.strerror}).")
        return
    for entry in ignored:
        name = click.format_filename(entry.path)
        in_the_log = f", in the log as {mark('inbox', *entry.path.relative_to(inbox).parts)}" if mark else ""
        message = f"{name} is left alone: {REASONS[entry.reason]}{in_the_log}."
        result = passed if entry.reason in _EXPECTED else failed
        yield result("inbox", message, entry.account or None)
