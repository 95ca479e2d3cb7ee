"""The healthy account's documents, through each door in turn, and how long each took; calls to the sick ones."""

from __future__ import annotations

import json
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle
from uuid import uuid4

import redis
from celery import Celery

from tasks.model.document import Door
from tests.hostile.installation import HEALTHY, HostileInstallation

_LOOK_SECONDS = 0.1
_ENDS = ("delivered", "failed", "cancelled")
_OPEN_AT_MOST = 3  # documents of a sick account
_HEALTHY_AT_MOST = 6  # on their way: on a slow machine more would only wait for each other


@dataclass
class Sent:
    """A document on its way. `job` is empty for those of the inbox, which are found by their receipts."""

    name: str
    door: Door
    job: str
    at: float
    seconds: float | None = None
    end: str = ""

    @property
    def waited(self) -> float:
        return self.seconds if self.seconds is not None else time.monotonic() - self.at


@dataclass
class Healthy:
    """Sends the healthy account's documents as its callers and its scanner do, and watches for their ends."""

    installation: HostileInstallation
    sent: list[Sent] = field(default_factory=list)
    patient: str = "qzkanarienvogel-healthy"

    def __post_init__(self) -> None:
        self._callers = redis.Redis.from_url(self.installation.callers_url)
        self._sender = Celery(broker=self.installation.callers_url, set_as_current=False)
        self._doors = cycle((Door.CELERY, Door.STREAM, Door.INBOX))

    def send(self, door: Door | None = None) -> Sent:
        """One document, through this door or the next one."""
        door = door or next(self._doors)
        name, job = f"good-{len(self.sent)}.pdf", str(uuid4())
        content = f"{name} of a healthy account".encode()
        if door is Door.INBOX:
            self.installation.drop(self.patient, name, content)
            job = ""
        else:
            asked = {"account": HEALTHY, "patient_id": self.patient, "source": self.installation.write(name, content)}
            if door is Door.STREAM:
                self._callers.xadd("chartpost:intake", {"job": json.dumps({"job_id": job, **asked})})
            else:
                self._sender.send_task("chartpost.upload", kwargs=asked, queue="chartpost", task_id=job)
        one = Sent(name, door, job, time.monotonic())
        self.sent.append(one)
        return one

    @property
    def open(self) -> list[Sent]:
        return [one for one in self.sent if one.seconds is None]

    def look(self) -> None:
        """Note which have come to an end."""
        for one in self.open:
            end = self._end_of(one)
            if end in _ENDS:
                one.seconds, one.end = time.monotonic() - one.at, end

    def _end_of(self, one: Sent) -> str:
        if one.job:
            return str(self.installation.admin.hget(f"chartpost:job:{one.job}", "stage") or "")
        receipt = self.installation.data / "delivered" / HEALTHY / self.patient / f"{one.name}.receipt.json"
        return "delivered" if receipt.exists() else ""


class HealthySender(threading.Thread):
    """One document every so many seconds, until it is stopped."""

    def __init__(self, healthy: Healthy, seconds: float) -> None:
        super().__init__(name="healthy-sender", daemon=True)
        self.stopped = threading.Event()
        self.failed = ""
        self._healthy = healthy
        self._seconds = seconds
        self._next_at = 0.0

    def run(self) -> None:
        while not self.stopped.wait(_LOOK_SECONDS):
            try:
                if time.monotonic() >= self._next_at and len(self._healthy.open) < _HEALTHY_AT_MOST:
                    self._next_at = time.monotonic() + self._seconds
                    self._healthy.send()
                self._healthy.look()
            except Exception as error:
                self.failed = f"the healthy account's callers cannot send: {error!r}"
                raise


class SickSender(threading.Thread):
    """Calls for the sick accounts, so that each has a few documents on its way."""

    def __init__(self, installation: HostileInstallation) -> None:
        super().__init__(name="sick-sender", daemon=True)
        self.stopped = threading.Event()
        self.sent = 0
        self._installation = installation
        self._sender = Celery(broker=installation.callers_url, set_as_current=False)

    def run(self) -> None:
        while not self.stopped.wait(0.3):
            for account in self._installation.sick:
                with suppress(redis.RedisError):
                    waiting = self._installation.admin.zcard(f"chartpost:due:{account}")
                    if isinstance(waiting, int) and waiting < _OPEN_AT_MOST:
                        self.send(account)

    def send(self, account: str) -> str:
        """One document; the job's id."""
        self.sent += 1
        job, patient = str(uuid4()), self._installation.sick[account]
        # Large enough that one in four takes Redox's other way, by an upload.
        content = b"a document of a sick account %d " % self.sent * (10_000 if self.sent % 4 == 0 else 1)
        asked = {
            "account": account,
            "source": self._installation.write(f"sick-{self.sent}.pdf", content),
            "callback_url": f"{self._installation.callbacks}/{job}",
            **({"patient_id": patient} if patient else {}),
        }
        self._sender.send_task("chartpost.upload", kwargs=asked, queue="chartpost", task_id=job)
        return job
