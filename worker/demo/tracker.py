"""How far each of the demo's documents has come, as the inbox, the ledger and the folders show it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum

import redis

from tasks.ledger.redis import PREFIX
from tasks.model.job import Job
from tasks.model.route import Stage, Step
from tasks.runtime import Runtime
from worker.demo.scenario import Paper, Way


class Waits(StrEnum):
    """Where a document is that has no job yet."""

    READY = "ready"
    SENT = "sent"
    INBOX = "in inbox"


@dataclass(frozen=True)
class Sight:
    """One document as it looks now. `note` says in a few words what is happening to it, or has happened.

    `ended`: nothing is left to do, receipt and files included. `as_expected` is None until then.
    """

    paper: Paper
    stage: str = Waits.READY
    attempts: int = 0
    note: str = ""
    ended: bool = False
    as_expected: bool | None = None
    job: Job | None = None


class Lookout:
    """Looks at all documents again and again."""

    def __init__(self, runtime: Runtime, papers: Iterable[Paper]) -> None:
        self._runtime = runtime
        self._sights = {paper.key: Sight(paper) for paper in papers}
        self._ended: set[str] = set()

    @property
    def sights(self) -> Sequence[Sight]:
        return list(self._sights.values())

    @property
    def all_ended(self) -> bool:
        return all(sight.ended for sight in self._sights.values())

    def sent(self, paper: Paper) -> None:
        """This document has been handed over."""
        stage = Waits.INBOX if paper.way is Way.INBOX else Waits.SENT
        self._sights[paper.key] = replace(self._sights[paper.key], stage=stage)

    def look(self) -> None:
        """While Redis is away, nothing changes."""
        with suppress(redis.RedisError):
            for job in self._jobs():
                before = self._sights.get((job.document.patient_id or "", job.document.file_name))
                if before:
                    sight = self._sights[before.paper.key] = _seen(before, job)
                    self._ended |= {job.id} if sight.ended else set()

    def _jobs(self) -> Iterator[Job]:
        """Those that have not ended when they were last looked at."""
        for job_id in self._runtime.redis.zrange(PREFIX + "jobs", 0, -1):
            job = self._runtime.ledger.get(str(job_id)) if job_id not in self._ended else None
            if job:
                yield job


def _seen(before: Sight, job: Job) -> Sight:
    if job.stage.final and job.step is Step.NOTIFY:  # receipt or error file, and the file's move, are still to come
        return replace(before, job=job, attempts=job.attempts)
    sight = replace(before, job=job, stage=str(job.stage), attempts=job.attempts)
    if not job.stage.final:
        return replace(sight, note=_under_way(job) or before.note)
    as_expected = job.stage is (Stage.FAILED if sight.paper.ends else Stage.DELIVERED) and job.code == sight.paper.ends
    return replace(sight, ended=True, as_expected=as_expected, note=sight.paper.note if as_expected else _why(job))


def _under_way(job: Job) -> str:
    """What is happening to a job; nothing when it is what happens to every job."""
    if job.stage is Stage.PRESIGNED and job.unknown_since:
        return "answer lost: a look comes first"
    if job.stage is Stage.PRESIGNED and job.failures:
        return "storage busy: another try is due"
    if job.stage is Stage.RECEIVED and job.presigns:
        return "form expired: another is asked for"
    if job.stage is Stage.STORED:
        return "waiting for the provider to validate"
    return ""


def _why(job: Job) -> str:
    return job.failure.message if job.failure else f"unexpected: {job.code or job.stage}"
