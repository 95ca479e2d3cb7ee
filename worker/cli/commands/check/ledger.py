"""`chartpost check --deep`: the whole ledger and the documents in our care, compared with each other.

Inconsistencies come of a Redis that was restored from a backup, or of keys that were edited by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from tasks.folders.claims import Claims, Damaged
from tasks.folders.layout import Folders
from tasks.ledger import keys
from tasks.ledger.consistency import Consistency, Inconsistency
from tasks.ledger.ledger import Ledger
from worker.cli.commands.check.result import CheckResult, failed, passed

_BATCH = 500


def check_ledger(ledger: Ledger, folders: Folders, claims: Claims, machine: str | None = None) -> Iterator[CheckResult]:
    """One result for each inconsistency; those that could be repaired have passed.

    `machine` is the name of this one: the documents of others are not here.
    """
    inconsistencies = chain(
        Consistency(ledger.redis, ledger).inconsistencies(mend=True),
        documents_without_jobs(ledger, claims),
        jobs_without_documents(ledger, folders, machine),
    )
    none_found = True
    for inconsistency in inconsistencies:
        none_found = False
        if inconsistency.mended:
            yield passed("ledger", f"{inconsistency.id}: {inconsistency.what}; mended")
        else:
            yield failed("ledger", f"{inconsistency.id}: {inconsistency.what}; {inconsistency.advice}")
    if none_found:
        yield passed("ledger", "Every job has its due entry and its file, and every entry has its job.")


def documents_without_jobs(ledger: Ledger, claims: Claims) -> Iterator[Inconsistency]:
    """Documents in processing/ whose jobs the ledger does not know."""
    for orphan in claims.orphans(ledger.known):
        if isinstance(orphan, Damaged) and orphan.is_too_new:
            what, advice = "document of a newer version", orphan.reason
        elif isinstance(orphan, Damaged):
            what, advice = "document with a damaged job.json", "Move the file to the inbox again."
        else:
            what, advice = "document without job", "The watcher opens its job again: check that it runs."
        yield Inconsistency(what, orphan.job_id, mended=False, advice=advice)


def jobs_without_documents(ledger: Ledger, folders: Folders, machine: str | None = None) -> Iterator[Inconsistency]:
    """Jobs of this machine that have not been uploaded yet, and whose file is gone from processing/."""
    for key in ledger.redis.scan_iter(keys.job("*"), count=_BATCH):
        job_id = str(key).removeprefix(keys.job(""))
        # Only these fields, which are in the clear: opening every sealed row would take long.
        door, stage, step = ledger.redis.hmget(str(key), "door", "stage", "step")
        needs_file = door in ("inbox", "send") and stage in ("received", "presigned") and bool(step)
        if needs_file and folders.document(job_id) is None and _is_ours(ledger, job_id, machine):
            advice = "It will fail as file_missing; send the file again."
            yield Inconsistency("job without file", job_id, mended=False, advice=advice)


def _is_ours(ledger: Ledger, job_id: str, machine: str | None) -> bool:
    """True if the job's file must lie in this machine's folders. Jobs of an earlier version do not say where."""
    job = ledger.get(job_id)
    return job is not None and job.document.home in (None, machine)
