"""Before the commit nothing can be stored; after it, whatever was not seen is unknown."""

from __future__ import annotations

import itertools
import threading
import time
import traceback
from collections.abc import Callable

import httpx
import pytest

from tasks.http.clients import Clients
from tasks.model.errors import (
    AccountBlocked,
    Code,
    DocumentRefused,
    LeaseLost,
    OutcomeUnknown,
    PresignAgain,
    RetryLater,
    StepError,
)
from tasks.model.job import Form
from tasks.sources.stream import BLOCK_BYTES
from tests.tasks.storage_server import PATIENCE_SECONDS, Script, StorageServer, Visit, closed_port
from tests.tasks.transfer.conftest import KEY, Bytes, Upload

TOO_LARGE = "<Error><Code>EntityTooLarge</Code><Message>secret-folder is too large</Message></Error>"
SIZES = [1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5]


def wait_for(what: Callable[[], bool]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not what():
        assert time.monotonic() < until
        time.sleep(0.002)


# --- the last block --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_the_last_bytes_of_the_file_leave_only_after_the_commit(
    storage: StorageServer, upload: Upload, size: int
) -> None:
    last_block = (size - 1) % BLOCK_BYTES + 1
    came = []

    def commit() -> None:
        wait_for(lambda: bool(storage.visits) and len(storage.visits[0].body) >= allowed(storage.visits[0]) > 0)
        time.sleep(0.05)  # whatever else has left will have come
        came.append(len(storage.visits[0].body))

    def allowed(visit: Visit) -> int:
        """How many bytes of the body may come before the commit; 0 while its head has not come."""
        boundary = visit.headers.get("content-type", "").partition("boundary=")[2]
        length = int(visit.headers.get("content-length", 0)) if b"\r\n\r\n" in visit.got else 0
        return max(0, length - last_block - len(f"\r\n--{boundary}--\r\n"))

    upload.commit = commit
    upload.send(b"x" * size)
    assert storage.visit.body.endswith(b"--\r\n")
    assert came == [allowed(storage.visit)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("error", [LeaseLost("lost"), RetryLater("stop"), ValueError("unforeseen")])
def test_a_commit_that_fails_cuts_the_connection(
    storage: StorageServer, upload: Upload, size: int, error: Exception
) -> None:
    def commit() -> None:
        raise error

    upload.commit = commit
    with pytest.raises(type(error)) as raised:
        upload.send(b"x" * size)
    assert raised.value is error
    assert not storage.visit.whole


@pytest.mark.parametrize("checks", [1, 2, 3])
def test_a_check_that_fails_cuts_the_connection_before_the_commit(
    storage: StorageServer, upload: Upload, checks: int
) -> None:
    left = iter(range(checks - 1))

    def check() -> None:
        if next(left, None) is None:
            raise LeaseLost("lost")

    upload.check = check
    with pytest.raises(LeaseLost):
        upload.send(b"x" * 2 * BLOCK_BYTES)
    assert upload.commits == 0
    assert not storage.visit.whole


def test_a_check_comes_with_each_block(upload: Upload) -> None:
    checks = []
    upload.check = lambda: checks.append(1)
    upload.send(b"x" * 3 * BLOCK_BYTES)
    assert len(checks) == 4  # the last reading finds the end


@pytest.mark.parametrize(
    "source",
    [
        Bytes(b"x" * 10, size=11),
        Bytes(b"x" * 12, size=11),
        Bytes(b"x" * BLOCK_BYTES, size=BLOCK_BYTES - 1),
        Bytes(b"x" * 2 * BLOCK_BYTES, size=BLOCK_BYTES),
        Bytes(b"", size=1),
        Bytes(b"x" * 10, unchanged=False),
    ],
)
def test_a_file_that_changes_is_not_committed(storage: StorageServer, upload: Upload, source: Bytes) -> None:
    with pytest.raises(DocumentRefused) as refused:
        upload.send(source)
    assert refused.value.code is Code.FILE_CHANGED
    assert upload.commits == 0
    assert not storage.visit.whole


# --- no answer -------------------------------------------------------------------------------------------------------


def cut_after(count: int, how: str) -> Script:
    def script(visit: Visit) -> None:
        visit.read_to(count)
        visit.reset() if how == "reset" else visit.close()

    return script


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("place", ["at once", "in the head", "in the fields", "in the file"])
def test_a_connection_cut_before_the_commit_is_tried_again(
    storage: StorageServer, upload: Upload, place: str, how: str
) -> None:
    places = {"at once": 0, "in the head": 20, "in the fields": 400, "in the file": 2000}
    storage.script = cut_after(places[place], how)
    with pytest.raises(RetryLater) as later:
        upload.send(b"x" * 64 * BLOCK_BYTES)  # more than the sockets on the way may hold
    assert later.value.unreachable
    assert upload.commits == 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("missing", [0, 1, 10])
def test_a_connection_cut_after_the_commit_leaves_the_outcome_unknown(
    storage: StorageServer, upload: Upload, size: int, how: str, missing: int
) -> None:
    def script(visit: Visit) -> None:
        visit.read_head()
        cut_after(visit.announced - missing, how)(visit)

    storage.script = script
    with pytest.raises(OutcomeUnknown):
        upload.send(b"x" * size)
    assert upload.commits == 1


def test_an_answer_that_does_not_come_in_time_leaves_the_outcome_unknown(
    storage: StorageServer, upload: Upload
) -> None:
    def silent(visit: Visit) -> None:
        visit.read_all()
        visit.read_to(visit.announced + 1)

    storage.script = silent
    upload.client.timeout = httpx.Timeout(PATIENCE_SECONDS, read=0.2)
    with pytest.raises(OutcomeUnknown):
        upload.send(b"x")


def test_storage_that_reads_no_more_is_given_up_before_the_commit(storage: StorageServer, upload: Upload) -> None:
    storage.script = Visit.stay
    upload.client.timeout = httpx.Timeout(PATIENCE_SECONDS, write=0.2)
    with pytest.raises(RetryLater) as later:
        upload.send(b"x" * 64 * BLOCK_BYTES)
    assert later.value.unreachable
    assert upload.commits == 0
    assert not storage.visits[0].ended.is_set()  # it was we who gave up


def test_storage_that_is_not_there_is_tried_again(upload: Upload) -> None:
    with closed_port() as port:
        upload.form = Form(f"http://127.0.0.1:{port}/", upload.form.fields)
        with pytest.raises(RetryLater) as later:
            upload.send(b"x")
    assert later.value.unreachable
    assert upload.commits == 0


def test_a_certificate_that_is_not_trusted_blocks_the_account(secure_upload: Upload) -> None:
    strangers = Clients()
    secure_upload.client = strangers.fresh()
    with pytest.raises(AccountBlocked, match="ca_bundle"):
        secure_upload.send(b"x")
    strangers.close()
    assert secure_upload.commits == 0


# --- an answer that comes early --------------------------------------------------------------------------------------


def refuse_early(visit: Visit) -> None:
    visit.read_head()
    visit.read_to(3000)
    visit.answer("400 Bad Request", TOO_LARGE, Connection="close")


def refuse_early_and_stay(visit: Visit) -> None:
    refuse_early(visit)
    visit.stay()


@pytest.mark.parametrize("script", [refuse_early, refuse_early_and_stay])
@pytest.mark.parametrize("times", range(5))
def test_an_early_refusal_is_read_and_ends_the_upload(
    storage: StorageServer, upload: Upload, script: Script, times: int
) -> None:
    storage.script = script
    with pytest.raises((DocumentRefused, RetryLater)) as refused:
        upload.send(b"x" * 64 * BLOCK_BYTES)
    if script is refuse_early_and_stay:  # closing with unread bytes resets, and may take the answer along
        assert isinstance(refused.value, DocumentRefused)
        assert refused.value.code is Code.FILE_TOO_LARGE
        assert not storage.visits[0].ended.is_set()  # it was heard at once, not when the server gave up
    assert upload.commits == 0


def test_an_early_refusal_is_read_over_tls(secure_storage: StorageServer, secure_upload: Upload) -> None:
    secure_storage.script = refuse_early_and_stay
    with pytest.raises(DocumentRefused, match="file_too_large"):
        secure_upload.send(b"x" * 64 * BLOCK_BYTES)
    assert not secure_storage.visits[0].ended.is_set()
    assert secure_upload.commits == 0


@pytest.mark.parametrize("secure", [False, True])
def test_a_refusal_heard_just_before_the_commit_prevents_it(request: pytest.FixtureRequest, secure: bool) -> None:
    upload: Upload = request.getfixturevalue("secure_upload" if secure else "upload")
    storage: StorageServer = request.getfixturevalue("secure_storage" if secure else "storage")
    at_the_end, answered = threading.Event(), threading.Event()

    def refuse_before_the_end(visit: Visit) -> None:
        visit.read_head()
        at_the_end.wait(PATIENCE_SECONDS)
        visit.answer("400 Bad Request", TOO_LARGE)
        visit.wait_until_arrived()
        answered.set()
        visit.stay()

    checks = itertools.count(1)

    def check() -> None:
        if next(checks) == 3:  # the last: it finds the end of the file
            at_the_end.set()
            answered.wait(PATIENCE_SECONDS)

    storage.script, upload.check = refuse_before_the_end, check
    with pytest.raises(DocumentRefused, match="file_too_large"):
        upload.send(b"x" * (BLOCK_BYTES + 1))
    assert upload.commits == 0


@pytest.mark.parametrize("secure", [False, True])
def test_a_refusal_heard_during_the_commit_keeps_the_last_block_back(
    request: pytest.FixtureRequest, secure: bool
) -> None:
    upload: Upload = request.getfixturevalue("secure_upload" if secure else "upload")
    storage: StorageServer = request.getfixturevalue("secure_storage" if secure else "storage")
    committing, answered = threading.Event(), threading.Event()

    def refuse_before_the_file(visit: Visit) -> None:
        visit.read_head()
        committing.wait(PATIENCE_SECONDS)
        visit.answer("503 Slow Down")
        visit.wait_until_arrived()
        answered.set()
        visit.read_to(visit.announced)

    def commit() -> None:
        committing.set()
        answered.wait(PATIENCE_SECONDS)

    storage.script, upload.commit = refuse_before_the_file, commit
    with pytest.raises(RetryLater) as later:  # not OutcomeUnknown: what was not sent whole cannot have been stored
        upload.send(b"x")
    assert later.value.unreachable
    assert not storage.visit.whole


def test_storage_that_refuses_and_then_reads_no_more_is_still_understood(
    storage: StorageServer, upload: Upload
) -> None:
    def script(visit: Visit) -> None:
        visit.read_head()
        time.sleep(0.1)  # until the sockets' buffers are full and the client waits in its write
        visit.answer("400 Bad Request", TOO_LARGE)
        visit.stay()

    storage.script = script
    upload.client.timeout = httpx.Timeout(PATIENCE_SECONDS)
    with pytest.raises(DocumentRefused, match="file_too_large"):
        upload.send(b"x" * 256 * BLOCK_BYTES)
    assert upload.commits == 0


def test_a_success_before_the_file_was_sent_is_not_believed(storage: StorageServer, upload: Upload) -> None:
    def script(visit: Visit) -> None:
        visit.read_head()
        visit.answer("204 No Content", x_amz_request_id="1")
        visit.stay()

    storage.script = script
    with pytest.raises(RetryLater):
        upload.send(b"x" * 64 * BLOCK_BYTES)
    assert upload.commits == 0


# --- secrecy ---------------------------------------------------------------------------------------------------------


def answering(status: str, body: str = "", **headers: str) -> Script:
    def script(visit: Visit) -> None:
        visit.read_all()
        visit.answer(status, body, **headers)

    return script


@pytest.mark.parametrize(
    "script",
    [
        answering("400 Bad Request", TOO_LARGE),
        answering("403 Forbidden", f"<Error><Code>AccessDenied</Code><Message>{KEY}</Message></Error>"),
        answering("400 Bad Request", f"<Error><Code>{KEY}</Code><Message>{KEY}</Message></Error>"),
        answering("307 Temporary Redirect", Location=f"http://elsewhere.example/{KEY}"),
        answering("500 Oh", KEY),
        answering("404 Gone", KEY),
        cut_after(500, "reset"),
        cut_after(0, "close"),
    ],
)
def test_no_error_names_file_key_or_address(storage: StorageServer, upload: Upload, script: Script) -> None:
    storage.script = script
    upload.file_name = "Müller, Anna.pdf"
    with pytest.raises(StepError) as raised:
        upload.send(b"x" * 10)
    told = "".join(traceback.format_exception(raised.value, limit=0, chain=True))
    for private in (KEY, "secret-folder", "Müller", "127.0.0.1", "abc", "token with"):
        assert private not in told


def test_a_form_that_storage_no_longer_takes_is_asked_for_again(storage: StorageServer, upload: Upload) -> None:
    denial = "<Error><Code>AccessDenied</Code><Message>Invalid according to Policy: Policy expired.</Message></Error>"
    storage.script = answering("403 Forbidden", denial)
    with pytest.raises(PresignAgain):
        upload.send(b"x")
