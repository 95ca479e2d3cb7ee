"""The documents that are sent: each of its own patient, the seconds of its validation in its name."""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SMALL_BYTES = 20_000
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Document:
    path: Path
    patient_id: str
    file_name: str


@contextmanager
def small_documents(
    folder: Path, count: int, validation: tuple[float, float], chance: random.Random
) -> Iterator[list[Document]]:
    """Documents of 20 kB in `folder`, which are removed afterwards."""
    documents = []
    for _ in range(count):
        number = next(_numbers)
        name = named(number, chance.uniform(*validation))
        path = folder / name
        path.write_bytes(whole_pdf(SMALL_BYTES))
        documents.append(Document(path, f"p{number}", name))
    try:
        yield documents
    finally:
        for document in documents:
            document.path.unlink(missing_ok=True)


def large_documents(source: Path, count: int, validation_seconds: float) -> list[Document]:
    """The same file for several patients, so that all read it from the same memory."""
    numbers = [next(_numbers) for _ in range(count)]
    return [Document(source, f"p{number}", named(number, validation_seconds)) for number in numbers]


def named(number: int, validation_seconds: float) -> str:
    """A name by which the sandbox knows how long it must validate (`sandbox/README.md`)."""
    return f"SLOW-{validation_seconds:.2f}-{number}.pdf"


def whole_pdf(size: int) -> bytes:
    """Bytes with a PDF's beginning and end: chartpost refuses a document that was cut."""
    head, tail = b"%PDF-1.4\n", b"\n%%EOF\n"
    length = size - len(head) - len(tail)
    block = os.urandom(min(length, 1_000_000))
    return head + (block * (length // len(block) + 1))[:length] + tail
