"""Finding the job that a person means: by its id or the beginning of it, by a file of ours, or by a file's name.

An argument that fits several jobs is answered with all of them. A command that changes something takes it for none.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property
from pathlib import Path

import click

from tasks.folders.companions import ClosedDocument
from tasks.folders.disk_names import clean
from tasks.folders.job_json import is_job_id
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.ledger.ledger import Ledger
from tasks.ledger.queries import LedgerQueries, Wanted
from tasks.ledger_runtime import LedgerRuntime
from tasks.model.document import Document
from tasks.model.job import Job
from worker.cli.lookup import JobOnDisk, as_job_id, find_job, find_on_disk, not_found
from worker.cli.printable import printable
from worker.cli.times import local_time

_SHORTEST = 6
_HYPHENS = (8, 13, 18, 23)
_NO_FILE = re.compile(r"([a-z][a-z0-9_]*:)?\d+-\d+")  # an entry of a stream
_LISTED = 20
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class By(Enum):
    """What an argument was taken for."""

    ID = "id"
    FILE = "file"


@dataclass(frozen=True, slots=True)
class Match:
    """A job that an argument may mean: by the ledger, or by what it left on disk when it left Redis."""

    job_id: str
    job: Job | None = None
    on_disk: JobOnDisk | None = None
    # It was found by a companion that does not bear our signature, so that file may name any job.
    believed: bool = True

    @property
    def came(self) -> datetime:
        """When it came in; long ago if a file does not tell."""
        if self.job:
            return self.job.created_at
        try:
            came = datetime.fromisoformat(str(self.on_disk.fields()["created_at"])) if self.on_disk else _LONG_AGO
        except ValueError:
            return _LONG_AGO
        return came if came.tzinfo else _LONG_AGO

    def __str__(self) -> str:
        known = self.on_disk.fields() if self.on_disk else {}
        account = self.job.account if self.job else known.get("account")
        state = str(self.job.stage) if self.job else known.get("state")
        came = "" if self.came == _LONG_AGO else local_time(self.came).strip()
        file_name = self.job.document.file_name if self.job else known.get("file_name")
        return "  ".join(printable(part) for part in (self.job_id, came, account, state, file_name) if part)


class AmbiguousJob(click.ClickException):
    """An argument fits several jobs. Nothing was done."""

    exit_code = 2


class JobSearch:
    """`folders` are made late: most arguments are ids of jobs in Redis."""

    def __init__(self, ledger: Ledger, queries: LedgerQueries, folders: Callable[[], Folders]) -> None:
        self._ledger = ledger
        self._queries = queries
        self._make_folders = folders

    @cached_property
    def _folders(self) -> Folders:
        return self._make_folders()

    @cached_property
    def _outcomes(self) -> Outcomes:
        return Outcomes(self._folders)

    def all(self, name: str) -> tuple[By, list[Match]]:
        """What an argument may mean, the newest first. Raises ClickException for a file that can have no job."""
        if job := find_job(self._ledger, name):
            return By.ID, [Match(job.id, job)]
        if is_job_id(as_job_id(name)):
            on_disk = find_on_disk(self._outcomes, name)
            return By.ID, [Match(on_disk.job_id, on_disk=on_disk, believed=on_disk.believed)] if on_disk else []
        if _NO_FILE.fullmatch(name):
            return By.ID, []
        if _begins_an_id(name) and (found := self._with_prefix(name.lower())):
            return By.ID, found
        if found := self._by_path(name):
            return By.FILE, found
        # Last, since it opens what is sealed of every job.
        return By.FILE, [] if "/" in name else self._by_name(name)

    def only(self, name: str) -> Match:
        """The only job that an argument can mean, for a command that changes something.

        Raises ClickException, and AmbiguousJob for several.
        """
        by, matches = self.all(name)
        if by is By.ID and _begins_an_id(name):
            # One that has left Redis may be meant: of these, only error files lead a person to such a command.
            others = self._error_files_with(name.lower())
            matches = _newest([*matches, *others])
        if not matches:
            raise not_found(name)
        if len(matches) > 1:
            raise ambiguous(name, matches)
        if not matches[0].believed and matches[0].job:
            raise click.ClickException(
                f"{name}: what lies beside it does not bear this installation's signature, so it may name any job. "
                f"If you mean it, say its id: {matches[0].job_id}"
            )
        return matches[0]

    # --- by an id ------------------------------------------------------------------------------------------------

    def _with_prefix(self, prefix: str) -> list[Match]:
        """In Redis; else among the files in failed/ and delivered/."""
        if found := self._in_redis(self._queries.with_prefix(prefix)):
            return found
        return _newest([*self._error_files_with(prefix), *_matches(self._outcomes.receipts(), prefix)])

    def _error_files_with(self, prefix: str) -> list[Match]:
        matches = _matches(self._outcomes.error_files(), prefix)
        return [match for match in matches if not self._ledger.known(match.job_id)]

    def _in_redis(self, job_ids: Collection[str]) -> list[Match]:
        return _newest(Match(job.id, job) for job in self._ledger.get_all(list(job_ids)))

    # --- by a file -----------------------------------------------------------------------------------------------

    def _by_path(self, name: str) -> list[Match]:
        """By a document, receipt, error file or sidecar in our folders."""
        folders = self._folders
        for root in (folders.processing, folders.failed, folders.delivered, folders.inbox):
            inside = _inside(root, name)
            if inside is None or not inside.parts:
                continue
            if root == folders.processing:
                job = self._ledger.get(inside.parts[0])
                return [Match(job.id, job)] if job else []
            if root == folders.inbox and os.path.lexists(root / inside):
                raise click.ClickException(
                    f"{name} is still in the inbox, so it has no job yet: `chartpost check` says why it was not taken."
                )
            closed = self._outcomes.closed_at(root / inside)
            if closed:
                return [self._match(closed)]
            # It was moved away from its companion, or taken out of the inbox.
            account, *patient, file_name = inside.parts if len(inside.parts) in (2, 3) else ("", "")
            return self._of_patient(account, patient[0] if patient else None, file_name)
        if "/" in name:
            raise click.ClickException(
                f"{name} lies in none of chartpost's folders. Its name alone finds the jobs of files of that name."
            )
        return []

    def _of_patient(self, account: str, patient_id: str | None, file_name: str) -> list[Match]:
        document = Document(account, patient_id, "", clean(file_name), 0)
        in_redis = self._in_redis(
            list(self._queries.ids(Wanted(names=frozenset((self._ledger.codec.name_key(document),)))))
        )
        written = (account, patient_id) if patient_id else (account, None)
        on_disk = [
            self._match(closed)
            for closed in self._outcomes.closed_as(file_name)
            if (closed.content.get("account"), closed.content.get("patient_id")) == written
        ]
        return _newest([*in_redis, *on_disk, *self._in_care(file_name)])

    def _by_name(self, file_name: str) -> list[Match]:
        """By a document's name, as it was sent or as it is on disk."""
        in_redis = self._in_redis(list(self._queries.called(clean(file_name))))
        on_disk = map(self._match, self._outcomes.closed_as(file_name))
        return _newest([*in_redis, *on_disk, *self._in_care(file_name)])

    def _in_care(self, file_name: str) -> list[Match]:
        """Documents of this name in processing/."""
        folders = self._folders
        found = (self._ledger.get(job_id) for job_id in folders.job_ids() if _is_called(folders, job_id, file_name))
        return [Match(job.id, job) for job in found if job]

    def _match(self, closed: ClosedDocument) -> Match:
        job_id = str(closed.content["job_id"])
        if job := self._ledger.get(job_id):
            return Match(job_id, job, believed=closed.believed)
        return Match(job_id, on_disk=JobOnDisk(job_id, closed.content, closed.believed), believed=closed.believed)


