"""`chartpost check`: what is left in the inbox, and why."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import click

from config.settings import Inbox
from tasks.sources.writers import Method, Writers, sees_all_owners
from worker.cli.commands.check.result import CheckResult, failed, passed
from worker.inbox.filter import EXPECTED, Reason
from worker.inbox.look import look_into
from worker.inbox.scan import Candidate, Ignored

REASONS = {
    Reason.HIDDEN: "its name begins with . or ~",
    Reason.UNFINISHED: "its name is that of an unfinished file, or of a lock",
    Reason.OUTCOME_FILE: "it is a receipt, an error file or a note, which came back together with its document",
    Reason.SYSTEM_FILE: "Windows, macOS or a NAS puts it into every folder",
    Reason.IGNORED_BY_SETTINGS: "inbox.ignore in the settings names it",
    Reason.SYNC_CONFLICT: "a synchronising program made it when two versions met; keep the right one under the "
    "document's own name, and delete the other",
    Reason.SHORTCUT: "it only points at a document; put the document itself there",
    Reason.NOT_A_REGULAR_FILE: "it is a link or something else that is not a regular file; put the file itself there",
    Reason.TOO_DEEP: "it is a folder in a patient's folder; put files into inbox/<account>/<patient id>/",
    Reason.NO_ACCOUNT: "it lies beside the accounts' folders; put it into inbox/<account>/<patient id>/",
    Reason.UNKNOWN_ACCOUNT: "the settings name no such account; correct the folder's name, or add the account to the "
    "settings and run chartpost reload",
    Reason.SIDECAR_ALONE: "it is a sidecar, and no document of its name lies beside it; put the document there, or "
    "delete the sidecar",
    Reason.SIDECAR_MISNAMED: "it looks like a sidecar, and is not called <document>.meta.json; rename it, or move it "
    "away",
    Reason.SIDECAR_IN_DOUBT: "a sidecar that may belong to it has another name than its own and .meta.json",
    Reason.UNREADABLE: "it cannot be read; correct its permissions",
    Reason.FOLDER_NOT_WRITABLE: "it cannot be taken out of its folder; give this user the right to write to the folder",
    Reason.HARD_LINK: "it has a second name elsewhere (a hard link), and this system lets anyone give one to a file "
    "that is not theirs; put a copy there, or set fs.protected_hardlinks to 1",
    Reason.FOLDER_STICKY: "its folder has the sticky bit, so that only the file's owner may move it; take that bit off "
    "the folder (chmod -t)",
    Reason.STILL_CHANGING: "it is still changing; it is taken once it has held still",
    Reason.OPEN_FOR_WRITING: "a program still has it open for writing; it is sent once that program has closed it",
    Reason.INCOMPLETE: "its end is missing; it waits for the rest, and fails as file_incomplete if none comes",
    Reason.EARLIER_TRY: "an earlier try of the same document is on its way; chartpost jobs shows it",
    Reason.NAME_TOO_LONG: "its name is too long for the disk; shorten it",
    Reason.NOT_CLAIMED: "the system does not let it be moved; the watcher's log has the system's reason",
    Reason.WAITING: "it has not been taken for more than a minute; see that the watcher runs (chartpost watch, or "
    "chartpost run) and what it logs",
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
# Most often a moment in a sender's work.
_TAKES_ITS_TIME = (Reason.STILL_CHANGING, Reason.OPEN_FOR_WRITING, Reason.INCOMPLETE)
_MOST_EXPECTED = 10  # of one kind; the others are only counted


def check_inbox(
    inbox: Path,
    accounts: Collection[str],
    settings: Inbox,
    writers: Writers,
    mark: Callable[..., str] | None = None,
    is_tried_already: Callable[[Candidate], bool] = lambda _: False,
    lasting: Collection[tuple[str, str]] = (),
    now: Callable[[], float] = time.time,
) -> Iterator[CheckResult]:
    """`mark` gives the pseudonym under which the log names a file, since logs must not hold its name.

    `lasting` are the (account, reason) for which the watcher has seen files left for more than a minute. A look from
    here cannot tell those that take their time from files that have only just come.
    """
    try:
        left = look_into(inbox, accounts, settings, writers, is_tried_already=is_tried_already, now=now)
    except FileNotFoundError:
        return
    except OSError as error:
        yield failed("inbox", f"{inbox}: it cannot be read ({error.strerror}).")
        return
    listed: Counter[tuple[str, Reason]] = Counter()
    for entry in left:
        listed[entry.account, entry.reason] += 1
        if entry.reason not in EXPECTED or listed[entry.account, entry.reason] <= _MOST_EXPECTED:
            name = click.format_filename(entry.path)
            in_the_log = f", in the log as {mark('inbox', *entry.path.relative_to(inbox).parts)}" if mark else ""
            just_came = entry.reason in _TAKES_ITS_TIME and (entry.account, entry.reason) not in lasting
            result = passed if entry.reason in EXPECTED or just_came else failed
            yield result("inbox", f"{name} is left alone: {sentence(entry)}{in_the_log}.", entry.account or None)
    for (account, reason), count in listed.items():
        if reason in EXPECTED and count > _MOST_EXPECTED:
            message = f"{count - _MOST_EXPECTED} more are left alone for the same reason: {REASONS[reason]}."
            yield passed("inbox", message, account or None)


def sentence(entry: Ignored) -> str:
    """Why an entry is left, with the right names of sidecars."""
    names = " or ".join(click.format_filename(name) for name in entry.beside)
    if names and entry.reason is Reason.SIDECAR_MISNAMED:
        return f"it looks like a sidecar; if it is one, rename it to {names}, else give it another name"
    if names and entry.reason is Reason.SIDECAR_IN_DOUBT:
        right_name = click.format_filename(entry.path.name + ".meta.json")
        return f"beside it lies {names}; if that is its sidecar, rename it to {right_name}, else move it away"
    return REASONS[entry.reason]


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
