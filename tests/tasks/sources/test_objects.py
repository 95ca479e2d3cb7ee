"""S3 objects, on a real S3 server."""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from config.types import ProxyAddress
from tasks.model.errors import Code, DocumentRefused, RetryLater
from tasks.sources.base import NoParts
from tasks.sources.objects import Objects
from tests.harness.proxy import proxy
from tests.tasks.sources.conftest import BUCKET
from tests.tasks.storage_server import StorageServer, Visit, closed_port

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = "patient-4711/Über weisung 100%.pdf"
ADDRESS = f"s3://{BUCKET}/{KEY}"


@pytest.fixture
def stored(s3: S3Client) -> str:
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"12345")
    return ADDRESS


def refusal(act: Callable[[], object]) -> Code:
    with pytest.raises(DocumentRefused) as refused:
        act()
    assert refused.value.hint
    assert "patient-4711" not in "".join(traceback.format_exception(refused.value, limit=0))
    return refused.value.code


def test_an_object_is_located_with_its_size_and_name(objects: Objects, stored: str) -> None:
    located = objects.locate(stored)
    assert (located.size_bytes, located.file_name) == (5, "Über weisung 100%.pdf")


def test_each_attempt_reads_from_the_start(objects: Objects, stored: str) -> None:
    identity = objects.locate(stored).identity
    for _ in range(2):
        with objects.open(stored, identity) as source:
            assert source.size == 5
            assert source.read(3) + source.read(100) == b"12345"
            assert source.read(1) == b""
            assert source.unchanged()


def test_an_object_replaced_since_it_was_located_is_not_opened(objects: Objects, s3: S3Client, stored: str) -> None:
    identity = objects.locate(stored).identity
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"54321")
    assert refusal(lambda: objects.open(stored, identity)) is Code.FILE_CHANGED


def test_an_object_replaced_while_it_is_read_is_read_as_it_was(objects: Objects, s3: S3Client) -> None:
    s3.put_object(Bucket=BUCKET, Key="large", Body=b"1" * 2_000_000)
    address = f"s3://{BUCKET}/large"
    with objects.open(address, objects.locate(address).identity) as source:
        first = source.read(1)
        s3.put_object(Bucket=BUCKET, Key="large", Body=b"2" * 2_000_000)
        rest = b""
        while block := source.read(262_144):
            rest += block
    assert first + rest == b"1" * 2_000_000


def test_an_object_that_is_not_there_is_missing(objects: Objects) -> None:
    assert refusal(lambda: objects.locate(f"s3://{BUCKET}/patient-4711/none")) is Code.FILE_MISSING
    assert refusal(lambda: objects.open(f"s3://{BUCKET}/patient-4711/none", '5:"a"')) is Code.FILE_MISSING


def test_an_empty_object_is_refused(objects: Objects, s3: S3Client) -> None:
    s3.put_object(Bucket=BUCKET, Key="empty", Body=b"")
    assert refusal(lambda: objects.locate(f"s3://{BUCKET}/empty")) is Code.FILE_EMPTY


@pytest.mark.parametrize("address", ["s3://another/a.pdf", "s3://sources.another/a", "s3://Sources/a"])
def test_other_buckets_are_not_read(objects: Objects, address: str) -> None:
    assert refusal(lambda: objects.locate(address)) is Code.SOURCE_NOT_ALLOWED
    assert refusal(lambda: objects.remove(address, "")) is Code.SOURCE_NOT_ALLOWED


@pytest.mark.parametrize("address", ["s3://", "s3://sources", "s3://sources/", "s3:///a", "s3://sources/\udcff"])
def test_what_names_no_object_is_an_invalid_request(objects: Objects, address: str) -> None:
    assert refusal(lambda: objects.locate(address)) is Code.INVALID_REQUEST


@pytest.mark.parametrize("key", ["../another/a.pdf", "a/../../another/b.pdf", "a/..", "/".join(["a" * 200] * 6)])
def test_a_key_that_may_lead_out_of_its_bucket_or_that_s3_does_not_know_is_an_invalid_request(
    objects: Objects, key: str
) -> None:
    assert refusal(lambda: objects.locate(f"s3://{BUCKET}/{key}")) is Code.INVALID_REQUEST
    assert refusal(lambda: objects.locate(f"s3://{BUCKET}/a..b/..c/{'a' * 200}")) is Code.FILE_MISSING


def test_a_folder_is_not_a_file(objects: Objects) -> None:
    assert refusal(lambda: objects.locate(f"s3://{BUCKET}/folder/")) is Code.NOT_A_REGULAR_FILE


def test_a_bucket_that_is_not_there_is_told(objects: Objects) -> None:
    code = refusal(lambda: objects.open("s3://not-made/a.pdf", '5:"a"'))
    assert code is Code.SOURCE_NOT_ALLOWED


