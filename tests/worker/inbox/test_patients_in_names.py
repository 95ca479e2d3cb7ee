"""`inbox.name_patterns` at work: a scanner drops files into inbox/<account>/, and their names tell the patients."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from config.settings import Inbox
from tasks.folders.claims import Claims
from tasks.folders.job_json import JobFile
from tasks.folders.layout import Folders
from tasks.model.document import Document, Door
from tasks.model.errors import DocumentRefused
from tasks.sources.entries import entry
from tasks.sources.writers import Writers
from tests.worker.inbox.recording import RecordingLedger, inbox, watcher
from worker.inbox.claim import InboxClaims
from worker.inbox.name_patterns import name_readers

NORTH = "north_clinic"
PATTERNS = {NORTH: ("{patient_id}_{name}",)}
JOB = "11111111-2222-4333-8444-555555555555"


def put(folders: Folders, place: str, content: bytes = b"x") -> Path:
    path = folders.inbox / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def settings() -> Inbox:
    return inbox(name_patterns=PATTERNS)


def taken(ledger: RecordingLedger) -> list[tuple[str, str | None, str, str]]:
    jobs = ledger.opened.values()
    return sorted(
        (job.document.account, job.document.patient_id, job.document.file_name, job.disk_name) for job in jobs
    )


def failures(folders: Folders) -> dict[str, Any]:
    return {
        path.relative_to(folders.failed).as_posix().removesuffix(".error.json"): json.loads(path.read_bytes())
        for path in folders.failed.rglob("*.error.json")
    }


def test_a_name_that_fits_gives_the_patient_and_the_name_in_the_chart(
    folders: Folders, ledger: RecordingLedger
) -> None:
    put(folders, "north_clinic/4711_letter.pdf")
    put(folders, "north_clinic/4712/4711_letter.pdf")
    put(folders, "north_clinic/4713/letter.pdf")
    put(folders, "south_clinic/4711_letter.pdf")
    watcher(folders, ledger, settings()).once()
    assert taken(ledger) == [
        (NORTH, "4711", "letter.pdf", "4711_letter.pdf"),
        (NORTH, "4712", "4711_letter.pdf", "4711_letter.pdf"),  # its folder says whose it is
        (NORTH, "4713", "letter.pdf", "letter.pdf"),
        ("south_clinic", None, "4711_letter.pdf", "4711_letter.pdf"),  # it has no patterns
    ]


def test_a_name_that_does_not_fit_fails_beside_the_pattern(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/letter.pdf")
    watcher(folders, ledger, settings()).once()
    assert ledger.opened == {}
    ((place, error),) = failures(folders).items()
    assert (place, error["code"]) == ("north_clinic/letter.pdf", "patient_required")
    assert "{patient_id}_{name}" in error["message"]


def test_a_sidecar_beside_it_works_and_may_give_the_name(folders: Folders, ledger: RecordingLedger) -> None:
    put(folders, "north_clinic/1_a.pdf.meta.json", b'{"description": "a letter"}')
    put(folders, "north_clinic/1_a.pdf")
    put(folders, "north_clinic/2_b.pdf.meta.json", b'{"file_name": "given.pdf"}')
    put(folders, "north_clinic/2_b.pdf")
    put(folders, "north_clinic/3_c.pdf.meta.json", b"{not json")
    put(folders, "north_clinic/3_c.pdf")
    watcher(folders, ledger, settings()).once()
    by_patient = {
        job.document.patient_id: (job.document.file_name, job.document.description) for job in ledger.opened.values()
    }
    assert by_patient == {"1": ("a.pdf", "a letter"), "2": ("given.pdf", None)}
    assert {place: error["code"] for place, error in failures(folders).items()} == {
        "north_clinic/3/3_c.pdf": "invalid_request"
    }


def test_a_document_that_came_back_from_its_patients_failed_folder_is_the_same_one(
    folders: Folders, ledger: RecordingLedger
) -> None:
    """Under another name it would not continue its job of unknown outcome, and be sent twice."""
    put(folders, "north_clinic/4711/4711_letter.pdf")
    watcher(folders, ledger, settings()).once()
    assert taken(ledger) == [(NORTH, "4711", "letter.pdf", "4711_letter.pdf")]


def test_a_sidecar_that_a_killed_claim_took_goes_back_beside_its_document(
    folders: Folders, ledger: RecordingLedger
) -> None:
    path = put(folders, "north_clinic/4711_letter.pdf")
    put(folders, "north_clinic/4711_letter.pdf.meta.json", b'{"description": "a letter"}')

    class Killed(Exception):
        pass

    class KilledBeforeTheDocument(Claims):
        def claim(self, path: Path, job_id: str, job_file: JobFile, *, sidecar: Path | None = None, **_: Any) -> Path:
            folder = self._folders.job_folder(job_id)
            with folder.lock(make=True):
                folder.write(job_file)
                assert sidecar
                folder.take_sidecar(entry(sidecar))
            raise Killed

    killed = KilledBeforeTheDocument(folders)
    watcher(folders, ledger, settings(), claims=killed).once()
    assert sorted(each.name for each in path.parent.iterdir()) == ["4711_letter.pdf"]
    watcher(folders, ledger, settings()).once()
    assert [job.document.description for job in ledger.opened.values()] == ["a letter"]


def test_a_document_without_a_patient_is_not_sent_by_taking_it_up_again(
    folders: Folders, ledger: RecordingLedger
) -> None:
    put(folders, "north_clinic/letter.pdf")
    watcher(folders, ledger, settings()).once()
    (job_id,) = ledger.refused
    Claims(folders).reopen_failed(job_id, NORTH, None)
    watcher(folders, ledger, settings()).once()
    assert ledger.orphans_opened == {}
    assert [error["code"] for error in failures(folders).values()] == ["patient_required"]


def test_a_retry_says_at_once_that_the_name_does_not_fit(folders: Folders, ledger: RecordingLedger) -> None:
    claims = InboxClaims(
        folders, Claims(folders), ledger, writers=Writers(folders.processing), name_readers=name_readers(PATTERNS)
    )
    document = Document(NORTH, None, "", "a.pdf", 1, door=Door.INBOX)
    without_patient = JobFile(JOB, document, "a.pdf", datetime.now(UTC))
    with pytest.raises(DocumentRefused, match="does not fit the pattern"):
        claims.check_names(without_patient)
    claims.check_names(without_patient.with_document(patient_id="4711"))
    claims.check_names(without_patient.with_document(account="south_clinic"))
    # What may have been sent before the patterns came is searched for all the same.
    claims.check_names(without_patient.with_commit(stands=True))
