"""The Markdown pages of this project, taken apart: fenced blocks, inline code, links, headings and tables."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tests.harness.sandbox import ROOT

FOLDERS = ("config", "tasks", "worker", "sandbox", "tests", "docs", "deploy")
_FENCE = re.compile(r"^( *)```(.*)$")
_CODE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK = re.compile(r"\[[^\[\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^(#{1,6}) +(.*?) *$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block; `language` is the first word after the fence."""

    language: str
    text: str


class Page:
    """One page. `prose` is its text without the fenced blocks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(ROOT).as_posix()
        self.text = path.read_text()
        self.blocks: list[Block] = []
        self.prose = self._split()

    def __repr__(self) -> str:
        return self.name

    def _split(self) -> str:
        prose: list[str] = []
        block: list[str] | None = None
        language = ""
        for line in self.text.splitlines():
            fence = _FENCE.match(line)
            if fence and block is None:
                block, language = [], fence[2].split(" ")[0]
            elif fence and block is not None:
                self.blocks.append(Block(language, "\n".join(block) + "\n"))
                block = None
            elif block is None:
                prose.append(line)
            else:
                block.append(line)
        assert block is None, f"{self.name}: a fenced block does not end"
        return "\n".join(prose) + "\n"

    @cached_property
    def codes(self) -> list[str]:
        """The inline code spans, in their order."""
        return [" ".join(text.split()) for _, text in _CODE.findall(self.prose)]

    @property
    def links(self) -> list[str]:
        return _LINK.findall(_CODE.sub("code", self.prose))

    @cached_property
    def anchors(self) -> set[str]:
        """What `#…` may lead to, as GitHub makes it from headings."""
        seen: Counter[str] = Counter()
        anchors = set()
        for _, heading in _HEADING.findall(self.prose):
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
            slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
            anchors.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
            seen[slug] += 1
        return anchors

    def commands(self) -> Iterator[str]:
        """What the console blocks type at the prompt, with its continued lines, as one line each."""
        for block in self.blocks:
            if block.language == "console":
                text = block.text.replace("\\\n", " ")
                yield from (line.removeprefix("$ ") for line in text.splitlines() if line.startswith("$ "))

    def section(self, heading: str) -> str:
        """The prose below a heading, up to the next one of its level or above."""
        found = re.search(rf"^(#+) +{re.escape(heading)} *$", self.prose, re.MULTILINE)
        assert found, f"{self.name} has no heading {heading!r}"
        rest = self.prose[found.end() :]
        end = re.search(rf"^#{{1,{len(found[1])}}} ", rest, re.MULTILINE)
        return rest[: end.start()] if end else rest


def rows(text: str) -> list[list[str]]:
    """The rows of all tables in a text, without their heads. A `\\|` is part of its cell."""
    lines = [line.strip() for line in text.splitlines()]
    found = []
    for number, line in enumerate(lines):
        is_head = number + 1 < len(lines) and re.fullmatch(r"\|[-:| ]+\|", lines[number + 1])
        if line.startswith("|") and not is_head and not re.fullmatch(r"\|[-:| ]+\|", line):
            cells = re.split(r"(?<!\\)\|", line.strip("|"))
            found.append([cell.strip().replace("\\|", "|") for cell in cells])
    return found


def coded(text: str) -> list[str]:
    """The inline code spans of a text."""
    return [code for _, code in _CODE.findall(text)]


def first_column(text: str) -> set[str]:
    """What stands as code in the first column of a text's tables."""
    return {code for row in rows(text) for code in coded(row[0])}


def all_pages() -> list[Page]:
    found = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.md"))]
    found = [path for path in found if "node_modules" not in path.parts]
    return [Page(path) for path in sorted(found)]


def page(name: str) -> Page:
    return Page(ROOT / name)


PAGES = all_pages()
