"""What the steps of the pipeline share: their collaborators, and what running one leads to."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TypeVar

from tasks.closing.results import Results
from tasks.folders.commit_log import CommitLog
from tasks.folders.forgotten_commits import ForgottenCommits
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.ledger.renewal import Renewal
from tasks.model.errors import AccountBlocked
from tasks.model.job import Facts
from tasks.pipeline.commit_point import CommitPoint
from tasks.providers.base import Provider
from tasks.sources.documents import Documents

Able = TypeVar("Able")


@dataclass(frozen=True, slots=True)
class StepResult:
    """`forward`: the next step of the chain may run. `finished`: ids of jobs that ended; their closing can start."""

    forward: bool = False
    finished: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepContext:
    """The collaborators of every step. `stopping` is set when the process has been asked to end."""

    ledger: Ledger
    commit_log: CommitLog
    documents: Documents
    results: Results
    stopping: threading.Event
    # None where Redis cannot have forgotten anything, as in tests.
    forgotten: ForgottenCommits | None = None

    def commit_point(
        self, lease: Lease, renewal: Renewal, facts: Facts | None = None, *, creates: bool = True
    ) -> CommitPoint:
        """The commit point of one try. `facts` are what a search would need; they are noted at the commit."""
        return CommitPoint(
            self.ledger,
            self.commit_log,
            self.documents,
            lease=lease,
            renewal=renewal,
            stopping=self.stopping,
            facts=facts,
            creates=creates,
            forgotten=self.forgotten,
        )


def able(provider: Provider, ability: type[Able]) -> Able:
    """The provider as one that has this kind of step. Raises AccountBlocked if it has not.

    That happens when the settings give an account another provider while its documents wait.
    """
    if isinstance(provider, ability):
        return provider
    raise AccountBlocked(
        f"This document was accepted for another provider than {provider.kind}: correct the account's provider, "
        "or cancel the document and send it again."
    )
