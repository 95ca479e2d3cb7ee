"""`chartpost` as a process of its own, its table of commands, and that it imports nothing that is not needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
import redis

from tests.harness.sandbox import ROOT
from tests.worker.cli.jobs import Jobs
from worker.cli.main import COMMANDS, cli


def chartpost(*arguments: str, folder: Path = ROOT, **more: str) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHARTPOST_")}
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=folder,
        env=environ | more | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_the_table_of_commands_says_what_each_command_says_of_itself(name: str) -> None:
    command = cli.get_command(click.Context(cli), name)
    assert command
    assert command.name == name
    first_sentence = command.get_short_help_str(limit=100) + "."
    assert COMMANDS[name].summary == first_sentence.replace("..", ".")


def test_the_help_lists_every_command_in_whole_sentences() -> None:
    text = chartpost("--help").stdout
    for name, entry in COMMANDS.items():
        assert f"  {name} " in text
        assert entry.summary in text


def test_without_a_server_the_sentence_says_what_to_start(tmp_path: Path) -> None:
    result = chartpost("jobs", folder=tmp_path)
    assert result.returncode == 1
    assert "chartpost run" in result.stderr
    assert "Traceback" not in result.stderr
    assert list(tmp_path.iterdir()) == [], "a question leaves nothing behind"


def test_every_fault_of_the_settings_is_reported_at_once(tmp_path: Path) -> None:
    config = tmp_path / "wrong.toml"
    config.write_text('data_dirr = "x"\n[worker]\nconcurrency = 0\n[accounts.Nord]\nprovider = "pracsuite"\n')
    result = chartpost("--config", str(config), "run")
    assert result.returncode == 2
    for key in ("data_dirr", "worker.concurrency", "accounts.Nord"):
        assert key in result.stderr, key
    assert "Traceback" not in result.stderr


def test_a_missing_settings_file_is_wrong_usage() -> None:
    assert chartpost("--config", "/no/such.toml", "health").returncode == 2


@pytest.mark.parametrize("command", ["run", "worker", "watch", "intake"])
def test_a_service_without_any_account_is_refused_and_says_which_file_it_read(tmp_path: Path, command: str) -> None:
    for arguments, says in (
        (
            (),
            f"No settings file was read: neither --config nor $CHARTPOST_CONFIG names one, and there is no {tmp_path}",
        ),
        (("--config", str(tmp_path / "empty.toml")), f"Settings file: {tmp_path / 'empty.toml'}."),
    ):
        (tmp_path / "empty.toml").write_text("")
        result = chartpost(*arguments, command, folder=tmp_path)
        assert result.returncode == 2, result.stderr
        assert "They name no account" in result.stderr
        assert says in result.stderr
        assert [path.name for path in tmp_path.iterdir()] == ["empty.toml"], "nothing was made"
        assert says in chartpost(*arguments, "check", folder=tmp_path).stdout


def test_a_service_that_is_told_so_starts_without_any_account(
    tmp_path: Path, valkey: redis.Redis, valkey_url: str
) -> None:
    config = tmp_path / "chartpost.toml"
    config.write_text(f'data_dir = "{tmp_path}"\nsecret_key = "a secret"\n[redis]\nurl = "{valkey_url}"\n')
    result = chartpost("--config", str(config), "watch", "--once", "--empty")
    assert result.returncode == 0, result.stderr
    assert "No account is named" in result.stderr
    assert f'"file": "{config}"' in result.stderr


def test_an_account_from_the_environment_alone_is_enough(tmp_path: Path, valkey: redis.Redis, valkey_url: str) -> None:
    account = {"PROVIDER": "pracsuite", "VENDOR_API_KEY": "v", "API_KEY": "a"}
    environ = {f"CHARTPOST_ACCOUNTS__NORTH_CLINIC__{name}": value for name, value in account.items()}
    environ |= {"CHARTPOST_REDIS__URL": valkey_url, "CHARTPOST_SECRET_KEY": "a secret of some length"}
    result = chartpost("watch", "--once", folder=tmp_path, **environ)
    assert result.returncode == 0, result.stderr
    assert '"file": null, "accounts": 1' in result.stderr


def test_an_unknown_command_is_wrong_usage() -> None:
    assert chartpost("deliver").returncode == 2


def test_the_help_of_worker_is_celerys() -> None:
    result = chartpost("worker", "--help")
    assert result.returncode == 0
    assert "--concurrency" in result.stdout


# What most of a start's time would go into: it is for what works, and not for who asks.
HEAVY = {"boto3", "celery", "httpx", "joserfc", "prometheus_client", "pycurl", "rich", "structlog", "tasks.runtime"}


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("--help", "Carry clinical documents"),
        ("health", "no worker is consuming"),
        ("jobs", "{job}"),
        ("accounts", "north_clinic"),
        ("show {job}", "Nothing: it has arrived."),
        ("show nobody", "No job is known as nobody"),
    ],
)
def test_a_command_that_asks_imports_nothing_that_works(
    command: str, said: str, config: Path, jobs: Jobs, valkey: redis.Redis
) -> None:
    job = jobs.delivered(jobs.received()).id
    program = (
        "import sys; from worker.cli.main import cli; from click.testing import CliRunner\n"
        "print(CliRunner().invoke(cli, sys.argv[1:]).output)\n"
        f"assert not {HEAVY} & sys.modules.keys(), {HEAVY} & sys.modules.keys()"
    )
    arguments = ["--config", str(config), *command.format(job=job).split()]
    ran = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert said.format(job=job) in ran.stdout


def test_only_the_providers_of_the_accounts_are_imported(config: Path, valkey: redis.Redis) -> None:
    program = (
        "import sys; from pathlib import Path; from config.load import load; from tasks.runtime import Runtime\n"
        f"Runtime(load(Path({str(config)!r}), {{}})).accounts\n"
        "print(*(name for name in sys.modules if name.startswith('tasks.providers.')))"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert "tasks.providers.pracsuite.client" in ran.stdout, ran.stderr
    assert not {"cliniko", "ovok", "redox", "nhn", "fhir_server"} & {name.split(".")[2] for name in ran.stdout.split()}


def test_a_command_that_asks_sets_its_logs_up_with_the_first_error() -> None:
    program = (
        "import logging, sys; from config.late_log import LateLog, log_errors_late\n"
        "log_errors_late(); assert 'structlog' not in sys.modules\n"
        "logging.getLogger('httpx').error('of %s', 'a library')\n"
        "logging.getLogger('httpx').warning('not this')\n"
        "LateLog('tasks.ledger.redis').error('redis_command_failed', code='WRONGTYPE')\n"
        "LateLog('tasks.ledger.redis').warning('nor this')\n"
        "raise ValueError('patient 4711')"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ran.stdout == "", "a pipe gets the output only"
    for words in ("of a library", "redis_command_failed", "WRONGTYPE", "process_crashed", "ValueError"):
        assert words in ran.stderr
    for words in ("this", "4711"):
        assert words not in ran.stderr
