"""Whether every document met its outcome: counted from the charts, the folders and what callers were told.

Our own ledger does not count as evidence. It is only searched for what must not be left in it.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import redis

from tasks.model.document import Door
from tests.chaos.documents import Document
from tests.chaos.tracker import Outcome, Tracker

_COMPANIONS = (".receipt.json", ".error.json")
Charts = Mapping[tuple[str, str, str, str], list[str]]


@dataclass
class Findings:
    """`lost` and `duplicated` say what happened to which document; the lists hold sentences.

    `outside` are second copies of calls and messages that were open at a wipe and were sent again.
    """

    lost: dict[int, str] = field(default_factory=dict)
    duplicated: dict[int, str] = field(default_factory=dict)
    outside: list[int] = field(default_factory=list)
    wrong_bytes: list[str] = field(default_factory=list)
    false: list[str] = field(default_factory=list)
    misplaced: list[str] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)

    def problems(self) -> list[str]:
        """Sentences, each after the word that it is counted under."""
        found = [f"lost: {why}" for why in self.lost.values()]
        found += [f"duplicated: {why}" for why in self.duplicated.values()]
        for kind in ("wrong bytes", "false", "misplaced", "ledger"):
            found += [f"{kind}: {sentence}" for sentence in getattr(self, kind.replace(" ", "_"))]
        return found


def examined(records: list[dict[str, Any]], data: Path, client: redis.Redis, tracker: Tracker) -> Findings:
    """Count everything, once no document is on its way. `records` are those of all charts."""
    charts: defaultdict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for record in records:
        charts[_key(record)].append(str(record["record_id"]))
    findings = Findings()
    for document in tracker.documents.values():
        _examine(document, charts[key_of(document)], tracker, findings)
    findings.wrong_bytes += _unknown_records(records, tracker.documents.values())
    findings.false += _false_receipts(data, records)
    findings.false += _false_results(tracker, charts)
    findings.misplaced += _misplaced(data, tracker.documents.values())
    findings.ledger += unfinished(client)
    return findings


SENT_AGAIN = "redox_hospital"
"""The account whose lost answers are followed by the same message."""


def key_of(document: Document) -> tuple[str, str, str, str]:
    """What tells a document from all others in the charts."""
    return document.account, document.patient_id, document.file_name, document.sha256


def _key(record: Mapping[str, Any]) -> tuple[str, str, str, str]:
    return record["tenant"], record["patient_id"] or "", record["file_name"], record["sha256"]


def _examine(document: Document, copies: list[str], tracker: Tracker, findings: Findings) -> None:
    outcome = tracker.outcomes.get(document.number)
    where = f"{document.door}, {document.account}, {document.patient_id}, {document.file_name}"
    who = f"document {document.number} ({where})"
    told = f"told {outcome.state} {outcome.code}".strip() if outcome else "told nothing"
    wanted = "failed" if document.fails_with else "delivered"
    if len(copies) > 1 and document.number in tracker.outside:
        findings.outside.append(document.number)
    elif len(copies) > 1:
        findings.duplicated[document.number] = f"{who}: {len(copies)} records"
    if outcome is None or (not copies and outcome.state == "delivered"):
        findings.lost[document.number] = f"{who}: {len(copies)} records, {told}"
    elif outcome.state != wanted or (document.fails_with and outcome.code not in _codes(document, tracker)):
        findings.false.append(f"{who}: {len(copies)} records, {told}, expected {wanted} {document.fails_with}")


def _codes(document: Document, tracker: Tracker) -> set[str]:
    """How a document that must fail may fail. The refusal that Redis lost at a wipe is an answer that nobody saw.

    Redox is sent the same message again when an answer was lost. If it refuses that, it may have taken the first one.
    """
    unsure = document.number in tracker.open_at_wipe or document.account == SENT_AGAIN
    return {document.fails_with, *(["outcome_unknown"] if unsure else [])}


def _unknown_records(records: Iterable[Mapping[str, Any]], documents: Iterable[Document]) -> Iterator[str]:
    """Records of bytes that were not handed in under that name."""
    known = {key_of(document) for document in documents}
    for record in records:
        if _key(record) not in known:
            yield f"record {record['record_id']} of {record['tenant']}: {record['file_name']}, {record['size_bytes']} B"


def _false_receipts(data: Path, records: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Each receipt names a record with the same patient, name and bytes, names it alone, and lies beside its file."""
    by_id = {(record["tenant"], str(record["record_id"])): record for record in records}
    named: Counter[tuple[str, str]] = Counter()
    for path in sorted((data / "delivered").rglob("*.receipt.json")):
        receipt = json.loads(path.read_text())
        where = (receipt["account"], str(receipt["record"]["id"]))
        record = by_id.get(where, {})
        fields = ("patient_id", "file_name", "size_bytes", "sha256")
        wrong = [name for name in fields if receipt[name] != record.get(name)]
        named[where] += 1
        assurance = "accepted" if record.get("provider") == "redox" else "confirmed"
        if wrong or named[where] > 1 or receipt["assurance"] != assurance:
            yield f"{path}: record {where[1]} differs in {wrong}, named {named[where]} times"
        beside = path.with_name(path.name.removesuffix(".receipt.json"))
        if not beside.exists() or _digest(beside) != receipt["sha256"]:
            yield f"{path}: the file beside it is another, or not there"


