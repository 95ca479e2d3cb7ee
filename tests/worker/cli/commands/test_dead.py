"""`dead` lists, shows and drops the messages that no worker takes; `check` names them."""

from __future__ import annotations

from uuid import uuid4

from tasks.runtime import Runtime
from tests.worker.cli.conftest import CommandLine, lines


def kept(runtime: Runtime, *messages: bytes) -> list[str]:
    """The entries, oldest first."""
    for message in messages:
        runtime.dead_letters.add(
            message, queue="chartpost", code="not_a_message", reason="It is not a Celery message.", task_id=str(uuid4())
        )
    return [letter.entry for letter in reversed(runtime.dead_letters.newest())]


def test_the_messages_are_listed_and_only_show_opens_one(chartpost: CommandLine, runtime: Runtime) -> None:
    first, second = kept(runtime, b"Meier \xff", b"other")
    rows = chartpost.rows("dead", "list")
    assert [(row["entry"], row["code"], row["size_bytes"]) for row in rows] == [
        (second, "not_a_message", 5),
        (first, "not_a_message", 7),
    ]
    assert "Meier" not in chartpost("dead", "list").stdout
    assert "Meier \\xff" in chartpost("dead", "show", first).stdout
    assert chartpost("dead", "show", "1-1").exit_code == 1


def test_messages_are_dropped_by_their_entries_or_all(chartpost: CommandLine, runtime: Runtime) -> None:
    first, second, third = kept(runtime, b"1", b"2", b"3")
    assert "1 deleted" in chartpost("dead", "drop", second).stdout
    assert chartpost("dead", "drop", second).exit_code == 1
    assert [row["entry"] for row in chartpost.rows("dead", "list")] == [third, first]
    assert chartpost("dead", "drop").exit_code == 2
    assert chartpost("dead", "drop", first, "--all").exit_code == 2
    assert "2 deleted" in chartpost("dead", "drop", "--all").stdout
    assert "0 deleted" in chartpost("dead", "drop", "--all").stdout


def test_check_says_no_while_messages_lie_there(chartpost: CommandLine, runtime: Runtime) -> None:
    def checked() -> tuple[bool, str]:
        # The accounts' provider does not exist, so the exit code is 1 in any case.
        [row] = [row for row in lines(chartpost("check", "--json")) if row["check"] == "dead"]
        return row["ok"], row["message"]

    assert checked()[0]
    kept(runtime, b"1", b"2")
    ok, message = checked()
    assert not ok
    assert message.startswith("2 messages became no jobs; the newest at ")
    assert "It is not a Celery message." in message
    runtime.redis.set("chartpost:dead", "no stream")
    ok, message = checked()
    assert not ok
    assert "cannot be read" in message