def test_an_object_is_removed_only_from_a_bucket_that_allows_it(objects: Objects, stored: str) -> None:
    identity = objects.locate(stored).identity
    assert refusal(lambda: objects.check_removable(stored)) is Code.SOURCE_NOT_ALLOWED
    assert refusal(lambda: objects.remove(stored, identity)) is Code.SOURCE_NOT_ALLOWED
    assert objects.locate(stored).identity == identity


@pytest.mark.parametrize("key", ["staged/4711/document", "staged//4711/job.json", "./staged/x"])
def test_what_is_staged_in_a_callers_bucket_stays_closed(engine: str, key: str) -> None:
    objects = Objects([BUCKET], engine, private=f"s3://{BUCKET}/staged")
    address = f"s3://{BUCKET}/{key}"
    assert refusal(lambda: objects.locate(address)) is Code.SOURCE_NOT_ALLOWED
    assert refusal(lambda: objects.open(address, '5:"a"')) is Code.SOURCE_NOT_ALLOWED
    # Only below that prefix: a key that merely begins like it is the caller's.
    assert refusal(lambda: objects.locate(f"s3://{BUCKET}/staged-too/none.pdf")) is Code.FILE_MISSING


def test_an_object_is_removed_only_while_it_is_what_was_located(engine: str, s3: S3Client, stored: str) -> None:
    objects = Objects([], engine, removable=[BUCKET])
    identity = objects.locate(stored).identity
    s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"54321")
    assert not objects.remove(stored, identity)
    assert objects.remove(stored, objects.locate(stored).identity)
    assert refusal(lambda: objects.locate(stored)) is Code.FILE_MISSING
    assert objects.remove(stored, identity)  # a second time, as after a kill


def test_storage_that_cannot_be_reached_is_tried_again_without_being_named(engine: str) -> None:
    with closed_port() as port, pytest.raises(RetryLater) as later:
        Objects([BUCKET], f"http://127.0.0.1:{port}").locate(ADDRESS)
    assert not later.value.unreachable  # that would be said of the provider
    assert "patient-4711" not in "".join(traceback.format_exception(later.value, limit=0))