def job_search(runtime: LedgerRuntime) -> JobSearch:
    return JobSearch(
        runtime.ledger, runtime.queries, lambda: Folders(runtime.settings.data_dir.absolute(), runtime.seal)
    )


def require_job(search: JobSearch, name: str) -> Job:
    """The only job that an argument can mean. Raises ClickException, also if that job has left Redis."""
    match = search.only(name)
    if match.job is None:
        raise not_found(name)
    return match.job


def _begins_an_id(name: str) -> bool:
    """True for six characters or more with which a job's id can begin."""
    marks = (
        (char == "-") == (place in _HYPHENS) and char in "0123456789abcdefABCDEF-" for place, char in enumerate(name)
    )
    return _SHORTEST <= len(name) < 36 and all(marks)


def ambiguous(name: str, matches: Collection[Match]) -> AmbiguousJob:
    shown = [f"  {match}" for match in list(matches)[:_LISTED]]
    rest = [f"  and {len(matches) - _LISTED} more"] if len(matches) > _LISTED else []
    return AmbiguousJob("\n".join([f"{name} fits {len(matches)} jobs. Name one of them:", *shown, *rest]))


def _matches(closed: Iterable[ClosedDocument], prefix: str) -> Iterator[Match]:
    for each in closed:
        job_id = str(each.content["job_id"])
        if job_id.startswith(prefix):
            yield Match(job_id, on_disk=JobOnDisk(job_id, each.content, each.believed), believed=each.believed)


def _newest(matches: Iterable[Match]) -> list[Match]:
    """Each job once, the newest first. Of what tells of one job, a signed file comes before one that is not."""
    once: dict[str, Match] = {}
    for match in matches:
        known = once.get(match.job_id)
        if known is None or (match.believed and not known.believed):
            once[match.job_id] = match
    return sorted(once.values(), key=lambda match: match.came, reverse=True)


def _inside(root: Path, name: str) -> Path | None:
    """A path as it goes on below `root`, which may itself be a link; None if it does not lie there."""
    absolute = os.path.abspath(name)  # noqa: PTH100, it is not to follow links: they are no way into our folders
    real = os.path.join(os.path.realpath(os.path.dirname(absolute)), os.path.basename(absolute))  # noqa: PTH118, PTH119, PTH120
    for path, folder in ((absolute, os.path.abspath(root)), (real, os.path.realpath(root))):  # noqa: PTH100
        if Path(path).is_relative_to(folder):
            return Path(path).relative_to(folder)
    return None


def _is_called(folders: Folders, job_id: str, file_name: str) -> bool:
    document = folders.document(job_id)
    return document is not None and document.name == file_name
