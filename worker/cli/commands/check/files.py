"""`chartpost check --deep`: documents in our care and jobs in the ledger that do not belong to each other."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.folders.claims import Claims, Damaged
from tasks.folders.layout import Folders
from tasks.ledger.consistency import Orphan
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import PREFIX

_BATCH = 500


def documents_without_jobs(ledger: Ledger, claims: Claims) -> Iterator[Orphan]:
    """Folders in `processing/` that the ledger does not know."""
    for orphan in claims.orphans(ledger.known):
        if isinstance(orphan, Damaged):
            advice = "Move the file to the inbox again."
            yield Orphan("document with a damaged job.json", orphan.job_id, mended=False, advice=advice)
        else:
            advice = "The watcher opens it again: is it running?"
            yield Orphan("document without job", orphan.job_id, mended=False, advice=advice)


def jobs_without_documents(ledger: Ledger, folders: Folders) -> Iterator[Orphan]:
    """Jobs that still have their upload before them, and whose file is gone from `processing/`."""
    for key in ledger.redis.scan_iter(PREFIX + "job:*", count=_BATCH):
        job_id = str(key).removeprefix(PREFIX + "job:")
        door, stage, step = ledger.redis.hmget(str(key), "door", "stage", "step")
        under_way = stage in ("received", "presigned") and bool(step)
        if door in ("inbox", "send") and under_way and folders.document(job_id) is None:
            advice = "It fails by itself as file_missing; send the file again."
            yield Orphan("job without file", job_id, mended=False, advice=advice)
