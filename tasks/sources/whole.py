"""Does a document's own format say that its end is missing?

A file cut off by a full disk, a broken copy or a lost connection can hold still for ever, and would be delivered as
half of a document. Many formats have an end that can be looked for. What a file is, is told by its content and not by
its name.

Real scanners, printers and phones write odd files. So only what is certain counts: a file of an unknown format, and one
of which a few short reads do not show the end, is taken as whole. No length or offset in a file is trusted, and the
number of reads is bounded.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, zip_longest
from typing import Protocol

HEAD_BYTES = 4096
# The record at the end of a ZIP has 22 bytes and a comment of up to 65,535 (APPNOTE.TXT, 4.3.16).
TAIL_BYTES = 22 + 65_535

_PADDING = b"\0\r\n\t\x0c\x1a "  # what is found behind the end: blocks filled up, line ends, the Ctrl-Z of CP/M


class Format(StrEnum):
    """A format with a recognisable end, as messages name it."""

    PDF = "PDF"
    JPEG = "JPEG"
    PNG = "PNG"
    GIF = "GIF"
    TIFF = "TIFF"
    ZIP = "ZIP or Office document"


class Parts(Protocol):
    """A document that can be read in parts."""

    @property
    def size(self) -> int: ...

    @property
    def remote(self) -> bool:
        """True if every read is a request to a storage."""
        ...

    def read_at(self, offset: int, count: int) -> bytes:
        """At most `count` bytes from `offset`; fewer at the end of the document."""
        ...


def why_incomplete(parts: Parts) -> Format | None:
    """The format of a document whose end is missing; None if it is whole, or if that cannot be told.

    Raises what `parts.read_at` raises.
    """
    return examine(parts).incomplete


@dataclass(frozen=True, slots=True)
class Examination:
    """What a few short reads tell of a document."""

    incomplete: Format | None  # the format whose end is missing
    head: bytes  # its first bytes; none if reading them would have been a request of its own


def examine(parts: Parts) -> Examination:
    """As `why_incomplete`, with the first bytes, which were read anyway."""
    tail = _tail(parts)
    # One request is enough for nearly every object. A cut object that ends like a whole file of another format passes.
    if parts.remote and parts.size > len(tail) and _ends_like_a_whole_file(tail):
        return Examination(None, b"")
    head = tail[:HEAD_BYTES] if parts.size <= len(tail) else parts.read_at(0, HEAD_BYTES)
    if parts.remote:
        parts = _Window(parts.size, head, tail)
    found = format_of(head)
    return Examination(found if found and not _CHECKS[found](parts, head, tail) else None, head)


def format_of(head: bytes) -> Format | None:
    """The format of a document that begins with these bytes, if it is one with a recognisable end."""
    if head.startswith(b"\xff\xd8\xff"):
        return Format.JPEG
    if head.startswith(_PNG):
        return Format.PNG
    if head.startswith((b"GIF87a", b"GIF89a")):
        return Format.GIF
    if head[:4] in _TIFF_BYTE_ORDERS:
        return Format.TIFF
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return Format.ZIP
    # Some programs put a byte order mark or an empty line before it, printer drivers a job header (PJL).
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip(_PADDING)
    if begin.startswith(b"%PDF-") or (begin.startswith(b"\x1b%-12345X") and b"\n%PDF-" in begin[:1024]):
        return Format.PDF
    return None


def _tail(parts: Parts) -> bytes:
    begin = max(0, parts.size - TAIL_BYTES)
    return parts.read_at(begin, parts.size - begin)


def _ends_like_a_whole_file(tail: bytes) -> bool:
    body = tail.rstrip(_PADDING)
    return _has_pdf_end(body) or body.endswith((b"\xff\xd9", _PNG_END)) or tail[-22:].startswith(_ZIP_END)


# --- PDF -------------------------------------------------------------------------------------------------------------

# Readers look for it in the last 1,024 bytes (ISO 32000-1, annex H.3, 18); some programs append more than that.
_PDF_END_BYTES = 2048
_LINEARIZED_LENGTH = re.compile(rb"/Linearized\b[^>]*?/L\s+(\d{1,12})\b")


def _pdf_is_whole(parts: Parts, head: bytes, tail: bytes) -> bool:
    # A linearised file has an end mark after its first page too, and says how long it is (ISO 32000-1, annex F.2).
    # Later changes are appended, so it may be longer.
    linearized = _LINEARIZED_LENGTH.search(head[:2048])
    if linearized and int(linearized[1]) > parts.size:
        return False
    return _has_pdf_end(tail.rstrip(_PADDING))


def _has_pdf_end(body: bytes) -> bool:
    return b"%%EOF" in body[-_PDF_END_BYTES:]


# --- JPEG ------------------------------------------------------------------------------------------------------------

_MOST_SEGMENTS = 1000
_WITHOUT_LENGTH = {0x01, *range(0xD0, 0xD9)}  # TEM, RST0 to RST7, SOI (ITU-T T.81, table B.1)
# What follows an FF in the scans: a stuffed zero, a restart, a fill byte, a later scan or its tables. Anything else:
_IN_SCANS = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7\xc4\xcc\xda\xdb\xdc\xdd\xfe]")
_APPENDED = (b"ftyp", b"mdat", b"moov", b"SEFH", b"SEFT")  # a short film, or Samsung's own data, behind the picture


def _jpeg_is_whole(parts: Parts, head: bytes, tail: bytes) -> bool:
    scan = _first_scan(parts)
    if scan is None:
        return True
    if scan >= parts.size:
        return False
    # Not before the first scan: the small picture in the header has an end of its own.
    body = tail[max(0, scan - (parts.size - len(tail))) :]
    if b"\xff\xd9" in body:
        return True
    # Phones append films and other data. Scan data has few markers; anything else means that the picture ended before.
    return bool(_IN_SCANS.search(body)) or any(mark in body for mark in _APPENDED)


def _first_scan(parts: Parts) -> int | None:
    """Where the first scan's data begins, past the end of a file that is cut before it; None if that cannot be told."""
    at = 2
    for _ in range(_MOST_SEGMENTS):
        marker = parts.read_at(at, 4)
        if len(marker) < 4:
            return parts.size if at + 4 > parts.size and marker != b"\xff\xd9" else None
        if marker[0] != 0xFF:
            return None  # not what the standard says; readers may still show it
        if marker[1] == 0xFF:  # a fill byte
            at += 1
        elif marker[1] in _WITHOUT_LENGTH:
            at += 2
        elif marker[1] == 0xD9:  # an end without a picture
            return None
        else:
            at += 2 + max(2, int.from_bytes(marker[2:4], "big"))
            if marker[1] == 0xDA:
                return at
    return None


