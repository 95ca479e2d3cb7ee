"""`delivered/` is kept for ever, or for as many days as the settings say."""

from __future__ import annotations

import os
import time
from pathlib import Path
from uuid import uuid4

import pytest

from tasks.folders.layout import Folders
from tasks.folders.outcomes import Outcomes
from tasks.folders.retention import sweep_delivered
from tests.tasks.folders.documents import ACCOUNT, PATIENT, claim, drop, receipt


@pytest.mark.parametrize(("days", "kept"), [(0, 2), (7, 1), (30, 2)])
def test_documents_leave_with_their_receipts_when_those_are_old(tmp_path: Path, days: float, kept: int) -> None:
    folders = Folders(tmp_path)
    folders.create()
    for age_days in (1, 10):
        job_id, name = str(uuid4()), f"{age_days}.pdf"
        claim(folders, drop(folders, name), job_id)
        document = Outcomes(folders).deliver(job_id, ACCOUNT, PATIENT, receipt(job_id, name)).document
        then = time.time() - age_days * 86_400
        os.utime(document.with_name(document.name + ".receipt.json"), (then, then))
    sweep_delivered(Outcomes(folders), days)
    left = [path.name for path in folders.delivered.rglob("*") if path.is_file()]
    assert len(left) == 2 * kept
    assert {"1.pdf", "1.pdf.receipt.json"} <= set(left)
