"""A document in our care: its bytes, and what its own folder knows about it.

A document that came by the inbox or by `chartpost send` lies in `processing/<job id>/`, beside a `job.json` that
survives Redis. Others are read where their sender keeps them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tasks.folders import Folders
from tasks.job import Job, Stage
from tasks.sources import OpenSource, Sources

_BLOCK_BYTES = 1024 * 1024


class Care:
    def __init__(self, folders: Folders, sources: Sources) -> None:
        self.folders = folders
        self.sources = sources

    def open(self, job: Job) -> OpenSource:
        """A fresh stream of the document. Raises DocumentRefused (missing, changed) and RetryLater."""
        return self.sources.open(job.document.source, job.document.identity)

    def sha256(self, job: Job, beat: Callable[[], None]) -> str:
        """The digest of the document as it lies there now. `beat` is called at every block and may raise."""
        with self.open(job) as source:
            return _digest(source, beat)

    def digest(self, address: str) -> str:
        """The digest of what lies at a source's address now. Raises DocumentRefused and RetryLater."""
        with self.sources.open(address, self.sources.locate(address).identity) as source:
            return _digest(source, lambda: None)

    def committed_on_disk(self, job: Job) -> bool | None:
        """Whether the document's folder says that its last block may have left; None where no folder can be asked."""
        if not job.document.door.has_folder or not self.folders.document(job.id):
            return None
        return self.folders.read_job_file(job.id).committed

    def note_commit(self, job: Job) -> None:
        """Write down, before the last block leaves, what a look would need. Raises OSError: then nothing may leave."""
        if job.document.door.has_folder and self.folders.document(job.id):
            self.folders.update_job_file(
                job.id,
                committed=True,
                snapshot=job.facts.snapshot,
                key=job.facts.key,
                provider_facts=dict(job.facts.provider),
                unknown_since=datetime.now(UTC),
            )

    def close(self, job: Job, written: Mapping[str, Any]) -> None:
        """Move the document to `delivered/` or `failed/`, with its receipt or error file beside it."""
        if not job.document.door.has_folder:
            return
        place = self.folders.deliver if job.stage is Stage.DELIVERED else self.folders.fail
        place(job.id, job.account, job.document.patient_id, dict(written))

    def note_commit_undone(self, job: Job) -> None:
        if job.document.door.has_folder and self.folders.document(job.id):
            self.folders.update_job_file(job.id, committed=False, unknown_since=None)


def _digest(source: OpenSource, beat: Callable[[], None]) -> str:
    digest = hashlib.sha256()
    while block := source.read(_BLOCK_BYTES):
        beat()
        digest.update(block)
    return digest.hexdigest()
