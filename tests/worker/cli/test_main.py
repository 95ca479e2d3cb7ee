"""`chartpost` as a process of its own, its table of commands, and that it imports nothing that is not needed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from tests.harness.sandbox import ROOT
from worker.cli.main import COMMANDS, cli


def chartpost(*arguments: str, folder: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CHARTPOST_")}
    return subprocess.run(
        [sys.executable, "-m", "worker", *arguments],
        cwd=folder,
        env=environ | {"PYTHONPATH": str(ROOT)},
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


def test_a_service_without_accounts_logs_a_warning(tmp_path: Path, valkey_url: str) -> None:
    config = tmp_path / "chartpost.toml"
    config.write_text(f'data_dir = "{tmp_path}"\nsecret_key = "a secret"\n[redis]\nurl = "{valkey_url}"\n')
    result = chartpost("--config", str(config), "watch", "--once")
    assert result.returncode == 0, result.stderr
    assert "No account is named" in result.stderr


def test_an_unknown_command_is_wrong_usage() -> None:
    assert chartpost("deliver").returncode == 2


def test_the_help_of_worker_is_celerys() -> None:
    result = chartpost("worker", "--help")
    assert result.returncode == 0
    assert "--concurrency" in result.stdout


def test_help_and_health_import_neither_celery_nor_boto3(tmp_path: Path, valkey_url: str) -> None:
    config = tmp_path / "chartpost.toml"
    config.write_text(f'data_dir = "{tmp_path}"\nsecret_key = "a secret"\n[redis]\nurl = "{valkey_url}"\n')
    program = (
        "import sys; from worker.cli.main import cli; from click.testing import CliRunner\n"
        "print(CliRunner().invoke(cli, sys.argv[1:]).output)\n"
        "assert not {'celery', 'boto3', 'httpx', 'rich'} & sys.modules.keys()"
    )
    for arguments in (["--help"], ["--config", str(config), "health"]):
        ran = subprocess.run([sys.executable, "-c", program, *arguments], cwd=ROOT, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        assert "chartpost" in ran.stdout or "worker" in ran.stdout
