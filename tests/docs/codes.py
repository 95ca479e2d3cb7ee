"""`python -m tests.docs.codes`: print the failures as the table of docs/front-desk.md."""

from __future__ import annotations

from tasks.wording.explanation import who_acts_name
from tasks.wording.language import Words
from tasks.wording.sheet import explanations, helps

WORDS = Words("en")


def table() -> list[str]:
    """Each code with its usual explanation."""
    head = ["| the note says | what to do | who acts | same file again? | for IT |", "|---|---|---|---|---|"]
    return head + [
        f"| {told.title} | {' '.join(told.what_to_do)} | {who_acts_name(WORDS, told.who_acts)} "
        f"| {helps(WORDS, told)} | `{code}` |"
        for code, told in explanations(WORDS)
    ]


def who_and_whether() -> dict[str, tuple[str, str]]:
    """Code -> who acts, and whether trying again helps."""
    return {str(code): (who_acts_name(WORDS, told.who_acts), helps(WORDS, told)) for code, told in explanations(WORDS)}


if __name__ == "__main__":
    print("\n".join(table()))  # noqa: T201
