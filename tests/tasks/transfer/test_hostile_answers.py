"""Uploads to storage that answers without end, in two ways, or late: what was sent whole is unknown, never lost."""

from __future__ import annotations

import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from tasks.model.errors import OutcomeUnknown, RetryLater
from tasks.model.job import Form
from tests.harness.waiting import wait_until
from tests.tasks.http.test_transport import NOT_TO_BE_TRUSTED, WITHOUT_END, saying
from tests.tasks.storage_server import PATIENCE_SECONDS, Script, StorageServer, Visit
from tests.tasks.transfer.conftest import Upload


@pytest.mark.parametrize("script", WITHOUT_END.values(), ids=WITHOUT_END.keys())
def test_an_upload_that_is_answered_without_end_is_of_unknown_outcome(
    storage: StorageServer, upload: Upload, script: Script
) -> None:
    storage.script = script
    upload.client.deadline = 1.0
    with pytest.raises(OutcomeUnknown):
        upload.send(b"x")


@pytest.mark.parametrize("answer", NOT_TO_BE_TRUSTED.values(), ids=NOT_TO_BE_TRUSTED.keys())
def test_such_an_answer_to_an_upload_leaves_its_outcome_unknown(
    storage: StorageServer, upload: Upload, answer: str
) -> None:
    storage.script = saying(answer)
    with pytest.raises(OutcomeUnknown):
        upload.send(b"x")


def test_the_wait_for_an_answer_begins_when_the_last_byte_has_arrived(upload: Upload) -> None:
    """As on a slow uplink: the system has taken the whole body long before it has sent it."""
    read = threading.Event()

    def slowly(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        visit = Visit(connection)
        visit.read_head()
        time.sleep(4 * wait)
        visit.read_all()
        read.set()
        visit.store()
        visit.stay()

    wait = 0.5
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threading.Thread(target=slowly, args=(listener,), daemon=True).start()
        upload.form = Form(f"http://127.0.0.1:{listener.getsockname()[1]}/", upload.form.fields)
        upload.client.timeout = httpx.Timeout(PATIENCE_SECONDS, read=wait)
        assert upload.send(b"x" * 200_000).etag_verified
    assert read.is_set()


def test_a_request_is_not_repeated_on_a_new_connection(storage: StorageServer, upload: Upload) -> None:
    storage.script = Visit.close
    with pytest.raises((RetryLater, OutcomeUnknown)):
        upload.send(b"x")
    assert len(storage.visits) == 1


def test_no_socket_is_left_open_after_an_upload(storage: StorageServer, upload: Upload) -> None:
    upload.send(b"x")
    before = len(list(Path("/dev/fd").iterdir()))
    for _ in range(5):
        upload.send(b"x")
    # The storage's end is in this process too, and closes a moment later.
    wait_until(lambda: len(list(Path("/dev/fd").iterdir())) <= before, "all sockets are closed")


def test_what_the_gate_raises_is_raised_as_it_is(upload: Upload) -> None:
    class Unforeseen(BaseException):
        pass

    def refuse() -> None:
        raise Unforeseen

    upload.commit = refuse
    with pytest.raises(Unforeseen):
        upload.send(b"x")
