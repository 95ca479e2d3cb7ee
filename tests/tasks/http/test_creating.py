"""Calls of an API that create something: one commit point, and every doubt is an unknown outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tasks.http.api import ApiClient, Body
from tasks.http.clients import Clients
from tasks.http.exchange import Answer
from tasks.http.provider_clock import ProviderClock
from tasks.model.errors import AccountBlocked, LeaseLost, OutcomeUnknown, RetryLater
from tests.tasks.storage_server import Script, StorageServer, Visit, closed_port
from tests.tasks.transfer.conftest import FakeGate

BLOCKS = (b'{"data": "', b"x" * 300_000, b'"}')
LENGTH = sum(map(len, BLOCKS))


class Calling:
    """One creating call to the server, and what was asked in it."""

    def __init__(self, clients: Clients, base_url: str) -> None:
        self.commits = 0
        self.calls = 0
        self.length = LENGTH
        self.signed: list[tuple[str, str]] = []
        self.commit: Callable[[], None] = lambda: None
        self.check: Callable[[], None] = lambda: None
        self.blocks: Callable[[], Iterator[bytes]] = lambda: iter(BLOCKS)
        self.api = ApiClient(
            clients,
            base_url,
            provider="Provider",
            headers=self._sign,
            limiter=lambda: None,
            on_call=self._count,
            clock=ProviderClock(),
            insecure=True,
        )

    def __call__(self, **options: object) -> Answer:
        body = Body("application/fhir+json", self.length, self.blocks)
        gate = FakeGate(self._commit, self.check)
        return self.api.create("POST", "Bundle", body=body, gate=gate, **options)  # type: ignore[arg-type]

    def _sign(self, method: str, url: str) -> dict[str, str]:
        self.signed.append((method, url))
        return {"Authorization": f"Bearer {len(self.signed)}"}

    def _commit(self) -> None:
        self.commits += 1
        self.commit()

    def _count(self) -> None:
        self.calls += 1


@pytest.fixture
def create(storage: StorageServer, clients: Clients) -> Calling:
    storage.script = answering("201 Created")
    return Calling(clients, storage.url)


def answering(status: str, body: str = "{}", **headers: str) -> Script:
    def script(visit: Visit) -> None:
        visit.read_all()
        visit.answer(status, body, **headers)

    return script


def silent(visit: Visit) -> None:
    visit.read_all()
    visit.reset()


def test_the_body_leaves_as_it_is_with_its_length_and_the_calls_own_headers(
    storage: StorageServer, create: Calling
) -> None:
    answer = create(params=[("q", "1")], headers={"Accept": "application/fhir+json"})
    assert answer.status == 201
    assert storage.visit.body == b"".join(BLOCKS)
    headers = storage.visit.headers
    assert headers["content-length"] == str(LENGTH)
    assert headers["content-type"] == "application/fhir+json"
    assert headers["accept"] == "application/fhir+json"
    assert headers["authorization"] == "Bearer 1"
    assert "transfer-encoding" not in headers
    assert (create.commits, create.calls) == (1, 1)
    assert create.signed == [("POST", f"{storage.url}Bundle?q=1")]


def test_a_commit_that_is_refused_cuts_the_connection_before_the_last_block(
    storage: StorageServer, create: Calling
) -> None:
    def refuse() -> None:
        raise LeaseLost("lost")

    create.commit = refuse
    storage.script = lambda visit: visit.read_all()
    with pytest.raises(LeaseLost):
        create()
    assert not storage.visit.whole


def test_what_the_blocks_raise_comes_out_and_nothing_was_committed(storage: StorageServer, create: Calling) -> None:
    def broken() -> Iterator[bytes]:
        yield BLOCKS[0]
        raise RetryLater("the file cannot be read")

    create.blocks = broken
    storage.script = lambda visit: visit.read_all()
    with pytest.raises(RetryLater, match="cannot be read"):
        create()
    assert create.commits == 0


@pytest.mark.parametrize("status", ["500 Oh", "502 Bad Gateway", "503 Not Now", "504 Too Late"])
def test_a_server_error_after_all_was_sent_is_of_unknown_outcome(
    storage: StorageServer, create: Calling, status: str
) -> None:
    storage.script = answering(status)
    with pytest.raises(OutcomeUnknown) as unknown:
        create()
    assert unknown.value.unreachable


def test_a_server_error_that_means_not_processed_is_an_answer(storage: StorageServer, create: Calling) -> None:
    storage.script = answering("502 Bad Gateway")
    assert create(not_processed={502}).status == 502


def test_no_answer_after_all_was_sent_is_of_unknown_outcome(storage: StorageServer, create: Calling) -> None:
    storage.script = silent
    with pytest.raises(OutcomeUnknown):
        create()
    assert create.commits == 1


def test_an_answer_that_breaks_off_is_of_unknown_outcome_even_if_it_began_well(
    storage: StorageServer, create: Calling
) -> None:
    def script(visit: Visit) -> None:
        visit.read_all()
        visit.say("HTTP/1.1 201 Created\r\nContent-Length: 10\r\n\r\nhalf")

    storage.script = script
    with pytest.raises(OutcomeUnknown):
        create()


def test_no_connection_is_no_unknown_outcome(storage: StorageServer, create: Calling, clients: Clients) -> None:
    with closed_port() as port:
        nobody = Calling(clients, f"http://127.0.0.1:{port}/")
        with pytest.raises(RetryLater) as later:
            nobody()
    assert later.value.unreachable
    assert nobody.commits == 0


@pytest.mark.parametrize("status", ["400 Bad", "401 Who", "413 Big", "429 Slowly"])
def test_a_refusal_is_an_answer_even_when_it_comes_early(storage: StorageServer, create: Calling, status: str) -> None:
    def early(visit: Visit) -> None:
        visit.read_head()
        visit.answer(status, "{}")
        visit.drain()

    storage.script = early
    assert create().status == int(status[:3])


def test_an_early_success_is_not_believed(storage: StorageServer, create: Calling) -> None:
    def early(visit: Visit) -> None:
        visit.read_head()
        visit.answer("201 Created", "{}")
        visit.stay()

    storage.script = early
    create.blocks, create.length = lambda: iter([b"x" * 65_536] * 600), 600 * 65_536
    create.commit = lambda: pytest.fail("nothing must be committed")
    with pytest.raises(RetryLater):
        create()


def test_each_call_is_signed_for_itself_and_after_the_limiter(storage: StorageServer, create: Calling) -> None:
    create()
    create.api.call("GET", "Bundle")
    assert [method for method, _ in create.signed] == ["POST", "GET"]


# --- addresses that are handed out -----------------------------------------------------------------------------------


def test_an_address_that_was_handed_out_is_fetched_without_keys(storage: StorageServer, create: Calling) -> None:
    storage.script = answering("206 Partial Content", "x", Content_Range="bytes 0-0/7")
    answer = create.api.fetch(
        f"{storage.url}file?X-Amz-Signature=s", hosts=["127.0.0.1"], headers={"Range": "bytes=0-0"}
    )
    assert answer.headers["content-range"] == "bytes 0-0/7"
    assert "authorization" not in storage.visit.headers
    assert storage.visit.headers["range"] == "bytes=0-0"
    assert create.signed == []


@pytest.mark.parametrize(
    "url", ["http://elsewhere.example/x", "ftp://127.0.0.1/x", "https://u:p@127.0.0.1/", "nonsense", "https://"]
)
def test_an_address_of_another_host_is_not_fetched(clients: Clients, create: Calling, url: str) -> None:
    with pytest.raises(AccountBlocked) as blocked:
        create.api.fetch(url, hosts=["*.amazonaws.com"])
    assert "/x" not in str(blocked.value), "its host may be named, the address not"
    assert create.calls == 0
