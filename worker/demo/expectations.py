"""Whether every document ended as the demo expects. The sandbox's charts decide, not chartpost's own word."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tasks.model.document import Door
from tasks.model.route import Stage
from worker.demo.scenario import DemoDocument, Fault
from worker.demo.tracker import Progress

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Evidence:
    """All that is known when the documents have ended."""

    data: Path  # the folder with inbox, delivered and failed
    jobs: Mapping[tuple[str, str], Progress]  # by patient and name: documents for which a job was opened
    charts: Sequence[Record]  # this and the next two are the sandbox's own pages
    requests: Mapping[str, int] = field(default_factory=dict)
    leaks: Sequence[Record] = ()
    results: Mapping[tuple[str, str], Mapping[str, Any] | None] = field(default_factory=dict)  # of Celery callers


def shortcomings(documents: Sequence[DemoDocument], evidence: Evidence) -> list[str]:
    """Everything that is not as expected, in sentences; empty when all is well."""
    found = [f"{' '.join(document.key)}: {words}" for document in documents for words in _of(document, evidence)]
    sent = {(document.account, *document.key) for document in documents}
    for key in map(_chart_key, evidence.charts):
        if key not in sent:
            found.append(f"the charts: hold a document that nobody sent: {' '.join(key)}")
    for folder in ("inbox", "processing"):
        left = [path for path in (evidence.data / folder).rglob("*") if path.is_file()]
        if left:
            found.append(f"{folder}/: is not empty in the end ({len(left)} left)")
    if evidence.leaks:
        found.append(f"the storage: got keys that are not meant for it ({len(evidence.leaks)} times)")
    return found


def _of(document: DemoDocument, evidence: Evidence) -> Iterator[str]:
    job = evidence.jobs.get(document.key)
    if job is None:
        yield "no job was opened for it"
        return
    if not job.as_expected:
        wanted = f"{Stage.FAILED}, {document.fails_with}" if document.fails_with else str(Stage.DELIVERED)
        reached = f"{job.stage}, {job.code}" if job.code else job.stage
        yield f"expected to be {wanted}, but it is {reached}{': ' + job.message if job.message else ''}"
    yield from _of_chart(document, job, evidence.charts)
    if document.door is Door.INBOX:
        yield from _of_files(document, evidence.data)
    if document.door is Door.CELERY:
        receipt = evidence.results.get(document.key)
        if receipt is None or receipt.get("sha256") != document.sha256:
            yield "its caller did not get the receipt"
    # A fault that did not come would let the demo claim that chartpost survived it.
    came = {
        Fault.BUSY: any(call.startswith("POST /s3/") and call.endswith(" 503") for call in evidence.requests),
        Fault.LOST: not job.upload_answered,
        Fault.EXPIRED: job.forms > 1,
    }
    if document.fault and not came[document.fault]:
        yield f"the sandbox was to make trouble, and did not: {document.fault}"


def _of_chart(document: DemoDocument, job: Progress, charts: Sequence[Record]) -> Iterator[str]:
    records = [record for record in charts if _chart_key(record) == (document.account, *document.key)]
    wanted = 0 if document.fails_with else 1
    if len(records) != wanted:
        yield f"expected in the chart {_times(wanted)}, but it is there {_times(len(records))}"
    for record in records:
        if record["sha256"] != document.sha256:
            yield "the chart holds other bytes than were sent"
        if job.record_id != record["record_id"]:
            yield "our receipt names another record than the chart"


def _of_files(document: DemoDocument, data: Path) -> Iterator[str]:
    path, companion = final_path(document, data), companion_path(document, data)
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != document.sha256:
        yield f"{path.relative_to(data)} is missing, or is not what was put into the inbox"
    if read_companion(companion).get("job_id") is None:
        yield f"{companion.relative_to(data)} is missing"


def final_path(document: DemoDocument, data: Path) -> Path:
    """Where a document of the inbox must lie in the end."""
    folder = data / ("failed" if document.fails_with else "delivered")
    return folder / document.account / document.patient_id / document.file_name


def companion_path(document: DemoDocument, data: Path) -> Path:
    """Its receipt or error file."""
    path = final_path(document, data)
    return path.with_name(path.name + (".error.json" if document.fails_with else ".receipt.json"))


def read_companion(path: Path) -> dict[str, Any]:
    """A receipt or an error file; empty if it is not there."""
    with suppress(OSError, ValueError):
        content: dict[str, Any] = json.loads(path.read_text())
        return content
    return {}


def _chart_key(record: Record) -> tuple[str, str, str]:
    return (str(record["tenant"]), str(record["patient_id"] or ""), str(record["file_name"]))


def _times(number: int) -> str:
    return ("not at all", "once", "twice")[number] if number < 3 else f"{number} times"
