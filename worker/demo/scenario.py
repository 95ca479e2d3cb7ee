"""Which documents the demo sends, what is to happen to each on its way, and how each is to end."""

from __future__ import annotations

import hashlib
import random
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import count, islice

from tasks.model.errors import Code

ACCOUNT = "north_clinic"
MAX_BYTES = 1_000_000  # the demo's limit for this account, so that one document can be too large for it

_ANNA, _BEN, _CLEO, _DINA = "demo-anna-1001", "demo-ben-1002", "demo-cleo-1003", "demo-dina-1004"
_NATIONAL_ID = "17855599120"
_NO_ONE = "404-demo-noone"  # the sandbox knows no patient whose id begins like this


class Way(StrEnum):
    """The door that a document comes in by."""

    INBOX = "inbox"
    CELERY = "celery"
    STREAM = "stream"


class Fault(StrEnum):
    """What the sandbox does to a document that is delivered all the same."""

    BUSY = "storage answered 503 SlowDown"
    LOST = "the upload's answer was lost"
    EXPIRED = "the form had expired"


@dataclass(frozen=True)
class Paper:
    """One document of the demo. `ends` is the code that it has to fail with; None: it has to be delivered.

    `note` says in a few words what is special about it, once it has ended as it should.
    """

    patient_id: str
    file_name: str
    content: bytes
    way: Way = Way.INBOX
    ends: Code | None = None
    fault: Fault | None = None
    note: str = ""
    account: str = ACCOUNT

    @property
    def key(self) -> tuple[str, str]:
        """Patient and name, which only one document of the demo has. Where there are no patients, that is empty."""
        return (self.patient_id, self.file_name)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def papers(number: int) -> list[Paper]:
    """So many: one that simply arrives, those to which something happens, one for each other provider, and more."""
    return [*_special(), *islice(_ordinary(), max(0, number - len(_special())))][:number]


def _special() -> list[Paper]:
    return [
        Paper(_ANNA, "referral.pdf", _letter("Referral", 120_000)),
        Paper(
            _ANNA,
            "scan INVALID.pdf",
            _letter("A scan that PracSuite's validation drops", 60_000),
            ends=Code.NOT_CONFIRMED,
            note="dropped by validation: in failed/",
        ),
        Paper(
            _BEN,
            "x-ray LOST.png",
            _png(600, 500, seed=2),
            fault=Fault.LOST,
            note="answer lost: found, not sent twice",
        ),
        Paper(
            _BEN,
            "bloods BUSY-2.txt",
            _text(["Made-up values", "Hb 14.1 g/dl", "CRP 3 mg/l"]),
            fault=Fault.BUSY,
            note="storage busy: tried again",
        ),
        Paper(
            _CLEO,
            "photo 600dpi.png",
            _png(1200, 1000, seed=3),
            ends=Code.FILE_TOO_LARGE,
            note="over the limit: never sent",
        ),
        Paper(
            _CLEO, "discharge.pdf", _letter("Discharge letter", 240_000), Way.CELERY, note="sent by another Celery app"
        ),
        Paper(_DINA, "ecg.png", _png(400, 300, seed=4), Way.STREAM, note="sent over the Redis stream"),
        Paper(
            _DINA,
            "form EXPIRED.pdf",
            _letter("A consent form", 30_000),
            fault=Fault.EXPIRED,
            note="form expired: asked for a new one",
        ),
        Paper(
            _NO_ONE,
            "letter.pdf",
            _letter("A letter about no one"),
            ends=Code.REFUSED_BY_PROVIDER,
            note="patient unknown to PracSuite",
        ),
        *_elsewhere(),
    ]


def _elsewhere() -> list[Paper]:
    """One document for each of the other providers, with what proves it there."""
    return [
        Paper(
            _ANNA,
            "x-ray-LOSTCOMMIT.png",
            _png(500, 400, seed=5),
            account="cliniko_clinic",
            note="Cliniko: its answer was lost, and found by our token",
        ),
        Paper("", "consent.pdf", _letter("A consent form"), account="ovok_clinic", note="Ovok: read back"),
        Paper(
            _BEN,
            "mri.pdf",
            _letter("A large report", 400_000),
            account="redox_hospital",
            note="Redox: uploaded, then accepted",
        ),
        Paper(
            _NATIONAL_ID,
            "epikrise LOST.pdf",
            _letter("Epikrise"),
            account="nhn_hospital",
            note="NHN: answer lost, same ids again",
        ),
    ]


def _ordinary() -> Iterator[Paper]:
    for number in count(1):
        patient = (_ANNA, _BEN, _CLEO, _DINA)[number % 4]
        yield Paper(patient, f"report-{number}.pdf", _letter(f"Report {number}", 20_000 * (number % 7)))


def _letter(title: str, padding_bytes: int = 0) -> bytes:
    return _pdf([title, "", "Made by the chartpost demo. Nobody's data."], padding_bytes)


# --- the files themselves: small and valid, of the kinds that a clinic scans and receives ----------------------

_PAGE = (595, 842)  # A4 in points


def _text(lines: Sequence[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


def _pdf(lines: Sequence[str], padding_bytes: int = 0) -> bytes:
    """One page of text. `padding_bytes` of noise, which no page shows, make it as large as a scan."""
    shown = "\n".join(f"({_escaped(line)}) Tj T*" for line in lines)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 {_PAGE[0]} {_PAGE[1]}] /Contents 4 0 R "
        "/Resources << /Font << /F1 5 0 R >> >> >>".encode(),
        _stream(f"BT /F1 12 Tf 16 TL 72 770 Td\n{shown}\nET".encode()),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    if padding_bytes:
        objects.append(_stream(random.Random(padding_bytes).randbytes(padding_bytes)))
    return _file(objects)


def _png(width: int, height: int, seed: int) -> bytes:
    """Grey noise, which compresses as badly as a scanned page: about `width * height` bytes."""
    chance = random.Random(seed)
    rows = b"".join(b"\0" + chance.randbytes(width) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits of grey, not interlaced
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, content) for kind, content in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _stream(content: bytes) -> bytes:
    return f"<< /Length {len(content)} >>\nstream\n".encode() + content + b"\nendstream"


def _escaped(line: str) -> str:
    return line.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")


def _file(objects: Sequence[bytes]) -> bytes:
    """The objects, numbered from 1, with the table that says where each begins."""
    body, offsets = b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n", []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    entries = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    size = len(objects) + 1
    table = b"xref\n0 %d\n0000000000 65535 f \n%s" % (size, entries)
    return body + table + b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (size, len(body))
