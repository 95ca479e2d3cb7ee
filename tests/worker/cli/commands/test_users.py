"""`chartpost users`: who may use the page."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.harness.sandbox import ROOT
from tests.worker.cli.conftest import CommandLine
from worker.web.passwords import is_password_of
from worker.web.users import FILE_NAME, Right, Users

PASSWORD = "a long walk by the sea"


@pytest.fixture
def users(config: Path) -> Users:
    return Users(config.parent / "data")


def add(chartpost: CommandLine, name: str = "anna", *more: str) -> None:
    result = chartpost("users", "add", name, "--may", "north_clinic=act", "--no-password", *more)
    assert result.exit_code == 0, result.output


def test_a_person_is_added_with_a_password_that_is_asked_for_twice(chartpost: CommandLine, users: Users) -> None:
    result = chartpost("users", "add", "Anna", "--may", "look", stdin=f"{PASSWORD}\n{PASSWORD}\n")
    assert result.exit_code == 0, result.output
    assert "anna may look at all accounts." in result.output
    assert "web.enabled = true" in result.output
    assert PASSWORD not in result.output
    assert is_password_of(users.get("anna"), PASSWORD)


def test_two_different_passwords_add_nobody(chartpost: CommandLine, users: Users) -> None:
    assert chartpost("users", "add", "anna", "--may", "look", stdin=f"{PASSWORD}\nanother\n").exit_code == 1
    assert users.get("anna") is None


def test_a_password_may_come_from_a_file_or_standard_input(
    chartpost: CommandLine, users: Users, tmp_path: Path
) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    assert chartpost("users", "add", "anna", "--may", "look", "--password", f"@{tmp_path / 'password'}").exit_code == 0
    assert is_password_of(users.get("anna"), PASSWORD)
    changed = chartpost("users", "password", "anna", "--password", "@-", stdin="another long walk\n")
    assert changed.exit_code == 0, changed.output
    assert is_password_of(users.get("anna"), "another long walk")


def test_rights_are_for_the_accounts_that_are_named(chartpost: CommandLine, users: Users) -> None:
    add(chartpost, "anna", "--may", "south_clinic=look")
    anna = users.get("anna")
    assert anna
    assert anna.rights == {"north_clinic": Right.ACT, "south_clinic": Right.LOOK}
    before = anna.stamp
    result = chartpost("users", "set", "ANNA", "--may", "admin")
    assert result.output == "anna may admin at all accounts.\n"
    anna = users.get("anna")
    assert anna
    assert anna.rights == {"*": Right.ADMIN}
    assert anna.stamp != before, "sessions from before end"


def test_another_password_ends_the_sessions_and_keeps_the_rights(chartpost: CommandLine, users: Users) -> None:
    add(chartpost)
    before = users.get("anna")
    chartpost("users", "password", "anna", "--password", "@-", stdin=PASSWORD)
    after = users.get("anna")
    assert before
    assert after
    assert (after.rights, after.stamp != before.stamp) == (before.rights, True)


def test_a_person_is_removed_once(chartpost: CommandLine, users: Users) -> None:
    add(chartpost)
    assert chartpost("users", "remove", "Anna").output == "anna is removed.\n"
    assert users.get("anna") is None
    again = chartpost("users", "remove", "anna")
    assert again.exit_code == 1
    assert "There is no anna" in again.output


def test_the_list_tells_rights_and_no_hash(chartpost: CommandLine) -> None:
    add(chartpost)
    chartpost("users", "add", "berta", "--may", "look", "--password", "@-", stdin=PASSWORD)
    assert chartpost.rows("users", "list") == [
        {"name": "anna", "rights": {"north_clinic": "act"}, "login": "proxy"},
        {"name": "berta", "rights": {"*": "look"}, "login": "password"},
    ]
    assert "argon2" not in chartpost("users", "list").output


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["add", "anna", "--may", "look", "--password", "@-"], 1, "12 characters"),
        (["add", "anna", "--may", "look", "--password", PASSWORD], 2, "others could see"),
        (["add", "a b", "--may", "look", "--no-password"], 2, "A name is"),
        (["add", "anna", "--may", "root", "--no-password"], 2, "look, act and admin are"),
        (["add", "anna", "--may", "nort_clinic=look", "--no-password"], 2, "north_clinic"),
        (["add", "anna", "--no-password"], 2, "--may"),
        (["add", "anna", "--may", "look", "--no-password", "--password", "@-"], 2, "Either"),
        (["set", "nobody", "--may", "look"], 1, "There is no nobody"),
        (["password", "nobody", "--password", "@-"], 1, "There is no nobody"),
    ],
    ids=["short", "seen", "name", "right", "account", "no right", "both", "set nobody", "password of nobody"],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    chartpost: CommandLine, users: Users, arguments: list[str], exit_code: int, said: str
) -> None:
    result = chartpost("users", *arguments, stdin="short")
    assert result.exit_code == exit_code, result.output
    assert said in result.output
    assert PASSWORD not in result.output
    assert users.all() == {}


def test_somebody_who_is_there_is_not_added_again(chartpost: CommandLine, users: Users) -> None:
    add(chartpost)
    before = users.get("anna")
    result = chartpost("users", "add", "ANNA", "--may", "admin", "--no-password")
    assert result.exit_code == 1
    assert "chartpost users set anna" in result.output
    assert users.get("anna") == before


def test_a_damaged_file_is_a_sentence_and_stays(chartpost: CommandLine, users: Users, tmp_path: Path) -> None:
    add(chartpost)
    file = tmp_path / "data" / FILE_NAME
    file.write_text("half")
    for command in (["list"], ["remove", "anna"], ["set", "anna", "--may", "look"]):
        result = chartpost("users", *command)
        assert result.exit_code == 1
        assert "cannot be understood" in result.output
    assert file.read_text() == "half"


# An interpreter in which the packages of the extra are not there.
WITHOUT_EXTRA = """
import sys
for name in ("argon2", "jinja2", "starlette", "uvicorn", "multipart", "python_multipart"):
    sys.modules[name] = None
from worker.cli.main import main
main()
"""


@pytest.mark.parametrize(
    "command",
    [["run"], ["web"], ["users", "add", "anna", "--may", "look", "--password", "@-"]],
    ids=["run", "web", "users"],
)
def test_without_the_extra_a_sentence_says_what_to_install(config: Path, command: list[str]) -> None:
    config.write_text(config.read_text() + "[web]\nenabled = true\n")
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA, "--config", str(config), *command],
        cwd=ROOT,
        input=PASSWORD,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.returncode == 2, run.stderr
    assert "pip install 'chartpost[web]'" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (config.parent / "data" / FILE_NAME).exists()
    assert not (config.parent / "data" / "redis.url").exists(), "nothing has been started"


def test_without_the_extra_all_else_runs(config: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA, "--config", str(config), "users", "list", "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (run.returncode, run.stdout) == (0, ""), run.stderr
