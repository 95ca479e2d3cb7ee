"""`chartpost check --deep` finds what belongs to nothing in the ledger and in the folders."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import redis

from tasks.folders.claims import Claims
from tasks.folders.layout import Folders
from tasks.ledger.keys import PREFIX
from tasks.ledger.ledger import Ledger
from tasks.ledger.seal import Seal
from tasks.model.document import Door
from tasks.runtime import Runtime
from tests.tasks.folders.documents import claim, drop
from tests.tasks.ledger.test_consistency import opened
from tests.worker.cli.conftest import CommandLine
from worker.cli.commands.check.ledger import documents_without_jobs, jobs_without_documents


def test_a_due_entry_without_its_job_is_removed(chartpost: CommandLine, runtime: Runtime) -> None:
    gone = str(uuid4())
    runtime.redis.zadd(f"{PREFIX}due:north_clinic", {gone: 1})
    first = chartpost("check", "--deep")
    assert gone in first.output
    assert "mended" in first.output
    second = chartpost("check", "--deep")
    assert gone not in second.output
    assert runtime.redis.zcard(f"{PREFIX}due:north_clinic") == 0


def test_a_job_whose_file_is_gone_from_processing_is_reported(valkey: redis.Redis, tmp_path: Path) -> None:
    ledger = Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)
    job = opened(ledger, Door.INBOX)
    assert [(orphan.what, orphan.id) for orphan in jobs_without_documents(ledger, Folders(tmp_path))] == [
        ("job without file", job)
    ]


def test_a_job_whose_file_lies_on_another_machine_is_not_reported(valkey: redis.Redis, tmp_path: Path) -> None:
    ledger = Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30)
    job = opened(ledger, Door.INBOX)
    ledger.bind(job, "another machine")
    folders = Folders(tmp_path)
    assert list(jobs_without_documents(ledger, folders, "this machine")) == []
    assert [orphan.id for orphan in jobs_without_documents(ledger, folders, "another machine")] == [job]


def test_a_document_without_its_job_is_reported_even_if_its_job_json_is_damaged(
    valkey: redis.Redis, tmp_path: Path
) -> None:
    ledger, folders = Ledger(valkey, Seal("a secret"), lease_seconds=30, jobs_days=30), Folders(tmp_path)
    folders.create()
    lost, damaged = str(uuid4()), str(uuid4())
    claim(folders, drop(folders, "lost.pdf"), lost)
    claim(folders, drop(folders, "damaged.pdf"), damaged)
    (folders.processing / damaged / "job.json").write_text("{")
    reported = {(orphan.what, orphan.id) for orphan in documents_without_jobs(ledger, Claims(folders))}
    assert reported == {("document without job", lost), ("document with a damaged job.json", damaged)}
