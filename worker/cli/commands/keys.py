"""`chartpost keys`: makes the key pair of an account that signs with one, and prints the half that its provider needs.

The settings need not be complete: most often the key is what they still lack.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

from config.accounts import ACCOUNT_KINDS, kind_of
from config.gather import gather
from config.keys import ALGORITHMS_OF_KEYS, new_key, public_jwk, read_key, signing_algorithm
from config.schema import ACCOUNTS
from config.settings import Settings
from worker.cli.output import Output, note, output_option
from worker.cli.params import require_account

_ALGORITHMS = sorted(algorithm for able in ALGORITHMS_OF_KEYS.values() for algorithm in able)


@click.group
def keys() -> None:
    """Make an account's key pair, and print its public half.

    A provider that knows the public half can tell that a call is yours. The private half never leaves this machine.
    """


@keys.command("new")
@click.option("--account", required=True, help="The account that the key is for.")
@click.option(
    "--algorithm", type=click.Choice(_ALGORITHMS), help="What it signs with; without it, the provider's usual."
)
@click.option("--out", type=click.Path(path_type=Path), help="The file to make; without it, private_key_file.")
@output_option
def new(account: str, algorithm: str | None, out: Path | None, output: Output) -> None:
    """Make a key pair and write its private half to a new file.

    A file that is there already is never overwritten. Only the file's owner may read it.
    """
    given = _given(account)
    if algorithm and given.algorithm not in ("", algorithm):
        raise click.UsageError(f"The settings have algorithm = {given.algorithm!r} for {account}: change that first.")
    algorithm = algorithm or given.algorithm or given.usual_algorithms[0]
    if algorithm not in _ALGORITHMS:
        raise click.UsageError(f"The settings' algorithm of {account} is none of {', '.join(_ALGORITHMS)}.")
    file = out or given.private_key_file
    if file is None:
        raise click.UsageError(f"Name a file with --out, or as private_key_file of {account} in the settings.")
    text, key_id = new_key(algorithm, given.key_id)
    _write_new(file, text)
    output.sheet({"account": account, "file": str(file.absolute()), "key_id": key_id, "algorithm": algorithm})
    wanted = {"private_key_file": str(file.absolute()), "key_id": key_id}
    settings = [f"{name} = {json.dumps(value)}" for name, value in wanted.items() if not given.has(name, value)]
    if settings:
        note(f"Set in [accounts.{account}]: {', '.join(settings)}.")
    note(f"Hand in the public half where your client is registered: chartpost keys public --account {account}")


@keys.command("public")
@click.option("--account", required=True, help="The account whose key it is.")
@click.option("--jwks", is_flag=True, help="Print a set of keys (JWKS) that holds this one.")
def public(account: str, jwks: bool) -> None:
    """Print the public half of an account's key as a JWK, to be handed in to its provider."""
    given = _given(account)
    if not given.private_key:
        raise click.ClickException(
            f"accounts.{account}.private_key is missing, or its file cannot be read: "
            f"chartpost keys new --account {account} makes one."
        )
    key = "private_key"
    try:
        private = read_key(given.private_key)
        key = "algorithm"
        algorithm = signing_algorithm(private, given.algorithm, given.usual_algorithms)
    except ValueError as wrong:
        raise click.ClickException(f"accounts.{account}.{key} {wrong}.") from None
    jwk = public_jwk(private, given.key_id, algorithm)
    click.echo(json.dumps({"keys": [jwk]} if jwks else jwk, indent=2))
    if not given.key_id:
        note(f"Set in [accounts.{account}]: key_id = {json.dumps(jwk['kid'])}.")


@dataclass(frozen=True, slots=True)
class _Given:
    """What the settings say of an account's key; empty where they say nothing, or no text."""

    usual_algorithms: tuple[str, ...]
    private_key: str
    private_key_file: Path | None
    key_id: str
    algorithm: str

    def has(self, name: str, value: str) -> bool:
        if name == "private_key_file":
            return self.private_key_file is not None and str(self.private_key_file.absolute()) == value
        return self.key_id == value


def _given(account: str) -> _Given:
    """Raises SettingsError for settings that cannot be read, UsageError for an account that has no key pair."""
    gathered = gather(Settings, None, os.environ)
    tables = gathered.values.get(ACCOUNTS)
    accounts = tables if isinstance(tables, Mapping) else {}
    require_account(accounts, account)
    table = accounts[account] if isinstance(accounts[account], Mapping) else {}
    usual = kind_of(table.get("provider")).usual_algorithms
    if not usual:
        kinds = ", ".join(kind for kind, model in ACCOUNT_KINDS.items() if model.usual_algorithms)
        raise click.UsageError(f"{account} has no key pair: accounts of these providers have one: {kinds}.")
    texts = {name: value if isinstance(value, str) else "" for name, value in table.items()}
    return _Given(
        usual,
        texts.get("private_key", ""),
        gathered.secret_paths.get((ACCOUNTS, account, "private_key")),
        texts.get("key_id", ""),
        texts.get("algorithm", ""),
    )


def _write_new(file: Path, text: str) -> None:
    """Write a secret into a file that is not there yet. Raises ClickException."""
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.ClickException(f"{file} is there already, and no key is overwritten: name another file.") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a path"
        raise click.ClickException(f"{file} cannot be made: {reason}.") from None
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            opened.write(text + "\n")
            opened.flush()
            os.fsync(descriptor)
    except OSError as error:
        file.unlink(missing_ok=True)  # half a key is of no use, and would be in the way of the next try
        raise click.ClickException(f"{file} cannot be written: {error.strerror}.") from None
