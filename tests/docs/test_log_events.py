"""Each event that the product logs has a row among the log lines of the operations page, and no other has."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from tests.docs.pages import first_column, page
from tests.harness.sandbox import ROOT

LEVELS = {"debug", "info", "warning", "error", "critical", "exception"}


def events() -> dict[str, str]:
    """Event -> a file that logs it."""
    found = {}
    for folder in ("config", "tasks", "worker"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for event in _logged(ast.parse(path.read_text())):
                found[event] = str(path.relative_to(ROOT))
    return found


def _logged(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and _is_log(node.func):
            # One of two events, too: `log.info("a" if x else "b")`.
            yield from (
                each.value
                for each in ast.walk(node.args[0])
                if isinstance(each, ast.Constant) and isinstance(each.value, str)
            )


def _is_log(called: ast.expr) -> bool:
    if isinstance(called, ast.Name):  # `log_ignored = log.info if expected else log.warning`
        return called.id.startswith("log_")
    return isinstance(called, ast.Attribute) and ast.unparse(called.value) == "log" and called.attr in LEVELS


def test_each_event_has_a_row_and_each_row_an_event() -> None:
    logged = events()
    assert len(logged) > 100, "events are logged in another way by now"
    told = first_column(page("docs/operations.md").section("Logs"))
    assert {event: place for event, place in logged.items() if event not in told} == {}
    assert told - set(logged) == set()
