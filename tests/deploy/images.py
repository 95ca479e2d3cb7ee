"""The Dockerfile, read as far as needed to know what a container of each target would run."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.harness.sandbox import ROOT

DOCKERFILE = ROOT / "Dockerfile"


@dataclass
class Stage:
    """One FROM and what follows it, instructions of earlier stages that it is based on included."""

    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, word: str) -> str | None:
        return next((rest for said, rest in reversed(self.instructions) if said == word), None)

    def each(self, word: str) -> list[str]:
        return [rest for said, rest in self.instructions if said == word]

    @property
    def user(self) -> str | None:
        return self.last("USER")

    @property
    def entrypoint(self) -> list[str]:
        return [str(part) for part in json.loads(self.last("ENTRYPOINT") or "[]")]

    @property
    def environment(self) -> dict[str, str]:
        pairs = (pair.partition("=") for line in self.each("ENV") for pair in shlex.split(line))
        return {name: value for name, _, value in pairs}


def stages() -> dict[str, Stage]:
    """The stages by name, in their order."""
    found: dict[str, Stage] = {}
    stage = Stage("")
    for word, rest in _instructions(DOCKERFILE.read_text()):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = found[name] = Stage(base, list(found[base].instructions) if base in found else [])
        else:
            stage.instructions.append((word, rest))
    return found


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for line in re.sub(r"\\\n", " ", "\n".join(lines)).splitlines():
        word, _, rest = line.strip().partition(" ")
        if word:
            yield word, " ".join(rest.split())
