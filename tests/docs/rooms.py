"""`python -m tests.docs.rooms`: print the rooms as the table of docs/architecture.md."""

from __future__ import annotations

import ast
import re

from tests.harness.sandbox import ROOT

PLACES = ("config", "tasks", "worker", "sandbox")
NOT_ROOMS = tuple(
    f"worker/cli/commands/{name}" for name in ("check", "records", "report", "retry")
)  # commands of more than one file


def rooms() -> dict[str, str]:
    """Each package but those within a provider's, and the first sentence of its docstring."""
    found = {}
    for place in PLACES:
        for init in sorted((ROOT / place).rglob("__init__.py")):
            room = init.parent.relative_to(ROOT).as_posix()
            if not room.startswith("tasks/providers/") and room not in NOT_ROOMS:
                words = ast.get_docstring(ast.parse(init.read_text())) or ""
                found[room] = re.split(r"(?<=\.)\s", " ".join(words.split()), maxsplit=1)[0]
    return found


if __name__ == "__main__":
    print("\n".join(["| room | |", "|---|---|", *(f"| `{room}/` | {words} |" for room, words in rooms().items())]))  # noqa: T201
