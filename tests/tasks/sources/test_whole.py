"""Which files are taken as whole, and which miss their end: files as real machines write them, cut at every place."""

from __future__ import annotations

import random
import struct
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.sources.whole import TAIL_BYTES, Format, format_of, why_incomplete
from tests.harness import formats

_MOST_READS = 2000  # a TIFF of 500 pages; all others need far fewer
_MOST_BYTES_OF_A_READ = TAIL_BYTES


@dataclass
class InMemory:
    content: bytes
    remote: bool = False
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.content)

    def read_at(self, offset: int, count: int) -> bytes:
        assert offset >= 0
        self.reads.append((offset, count))
        return self.content[offset : offset + count]


def incomplete(content: bytes, *, remote: bool = False) -> Format | None:
    return why_incomplete(InMemory(content, remote))


PDF, JPEG, TIFF = formats.pdf(), formats.jpeg(), formats.tiff()
INCREMENT = b"\n4 0 obj\n<< >>\nendobj\nxref\n0 0\ntrailer\n<< /Prev 9 >>\nstartxref\n900\n%%EOF\n"
FILM = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + b"\0\0\x10\0mdat" + random.Random(3).randbytes(150_000)

# What is written in practice, and by whom.
WHOLE = {
    "PDF": PDF,
    "PDF, line ends of Windows": PDF.replace(b"\n", b"\r\n"),
    "PDF without a line end at its end": PDF.rstrip(),
    "PDF filled up with zeros to a block (some scanners)": PDF + bytes(4096 - len(PDF) % 4096),
    "PDF with Ctrl-Z (old spoolers)": PDF + b"\x1a",
    "PDF behind an empty line (web applications)": b"\r\n" + PDF,
    "PDF behind a byte order mark": b"\xef\xbb\xbf" + PDF,
    "PDF in a printer's job (PJL)": b"\x1b%-12345X@PJL JOB\r\n@PJL ENTER LANGUAGE=PDF\r\n"
    + PDF
    + b"\x1b%-12345X@PJL EOJ\r\n\x1b%-12345X",
    "PDF with a web server's page behind it": PDF + b"<!-- served in 12 ms -->\r\n" * 20,
    "PDF, linearised": formats.linearized_pdf(),
    "PDF, linearised and changed later": formats.linearized_pdf() + INCREMENT,
    "PDF, changed twice": PDF + INCREMENT * 2,
    "PDF of more than the tail": formats.pdf(filler_bytes=200_000),
    "JPEG": JPEG,
    "JPEG, progressive": formats.jpeg(progressive=True),
    "JPEG with a small picture in its header (cameras)": formats.jpeg(thumbnail=True),
    "JPEG of more than the tail": formats.jpeg(scan_bytes=200_000),
    "JPEG filled up with zeros": JPEG + bytes(700),
    "JPEG with a line end": JPEG + b"\r\n",
    "two pictures in one JPEG (MPF, phones)": JPEG + formats.jpeg(scan_bytes=80_000),
    "JPEG with a film behind it (motion photo)": JPEG + FILM,
    "JPEG with Samsung's data behind it": JPEG + b"\0\0\0\x0a" + b"Image_UTC_Data" * 6000 + b"SEFH\0\0SEFT",
    "PNG": formats.png(),
    "PNG of more than the tail": formats.png(side=200),
    "PNG with data behind it": formats.png() + b"tail of a screenshot tool" * 9,
    "GIF": formats.gif(),
    "GIF with zeros behind it": formats.gif() + bytes(20),
    "TIFF, fax (directory behind the strip)": TIFF,
    "TIFF, directory first": formats.tiff(directory_first=True),
    "TIFF of Motorola's byte order": formats.tiff(order=">"),
    "TIFF of twelve pages": formats.tiff(12),
    "TIFF of many strips": formats.tiff(strips=40),
    "TIFF of so many strips that only some are looked at": formats.tiff(strips=1500),
    "TIFF, uncompressed": formats.tiff(compression=1),
    "TIFF whose strip's length is that before compression": formats.tiff(noted_bytes=216 * 2200),
    "TIFF filled up with zeros": TIFF + bytes(512),
    "BigTIFF": formats.big_tiff(),
    "ZIP": formats.zip_file(),
    "ZIP with a comment": formats.zip_file(comment=b"c" * 5000),
    "ZIP with the longest comment": formats.zip_file(comment=b"c" * 65_535),
    "ZIP with a ZIP in it": formats.zip_file(stored_zip=True),
    "ZIP, empty": b"PK\x05\x06" + bytes(18),
    "ZIP of a thousand gigabytes' kind (ZIP64)": (
        formats.zip_file()[:-22]
        + b"PK\x06\x06"
        + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 2, 2, 99, 99)
        + b"PK\x06\x07"
        + struct.pack("<IQI", 0, 99, 1)
        + b"PK\x05\x06"
        + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    ),
}
# Formats without an end that can be looked for, and what is not what its beginning may look like.
NOT_JUDGED = {
    "text": b"Dear colleague,\n",
    "HL7": b"MSH|^~\\&|LAB|||\r",
    "XML": b"<?xml version='1.0'?><ClinicalDocument>",
    "RTF": b"{\\rtf1 cut",
    "Word 97": bytes.fromhex("d0cf11e0a1b11ae1") + bytes(500),
    "DICOM": bytes(128) + b"DICM" + bytes(500),
    "gzip": b"\x1f\x8b\x08" + bytes(50),
    "zeros": bytes(70_000),
    "a letter about %PDF-1.7 files": b"How to open %PDF-1.7 files:\n",
    "JPEG that no standard knows": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + b"q" * 70_000,
    "JPEG without a picture": b"\xff\xd8\xff\xd9",
    "one byte": b"\xff",
}


