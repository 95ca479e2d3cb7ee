"""The three doors of a campaign, used as the contract tells callers to use them, with no code of ours.

Each door is a thread that hands in its documents when their time has come, tries again while it is refused, and finds
out what became of them: by the companion files, by the task's result, by the stream of events.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import redis
from celery import Celery, states
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from tests.chaos.documents import Document, Door, by_door
from tests.chaos.place import LEASE_SECONDS, Place

RESEND_SECONDS = 3 * LEASE_SECONDS
"""How long a call may be PENDING before it is sent again: a minute at the default lease of 30 seconds, and more."""

_TURN_SECONDS = 0.25
AWAY = (redis.RedisError, OperationalError, OSError)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a door was told: `delivered`, or the code of a failure, with the receipt if it shows one."""

    state: str
    code: str = ""
    receipt: dict[str, Any] = field(default_factory=dict)


class Progress:
    """What was handed in and what its door has heard since; shared by all threads.

    `seconds` is what each settled document took; `outside` those for which a wipe has ended the promise.
    """

    def __init__(self, documents: Iterable[Document]) -> None:
        self.documents = {document.number: document for document in documents}
        self.outcomes: dict[int, Outcome] = {}
        self.outside: set[int] = set()
        self.resent = 0
        self.wipes = 0
        self.seconds: dict[int, float] = {}
        self._handed_in: dict[int, float] = {}
        self._lock = threading.Lock()

    def handed_in(self, document: Document) -> None:
        with self._lock:
            self._handed_in.setdefault(document.number, time.monotonic())

    def settled(self, document: Document, outcome: Outcome) -> None:
        with self._lock:
            self.seconds.setdefault(document.number, time.monotonic() - self._handed_in[document.number])
            self.outcomes.setdefault(document.number, outcome)

    def in_flight(self) -> set[int]:
        with self._lock:
            return self._handed_in.keys() - self.outcomes.keys()

    def wiped(self) -> None:
        """Calls and messages that were open are outside the promise from now on; their callers send them again."""
        open_ones = self.in_flight()
        with self._lock:
            self.wipes += 1
            self.outside |= {number for number in open_ones if self.documents[number].door is not Door.INBOX}

    @property
    def finished(self) -> bool:
        return len(self.outcomes) == len(self.documents)


class Caller(threading.Thread):
    """One door. `begin` is when the campaign began, `seconds` how long documents are handed in."""

    door: Door

    def __init__(self, place: Place, progress: Progress, seconds: float) -> None:
        super().__init__(name=f"door-{self.door}", daemon=True)
        self.place = place
        self.progress = progress
        self.mine = list(by_door(list(progress.documents.values()), self.door))
        self.waiting = list(self.mine)
        self.stopped = threading.Event()
        self.failed = ""
        self._seconds = seconds
        self._began = time.monotonic()

    def run(self) -> None:
        while not self.stopped.wait(_TURN_SECONDS):
            try:
                self._hand_in_what_is_due()
                self.listen()
            except AWAY:
                continue
            except Exception as error:
                self.failed = f"{self.door}: {error!r}"
                raise

    def hand_in(self, document: Document) -> bool:
        """False: not now. Raises what says that the door is shut."""
        raise NotImplementedError

    def listen(self) -> None:
        raise NotImplementedError

    @property
    def open(self) -> list[Document]:
        """Those handed in and not settled."""
        numbers = self.progress.in_flight()
        return [document for document in self.mine if document.number in numbers]

    def _hand_in_what_is_due(self) -> None:
        share = (time.monotonic() - self._began) / self._seconds
        for document in [document for document in self.waiting if document.at <= share]:
            if self.stopped.is_set():
                return
            if self.hand_in(document):
                self.waiting.remove(document)


class Scanner(Caller):
    """Writes elsewhere, moves in, never over a file that is still there."""

    door = Door.INBOX

    def hand_in(self, document: Document) -> bool:
        folder = self.place.data / "inbox" / document.account / document.patient_id
        folder.mkdir(parents=True, exist_ok=True)
        draft = self.place.documents / f"{document.number}.draft"
        draft.write_bytes(document.content)
        try:
            os.link(draft, folder / document.file_name)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        self.progress.handed_in(document)
        return True

    def listen(self) -> None:
        waiting = self.open
        for document in waiting:
            outcome = _receipt_of(self.place.data, document) or _error_of(self.place.data, document)
            if outcome:
                self.progress.settled(document, outcome)


def _receipt_of(data: Path, document: Document) -> Outcome | None:
    for receipt in _companions(data / "delivered", document, ".receipt.json"):
        if receipt["sha256"] == document.sha256:
            return Outcome("delivered", receipt=receipt)
    return None


def _error_of(data: Path, document: Document) -> Outcome | None:
    """Of a name that comes twice the bytes beside it tell whose it is."""
    for error in _companions(data / "failed", document, ".error.json"):
        return Outcome("failed", code=str(error["code"]), receipt=error)
    return None


