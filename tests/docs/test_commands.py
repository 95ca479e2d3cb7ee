"""The commands that the pages show exist, with the options that they show."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest

from tests.docs.pages import PAGES, Page, first_column, page
from tests.harness.sandbox import ROOT
from worker.cli.main import cli

CONTRACT = page("docs/contract.md")
FOREIGN = {"worker"}  # hands its arguments to Celery


def every_command(group: click.Group = cli, above: str = "chartpost") -> Iterator[tuple[str, click.Command]]:
    """Each command under its whole name, groups included."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command
        yield f"{above} {name}", command
        if isinstance(command, click.Group):
            yield from every_command(command, f"{above} {name}")


COMMANDS = dict(every_command())


def options_of(command: click.Command) -> set[str]:
    options = (parameter for parameter in command.params if isinstance(parameter, click.Option))
    return {name for option in options for name in option.opts if name.startswith("--")}


def spoken(line: str) -> Iterator[list[str]]:
    """What follows `chartpost` in each command of a line that calls it."""
    for part in re.split(r"[|;&]+(?=\s|$)", line):
        try:
            words = shlex.split(part, comments=True)
        except ValueError:
            continue  # the line goes on below, in a quoted argument
        starts = [number for number, word in enumerate(words) if word.rpartition("/")[2] == "chartpost"]
        if starts and all(re.fullmatch(r"\w+=.*|docker|compose|exec|-T", word) for word in words[: starts[0]]):
            yield words[starts[0] + 1 :]


def fault(words: list[str]) -> str | None:
    """What is wrong with `chartpost <words>`."""
    words = [word.strip("[]") for word in words]
    while words[:1] == ["--config"]:
        words = words[2:]
    if not words or words[0] in ("--help", "--version") or words[0].isupper():
        return None
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        below = command.get_command(click.Context(command), words[0])
        if below is None:
            break
        command, words = below, words[1:]
    if command is cli:
        return f"no command {words[0]}"
    if command.name in FOREIGN:
        return None
    asked = {word.partition("=")[0] for word in words if word.startswith("--")}
    unknown = asked - options_of(command) - {"--help"}
    return f"{command.name} has no option {', '.join(sorted(unknown))}" if unknown else None


@pytest.mark.parametrize("each", PAGES, ids=repr)
def test_every_command_on_a_page_exists_with_its_options(each: Page) -> None:
    lines = [*each.commands(), *(code for code in each.codes if code.startswith("chartpost "))]
    faults = [f"{line}: {wrong}" for line in lines for words in spoken(line) if (wrong := fault(words))]
    assert faults == []


@pytest.mark.parametrize("name", COMMANDS)
def test_the_contract_has_every_command_with_its_options(name: str) -> None:
    section = CONTRACT.section(f"`{name}`")
    named = {option for code in first_column(section) for option in re.findall(r"--[a-z-]+", code)}
    assert named == options_of(COMMANDS[name])


def test_the_contract_names_no_command_that_is_not_there() -> None:
    headings = set(re.findall(r"^#+ `(chartpost [^`]*)`$", CONTRACT.prose, re.MULTILINE))
    assert headings == set(COMMANDS)


def test_the_sandbox_page_has_every_option_of_the_sandbox() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "sandbox", "--help"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    options = set(re.findall(r"--[a-z-]+", run.stdout)) - {"--help"}
    described = first_column(page("sandbox/README.md").prose)
    assert {option for code in described for option in re.findall(r"--[a-z-]+", code)} == options
