"""How far each of the demo's documents has come, read from the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import redis

from tasks.ledger import keys
from tasks.model.document import Door
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from tasks.runtime import Runtime
from worker.demo.scenario import DemoDocument

READY, SENT, IN_INBOX = "ready", "sent", "in inbox"  # where a document is before it has a job; then the job's stage


@dataclass(frozen=True)
class Progress:
    """One document as the ledger shows it now."""

    document: DemoDocument
    stage: str = READY
    note: str = ""  # what was special about it, or why it did not end as expected
    attempts: int = 0
    job_id: str = ""
    ended: bool = False  # nothing is left to do, receipt and files included
    code: str | None = None
    message: str = ""
    record_id: str | None = None
    forms: int = 1  # how many S3 forms were asked for
    upload_answered: bool = True

    @property
    def as_expected(self) -> bool:
        """Whether its stage and code are those with which the document must end."""
        wanted = Stage.FAILED if self.document.fails_with else Stage.DELIVERED
        return self.stage == wanted and self.code == self.document.fails_with


class Tracker:
    def __init__(self, runtime: Runtime, documents: Iterable[DemoDocument]) -> None:
        self._runtime = runtime
        self._progress = {document.key: Progress(document) for document in documents}
        self._ended: set[str] = set()

    @property
    def progress(self) -> Sequence[Progress]:
        return list(self._progress.values())

    @property
    def all_ended(self) -> bool:
        return all(progress.ended for progress in self._progress.values())

    def sent(self, document: DemoDocument) -> None:
        stage = IN_INBOX if document.door is Door.INBOX else SENT
        self._progress[document.key] = replace(self._progress[document.key], stage=stage)

    def update(self) -> None:
        """Read the jobs that have not ended yet. While Redis is away, nothing changes."""
        with suppress(redis.RedisError):
            for job_id in self._runtime.redis.zrange(keys.JOBS, 0, -1):
                job = self._runtime.ledger.get(str(job_id)) if job_id not in self._ended else None
                key = (job.document.patient_id or "", job.document.file_name) if job else ("", "")
                if job and key in self._progress:
                    self._progress[key] = _after(self._progress[key], job)
                    self._ended |= {job.id} if self._progress[key].ended else set()


def _after(before: Progress, job: Job) -> Progress:
    progress = replace(
        before,
        attempts=job.counts.attempts,
        job_id=job.id,
        code=job.code,
        message=job.failure.message if job.failure else "",
        record_id=job.facts.record.id if job.facts.record else None,
        forms=job.counts.presigns,
        upload_answered=job.facts.stored is not None,
    )
    if job.stage.final and job.step is Step.NOTIFY:
        return progress  # its end is decided, but the receipt or error file and the file's move are still to come
    progress = replace(progress, stage=str(job.stage), ended=job.stage.final)
    if progress.ended:
        why = progress.message or f"unexpected: {job.code or job.stage}"
        progress = replace(progress, note=progress.document.note if progress.as_expected else why)
    return progress
