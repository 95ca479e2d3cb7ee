"""What is special to PracSuite, against answers that the vendor's pages leave possible."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.accounts import PracsuiteAccount
from tasks.http.clients import Clients
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, RetryLater, StepError
from tasks.model.job import Record, Uncertainty
from tasks.model.route import Step
from tasks.providers.pracsuite.client import PracSuite
from tests.tasks.providers.doubles import NO_GATE, NO_OWNERS, DictCache, Slots, connected, job
from tests.tasks.providers.odd_pracsuite import LIST, OddPracSuite
from tests.tasks.providers.odd_server import Reply, Request

PRESIGN = f"POST {LIST}"
FORM = {"url": "https://b.s3.amazonaws.com/", "fields": {"key": "temp/referral.pdf", "Policy": "p"}}


def record(number: object, size: object = 10, **more: Any) -> dict[str, Any]:
    return {"attachment_client_id": number, "file_size": size} | more


def error(code: str, detail: str = "") -> dict[str, Any]:
    return {"error": {"status": 400, "code": code, "detail": detail}, "request_id": "r-1"}


# --- keys ------------------------------------------------------------------------------------------------------------


def test_both_keys_go_with_each_call_and_nothing_else_that_is_secret(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.answers[PRESIGN] = Reply(body=FORM)
    pracsuite.presign(job(), NO_GATE)
    (request,) = odd.requests
    assert request.headers["x-api-key"] == "the-vendor-key"
    assert request.headers["a-api-key"] == "the-clinic-key"
    assert request.headers["user-agent"] == "chartpost"
    assert "cookie" not in request.headers
    assert "authorization" not in request.headers


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_keys_are_never_carried_along_a_redirect(odd: OddPracSuite, pracsuite: PracSuite, status: int) -> None:
    with OddPracSuite() as elsewhere:
        odd.answers[PRESIGN] = Reply(status, headers={"Location": elsewhere.base + LIST})
        with pytest.raises(AccountBlocked, match="redirect"):
            pracsuite.presign(job(), NO_GATE)
        assert elsewhere.requests == []


def test_accounts_with_one_vendor_key_share_a_limit_that_does_not_show_the_key(
    pracsuite: PracSuite, clients: Clients, cache: DictCache, slots: Slots
) -> None:
    def group(vendor_key: str, api_key: str) -> str:
        account = PracsuiteAccount.model_validate(
            {"provider": "pracsuite", "vendor_api_key": vendor_key, "api_key": api_key}
        )
        made = PracSuite("a", account, connected(clients, slots, cache))
        return made.limit_group

    ours = group("the-vendor-key", "the-clinic-key")

    assert group("the-vendor-key", "another") == ours
    assert group("another", "the-clinic-key") != ours
    assert pracsuite.limit_group != ours, "the same keys at another address are another limit"
    assert pracsuite.limit_group.startswith("pracsuite:")
    assert "vendor-key" not in pracsuite.limit_group


# --- before any call -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"patient_id": None}, Code.PATIENT_REQUIRED),
        ({"patient_id": ""}, Code.PATIENT_REQUIRED),
        ({"size_bytes": 0}, Code.FILE_EMPTY),
        ({"size_bytes": 100_000_001}, Code.FILE_TOO_LARGE),
        ({"file_name": "${filename}.pdf"}, Code.INVALID_REQUEST),
        ({"file_name": "a\nb.pdf"}, Code.INVALID_REQUEST),
        ({"file_name": "caf\udce9.pdf"}, Code.INVALID_REQUEST),
        ({"file_name": ""}, Code.INVALID_REQUEST),
        ({"options": {"document_id": "7"}}, Code.INVALID_REQUEST),
        ({"description": "A referral"}, Code.INVALID_REQUEST),
        ({"content_type": "application/pdf"}, Code.INVALID_REQUEST),
    ],
)
def test_what_could_never_arrive_is_refused_without_a_call(
    odd: OddPracSuite, pracsuite: PracSuite, change: dict[str, Any], code: Code
) -> None:
    with pytest.raises(DocumentRefused) as refused:
        pracsuite.check(replace(job().document, **change))
    assert refused.value.code is code
    assert refused.value.hint
    assert odd.requests == []


def test_a_document_of_the_largest_size_passes(pracsuite: PracSuite) -> None:
    pracsuite.check(replace(job().document, size_bytes=100_000_000, file_name="Über weisung (1).pdf"))


# --- presign ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [200, 201, 202])
def test_any_success_with_address_and_fields_is_a_form_whose_fields_keep_their_order(
    odd: OddPracSuite, pracsuite: PracSuite, status: int
) -> None:
    fields = {"key": "temp/a", "Policy": "p", "x-amz-security-token": "t", "a": "1", "B": "2"}
    odd.answers[PRESIGN] = Reply(status, {"url": "https://b/", "fields": fields, "more": [1]})
    form = pracsuite.presign(job(file_name="folder/Über weisung.pdf"), NO_GATE)
    assert form.url == "https://b/"
    assert list(form.fields.items()) == list(fields.items())
    assert odd.requests[0].body.decode() == '{"file_name":"Über weisung.pdf"}'


@pytest.mark.parametrize(
    "body",
    [
        "",
        [],
        {},
        {"url": "https://b/"},
        {"url": None, "fields": {}},
        {"url": 5, "fields": {}},
        {"url": "https://b/", "fields": []},
        {"url": "https://b/", "fields": {"key": 5}},
        {"url": "https://b/", "fields": {"key": None}},
        {"data": FORM},
    ],
)
def test_a_form_of_another_shape_blocks_the_account(odd: OddPracSuite, pracsuite: PracSuite, body: object) -> None:
    odd.answers[PRESIGN] = Reply(body=body)
    with pytest.raises(AccountBlocked, match="answered in a shape that is not understood") as blocked:
        pracsuite.presign(job(), NO_GATE)
    assert not blocked.value.credentials


@pytest.mark.parametrize(
    ("reply", "meant"),
    [
        (Reply(400, error("INVALID_PARAMS")), DocumentRefused),
        (Reply(404, error("NOT_FOUND")), DocumentRefused),
        (Reply(409), DocumentRefused),
        (Reply(422), DocumentRefused),
        (Reply(401, error("UNAUTHORIZED")), AccountBlocked),
        (Reply(403, error("MISSING_AUTHENTICATION_TOKEN")), AccountBlocked),
        (Reply(405), AccountBlocked),
        (Reply(418), AccountBlocked),
        (Reply(429), RetryLater),
        (Reply(500, error("SERVER_ERROR")), RetryLater),
        (Reply(502, "<html>"), RetryLater),
        (Reply(503), RetryLater),
        (Reply(504), RetryLater),
        (Reply(408), RetryLater),
    ],
)
def test_each_status_says_what_happens_next(
    odd: OddPracSuite, pracsuite: PracSuite, reply: Reply, meant: type[StepError]
) -> None:
    odd.answers[PRESIGN] = reply
    with pytest.raises(StepError) as raised:
        pracsuite.presign(job(), NO_GATE)
    assert type(raised.value) is meant


def test_the_providers_words_about_a_refused_document_are_kept_apart(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.answers[PRESIGN] = Reply(404, error("NOT_FOUND", "No patient 4711 Anna Müller"))
    with pytest.raises(DocumentRefused) as refused:
        pracsuite.presign(job(), NO_GATE)
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert refused.value.detail == "NOT_FOUND: No patient 4711 Anna Müller r-1"
    assert refused.value.hint
    assert "Anna" not in "".join(traceback.format_exception(refused.value, limit=0))


@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_of_more_than_an_hour_is_said_kept_to_an_hour_and_is_the_whole_groups(
    odd: OddPracSuite, pracsuite: PracSuite, status: int
) -> None:
    odd.answers[PRESIGN] = Reply(status, headers={"Retry-After": "31536000"})
    with pytest.raises(RetryLater) as later:
        pracsuite.presign(job(), NO_GATE)
    assert (later.value.after_seconds, later.value.throttled) == (3600, True)
    for words in (str(later.value), later.value.group_reason):
        assert "PracSuite asks us to wait until 20" in words
        assert "more than an hour" in words
        assert "`chartpost accounts resume`" in words


@pytest.mark.parametrize(("seconds", "throttled"), [("5", False), ("600", True)])
def test_a_break_that_is_announced_is_the_whole_groups(
    odd: OddPracSuite, pracsuite: PracSuite, seconds: str, throttled: bool
) -> None:
    odd.answers[PRESIGN] = Reply(503, headers={"Retry-After": seconds})
    with pytest.raises(RetryLater) as later:
        pracsuite.presign(job(), NO_GATE)
    assert later.value.throttled is throttled
    assert later.value.unreachable
    assert later.value.group_reason == "PracSuite answered 503."


PAGE = "<!DOCTYPE html><html><head><title>Blocked</title></head></html>"


@pytest.mark.parametrize("status", [400, 403, 404, 451])
def test_a_refusal_that_is_a_page_is_not_pracsuites(odd: OddPracSuite, pracsuite: PracSuite, status: int) -> None:
    page = Reply(status, PAGE, {"Content-Type": "text/html"})
    sent = job(snapshot=())
    odd.answers |= {PRESIGN: page, f"GET {LIST}": page, "GET /v1/patient/0/patient_attachment": page}
    for act in (
        lambda: pracsuite.presign(job(), NO_GATE),
        lambda: pracsuite.find([sent], NO_OWNERS),
        lambda: pracsuite.still_there(sent.document, Record("1")),
        pracsuite.probe,
    ):
        with pytest.raises(AccountBlocked, match=rf"did not come from PracSuite \({status} text/html\)") as blocked:
            act()
        assert blocked.value.by_stranger
        assert not blocked.value.never_the_document


@pytest.mark.parametrize("status", [200, 400, 404])
@pytest.mark.parametrize(
    "body",
    [
        *("", "welcome", "not found", [], PAGE),
        {"message": "no Route matched with those values"},
        {"status": "ok", "errors": []},
        {"error": {"detail": "not here"}},
        {"error": "Not Found", "request_id": "r-1"},
    ],
)
def test_a_probe_is_not_content_with_what_pracsuite_would_not_say(
    odd: OddPracSuite, pracsuite: PracSuite, status: int, body: object
) -> None:
    odd.answers["GET /v1/patient/0/patient_attachment"] = Reply(status, body)
    with pytest.raises(AccountBlocked):
        pracsuite.probe()


@pytest.mark.parametrize("body", ["", [], {"error": 5}, {"error": {"detail": {"a": 1}}}, {"error": {}}])
def test_a_refusal_without_words_is_a_refusal_all_the_same(
    odd: OddPracSuite, pracsuite: PracSuite, body: object
) -> None:
    odd.answers[PRESIGN] = Reply(400, body)
    with pytest.raises(DocumentRefused):
        pracsuite.presign(job(), NO_GATE)


def test_refused_keys_are_told_from_other_faults_of_the_account(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    blocked = []
    for status in (401, 403, 405):
        odd.answers[PRESIGN] = Reply(status)
        with pytest.raises(AccountBlocked) as raised:
            pracsuite.presign(job(), NO_GATE)
        blocked.append(raised.value.credentials)
    assert blocked == [True, True, False]


def test_throttling_is_said_of_the_whole_group_and_an_outage_of_the_provider(
    odd: OddPracSuite, pracsuite: PracSuite
) -> None:
    said = []
    for status in (429, 500, 503):
        odd.answers[PRESIGN] = Reply(status, headers={"Retry-After": "7"})
        with pytest.raises(RetryLater) as raised:
            pracsuite.presign(job(), NO_GATE)
        said.append((raised.value.after_seconds, raised.value.throttled, raised.value.unreachable))
    assert said == [(7, True, False), (7, False, True), (7, False, True)]


# --- the list --------------------------------------------------------------------------------------------------------


def snapshot(pracsuite: PracSuite) -> tuple[str, ...] | None:
    return pracsuite.before_sending(job()).snapshot


@pytest.mark.parametrize(
    "page",
    [
        {"attachment_clients": [record(1), record(2)]},
        {"patient_attachments": [record(1), record(2)], "total_entries": 2, "links": {"self": "x", "next": None}},
        {"items": [record("1"), record("2")], "total_entries": "2", "links": {}},
        {"anything": [record(1), record("2")], "links": None, "notes": [], "total_entries": None},
        {"a": [record(1, links=5, file_size={}), record(2)], "total_entries": "many", "links": [], "meta": {"b": [{}]}},
    ],
)
def test_the_records_are_found_under_any_key_with_ids_of_either_kind(
    odd: OddPracSuite, pracsuite: PracSuite, page: dict[str, Any]
) -> None:
    odd.answers[f"GET {LIST}"] = Reply(body=page)
    assert snapshot(pracsuite) == ("1", "2")


@pytest.mark.parametrize(
    "page",
    [
        {"attachment_clients": []},
        {"anything": [], "total_entries": 0, "links": {"next": None}},
        {"attachment_clients": [], "warnings": []},
    ],
)
def test_an_empty_list_is_understood(odd: OddPracSuite, pracsuite: PracSuite, page: dict[str, Any]) -> None:
    odd.answers[f"GET {LIST}"] = Reply(body=page)
    assert snapshot(pracsuite) == ()


@pytest.mark.parametrize(
    "page",
    [
        "",
        [],
        [record(1)],
        {},
        {"total_entries": 0},
        {"attachment_clients": None},
        {"attachment_clients": {"1": record(1)}},
        {"attachment_clients": [1, 2]},
        {"attachment_clients": [record(1), 2]},
        {"attachment_clients": [record(1)], "others": [record(2)]},
        {"attachment_clients": [], "others": ["a"]},
        {"attachment_clients": [{"id": 1}]},
        {"attachment_clients": [record(None)]},
        {"attachment_clients": [record(True)]},
        {"attachment_clients": [record(1.5)]},
        {"attachment_clients": [record("")]},
        {"attachment_clients": [record(-1)]},
        {"attachment_clients": [record([1])]},
        {"data": {"attachment_clients": [record(1)]}},
    ],
)
def test_a_list_of_another_shape_blocks_the_account(odd: OddPracSuite, pracsuite: PracSuite, page: object) -> None:
    odd.answers[f"GET {LIST}"] = Reply(body=page)
    with pytest.raises(AccountBlocked, match="answered in a shape that is not understood"):
        snapshot(pracsuite)


Shape = Callable[[int, int], dict[str, Any]]


def paged(records: list[dict[str, Any]], size: int, shape: Shape) -> Callable[[Request], Reply]:
    def answer(request: Request) -> Reply:
        page = int(request.query.get("page", ["1"])[0])
        shown = records[(page - 1) * size : page * size]
        return Reply(body={"attachment_clients": shown} | shape(page, -(-len(records) // size)))

    return answer


def with_links(base: str, path: str = LIST) -> Shape:
    def shape(page: int, last: int) -> dict[str, Any]:
        following = f"{base}{path}?page={page + 1}&page_size=100" if page < last else None
        return {"links": {"self": "x", "next": following}}

    return shape


def with_total(total: int) -> Shape:
    return lambda page, last: {"total_entries": total}


RECORDS = [record(number) for number in range(1, 8)]
IDS = tuple(str(number) for number in range(1, 8))


def test_pages_are_followed_by_their_links(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.answers[f"GET {LIST}"] = paged(RECORDS, 3, with_links(odd.base))
    assert snapshot(pracsuite) == IDS
    assert [request.query["page"] for request in odd.requests] == [["1"], ["2"], ["3"]]
    assert odd.requests[0].query["page_size"] == ["100"]


def test_a_cursor_in_the_link_is_passed_on(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    def answer(request: Request) -> Reply:
        after = int(request.query.get("after", ["0"])[0])
        following = f"{odd.base}{LIST}?after={after + 1}&sort=a%20b" if after < 2 else None
        return Reply(body={"list": [record(after)], "links": {"next": following}})

    odd.answers[f"GET {LIST}"] = answer
    assert snapshot(pracsuite) == ("0", "1", "2")
    assert odd.requests[1].query == {"after": ["1"], "sort": ["a b"]}


@pytest.mark.parametrize(
    "path", ["/v1/patient/4711/patient_attachments", "/v1/patient/4712/patient_attachment", "/v2/x"]
)
def test_a_link_to_another_path_is_not_followed_but_counted_as_a_next_page(
    odd: OddPracSuite, pracsuite: PracSuite, path: str
) -> None:
    odd.answers[f"GET {LIST}"] = paged(RECORDS, 3, with_links(odd.base, path))
    assert snapshot(pracsuite) == IDS
    assert set(odd.paths()) == {f"GET {LIST}"}


@pytest.mark.parametrize(
    "link", ["{}" + LIST + "?page=3", "{}", "//elsewhere/x", "javascript:x", "http://[", "http://a:b/", "?page=2"]
)
def test_a_link_elsewhere_is_not_followed_and_sees_no_key(odd: OddPracSuite, pracsuite: PracSuite, link: str) -> None:
    with OddPracSuite() as elsewhere:
        odd.answers[f"GET {LIST}"] = paged(
            RECORDS, 4, lambda page, last: {"links": {"next": link.format(elsewhere.base) if page < last else None}}
        )
        assert snapshot(pracsuite) == IDS
        assert elsewhere.requests == []


def test_pages_are_turned_by_number_where_only_a_total_is_given(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.answers[f"GET {LIST}"] = paged(RECORDS, 3, with_total(7))
    assert snapshot(pracsuite) == IDS
    assert len(odd.requests) == 3


def test_pages_are_turned_until_nothing_new_comes_where_nothing_is_said(
    odd: OddPracSuite, pracsuite: PracSuite
) -> None:
    odd.answers[f"GET {LIST}"] = paged(RECORDS, 3, lambda page, last: {})
    assert snapshot(pracsuite) == IDS


def test_a_list_that_ignores_page_numbers_is_read_once_and_believed(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.lists(*RECORDS)
    assert snapshot(pracsuite) == IDS


def test_a_record_removed_while_pages_are_turned_makes_the_list_be_read_again_after_a_pause(
    odd: OddPracSuite, pracsuite: PracSuite, cache: DictCache
) -> None:
    records = [record(number) for number in range(1, 8)]

    def answer(request: Request) -> Reply:
        reply = paged(records, 3, with_total(len(records)))(request)
        if len(odd.requests) == 1:
            records.pop(0)  # what was the fourth is now on the page that was just read
        return reply

    odd.answers[f"GET {LIST}"] = answer
    for _ in range(2):
        with pytest.raises(RetryLater, match="does not add up"):
            snapshot(pracsuite)
    assert len(odd.requests) == 3, "not again before the pause is over"
    cache.pass_seconds(4)
    assert snapshot(pracsuite) == IDS[1:]


def test_a_record_added_while_pages_are_turned_does_no_harm(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    records = [record(number) for number in range(1, 8)]

    def answer(request: Request) -> Reply:
        reply = paged(records, 3, with_total(len(records)))(request)
        if len(odd.requests) == 1:
            records.insert(0, record(99))
        return reply

    odd.answers[f"GET {LIST}"] = answer
    assert set(snapshot(pracsuite) or ()) >= set(IDS)
    assert len(odd.requests) == 3


def test_a_list_without_end_is_the_documents_trouble_alone(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    def answer(request: Request) -> Reply:
        return Reply(body={"a": [record(len(odd.requests))], "links": {"next": f"{odd.base}{LIST}?page=2"}})

    odd.answers[f"GET {LIST}"] = answer
    with pytest.raises(DocumentRefused, match="pages") as refused:
        snapshot(pracsuite)
    assert refused.value.code is Code.GAVE_UP
    assert len(odd.requests) == 1000


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["attachment_client_id", "file_size", "links", "next", "total_entries", "a"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(json_values)
def test_no_list_raises_anything_but_our_errors(odd: OddPracSuite, pracsuite: PracSuite, page: object) -> None:
    odd.answers[f"GET {LIST}"] = Reply(body=page)
    try:
        found = pracsuite.find([job(snapshot=())], NO_OWNERS)
    except StepError:
        return
    assert found == {}


# --- the snapshot ----------------------------------------------------------------------------------------------------


def test_one_listing_serves_all_documents_of_a_patient_that_start_together(
    odd: OddPracSuite, pracsuite: PracSuite, cache: DictCache
) -> None:
    odd.lists(record(1), total_entries=1)
    first, second = pracsuite.before_sending(job()), pracsuite.before_sending(job(file_name="b.pdf"))
    assert first.snapshot == second.snapshot == ("1",)
    assert len(odd.requests) == 1
    assert max(cache.seconds) <= 5


def test_another_patients_listing_is_another(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.lists(record(1), total_entries=1)
    odd.answers["GET /v1/patient/4712/patient_attachment"] = Reply(body={"a": [record(2)], "total_entries": 1})
    pracsuite.before_sending(job())
    assert pracsuite.before_sending(job(patient_id="4712")).snapshot == ("2",)


def test_a_job_that_was_sent_before_keeps_the_snapshot_from_before_it_was_sent(
    odd: OddPracSuite, pracsuite: PracSuite
) -> None:
    """Its own record may have appeared since."""
    odd.lists(record(1), record(2))
    assert pracsuite.before_sending(job(snapshot=("1",))).snapshot == ("1",)
    assert odd.requests == []


def test_an_empty_snapshot_is_a_snapshot(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    assert pracsuite.before_sending(job(snapshot=())).snapshot == ()
    assert odd.requests == []


def test_an_unknown_patient_is_refused_before_anything_is_sent(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.answers[f"GET {LIST}"] = Reply(404, error("NOT_FOUND"))
    with pytest.raises(DocumentRefused, match="no such patient"):
        snapshot(pracsuite)


# --- matching --------------------------------------------------------------------------------------------------------


def found(pracsuite: PracSuite, *jobs: Any, owners: Mapping[str, str] = NO_OWNERS) -> dict[str, str]:
    """What is proven."""
    return {job_id: found.record.id for job_id, found in pracsuite.find(jobs, owners).items() if not found.doubt}


def test_a_new_record_of_our_size_and_name_is_ours(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.lists(record(1), record(2), record(3, size=11), record(4))
    odd.names(a2="other.pdf", a4="referral.pdf")
    ours = job(snapshot=("1",))
    assert found(pracsuite, ours) == {ours.id: "4"}
    assert odd.paths()[-2:] == ["GET /v1/patient_attachment/2/presign_url", "GET /v1/patient_attachment/4/presign_url"]


@pytest.mark.parametrize("size", [10, "10", None, "10 B", {}, "absent"])
def test_a_size_may_be_text_or_missing(odd: OddPracSuite, pracsuite: PracSuite, size: object) -> None:
    listed = {"attachment_client_id": 2} if size == "absent" else record(2, size)
    odd.lists(listed)
    odd.names(a2="referral.pdf")
    ours = job(snapshot=())
    assert found(pracsuite, ours) == {ours.id: "2"}


@pytest.mark.parametrize("size", [9, 11, "11", 0])
def test_a_record_of_another_size_is_not_ours_and_costs_no_call(
    odd: OddPracSuite, pracsuite: PracSuite, size: object
) -> None:
    odd.lists(record(2, size), total_entries=1)
    assert found(pracsuite, job(snapshot=())) == {}
    assert len(odd.requests) == 1


def test_a_record_that_was_there_before_is_never_ours(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.lists(record(1, file_name="referral.pdf"))
    assert found(pracsuite, job(snapshot=("1",))) == {}


def test_a_job_without_a_snapshot_matches_nothing(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.lists(record(1, file_name="referral.pdf"))
    assert found(pracsuite, job()) == {}


def test_a_record_that_proves_another_job_is_not_ours_but_our_own_stays_ours(
    odd: OddPracSuite, pracsuite: PracSuite
) -> None:
    odd.lists(record(1, file_name="referral.pdf"))
    ours = job(snapshot=())
    assert found(pracsuite, ours, owners={"1": "another"}) == {}
    assert found(pracsuite, ours, owners={"1": ours.id}) == {ours.id: "1"}


def test_one_record_is_never_given_to_two_jobs(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.lists(record(1, file_name="referral.pdf"))
    first, second = job(snapshot=()), job(snapshot=())
    assert found(pracsuite, second, first) == {first.id: "1"}
    odd.lists(record(1, file_name="referral.pdf"), record(2, file_name="referral.pdf"))
    assert sorted(found(pracsuite, second, first).values()) == ["1", "2"]


def test_one_listing_serves_all_jobs_of_a_patient(odd: OddPracSuite, pracsuite: PracSuite, slots: Slots) -> None:
    odd.lists(*(record(number, size=number) for number in range(1, 21)), total_entries=20)
    odd.names(**{f"a{number}": f"{number}.pdf" for number in range(1, 21)})
    jobs = [job(file_name=f"{number}.pdf", size_bytes=number, snapshot=()) for number in range(1, 21)]
    assert found(pracsuite, *jobs) == {each.id: str(each.document.size_bytes) for each in jobs}
    assert slots.calls == 1 + 20


def test_each_candidate_is_asked_for_its_name_once_however_often_we_search(
    odd: OddPracSuite, pracsuite: PracSuite
) -> None:
    odd.lists(record(1), record(2), total_entries=2)
    odd.names(a1="other.pdf", a2=None)
    ours, another = job(snapshot=()), job(snapshot=(), file_name="third.pdf")
    for _ in range(3):
        assert found(pracsuite, ours, another) == {}
    assert odd.paths().count("GET /v1/patient_attachment/1/presign_url") == 1
    assert odd.paths().count("GET /v1/patient_attachment/2/presign_url") == 1


@pytest.mark.parametrize("field", ["file_name", "name"])
def test_a_name_in_the_record_saves_the_call(odd: OddPracSuite, pracsuite: PracSuite, field: str) -> None:
    odd.lists(record(1, **{field: "referral.pdf"}), total_entries=1)
    ours = job(snapshot=())
    assert found(pracsuite, ours) == {ours.id: "1"}
    assert len(odd.requests) == 1


def test_a_record_whose_name_field_means_something_else_is_asked_about(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.lists(record(1, name="uploaded by Dr. Who"))
    odd.names(a1="referral.pdf")
    ours = job(snapshot=())
    assert found(pracsuite, ours) == {ours.id: "1"}


def test_a_file_name_in_the_record_that_is_another_is_believed(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.lists(record(1, file_name="other.pdf"), total_entries=1)
    assert found(pracsuite, job(snapshot=())) == {}
    assert len(odd.requests) == 1


def test_names_that_differ_only_in_how_letters_are_composed_are_the_same(
    odd: OddPracSuite, pracsuite: PracSuite
) -> None:
    odd.lists(record(1))
    odd.names(a1="U\u0308ber.pdf")
    ours = job(snapshot=(), file_name="\u00dcber.pdf")
    assert found(pracsuite, ours) == {ours.id: "1"}


@pytest.mark.parametrize("status", [400, 404])
def test_a_record_that_is_gone_again_is_no_candidate(odd: OddPracSuite, pracsuite: PracSuite, status: int) -> None:
    odd.lists(record(1), record(2))
    odd.names(a2="referral.pdf")
    odd.answers["GET /v1/patient_attachment/1/presign_url"] = Reply(status)
    ours = job(snapshot=())
    assert found(pracsuite, ours) == {ours.id: "2"}


@pytest.mark.parametrize("body", ["", [], {}, {"file_name": 5}, {"name": "referral.pdf"}])
def test_a_name_answered_in_another_shape_blocks_the_account(
    odd: OddPracSuite, pracsuite: PracSuite, body: object
) -> None:
    odd.lists(record(1))
    odd.answers["GET /v1/patient_attachment/1/presign_url"] = Reply(body=body)
    with pytest.raises(AccountBlocked, match="shape"):
        found(pracsuite, job(snapshot=()))


def test_what_is_found_before_the_slots_run_out_is_not_lost(
    odd: OddPracSuite, pracsuite: PracSuite, slots: Slots
) -> None:
    odd.lists(record(1), record(2, size=20), total_entries=2)
    odd.names(a1="referral.pdf", a2="second.pdf")
    first, second = job(snapshot=()), job(snapshot=(), size_bytes=20, file_name="second.pdf")
    slots.free = 2
    assert found(pracsuite, first, second) == {first.id: "1"}
    slots.free = 1
    with pytest.raises(RetryLater, match="slot"):
        found(pracsuite, second)
    slots.free = 2
    assert found(pracsuite, second) == {second.id: "2"}


def test_a_search_without_every_name_proves_nothing_for_a_document_that_might_be_sent_again(
    odd: OddPracSuite, pracsuite: PracSuite, slots: Slots
) -> None:
    odd.lists(record(1), record(2, size=20), total_entries=2)
    odd.names(a1="referral.pdf", a2="second.pdf")
    first, second = job(snapshot=()), job(snapshot=(), size_bytes=20, file_name="second.pdf")
    unseen = replace(second, uncertainty=Uncertainty(unknown_step=Step.POST))
    slots.free = 2
    with pytest.raises(RetryLater, match="slot"):
        found(pracsuite, first, unseen)
    slots.free = 2
    assert found(pracsuite, first, unseen) == {first.id: "1", second.id: "2"}


def test_a_patient_who_is_gone_after_the_upload_is_not_yet_the_end_of_the_document(
    odd: OddPracSuite, pracsuite: PracSuite
) -> None:
    odd.answers[f"GET {LIST}"] = Reply(404)
    assert found(pracsuite, job(snapshot=())) == {}


@pytest.mark.parametrize("said", [None, 5, "https://elsewhere.example/x", "/v1/patient_attachment/7"])
def test_a_records_address_is_its_own_link_or_else_made_from_its_id(
    odd: OddPracSuite, pracsuite: PracSuite, said: object
) -> None:
    odd.lists(record(7, file_name="referral.pdf", links={"self": said}))
    ours = job(snapshot=())
    assert pracsuite.find([ours], {})[ours.id].record == Record("7", f"{odd.base}/v1/patient_attachment/7")
    odd.lists(record(7, file_name="referral.pdf", links={"self": f"{odd.base}/v1/elsewhere/7"}))
    assert pracsuite.find([ours], {})[ours.id].record == Record("7", f"{odd.base}/v1/elsewhere/7")


# --- still there, and well -------------------------------------------------------------------------------------------


def test_a_record_stands_while_the_patients_list_has_it(odd: OddPracSuite, pracsuite: PracSuite) -> None:
    odd.lists(record(1))
    assert pracsuite.still_there(job().document, Record("1"))
    assert not pracsuite.still_there(job().document, Record("2"))
    odd.answers[f"GET {LIST}"] = Reply(404)
    assert not pracsuite.still_there(job().document, Record("1"))


@pytest.mark.parametrize(
    ("status", "meant"),
    [
        (200, None),
        (404, None),
        (400, None),
        (401, AccountBlocked),
        (403, AccountBlocked),
        (429, RetryLater),
        (503, RetryLater),
    ],
)
def test_a_probe_needs_no_patient_and_tells_whether_the_account_is_well(
    odd: OddPracSuite, pracsuite: PracSuite, status: int, meant: type[StepError] | None
) -> None:
    body = {"attachment_clients": [], "total_entries": 0} if status == 200 else error("NOT_FOUND")
    odd.answers["GET /v1/patient/0/patient_attachment"] = Reply(status, body)
    if meant is None:
        pracsuite.probe()
    else:
        with pytest.raises(meant):
            pracsuite.probe()
    assert len(odd.requests) == 1
