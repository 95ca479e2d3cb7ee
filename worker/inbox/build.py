"""The only place where this room's services are built from a process's collaborators."""

from __future__ import annotations

from tasks.runtime import Runtime
from worker.inbox.chores import FolderChores
from worker.inbox.claim import InboxClaims
from worker.inbox.name_patterns import name_readers
from worker.inbox.opening import JobOpener
from worker.inbox.service import InboxService
from worker.inbox.watcher import Watcher


def job_opener(runtime: Runtime) -> JobOpener:
    return JobOpener(
        ledger=runtime.ledger,
        accounts=runtime.accounts,
        admission=runtime.admission,
        sources=runtime.documents.sources,  # with the bucket for staging, which callers may not name
        staging=runtime.staging,
        data_dir=runtime.settings.data_dir,
    )


def inbox_claims(runtime: Runtime) -> InboxClaims:
    readers = name_readers(runtime.settings.inbox.name_patterns)
    return InboxClaims(runtime.folders, runtime.claims, job_opener(runtime), name_readers=readers)


def inbox_service(runtime: Runtime) -> InboxService:
    settings = runtime.settings
    # Before `runtime.closing` is built: in this process it moves the files of documents that were staged to S3.
    runtime.owns_folders = True
    watcher = Watcher(
        settings.inbox,
        accounts=list(settings.accounts),
        folders=runtime.folders,
        claims=inbox_claims(runtime),
        pseudonym=runtime.seal.lookup,
        stop=runtime.stopping,
    )
    chores = FolderChores(
        closing=runtime.closing if runtime.staging else None,
        ledger=runtime.ledger,
        left_in_inbox=lambda: watcher.report.counts,
        outcomes=runtime.outcomes,
        data_dir=settings.data_dir,
        delivered_days=settings.retention.delivered_days,
        stop=runtime.stopping,
    )
    return InboxService(watcher, chores, runtime.stopping)
