"""Logs why a file is left in the inbox, or a folder in processing/: once per file, and without its name."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import structlog

from config.redaction import crash_site
from tasks.folders.claims import Damaged
from worker.inbox.filter import Reason
from worker.inbox.scan import Candidate, Ignored

log = structlog.get_logger()

_SENDERS_ERRORS = (Reason.UNKNOWN_ACCOUNT, Reason.NO_ACCOUNT, Reason.UNREADABLE)  # a document waits there in vain


class Report:
    """`pseudonym` turns parts of a path, which name patients, into what may be logged instead."""

    def __init__(self, inbox: Path, pseudonym: Callable[..., str]) -> None:
        self._inbox = inbox
        self._pseudonym = pseudonym
        self._ignored: set[tuple[Path, Reason]] = set()
        self._damaged: set[Damaged] = set()
        self._crashed: set[tuple[str, str]] = set()

    def ignored(self, entries: Sequence[Ignored]) -> None:
        """`entries` is everything that the last scan ignored: an entry that goes and comes back is logged again."""
        for entry in entries:
            if (entry.path, entry.reason) not in self._ignored:
                log_ignored = log.warning if entry.reason in _SENDERS_ERRORS else log.info
                pseudonym = self._entry(entry.path)
                log_ignored("inbox_entry_ignored", account=entry.account, entry=pseudonym, reason=entry.reason)
        self._ignored = {(entry.path, entry.reason) for entry in entries}

    def held_back(self, candidate: Candidate, why: Mapping[str, str]) -> None:
        log.warning("document_held_back", account=candidate.account, entry=self._entry(candidate.path), **why)

    def crashed(self, job_id: str, error: Exception) -> None:
        site = crash_site(error)
        if (job_id, site["place"]) not in self._crashed:
            log.error("document_not_recovered", job=job_id, **site)
            self._crashed.add((job_id, site["place"]))

    def damaged(self, folders: Sequence[Damaged]) -> None:
        for folder in folders:
            if folder not in self._damaged:
                log.error("job_folder_not_understood", job=folder.job_id, reason=folder.reason)
                self._damaged.add(folder)

    def _entry(self, path: Path) -> str:
        return self._pseudonym("inbox", *path.relative_to(self._inbox).parts)


def name_of_error(error: OSError) -> str:
    """What the system said, such as ENOSPC. The error's own words quote the path, and so the patient."""
    return errno.errorcode.get(error.errno or 0, type(error).__name__)
