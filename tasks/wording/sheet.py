"""The sheet for a front desk's wall: each code with its meaning, who acts, and whether trying again helps."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from tasks.model.errors import Code
from tasks.wording.explanation import Explanation, who_acts_name
from tasks.wording.failures import FailureFacts, explain_failure
from tasks.wording.language import Words
from tasks.wording.note import html_page

# Where a code alone does not tell it, the usual case.
_USUAL = {
    Code.NOT_CONFIRMED: FailureFacts(Code.NOT_CONFIRMED, still_searching=True),
    Code.OUTCOME_UNKNOWN: FailureFacts(Code.OUTCOME_UNKNOWN, only_a_person_can_look=True),
}


def explanations(words: Words) -> Iterator[tuple[Code, Explanation]]:
    """Each code with its usual explanation."""
    for code in Code:
        yield code, explain_failure(words, _USUAL.get(code, FailureFacts(code)))


def helps(words: Words, explanation: Explanation) -> str:
    """Whether trying again helps, in a word."""
    return words.say("yes") if explanation.trying_again_helps else words.say("no")


def sheet(words: Words, contact: str = "") -> str:
    """The sheet as a page of HTML."""
    say = words.say
    columns = (say("What it says"), say("What to do"), say("Who acts"), say("Same file again?"), say("For IT"))
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    rows = [
        _row(told.title, " ".join(told.what_to_do), who_acts_name(words, told.who_acts), helps(words, told), code)
        for code, told in explanations(words)
    ]
    heading = say("When a document was not sent")
    advice = say(
        "Beside each document that was not sent lies a note that says why. Put the file into the inbox again when that "
        "is put right; the note goes away by itself."
    )
    parts = [
        f"<h1>{escape(heading)}</h1>",
        f"<p>{escape(advice)}</p>",
        "<table>",
        f"<thead><tr>{head}</tr></thead>",
        "<tbody>",
        *rows,
        "</tbody>",
        "</table>",
        *([f"<p><strong>{escape(say('Whom to ask'))}:</strong> {escape(contact)}</p>"] if contact else []),
    ]
    return html_page(words, heading, parts, body_class="sheet")


def _row(title: str, *cells: str) -> str:
    others = "".join(f"<td>{escape(cell)}</td>" for cell in cells)
    return f'<tr><th scope="row">{escape(title)}</th>{others}</tr>'
