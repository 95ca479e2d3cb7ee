"""The documents of a campaign: who, what and when, all from one seed."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum

from tasks.model.document import Door
from tests.harness import formats

ACCOUNTS = ("north_clinic", "south_clinic", "cliniko_clinic", "ovok_clinic", "redox_hospital", "nhn_hospital")
WITHOUT_PATIENTS = ("ovok_clinic",)  # their documents have the patient id ""
LARGEST_BYTES = 2_000_000
SLOWEST_SECONDS = 3  # the longest validation that a document's name asks for

_SUBJECTS = ("referral", "Überweisung", "lab report", "scan.pdf", "it's quoted", "naïve ☕", "discharge letter")
_S3_CODES = ("RequestTimeout", "InternalError", "SlowDown", "ServiceUnavailable", "ExpiredToken", "OperationAborted")
_WORDS_OF = {
    "cliniko_clinic": ("LOSTCOMMIT", "LOSTCOMMIT", "DOWNCOMMIT"),
    "ovok_clinic": ("LOSTCREATE", "LOSTCREATE"),
    "redox_hospital": ("TIMEOUT504", "LOSTCREATE"),
    "nhn_hospital": ("TIMEOUT504", "LOSTCREATE"),
}
_PLAIN_SHARE = 0.55
_TWIN_EVERY = 25
_ONE_BYTE_EVERY = 40
_REFUSED_EVERY = 60
_ODD_CHART_EVERY = 12
# Patients with many records, and with lists that move or announce more than they have (sandbox/README.md).
_ODD_CHARTS = ("many-1600-a", "many-1600-a", "moving-250-a", "announces-one-more-120-a", "overlapping-250-a")
_WITH_ODD_CHARTS = ("north_clinic", "north_clinic", "cliniko_clinic")


_OPEN_EVERY, _IN_PARTS_EVERY, _CUT_EVERY = 5, 6, 20  # of those numbers that leave one
_LEAST_BYTES_WRITTEN_SLOWLY = 100


class Writing(StrEnum):
    """How a document comes to be where it is handed in."""

    AT_ONCE = "moved in whole"
    OPEN = "kept open while pages are added"  # in the inbox; its content has no end that could be recognised
    IN_PARTS = "closed after each part"  # in the inbox; a PDF, which says that its end is missing
    CUT = "cut in the middle"  # a PDF of which the rest never comes


@dataclass(frozen=True, slots=True)
class Document:
    """`at` is when it is handed in, as a share of the campaign. `fails_with`: the code that it must fail with."""

    number: int
    door: Door
    account: str
    patient_id: str
    file_name: str
    size_bytes: int
    seed: int
    at: float
    fails_with: str = ""
    writing: Writing = Writing.AT_ONCE

    @property
    def content(self) -> bytes:
        """The same bytes every time; never those of another document of the patient."""
        if self.writing in (Writing.IN_PARTS, Writing.CUT):
            whole = formats.pdf(f"{self.seed} {self.number}", filler_bytes=self.size_bytes)
            return whole[: len(whole) // 2] if self.writing is Writing.CUT else whole
        if self.size_bytes == 1:
            return bytes([self.number % 256])
        return random.Random(f"{self.seed} {self.number}").randbytes(self.size_bytes)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()


def planned(count: int, seed: int) -> list[Document]:
    """So many documents in the order of their times."""
    rng = random.Random(f"documents {seed}")
    times = sorted(rng.random() for _ in range(count))
    documents: list[Document] = []
    for number, at in enumerate(times):
        earlier = _earlier_of_the_inbox(documents, rng) if number % _TWIN_EVERY == _TWIN_EVERY - 1 else None
        documents.append(_twin(earlier, number, at, rng) if earlier else _new(number, count, at, seed, rng))
    return documents


def _new(number: int, count: int, at: float, seed: int, rng: random.Random) -> Document:
    patient, code = _patient(number, count, rng)
    usual = [account for account in ACCOUNTS if account not in WITHOUT_PATIENTS or not code]
    account = rng.choice(_WITH_ODD_CHARTS if patient in _ODD_CHARTS else usual)
    door = rng.choice((Door.INBOX, Door.INBOX, Door.CELERY, Door.STREAM))
    writing = _writing(number, door) if not code else Writing.AT_ONCE
    document = Document(
        number=number,
        door=door,
        account=account,
        patient_id="" if account in WITHOUT_PATIENTS else patient,
        file_name=_name(number, account, rng),
        size_bytes=1 if number % _ONE_BYTE_EVERY == 0 else int(math.exp(rng.uniform(0.7, math.log(LARGEST_BYTES)))),
        seed=seed,
        at=at,
        fails_with="file_incomplete" if writing is Writing.CUT else code,
        writing=writing,
    )
    if writing is Writing.AT_ONCE:
        return document
    return replace(document, size_bytes=max(document.size_bytes, _LEAST_BYTES_WRITTEN_SLOWLY))


def _writing(number: int, door: Door) -> Writing:
    if number % _CUT_EVERY == 1:
        return Writing.CUT
    if door is Door.INBOX and number % _OPEN_EVERY == 1:
        return Writing.OPEN
    return Writing.IN_PARTS if door is Door.INBOX and number % _IN_PARTS_EVERY == 1 else Writing.AT_ONCE


def _patient(number: int, count: int, rng: random.Random) -> tuple[str, str]:
    """Some have several documents; a few make the provider refuse, throttle or stumble."""
    if number % _REFUSED_EVERY == _REFUSED_EVERY // 2:
        return f"404-{number}", "refused_by_provider"
    trouble = rng.choices(("p", "429-", "500-"), (30, 1, 1))[0]
    if number % _ODD_CHART_EVERY == _ODD_CHART_EVERY // 2:
        return rng.choice(_ODD_CHARTS), ""
    return f"{trouble}{rng.randrange(max(2, count // 3))}", ""


def _name(number: int, account: str, rng: random.Random) -> str:
    name = f"{_word(account, rng)} {rng.choice(_SUBJECTS)} {number}.pdf".strip()
    # Cliniko takes a document's name from the upload, in these letters alone; others would come back as another name.
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).lstrip("-") if account == "cliniko_clinic" else name


def _word(account: str, rng: random.Random) -> str:
    if rng.random() < _PLAIN_SHARE:
        return ""
    words = ("LOST", "CUT", "FILTERED", "EXPIRED", "STALL-1", f"BUSY-{rng.randint(1, 3)}", *_WORDS_OF.get(account, ()))
    return rng.choice((*words, f"SLOW-{rng.randint(1, SLOWEST_SECONDS)}", f"S3-{rng.choice(_S3_CODES)}"))


def _earlier_of_the_inbox(documents: list[Document], rng: random.Random) -> Document | None:
    """One of the last few, so that the two may be on their way together."""
    recent = [document for document in documents[-8:] if document.door is Door.INBOX and not document.fails_with]
    return rng.choice(recent) if recent else None


def _twin(earlier: Document, number: int, at: float, rng: random.Random) -> Document:
    """The same name for the same patient, with other bytes, of which there may be as many."""
    size = earlier.size_bytes if earlier.size_bytes > 1 and rng.random() < 0.5 else 2 + rng.randrange(50_000)
    return replace(earlier, number=number, at=at, size_bytes=size, writing=Writing.AT_ONCE)


def by_door(documents: list[Document], door: Door) -> Iterator[Document]:
    return (document for document in documents if document.door is door)
