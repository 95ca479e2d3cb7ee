"""`chartpost check --deep`: the ledger and our folders looked through as a whole, orphans mended where that is safe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from worker.cli.commands.check.result import Finding

if TYPE_CHECKING:
    from tasks.runtime import Runtime


def of_ledger(runtime: Runtime) -> Iterator[Finding]:
    """One finding for each orphan; mended ones are well again. One for the whole if there is none."""
    from tasks.ledger.consistency import Consistency

    count = 0
    for orphan in Consistency(runtime.redis, runtime.ledger, runtime.folders).orphans(mend=True):
        count += 1
        advice = "mended" if orphan.mended else orphan.advice
        yield Finding("ledger", ok=orphan.mended, message=f"{orphan.id}: {orphan.what}; {advice}")
    if not count:
        yield Finding("ledger", ok=True, message="Every job has its due entry and its file, and every entry its job.")
