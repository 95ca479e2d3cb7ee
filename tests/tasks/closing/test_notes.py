"""A document that has failed lies beside notes in the clinic's language, with what is known of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from config.accounts import PracsuiteAccount, RedoxAccount
from config.settings import Notes, Settings
from tasks.closing.files import DocumentFiles
from tasks.closing.notes import FailureNotes, only_a_person_can_look
from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.model.document import Document, Door
from tasks.model.errors import About, Code
from tasks.model.job import Failure, Job, Statement
from tasks.model.route import Stage
from tests.harness.keys import SEAL
from tests.tasks.folders.documents import JOB, claim, drop
from tests.tasks.providers.doubles import job as made_job

AT = datetime(2026, 3, 2, 12, tzinfo=UTC)


def settings(folder: Path, own: str | None = None, **notes: Any) -> Settings:
    account = PracsuiteAccount(provider="pracsuite", vendor_api_key="v", api_key="k", language=own)
    return Settings(data_dir=folder, notes=Notes(**notes), accounts={"north_clinic": account})


def failed(**changes: Any) -> Job:
    document = Document("north_clinic", "4711", "", "referral.pdf", 10, door=Door.INBOX)
    failure = Failure(Code.REFUSED_BY_PROVIDER, "PracSuite knows no such patient.", "Check.", "x", About.PATIENT)
    times: dict[str, datetime] = {Stage.RECEIVED: AT, Stage.FAILED: AT}
    job = replace(made_job(), id=JOB, stage=Stage.FAILED, document=document, failure=failure, times=times)
    return replace(job, provider="pracsuite", **changes)


def closed(folder: Path, told: Settings, job: Job) -> dict[str, str]:
    """The notes beside a failed document, by their names."""
    folders = Folders(folder / "data", SEAL)
    folders.create()
    claim(folders, drop(folders))
    DocumentFiles(folders, Outcomes(folders), None, FailureNotes(told)).close(job)
    return {path.name: path.read_text() for path in folders.failed.rglob("* - NOT SENT.*")}


def test_the_notes_are_in_the_language_of_the_account(tmp_path: Path) -> None:
    told = settings(tmp_path, "nb", language="de", contact="IT, telefon 212")
    notes = closed(tmp_path, told, failed())
    assert set(notes) == {"referral.pdf - NOT SENT.html", "referral.pdf - NOT SENT.txt"}
    for text in notes.values():
        assert "PracSuite kjenner ikke denne pasienten" in text
        assert "IT, telefon 212" in text
        assert "4711" in text
        assert f"refused_by_provider {JOB[:8]}" in text
        assert "2. mars 2026" in text
        assert JOB not in text.split("chartpost-note")[0]


def test_without_a_language_of_its_own_an_account_has_the_languages_of_all(tmp_path: Path) -> None:
    notes = closed(tmp_path, settings(tmp_path, language="de"), failed())
    assert "PracSuite kennt diesen Patienten nicht" in notes["referral.pdf - NOT SENT.txt"]


def test_notes_can_be_switched_off(tmp_path: Path) -> None:
    assert closed(tmp_path, settings(tmp_path, enabled=False), failed()) == {}


def test_a_failure_that_was_dealt_with_says_by_whom(tmp_path: Path) -> None:
    notes = closed(tmp_path, settings(tmp_path), failed(dismissal=Statement("Anna", AT, "sent by fax")))
    assert "Dealt with by Anna, Monday, 2 March 2026" in notes["referral.pdf - NOT SENT.txt"]
    assert "sent by fax" in notes["referral.pdf - NOT SENT.html"]


def test_only_where_a_provider_can_neither_be_searched_nor_knows_its_ids_a_person_must_look() -> None:
    def redox(on_unknown_outcome: str) -> Any:
        return RedoxAccount.model_construct(None, on_unknown_outcome=on_unknown_outcome)  # type: ignore[call-arg, arg-type]  # one key counts

    assert only_a_person_can_look(redox("hold"))
    assert not only_a_person_can_look(redox("resend"))
    assert not only_a_person_can_look(settings(Path()).accounts["north_clinic"])
    assert not only_a_person_can_look(None)
