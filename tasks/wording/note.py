"""A note beside a document, as a page for a browser and as plain text.

The page has no script and takes nothing from elsewhere, so that it opens from a shared folder on any machine, and it
fits on one printed page. What is not ours in it (names of files and folders, a provider's words) is escaped.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from html import escape

from tasks.wording.explanation import Explanation
from tasks.wording.language import Words

MARK_NAME = "chartpost-note"
"""What the mark of a note is called in it. By its mark a note is known as ours (`folders.notes`)."""

_MOST_CHARACTERS = 600  # of any single text that is not ours: the page must stay one page
_NOT_SHOWN = ("Cc", "Cs", "Cf", "Co", "Cn", "Zl", "Zp")
"""Control characters, bytes that are not UTF-8, and what turns the direction of the text around it."""

_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1a1a1a;
  font: 1.05rem/1.5 "Segoe UI", system-ui, "Liberation Sans", sans-serif; }
main { max-width: 44rem; margin: 0 auto; padding: 1.5rem 1.25rem; }
.kind { display: inline-block; margin: 0 0 .75rem; padding: .2rem .8rem; border-radius: .25rem; color: #fff;
  font-weight: 700; letter-spacing: .06em; text-transform: uppercase; }
.not-sent .kind { background: #a4161a; }
.waiting .kind { background: #7a4f00; }
h1 { margin: 0 0 1rem; font-size: 1.75rem; line-height: 1.25; }
h2 { margin: 1.25rem 0 .25rem; font-size: 1.15rem; }
p, ol { margin: 0 0 .5rem; }
ol, ul { padding-left: 1.5rem; }
li { margin: .25rem 0; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; margin: 0; padding: .75rem 1rem;
  background: #f1f3f5; border-radius: .25rem; }
dt { color: #4a4a4a; }
dd { margin: 0; font-weight: 600; overflow-wrap: anywhere; }
p, li { overflow-wrap: anywhere; }
footer { margin-top: 1.75rem; padding-top: .5rem; border-top: 1px solid #ccc; color: #555; font-size: .85rem; }
table { border-collapse: collapse; width: 100%; font-size: .8rem; line-height: 1.35; }
th, td { border: 1px solid #bbb; padding: .3rem .5rem; text-align: left; vertical-align: top; }
th { background: #f1f3f5; }
.sheet main { max-width: 75rem; }
@media print {
  .sheet { font-size: 8pt; line-height: 1.25; }
  .sheet h1 { font-size: 14pt; margin-bottom: .25rem; }
  .sheet table { font-size: 7pt; line-height: 1.2; }
  .sheet th, .sheet td { padding: .1rem .3rem; }
  @page { margin: 1.5cm; }
  body { font-size: 11pt; }
  main { max-width: none; padding: 0; }
  .kind { color: #000; background: none !important; border: 2px solid #000; }
  dl, th { background: none; }
  tr { break-inside: avoid; }
}
"""


class Kind(StrEnum):
    """What a note says of its document. The values are classes in the page."""

    NOT_SENT = "not-sent"
    WAITING = "waiting"


@dataclass(frozen=True, slots=True)
class Note:
    """What one note says. Its texts may be anything: they are escaped."""

    kind: Kind
    explanation: Explanation
    file_name: str
    account: str
    patient_id: str | None
    # When the document failed, or since when it has been waiting.
    at: datetime
    # Whom to ask; empty if nobody is named.
    contact: str = ""
    # Until when it is tried, as a sentence; only of one that waits.
    until: str = ""
    # Who has dealt with the failure, and what they wrote: a sentence; empty if nobody has.
    dealt_with: str = ""
    # For IT, at the end: a code, a number.
    reference: str = ""


