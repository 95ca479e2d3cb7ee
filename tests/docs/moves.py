"""The table of the moves of a job, as docs/architecture.md shows it: `python -m tests.docs.moves` prints it."""

from __future__ import annotations

from collections.abc import Iterable

from tasks.ledger.moves import TRANSITIONS
from tasks.model.route import Stage, Step

HEAD = "| move | from | to | next step | means |\n|---|---|---|---|---|"


def table() -> list[str]:
    """The rows, without the head. An empty cell: as it was. Several: the job or its route decides."""
    return [
        f"| `{name}` | {_coded(move.allowed)} | {_coded(move.to)} | {_coded(move.step)} | {move.means} |"
        for name, move in TRANSITIONS.items()
    ]


def _coded(words: Iterable[Stage | Step]) -> str:
    return " ".join(f"`{word or 'none'}`" for word in words)


if __name__ == "__main__":
    print("\n".join((HEAD, *table())))  # noqa: T201
