"""Which files of a folder are sidecars, and which documents they may be meant for.

A sidecar under a wrong name would be sent as a document, and its document would go without what its sender asked for.
So a file that looks like a sidecar is never sent, and each document that it may be meant for waits.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import cached_property

from tasks.folders.disk_names import SIDECAR_ENDING
from worker.inbox.filter import folded

# `.META.JSON`, `.meta.json.txt` (Notepad), `.meta (1).json` (a second download), `.meta - Copy.json`, `.metadata.json`,
# `.meta.json.part` (not yet written), `.meta`. Compared without regard to case.
_LOOKS_LIKE = re.compile(
    r"(?P<document>.*?)\s*(?:"
    r"(?:^|[._ -])meta(?:data)?(?:[\s_-][^.]*|\([^.]*)?(?:\.sync-conflict-[^.]*)?"
    r"\s*\.+json[c5l]?\s*(?:[(-][^.]*)?(?:\.[a-z0-9!_]{1,12}){0,2}"
    r"|\.meta(?:\.txt)?)"
)
_COPY_OF = re.compile(r"(copy of|kopie von|copie de|copia de|copia di|kopi av|kopi af)\s+")


def looks_like_sidecar(name: str) -> bool:
    """True for the name of a sidecar, and for what a person or a program may have made of one."""
    if name.endswith(SIDECAR_ENDING):
        return True
    name = folded(name)
    return "meta" in name and bool(_LOOKS_LIKE.fullmatch(name))


class SidecarNames:
    """The names of one folder's documents, to be compared with the names of sidecars."""

    def __init__(self, documents: Collection[str]) -> None:
        self._documents = documents

    def belongs(self, sidecar: str) -> bool:
        """True if the sidecar is called exactly as it must be for one of the documents."""
        return sidecar.endswith(SIDECAR_ENDING) and sidecar.removesuffix(SIDECAR_ENDING) in self._documents

    def meant_for(self, sidecar: str) -> list[str]:
        """The documents that an odd sidecar may be meant for: of its name, or of its name and any ending."""
        name = folded(sidecar)
        found = _LOOKS_LIKE.fullmatch(name)
        name = found["document"] if found else name.removesuffix(SIDECAR_ENDING)
        return self._by_name.get(_squeezed(_COPY_OF.sub("", name, count=1)), [])

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        """Each document under its name and under its name without the ending."""
        by_name: dict[str, list[str]] = {}
        for document in self._documents:
            name = _squeezed(folded(document))
            stem, dot, ending = name.rpartition(".")
            for key in {name, stem if dot and stem and len(ending) <= 8 else name}:
                by_name.setdefault(key, []).append(document)
        return by_name


def _squeezed(name: str) -> str:
    """Without the spaces that nobody sees: at the ends, before the ending, and two in a row."""
    return re.sub(r"\s+", " ", name).strip().replace(" .", ".")