def test_only_a_proxy_of_the_settings_is_used(engine: str, stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert Objects([BUCKET], engine).locate(stored).size_bytes
    with proxy(user="us", password="p:@ ss") as between:
        through = Objects([BUCKET], engine, ProxyAddress("127.0.0.1", between.port, "us", "p:@ ss"))
        assert through.locate(stored).size_bytes
        assert between.heads


def test_keys_that_are_missing_are_no_fault_of_the_document(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(RetryLater, match="NoCredentials"):
        Objects([BUCKET], engine).locate(ADDRESS)


def test_keys_that_are_wrong_are_no_fault_of_the_document(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    with pytest.raises(RetryLater, match="SignatureDoesNotMatch"):
        Objects([BUCKET], engine).open(ADDRESS, '5:"a"')
    with pytest.raises(RetryLater, match="SignatureDoesNotMatch"):
        Objects([BUCKET], engine).locate(ADDRESS)


def test_all_threads_share_one_client_and_a_forked_process_makes_its_own(objects: Objects) -> None:
    clients = []
    threads = [threading.Thread(target=lambda: clients.append(objects.client())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(clients) == 8
    assert len(set(map(id, clients))) == 1
    child = os.fork()
    if child == 0:
        os._exit(0 if objects.client() is not clients[0] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_web_filters_page_is_neither_a_document_nor_a_place_for_one(
    objects: Objects, s3: S3Client, stored: str
) -> None:
    identity = objects.locate(stored).identity

    def page(visit: Visit) -> None:
        visit.read_all()
        visit.answer(
            "200 OK", "<html>Blocked</html>", ETag='"5f3b1c2d-14"', Content_Type="text/html", Connection="close"
        )

    with StorageServer(page) as web_filter:
        behind = Objects([BUCKET], web_filter.url, removable=[BUCKET])
        for act in (
            lambda: behind.locate(stored),
            lambda: behind.open(stored, identity),
            lambda: behind.remove(stored, identity),
            lambda: behind.write(f"s3://{BUCKET}/job.json", b"{}"),
            lambda: behind.read(stored),
            lambda: behind.identity(stored),
        ):
            with pytest.raises(RetryLater, match="web filter"):
                act()
    assert objects.read(stored) == b"12345"


# --- reads of parts ------------------------------------------------------------------------------------------------


def test_a_part_of_an_object_is_read_by_a_request_of_its_own(objects: Objects, stored: str) -> None:
    with objects.parts(stored, objects.locate(stored).identity) as parts:
        assert (parts.size, parts.remote) == (5, True)
        assert (parts.read_at(1, 3), parts.read_at(3, 100), parts.read_at(0, 5)) == (b"234", b"45", b"12345")


def test_no_part_is_read_of_an_object_replaced_since_it_was_located(
    objects: Objects, s3: S3Client, stored: str
) -> None:
    with objects.parts(stored, objects.locate(stored).identity) as parts:
        s3.put_object(Bucket=BUCKET, Key=KEY, Body=b"54321")
        assert refusal(lambda: parts.read_at(0, 2)) is Code.FILE_CHANGED


class WithoutRanges(BaseHTTPRequestHandler):
    """A storage that answers every read with the whole object."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"12345")

    def log_message(self, *_: object) -> None:
        pass


def test_a_storage_without_ranges_gives_no_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    server = ThreadingHTTPServer(("127.0.0.1", 0), WithoutRanges)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        objects = Objects([BUCKET], f"http://127.0.0.1:{server.server_port}")
        with objects.parts(ADDRESS, '5:"e"') as parts:
            assert parts.read_at(0, 5) == b"12345"
            with pytest.raises(NoParts):
                parts.read_at(1, 3)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


# --- a storage that never comes to an end ---------------------------------------------------------------------------


def dripping(beginning: str, piece: str, pause: float = 0.05) -> Callable[[Visit], None]:
    def script(visit: Visit) -> None:
        visit.read_head()
        visit.say(beginning)
        while True:
            visit.say(piece)
            time.sleep(pause)

    return script


NEVER_ENDING = {
    "nothing": lambda visit: visit.read_to(10**9),
    "headers a byte at a time": dripping("HTTP/1.1 200 OK\r\nx-y: ", "z"),
    "interim answers": dripping("", "HTTP/1.1 100 Continue\r\n\r\n"),
    "the body of an error, slowly": dripping("HTTP/1.1 503 Busy\r\n\r\n", "x"),
    "the body of an error, as a flood": dripping("HTTP/1.1 503 Busy\r\n\r\n", "x" * 1_000_000, 0.0),
}


@pytest.fixture
def hurried(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.sources.objects._ANSWER_SECONDS", 1.5)
    monkeypatch.setattr("tasks.sources.objects._DOCUMENT_SECONDS", 1.5)


@pytest.mark.parametrize("script", NEVER_ENDING.values(), ids=NEVER_ENDING.keys())
def test_a_storage_that_never_ends_its_answer_is_given_up(hurried: None, script: Callable[[Visit], None]) -> None:
    with StorageServer(script) as server:
        objects = Objects([BUCKET], server.url)
        for act in (lambda: objects.locate(ADDRESS), lambda: objects.open(ADDRESS, '5:"a"')):
            began = time.monotonic()
            with pytest.raises(RetryLater):
                act()
            assert time.monotonic() - began < 20


def test_a_storages_own_word_for_an_error_is_not_repeated(engine: str) -> None:
    body = "<Error><Code>KariNordmann</Code><Message>Kari</Message></Error>"

    def script(visit: Visit) -> None:
        visit.read_head()
        visit.say(f"HTTP/1.1 418 Teapot\r\nContent-Length: {len(body)}\r\nContent-Type: text/xml\r\n\r\n{body}")

    with StorageServer(script) as server, pytest.raises(RetryLater, match="HTTP 418") as later:
        Objects([BUCKET], server.url).open(ADDRESS, '5:"a"')
    assert "Kari" not in str(later.value)


def test_an_object_that_comes_too_slowly_is_given_up_and_never_taken_as_whole(hurried: None) -> None:
    head = 'HTTP/1.1 200 OK\r\nETag: "a"\r\nContent-Length: 100000\r\nx-amz-request-id: 1\r\n\r\n'
    with StorageServer(dripping(head, "x")) as server:
        objects = Objects([BUCKET], server.url)
        with objects.open(ADDRESS, '100000:"a"') as source, pytest.raises(RetryLater):
            list(iter(lambda: source.read(1000), b""))


def test_a_storage_that_hangs_is_waited_for_by_few(hurried: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks.model.away._SLOW_SECONDS", 0.5)
    visits = []

    def script(visit: Visit) -> None:
        visits.append(visit)
        visit.read_to(10**9)

    with StorageServer(script) as server:
        objects = Objects([BUCKET], server.url)
        with pytest.raises(RetryLater, match="cannot be reached"):
            objects.locate(ADDRESS)
        before = len(visits)
        for _ in range(100):
            with pytest.raises(RetryLater, match="a moment ago"):
                objects.locate(ADDRESS)
        assert len(visits) <= before + 1  # boto3's own repetition may still have been on its way
