"""The only place where this room's services are built from a process's collaborators."""

from __future__ import annotations

from tasks.folders.retention import Retention
from tasks.runtime import Runtime
from worker.inbox.chores import FolderChores
from worker.inbox.claim import InboxClaims
from worker.inbox.name_patterns import name_readers
from worker.inbox.opening import JobOpener
from worker.inbox.service import InboxService
from worker.inbox.waiting_notes import WaitingNotes
from worker.inbox.watcher import Watcher


def job_opener(runtime: Runtime) -> JobOpener:
    return JobOpener(
        ledger=runtime.ledger,
        accounts=runtime.accounts,
        admission=runtime.admission,
        documents=runtime.documents,
        staging=runtime.staging,
        folders=runtime.folders,
        files=runtime.document_files(owns_folders=True),
        data_dir=runtime.settings.data_dir,
    )


def inbox_claims(runtime: Runtime) -> InboxClaims:
    readers = name_readers(runtime.settings.inbox.name_patterns)
    return InboxClaims(
        runtime.folders, runtime.claims, job_opener(runtime), writers=runtime.writers, name_readers=readers
    )


def waiting_notes(runtime: Runtime) -> WaitingNotes:
    settings = runtime.settings
    return WaitingNotes(
        settings,
        runtime.folders,
        runtime.ledger,
        runtime.waiting_reasons,
        workers=runtime.workers,
        writers=runtime.writers,
    )


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
        closing=runtime.closing,
        ledger=runtime.ledger,
        machine=runtime.machine,
        folders=runtime.folders,
        staging=runtime.staging,
        retention=Retention(
            runtime.outcomes,
            settings.retention.delivered_days,
            settings.data_dir / "retention",
            redis_clock=lambda: runtime.redis.time()[0],
        ),
        outcomes=runtime.outcomes,
        waiting_notes=waiting_notes(runtime),
        left_in_inbox=lambda: watcher.report.counts,
        stop=runtime.stopping,
    )
    return InboxService(watcher, chores)
