"""`chartpost check`: files in the inbox that are not accepted, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import chain
from pathlib import Path

import click

from tasks.sources.writers import Method, Writers, sees_all_owners
from worker.cli.commands.check.result import CheckResult, failed, passed
from worker.inbox.filter import Reason
from worker.inbox.scan import Ignored, scan
from worker.inbox.wholeness import why_not_whole

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
    Reason.OPEN_FOR_WRITING: "a program still has it open for writing; it is sent once that program has closed it",
    Reason.INCOMPLETE: "its end is missing; it waits for the rest, and fails as file_incomplete if none comes",
}
_WRITERS = {
    Method.LEASE: "Files that are still open for writing are recognised by a read lease.",
    Method.PROC: "Files that are still open for writing are recognised in /proc, as far as this user may look.",
    Method.TIME: "Files that are still being written are recognised by time alone (inbox.settle_seconds).",
}
_OTHER_OWNERS = (
    "Those that belong to other users are recognised by time alone (inbox.settle_seconds), since this process lacks "
    "CAP_LEASE."
)
_OTHER_MACHINES = "Writers on other machines (SMB, NFS) are recognised by time alone (inbox.settle_seconds)."
# Expected in an inbox that people and programs use; the others are documents that would wait for ever.
_EXPECTED = (
    Reason.HIDDEN,
    Reason.UNFINISHED,
    Reason.OUTCOME_FILE,
    Reason.SYSTEM_FILE,
    Reason.OPEN_FOR_WRITING,
    Reason.INCOMPLETE,
)


def check_inbox(
    inbox: Path, accounts: Collection[str], writers: Writers, mark: Callable[..., str] | None = None
) -> Iterator[CheckResult]:
    """`mark` gives the pseudonym under which the log names a file, since logs must not hold its name."""
    try:
        found = scan(inbox, accounts)
        yield from check_writers(inbox, accounts, writers)
    except FileNotFoundError:
        return
    except OSError as error:
        yield failed("inbox", f"{inbox}: it cannot be read ({error.strerror}).")
        return
    waiting = (
        Ignored(path, candidate.account, reason)
        for path, candidate in found.candidates.items()
        if (reason := why_not_whole(path, writers))
    )
    for entry in chain(found.ignored, waiting):
        name = click.format_filename(entry.path)
        in_the_log = f", in the log as {mark('inbox', *entry.path.relative_to(inbox).parts)}" if mark else ""
        message = f"{name} is left alone: {REASONS[entry.reason]}{in_the_log}."
        result = passed if entry.reason in _EXPECTED else failed
        yield result("inbox", message, entry.account or None)


def check_writers(inbox: Path, accounts: Collection[str], writers: Writers) -> Iterator[CheckResult]:
    """How files that are still being written are recognised: in the inbox, and in accounts' folders on other disks."""
    devices = set[int]()
    for account, folder in ((None, inbox), *((account, inbox / account) for account in accounts)):
        if not folder.is_dir() or folder.stat().st_dev in devices:
            continue
        devices.add(folder.stat().st_dev)
        method = writers.method(folder)
        sentences = [_WRITERS[method]]
        if method is Method.LEASE and not sees_all_owners():
            sentences.append(_OTHER_OWNERS)
        if method is not Method.TIME:
            sentences.append(_OTHER_MACHINES)
        yield passed("folders", " ".join(sentences), account)
