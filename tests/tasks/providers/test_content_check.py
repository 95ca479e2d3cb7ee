"""Which contents contradict the ending of a name or a content_type."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.model.document import Document
from tasks.providers.content_check import content_of, contradictions
from tests.harness import formats

OLE = bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500)
PROGRAM = b"MZ" + bytes(58) + b"\x80\0\0\0" + bytes(64) + b"PE\0\0" + bytes(300)


def said(name: str, content: bytes, content_type: str | None = None) -> list[str]:
    document = Document("a", "4711", "file:///x", name, len(content), content_type=content_type)
    return list(contradictions(document, content[:4096]))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.pdf", formats.pdf()),
        ("A.PDF", formats.pdf()),
        ("a.jpg", formats.jpeg()),
        ("a.jpeg", formats.jpeg()),
        ("a.png", formats.png()),
        ("a.tif", formats.tiff()),
        ("a.zip", formats.zip_file()),
        ("a.docx", formats.zip_file()),
        ("encrypted.docx", OLE),
        ("a.doc", OLE),
        ("really docx.doc", formats.zip_file()),
        ("a.doc", b"{\\rtf1 hello}"),
        ("a.xls", b"<html><table></table>"),
        ("a.pdf", b"a text that is no PDF"),
        ("a.pdf", b"MZ. Amadeus, a text"),
        ("a.pdf", b"BM, a text"),
        ("a.pdf", bytes(5000)),
        ("a.pdf", b""),
        ("a.txt", formats.pdf()),
        ("a.hl7", formats.jpeg()),
        ("a.exe", PROGRAM),
        ("no ending", PROGRAM),
        ("a.dcm", bytes(128) + b"DICM" + b"\x02\0\0\0UL\x04\0" + bytes(100)),
        ("a.dcm", b"\x08\0\x05\0\x0a\0\0\0ISO_IR 100"),
    ],
)
def test_nothing_is_said_without_certainty(name: str, content: bytes) -> None:
    assert said(name, content) == []


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.pdf", PROGRAM, "The file's ending says PDF, its content is a Windows program."),
        ("a.pdf", b"\x7fELF\x02\x01\x01" + bytes(100), "The file's ending says PDF, its content is a Linux program."),
        ("a.pdf", formats.jpeg(), "The file's ending says PDF, its content is a JPEG."),
        ("a.pdf", OLE, "The file's ending says PDF, its content is an Office 97 document."),
        ("a.pdf", formats.zip_file(), "The file's ending says PDF, its content is a ZIP or Office document."),
        ("a.jpg", formats.png(), "The file's ending says JPEG, its content is a PNG."),
        ("a.tif", formats.pdf(), "The file's ending says TIFF, its content is a PDF."),
        ("a.docx", formats.pdf(), "The file's ending says Word, its content is a PDF."),
        ("a.dcm", formats.jpeg(), "The file's ending says DICOM, its content is a JPEG."),
        ("a.pdf", b"Rar!\x1a\x07\x01\0" + bytes(99), "The file's ending says PDF, its content is an archive."),
        ("a.png", b"\0\0\0\x18ftypmp42" + bytes(99), "The file's ending says PNG, its content is an MP4 film."),
    ],
)
def test_a_contradiction_is_said_in_a_sentence(name: str, content: bytes, sentence: str) -> None:
    assert said(name, content) == [sentence]


def test_the_content_type_that_was_given_is_compared_too() -> None:
    assert said("a", formats.jpeg(), "application/PDF; version=1") == [
        "Its content_type says PDF, its content is a JPEG."
    ]
    assert said("a.jpg", formats.jpeg(), "image/jpeg") == []
    assert len(said("a.pdf", formats.jpeg(), "application/pdf")) == 2


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([b"", b"MZ", b"PK", b"\x7fELF", b"ftyp", b"Rar!", bytes(128)]), st.binary(max_size=4096))
def test_rubbish_is_looked_at_without_an_error(beginning: bytes, rest: bytes) -> None:
    content_of(beginning + rest)


def test_a_look_costs_less_than_a_document() -> None:
    content_of(bytes(100))  # the table is read once
    costs = []
    for content in (formats.pdf(), b"unknown" * 500):
        began = time.process_time()
        for _ in range(20):
            said("a.pdf", content)
        costs.append((time.process_time() - began) / 20)
    assert max(costs) < 0.02  # measured: 0.003 and 0.2 ms
