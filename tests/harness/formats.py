"""Small files of the formats that scanners, printers and phones write, made by hand."""

from __future__ import annotations

import io
import random
import struct
import zipfile
import zlib
from collections.abc import Sequence


def pdf(text: str = "a letter", *, filler_bytes: int = 0) -> bytes:
    """A PDF of one page, with a cross-reference table that fits."""
    stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode() + b"\n%" + b"f" * filler_bytes
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
    )
    content, places = b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n", []
    for number, body in enumerate(objects, start=1):
        places.append(len(content))
        content += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    end = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(content))
    return content + head + table + end


def linearized_pdf() -> bytes:
    """Its first page has an end mark of its own, as "fast web view" writes it."""
    rest = pdf(filler_bytes=6000)[9:]
    head = b"%%PDF-1.7\n1 0 obj\n<< /Linearized 1 /L %010d /O 3 /E 500 /N 1 /T 400 >>\nendobj\n"
    first = b"xref\n0 1\n0000000000 65535 f \ntrailer\n<< /Size 1 >>\nstartxref\n0\n%%EOF\n"
    return head % (len(head % 0) + len(first) + len(rest)) + first + rest


def jpeg(*, thumbnail: bool = False, scan_bytes: int = 5000, progressive: bool = False) -> bytes:
    """With `thumbnail`, the small picture in its header has an end of its own."""
    small = b"Exif\0\0" + (jpeg(scan_bytes=50) if thumbnail else b"MM\0*\0\0\0\x08\0\0")
    frame = b"\xc2" if progressive else b"\xc0"
    content = b"\xff\xd8" + _segment(b"\xe1", small) + _segment(b"\xdb", bytes(65)) + _segment(frame, bytes(15))
    scan = random.Random(scan_bytes).randbytes(scan_bytes).replace(b"\xff", b"\xff\x00")
    content += _segment(b"\xc4", bytes(20)) + _segment(b"\xda", bytes(10)) + scan
    if progressive:
        content += _segment(b"\xc4", bytes(20)) + _segment(b"\xda", bytes(10)) + scan
    return content + b"\xff\xd9"


def _segment(marker: bytes, content: bytes) -> bytes:
    return b"\xff" + marker + struct.pack(">H", len(content) + 2) + content


def png(*, side: int = 40) -> bytes:
    rows = b"".join(b"\0" + random.Random(row).randbytes(3 * side) for row in range(side))
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )


def gif() -> bytes:
    block = random.Random(1).randbytes(200).replace(b"\x00;", b"\x01;")
    image = b",\0\0\0\0\x01\0\x01\0\0\x08" + b"\xc8" + block + b"\0"
    return b"GIF89a\x01\0\x01\0\x80\0\0" + bytes(6) + image + b";"


def tiff(
    pages: int = 1,
    *,
    order: str = "<",
    compression: int = 4,
    directory_first: bool = False,
    strips: int = 1,
    noted_bytes: int = 0,
) -> bytes:
    """Pages of strips of 2,000 bytes. Each page's directory lies behind its strips, as libtiff writes it, or before.

    `noted_bytes`: what the directory says of each strip's length, where that is not the truth.
    """
    content = bytearray(struct.pack(order + "2sHI", b"II" if order == "<" else b"MM", 42, 0))
    link = 4  # where the place of the next directory must be written
    for page in range(pages):
        tags = 7
        room = 2 + 12 * tags + 4 + (8 * strips if strips > 1 else 0)
        data = random.Random(page).randbytes(2000 * strips)
        at = len(content) + (0 if directory_first else len(data))
        first_strip = len(content) + (room if directory_first else 0)
        places = [first_strip + 2000 * number for number in range(strips)]
        sizes = [noted_bytes or 2000] * strips
        directory = _directory(order, at, compression, places, sizes)
        struct.pack_into(order + "I", content, link, at)
        link = at + 2 + 12 * tags
        content += directory + data if directory_first else data + directory
    return bytes(content)


def _directory(order: str, at: int, compression: int, places: Sequence[int], sizes: Sequence[int]) -> bytes:
    behind = at + 2 + 12 * 7 + 4
    many = len(places) > 1
    entries = (
        (256, 4, 1, 1728),
        (257, 4, 1, 2200),
        (258, 4, 1, 1),
        (259, 4, 1, compression),
        (273, 4, len(places), behind if many else places[0]),
        (278, 4, 1, 2200 // len(places)),
        (279, 4, len(sizes), behind + 4 * len(places) if many else sizes[0]),
    )
    body = struct.pack(order + "H", len(entries)) + b"".join(struct.pack(order + "HHII", *entry) for entry in entries)
    values = struct.pack(f"{order}{2 * len(places)}I", *places, *sizes) if many else b""
    return body + struct.pack(order + "I", 0) + values


def big_tiff() -> bytes:
    """64-bit offsets, with one uncompressed strip behind the directory."""
    entries = ((256, 4, 1, 100), (257, 4, 1, 20), (273, 16, 1, 16 + 8 + 20 * 4 + 8), (279, 16, 1, 2000))
    body = struct.pack("<Q", len(entries)) + b"".join(struct.pack("<HHQQ", *entry) for entry in entries)
    return struct.pack("<2sHHHQ", b"II", 43, 8, 0, 16) + body + struct.pack("<Q", 0) + random.Random(0).randbytes(2000)


def zip_file(*, comment: bytes = b"", stored_zip: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", random.Random(2).randbytes(3000))
        if stored_zip:
            archive.writestr(zipfile.ZipInfo("inner.zip"), zip_file())
        archive.comment = comment
    return buffer.getvalue()
