"""A step runner over parts that a test has."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from config.settings import Retry
from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.rate_limit import RateLimit
from tasks.closing.results import Results
from tasks.folders.commit_log import CommitLog
from tasks.folders.in_care import DocumentsInCare
from tasks.folders.layout import Folders
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.moves import Move
from tasks.ledger.renewal import LeaseRenewer
from tasks.pipeline.consequences import Consequences
from tasks.pipeline.runner import StepRunner
from tasks.pipeline.slot_reserve import SlotReserve
from tasks.pipeline.step import StepContext, StepResult
from tasks.sources.documents import Documents
from tasks.sources.files import Files
from tasks.sources.objects import Objects
from tasks.sources.sources import Sources
from tasks.sources.writers import Writers


def documents_of(data: Path, *roots: Path) -> Documents:
    """The documents in our care below `data`, and what senders have in these roots."""
    sources = Sources(Files(roots), Objects([]))
    return Documents(lambda producer: sources, DocumentsInCare(Folders(data)), None, Writers())


def consequences_of(ledger: Ledger, commit_log: CommitLog, documents: Documents) -> Consequences:
    retry = Retry(first_seconds=1, cap_seconds=1, give_up_after_seconds=60)
    breaker = CircuitBreaker(ledger.redis, probe_first_seconds=1, probe_cap_seconds=1)
    return Consequences(ledger, breaker, RateLimit(ledger.redis), commit_log, documents, retry)


class OneStep(StepContext):
    """Steps that leave the next one to others: so a test sees what each does."""

    def go_on(self, lease: Lease, move: Move) -> StepResult | None:
        return StepResult(forward=True) if self.ledger.apply(lease, move) else None

    def end(self, lease: Lease, move: Move, *, here: bool = True) -> StepResult | None:
        return StepResult(to_close_by_message=(lease.job.id,)) if self.ledger.apply(lease, move) else None


def runner_of(
    ledger: Ledger,
    commit_log: CommitLog,
    documents: Documents,
    consequences: Consequences,
    accounts: Mapping[str, Any],
    results: object,
    kind: type[StepContext] | None = None,
    stopping: threading.Event | None = None,
) -> StepRunner:
    """`accounts` and `results` are what a step asks of them, and no more. It runs one step at a time by default."""
    stop = stopping or threading.Event()
    context = (kind or OneStep)(ledger, commit_log, documents, cast(Results, results), stop)
    return StepRunner(
        context, cast(Accounts, accounts), LeaseRenewer(ledger), consequences, SlotReserve(8, 1, ledger.lease_seconds)
    )
