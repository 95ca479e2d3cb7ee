"""What a provider is given in tests: a memory, a limiter, jobs."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from tasks.errors import RetryLater
from tasks.job import Document, Facts, Job, Stage, Step

THEN = datetime(2026, 11, 21, 10, tzinfo=UTC)
_numbers = itertools.count(1)


class DictMemory:
    """Remembers until told to forget."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], str] = {}
        self.seconds: list[float] = []

    def recall(self, topic: str, key: str) -> str | None:
        return self.values.get((topic, key))

    def remember(self, topic: str, key: str, value: str, seconds: float) -> None:
        self.values[topic, key] = value
        self.seconds.append(seconds)


class Slots:
    """A limiter with so many slots, and a count of the calls made."""

    def __init__(self) -> None:
        self.free = 1_000_000
        self.calls = 0

    def take(self) -> None:
        if not self.free:
            raise RetryLater("No slot is free.", after_seconds=1)
        self.free -= 1

    def count(self) -> None:
        self.calls += 1


def job(
    *,
    patient_id: str | None = "4711",
    file_name: str = "referral.pdf",
    size_bytes: int = 10,
    account: str = "north_clinic",
    **facts: Any,
) -> Job:
    """A job as the ledger gives it; later ones are younger."""
    number = next(_numbers)
    document = Document(account, patient_id, "file:///a", file_name, size_bytes)
    return Job(
        id=f"job-{number}",
        provider="pracsuite",
        stage=Stage.RECEIVED,
        step=Step.PRESIGN,
        document=document,
        facts=Facts(**facts),
        created_at=THEN + timedelta(seconds=number),
        updated_at=THEN,
    )


NO_CLAIMS: Mapping[str, str] = {}
