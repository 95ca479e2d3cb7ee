"""The short cut of `make chaos`: one fault of each kind that matters, nothing lost and nothing doubled."""

from __future__ import annotations

from pathlib import Path

from tests.chaos.campaign import Plan, run
from tests.chaos.documents import SLOWEST_SECONDS
from tests.chaos.faults import FAULTS

LEFT_OUT = ("Redis killed (SIGKILL)", "API: 504", "API: hang", "API throttled", "storage: 504", "storage: reset")
FAULTS_OF_THE_SHORT_CUT = tuple(fault for fault in FAULTS if fault.name not in LEFT_OUT)
PLAN = Plan(
    seed=7,
    documents=60,
    flow_seconds=25,
    settle_seconds=240,
    faults=FAULTS_OF_THE_SHORT_CUT,
    brief=True,
    consuming_within_leases=60,  # `make chaos` measures: here it is only whether they come back at all
    search_seconds=SLOWEST_SECONDS + 5,
)


def test_a_short_campaign_loses_nothing_doubles_nothing_and_leaves_no_worker_idle(tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    folder.mkdir()
    report = run(PLAN, folder)
    assert report.passed, f"{report.as_text()}\nThe logs are in {folder}"
    assert all(row.times for row in report.rows)
