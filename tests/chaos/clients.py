"""The clients of a campaign, one for each door. They do what README.md tells callers.

Each client is a thread. It hands in its documents when their time has come, tries again while it is refused, and waits
for their outcomes: companion files, the result of a task, or the stream of events.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO
from uuid import NAMESPACE_OID, UUID, uuid5

import redis
from celery import Celery, states
from celery.result import AsyncResult
from kombu.exceptions import OperationalError

from tasks.model.document import Door
from tests.chaos.documents import Document, Writing, by_door
from tests.chaos.installation import ChaosInstallation
from tests.chaos.tracker import Outcome, Tracker
from tests.harness.installation import LEASE_SECONDS

# How long a call may be PENDING before it is sent again; at the default lease of 30 seconds that is over a minute.
RESEND_SECONDS = 3 * LEASE_SECONDS
_TURN_SECONDS = 0.25
_PAUSE_SECONDS = 2.0  # between two pages: several times inbox.settle_seconds
UNREACHABLE = (redis.RedisError, OperationalError, OSError)


class Client(threading.Thread):
    """Hands in documents for `seconds`. `failed` says why it cannot go on."""

    door: Door

    def __init__(self, installation: ChaosInstallation, tracker: Tracker, seconds: float) -> None:
        super().__init__(name=f"client-{self.door}", daemon=True)
        self.installation = installation
        self.tracker = tracker
        self.mine = list(by_door(list(tracker.documents.values()), self.door))
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
            except UNREACHABLE:
                continue
            except Exception as error:
                self.failed = f"{self.door}: {error!r}"
                raise

    def hand_in(self, document: Document) -> bool:
        """False: not now. Raises one of UNREACHABLE while the door cannot be reached."""
        raise NotImplementedError

    def listen(self) -> None:
        raise NotImplementedError

    @property
    def open(self) -> list[Document]:
        """Those handed in and not settled."""
        numbers = self.tracker.in_flight()
        return [document for document in self.mine if document.number in numbers]

    def _hand_in_what_is_due(self) -> None:
        share = (time.monotonic() - self._began) / self._seconds
        for document in [document for document in self.waiting if document.at <= share]:
            if self.stopped.is_set():
                return
            if self.hand_in(document):
                self.waiting.remove(document)


class SlowWriting:
    """A file that is written in the inbox itself, with pauses longer than a file has to hold still."""

    def __init__(self, document: Document, path: Path) -> None:
        """Raises FileExistsError."""
        third = len(document.content) // 3 + 1
        self._left = [document.content[at : at + third] for at in range(0, len(document.content), third)]
        self._path = path
        self._closes = document.writing is Writing.IN_PARTS
        self._file: BinaryIO | None = path.open("xb", buffering=0)
        self._next_at = 0.0

    def go_on(self) -> bool:
        """Write what is due; False when all of it is written. Raises FileNotFoundError if half of it was taken."""
        if time.monotonic() < self._next_at:
            return True
        if self._left:
            file = self._file or self._path.open("r+b", buffering=0)
            file.seek(0, os.SEEK_END)
            file.write(self._left.pop(0))
            self._file = file
        if self._file and (self._closes or not self._left):
            self._file.close()
            self._file = None
        self._next_at = time.monotonic() + _PAUSE_SECONDS
        return bool(self._left)


class Scanner(Client):
    """Writes elsewhere and moves in, but never over a file that is still there. Some it writes in the inbox, slowly."""

    door = Door.INBOX

    def __init__(self, installation: ChaosInstallation, tracker: Tracker, seconds: float) -> None:
        super().__init__(installation, tracker, seconds)
        self._being_written: list[SlowWriting] = []

    def hand_in(self, document: Document) -> bool:
        folder = self.installation.data / "inbox" / document.account / document.patient_id
        folder.mkdir(parents=True, exist_ok=True)
        if document.writing in (Writing.OPEN, Writing.IN_PARTS):
            try:
                self._being_written.append(SlowWriting(document, folder / document.file_name))
            except FileExistsError:
                return False
            self.tracker.handed_in(document)
            return True
        draft = self.installation.documents / f"{document.number}.draft"
        draft.write_bytes(document.content)
        try:
            os.link(draft, folder / document.file_name)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        self.tracker.handed_in(document)
        return True

    def listen(self) -> None:
        self._being_written = [writing for writing in self._being_written if writing.go_on()]
        for document in self.open:
            outcome = _receipt_of(self.installation.data, document) or _error_of(self.installation.data, document)
            if outcome:
                self.tracker.settled(document, outcome)


def _receipt_of(data: Path, document: Document) -> Outcome | None:
    for receipt in _companions(data / "delivered", document, ".receipt.json"):
        if receipt["sha256"] == document.sha256:
            return Outcome("delivered", receipt=receipt)
    return None


def _error_of(data: Path, document: Document) -> Outcome | None:
    for error in _companions(data / "failed", document, ".error.json"):
        return Outcome("failed", code=str(error["code"]), receipt=error)
    return None


def _companions(folder: Path, document: Document, ending: str) -> Iterator[dict[str, Any]]:
    for path in (folder / document.account / document.patient_id).glob("*" + ending):
        with suppress(FileNotFoundError):
            content: dict[str, Any] = json.loads(path.read_text())
            if content["file_name"] == document.file_name:
                yield content


class CeleryCaller(Client):
    """A Celery app without code of ours. It sends again, under the same id, what stays PENDING for long."""

    door = Door.CELERY

    def __init__(self, installation: ChaosInstallation, tracker: Tracker, seconds: float) -> None:
        super().__init__(installation, tracker, seconds)
        patience = {"socket_timeout": 5, "socket_connect_timeout": 5}
        self._sender = Celery(broker=installation.redis_url, set_as_current=False)
        self._sender.conf.update(task_publish_retry=False, broker_transport_options=patience)
        self._reader = Celery(broker=installation.redis_url, backend=installation.redis_url, set_as_current=False)
        self._reader.conf.update(
            redis_socket_timeout=5.0,
            redis_socket_connect_timeout=5.0,
            result_backend_transport_options={"retry_policy": {"max_retries": 0}},
        )
        self._heard_at: dict[int, float] = {}

    def hand_in(self, document: Document) -> bool:
        self.tracker.handed_in(document)  # a refused call may have come through all the same
        self._send(document)
        return True

    def listen(self) -> None:
        for document in self.open:
            result: AsyncResult[Any] = AsyncResult(id_of(document), app=self._reader)
            state = str(result.state)
            if state == states.SUCCESS:
                self.tracker.settled(document, Outcome("delivered", receipt=_as_dict(result.result)))
            elif state == states.FAILURE:
                self.tracker.settled(document, Outcome("failed", code=_code(result.result)))
            elif state != states.PENDING:
                self._heard_at[document.number] = time.monotonic()
            elif time.monotonic() - self._heard_at.get(document.number, 0.0) > RESEND_SECONDS:
                self._send(document)
                self.tracker.resent += 1

    def _send(self, document: Document) -> None:
        kwargs = _fields(self.installation, document)
        self._sender.send_task("chartpost.upload", kwargs=kwargs, queue="chartpost", task_id=id_of(document))
        self._heard_at[document.number] = time.monotonic()


def _as_dict(result: object) -> dict[str, Any]:
    assert isinstance(result, dict)
    return result


def _code(failure: object) -> str:
    arguments: tuple[object, ...] = getattr(failure, "args", ())
    return str(arguments[0]) if arguments else repr(failure)


class StreamWriter(Client):
    """Adds to the stream and reads the events. After a wipe it adds again what has no outcome."""

    door = Door.STREAM

    def __init__(self, installation: ChaosInstallation, tracker: Tracker, seconds: float) -> None:
        super().__init__(installation, tracker, seconds)
        self._redis = installation.client()
        self._by_id = {id_of(document): document for document in self.mine}
        self._read = "0"
        self._wipes_seen = 0
        self._again: list[Document] = []

    def hand_in(self, document: Document) -> bool:
        self.tracker.handed_in(document)  # a refused message may have come through all the same
        message = {"job_id": id_of(document), **_fields(self.installation, document)}
        self._redis.xadd("chartpost:intake", {"job": json.dumps(message)})
        return True

    def listen(self) -> None:
        if self._wipes_seen != self.tracker.wipes:
            self._wipes_seen = self.tracker.wipes
            self._again = self.open
            self._read = "0"  # the new stream may begin with earlier ids, if Redis's clock was ahead before
        while self._again:
            self.hand_in(self._again[-1])
            self._again.pop()
            self.tracker.resent += 1
        self._read_events()

    def _read_events(self) -> None:
        found: Any = self._redis.xread({"chartpost:events": self._read}, count=200)
        for _, entries in found:
            for entry, event in entries:
                self._read = entry
                document = self._by_id.get(event["job"])
                if document:
                    state = "delivered" if event["state"] == "delivered" else "failed"
                    self.tracker.settled(document, Outcome(state, code=event["code"]))


def id_of(document: Document) -> str:
    """The task id or job id that a caller gives."""
    return str(_as_random(uuid5(NAMESPACE_OID, f"{document.seed} {document.number}")))


def _as_random(made: UUID) -> UUID:
    return UUID(bytes=made.bytes, version=4)


def _fields(installation: ChaosInstallation, document: Document) -> dict[str, str]:
    """What both calls ask for. The file lies in a folder of its own, so that names may repeat."""
    path = installation.documents / str(document.number) / document.file_name
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(document.content)
    whose = {"patient_id": document.patient_id} if document.patient_id else {}
    return {"account": document.account, "source": path.as_uri(), **whose}


@contextmanager
def started_clients(installation: ChaosInstallation, tracker: Tracker, seconds: float) -> Iterator[list[Client]]:
    """All three, running until the end of the block."""
    clients: list[Client] = [client(installation, tracker, seconds) for client in (Scanner, CeleryCaller, StreamWriter)]
    for client in clients:
        client.start()
    try:
        yield clients
    finally:
        for client in clients:
            client.stopped.set()
        for client in clients:
            client.join(timeout=30)
