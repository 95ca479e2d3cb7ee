"""A step runner over parts that a test has."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, cast

from config.settings import Retry
from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.accounts.rate_limit import RateLimit
from tasks.closing.results import Results
from tasks.folders.commit_log import CommitLog
from tasks.ledger.ledger import Ledger
from tasks.ledger.renewal import LeaseRenewer
from tasks.pipeline.final_failures import Failures
from tasks.pipeline.reconciliation import Reconciliation
from tasks.pipeline.recovery import Recovery
from tasks.pipeline.runner import StepRunner
from tasks.pipeline.step import StepContext
from tasks.sources.documents import Documents


def recovery_of(ledger: Ledger, commit_log: CommitLog, documents: Documents) -> Recovery:
    retry = Retry(first_seconds=1, cap_seconds=1, give_up_after_seconds=60)
    breaker = CircuitBreaker(ledger.redis, probe_first_seconds=1, probe_cap_seconds=1)
    failures = Failures(ledger, documents)
    reconciliation = Reconciliation(ledger, breaker, commit_log, failures, retry)
    return Recovery(ledger, breaker, RateLimit(ledger.redis), failures, reconciliation, retry)


def runner_of(
    ledger: Ledger,
    commit_log: CommitLog,
    documents: Documents,
    recovery: Recovery,
    accounts: Mapping[str, Any],
    results: object,
) -> StepRunner:
    """`accounts` and `results` are what a step asks of them, and no more."""
    context = StepContext(ledger, commit_log, documents, cast(Results, results), threading.Event())
    return StepRunner(context, cast(Accounts, accounts), LeaseRenewer(ledger), recovery)
