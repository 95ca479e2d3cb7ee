"""One worker, five accounts at five providers: 60 documents and 10 relabelings, one provider down, one throttling."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
from celery.result import AsyncResult

from tests.harness.installation import Installation
from tests.harness.waiting import LONG_PATIENCE_SECONDS, wait_until

EACH = 12
NORMAL = {"system": "urn:oid:2.16.840.1.113883.5.25", "code": "N", "display": "Normal"}
BLOCKED = {"system": "urn:oid:2.16.578.1.12.4.1.1.9603", "code": "NORS", "display": "Sperret"}
DOWN, THROTTLING = "cliniko_clinic", "north_clinic"
# Words by which the sandbox makes trouble for one document, in turn; at Redox none, since nobody could look there.
TROUBLE = {
    "north_clinic": ("", "LOST ", "BUSY-1 ", ""),
    "cliniko_clinic": ("", "LOSTCOMMIT ", "BUSY-1 ", ""),
    "ovok_clinic": ("", "LOSTCREATE ", "LOST ", "CUT "),
    "redox_hospital": ("",),
    "nhn_hospital": ("", "LOST ", ""),
}


@dataclass(frozen=True)
class Paper:
    account: str
    patient_id: str | None
    file_name: str
    content: bytes
    by_inbox: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def papers(run: str) -> Iterator[Paper]:
    for account, words in TROUBLE.items():
        for number in range(EACH):
            prefix = "429-" if account == THROTTLING else ""
            patient = None if account == "ovok_clinic" else f"{prefix}{run}-{number % 4}"
            size = (1, 2_000, 300_000, 40_000)[number % 4]
            content = f"{account} {number} ".encode() + b"x" * size
            name = f"{words[number % len(words)]}{account}-{number}.pdf"
            yield Paper(account, patient, name, content, number % 2 == 0)


def test_each_arrives_once_while_one_provider_is_down_and_one_throttles(opened: Callable[..., Installation]) -> None:
    clinic = opened()
    run = uuid4().hex[:8]
    sent = list(papers(run))
    clinic.world.world(down={"cliniko": "503"})
    clinic.start("worker", "watch")
    clinic.start_worker()
    calls = [call for paper in sent if (call := hand_in(clinic, paper))]
    relabels = [relabel(clinic, run, number) for number in range(10)]

    unhurt = [paper for paper in sent if paper.account not in (DOWN, THROTTLING)]
    wait_until(
        lambda: charted(clinic, unhurt) == once(unhurt),
        "the others are delivered meanwhile",
        seconds=LONG_PATIENCE_SECONDS,
    )
    assert charted(clinic, [paper for paper in sent if paper.account == DOWN]) == Counter()
    wait_until(lambda: status_of(clinic, DOWN) == "down", "its account is down")

    clinic.world.world(down={"cliniko": None})
    for call in [*calls, *relabels]:
        call.get(timeout=120)
    wait_until(lambda: len(clinic.receipts()) == len(sent) - len(calls), "the inbox documents have their receipts")
    assert charted(clinic, sent) == once(sent), "each exactly once"
    assert clinic.errors() == []
    assert_labels(clinic, run)
    assert assurances(clinic) == {
        "pracsuite": {"confirmed"},
        "cliniko": {"confirmed"},
        "ovok": {"confirmed"},
        "redox": {"accepted"},
        "nhn": {"confirmed"},
    }
    assert clinic.world.leaks() == []


def hand_in(clinic: Installation, paper: Paper) -> AsyncResult[Any] | None:
    if paper.by_inbox:
        clinic.drop(paper.patient_id, paper.file_name, paper.content, paper.account)
        return None
    source = clinic.write(paper.file_name, paper.content)
    return clinic.upload(source, paper.patient_id, account=paper.account)


def relabel(clinic: Installation, run: str, number: int) -> AsyncResult[Any]:
    """Nine documents, one of them twice, one whose first answer is lost; by both payloads."""
    document = {3: f"{run}-2", 7: f"LOST-{run}"}.get(number, f"{run}-{number}")
    labels = (NORMAL, BLOCKED) if number % 2 else (BLOCKED,)
    payload = "resource" if number % 3 else "json-patch"
    call = clinic.relabel(document, *labels, payload=payload, account="nhn_hospital")
    # Two processes may take two calls that lie in the queue at once. The promise is the order in which they are taken.
    wait_until(lambda: clinic.command("show", call.id).returncode == 0, "it is taken")
    return call


def assert_labels(clinic: Installation, run: str) -> None:
    with httpx.Client(trust_env=False, timeout=60) as client:
        labels = client.get(f"{clinic.world.base}/_sandbox/labels").json()["labels"]
    ours = {document: set_to for document, set_to in labels.items() if run in document}
    assert {label["code"] for label in ours[f"{run}-2"]["labels"]} == {"N", "NORS"}, "the later of the two"
    assert {label["code"] for label in ours[f"LOST-{run}"]["labels"]} == {"N", "NORS"}
    assert len([document for document in ours if not document.endswith(".pdf")]) >= 9


def charted(clinic: Installation, sent: list[Paper]) -> Counter[tuple[str, str]]:
    """How often each of these is in a chart."""
    wanted = {(paper.account, paper.sha256) for paper in sent}
    found = [(record["tenant"], record["sha256"]) for record in clinic.chart()]
    return Counter(record for record in found if record in wanted)


def once(sent: list[Paper]) -> Counter[tuple[str, str]]:
    return Counter((paper.account, paper.sha256) for paper in sent)


def status_of(clinic: Installation, account: str) -> str:
    rows = [json.loads(line) for line in clinic.command("accounts", "--json").stdout.splitlines()]
    return next(str(row["status"]) for row in rows if row["name"] == account)


def assurances(clinic: Installation) -> dict[str, set[str]]:
    rows = [json.loads(line) for line in clinic.command("jobs", "--json").stdout.splitlines()]
    providers = {str(row["provider"]) for row in rows}
    return {name: {str(row["assurance"]) for row in rows if row["provider"] == name} for name in providers}
