"""The bytes on the wire."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from hashlib import md5, sha256
from pathlib import Path

import pytest

from tasks.model.errors import DocumentRefused
from tasks.sources.files import Files
from tasks.sources.stream import BLOCK_BYTES
from tests.tasks.sources.addresses import file_address
from tests.tasks.storage_server import StorageServer, Visit
from tests.tasks.transfer.conftest import FIELDS, KEY, Upload

SIZES = [1, 2, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES + 5]


def content(size: int) -> bytes:
    return bytes(number % 251 for number in range(size))


@pytest.mark.parametrize("size", SIZES)
def test_fields_go_verbatim_and_in_order_and_the_file_last(storage: StorageServer, upload: Upload, size: int) -> None:
    upload.send(content(size))
    *fields, (file_head, file) = storage.visit.parts
    assert fields == [
        (f'Content-Disposition: form-data; name="{name}"', value.encode()) for name, value in FIELDS.items()
    ]
    assert file_head == (
        'Content-Disposition: form-data; name="file"; filename="referral.pdf"\r\nContent-Type: application/octet-stream'
    )
    assert file == content(size)


@pytest.mark.parametrize("size", SIZES)
def test_the_length_is_announced_and_kept(storage: StorageServer, upload: Upload, size: int) -> None:
    upload.send(content(size))
    assert len(storage.visit.body) == int(storage.visit.headers["content-length"])
    assert "transfer-encoding" not in storage.visit.headers


def test_no_header_goes_to_storage_that_does_not_have_to(storage: StorageServer, upload: Upload) -> None:
    upload.send(b"x")
    assert sorted(storage.visit.headers) == ["accept-encoding", "content-length", "content-type", "host", "user-agent"]
    assert storage.visit.headers["user-agent"] == "chartpost"


def test_fields_hold_any_text(storage: StorageServer, upload: Upload) -> None:
    fields = {"key": "a/ü\r\nb", 'na"me\r\n': "", "x": "--chartpost"}
    upload.form = replace(upload.form, fields=fields)
    upload.send(b"x")
    heads = [head for head, _ in storage.visit.parts]
    assert [value.decode() for _, value in storage.visit.parts[:-1]] == list(fields.values())
    assert heads[1] == 'Content-Disposition: form-data; name="na%22me%0D%0A"'


@pytest.mark.parametrize(
    ("name", "sent"),
    [
        ("Überweisung Łódź 患者.pdf", "Überweisung Łódź 患者.pdf"),
        ('a "b" 100%.pdf', "a %22b%22 100%.pdf"),
        ("a\r\nb.pdf", "a%0D%0Ab.pdf"),
        ("../../folder/c.pdf", "c.pdf"),
        ("C:\\scans\\d.pdf", "d.pdf"),
    ],
)
def test_the_file_goes_under_its_base_name_as_browsers_write_it(
    storage: StorageServer, upload: Upload, name: str, sent: str
) -> None:
    upload.file_name = name
    upload.send(b"x")
    assert f'filename="{sent}"' in storage.visit.parts[-1][0]


@pytest.mark.parametrize("name", ["${filename}", "a${filename}.pdf", "", "folder/", "bad\udcff.pdf"])
def test_a_name_that_cannot_arrive_is_refused_before_anything_is_sent(
    storage: StorageServer, upload: Upload, name: str
) -> None:
    upload.file_name = name
    with pytest.raises(DocumentRefused, match="invalid_request"):
        upload.send(b"x")
    assert storage.visits == []
    assert upload.calls == 0


@pytest.mark.parametrize("size", SIZES)
def test_digests_are_of_the_bytes_that_were_sent(upload: Upload, size: int) -> None:
    stored = upload.send(content(size))
    assert stored.sha256 == sha256(content(size)).hexdigest()
    assert stored.md5 == stored.etag == md5(content(size), usedforsecurity=False).hexdigest()
    assert stored.etag_verified
    assert stored.key == KEY
    assert upload.calls == 1


ENCRYPTED = [
    {"x-amz-server-side-encryption": "aws:kms", "x-amz-server-side-encryption-aws-kms-key-id": "alias/charts"},
    {"X-Amz-Server-Side-Encryption": " AWS:KMS:DSSE"},
    {"x-amz-server-side-encryption-customer-algorithm": "AES256"},
    {"X-Amz-Server-Side-Encryption-Customer-Key": "a2V5"},
]


@pytest.mark.parametrize("fields", ENCRYPTED)
def test_no_md5_is_taken_where_the_etag_cannot_be_one(
    storage: StorageServer, upload: Upload, fields: dict[str, str]
) -> None:
    upload.form = replace(upload.form, fields={**FIELDS, **fields})
    storage.script = answered_as_encrypted
    stored = upload.send(b"x" * 10)
    assert stored.md5 == ""
    assert not stored.etag_verified
    assert stored.etag == "0123456789abcdef0123456789abcdef"
    assert stored.sha256 == sha256(b"x" * 10).hexdigest()
    assert storage.visit.parts[-1][1] == b"x" * 10


@pytest.mark.parametrize("fields", [{"x-amz-server-side-encryption": "AES256"}, {"x-amz-meta-note": "aws:kms"}, {}])
def test_an_md5_is_taken_where_the_etag_may_be_one(upload: Upload, fields: dict[str, str]) -> None:
    upload.form = replace(upload.form, fields={**FIELDS, **fields})
    stored = upload.send(b"x")
    assert stored.md5 == md5(b"x", usedforsecurity=False).hexdigest()
    assert stored.etag_verified


def test_an_answer_without_etag_verifies_nothing_where_no_md5_is_taken(storage: StorageServer, upload: Upload) -> None:
    def store_without_etag(visit: Visit) -> None:
        visit.read_all()
        visit.answer("204 No Content", x_amz_request_id="1")

    upload.form = replace(upload.form, fields={**FIELDS, **ENCRYPTED[0]})
    storage.script = store_without_etag
    assert not upload.send(b"x").etag_verified


def answered_as_encrypted(visit: Visit) -> None:
    """As S3 answers for an object that it has encrypted with a key of KMS: the ETag is of 32 digits, and no MD5."""
    visit.read_all()
    visit.answer("204 No Content", ETag='"0123456789abcdef0123456789abcdef"', x_amz_request_id="GQ6Z")


def test_cookies_are_neither_kept_nor_sent(storage: StorageServer, upload: Upload) -> None:
    def store_with_cookie(visit: Visit) -> None:
        visit.read_all()
        visit.answer("204 No Content", x_amz_request_id="1", Set_Cookie="session=1; Path=/")

    storage.script = store_with_cookie
    upload.send(b"x")
    upload.send(b"x")
    assert ["cookie" in visit.headers for visit in storage.visits] == [False, False]


def test_each_upload_has_a_connection_of_its_own(storage: StorageServer, upload: Upload) -> None:
    """One that storage is just closing would look like an answer lost after the commit."""

    def store_and_wait_for_more(visit: Visit) -> None:
        visit.read_all()
        visit.store()
        visit.read_to(visit.announced + 1)

    storage.script = store_and_wait_for_more
    upload.send(b"x")
    upload.send(b"y")
    assert [visit.parts[-1][1] for visit in storage.visits] == [b"x", b"y"]


def test_proxies_of_the_environment_are_not_used(
    storage: StorageServer, upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert upload.send(b"x").key == KEY


def test_memory_does_not_grow_with_the_file(storage: StorageServer, upload: Upload, tmp_path: Path) -> None:
    def drain(visit: Visit) -> None:
        visit.drain()
        visit.answer("204 No Content", x_amz_request_id="1")

    storage.script = drain
    files = Files([tmp_path])

    def peak(megabytes: int) -> int:
        path = tmp_path / f"{megabytes}.bin"
        with path.open("wb") as file:
            file.truncate(megabytes * 1_000_000)
        located = files.locate(file_address(path))
        tracemalloc.start()
        with files.open(file_address(path), located.identity) as source:
            upload.send(source)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    # The least of three: threads of other tests count too, now and then; a document that is held counts each time.
    large = min(peak(100) for _ in range(3))
    assert large < peak(2) + BLOCK_BYTES
    assert large < 20 * BLOCK_BYTES


def test_an_upload_over_tls_arrives_whole(secure_storage: StorageServer, secure_upload: Upload) -> None:
    """TLS 1.3 servers send session tickets first, which must not be treated as an early answer."""
    stored = secure_upload.send(content(SIZES[-1]))
    assert secure_storage.visit.parts[-1][1] == content(SIZES[-1])
    assert stored.etag_verified
    assert secure_upload.commits == 1
