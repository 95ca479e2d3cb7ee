"""The architecture page shows the rooms and the moves that the code has."""

from __future__ import annotations

import tomllib

from tests.benchmarks import polling
from tests.docs.moves import table
from tests.docs.pages import coded, page, rows
from tests.docs.rooms import rooms
from tests.harness.sandbox import ROOT

ARCHITECTURE = page("docs/architecture.md")


def test_the_page_has_every_room_with_the_sentence_of_its_docstring() -> None:
    table = {coded(row[0])[0].rstrip("/"): row[1] for row in rows(ARCHITECTURE.section("The rooms"))}
    assert table == rooms()


def test_the_page_has_the_layers_that_import_linter_holds() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = ["\n".join(contract["layers"]) for contract in contracts if contract["type"] == "layers"]
    shown = {block.text.strip() for block in ARCHITECTURE.blocks}
    assert [each for each in layers if "tasks" not in each.split() and each not in shown] == []


def test_the_tree_shows_every_room() -> None:
    tree = next(block.text for block in ARCHITECTURE.blocks if block.text.startswith("config/"))
    shown, above = set(), [""]
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0].rstrip("/")
        above[depth + 1 :] = [f"{above[depth]}/{name}".lstrip("/")]
        shown.add(above[depth + 1])
    assert shown == set(rooms())


def test_the_page_has_the_figures_of_the_simulation() -> None:
    assert "\n".join(polling.table()) in (ROOT / "docs" / "architecture.md").read_text(), (
        "tests.benchmarks.polling prints it"
    )


def test_the_page_has_the_table_of_moves_that_the_code_has() -> None:
    assert "\n".join(table()) in (ROOT / "docs" / "architecture.md").read_text(), "python -m tests.docs.moves prints it"