def to_html(words: Words, note: Note, mark: str = "") -> str:
    """The page, in HTML. `mark` is put into its head."""
    say, explanation = words.say, note.explanation
    kind = _kind(words, note)
    parts = [
        f'<p class="kind">{_safe(kind)}</p>',
        f"<h1>{_safe(explanation.title)}</h1>",
        *([f"<p><strong>{_safe(note.dealt_with)}</strong></p>"] if note.dealt_with else []),
        "<dl>",
        *(f"<dt>{_safe(name)}</dt><dd><bdi>{_safe(value)}</bdi></dd>" for name, value in _facts(words, note)),
        "</dl>",
        f"<h2>{_safe(say('What happened'))}</h2>",
        f"<p>{_safe(explanation.what_happened)}</p>",
        f"<h2>{_safe(say('What to do'))}</h2>",
        *_list(explanation.what_to_do),
        *([f"<h2>{_safe(say('How long'))}</h2>", f"<p>{_safe(note.until)}</p>"] if note.until else []),
        f"<h2>{_safe(say('Whom to ask'))}</h2>",
        f"<p>{_safe(note.contact or say('Your IT support.'))}</p>",
        f"<footer>{_safe(_end(words, note))}</footer>",
    ]
    return html_page(words, f"{kind}: {clean_line(note.file_name)}", parts, mark=mark, body_class=note.kind)


def to_text(words: Words, note: Note, mark: str = "") -> str:
    """The same as plain text, for any editor: with a byte order mark once encoded, and lines that end as in Windows."""
    say, explanation = words.say, note.explanation
    steps = explanation.what_to_do
    numbered = [f"{number}. {step}" for number, step in enumerate(steps, start=1)] if len(steps) > 1 else steps
    lines = [
        f"{_kind(words, note).upper()}: {explanation.title}",
        *(["", note.dealt_with] if note.dealt_with else []),
        "",
        *(f"{name}: {value}" for name, value in _facts(words, note)),
        *("", say("What happened"), explanation.what_happened),
        *("", say("What to do"), *numbered),
        *(["", say("How long"), note.until] if note.until else []),
        *("", say("Whom to ask"), note.contact or say("Your IT support.")),
        *("", "--", _end(words, note), f"{MARK_NAME}: {mark}"),
    ]
    return "\ufeff" + "\r\n".join(map(clean_line, lines)) + "\r\n"


def html_page(words: Words, title: str, parts: Sequence[str], *, body_class: str, mark: str | None = None) -> str:
    """A page of ours around these parts, which are HTML. With a mark, even an empty one, it is a note."""
    head = [
        "<!doctype html>",
        f'<html lang="{words.language}">',
        "<head>",
        '<meta charset="utf-8">',
        *([] if mark is None else [f'<meta name="{MARK_NAME}" content="{escape(mark)}">']),
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_safe(title)}</title>",
        f"<style>{_STYLE}</style>",
        "</head>",
        f'<body class="{body_class}">',
        "<main>",
    ]
    return "\n".join([*head, *parts, "</main>", "</body>", "</html>", ""])


def clean_line(text: str) -> str:
    """The text on one line, of a length that is read, without what cannot be seen or turns other text around."""
    shown = "".join(" " if unicodedata.category(char) in _NOT_SHOWN else char for char in text)
    return shown if len(shown) <= _MOST_CHARACTERS else shown[:_MOST_CHARACTERS] + " …"


def _safe(text: str) -> str:
    return escape(clean_line(text))


def _kind(words: Words, note: Note) -> str:
    return words.say("Not sent") if note.kind is Kind.NOT_SENT else words.say("Waiting")


def _facts(words: Words, note: Note) -> Iterator[tuple[str, str]]:
    yield words.say("File"), note.file_name
    yield words.say("Patient"), note.patient_id or words.say("not named")
    yield words.say("Clinic"), note.account
    since = words.say("When") if note.kind is Kind.NOT_SENT else words.say("Waiting since")
    yield since, words.moment(note.at)


def _list(steps: Sequence[str]) -> Iterator[str]:
    if len(steps) == 1:
        yield f"<p>{_safe(steps[0])}</p>"
        return
    yield "<ol>"
    yield from (f"<li>{_safe(step)}</li>" for step in steps)
    yield "</ol>"


def _end(words: Words, note: Note) -> str:
    """The last line: what the note is, and the reference for IT."""
    says = words.say("This note goes away by itself when the document is no longer here.")
    return f"{says} {words.say('For IT: {reference}', reference=note.reference)}" if note.reference else says
