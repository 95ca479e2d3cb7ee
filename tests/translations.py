"""`python -m tests.translations`: the messages of `tasks.wording` and of the page, in each language's `.po` and `.mo`.

New messages are added to the `.po` files without a translation, and those that the code has no more are dropped. Each
`.mo` is compiled from its `.po`.
"""

from __future__ import annotations

import ast
import string
from collections.abc import Iterator
from pathlib import Path

import polib
from jinja2 import Environment, nodes

from tasks.wording.language import DOMAIN, LOCALE
from tests.harness.sandbox import ROOT

LANGUAGES = ("de", "nb", "nl")
_PLURALS = "nplurals=2; plural=(n != 1);"


def messages() -> dict[str, list[str]]:
    """Every message that the code says -> the files that say it."""
    found: dict[str, list[str]] = {}
    for path in sorted([*(ROOT / "tasks").rglob("*.py"), *(ROOT / "worker").rglob("*.py")]):
        text = path.read_text()
        if "tasks.wording" not in text and "tasks/wording" not in path.as_posix():
            continue
        for message in _said(ast.parse(text)):
            places = found.setdefault(message, [])
            place = path.relative_to(ROOT).as_posix()
            if place not in places:
                places.append(place)
    for template in sorted((ROOT / "worker" / "web" / "templates").glob("*.html")):
        tree = Environment(autoescape=True).parse(template.read_text())
        for call in tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name == "say" and isinstance(call.args[0], nodes.Const):
                place = template.relative_to(ROOT).as_posix()
                if place not in (places := found.setdefault(str(call.args[0].value), [])):
                    places.append(place)
    return found


def _said(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called == "say" and node.args and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)


def placeholders(message: str) -> set[str]:
    """The names of the values that go into a message."""
    return {name for _, name, _, _ in string.Formatter().parse(message) if name is not None}


def po_file(language: str) -> Path:
    return LOCALE / language / "LC_MESSAGES" / f"{DOMAIN}.po"


def compiled(language: str) -> bytes:
    """What the `.mo` file of a language must hold."""
    return bytes(polib.pofile(str(po_file(language)), wrapwidth=100).to_binary())


def update(language: str) -> int:
    """Bring a language's files up to date; returns how many messages are not translated."""
    path = po_file(language)
    before = {entry.msgid: entry.msgstr for entry in polib.pofile(str(path))} if path.exists() else {}
    after = polib.POFile(wrapwidth=100)
    after.metadata = {
        "Language": language,
        "MIME-Version": "1.0",
        "Content-Type": "text/plain; charset=utf-8",
        "Content-Transfer-Encoding": "8bit",
        "Plural-Forms": _PLURALS,
    }
    for message, places in messages().items():
        occurrences = [(place, "") for place in places]
        after.append(polib.POEntry(msgid=message, msgstr=before.get(message, ""), occurrences=occurrences))
    path.parent.mkdir(parents=True, exist_ok=True)
    after.save(str(path))
    path.with_suffix(".mo").write_bytes(compiled(language))
    return len(after.untranslated_entries())


if __name__ == "__main__":
    for each in LANGUAGES:
        print(each, update(each), "not translated")  # noqa: T201