@pytest.mark.parametrize("remote", [False, True])
@pytest.mark.parametrize("name", [*WHOLE, *NOT_JUDGED])
def test_files_as_they_are_written_in_practice_are_whole(name: str, remote: bool) -> None:
    assert incomplete({**WHOLE, **NOT_JUDGED}[name], remote=remote) is None


CUT = {
    "PDF": (Format.PDF, PDF, 7),  # the bytes at its end without which it is still shown
    "PDF, linearised": (Format.PDF, formats.linearized_pdf(), 1),
    "PDF of more than the tail": (Format.PDF, formats.pdf(filler_bytes=200_000), 7),
    "JPEG": (Format.JPEG, JPEG, 1),
    "JPEG, progressive": (Format.JPEG, formats.jpeg(progressive=True), 1),
    "JPEG with a small picture in its header": (Format.JPEG, formats.jpeg(thumbnail=True), 1),
    "PNG": (Format.PNG, formats.png(), 1),
    "GIF": (Format.GIF, formats.gif(), 1),
    "TIFF": (Format.TIFF, TIFF, 5),  # the last four bytes say that there is no other page
    "TIFF, directory first": (Format.TIFF, formats.tiff(directory_first=True), 1),
    "TIFF of five pages": (Format.TIFF, formats.tiff(5, order=">"), 5),
    "TIFF of many strips": (Format.TIFF, formats.tiff(strips=40, directory_first=True), 1),
    "TIFF of very many strips": (Format.TIFF, formats.tiff(strips=1500, directory_first=True, compression=1), 1),
    "TIFF, uncompressed": (Format.TIFF, formats.tiff(compression=1, directory_first=True), 1),
    "BigTIFF": (Format.TIFF, formats.big_tiff(), 1),
    "ZIP": (Format.ZIP, formats.zip_file(), 1),
    "ZIP with a ZIP in it": (Format.ZIP, formats.zip_file(stored_zip=True), 1),
}


@pytest.mark.parametrize("name", CUT)
def test_a_file_that_is_cut_anywhere_misses_its_end(name: str) -> None:
    expected, content, least = CUT[name]
    lengths = {
        *range(12, min(len(content), 600)),
        *range(600, len(content), max(97, len(content) // 200)),
        len(content) - least,
    }
    passed = [
        length for length in sorted(lengths) if length <= len(content) - least and not incomplete(content[:length])
    ]
    assert passed == []
    assert incomplete(content[: len(content) // 2]) is expected


@pytest.mark.parametrize("name", ["PDF", "JPEG", "PNG", "ZIP"])
def test_a_file_whose_room_was_taken_before_it_was_written_misses_its_end(name: str) -> None:
    _, content, _ = CUT[name]
    half = content[: len(content) // 2]
    assert incomplete(half + bytes(len(content) - len(half)))
    assert incomplete(half + bytes(1_000_000))


@pytest.mark.parametrize(
    "name", ["PDF of more than the tail", "JPEG of more than the tail", "PNG of more than the tail"]
)
def test_one_request_is_enough_for_a_whole_object(name: str) -> None:
    remote = InMemory(WHOLE[name], remote=True)
    assert why_incomplete(remote) is None
    assert len(remote.reads) == 1
    cut = InMemory(WHOLE[name][:-20_000], remote=True)
    assert why_incomplete(cut)
    assert len(cut.reads) == 2


BEGINNINGS = [
    b"%PDF-1.7\n",
    b"\xff\xd8\xff",
    b"\x89PNG\r\n\x1a\n",
    b"GIF89a",
    b"II*\0",
    b"MM\0*",
    b"II+\0\x08\0\0\0",
    b"MM\0+",
    b"PK\x03\x04",
    b"",
]


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(BEGINNINGS), st.binary(max_size=400), st.booleans())
def test_rubbish_is_judged_with_few_short_reads(beginning: bytes, rest: bytes, remote: bool) -> None:
    read = InMemory(beginning + rest, remote)
    why_incomplete(read)
    assert len(read.reads) <= (2 if remote else _MOST_READS)
    assert all(count <= _MOST_BYTES_OF_A_READ for _, count in read.reads)


@settings(max_examples=600, deadline=None)
@given(st.sampled_from(sorted(CUT)), st.data())
def test_whole_files_with_damage_in_them_are_judged_with_few_short_reads(name: str, data: st.DataObject) -> None:
    content = bytearray(CUT[name][1][:60_000])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, min(len(content) - 1, 3000)))
        content[at] = data.draw(st.integers(0, 255))
    read = InMemory(bytes(content))
    why_incomplete(read)
    assert len(read.reads) <= _MOST_READS
    assert all(count <= _MOST_BYTES_OF_A_READ for _, count in read.reads)


def test_a_file_that_shrinks_while_it_is_judged_harms_nothing() -> None:
    class Shrinking(InMemory):
        def read_at(self, offset: int, count: int) -> bytes:
            return super().read_at(offset, count)[: count // 2 + 1]

    for _, content, _ in CUT.values():
        why_incomplete(Shrinking(content))


def test_a_directory_that_leads_back_to_itself_ends() -> None:
    content = bytearray(formats.tiff(3))
    link = int.from_bytes(content[4:8], "little") + 2 + 12 * 7
    content[link : link + 4] = content[4:8]
    assert incomplete(bytes(content)) is None


def test_the_format_is_told_by_the_content() -> None:
    assert format_of(PDF) is Format.PDF
    assert format_of(b"") is None
