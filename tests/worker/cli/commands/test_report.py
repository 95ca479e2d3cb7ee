"""`report` tells what became of documents, without a patient, also of days whose jobs have left Redis."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import redis

from tasks.reporting.roll_up import RollUp
from tests.docs.pages import first_column, page
from tests.harness.sandbox import ROOT
from tests.tasks.reporting.ended import NOON, day, ended, expire
from tests.worker.cli.conftest import CommandLine
from tests.worker.cli.jobs import Jobs

CONTRACT = page("docs/contract.md")


def report(chartpost: CommandLine, *options: str) -> dict[str, Any]:
    result = chartpost("report", "--format", "json", *options)
    assert result.exit_code == 0, result.output
    made: dict[str, Any] = json.loads(result.stdout)
    return made


def ago(**time: float) -> datetime:
    return datetime.now(UTC) - timedelta(**time)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def a_week(valkey: redis.Redis) -> None:
    for days in range(1, 6):
        ended(valkey, ago(days=days), seconds=10 * days)
    ended(valkey, ago(days=2), state="failed", code="gave_up")
    ended(valkey, ago(days=2), state="failed", code="gave_up")
    ended(valkey, ago(days=1), state="failed", code="file_empty", account="south_clinic", calls=0)
    ended(valkey, ago(days=1), state="cancelled", code="cancelled", account="south_clinic", calls=0)
    ended(valkey, ago(days=1), code="duplicate", calls=1, seconds=9000)
    ended(valkey, ago(days=8), seconds=5000)


def test_a_report_tells_how_documents_ended_and_how_long_they_took(chartpost: CommandLine, valkey: redis.Redis) -> None:
    a_week(valkey)
    made = report(chartpost)
    total = made["total"]
    assert {name: total[name] for name in ("documents", "delivered", "duplicates", "failed", "cancelled")} == {
        "documents": 10,
        "delivered": 6,
        "duplicates": 1,
        "failed": 3,
        "cancelled": 1,
    }
    assert (total["median_seconds"], total["p95_seconds"], total["provider_calls"]) == (30.0, 48.0, 29)
    assert made["failures"] == [
        {"account": "north_clinic", "code": "gave_up", "documents": 2},
        {"account": "south_clinic", "code": "file_empty", "documents": 1},
    ]
    assert [job["seconds"] for job in made["slowest"]] == [50, 40, 30, 20, 10]
    assert sum(interval["delivered"] for interval in made["intervals"]) == 6
    assert made["interval"] == "day"
    assert not made["approximate"]


def test_a_report_has_the_fields_of_the_contract(chartpost: CommandLine, valkey: redis.Redis) -> None:
    a_week(valkey)
    made = report(chartpost)
    assert first_column(CONTRACT.section("A report as JSON")) == set(made)
    assert first_column(CONTRACT.section("A group of a report")) == set(made["total"])
    assert set(made["groups"][0]) == set(made["total"])
    columns = rows(chartpost("report", "--format", "csv").stdout)[0]
    assert set(columns) == set(made["total"]) | {"since", "until"}


@pytest.mark.parametrize(
    ("by", "expected"),
    [
        ("account", {("north_clinic", ""): (6, 2), ("south_clinic", ""): (0, 1)}),
        (
            "code",
            {
                ("", ""): (5, 0),
                ("", "duplicate"): (1, 0),
                ("", "gave_up"): (0, 2),
                ("", "file_empty"): (0, 1),
                ("", "cancelled"): (0, 0),
            },
        ),
        (
            "code,account",
            {
                ("north_clinic", ""): (5, 0),
                ("north_clinic", "duplicate"): (1, 0),
                ("north_clinic", "gave_up"): (0, 2),
                ("south_clinic", "file_empty"): (0, 1),
                ("south_clinic", "cancelled"): (0, 0),
            },
        ),
    ],
    ids=["account", "code", "both"],
)
def test_lines_are_by_account_by_code_or_by_both(
    chartpost: CommandLine, valkey: redis.Redis, by: str, expected: dict[tuple[str, str], tuple[int, int]]
) -> None:
    a_week(valkey)
    lines = rows(chartpost("report", "--format", "csv", "--by", by).stdout)
    found = {(line["account"], line["code"]): (int(line["delivered"]), int(line["failed"])) for line in lines}
    assert found == expected


def test_a_report_of_some_accounts_and_of_a_time(chartpost: CommandLine, valkey: redis.Redis) -> None:
    a_week(valkey)
    south = report(chartpost, "--account", "south_clinic")
    assert (south["total"]["documents"], south["accounts"]) == (2, ["south_clinic"])
    assert report(chartpost, "--since", "60h", "--until", "36h")["total"]["documents"] == 3
    hours = report(chartpost, "--since", "30h")
    assert (hours["interval"], sum(hour["failed"] for hour in hours["intervals"])) == ("hour", 1)
    assert chartpost("report", "--account", "nobody").exit_code == 2
    assert chartpost("report", "--since", "1d", "--until", "2d").exit_code == 2
    assert chartpost("report", "--by", "patient").exit_code == 2


def test_what_waits_now_is_in_the_report(chartpost: CommandLine, jobs: Jobs) -> None:
    first = jobs.received("a.pdf")
    jobs.received("b.pdf", account="south_clinic")
    made = report(chartpost)
    assert made["total"]["waiting"] == 2
    assert datetime.fromisoformat(made["total"]["oldest_waiting_at"]) == first.created_at
    assert [group["waiting"] for group in made["groups"]] == [1, 1]
    assert "2 wait now, the oldest for" in chartpost("report").stdout


def test_days_whose_jobs_have_left_are_told_by_their_counts(chartpost: CommandLine, valkey: redis.Redis) -> None:
    seconds = [8, 9, 11, 12, 14]
    old = [ended(valkey, day(40) + NOON, seconds=value) for value in seconds]
    old.append(ended(valkey, day(40) + NOON, state="failed", code="gave_up"))
    ended(valkey, day(2) + NOON, seconds=10)
    RollUp(valkey, counts_days=1100).run()
    before = report(chartpost, "--since", "90d")
    assert not before["approximate"]
    expire(valkey, *old)
    after = report(chartpost, "--since", "90d")
    for name in ("documents", "delivered", "failed", "provider_calls"):
        assert after["total"][name] == before["total"][name]
    assert after["approximate"]
    assert after["total"]["median_seconds"] == pytest.approx(before["total"]["median_seconds"], rel=0.3)
    assert after["rolled_up_days"] == [day(40).date().isoformat()]
    assert "daily counts" in chartpost("report", "--since", "90d").stdout
    # A time that begins within that day has the whole of it: its hours are not known any more.
    begins = (day(40) + timedelta(hours=18)).isoformat()
    within = report(chartpost, "--since", begins)
    assert (within["total"]["documents"], within["since"]) == (7, day(40).isoformat().replace("+00:00", ".000Z"))


def test_a_day_is_the_same_before_and_after_one_of_its_jobs_is_sent_again(
    chartpost: CommandLine, valkey: redis.Redis
) -> None:
    job = ended(valkey, day(3) + NOON, state="failed", code="gave_up")
    ended(valkey, day(3) + NOON)
    RollUp(valkey, counts_days=1100).run()
    ended(valkey, ago(minutes=1), job_id=job)
    total = report(chartpost)["total"]
    assert (total["failed"], total["delivered"]) == (1, 2)


def test_no_patient_and_no_file_name_is_in_any_format(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.delivered(jobs.received("a-secret-name.pdf", patient_id="patient-4711"))
    jobs.failed(jobs.received("another-secret.pdf", patient_id="patient-4711"), detail="Mrs Secret")
    jobs.received("waiting-secret.pdf", patient_id="patient-4711")
    for kind in ("text", "csv", "json", "html"):
        printed = chartpost("report", "--format", kind)
        assert printed.exit_code == 0, printed.output
        assert "north_clinic" in printed.output
        assert not re.search("secret|4711", printed.output, re.IGNORECASE)


class Page(HTMLParser):
    """What a browser would fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.outside: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.outside += [f"{name}={value}" for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        self.outside += [f"{name}={value}" for name, value in attrs if name.startswith("on")]


def test_html_is_one_file_with_plots_that_needs_nothing_else(
    chartpost: CommandLine, valkey: redis.Redis, tmp_path: Path
) -> None:
    a_week(valkey)
    out = tmp_path / "week.html"
    assert chartpost("report", "--out", str(out)).exit_code == 0
    text = out.read_text()
    read = Page()
    read.feed(text)
    assert read.tags.count("svg") == 3
    assert "script" not in read.tags
    assert "link" not in read.tags
    assert read.outside == []
    assert not re.search(r"url\(|@import", text)
    assert set(re.findall(r"https?://[^\"'\s<>]+", text)) <= {"http://www.w3.org/2000/svg"}
    assert "gave_up" in text
    assert "@page" in text


def test_an_empty_report_can_be_made_in_every_format(chartpost: CommandLine) -> None:
    for kind in ("text", "csv", "json", "html"):
        assert chartpost("report", "--format", kind).exit_code == 0
    assert report(chartpost)["total"]["median_seconds"] is None


def test_without_the_extra_html_says_what_to_install_and_all_else_works(chartpost: CommandLine) -> None:
    script = "import sys; sys.modules['pygal'] = None; from worker.cli.main import main; main()"

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", script, "--config", str(chartpost.config), "report", *options]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, env=environ, capture_output=True, text=True, check=False)

    refused = run("--format", "html")
    assert refused.returncode == 1
    assert "pip install 'chartpost[report]'" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert run("--format", "json").returncode == 0


def test_a_file_is_replaced_whole_and_its_format_follows_from_its_name(
    chartpost: CommandLine, valkey: redis.Redis, tmp_path: Path
) -> None:
    a_week(valkey)
    for name, begins in (
        ("a.csv", "since,"),
        ("a.json", "{"),
        ("a.txt", "Documents that ended"),
        ("a.htm", "<!DOCTYPE"),
    ):
        (tmp_path / name).write_text("old")
        assert chartpost("report", "--out", str(tmp_path / name)).exit_code == 0
        assert (tmp_path / name).read_text().startswith(begins)
    assert {path.name for path in tmp_path.glob(".*")} == set()
    missing = chartpost("report", "--out", str(tmp_path / "no folder" / "a.csv"))
    assert missing.exit_code == 1
    assert "Traceback" not in missing.output
