"""`jobs` lists what is in the ledger."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import termios
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import redis

from tasks.ledger.keys import PREFIX
from tasks.ledger.queries import Wanted
from tasks.ledger.seal import Seal
from tasks.model.errors import Code
from tasks.model.job import Job
from tests.harness.sandbox import ROOT
from tests.worker.cli.conftest import CommandLine, lines
from tests.worker.cli.jobs import FIELDS, STORED, Jobs


def test_a_job_as_json_has_every_field_of_the_contract(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.received()
    (row,) = chartpost.rows("jobs")
    assert row.keys() >= FIELDS
    assert (row["id"], row["state"], row["patient_id"], row["size_bytes"]) == (job.id, "received", "4711", 6)
    assert (row["code"], row["sha256"], row["record_id"], row["assurance"]) == (None, None, None, None)
    assert datetime.fromisoformat(row["created_at"]) == job.created_at.replace(
        microsecond=job.created_at.microsecond // 1000 * 1000
    )
    assert row["created_at"].endswith("Z")


def test_a_delivered_job_names_its_record_and_its_assurance(chartpost: CommandLine, jobs: Jobs) -> None:
    jobs.delivered(jobs.received())
    (row,) = chartpost.rows("jobs")
    assert (row["state"], row["record_id"], row["assurance"], row["sha256"]) == (
        "delivered",
        "77",
        "confirmed",
        STORED.sha256,
    )


def test_the_job_that_came_last_is_listed_first(chartpost: CommandLine, jobs: Jobs) -> None:
    ids = []
    for number in range(5):
        ids.append(jobs.received(f"{number}.pdf").id)
        time.sleep(0.002)  # Redis keeps times in milliseconds
    assert [row["id"] for row in chartpost.rows("jobs")] == ids[::-1]
    assert [row["id"] for row in chartpost.rows("jobs", "--limit", "2")] == [ids[4], ids[3]]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--state", "failed"], {"refused.pdf", "empty.pdf"}),
        (["--state", "received"], {"new.pdf", "theirs.pdf"}),
        (["--account", "south_clinic"], {"theirs.pdf"}),
        (["--state", "received", "--account", "north_clinic"], {"new.pdf"}),
        (["--state", "delivered", "--account", "south_clinic"], set()),
        (["--code", "file_empty"], {"empty.pdf"}),
        (["--code", "file_empty", "--state", "received"], set()),
    ],
)
def test_jobs_are_listed_by_state_account_and_code(
    chartpost: CommandLine, jobs: Jobs, options: list[str], expected: set[str]
) -> None:
    jobs.received("new.pdf")
    jobs.received("theirs.pdf", account="south_clinic")
    jobs.failed(jobs.received("refused.pdf"))
    jobs.failed(jobs.received("empty.pdf"), Code.FILE_EMPTY)
    assert {row["file_name"] for row in chartpost.rows("jobs", *options)} == expected


def test_of_ended_jobs_the_one_that_ended_last_is_listed_first(chartpost: CommandLine, jobs: Jobs) -> None:
    came = [jobs.received(f"{number}.pdf") for number in range(4)]
    ended = [came[2], came[0], came[3], came[1]]
    for job in ended:
        jobs.failed(job)
        time.sleep(0.002)
    assert [row["id"] for row in chartpost.rows("jobs", "--state", "failed")] == [job.id for job in ended[::-1]]


def test_a_failed_job_that_is_searched_for_is_listed_and_one_that_was_retried_is_not(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    searched, retried = jobs.not_confirmed(jobs.received("a.pdf")), jobs.failed(jobs.received("b.pdf"))
    assert chartpost("retry", retried.id).exit_code == 0
    assert [row["id"] for row in chartpost.rows("jobs", "--state", "failed")] == [searched.id]


@pytest.mark.parametrize("state", ["failed", "delivered", "cancelled"])
def test_to_list_what_has_ended_no_waiting_job_is_read(jobs: Jobs, valkey: redis.Redis, state: str) -> None:
    jobs.failed(jobs.received("refused.pdf"))

    def commands() -> int:
        before = valkey.info("stats")["total_commands_processed"]
        list(jobs.runtime.queries.jobs(Wanted(state)))
        return int(valkey.info("stats")["total_commands_processed"] - before)

    commands()  # the first of a connection greets the server
    with_few = commands()
    waiting = {str(uuid4()): number for number in range(2000)}
    valkey.zadd(PREFIX + "jobs", waiting)
    valkey.zadd(PREFIX + "open:north_clinic", waiting)
    assert commands() == with_few


def test_an_unknown_state_or_code_is_wrong_usage(chartpost: CommandLine) -> None:
    assert chartpost("jobs", "--state", "lost").exit_code == 2
    assert chartpost("jobs", "--code", "lost").exit_code == 2


def test_nothing_that_would_move_the_cursor_is_printed(chartpost: CommandLine, jobs: Jobs) -> None:
    job = jobs.failed(jobs.received(), detail="no\x1b[2Jthing\r\nof the kind")
    for command in (["jobs"], ["show", job.id]):
        printed = chartpost(*command).stdout
        assert "no�[2Jthing" in printed
        assert "\x1b" not in printed
        assert "\r" not in printed


def test_json_is_one_object_a_line(chartpost: CommandLine, jobs: Jobs) -> None:
    for number in range(3):
        jobs.received(f"{number}.pdf", description="two\nlines")
    assert len(lines(chartpost("jobs", "--json"))) == 3


def test_unfinished_jobs_of_all_accounts_are_listed_newest_first(chartpost: CommandLine, jobs: Jobs) -> None:
    came = []
    for number, account in enumerate(("north_clinic", "south_clinic", "north_clinic")):
        came.append(jobs.received(f"{number}.pdf", account=account).id)
        time.sleep(0.002)
    jobs.failed(jobs.received("refused.pdf"))
    jobs.not_confirmed(jobs.received("looked for.pdf"))
    assert [row["id"] for row in chartpost.rows("jobs", "--unfinished")] == came[::-1]
    assert [row["id"] for row in chartpost.rows("jobs", "--unfinished", "--account", "south_clinic")] == [came[1]]
    assert [row["id"] for row in chartpost.rows("jobs", "--unfinished", "--limit", "1")] == [came[2]]
    assert chartpost.rows("jobs", "--unfinished", "--state", "stored") == []
    assert chartpost("jobs", "--unfinished", "--state", "failed").exit_code == 2


def test_a_patients_jobs_are_found_at_every_account_and_by_an_id_in_a_file(
    chartpost: CommandLine, jobs: Jobs, tmp_path: Path
) -> None:
    jobs.received("a.pdf", patient_id="4712")
    jobs.received("b.pdf", patient_id="4712", account="south_clinic")
    jobs.failed(jobs.received("c.pdf", patient_id="4712"))
    jobs.received("d.pdf", patient_id="471")
    (tmp_path / "patient").write_text("4712\n")
    for value in ("4712", f"@{tmp_path / 'patient'}"):
        assert {row["file_name"] for row in chartpost.rows("jobs", "--patient", value)} == {"a.pdf", "b.pdf", "c.pdf"}
    by_stdin = chartpost("jobs", "--patient", "@-", "--account", "south_clinic", "--json", stdin="4712")
    assert [row["file_name"] for row in lines(by_stdin)] == ["b.pdf"]
    assert chartpost.rows("jobs", "--patient", "4712", "--state", "failed")[0]["file_name"] == "c.pdf"
    assert chartpost.rows("jobs", "--patient", "nobody") == []


def test_of_all_patients_jobs_only_those_of_the_patient_are_unsealed(
    jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = []
    open_seal = Seal.open
    for number in range(5):
        jobs.received(f"{number}.pdf", patient_id=str(number))

    def counting(seal: Seal, sealed: str, *, place: str) -> str:
        opened.append(place)
        return open_seal(seal, sealed, place=place)

    monkeypatch.setattr(Seal, "open", counting)
    digest = jobs.ledger.codec.patient_key("north_clinic", "3")
    (found,) = jobs.runtime.queries.jobs(Wanted(patients=frozenset((digest,))))
    assert found.document.file_name == "3.pdf"
    assert {place.partition(":")[0] for place in opened} == {found.id}


def test_jobs_are_listed_by_when_they_came(chartpost: CommandLine, jobs: Jobs, valkey: redis.Redis) -> None:
    old, new = jobs.received("old.pdf"), jobs.received("new.pdf")
    came(valkey, old, datetime.now(UTC) - timedelta(days=3))
    yesterday, before = (datetime.now().astimezone() - timedelta(days=days) for days in (1, 3))
    for options, expected in (
        (["--since", "2d"], {new.id}),
        (["--since", "80h"], {old.id, new.id}),
        (["--until", "36h"], {old.id}),
        (["--since", f"{yesterday:%Y-%m-%d}"], {new.id}),
        (["--since", f"{before:%Y-%m-%d}", "--until", f"{before:%Y-%m-%d}"], {old.id}),
        (["--until", f"{before:%Y-%m-%dT%H:%M}+23:59"], set()),
        (["--state", "received", "--since", "2d"], {new.id}),
        (["--unfinished", "--until", "2d"], {old.id}),
    ):
        assert {row["id"] for row in chartpost.rows("jobs", *options)} == expected, options
    jobs.failed(old)
    assert chartpost.rows("jobs", "--state", "failed", "--since", "1h") == []
    assert [row["id"] for row in chartpost.rows("jobs", "--state", "failed", "--since", "4d")] == [old.id]


def came(valkey: redis.Redis, job: Job, at: datetime) -> None:
    """As if the job had come in then."""
    ms = int(at.timestamp() * 1000)
    valkey.hset(PREFIX + f"job:{job.id}", "created_at", ms)
    valkey.zadd(PREFIX + "jobs", {job.id: ms})
    valkey.zadd(PREFIX + f"open:{job.account}", {job.id: ms}, xx=True)


@pytest.mark.parametrize("time", ["yesterday", "7", "2026-13-01", "999999w", "-1d", ""])
def test_what_is_no_time_is_wrong_usage(chartpost: CommandLine, time: str) -> None:
    assert chartpost("jobs", "--since", time).exit_code == 2


def test_a_job_that_waits_says_why(chartpost: CommandLine, jobs: Jobs) -> None:
    names = ("parked.pdf", "twin.pdf", "looked for.pdf", "free.pdf")
    reason = dict.fromkeys(names, "")
    jobs.received("parked.pdf", account="south_clinic")
    jobs.runtime.breaker.park("south_clinic", "The key was refused.")
    first = jobs.received("twin.pdf")
    jobs.ledger.reserve_name(first)
    second = jobs.received("twin.pdf")
    jobs.stored(jobs.received("looked for.pdf"))
    jobs.received("free.pdf")
    for row in chartpost.rows("jobs"):
        if row["id"] != first.id:
            reason[row["file_name"]] = row["message"]
    assert reason["parked.pdf"] == "Its account is parked: The key was refused."
    assert second.id != first.id
    assert first.id[:8] in reason["twin.pdf"]
    assert "has not shown its record yet" in reason["looked for.pdf"]
    assert "free slot" in reason["free.pdf"]


def test_a_short_list_reads_few_of_many_jobs(jobs: Jobs, valkey: redis.Redis) -> None:
    job = jobs.received("newest.pdf")
    with valkey.pipeline(transaction=False) as pipe:
        for number in range(5000):
            other = str(uuid4())
            pipe.hset(PREFIX + f"job:{other}", mapping={"stage": "failed", "account": "a", "created_at": number})
            pipe.zadd(PREFIX + "jobs", {other: number})
            pipe.zadd(PREFIX + "finished", {other: number})
        pipe.execute()
    jobs.failed(jobs.received("failed.pdf"))

    def rows_read(wanted: Wanted) -> int:
        before = valkey.info("commandstats")["cmdstat_hmget"]["calls"]
        assert len(list(jobs.runtime.queries.jobs(wanted, 1))) == 1
        return int(valkey.info("commandstats")["cmdstat_hmget"]["calls"] - before)

    for wanted in (Wanted(), Wanted("failed"), Wanted(unfinished=True)):
        assert rows_read(wanted) <= 200
    assert [found.id for found in jobs.runtime.queries.jobs(Wanted(unfinished=True))] == [job.id]


def test_jobs_of_one_moment_are_listed_once_each_over_all_pages(jobs: Jobs, valkey: redis.Redis) -> None:
    ids = {str(uuid4()) for _ in range(1000)}
    with valkey.pipeline(transaction=False) as pipe:
        for number, job_id in enumerate(ids):
            at = number // 400  # more of one moment than the first pages hold
            pipe.hset(PREFIX + f"job:{job_id}", mapping={"stage": "failed", "account": "a", "created_at": at})
            pipe.zadd(PREFIX + "jobs", {job_id: at})
        pipe.execute()
    listed = list(jobs.runtime.queries.ids(Wanted()))
    assert len(listed) == 1000
    assert set(listed) == ids


def test_at_a_terminal_jobs_are_in_columns_that_fit_with_colour_where_it_means_something(
    chartpost: CommandLine, jobs: Jobs
) -> None:
    job = jobs.failed(jobs.received("a referral with a rather long name.pdf"), detail="word " * 40)
    waiting = jobs.received("waiting.pdf")
    command = [sys.executable, "-m", "worker", "--config", str(chartpost.config), "jobs"]
    printed = at_terminal(command, columns=90, TERM="xterm", NO_COLOR="")
    assert f"{job.id[:8]}  " in printed
    assert "\x1b[31mfailed" in printed
    assert "\x1b[33m" in printed
    assert f"received {time.tzname[time.localtime().tm_isdst]}" in printed
    plain = at_terminal(command, columns=60, TERM="xterm", NO_COLOR="1")
    assert "\x1b[3" not in plain
    rows = re.sub(r"\x1b\[[0-9;]*m", "", plain).splitlines()
    assert len(rows) == 3
    assert all(0 < len(row) <= 60 and row == row.rstrip() for row in rows)
    assert rows[1].startswith(waiting.id[:8])


def at_terminal(command: list[str], *, columns: int, **environ: str) -> str:
    """What a command prints at a terminal of this width."""
    main, other = pty.openpty()
    termios.tcsetwinsize(other, (24, columns))
    given = {name: value for name, value in {**os.environ, **environ}.items() if value or name not in environ}
    given.pop("COLUMNS", None)
    with subprocess.Popen(command, cwd=ROOT, env=given, stdin=other, stdout=other, stderr=other) as process:
        os.close(other)
        printed = b""
        with suppress(OSError):  # the terminal is gone with its last process
            while block := os.read(main, 65536):
                printed += block
        assert process.wait() == 0, printed
    os.close(main)
    return printed.decode().replace("\r\n", "\n")
