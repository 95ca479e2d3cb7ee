"""`chartpost check --deep`: the ledger and our folders looked through as a whole, orphans mended where that is safe."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from typing import TYPE_CHECKING

from worker.cli.commands.check.result import Finding

if TYPE_CHECKING:
    from tasks.runtime import Runtime


def of_ledger(runtime: Runtime) -> Iterator[Finding]:
    """One finding for each orphan; mended ones are well again. One for the whole if there is none."""
    from tasks.ledger.consistency import Consistency
    from worker.cli.commands.check.files import documents_without_jobs, jobs_without_documents

    count = 0
    orphans = chain(
        Consistency(runtime.redis, runtime.ledger).orphans(mend=True),
        documents_without_jobs(runtime.ledger, runtime.claims),
        jobs_without_documents(runtime.ledger, runtime.folders),
    )
    for orphan in orphans:
        count += 1
        advice = "mended" if orphan.mended else orphan.advice
        yield Finding("ledger", ok=orphan.mended, message=f"{orphan.id}: {orphan.what}; {advice}")
    if not count:
        yield Finding("ledger", ok=True, message="Every job has its due entry and its file, and every entry its job.")
