"""Whether every document met the end that the demo expects. The sandbox's charts are the witness, not our own word."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.model.job import Job
from tasks.model.route import Stage
from worker.demo.scenario import Fault, Paper, Way

Record = Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """What the ledger says of a document that has ended, or how far it had come.

    `forms` counts the forms that were asked for; `answered`: the answer to its upload was seen.
    """

    stage: str
    code: str | None = None
    message: str = ""
    record_id: str | None = None
    forms: int = 1
    answered: bool = True

    @classmethod
    def of(cls, job: Job) -> End:
        return cls(
            stage=str(job.stage),
            code=job.code,
            message=job.failure.message if job.failure else "",
            record_id=job.facts.record.id if job.facts.record else None,
            forms=job.presigns,
            answered=job.facts.stored is not None,
        )


@dataclass(frozen=True)
class Evidence:
    """All that is known when the documents have ended.

    `charts`, `requests` and `leaks` are the sandbox's own pages, `ends` the ledger's word by patient and name,
    `results` what Celery callers got, `data` the folder with inbox, delivered and failed.
    """

    data: Path
    ends: Mapping[tuple[str, str], End]
    charts: Sequence[Record]
    requests: Mapping[str, int] = field(default_factory=dict)
    leaks: Sequence[Record] = ()
    results: Mapping[tuple[str, str], Mapping[str, Any] | None] = field(default_factory=dict)

    def records(self, paper: Paper) -> list[Record]:
        return [record for record in self.charts if _chart_key(record) == (paper.account, *paper.key)]

    def answers(self, status: str) -> int:
        """How many uploads the storage answered like this."""
        return sum(number for request, number in self.requests.items() if _is_upload(request, status))


@dataclass(frozen=True)
class Shortcoming:
    """Something that is not as the demo expects; `about` names a document, or what else it concerns."""

    about: str
    words: str


def judge(papers: Sequence[Paper], evidence: Evidence) -> list[Shortcoming]:
    """Everything that is not as expected; nothing when all is well."""
    found = [Shortcoming(" ".join(paper.key), words) for paper in papers for words in _of_paper(paper, evidence)]
    return [*found, *_of_the_whole(papers, evidence)]


def _of_paper(paper: Paper, evidence: Evidence) -> Iterator[str]:
    end = evidence.ends.get(paper.key)
    if end is None:
        yield "no job was opened for it"
        return
    expected = f"{Stage.FAILED}, {paper.ends}" if paper.ends else str(Stage.DELIVERED)
    met = f"{end.stage}, {end.code}" if end.code else end.stage
    if met != expected:
        yield f"expected to be {expected}, but it is {met}{': ' + end.message if end.message else ''}"
    yield from _of_chart(paper, evidence.records(paper), end)
    if paper.way is Way.INBOX:
        yield from _of_files(paper, evidence.data)
    if paper.way is Way.CELERY and not _is_receipt(evidence.results.get(paper.key), paper):
        yield "its caller did not get the receipt"
    if paper.fault and not _was_met(paper.fault, end, evidence):
        yield f"the sandbox was to make trouble, and did not: {paper.fault}"


def _of_chart(paper: Paper, records: Sequence[Record], end: End) -> Iterator[str]:
    wanted = 0 if paper.ends else 1
    if len(records) != wanted:
        yield f"expected in the chart {_times(wanted)}, but it is there {_times(len(records))}"
    for record in records:
        if record["sha256"] != paper.sha256:
            yield "the chart holds other bytes than were sent"
        if end.record_id != record["record_id"]:
            yield "our receipt names another record than the chart"


def _of_files(paper: Paper, data: Path) -> Iterator[str]:
    document, companion = resting_place(paper, data), companion_of(paper, data)
    if _sha256(document) != paper.sha256:
        yield f"{document.relative_to(data)} is missing, or is not what was put into the inbox"
    if said(companion).get("job_id") is None:
        yield f"{companion.relative_to(data)} is missing"


def _of_the_whole(papers: Iterable[Paper], evidence: Evidence) -> Iterator[Shortcoming]:
    sent = {(paper.account, *paper.key) for paper in papers}
    for record in evidence.charts:
        if _chart_key(record) not in sent:
            yield Shortcoming("the charts", f"hold a document that nobody sent: {' '.join(_chart_key(record))}")
    for folder in ("inbox", "processing"):
        left = [path for path in (evidence.data / folder).rglob("*") if path.is_file()]
        if left:
            yield Shortcoming(f"{folder}/", f"is not empty in the end ({len(left)} left)")
    if evidence.leaks:
        yield Shortcoming("the storage", f"got keys that are not meant for it ({len(evidence.leaks)} times)")


def resting_place(paper: Paper, data: Path) -> Path:
    """Where a document of the inbox lies in the end."""
    return data / ("failed" if paper.ends else "delivered") / paper.account / paper.patient_id / paper.file_name


def companion_of(paper: Paper, data: Path) -> Path:
    """Its receipt or error file."""
    document = resting_place(paper, data)
    return document.with_name(document.name + (".error.json" if paper.ends else ".receipt.json"))


def said(companion: Path) -> dict[str, Any]:
    """What a receipt or an error file says; nothing if it is not there."""
    with suppress(OSError, ValueError):
        content: dict[str, Any] = json.loads(companion.read_text())
        return content
    return {}


def _was_met(fault: Fault, end: End, evidence: Evidence) -> bool:
    match fault:
        case Fault.BUSY:
            return evidence.answers("503") >= 1
        case Fault.LOST:
            return not end.answered
        case Fault.EXPIRED:
            return end.forms > 1


def _is_receipt(result: Mapping[str, Any] | None, paper: Paper) -> bool:
    return result is not None and result.get("sha256") == paper.sha256


def _is_upload(request: str, status: str) -> bool:
    method, route, *_ = request.split()
    return method == "POST" and route.startswith("/s3/") and request.endswith(" " + status)


def _chart_key(record: Record) -> tuple[str, str, str]:
    return (str(record["tenant"]), str(record["patient_id"] or ""), str(record["file_name"]))


def _sha256(path: Path) -> str | None:
    with suppress(OSError):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return None


def _times(number: int) -> str:
    return ("not at all", "once", "twice")[number] if number < 3 else f"{number} times"