def _false_results(tracker: Tracker, charts: Charts) -> Iterator[str]:
    """Each receipt that a task returned names a record of that document in the chart."""
    for number, outcome in tracker.outcomes.items():
        document = tracker.documents[number]
        if (
            document.door is Door.CELERY
            and outcome.state == "delivered"
            and not _names_its_record(outcome, document, charts)
        ):
            yield f"the result of document {number}: {json.dumps(outcome.receipt)}"


def _names_its_record(outcome: Outcome, document: Document, charts: Charts) -> bool:
    receipt = outcome.receipt
    return receipt["sha256"] == document.sha256 and str(receipt["record"]["id"]) in charts.get(key_of(document), [])


def _misplaced(data: Path, documents: Iterable[Document]) -> Iterator[str]:
    """Every inbox document lies in one folder, the right one, and processing/ is empty."""
    folders_of: defaultdict[tuple[str, str, str], list[str]] = defaultdict(list)
    for folder in ("inbox", "delivered", "failed"):
        for path in _documents_in(data / folder):
            account, *patient, _ = path.relative_to(data / folder).parts
            folders_of[account, "".join(patient), _digest(path)].append(folder)
    for document in documents:
        if document.door is Door.INBOX:
            found = folders_of[document.account, document.patient_id, document.sha256]
            if found != ["failed" if document.fails_with else "delivered"]:
                yield f"document {document.number} ({document.file_name}) lies in {found or 'no folder'}"
    for left in sorted((data / "processing").rglob("*")):
        yield f"{left} is left in processing/"


def _documents_in(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.endswith(_COMPANIONS):
            yield path


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unfinished(client: redis.Redis) -> list[str]:
    """Due entries without a job, jobs with work left and no due entry, jobs that are not closed."""
    lanes = {str(key).removeprefix("chartpost:due:"): key for key in client.scan_iter("chartpost:due:*")}
    due = {(lane, str(job)) for lane, key in lanes.items() for job in client.zrange(str(key), 0, -1)}
    found: list[str] = []
    for key in client.scan_iter("chartpost:job:*"):
        job = str(key).removeprefix("chartpost:job:")
        row = client.hmget(str(key), "stage", "step", "lane", "home")
        stage, step, lane, home = (str(value or "") for value in row)
        entry = (f"{lane}@{home}" if home else lane, job)
        if step:
            found.append(f"job {job} is not closed: {stage}, next {step}")
        if step and entry not in due:
            found.append(f"job {job} has no due entry")
        due.discard(entry)
    return found + [f"due entry {lane} {job} has no job" for lane, job in sorted(due)]
