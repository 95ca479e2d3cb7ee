"""Uploads to a server that each test scripts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self

import pytest

from tasks.http.clients import Client, Clients
from tasks.model.job import Form, Stored
from tasks.sources.base import OpenSource
from tasks.transfer.upload import post
from tests.tasks.storage_server import StorageServer

KEY = "temp/1/4711/secret-folder/referral.pdf"
FIELDS = {
    "key": KEY,
    "Policy": "bm90IGEgcG9saWN5",
    "x-amz-algorithm": "AWS4-HMAC-SHA256",
    "x-amz-date": "20261121T100000Z",
    "x-amz-signature": "abc",
    "x-amz-security-token": "token with spaces + and =",
}


class Bytes:
    """An open source of known bytes, which may turn out shorter, longer or changed."""

    def __init__(self, content: bytes, *, size: int | None = None, unchanged: bool = True) -> None:
        self.size = len(content) if size is None else size
        self._rest = memoryview(content)
        self._unchanged = unchanged

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        pass

    def read(self, count: int) -> bytes:
        block, self._rest = self._rest[:count], self._rest[count:]
        return bytes(block)

    def unchanged(self) -> bool:
        return self._unchanged


@dataclass(frozen=True)
class FakeGate:
    """Implements `CommitGate`."""

    commit: Callable[[], None] = lambda: None
    check: Callable[[], None] = lambda: None


@dataclass
class Upload:
    """One upload to be made, and what happened in it."""

    client: Client
    form: Form
    commits: int = 0
    calls: int = 0
    commit: Callable[[], None] = lambda: None
    check: Callable[[], None] = lambda: None
    file_name: str = "referral.pdf"
    allowed_hosts: list[str] = field(default_factory=list)

    def send(self, content: bytes | OpenSource) -> Stored:
        return post(
            self.form,
            Bytes(content) if isinstance(content, bytes) else content,
            self.file_name,
            client=self.client,
            allowed_hosts=self.allowed_hosts,
            insecure=True,
            gate=FakeGate(self._commit, self.check),
            on_call=self._count,
        )

    def _commit(self) -> None:
        self.commits += 1
        self.commit()

    def _count(self) -> None:
        self.calls += 1


@pytest.fixture
def upload(storage: StorageServer, clients: Clients) -> Upload:
    return Upload(clients.fresh(), Form(storage.url, FIELDS))


@pytest.fixture
def secure_upload(secure_storage: StorageServer, clients: Clients) -> Upload:
    return Upload(clients.fresh(), Form(secure_storage.url, FIELDS))
