"""People who see nothing but the folders find a note where a document has failed or waits, and nowhere else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until

NOTES = '\n[notes]\nlanguage = "nb"\ncontact = "IT, telefon 212"\nafter_minutes = 0.02\n'


@pytest.fixture
def clinic(tmp_path: Path, world: SandboxProcess, valkey_url: str) -> Iterator[Installation]:
    with installed(tmp_path / "clinic", world, valkey_url, end=NOTES) as started:
        yield started
    world.world(reset=True)


def notes(clinic: Installation) -> list[Path]:
    """Every note, wherever it lies."""
    return [path for path in clinic.data.rglob("* - *") if " - NOT SENT" in path.name or " - WAITING" in path.name]


def receipts_of(clinic: Installation, patient: str) -> list[dict[str, object]]:
    return [receipt for receipt in clinic.receipts() if receipt["patient_id"] == patient]


def test_a_failed_file_has_notes_and_put_back_with_them_it_alone_is_sent(clinic: Installation) -> None:
    patient = f"n{uuid4()}"
    watcher, worker = clinic.start("worker", "watch"), clinic.start_worker()
    clinic.drop(patient, "brev.pdf", b"")
    failed = clinic.data / "failed" / clinic.account / patient
    page, text = failed / "brev.pdf - NOT SENT.html", failed / "brev.pdf - NOT SENT.txt"
    wait_until(lambda: page.exists() and text.exists(), "both notes are there")
    for each in (page, text):
        assert "Filen er tom" in each.read_text()
        assert "IT, telefon 212" in each.read_text()
    wait_until(lambda: not list((clinic.data / "processing").iterdir()), "it is closed")
    watcher.kill()
    # The whole folder goes back, as people do it, with the file corrected.
    (failed / "brev.pdf").write_bytes(b"a letter")
    back = clinic.data / "inbox" / clinic.account / patient
    back.rmdir()
    failed.rename(back)
    clinic.start("worker", "watch")
    wait_until(lambda: receipts_of(clinic, patient), "it is delivered")
    wait_until(lambda: not notes(clinic), "all notes are gone")
    assert [record["file_name"] for record in clinic.chart(patient_id=patient)] == ["brev.pdf"]
    assert "brev.pdf" not in watcher.log + worker.log


def test_a_document_of_a_parked_account_has_a_note_until_it_is_delivered_whoever_is_killed(
    clinic: Installation, world: SandboxProcess
) -> None:
    patient = f"w{uuid4()}"
    key = str(world.settings["accounts"][clinic.account]["api_key"])
    world.world(revoke=[key])
    watcher = clinic.start("worker", "watch")
    worker = clinic.start_worker()
    clinic.drop(patient, "brev.pdf", b"a letter")
    note = clinic.data / "waiting" / clinic.account / patient / "brev.pdf - WAITING.html"
    wait_until(lambda: note.exists() and "slipper oss ikke inn" in note.read_text(), "its note says why it waits")
    for process in (watcher, worker):
        process.kill()
    note.unlink()
    watcher = clinic.start("worker", "watch")
    wait_until(note.exists, "the next watcher writes it again")
    watcher.kill()
    world.world(restore=[key])
    clinic.start_worker()
    wait_until(lambda: receipts_of(clinic, patient), "it is delivered")
    assert note.exists(), "nobody was there to remove it"
    clinic.start("worker", "watch")
    wait_until(lambda: not list((clinic.data / "waiting").iterdir()), "it goes, and its folders with it")
    assert len(clinic.chart(patient_id=patient)) == 1
    assert patient not in "".join(child.log for child in clinic.children)
