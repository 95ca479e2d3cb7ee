"""Which documents the demo sends, what is to happen to each on its way, and how each is to end."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from itertools import count, islice

from tasks.errors import Code
from worker.demo import drawings

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
            drawings.png(600, 500, seed=2),
            fault=Fault.LOST,
            note="answer lost: found, not sent twice",
        ),
        Paper(
            _BEN,
            "bloods BUSY-2.txt",
            drawings.text(["Made-up values", "Hb 14.1 g/dl", "CRP 3 mg/l"]),
            fault=Fault.BUSY,
            note="storage busy: tried again",
        ),
        Paper(
            _CLEO,
            "photo 600dpi.png",
            drawings.png(1200, 1000, seed=3),
            ends=Code.FILE_TOO_LARGE,
            note="over the limit: never sent",
        ),
        Paper(
            _CLEO, "discharge.pdf", _letter("Discharge letter", 240_000), Way.CELERY, note="sent by another Celery app"
        ),
        Paper(_DINA, "ecg.png", drawings.png(400, 300, seed=4), Way.STREAM, note="sent over the Redis stream"),
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
            drawings.png(500, 400, seed=5),
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
    return drawings.pdf([title, "", "Made by the chartpost demo. Nobody's data."], padding_bytes)