def _companions(folder: Path, document: Document, ending: str) -> Iterator[dict[str, Any]]:
    for path in (folder / document.account / document.patient_id).glob("*" + ending):
        with suppress(FileNotFoundError):
            content: dict[str, Any] = json.loads(path.read_text())
            if content["file_name"] == document.file_name:
                yield content


class Application(Caller):
    """A foreign Celery app: sends, asks for the state, sends again under the same id what stays PENDING for long."""

    door = Door.CELERY

    def __init__(self, place: Place, progress: Progress, seconds: float) -> None:
        super().__init__(place, progress, seconds)
        patience = {"socket_timeout": 5, "socket_connect_timeout": 5}
        self._sender = Celery(broker=place.url, set_as_current=False)
        self._sender.conf.update(task_publish_retry=False, broker_transport_options=patience)
        self._reader = Celery(broker=place.url, backend=place.url, set_as_current=False)
        self._reader.conf.update(
            redis_socket_timeout=5.0,
            redis_socket_connect_timeout=5.0,
            result_backend_transport_options={"retry_policy": {"max_retries": 0}},
        )
        self._heard_at: dict[int, float] = {}

    def hand_in(self, document: Document) -> bool:
        self.progress.handed_in(document)  # a refused call may have come through all the same
        self._send(document)
        return True

    def listen(self) -> None:
        for document in self.open:
            result: AsyncResult[Any] = AsyncResult(id_of(document), app=self._reader)
            state = str(result.state)
            if state == states.SUCCESS:
                self.progress.settled(document, Outcome("delivered", receipt=_as_dict(result.result)))
            elif state == states.FAILURE:
                self.progress.settled(document, Outcome("failed", code=_code(result.result)))
            elif state != states.PENDING:
                self._heard_at[document.number] = time.monotonic()
            elif time.monotonic() - self._heard_at.get(document.number, 0.0) > RESEND_SECONDS:
                self._send(document)
                self.progress.resent += 1

    def _send(self, document: Document) -> None:
        kwargs = _fields(self.place, document)
        self._sender.send_task("chartpost.upload", kwargs=kwargs, queue="chartpost", task_id=id_of(document))
        self._heard_at[document.number] = time.monotonic()


def _as_dict(result: object) -> dict[str, Any]:
    assert isinstance(result, dict)
    return result


def _code(failure: object) -> str:
    arguments: tuple[object, ...] = getattr(failure, "args", ())
    return str(arguments[0]) if arguments else repr(failure)


class Writer(Caller):
    """Adds to the stream and reads the events; after a wipe it adds again what has no outcome."""

    door = Door.STREAM

    def __init__(self, place: Place, progress: Progress, seconds: float) -> None:
        super().__init__(place, progress, seconds)
        self._redis = place.redis()
        self._by_id = {id_of(document): document for document in self.mine}
        self._read = "0"
        self._wipes_seen = 0
        self._again: list[Document] = []

    def hand_in(self, document: Document) -> bool:
        self.progress.handed_in(document)  # a refused message may have come through all the same
        message = {"job_id": id_of(document), **_fields(self.place, document)}
        self._redis.xadd("chartpost:intake", {"job": json.dumps(message)})
        return True

    def listen(self) -> None:
        if self._wipes_seen != self.progress.wipes:
            self._wipes_seen = self.progress.wipes
            self._again = self.open
        while self._again:
            self.hand_in(self._again[-1])
            self._again.pop()
            self.progress.resent += 1
        self._read_events()

    def _read_events(self) -> None:
        found: Any = self._redis.xread({"chartpost:events": self._read}, count=200)
        for _, entries in found:
            for entry, event in entries:
                self._read = entry
                document = self._by_id.get(event["job"])
                if document:
                    state = "delivered" if event["state"] == "delivered" else "failed"
                    self.progress.settled(document, Outcome(state, code=event["code"]))


def id_of(document: Document) -> str:
    """The task id or job id that a caller gives."""
    return str(_as_random(uuid5(NAMESPACE_OID, f"{document.seed} {document.number}")))


def _as_random(made: UUID) -> UUID:
    return UUID(bytes=made.bytes, version=4)


def _fields(place: Place, document: Document) -> dict[str, str]:
    """What both calls ask for. The file lies in a folder of its own, so that names may repeat."""
    path = place.documents / str(document.number) / document.file_name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(document.content)
    whose = {"patient_id": document.patient_id} if document.patient_id else {}
    return {"account": document.account, "source": path.as_uri(), **whose}


@contextmanager
def open_doors(place: Place, progress: Progress, seconds: float) -> Iterator[list[Caller]]:
    """All three, at work until the end of the block."""
    callers: list[Caller] = [door(place, progress, seconds) for door in (Scanner, Application, Writer)]
    for caller in callers:
        caller.start()
    try:
        yield callers
    finally:
        for caller in callers:
            caller.stopped.set()
        for caller in callers:
            caller.join(timeout=30)
