"""Which documents the demo sends, what happens to each on its way, and how each must end."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import chain, count, islice

from tasks.model.document import Door
from tasks.model.errors import Code

ACCOUNT = "north_clinic"
MAX_BYTES = 1_000_000  # the demo's limit for this account, so that one document can be too large for it

# The sandbox knows no patient whose id begins with 404, and acts on the words in capitals in a file's name:
# sandbox/README.md lists them.
_ANNA, _BEN, _CLEO, _DINA, _UNKNOWN = "demo-anna-1001", "demo-ben-1002", "demo-cleo-1003", "demo-dina-1004", "404-demo"
_NATIONAL_ID = "17855599120"


class Fault(StrEnum):
    """What the sandbox does to a document that must be delivered all the same."""

    BUSY = "storage answered 503 SlowDown"
    LOST = "the upload's answer was lost"
    EXPIRED = "the form had expired"


@dataclass(frozen=True)
class DemoDocument:
    """One document. It must fail with `fails_with`, or be delivered if that is None."""

    patient_id: str  # empty at Ovok, whose documents have no patient
    file_name: str
    noise_bytes: int = 0  # makes it as large as a scan
    note: str = ""  # what is special about it, once it has ended as it must
    account: str = ACCOUNT
    door: Door = Door.INBOX
    fails_with: Code | None = None
    fault: Fault | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Patient and name, which no two documents of the demo share."""
        return (self.patient_id, self.file_name)

    @cached_property
    def content(self) -> bytes:
        return _pdf(self.file_name, self.noise_bytes)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def documents(number: int) -> list[DemoDocument]:
    """The first `number` of: those with a story, one for each other provider, and as many ordinary ones as needed."""
    return list(islice(chain(_pracsuite(), _other_providers(), _ordinary()), number))


def _pracsuite() -> Iterator[DemoDocument]:
    dropped, too_large, refused = Code.NOT_CONFIRMED, Code.FILE_TOO_LARGE, Code.REFUSED_BY_PROVIDER
    lost, busy, expired = Fault.LOST, Fault.BUSY, Fault.EXPIRED
    celery, stream = Door.CELERY, Door.STREAM
    d = DemoDocument
    yield d(_ANNA, "referral.pdf", 120_000)
    yield d(_ANNA, "scan INVALID.pdf", 60_000, "dropped by validation: in failed/", fails_with=dropped)
    yield d(_BEN, "x-ray LOST.pdf", 300_000, "answer lost: found, not sent twice", fault=lost)
    yield d(_BEN, "bloods BUSY-2.pdf", 0, "storage busy: tried again", fault=busy)
    yield d(_CLEO, "photo 600dpi.pdf", 1_200_000, "over the limit: never sent", fails_with=too_large)
    yield d(_CLEO, "discharge.pdf", 240_000, "sent by another Celery app", door=celery)
    yield d(_DINA, "ecg.pdf", 120_000, "sent over the Redis stream", door=stream)
    yield d(_DINA, "form EXPIRED.pdf", 30_000, "form expired: asked for a new one", fault=expired)
    yield d(_UNKNOWN, "letter.pdf", 0, "patient unknown to PracSuite", fails_with=refused)


def _other_providers() -> Iterator[DemoDocument]:
    """One document for each, with what proves that it arrived."""
    lost = "Cliniko: its answer was lost, and found by our token"
    yield DemoDocument(_ANNA, "x-ray-LOSTCOMMIT.pdf", 200_000, lost, "cliniko_clinic")
    yield DemoDocument("", "consent.pdf", 0, "Ovok: read back", "ovok_clinic")
    yield DemoDocument(_BEN, "mri.pdf", 400_000, "Redox: uploaded, then accepted", "redox_hospital")
    yield DemoDocument(_NATIONAL_ID, "epikrise LOST.pdf", 0, "NHN: answer lost, same ids again", "nhn_hospital")
    yield DemoDocument(
        _CLEO, "ultrasound LOST.pdf", 900_000, "FHIR: answer lost, found by our identifier", "fhir_clinic"
    )


def _ordinary() -> Iterator[DemoDocument]:
    for number in count(1):
        yield DemoDocument((_ANNA, _BEN, _CLEO, _DINA)[number % 4], f"report-{number}.pdf", 20_000 * (number % 7))


def _pdf(title: str, noise_bytes: int) -> bytes:
    """A valid PDF of one page that says `title`; no page shows the noise."""
    page = f"BT /F1 12 Tf 72 770 Td ({title}. Made by the chartpost demo: nobody's data.) Tj ET".encode()
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 /MediaBox [0 0 595 842] >>",
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (noise_bytes, random.Random(title).randbytes(noise_bytes)),
    ]
    body, table = b"%PDF-1.4\n", b"xref\n0 7\n0000000000 65535 f \n"
    for number, content in enumerate(objects, start=1):
        table += b"%010d 00000 n \n" % len(body)  # where each object begins
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    return body + table + b"trailer\n<< /Size 7 /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % len(body)
