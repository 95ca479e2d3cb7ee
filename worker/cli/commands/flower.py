"""`chartpost flower`: the monitor, behind a password and looking only."""

from __future__ import annotations

import os
import secrets
import sys
from importlib import resources
from pathlib import Path

import click

from config.data_dir import make_data_dir
from worker.cli.context import Context, pass_context

_LOGIN_FILE = "flower-login"
_USER = "operator"


@click.command
@click.option("--port", default=5555, show_default=True, envvar="FLOWER_PORT", help="Where it listens.")
@click.option(
    "--address",
    default="127.0.0.1",
    show_default=True,
    envvar="FLOWER_ADDRESS",
    help="On which interface it listens.",
)
@pass_context
def flower(context: Context, port: int, address: str) -> None:
    """Show workers, queues and steps in a browser.

    It asks for a password and changes nothing. The file that FLOWER_BASIC_AUTH_FILE names has user and password;
    without it, they are made once, in data_dir/flower-login.
    """
    context.require_server()
    named = os.environ.get("FLOWER_BASIC_AUTH_FILE")
    login = Path(named) if named else login_file(context.settings.data_dir)
    if not all(login.read_text(encoding="utf-8").strip().partition(":")):
        raise click.ClickException(f"{login} must hold user:password.")
    click.echo(f"Flower will be at http://{address}:{port}. User and password are in {login}.", err=True)
    config = resources.files("worker.celery").joinpath("flowerconfig.py")
    options = [f"--conf={config}", f"--port={port}", f"--address={address}"]
    environ = {**os.environ, "FLOWER_BASIC_AUTH_FILE": str(login)}
    # It takes this process's place, so that whoever stops this process stops Flower.
    command = [sys.executable, "-m", "celery", "-A", "worker", "flower", *options]
    os.execve(sys.executable, command, environ)  # noqa: S606, a program of ours


def login_file(data_dir: Path) -> Path:
    """The file with user and password, made if it is not there. Only its owner can read it. Raises OSError."""
    path = data_dir / _LOGIN_FILE
    make_data_dir(data_dir)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(f"{_USER}:{secrets.token_urlsafe(18)}\n")
    return path
