"""`chartpost users`: who may use the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from worker.cli.context import Context, pass_context
from worker.cli.extra import page_extra
from worker.cli.output import Output, note, output_option
from worker.cli.params import TextOrFile, require_account
from worker.web.users import EVERY_ACCOUNT, Right, User, Users, UsersDamaged, check_name, new_stamp

_COLUMNS = ("name", "rights", "login")


class RightAt(click.ParamType[Any]):
    """`ACCOUNT=RIGHT`, or `RIGHT` alone for all accounts."""

    name = "[account=]right"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        account, _, right = str(value).rpartition("=")
        try:
            return account or EVERY_ACCOUNT, Right.named(right)
        except ValueError as error:
            self.fail(f"{error}.", param, ctx)


class PasswordInFile(TextOrFile):
    """`@FILE` or `@-`: what stands on a command line is seen by everybody on the machine."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not str(value).startswith("@"):
            self.fail("others could see a password here: write @FILE or @-, or leave it out to be asked.", param, ctx)
        return super().convert(value, param, ctx)


_rights_option = click.option(
    "--may",
    "rights",
    type=RightAt(),
    multiple=True,
    required=True,
    help="look, act or admin; for one account NAME=act. May be repeated.",
)
_password_option = click.option(
    "--password", type=PasswordInFile(), help="@FILE or @- reads it; without it you are asked."
)


@click.group
def users() -> None:
    """Say who may use the page, and what each may do."""


@users.command
@click.argument("name")
@_rights_option
@_password_option
@click.option("--no-password", is_flag=True, help="Only the proxy of web.user_header lets this person in.")
@pass_context
def add(
    context: Context, name: str, rights: tuple[tuple[str, Right], ...], password: str | None, no_password: bool
) -> None:
    """Add a person.

    look: see an account's documents. act: also send, send again, resolve and dismiss them. admin: also let an
    account that is parked or down be tried now.
    """
    for account, _ in rights:
        _require_account(context, account)
    if no_password and password is not None:
        raise click.UsageError("Either --password or --no-password.")
    name = _checked(name)
    store = Users(context.settings.data_dir)
    with _damage_told():
        if store.get(name):
            raise click.ClickException(
                f"{name} is there already: `chartpost users set {name}` changes what they may do."
            )
    hashed = None if no_password else _hashed(_asked_for(password), name)

    def new(there: User | None) -> User:
        if there:  # another command was faster
            raise click.ClickException(f"{name} is there already.")
        return User(name, hashed, dict(rights), new_stamp())

    with _damage_told():
        store.put(name, new)
    click.echo(f"{name} may {_spoken(dict(rights))}.")
    if not context.settings.web.enabled:
        note("The page is not part of `chartpost run` yet: set web.enabled = true, or start `chartpost web`.")


@users.command("set")
@click.argument("name")
@_rights_option
@pass_context
def set_rights(context: Context, name: str, rights: tuple[tuple[str, Right], ...]) -> None:
    """Change what a person may do. Their sessions end."""
    for account, _ in rights:
        _require_account(context, account)
    with _damage_told():
        Users(context.settings.data_dir).put(
            name.casefold(),
            lambda user: User(_there(user, name).name, _there(user, name).password, dict(rights), new_stamp()),
        )
    click.echo(f"{name.casefold()} may {_spoken(dict(rights))}.")


@users.command
@click.argument("name")
@_password_option
@pass_context
def password(context: Context, name: str, password: str | None) -> None:
    """Give a person another password. Their sessions end."""
    store = Users(context.settings.data_dir)
    with _damage_told():
        there = _there(store.get(name), name)
        hashed = _hashed(_asked_for(password), there.name)
        store.put(there.name, lambda user: User(there.name, hashed, _there(user, name).rights, new_stamp()))
    click.echo(f"{there.name} has another password.")


@users.command
@click.argument("name")
@pass_context
def remove(context: Context, name: str) -> None:
    """Remove a person. Their sessions end."""
    with _damage_told():
        if not Users(context.settings.data_dir).remove(name.casefold()):
            raise _nobody(name)
    click.echo(f"{name.casefold()} is removed.")


@users.command("list")
@output_option
@pass_context
def list_users(context: Context, output: Output) -> None:
    """List who may use the page."""
    with _damage_told():
        people = Users(context.settings.data_dir).all()
    output.rows(
        _COLUMNS,
        (
            {
                "name": user.name,
                "rights": {account: right.name.lower() for account, right in sorted(user.rights.items())},
                "login": "password" if user.password else "proxy",
            }
            for user in people.values()
        ),
    )


class _damage_told:  # noqa: N801, used as a block
    """Raises ClickException for a file of users that cannot be understood."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, UsersDamaged):
            raise click.ClickException(str(error)) from error


def _asked_for(password: str | None) -> str:
    return (
        password if password is not None else str(click.prompt("Password", hide_input=True, confirmation_prompt=True))
    )


def _hashed(password: str, name: str) -> str:
    """Raises ClickException for one that must not be used, and NotInstalled without the extra."""
    with page_extra():
        from worker.web.passwords import hash_password  # late: only this needs argon2
    try:
        return hash_password(password, name)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


def _checked(name: str) -> str:
    try:
        return check_name(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NAME") from error


def _require_account(context: Context, account: str) -> None:
    if account != EVERY_ACCOUNT:
        require_account(context.settings.accounts, account, "--may")


def _there(user: User | None, name: str) -> User:
    if user is None:
        raise _nobody(name)
    return user


def _nobody(name: str) -> click.ClickException:
    return click.ClickException(f"There is no {name}: `chartpost users list` shows who there is.")


def _spoken(rights: Mapping[str, Right]) -> str:
    return ", ".join(
        f"{right.name.lower()} at {'all accounts' if account == EVERY_ACCOUNT else account}"
        for account, right in sorted(rights.items())
    )
