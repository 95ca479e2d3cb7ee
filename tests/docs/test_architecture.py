"""The architecture page shows the rooms and the moves that the code has."""

from __future__ import annotations

import tomllib

import pytest

from tests.docs.moves import COMPUTED, Move, moves
from tests.docs.pages import coded, page, rows
from tests.docs.rooms import rooms
from tests.harness.sandbox import ROOT

ARCHITECTURE = page("docs/architecture.md")
LEDGER = ROOT / "tasks" / "ledger" / "ledger.py"


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


def shown_moves() -> dict[str, list[str]]:
    return {coded(row[0])[0]: row[1:4] for row in rows(ARCHITECTURE.section("The moves of a job"))}


def test_the_page_has_every_move_of_the_ledger_and_no_other() -> None:
    assert set(shown_moves()) == set(moves(LEDGER.read_text()))


@pytest.mark.parametrize("move", moves(LEDGER.read_text()).values(), ids=lambda move: move.name)
def test_a_move_goes_where_the_page_says(move: Move) -> None:
    """Where the code computes a stage or a step, the page has an ellipsis, and may name what can come of it."""
    cells = shown_moves()[move.name]
    for wanted, cell in zip((move.allowed, move.stage, move.step), cells, strict=True):
        if COMPUTED in wanted:
            assert COMPUTED in cell
            assert set(coded(cell)) >= wanted - {COMPUTED}
        else:
            assert set(coded(cell)) == wanted
