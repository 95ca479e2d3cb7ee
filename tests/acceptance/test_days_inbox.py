"""An inbox that a scanner, a NAS and a Windows desktop have used for a day: what is sent, what waits, what is named.

`python -m tests.worker.inbox.day` prints the table.
"""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.harness.installation import Installation, installed
from tests.harness.sandbox import SandboxProcess
from tests.worker.inbox.day.entries import SOUTH, Entry, Verdict, entries
from tests.worker.inbox.day.run import SETTINGS, Day, rights_can_be_tried, spend_a_day, without_rights


@pytest.fixture(scope="module")
def spent(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[tuple[Installation, Day]]:
    made = entries() if rights_can_be_tried() else without_rights(entries())
    before = len(world.charts())
    with installed(tmp_path_factory.mktemp("day") / "clinic", world, end=SETTINGS) as clinic:
        day = spend_a_day(clinic, made)
        day.charted = len(world.charts()) - before
        yield clinic, day


@pytest.fixture
def day(spent: tuple[Installation, Day]) -> Day:
    return spent[1]


def left(day: Day) -> list[Entry]:
    return [entry for entry in day.entries if entry.verdict in (Verdict.WAITS, Verdict.QUIET)]


def test_everything_becomes_of_each_what_must(day: Day) -> None:
    assert len(day.entries) > 200
    expected = {entry.place: (entry.verdict, str(entry.reason or "")) for entry in day.entries}
    for entry in day.entries:  # a sidecar goes where its document goes, and fails with its reason
        if entry.place.endswith(".meta.json") and entry.verdict in (Verdict.SENT, Verdict.FAILED):
            expected[entry.place] = expected[entry.place.removesuffix(".meta.json")]
    assert day.became == expected


def test_nothing_else_came_into_any_chart(day: Day) -> None:
    documents = [entry for entry in day.entries if entry.verdict is Verdict.SENT]
    assert day.charted == len([entry for entry in documents if not entry.place.endswith(".meta.json")])


def test_what_was_left_is_where_it_was(spent: tuple[Installation, Day]) -> None:
    clinic, day = spent
    inbox = clinic.data / "inbox"
    assert [entry.place for entry in left(day) if not os.path.lexists(inbox / entry.place)] == []


def test_the_log_and_the_metric_name_each_once_with_its_reason(day: Day) -> None:
    expected = Counter((entry.account, str(entry.reason)) for entry in left(day))
    assert day.logged == expected
    assert day.counts == expected


def test_no_patient_and_no_file_is_named_in_the_log(day: Day) -> None:
    words = ("4711", "letter", "Müller", "M\\u00fcller", "p-sidecars", "scan 0", "east_clinic", "Anna", "without a")
    # Not within a UUID or a mark, where four digits stand by chance.
    assert [word for word in words if re.search(rf"(?<![0-9a-f-]){re.escape(word)}(?![0-9a-f-])", day.log)] == []


def test_a_document_whose_name_tells_no_patient_is_not_sent_by_a_retry(spent: tuple[Installation, Day]) -> None:
    clinic, _ = spent
    failed = clinic.data / "failed" / SOUTH / "letter.pdf"
    job_id = json.loads(failed.with_name("letter.pdf.error.json").read_text())["job_id"]
    retry = clinic.command("retry", job_id)
    assert retry.returncode == 1
    assert "does not fit the pattern {patient_id}-{date}-{name} or {patient_id}_{name}" in retry.stdout + retry.stderr
    assert failed.exists()
