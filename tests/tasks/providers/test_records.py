"""Lists of records and downloads, against answers that no sandbox would give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from config.accounts import ClinikoAccount, OvokAccount
from tasks.http.clients import Clients
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, RetryLater
from tasks.providers import records as shared
from tasks.providers.base import ChartRecord, RecordQuery
from tasks.providers.cliniko.client import Cliniko
from tasks.providers.ovok.client import Ovok
from tasks.providers.pracsuite.client import PracSuite
from tests.tasks.providers.doubles import DictCache, Slots, connected
from tests.tasks.providers.odd_ovok import API, LIST, OddOvok, listed
from tests.tasks.providers.odd_pracsuite import OddPracSuite
from tests.tasks.providers.odd_server import OddServer, Reply, Request

ALL = "GET /v1/patient_attachments"
ONE = f"{ALL}/7"
CONTENT = f"{ONE}/content"
FILE = "GET /files/referral.pdf"
S3 = {"x-amz-request-id": "GQ6Z", "ETag": '"0123456789abcdef0123456789abcdef"'}
SIGNATURE = "X-Amz-Signature=secret"


@pytest.fixture
def cliniko_server() -> Iterator[OddServer]:
    with OddServer() as server:
        yield server


@pytest.fixture
def cliniko(cliniko_server: OddServer, clients: Clients, cache: DictCache, slots: Slots) -> Cliniko:
    account = ClinikoAccount.model_validate(
        {
            "provider": "cliniko",
            "base_url": f"{cliniko_server.base}/v1",
            "api_key": "the-users-key-au1",
            "contact": "A Clinic (it@clinic.example)",
            "insecure": True,
        }
    )
    return Cliniko("clinic", account, connected(clients, slots, cache))


def record(number: object = "7", **more: Any) -> dict[str, Any]:
    return {"id": number, "filename": "referral.pdf", "size": 10, "processing_completed": True} | more


def page(*records: dict[str, Any], **more: Any) -> Reply:
    return Reply(body={"patient_attachments": list(records), "total_entries": len(records), "links": {}} | more)


def rows(cliniko: Cliniko, **query: Any) -> list[ChartRecord]:
    return list(cliniko.records(RecordQuery(**query)))


def download(cliniko: Cliniko, most_bytes: int = 1000) -> bytes:
    taken = bytearray()
    cliniko.download("7", taken.extend, most_bytes=most_bytes)
    return bytes(taken)


def leads_to(server: OddServer, file: Reply, *, size: object = 10, address: str = "") -> None:
    """Let record 7 have this file."""
    server.answers[ONE] = Reply(body=record(size=size))
    server.answers[CONTENT] = Reply(
        302, "<html>redirected", {"Location": address or f"{server.base}/files/referral.pdf?{SIGNATURE}"}
    )
    server.answers[FILE] = file


# --- lists -----------------------------------------------------------------------------------------------------------


def test_a_list_is_read_no_further_than_it_is_used(cliniko_server: OddServer, cliniko: Cliniko) -> None:
    def many(request: Request) -> Reply:
        first = int(request.query["page"][0]) * 100
        return page(*(record(number) for number in range(first, first + 100)), total_entries=10_000)

    cliniko_server.answers[ALL] = many
    found = cliniko.records(RecordQuery())
    assert cliniko_server.requests == []
    assert [next(found).id for _ in range(150)] == [str(number) for number in range(100, 250)]
    assert len(cliniko_server.requests) == 2


def test_a_page_is_asked_for_alone_with_its_size_filters_and_order(cliniko_server: OddServer, cliniko: Cliniko) -> None:
    cliniko_server.answers[ALL] = page(record(), total_entries=500)
    rows(cliniko, filters=("size:>5", "user_id:=1"), sort="size:desc,id", page=3, per_page=25)
    (request,) = cliniko_server.requests
    assert request.query == {
        "q[]": ["size:>5", "user_id:=1"],
        "sort": ["size:desc,id"],
        "page": ["3"],
        "per_page": ["25"],
    }


def test_archived_records_alone_are_asked_for_in_a_way_that_lets_them_in_and_the_others_out(
    cliniko_server: OddServer, cliniko: Cliniko
) -> None:
    cliniko_server.answers[ALL] = page(record())
    (row,) = rows(cliniko, archived=True)
    assert row.archived
    assert cliniko_server.requests[0].query["q[]"] == ["archived_at:*", "archived_at:?"]


def test_a_record_that_two_pages_show_is_listed_once_and_one_that_none_shows_is_an_error(
    cliniko_server: OddServer, cliniko: Cliniko
) -> None:
    pages = {"1": page(record(1), record(2), total_entries=4), "2": page(record(2), record(3)), "3": page()}
    cliniko_server.answers[ALL] = lambda request: pages[request.query["page"][0]]
    seen: list[str] = []
    with pytest.raises(RetryLater, match="fewer records than it announced"):
        seen.extend(each.id for each in cliniko.records(RecordQuery()))
    assert seen == ["1", "2", "3"]


def test_a_list_longer_than_its_limit_says_to_ask_for_a_part(
    cliniko_server: OddServer, cliniko: Cliniko, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shared, "MOST_RECORDS", 3)
    cliniko_server.answers[ALL] = lambda request: page(
        *(record(f"{request.query['page'][0]}-{number}") for number in range(2)), total_entries=1_000_000
    )
    with pytest.raises(DocumentRefused) as refused:
        rows(cliniko)
    assert "filter" in refused.value.hint


def test_a_list_waits_for_its_share_of_the_calls_and_goes_on(
    cliniko_server: OddServer, cliniko: Cliniko, slots: Slots
) -> None:
    pages = {"1": page(record(1), total_entries=2), "2": page(record(2))}
    cliniko_server.answers[ALL] = lambda request: pages[request.query["page"][0]]
    slots.free_pages = 0
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        slots.free_pages = 1

    assert [row.id for row in rows(cliniko, wait=wait)] == ["1", "2"]
    assert waited == [1]


def test_a_list_does_not_wait_for_ever(cliniko_server: OddServer, cliniko: Cliniko) -> None:
    cliniko_server.answers[ALL] = Reply(429)
    waited: list[float] = []
    with pytest.raises(RetryLater, match="too many requests"):
        rows(cliniko, wait=waited.append)
    assert waited == [60, 60]
    cliniko_server.answers[ALL] = Reply(503)
    with pytest.raises(RetryLater, match="503"):
        rows(cliniko, wait=waited.append)
    assert len(waited) == 2


@pytest.mark.parametrize(
    "query",
    [
        {"filters": ("nothing:=1",)},
        {"filters": ("size",)},
        {"filters": ("size:10",)},
        {"filters": ("size:>ten",)},
        {"filters": ("size:>5", "created_at:>2026-11-21")},
        {"filters": ("created_at:=2026-11-21T00:00:00Z",)},
        {"filters": ("archived_at:?1",)},
        {"filters": ("filename:=",)},
        {"filters": ("processing_completed:=true",)},
        {"sort": "size:down"},
        {"sort": "name"},
        {"sort": ""},
        {"per_page": 101},
        {"case_id": "5"},
    ],
)
def test_what_cliniko_might_ignore_is_refused_without_a_call(
    cliniko_server: OddServer, cliniko: Cliniko, query: dict[str, Any]
) -> None:
    with pytest.raises(DocumentRefused) as refused:
        cliniko.check_query(RecordQuery(**query))
    assert refused.value.code is Code.INVALID_REQUEST
    assert refused.value.hint
    assert "ten" not in refused.value.message.split(), "a value may be the patient's"
    assert cliniko_server.requests == []


@pytest.mark.parametrize(
    "written",
    [
        "size:=1,2,3",
        "size:!?",
        "filename:~~%a:b%",
        "description:!=x",
        "archived_at:*",
        "updated_at:<=2026-11-21T00:00:00Z",
    ],
)
def test_a_filter_of_the_vendors_page_passes(cliniko: Cliniko, written: str) -> None:
    cliniko.check_query(RecordQuery(filters=(written,)))


# --- single records --------------------------------------------------------------------------------------------------


def test_a_record_shows_whose_it_is_and_who_has_put_it_there(cliniko_server: OddServer, cliniko: Cliniko) -> None:
    base = f"{cliniko_server.base}/v1"
    linked = {
        "patient": {"links": {"self": f"{base}/patients/47%2011"}},
        "user": {"links": {"self": f"{base}/users/1"}},
        "content": {"links": {"self": f"{base}/patient_attachments/7/content"}},
        "updated_at": "2026-11-21T10:00:00Z",
        "pinned_at": "2026-11-22T10:00:00Z",
    }
    cliniko_server.answers[ONE] = Reply(body=record(**linked))
    shown = cliniko.record("7")
    assert (shown.patient_id, shown.user_id) == ("47 11", "1")
    assert (shown.updated_at, shown.pinned_at) == (linked["updated_at"], linked["pinned_at"])
    assert shown.content_url == f"{base}/patient_attachments/7/content"


@pytest.mark.parametrize(
    "link",
    [
        None,
        5,
        "",
        f"https://files.s3.amazonaws.com/a.pdf?{SIGNATURE}",
        f"{{base}}/patient_attachments/7/content?{SIGNATURE}",
        "https://elsewhere.example/patients/1",
    ],
)
def test_an_address_that_opens_the_file_without_a_key_is_never_shown(
    cliniko_server: OddServer, cliniko: Cliniko, link: object
) -> None:
    link = link.format(base=f"{cliniko_server.base}/v1") if isinstance(link, str) else link
    odd = {"links": {"self": link}}
    contents: tuple[object, ...] = (odd, {"links": None}, [], "x")
    for content in contents:
        cliniko_server.answers[ONE] = Reply(body=record(content=content, patient=content, user=content))
        shown = cliniko.record("7")
        assert (shown.content_url, shown.patient_id, shown.user_id) == (None, None, None)


# --- downloads -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [10, "10", None])
def test_a_file_is_fetched_from_storage_without_the_key(
    cliniko_server: OddServer, cliniko: Cliniko, size: object
) -> None:
    leads_to(cliniko_server, Reply(200, "0123456789", S3), size=size)
    assert download(cliniko) == b"0123456789"
    asked = cliniko_server.requests[-1]
    assert asked.path == "/files/referral.pdf"
    assert "authorization" not in asked.headers
    assert "it@clinic.example" not in str(asked.headers)


@pytest.mark.parametrize(
    ("file", "size", "says"),
    [
        (Reply(200, "012345678", S3), 10, "9 bytes, and the record says 10"),
        (Reply(200, "0" * 2000, S3), None, "more than 1000 bytes"),
        (Reply(200, "0" * 2000, S3), 2000, "has 2000 bytes"),
    ],
)
def test_a_file_of_a_wrong_size_is_refused(
    cliniko_server: OddServer, cliniko: Cliniko, file: Reply, size: object, says: str
) -> None:
    leads_to(cliniko_server, file, size=size)
    with pytest.raises(DocumentRefused, match=says):
        download(cliniko)


@pytest.mark.parametrize(
    ("file", "size", "raised"),
    [
        (Reply(200, "<html>Blocked</html>", {"Content-Type": "text/html"}), None, AccountBlocked),
        (Reply(200, "0123456789"), None, AccountBlocked),
        (Reply(200, "0123456789", {**S3, "Content-Encoding": "gzip"}), 10, RetryLater),
        (Reply(206, "0123456789", S3), 10, AccountBlocked),
        (Reply(302, "", {"Location": "https://elsewhere.example/"}), 10, AccountBlocked),
        (Reply(403, "<Error><Code>AccessDenied</Code></Error>", S3), 10, AccountBlocked),
        (Reply(200, "01234", {**S3, "Content-Length": "10", "Connection": "close"}), 10, RetryLater),
        (Reply(503), 10, RetryLater),
        (Reply(429), 10, RetryLater),
        (Reply(0), 10, RetryLater),
    ],
)
def test_what_is_no_file_of_storage_is_never_taken_for_one(
    cliniko_server: OddServer, cliniko: Cliniko, file: Reply, size: object, raised: type[Exception]
) -> None:
    leads_to(cliniko_server, file, size=size)
    with pytest.raises(raised) as error:
        download(cliniko)
    assert SIGNATURE not in str(error.value)


def test_a_host_that_is_not_allowed_is_named_and_not_asked(
    clients: Clients, cliniko_server: OddServer, cache: DictCache, slots: Slots, cliniko: Cliniko
) -> None:
    leads_to(cliniko_server, Reply(200), address=f"https://files.evil.example/referral.pdf?{SIGNATURE}")
    with pytest.raises(AccountBlocked, match=r"files\.evil\.example") as blocked:
        download(cliniko)
    assert SIGNATURE not in str(blocked.value)


@pytest.mark.parametrize(
    "content",
    [Reply(404), Reply(200, "0123456789"), Reply(302), Reply(401), Reply(500), Reply(302, "", {"Location": "::"})],
)
def test_no_address_is_an_error_of_its_own(cliniko_server: OddServer, cliniko: Cliniko, content: Reply) -> None:
    cliniko_server.answers |= {ONE: Reply(body=record()), CONTENT: content}
    with pytest.raises((AccountBlocked, DocumentRefused, RetryLater)):
        download(cliniko)


def test_a_record_that_is_not_processed_has_no_file(cliniko_server: OddServer, cliniko: Cliniko) -> None:
    cliniko_server.answers[ONE] = Reply(body=record(processing_completed=False, size=None))
    with pytest.raises(DocumentRefused, match="not processed"):
        download(cliniko)
    assert cliniko_server.paths() == [ONE]


# --- PracSuite -------------------------------------------------------------------------------------------------------


def test_names_of_a_list_cost_a_call_each_once_a_day_and_can_be_left_out(
    odd: OddPracSuite, pracsuite: PracSuite
) -> None:
    odd.lists(
        {"attachment_client_id": 1, "file_size": 5, "client_id": 4711}, {"attachment_client_id": 2}, total_entries=2
    )
    odd.names(a1="one.pdf", a2=None)

    def names(**query: Any) -> list[str | None]:
        return [each.file_name for each in pracsuite.records(RecordQuery("4711", **query))]

    assert names(whole=False) == [None, None]
    assert len(odd.requests) == 1
    assert names() == ["one.pdf", None]
    assert len(odd.requests) == 4
    assert names(whole=False) == ["one.pdf", None]
    assert len(odd.requests) == 5


@pytest.mark.parametrize(
    "query",
    [
        {},
        {"case_id": "5"},
        {"filters": ("id:=1",)},
        {"sort": "id"},
        {"archived": True},
        {"per_page": 101},
    ],
)
def test_pracsuite_is_asked_for_nothing_that_its_pages_do_not_have(
    odd: OddPracSuite, pracsuite: PracSuite, query: dict[str, Any]
) -> None:
    patient = None if query == {} else "4711"
    with pytest.raises(DocumentRefused) as refused:
        pracsuite.check_query(RecordQuery(patient, **query))
    assert refused.value.code is Code.INVALID_REQUEST
    pracsuite.check_query(RecordQuery("4711"))
    assert odd.requests == []


@pytest.mark.parametrize("url", [None, 5, "", "no address"])
def test_a_download_without_an_address_is_an_error(odd: OddPracSuite, pracsuite: PracSuite, url: object) -> None:
    odd.answers["GET /v1/patient_attachment/7"] = Reply(body={"attachment_client_id": 7, "file_size": 5})
    odd.answers["GET /v1/patient_attachment/7/presign_url"] = Reply(body={"url": url, "file_name": "a.pdf"})
    with pytest.raises(AccountBlocked):
        pracsuite.download("7", bytes, most_bytes=10)


# --- Ovok ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ovok_server() -> Iterator[OddOvok]:
    with OddOvok() as server:
        yield server


@pytest.fixture
def ovok(ovok_server: OddOvok, clients: Clients, cache: DictCache, slots: Slots) -> Ovok:
    account = OvokAccount.model_validate(
        {
            "provider": "ovok",
            "base_url": ovok_server.base + API,
            "email": "worker@clinic.example",
            "password": "the-password",
            "client_id": "the-client",
            "insecure": True,
        }
    )
    return Ovok("ovok_clinic", account, connected(clients, slots, cache))


def test_ovoks_documents_are_shown_without_their_public_token(ovok_server: OddOvok, ovok: Ovok) -> None:
    author = {"reference": "Practitioner/1", "display": "Max Mustermann"}
    ovok_server.lists(listed("d-1", author=author, publicToken="a.public.token"), listed("d-2", author=5), most=100)
    one, two = ovok.records(RecordQuery())
    assert (one.id, one.file_name, one.user_id, two.user_id) == ("d-1", "referral.pdf", "Practitioner/1", None)
    assert one.updated_at == "2026-11-21T10:00:05.000Z"
    assert "public.token" not in str(one)
    assert "Mustermann" not in str(one)


def test_an_ovok_document_without_a_file_is_shown_and_not_downloaded(ovok_server: OddOvok, ovok: Ovok) -> None:
    ovok_server.lists(listed("d-1"), most=100)
    ovok_server.leases("d-1", None)
    shown = ovok.record("d-1")
    assert (shown.file_name, shown.size_bytes, shown.processed) == ("referral.pdf", None, False)
    with pytest.raises(DocumentRefused, match="no file yet"):
        ovok.download("d-1", bytes, most_bytes=10)
    ovok_server.leases("d-1", "0123456789")
    assert (ovok.record("d-1").size_bytes, ovok.record("d-1").processed) == (10, True)
    assert all("authorization" not in visit.headers for visit in ovok_server.visits())


def test_a_storage_that_may_not_be_asked_leaves_the_size_of_a_document_unknown(
    ovok_server: OddOvok, ovok: Ovok
) -> None:
    ovok_server.lists(listed("d-1"), most=100)
    ovok_server.leads("d-1", f"https://files.evil.example/d-1?{SIGNATURE}")
    shown = ovok.record("d-1")
    assert (shown.file_name, shown.size_bytes, shown.processed) == ("referral.pdf", None, None)
    with pytest.raises(AccountBlocked, match=r"files\.evil\.example"):
        ovok.download("d-1", bytes, most_bytes=10)


@pytest.mark.parametrize("query", [{"patient_id": "4711"}, {"sort": "name"}, {"filters": ("a",)}, {"archived": True}])
def test_ovok_is_asked_for_nothing_that_its_pages_do_not_have(
    ovok_server: OddOvok, ovok: Ovok, query: dict[str, Any]
) -> None:
    with pytest.raises(DocumentRefused):
        ovok.check_query(RecordQuery(**query))
    ovok.check_query(RecordQuery(sort="_lastUpdated"))
    assert ovok_server.requests == []


def test_a_new_name_is_all_that_is_changed(ovok_server: OddOvok, ovok: Ovok) -> None:
    ovok_server.answers[f"PATCH {API}/document/d-1"] = Reply(body=listed("d-1", name="new.pdf"))
    assert ovok.rename("d-1", "new.pdf").file_name == "new.pdf"
    assert ovok_server.requests[-1].body == b'{"fileName":"new.pdf"}'


@pytest.mark.parametrize(("status", "raised"), [(404, DocumentRefused), (401, AccountBlocked), (500, RetryLater)])
def test_a_delete_that_is_refused_is_said(
    ovok_server: OddOvok, ovok: Ovok, status: int, raised: type[Exception]
) -> None:
    ovok_server.answers[f"DELETE {API}/document/d-1"] = Reply(status, {"message": "no"})
    with pytest.raises(raised):
        ovok.delete("d-1")
    assert LIST not in ovok_server.paths()