# --- PNG, GIF --------------------------------------------------------------------------------------------------------

_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_END = b"IEND\xaeB`\x82"  # the chunk's name and its checksum (PNG specification, 11.2.5)


def _png_is_whole(parts: Parts, head: bytes, tail: bytes) -> bool:
    return _PNG_END in tail


def _gif_is_whole(parts: Parts, head: bytes, tail: bytes) -> bool:
    # A block of data ends with a zero, the file with a semicolon (GIF89a specification, 27).
    return b"\x00;" in tail[-1024:] or b"\x00;" in tail.rstrip(_PADDING)[-1024:]


# --- TIFF ------------------------------------------------------------------------------------------------------------

# TIFF 6.0, section 2; the last two are BigTIFF (https://www.awaresystems.be/imaging/tiff/bigtiff.html).
_TIFF_BYTE_ORDERS = {b"II*\0": "<", b"MM\0*": ">", b"II+\0": "<", b"MM\0+": ">"}
_OFFSETS_AND_LENGTHS = {273: 279, 324: 325}  # of strips, of tiles
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS_PER_STRIP = 256, 257, 258, 259, 277, 278
_TAGS = {*_OFFSETS_AND_LENGTHS, *_OFFSETS_AND_LENGTHS.values()}
_TAGS |= {_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _SAMPLES, _ROWS_PER_STRIP}
_ALL_ROWS = 2**32 - 1
_LETTERS = {3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # SHORT, LONG, IFD, LONG8, IFD8
_MOST_PAGES = 500
_MOST_ENTRIES = 512
_MOST_VALUES = 512  # of the first strips or tiles, and as many of the last


def _tiff_is_whole(parts: Parts, head: bytes, tail: bytes) -> bool:
    """True unless a page's directory, or a strip or tile that it names, lies beyond the end of the file."""
    layout = _BIG_TIFF if head[2:4] in (b"+\0", b"\0+") else _CLASSIC_TIFF
    order = _TIFF_BYTE_ORDERS[head[:4]]
    at = _number(head[layout.first_at :], order, layout.place)
    # libtiff writes the first directory's place last of all: it is 0 until then.
    if not at:
        return False
    seen: set[int] = set()
    while at and at not in seen and len(seen) < _MOST_PAGES:
        seen.add(at)
        if at >= parts.size:
            return False
        entries = _number(parts.read_at(at, 8), order, layout.count)
        begin = at + struct.calcsize(layout.count)
        if entries is None or entries > _MOST_ENTRIES:
            return begin <= parts.size
        length = entries * layout.entry_bytes
        if begin + length > parts.size:
            return False
        directory = parts.read_at(begin, length + 8)
        if not _pictures_fit(parts, directory[:length], order, layout):
            return False
        at = _number(directory[length:], order, layout.place)
    return True


@dataclass(frozen=True, slots=True)
class _Layout:
    """How a kind of TIFF writes numbers, as letters of `struct`."""

    first_at: int  # where the place of the first directory stands
    count: str  # the number of entries of a directory
    place: str  # a place in the file
    values: str  # the number of values of an entry

    @property
    def entry_bytes(self) -> int:
        return 4 + struct.calcsize(self.values) + struct.calcsize(self.place)


_CLASSIC_TIFF = _Layout(first_at=4, count="H", place="I", values="I")
_BIG_TIFF = _Layout(first_at=8, count="Q", place="Q", values="Q")


def _pictures_fit(parts: Parts, directory: bytes, order: str, layout: _Layout) -> bool:
    """Whether the strips and tiles of one page lie within the file."""
    form = f"{order}HH{layout.values}"
    begin, size = struct.calcsize(form), layout.entry_bytes
    entries = {}
    for at in range(0, len(directory) - size + 1, size):
        tag, kind, count = struct.unpack_from(form, directory, at)
        if kind in _LETTERS:
            entries[tag] = _LETTERS[kind], count, directory[at + begin : at + size]
    values = {tag: _values(parts, *entry, order, layout) for tag, entry in entries.items() if tag in _TAGS}
    for offsets, lengths in _OFFSETS_AND_LENGTHS.items():
        places, sizes = values.get(offsets, ()), values.get(lengths, ())
        if places is None or sizes is None:
            return False
        uncompressed = _uncompressed_bytes(values)
        for place, size in zip_longest(places, sizes, fillvalue=0):
            # Some scanners note a strip's size before compression.
            if place > parts.size or (size < uncompressed and place + size > parts.size):
                return False
    return True


def _uncompressed_bytes(values: Mapping[int, tuple[int, ...] | None]) -> float:
    """The size of one strip before compression; infinite for a picture that is not compressed."""
    first = {tag: value[0] for tag, value in values.items() if value}
    if first.get(_COMPRESSION, 1) == 1 or _WIDTH not in first:
        return math.inf
    rows = min(first.get(_ROWS_PER_STRIP, _ALL_ROWS), first.get(_HEIGHT, _ALL_ROWS))
    return first[_WIDTH] * rows * first.get(_SAMPLES, 1) * first.get(_BITS, 1) // 8


def _values(parts: Parts, letter: str, count: int, field: bytes, order: str, layout: _Layout) -> tuple[int, ...] | None:
    """The first and last values of an entry; none if they cannot be read. None if they lie beyond the end."""
    each = struct.calcsize(letter)
    if count * each <= len(field):
        return struct.unpack(f"{order}{count}{letter}", field[: count * each])
    place = _number(field, order, layout.place) or 0
    if place + count * each > parts.size:
        return None
    some = min(count, _MOST_VALUES)
    begins = (place,) if count <= 2 * _MOST_VALUES else (place, place + (count - some) * each)
    some = count if len(begins) == 1 else some
    read = [parts.read_at(begin, some * each) for begin in begins]
    if not all(len(content) == some * each for content in read):
        return ()
    return tuple(chain.from_iterable(struct.iter_unpack(order + letter, b"".join(read))))


def _number(content: bytes, order: str, letter: str) -> int | None:
    form = order + letter
    return int(struct.unpack_from(form, content)[0]) if len(content) >= struct.calcsize(form) else None


class _Window:
    """What has been read of a remote document. A read of anything else gives nothing."""

    remote = True

    def __init__(self, size: int, head: bytes, tail: bytes) -> None:
        self.size = size
        self._pieces = ((0, head), (size - len(tail), tail))

    def read_at(self, offset: int, count: int) -> bytes:
        count = min(count, self.size - offset)
        for begin, content in self._pieces:
            if begin <= offset and offset + count <= begin + len(content):
                return content[offset - begin : offset - begin + count]
        return b""


# --- ZIP -------------------------------------------------------------------------------------------------------------

_ZIP_END, _ZIP_DIRECTORY, _ZIP64_LOCATOR = b"PK\x05\x06", b"PK\x01\x02", b"PK\x06\x07"
_LARGE = 0xFFFFFFFF  # the true number stands in the ZIP64 record


def _zip_is_whole(parts: Parts, head: bytes, tail: bytes) -> bool:
    """True if a record of the end is there, and the directory that it names (APPNOTE.TXT, 4.3.16)."""
    at = len(tail)
    while (at := tail.rfind(_ZIP_END, 0, at)) >= 0:
        record = tail[at : at + 22]
        if len(record) == 22:
            entries, size, offset = struct.unpack("<HII", record[10:20])
            end = parts.size - len(tail) + at
            if _LARGE in (size, offset) or entries == 0xFFFF:
                if _ZIP64_LOCATOR in tail[max(0, at - 20) : at]:
                    return True
            elif offset + size <= end and (entries == 0 or parts.read_at(offset, 4) in (_ZIP_DIRECTORY, b"")):
                return True
    return False


_CHECKS: dict[Format, Callable[[Parts, bytes, bytes], bool]] = {
    Format.PDF: _pdf_is_whole,
    Format.JPEG: _jpeg_is_whole,
    Format.PNG: _png_is_whole,
    Format.GIF: _gif_is_whole,
    Format.TIFF: _tiff_is_whole,
    Format.ZIP: _zip_is_whole,
}
