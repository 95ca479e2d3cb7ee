"""What is special to Ovok, against answers that the vendor's pages leave possible, and at the sandbox."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
import traceback
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from config.accounts import OvokAccount
from tasks.http.clients import Clients
from tasks.http.provider_clock import ProviderClock
from tasks.model.document import Document
from tasks.model.errors import AccountBlocked, Code, DocumentRefused, OutcomeUnknown, RetryLater, StepError
from tasks.model.job import Assurance, Counts, Facts, Job, Record, Stored, Uncertainty
from tasks.model.route import Stage, Step
from tasks.providers.base import Found
from tasks.providers.ovok.client import Ovok
from tests.harness.sandbox import SandboxProcess
from tests.tasks.providers.at_work import AtWork, fresh
from tests.tasks.providers.doubles import NO_OWNERS, THEN, CountingGate, DictCache, Slots, clock_ahead, connected, job
from tests.tasks.providers.odd_ovok import (
    API,
    CREATE,
    FHIR,
    LIST,
    LOGIN,
    NO_SUCH_KEY,
    REFRESH,
    STAFF,
    OddOvok,
    entry,
    listed,
    md5,
    refreshed,
    session,
)
from tests.tasks.providers.odd_server import OddServer, Reply, Request

CONTENT = "0123456789"
PASSWORD = "the-password"
HOUR = 3600.0
WRONG_CLOCKS = [HOUR, -HOUR, 40 * 24 * HOUR, -40 * 24 * HOUR]


@pytest.fixture
def odd() -> Iterator[OddOvok]:
    with OddOvok() as server:
        yield server


class Making:
    """Makes clients of an odd Ovok that share one cache."""

    def __init__(self, odd: OddOvok, clients: Clients, cache: DictCache, slots: Slots) -> None:
        self._odd, self._clients, self._cache, self._slots = odd, clients, cache, slots

    def __call__(self, clock: ProviderClock | None = None, **changed: Any) -> Ovok:
        said = {
            "provider": "ovok",
            "base_url": self._odd.base + API,
            "email": "worker@clinic.example",
            "password": PASSWORD,
            "client_id": "the-client",
            "insecure": True,
            "set_patient": False,  # what patients add is in test_ovok_patients.py
        }
        account = OvokAccount.model_validate(said | changed)
        connection = connected(self._clients, self._slots, self._cache, insecure=account.insecure, clock=clock)
        return Ovok("ovok_clinic", account, connection)


@pytest.fixture
def making(odd: OddOvok, clients: Clients, cache: DictCache, slots: Slots) -> Making:
    return Making(odd, clients, cache, slots)


@pytest.fixture
def ovok(making: Making) -> Ovok:
    return making()


def document(**changed: Any) -> Document:
    return replace(job(patient_id=None, account="ovok_clinic").document, **changed)


def sending(into: str | None = None, **facts: Any) -> Job:
    """A job of ten bytes, for a document of its own or into another."""
    made = job(patient_id=None, account="ovok_clinic", **facts)
    options = {} if into is None else {"document_id": into}
    return replace(made, provider="ovok", document=replace(made.document, options=options))


def stored(content: str = CONTENT, etag: str | None = "", *, verified: bool = True) -> Stored:
    """What storage acknowledged of an upload."""
    raw = content.encode()
    etag = md5(content) if etag == "" else etag
    return Stored("b/d-1", etag, verified, hashlib.sha256(raw).hexdigest(), md5(content))


def presigned(ovok: Ovok, job: Job) -> Any:
    return ovok.presign(job, CountingGate())


def found(ovok: Ovok, job: Job, **owners: str) -> Found | None:
    return ovok.find([job], owners).get(job.id)


def tokens(odd: OddServer, path: str) -> list[str]:
    """The tokens with which calls came, in order."""
    return [each.headers["authorization"] for each in odd.requests if f"{each.method} {each.path}" == path]


# --- login and refresh -----------------------------------------------------------------------------------------------


def test_a_login_serves_all_calls_and_all_workers(odd: OddOvok, making: Making) -> None:
    odd.lists()
    for worker in (making(), making()):
        worker.probe()
        worker.probe()
    assert odd.paths() == [LOGIN, *[LIST] * 4]
    assert json.loads(odd.requests[0].body) == {
        "email": "worker@clinic.example",
        "password": PASSWORD,
        "clientId": "the-client",
    }
    assert "authorization" not in odd.requests[0].headers
    assert set(tokens(odd, LIST)) == {"Bearer token-1"}
    assert odd.requests[1].query["_count"] == ["1"]


def staff_begins(odd: OddOvok, **more: Any) -> None:
    odd.answers[f"{STAFF}/start"] = Reply(body={"sessionCode": "the-code", "nextStep": "token"} | more)
    odd.answers[f"{STAFF}/token"] = Reply(body=session())


def profiles(*codes: str) -> list[dict[str, Any]]:
    return [{"tenantCode": code, "profile": {"id": "1"}} for code in codes]


@pytest.mark.parametrize(
    ("settings", "answer", "tenant"),
    [
        ({}, {"tenantCode": "north"}, "north"),  # as the vendor's page has it
        ({}, {"profiles": profiles("north")}, "north"),  # as callers have seen it
        ({"tenant": "south"}, {"profiles": profiles("north", "south")}, "south"),
        ({"tenant": "south"}, {}, "south"),
    ],
)
def test_staff_log_in_with_a_proof_that_they_have_begun(
    odd: OddOvok, making: Making, settings: dict[str, Any], answer: dict[str, Any], tenant: str
) -> None:
    """PKCE: RFC 7636."""
    odd.lists()
    staff_begins(odd, **answer)
    making(login="staff", client_id="", **settings).probe()
    assert odd.paths() == [f"{STAFF}/start", f"{STAFF}/token", LIST]
    began, proved = (json.loads(request.body) for request in odd.requests[:2])
    digest = hashlib.sha256(proved.pop("codeVerifier").encode()).digest()
    challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    assert began == {
        "email": "worker@clinic.example",
        "password": PASSWORD,
        "codeChallenge": challenge,
        "codeChallengeMethod": "S256",
    }
    assert proved == {"sessionCode": "the-code", "tenantCode": tenant}


@pytest.mark.parametrize(
    ("settings", "answer", "named"),
    [
        ({}, {"nextStep": "mfa", "tenantCode": "north"}, "second factor"),
        ({}, {"profiles": profiles("north", "south")}, r"north, south"),
        ({}, {}, "tenant"),
        ({"tenant": "east"}, {"profiles": profiles("north")}, "north"),
        ({}, {"profiles": profiles("<Meier>", "north")}, r"\(north\)"),
    ],
)
def test_a_staff_login_that_cannot_go_on_says_why(
    odd: OddOvok, making: Making, settings: dict[str, Any], answer: dict[str, Any], named: str
) -> None:
    staff_begins(odd, **answer)
    with pytest.raises(AccountBlocked, match=named) as blocked:
        making(login="staff", client_id="", **settings).probe()
    assert blocked.value.credentials
    assert_quotes_no_secret(blocked.value)


def test_b2b_users_log_in_with_their_tenant_and_are_refreshed_as_all_are(odd: OddOvok, making: Making) -> None:
    odd.lists()
    odd.answers |= {f"POST {API}/auth/b2b/login": Reply(body=session()), REFRESH: Reply(body=refreshed(2))}
    ovok = making(login="b2b", tenant="the-tenant")
    ovok.probe()
    assert json.loads(odd.requests[0].body)["tenantId"] == "the-tenant"
    assert json.loads(odd.requests[0].body)["clientId"] == "the-client"
    answers = [Reply(401), Reply(body={"resources": []})]
    odd.answers[LIST] = lambda request: answers.pop(0)
    ovok.probe()
    assert tokens(odd, LIST) == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


def test_another_login_has_another_session(odd: OddOvok, making: Making) -> None:
    odd.lists()
    making().probe()
    making(password="another").probe()
    assert odd.paths().count(LOGIN) == 2


def test_a_token_that_ran_out_is_refreshed_and_the_refresh_token_changes_each_time(odd: OddOvok, ovok: Ovok) -> None:
    odd.lists()
    odd.answers[LOGIN] = Reply(body=session(1, expiresIn=1))
    ovok.probe()
    for number in (2, 3):
        odd.answers[REFRESH] = Reply(body=refreshed(number, expires_in=1))
        threading.Event().wait(0.6)
        ovok.probe()
    assert tokens(odd, LIST) == ["Bearer token-1", "Bearer token-2", "Bearer token-3"]
    sent = [json.loads(each.body) for each in odd.requests if each.path.endswith("refresh-token")]
    assert sent == [{"refresh_token": "refresh-1"}, {"refresh_token": "refresh-2"}]


def refusing(*refused: str) -> Any:
    """A list that does not take these tokens."""

    def answer(request: Request) -> Reply:
        token = request.headers["authorization"].removeprefix("Bearer ")
        return Reply(401) if token in refused else Reply(body={"resources": []})

    return answer


def test_a_token_that_is_refused_is_refreshed_once(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers |= {LIST: refusing("token-1"), REFRESH: Reply(body=refreshed(2))}
    ovok.probe()
    ovok.probe()
    assert odd.paths() == [LOGIN, LIST, REFRESH, LIST, LIST]


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_refresh_that_is_refused_is_followed_by_a_login(odd: OddOvok, ovok: Ovok, status: int) -> None:
    logins = iter((session(1), session(2)))
    odd.answers |= {LIST: refusing("token-1"), REFRESH: Reply(status), LOGIN: lambda _: Reply(body=next(logins))}
    ovok.probe()
    assert odd.paths() == [LOGIN, LIST, REFRESH, LOGIN, LIST]


def test_a_refreshed_token_that_is_refused_is_followed_by_a_login(odd: OddOvok, ovok: Ovok) -> None:
    logins = iter((session(1), session(3)))
    odd.answers[LIST] = refusing("token-1", "token-2")
    odd.answers |= {REFRESH: Reply(body=refreshed(2)), LOGIN: lambda _: Reply(body=next(logins))}
    ovok.probe()
    assert odd.paths() == [LOGIN, LIST, REFRESH, LIST, LOGIN, LIST]


def test_tokens_that_are_all_refused_block_the_account(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers |= {LIST: Reply(401), REFRESH: Reply(body=refreshed(2))}
    with pytest.raises(AccountBlocked) as blocked:
        ovok.probe()
    assert blocked.value.credentials
    assert len(odd.requests) == 6


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
def test_a_login_that_is_refused_blocks_the_account_until_it_is_taken(odd: OddOvok, ovok: Ovok, status: int) -> None:
    odd.lists()
    odd.answers[LOGIN] = Reply(status, {"message": f"no {PASSWORD}"})
    for act in (ovok.probe, lambda: presigned(ovok, sending()), lambda: found(ovok, sending(record=Record("d")))):
        with pytest.raises(AccountBlocked, match="email, password, client_id") as blocked:
            act()
        assert blocked.value.credentials
        assert_quotes_no_secret(blocked.value)
    odd.answers[LOGIN] = Reply(body=session())
    ovok.probe()


def assert_quotes_no_secret(error: BaseException) -> None:
    said = "".join(traceback.format_exception(error))
    shown = [line for line in said.splitlines() if "Error" in line or "Blocked" in line or "Refused" in line]
    for secret in (PASSWORD, "worker@", "the-client", "token-1", "refresh-1", "public.token"):
        assert secret not in str(error)
        assert not any(secret in line for line in shown)


@pytest.mark.parametrize(("status", "throttled"), [(429, True), (500, False), (503, False), (0, False)])
@pytest.mark.parametrize("path", [LOGIN, REFRESH])
def test_a_login_that_is_not_answered_is_no_refusal(
    odd: OddOvok, ovok: Ovok, path: str, status: int, throttled: bool
) -> None:
    odd.answers[LIST] = Reply(401)
    odd.answers[path] = Reply(status, headers={"Retry-After": "7"})
    with pytest.raises(RetryLater) as later:
        ovok.probe()
    assert later.value.throttled is throttled
    assert later.value.unreachable is not throttled


@pytest.mark.parametrize(
    "body",
    [
        "",
        [],
        {},
        {"accessToken": ""},
        {"accessToken": None},
        {"accessToken": 5},
        {"accessToken": "two words"},
        {"accessToken": "line\r\nX-Evil: 1"},
        {"accessToken": "ümlaut"},
        {"token": "t"},
    ],
)
def test_a_session_of_another_shape_blocks_the_account(odd: OddOvok, ovok: Ovok, body: object) -> None:
    odd.lists()
    odd.answers[LOGIN] = Reply(body=body)
    with pytest.raises(AccountBlocked, match="answered in a shape that is not understood") as blocked:
        ovok.probe()
    assert "Evil" not in str(blocked.value)
    assert odd.paths() == [LOGIN]


@pytest.mark.parametrize("said", [3600, 3600.5, "3600", None, "soon", True, -1, 0, [], 10**40, "9" * 50])
def test_how_long_a_session_is_good_may_be_said_in_many_ways(odd: OddOvok, ovok: Ovok, said: object) -> None:
    odd.lists()
    odd.answers[LOGIN] = Reply(body=session(expiresIn=said, refreshToken=said))
    ovok.probe()
    ovok.probe()
    assert odd.paths() == [LOGIN, LIST, LIST]


def test_only_one_worker_refreshes(odd: OddOvok, making: Making) -> None:
    taken: list[str] = []

    def refresh(request: Request) -> Reply:
        taken.append(json.loads(request.body)["refresh_token"])
        threading.Event().wait(0.1)
        return Reply(body=refreshed(2)) if len(taken) == 1 else Reply(401)

    odd.answers |= {LIST: refusing("token-1"), REFRESH: refresh}
    workers = [making() for _ in range(6)]
    workers[0]._api._tokens.current()
    threads = [threading.Thread(target=worker.probe) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken == ["refresh-1"]
    assert odd.paths().count(LOGIN) == 1


def test_a_limit_is_a_logins_at_one_address_and_shows_neither(ovok: Ovok, making: Making) -> None:
    assert making(password="another").limit_group == ovok.limit_group
    assert making(email="another@clinic.example").limit_group != ovok.limit_group
    assert making(base_url="https://api.ovok.com").limit_group != ovok.limit_group
    assert ovok.limit_group.startswith("ovok:")
    assert "clinic" not in ovok.limit_group


# --- before any call -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changed", "code", "named"),
    [
        ({"size_bytes": 0}, Code.FILE_EMPTY, "empty"),
        ({"size_bytes": 100_000_001}, Code.FILE_TOO_LARGE, "at most 100000000"),
        ({"file_name": "${filename}.pdf"}, Code.INVALID_REQUEST, "filename"),
        ({"content_type": "no type"}, Code.UNSUPPORTED_TYPE, "media type"),
        ({"options": {"document_id": ""}}, Code.INVALID_REQUEST, "document_id"),
        ({"options": {"document_id": None}}, Code.INVALID_REQUEST, "document_id"),
        ({"options": {"document_id": 5}}, Code.INVALID_REQUEST, "document_id"),
        ({"options": {"document_id": ".."}}, Code.INVALID_REQUEST, "document_id"),
        ({"options": {"document_id": "a/b"}}, Code.INVALID_REQUEST, "document_id"),
        ({"options": {"document_id": "a\n"}}, Code.INVALID_REQUEST, "document_id"),
        ({"options": {"document_id": "x" * 129}}, Code.INVALID_REQUEST, "document_id"),
        ({"options": {"documentId": "d-1"}}, Code.INVALID_REQUEST, "document_id"),
        ({"options": {"Anna Berg": "d-1"}}, Code.INVALID_REQUEST, "not known"),
    ],
)
def test_what_could_never_arrive_is_refused_without_a_call(
    odd: OddOvok, ovok: Ovok, changed: dict[str, Any], code: Code, named: str
) -> None:
    with pytest.raises(DocumentRefused, match=named) as refused:
        ovok.check(document(**changed))
    assert refused.value.code is code
    assert refused.value.hint
    assert "Anna" not in str(refused.value)
    assert odd.requests == []


def test_a_document_needs_no_patient_and_may_go_into_another(ovok: Ovok) -> None:
    ovok.check(document(size_bytes=100_000_000, file_name="Über weisung (1).pdf"))
    ovok.check(document(options={"document_id": "87ea5dfc-8b8e-384d-8489-79496e706390"}))


# --- create and replace ----------------------------------------------------------------------------------------------


def test_a_create_says_name_and_type_and_nothing_else(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers[CREATE] = Reply(body=entry())
    gate, made = CountingGate(), sending()
    named = replace(made, document=replace(made.document, file_name="Über weisung.pdf"))
    form = ovok.presign(named, gate)
    assert json.loads(odd.requests[-1].body) == {"fileName": "Über weisung.pdf", "contentType": "application/pdf"}
    assert odd.requests[-1].headers["content-type"] == "application/json"
    assert gate.commits == 1
    assert form.url == "https://s3.eu-central-1.amazonaws.com/s"
    assert list(form.fields.items()) == [("bucket", "s"), ("key", "b/d-1")]
    assert form.record == Record("d-1", f"{odd.base}{API}/document/d-1")
    assert "public" not in repr(form)


@pytest.mark.parametrize(
    ("status", "meant", "words"),
    [
        (400, DocumentRefused, "file name or the media type"),
        (422, DocumentRefused, "file name or the media type"),
        (413, DocumentRefused, "too large"),
        (401, AccountBlocked, "email, password"),
        (403, AccountBlocked, "may do"),
        (404, AccountBlocked, "base_url"),
        (405, AccountBlocked, "not foreseen"),
        (302, AccountBlocked, "redirect"),
        (408, RetryLater, "408"),
        (429, RetryLater, "too many"),
        (500, OutcomeUnknown, "500"),
        (502, OutcomeUnknown, "502"),
        (503, OutcomeUnknown, "503"),
        (504, OutcomeUnknown, "504"),
        (0, OutcomeUnknown, "did not answer"),
    ],
)
def test_each_answer_to_a_create_has_its_meaning(
    odd: OddOvok, ovok: Ovok, status: int, meant: type[StepError], words: str
) -> None:
    body = {"message": "Berg's file eyJhbGciOiJI.eyJpYXQiOjE3.PO6ZkOtyOEug and https://s3/?X-Amz-Signature=secret&x=1"}
    odd.answers |= {CREATE: Reply(status, body), REFRESH: Reply(401)}
    with pytest.raises(meant, match=words) as raised:
        presigned(ovok, sending())
    assert "Berg" not in str(raised.value)
    assert_quotes_no_secret(raised.value)
    if isinstance(raised.value, DocumentRefused):
        assert raised.value.code is Code.REFUSED_BY_PROVIDER
        assert raised.value.hint
        assert "Berg's file …" in raised.value.detail
        assert "eyJ" not in raised.value.detail
        assert "secret" not in raised.value.detail
    if isinstance(raised.value, AccountBlocked):
        assert raised.value.credentials is (status in (401, 403))


def test_the_providers_words_are_cut(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers[CREATE] = Reply(
        400, "x " * 990 + "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpYXQiOjE3NzkzNTA5NzEs.PO6ZkO" + "x " * 9999
    )
    with pytest.raises(DocumentRefused) as refused:
        presigned(ovok, sending())
    assert 0 < len(refused.value.detail) <= 2048
    assert "eyJ" not in refused.value.detail, "a token is not cut in two, but left out"


@pytest.mark.parametrize(
    ("status", "meant"),
    [
        (400, DocumentRefused),
        (404, DocumentRefused),
        (422, DocumentRefused),
        (401, AccountBlocked),
        (403, AccountBlocked),
        (429, RetryLater),
        (500, RetryLater),
        (503, RetryLater),
        (0, RetryLater),
    ],
)
def test_each_answer_to_a_replace_has_its_meaning_and_none_leaves_a_doubt(
    odd: OddOvok, ovok: Ovok, status: int, meant: type[StepError]
) -> None:
    odd.answers |= {f"{CREATE}/d-9": Reply(status, "no"), REFRESH: Reply(401)}
    gate = CountingGate()
    with pytest.raises(meant):
        ovok.presign(sending("d-9"), gate)
    assert gate.commits == 0
    assert CREATE not in odd.paths()


def test_a_replacement_goes_into_the_document_that_is_named_and_makes_none(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers[f"{CREATE}/d-9"] = Reply(body=entry("d-9"))
    form = presigned(ovok, sending("d-9", record=Record("d-1")))
    assert form.record == Record("d-9", f"{odd.base}{API}/document/d-9", shared=True)
    assert odd.paths() == [LOGIN, f"{CREATE}/d-9"]
    assert json.loads(odd.requests[-1].body) == {"fileName": "referral.pdf", "contentType": "application/pdf"}


def test_every_later_try_goes_into_the_document_that_was_made(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers[f"{CREATE}/d-1"] = Reply(body=entry("d-1"))
    gate = CountingGate()
    form = ovok.presign(sending(record=Record("d-1", version="old")), gate)
    assert form.record == Record("d-1", f"{odd.base}{API}/document/d-1")
    assert gate.commits == 0
    assert CREATE not in odd.paths()


def test_a_document_that_was_only_gone_into_is_not_the_next_ones_own(odd: OddOvok, ovok: Ovok) -> None:
    """Its document_id was taken out of the request before it was retried."""
    odd.answers[CREATE] = Reply(body=entry("d-2"))
    made = sending(record=Record("d-9", shared=True))
    assert ovok.before_sending(made).record is None
    assert presigned(ovok, made).record.id == "d-2"


def test_a_form_of_another_document_is_not_used(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers[f"{CREATE}/d-9"] = Reply(body=entry("d-8"))
    with pytest.raises(AccountBlocked, match="another document"):
        presigned(ovok, sending("d-9"))


UNLIKE = [
    "",
    [],
    {},
    {"id": "d-1"},
    entry(id=5),
    entry(id=""),
    entry(id=None),
    entry(uploadOptions=None),
    entry(uploadOptions=[]),
    entry(uploadOptions={"url": "https://b/"}),
    entry(uploadOptions={"url": None, "fields": {}}),
    entry(uploadOptions={"url": "https://b/", "fields": {"key": 5}}),
    {"data": entry()},
]


@pytest.mark.parametrize("body", UNLIKE)
def test_a_create_that_is_answered_in_another_shape_has_made_something_all_the_same(
    odd: OddOvok, ovok: Ovok, body: object
) -> None:
    odd.answers[CREATE] = Reply(body=body)
    with pytest.raises(OutcomeUnknown, match="has made a document"):
        presigned(ovok, sending())
    odd.answers[f"{CREATE}/d-1"] = Reply(body=body)
    with pytest.raises(AccountBlocked, match="shape"):
        presigned(ovok, sending(record=Record("d-1")))


@pytest.mark.parametrize("status", [200, 201, 202])
def test_any_success_is_one(odd: OddOvok, ovok: Ovok, status: int) -> None:
    odd.answers[CREATE] = Reply(status, entry(author=None, meta=[], lastUpdated=5, publicToken=7, more={}))
    assert presigned(ovok, sending()).record.id == "d-1"


def test_a_create_that_was_refused_for_its_token_is_made_once_with_another(odd: OddOvok, ovok: Ovok) -> None:
    def create(request: Request) -> Reply:
        return Reply(401) if request.headers["authorization"] == "Bearer token-1" else Reply(body=entry())

    odd.answers |= {CREATE: create, REFRESH: Reply(body=refreshed(2))}
    gate = CountingGate()
    assert ovok.presign(sending(), gate).record == Record("d-1", f"{odd.base}{API}/document/d-1")
    assert odd.paths() == [LOGIN, CREATE, REFRESH, CREATE]
    assert odd.requests[1].body == odd.requests[3].body != b""
    assert gate.commits == 2


def test_nothing_is_created_without_leave(odd: OddOvok, ovok: Ovok) -> None:
    class NoLeave(CountingGate):
        def commit(self) -> None:
            raise RetryLater("no leave")

    odd.answers[CREATE] = Reply(body=entry())
    with pytest.raises(RetryLater, match="no leave"):
        ovok.presign(sending(), NoLeave())
    assert CREATE not in odd.paths()


# --- before sending --------------------------------------------------------------------------------------------------


def test_the_first_try_is_noted_once_and_costs_no_call(odd: OddOvok, ovok: Ovok) -> None:
    facts = ovok.before_sending(sending())
    assert ovok.before_sending(sending(provider=facts.provider)).provider == facts.provider
    assert odd.requests == []


@pytest.mark.parametrize("into", ["d-1", None])
def test_what_stands_in_a_document_is_noted_before_it_is_replaced(odd: OddOvok, ovok: Ovok, into: str | None) -> None:
    facts = {} if into else {"record": Record("d-1")}
    for content, before in ((None, None), ("old", {"size": 3, "etag": md5("old")})):
        odd.leases("d-1", content)
        noted = ovok.before_sending(sending(into, provider={"since": "s", "before": {"size": 99}}, **facts))
        assert noted.provider == ({"since": "s"} if before is None else {"since": "s", "before": before})
        assert noted.record == Record("d-1", f"{odd.base}{API}/document/d-1", shared=into is not None)


def test_a_document_that_is_to_be_replaced_and_is_not_there_is_refused_with_a_hint(odd: OddOvok, ovok: Ovok) -> None:
    with pytest.raises(DocumentRefused, match="document_id") as refused:
        ovok.before_sending(sending("d-9"))
    assert refused.value.code is Code.REFUSED_BY_PROVIDER
    assert "document_id" in refused.value.hint


def test_a_document_that_was_made_for_it_and_is_gone_is_made_again(odd: OddOvok, ovok: Ovok) -> None:
    assert ovok.before_sending(sending(record=Record("gone"))).record is None
    with pytest.raises(RetryLater, match="another is made"):
        presigned(ovok, sending(record=Record("gone")))


# --- reading back ----------------------------------------------------------------------------------------------------


def test_our_file_is_read_back_by_one_byte_and_without_the_token(odd: OddOvok, ovok: Ovok, slots: Slots) -> None:
    odd.leases("d-1", CONTENT)
    ours = sending(record=Record("d-1"), stored=stored())
    seen = found(ovok, ours)
    assert seen == Found(Record("d-1", f"{odd.base}{API}/document/d-1", version=md5(CONTENT)))
    (visit,) = odd.visits()
    assert visit.headers["range"] == "bytes=0-0"
    assert "authorization" not in visit.headers
    assert "cookie" not in visit.headers
    assert slots.calls == 3


OTHER = "9876543210"  # of our size
SHORT = "0123"


@pytest.mark.parametrize(
    ("there", "etag", "known", "ours"),
    [
        (CONTENT, "", stored(), True),
        (CONTENT, md5(CONTENT).upper(), stored(), True),
        (OTHER, "", stored(), False),  # the old bytes, of our size
        (SHORT, "", stored(), False),
        (None, "", stored(), False),
        (CONTENT, "kms-1", stored(etag="kms-1", verified=False), True),  # an encrypted bucket's own ETag
        (OTHER, "kms-0", stored(etag="kms-1", verified=False), False),
        (CONTENT, "kms-2", stored(etag="kms-1", verified=False), True),  # only its bytes can tell
        (CONTENT, None, stored(etag=None, verified=False), True),
        (OTHER, None, stored(etag=None, verified=False), False),
        (OTHER, "kms-0", stored(etag=None, verified=False), False),
        (CONTENT, None, stored(), True),
        (OTHER, None, stored(), False),
    ],
)
@pytest.mark.parametrize("into", ["d-1", None])
def test_only_a_file_that_is_ours_proves_an_upload_that_was_acknowledged(
    odd: OddOvok, ovok: Ovok, there: str | None, etag: str | None, known: Stored, ours: bool, into: str | None
) -> None:
    odd.leases("d-1", there, etag)
    facts = {} if into else {"record": Record("d-1")}
    seen = found(ovok, sending(into, stored=known, **facts))
    assert (seen is not None) is ours
    assert not ours or (seen and seen.stage is Stage.DELIVERED and seen.record.shared is (into is not None))
    read_whole = any("range" not in visit.headers for visit in odd.visits())
    same_size = there is not None and len(there) == len(CONTENT)
    tells = etag is not None and (known.etag_verified or etag == known.etag)
    assert read_whole is (same_size and not tells), "only where nothing else can tell"


def test_a_file_is_read_whole_once_for_each_etag(odd: OddOvok, ovok: Ovok) -> None:
    ours = sending(record=Record("d-1"), stored=stored(etag=None, verified=False))
    for content, is_ours in ((OTHER, False), (CONTENT, True)):
        odd.leases("d-1", content, None)
        assert bool(found(ovok, ours)) is is_ours, "without an ETag nothing is remembered"
    for etag, content, is_ours in (("a", OTHER, False), ("b", CONTENT, True)):
        odd.leases("d-1", content, etag)
        before = len(odd.visits())
        assert [bool(found(ovok, ours)) for _ in range(3)] == [is_ours] * 3
        assert ["range" in visit.headers for visit in odd.visits()[before:]] == [True, False, True, True]
    assert not any("authorization" in visit.headers for visit in odd.visits())


BEFORE = {"size": len(OTHER), "etag": md5(OTHER)}


@pytest.mark.parametrize(
    ("there", "etag", "before", "ours"),
    [
        (CONTENT, "", None, True),  # nothing was there
        (CONTENT, None, None, True),
        (None, "", None, False),
        (SHORT, "", None, False),
        (OTHER, "", BEFORE, False),  # the old bytes, of our size
        (CONTENT, "", BEFORE, True),
        (CONTENT, None, BEFORE, False),  # nothing tells
        (CONTENT, "", {"size": len(OTHER), "etag": None}, False),
        (CONTENT, "", {"size": 4, "etag": None}, True),
        (CONTENT, "", {"size": "?"}, True),
    ],
)
@pytest.mark.parametrize("into", ["d-1", None])
def test_an_upload_whose_answer_was_lost_is_proven_by_a_change_of_what_was_there(
    odd: OddOvok, ovok: Ovok, there: str | None, etag: str | None, before: Any, ours: bool, into: str | None
) -> None:
    odd.leases("d-1", there, etag)
    facts = {"provider": {} if before is None else {"before": before}, "record": None if into else Record("d-1")}
    unseen = replace(
        sending(into, **facts),
        stage=Stage.PRESIGNED,
        uncertainty=Uncertainty(committed=True, unknown_step=Step.POST),
        counts=Counts(presigns=1),
    )
    seen = found(ovok, unseen)
    assert seen is not None
    assert seen.stage is (Stage.DELIVERED if ours else Stage.RECEIVED)
    assert seen.record.id == "d-1"


def test_each_repetition_waits_for_one_more_search_and_a_persons_retry_only_searches(odd: OddOvok, ovok: Ovok) -> None:
    odd.leases("d-1", None)
    unseen = Uncertainty(committed=True, unknown_step=Step.POST)

    def goes(presigns: int, searches: int, uncertainty: Uncertainty = unseen) -> bool:
        counts = Counts(presigns=presigns, searches=searches)
        return found(ovok, replace(sending(record=Record("d-1")), uncertainty=uncertainty, counts=counts)) is not None

    assert [goes(1, 0), goes(2, 0), goes(2, 1), goes(5, 3), goes(5, 4)] == [True, False, True, False, True]
    assert not goes(1, 9, replace(unseen, day_of_searching=True))
    assert not goes(1, 9, Uncertainty())


@pytest.mark.parametrize(
    ("reply", "there"),
    [
        (Reply(206, "0", {"Content-Range": "bytes 0-0/10"}), True),
        (Reply(206, "0", {"Content-Range": "bytes 0-0/11"}), False),
        (Reply(416, "", {"Content-Range": "bytes */0"}), False),
        (Reply(416, "", {"Content-Range": "bytes */10"}), True),
        (Reply(200, CONTENT, {"x-amz-request-id": "1"}), True),
        (Reply(200, CONTENT + "1", {"x-amz-request-id": "1"}), False),
        (NO_SUCH_KEY, False),
        (Reply(403, "<Error><Code>AccessDenied</Code></Error>"), False),
    ],
)
def test_a_storage_may_answer_in_several_ways(odd: OddOvok, ovok: Ovok, reply: Reply, there: bool) -> None:
    odd.leads("d-1")
    odd.answers["GET /files/d-1"] = reply
    unseen = replace(sending(record=Record("d-1")), uncertainty=Uncertainty(committed=True))
    assert (found(ovok, unseen) is not None) is there


@pytest.mark.parametrize(
    ("reply", "meant"),
    [
        (Reply(500), RetryLater),
        (Reply(503), RetryLater),
        (Reply(429), RetryLater),
        (Reply(0), RetryLater),
        (Reply(403, "<Error><Code>SignatureDoesNotMatch</Code></Error>"), AccountBlocked),
        (Reply(400), AccountBlocked),
        (Reply(301, headers={"Location": "https://elsewhere.example/"}), AccountBlocked),
        (Reply(204), AccountBlocked),
        (Reply(206, "0"), AccountBlocked),
        (Reply(206, "0", {"Content-Range": "bytes 0-0/*"}), AccountBlocked),
        (Reply(206, "0", {"Content-Range": "nonsense"}), AccountBlocked),
        (Reply(200, CONTENT, {"Content-Encoding": "identity"}), AccountBlocked),
    ],
)
def test_a_storage_that_is_not_understood_proves_nothing(
    odd: OddOvok, ovok: Ovok, reply: Reply, meant: type[StepError]
) -> None:
    odd.leads("d-1")
    odd.answers["GET /files/d-1"] = reply
    with pytest.raises(meant):
        found(ovok, sending(record=Record("d-1"), stored=stored()))


@pytest.mark.parametrize(
    ("reply", "meant"),
    [
        (Reply(200, "the file itself"), AccountBlocked),
        (Reply(307), AccountBlocked),
        (Reply(301, headers={"Location": "https://x.amazonaws.com/"}), AccountBlocked),
        (Reply(400), AccountBlocked),
        (Reply(403), AccountBlocked),
        (Reply(429), RetryLater),
        (Reply(500), RetryLater),
        (Reply(0), RetryLater),
        (Reply(307, headers={"Location": "/file"}), AccountBlocked),
        (Reply(307, headers={"Location": "file:///etc/passwd"}), AccountBlocked),
        (Reply(307, headers={"Location": "https://me:pw@s3.amazonaws.com/file"}), AccountBlocked),
    ],
)
def test_an_address_that_is_none_is_not_visited(odd: OddOvok, ovok: Ovok, reply: Reply, meant: type[StepError]) -> None:
    odd.answers[f"{LIST}/d-1"] = reply
    with pytest.raises(meant) as raised:
        found(ovok, sending(record=Record("d-1"), stored=stored()))
    assert "secret" not in str(raised.value)
    assert odd.visits() == []


def test_a_file_that_lies_at_a_foreign_host_is_accepted_and_not_read_back(odd: OddOvok, ovok: Ovok) -> None:
    for host in ("elsewhere.example", "amazonaws.com.evil.example"):
        odd.leads("d-1", f"https://{host}/file?secret")
        seen = found(ovok, sending(record=Record("d-1"), stored=stored()))
        assert seen is not None
        assert (seen.stage, seen.assurance, seen.doubt) == (Stage.DELIVERED, Assurance.ACCEPTED, "")
        (remark,) = seen.remarks
        assert f" {host}," in remark
        assert "download_hosts" in remark
        assert "secret" not in remark
        # An upload whose answer was lost is repeated until the storage acknowledges it.
        unseen = replace(sending(record=Record("d-1")), uncertainty=Uncertainty(committed=True, unknown_step=Step.POST))
        again = found(ovok, unseen)
        assert again is not None
        assert again.stage is Stage.RECEIVED
        assert ovok.before_sending(sending(record=Record("d-1"))).record is not None
        assert ovok.still_there(document(), Record("d-1", version="e"))
    assert odd.visits() == []


def test_where_files_may_be_read_back_is_a_setting_of_its_own(odd: OddOvok, making: Making) -> None:
    odd.leases("d-1", CONTENT)
    ours = sending(record=Record("d-1"), stored=stored())
    elsewhere = making(upload_hosts=["s3.example.org"], download_hosts=["files.example.org"])
    assert found(elsewhere, ours) is not None  # insecure: this machine is allowed as well
    odd.leads("d-1", "https://files.example.org/d-1?X-Amz-Signature=s")
    with pytest.raises((RetryLater, AccountBlocked)):  # it is visited: there is no such host
        found(elsewhere, ours)
    odd.leads("d-1", "https://s3.example.org/d-1?X-Amz-Signature=s")
    seen = found(elsewhere, ours)
    assert seen is not None
    assert seen.assurance is Assurance.ACCEPTED


def test_a_document_that_is_gone_proves_nothing(odd: OddOvok, ovok: Ovok) -> None:
    unseen = replace(sending(record=Record("gone")), uncertainty=Uncertainty(committed=True, unknown_step=Step.POST))
    seen = found(ovok, unseen)  # a 404 may also say that it has no file yet: then the upload is repeated
    assert seen is not None
    assert seen.stage is Stage.RECEIVED
    assert found(ovok, sending(record=Record("gone"), stored=stored())) is None
    into = sending("gone")
    assert found(ovok, replace(into, uncertainty=unseen.uncertainty)) is None


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    st.sampled_from([200, 206, 403, 404, 416]),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30).filter(lambda text: text == text.strip()),
    st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=20).filter(lambda text: text == text.strip()),
)
def test_no_answer_of_a_storage_raises_anything_but_our_errors_or_proves_what_it_should_not(
    odd: OddOvok, ovok: Ovok, status: int, content_range: str, etag: str
) -> None:
    odd.leads("d-1")
    odd.answers["GET /files/d-1"] = Reply(status, "x", {"Content-Range": content_range, "ETag": etag})
    try:
        assert found(ovok, sending(record=Record("d-1"), stored=stored())) is None
    except StepError:
        return


# --- a create whose answer was lost ----------------------------------------------------------------------------------


def lost(**facts: Any) -> Job:
    since = {"since": THEN.isoformat()}
    made = sending(**({"provider": since} | facts))
    return replace(made, uncertainty=Uncertainty(committed=True, unknown_step=Step.PRESIGN))


def test_the_document_that_a_lost_create_made_is_found_again_and_still_to_be_filled(odd: OddOvok, ovok: Ovok) -> None:
    odd.lists(listed("d-3"), listed("d-2", name="other.pdf"))
    odd.leases("d-3", None)
    seen = found(ovok, lost())
    assert seen == Found(Record("d-3", f"{odd.base}{API}/document/d-3"), Stage.RECEIVED)
    asked = next(each for each in odd.requests if f"{each.method} {each.path}" == LIST)
    assert asked.query == {"_sort": ["-_lastUpdated"], "_count": ["50"], "_offset": ["0"]}


@pytest.mark.parametrize(
    "changed",
    [
        {"fileName": "other.pdf"},
        {"fileName": None},
        {"contentType": "text/plain"},
        {"contentType": ["application/pdf"]},
        {"meta": {"lastUpdated": "2026-11-21T09:54:59.000Z"}},  # older than the clocks may differ
        {"meta": None, "lastUpdated": "2026-11-21T09:54:59Z"},
    ],
)
def test_a_document_that_cannot_be_ours_is_left_alone(odd: OddOvok, ovok: Ovok, changed: dict[str, Any]) -> None:
    odd.lists(listed("d-3", **changed))
    odd.leases("d-3", None)
    assert found(ovok, lost()) is None
    assert odd.visits() == []


def test_a_document_that_has_a_file_or_is_gone_is_not_ours(odd: OddOvok, ovok: Ovok) -> None:
    odd.lists(listed("gone"), listed("full"), listed("full-of-ours"), listed("empty"))
    odd.leases("full", "x")
    odd.leases("full-of-ours", CONTENT)
    odd.leases("empty", "")
    seen = found(ovok, lost())
    assert seen is not None
    assert seen.record.id == "empty"


def test_a_listed_document_that_answers_404_has_no_file_yet(odd: OddOvok, ovok: Ovok) -> None:
    odd.lists(listed("full"), listed("empty"))
    odd.leases("full", "x")
    seen = found(ovok, lost())
    assert seen is not None
    assert (seen.record.id, seen.stage, seen.doubt) == ("empty", Stage.RECEIVED, "")


def test_a_document_without_a_file_is_kept_as_long_as_ovok_gives_a_form_for_it(odd: OddOvok, ovok: Ovok) -> None:
    """One more would be a second document of the same file."""
    odd.answers[f"{CREATE}/d-1"] = Reply(body=entry("d-1"))
    facts = ovok.before_sending(sending(record=Record("d-1")))
    assert facts.record is not None
    assert presigned(ovok, sending(record=facts.record)).record.id == "d-1"
    assert ovok.before_sending(sending("d-1")).record is not None


def test_a_document_that_has_just_been_made_is_waited_for(odd: OddOvok, ovok: Ovok) -> None:
    young, old = (datetime.now(UTC) - timedelta(minutes=minutes) for minutes in (1, 10))
    with pytest.raises(RetryLater, match="does not show yet"):
        ovok.before_sending(sending(record=Record("d-1"), provider={"since": young.isoformat()}))
    assert ovok.before_sending(sending(record=Record("d-1"), provider={"since": old.isoformat()})).record is None


def test_a_document_that_is_another_jobs_is_not_ours(odd: OddOvok, ovok: Ovok) -> None:
    odd.lists(listed("d-3"), listed("d-2"))
    for each in ("d-2", "d-3"):
        odd.leases(each, None)
    ours = lost()
    seen = ovok.find([ours], {"d-3": "another"})[ours.id]
    assert seen.record.id == "d-2"
    assert ovok.find([ours], {"d-3": "another", "d-2": "another"}) == {}
    assert ovok.find([ours], {"d-3": ours.id})[ours.id].record.id == "d-3"


@pytest.mark.parametrize(
    "changed",
    [
        {"contentType": "Application/PDF; charset=binary"},
        {"meta": {}, "lastUpdated": "2026-11-21T10:00:05Z"},
        {"meta": {"lastUpdated": "2026-11-21T10:00:05"}},
        {"meta": {"lastUpdated": "2026-11-21T11:00:05+01:00"}},
        {"meta": {"lastUpdated": "2026-11-21T09:56:00Z"}},  # clocks differ
        {"uploadOptions": None},
        {"uploadOptions": "odd"},
    ],
)
def test_what_the_vendors_pages_leave_open_in_a_list_does_not_matter(
    odd: OddOvok, ovok: Ovok, changed: dict[str, Any]
) -> None:
    odd.lists(listed("d-3", **changed))
    odd.leases("d-3", None)
    assert found(ovok, lost()) is not None


@pytest.mark.parametrize("ahead", WRONG_CLOCKS)
def test_a_lost_create_is_searched_for_by_ovoks_clock(odd: OddOvok, making: Making, ahead: float) -> None:
    """What a machine an hour behind would take for new is older than the create."""
    odd.lists()
    ovok = making(clock_ahead(ahead))
    ovok.probe()  # its answer tells the time
    unseen = lost(provider=ovok.before_sending(sending()).provider)
    now = datetime.now(UTC)
    odd.lists(listed("ours", now.isoformat()), listed("older", (now - timedelta(minutes=10)).isoformat()))
    for each in ("ours", "older"):
        odd.leases(each, None)
    seen = found(ovok, unseen)
    assert seen is not None
    assert seen.record.id == "ours"
    assert found(ovok, unseen, ours="another") is None


@pytest.mark.parametrize("ahead", [23 * HOUR, HOUR, 0, -HOUR])
def test_where_ovok_has_not_told_the_time_a_search_goes_back_for_a_day(
    odd: OddOvok, making: Making, ahead: float
) -> None:
    ovok = making(clock_ahead(ahead))
    unseen = lost(provider=ovok.before_sending(sending()).provider)
    assert odd.requests == []
    odd.lists(listed("ours", datetime.now(UTC).isoformat()))
    odd.leases("ours", None)
    assert found(ovok, unseen) is not None


def test_names_that_differ_only_in_how_letters_are_composed_are_the_same(odd: OddOvok, ovok: Ovok) -> None:
    odd.lists(listed("d-3", name="U\u0308ber.pdf"))
    odd.leases("d-3", None)
    ours = lost()
    assert found(ovok, replace(ours, document=replace(ours.document, file_name="\u00dcber.pdf"))) is not None


def moment(seconds: int) -> str:
    return (THEN + timedelta(seconds=seconds)).isoformat()


@pytest.mark.parametrize("most", [50, 7, 1])
def test_pages_are_turned_until_they_are_older_than_the_first_try(odd: OddOvok, ovok: Ovok, most: int) -> None:
    young = [listed(f"y-{number}", moment(1000 - number), name="other.pdf") for number in range(60)]
    old = [listed(f"o-{number}", moment(-3600 - number)) for number in range(200)]
    odd.lists(*young, listed("d-3", moment(5)), *old, most=most)
    odd.leases("d-3", None)
    assert found(ovok, lost()) is not None
    odd.requests.clear()
    odd.lists(*young, *old, most=most)
    assert found(ovok, lost()) is None
    assert len(odd.requests) == 60 // most + 1


@pytest.mark.parametrize("total", [None, "many", 2])
def test_a_list_ends_where_nothing_new_comes(odd: OddOvok, ovok: Ovok, total: object) -> None:
    odd.lists(listed("d-2", name="a"), listed("d-1", name="b"), total=total)
    assert found(ovok, lost()) is None
    assert len(odd.requests) == (2 if total == 2 else 3)


@pytest.mark.parametrize("untimed", [{"meta": {"lastUpdated": "yesterday"}}, {"meta": None}])
def test_an_entry_that_does_not_say_when_it_was_made_is_asked_for_by_fhir(
    odd: OddOvok, ovok: Ovok, untimed: dict[str, Any]
) -> None:
    """The vendor's own example of a list has entries without a time."""
    odd.lists(listed("old", **untimed), listed("ours", **untimed), listed("other", name="other.pdf", **untimed))
    for each in ("old", "ours"):
        odd.leases(each, None)
    odd.keeps("old", meta={"versionId": "1", "lastUpdated": "2025-01-01T00:00:00Z"})
    odd.keeps("ours")
    seen = found(ovok, lost())
    assert seen is not None
    assert (seen.record.id, seen.stage, seen.doubt) == ("ours", Stage.RECEIVED, "")


@pytest.mark.parametrize(
    "reply", [Reply(404), Reply(403), Reply(body={"resourceType": "DocumentReference", "id": "d-3"})]
)
def test_where_nothing_says_when_it_was_made_one_job_is_in_doubt_and_no_account_parked(
    odd: OddOvok, ovok: Ovok, reply: Reply
) -> None:
    odd.lists(listed("d-3", meta=None))
    odd.leases("d-3", None)
    odd.answers[f"GET {FHIR}/d-3"] = reply
    seen = found(ovok, lost())
    assert seen is not None
    assert "d-3" in seen.doubt
    assert seen.stage is Stage.RECEIVED
    odd.leases("d-3", "x")
    assert found(ovok, lost()) is None  # it has a file: that is another upload's


def test_pages_without_times_are_turned_until_fhir_says_that_they_are_old(odd: OddOvok, ovok: Ovok) -> None:
    odd.lists(*(listed(f"o-{number}", name="other.pdf", meta=None) for number in range(500)))
    odd.keeps("o-49", meta={"lastUpdated": "2026-11-21T10:00:05Z"})
    odd.keeps("o-99", meta={"lastUpdated": "2025-01-01T00:00:00Z"})
    assert found(ovok, lost()) is None
    assert odd.paths().count(LIST) == 2


def test_a_foreign_host_leaves_a_lost_create_in_doubt(odd: OddOvok, ovok: Ovok) -> None:
    odd.lists(listed("d-3"))
    odd.leads("d-3", "https://elsewhere.example/file?secret")
    seen = found(ovok, lost())
    assert seen is not None
    assert "elsewhere.example" in seen.doubt
    assert "secret" not in seen.doubt


def test_a_list_in_motion_is_read_again_later(odd: OddOvok, ovok: Ovok) -> None:
    odd.lists(listed("d-2", moment(0)), listed("d-1", moment(60)))
    with pytest.raises(RetryLater, match="order"):
        found(ovok, lost())


def test_a_list_without_end_is_read_again_later(odd: OddOvok, ovok: Ovok) -> None:
    odd.answers[LIST] = lambda request: Reply(
        body={"resources": [listed(f"d-{request.query['_offset'][0]}", moment(99), name="other.pdf")]}
    )
    with pytest.raises(RetryLater, match="pages"):
        found(ovok, lost())
    assert len(odd.requests) == 201


@pytest.mark.parametrize(
    "body", ["", [], {}, {"resources": None}, {"resources": [{}]}, {"resources": [5]}, {"resources": [{"id": 5}]}]
)
def test_a_list_of_another_shape_blocks_the_account(odd: OddOvok, ovok: Ovok, body: object) -> None:
    odd.answers[LIST] = Reply(body=body)
    with pytest.raises(AccountBlocked, match="shape"):
        found(ovok, lost())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**25), 10**25) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["id", "resources", "total", "meta", "lastUpdated", "fileName", "contentType", "uploadOptions", "url"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)
FUZZ = settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@FUZZ
@given(json_values)
def test_no_list_raises_anything_but_our_errors(odd: OddOvok, ovok: Ovok, body: object) -> None:
    odd.answers[LIST] = Reply(body=body)
    try:
        assert found(ovok, lost()) is None
    except StepError:
        return


@FUZZ
@given(json_values)
def test_no_answer_to_a_create_or_a_login_raises_anything_but_our_errors(
    odd: OddOvok, making: Making, cache: DictCache, body: object
) -> None:
    for path in (CREATE, LOGIN, REFRESH):
        cache.values.clear()
        odd.answers |= {CREATE: Reply(401), LOGIN: Reply(body=session()), path: Reply(body=body)}
        with pytest.raises(StepError):
            presigned(making(), sending())


# --- still there, and well -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("there", "version", "into", "stands"),
    [
        (CONTENT, md5(CONTENT), None, True),
        (CONTENT, None, None, True),
        (CONTENT, md5(CONTENT), "d-1", True),
        (CONTENT, md5(CONTENT), "d-2", False),
        (OTHER, md5(CONTENT), None, False),  # replaced since, by a file of the same size
        (OTHER, md5(CONTENT), "d-1", False),
        (SHORT, None, None, False),
        (None, None, None, False),
    ],
)
def test_a_record_stands_while_its_document_has_the_file_that_it_had(
    odd: OddOvok, ovok: Ovok, there: str | None, version: str | None, into: str | None, stands: bool
) -> None:
    odd.leases("d-1", there)
    options = {} if into is None else {"document_id": into}
    assert ovok.still_there(document(options=options), Record("d-1", version=version)) is stands
    assert not ovok.still_there(document(options=options), Record("gone", version=version))


@pytest.mark.parametrize(
    ("status", "meant"),
    [(200, None), (403, AccountBlocked), (404, AccountBlocked), (429, RetryLater), (503, RetryLater)],
)
def test_a_probe_needs_no_document_and_tells_whether_the_account_is_well(
    odd: OddOvok, ovok: Ovok, status: int, meant: type[StepError] | None
) -> None:
    odd.answers[LIST] = Reply(status, {"resources": []})
    if meant is None:
        ovok.probe()
        return
    with pytest.raises(meant):
        ovok.probe()


# --- at the sandbox --------------------------------------------------------------------------------------------------


@pytest.fixture
def at_work(world: SandboxProcess, clients: Clients, tmp_path: Path) -> AtWork:
    return AtWork(world, clients, tmp_path, "ovok_clinic")


def made(at_work: AtWork, job: Job) -> list[dict[str, Any]]:
    return [each for each in at_work.sandbox.ovok_documents() if each["file_name"] == job.document.file_name]


@pytest.mark.parametrize("has_called", [True, False])
@pytest.mark.parametrize("ahead", [0, *WRONG_CLOCKS[:2]])
def test_a_lost_create_leads_to_one_document(at_work: AtWork, ahead: float, has_called: bool) -> None:
    """The worker's clock may be wrong, and the worker may not have called Ovok before."""
    at_work.provider.probe()  # so that a session is at hand, which no process needs to open
    at_work.start_process(clock_ahead(ahead))
    if has_called:
        at_work.provider.probe()
    begun = at_work.begun(at_work.named("LOSTCREATE"))
    with pytest.raises(OutcomeUnknown):
        at_work.provider.presign(begun, at_work.new_gate(begun))  # type: ignore[attr-defined]
    unseen = replace(begun, uncertainty=Uncertainty(committed=True, unknown_step=Step.PRESIGN))
    seen = at_work.found(unseen)
    assert seen is not None
    assert seen.stage is Stage.RECEIVED
    sent = at_work.sent(replace(begun, facts=replace(begun.facts, record=seen.record)))
    assert at_work.record_of(sent).id == seen.record.id
    assert [each["uploads"] for each in made(at_work, begun)] == [1]


def test_a_document_is_replaced_by_one_of_the_same_size(at_work: AtWork) -> None:
    patient = f"patient-{fresh()}"
    first = at_work.sent(at_work.job(b"version 1", patient_id=patient))
    earlier = at_work.record_of(first)
    into = earlier.id
    second = at_work.presigned(at_work.job(b"version 2", patient_id=patient, options={"document_id": into}))
    unseen = replace(second, uncertainty=Uncertainty(committed=True, unknown_step=Step.POST), counts=Counts(presigns=1))
    seen = at_work.found(unseen)
    assert seen is not None
    assert seen.stage is Stage.RECEIVED, "the old bytes are not ours"
    assert at_work.found(replace(second, facts=replace(second.facts, stored=stored("version 2")))) is None
    at_work.record_of(at_work.stored(second))
    (charted,) = at_work.sandbox.charts(record_id=into)
    assert charted["sha256"] == hashlib.sha256(b"version 2").hexdigest()
    assert not at_work.provider.still_there(first.document, earlier)
    assert at_work.found(first) is None


def test_sessions_that_end_in_the_middle_are_renewed(at_work: AtWork) -> None:
    at_work.sandbox.world(ovok_token_seconds=1)
    sent = at_work.sent(at_work.job())
    at_work.sandbox.world(kill_tokens=["ovok"])
    at_work.record_of(sent)
    at_work.cache.values.clear()
    at_work.sandbox.world(kill_tokens=["ovok"])
    at_work.record_of(at_work.sent(at_work.job()))


@pytest.mark.parametrize("change", [{"etag_not_md5": True}, {"ovok_public_tokens": False}])
def test_what_the_sandbox_leaves_open_does_not_matter(at_work: AtWork, change: dict[str, Any]) -> None:
    at_work.sandbox.world(**change)
    sent = at_work.sent(at_work.job(file_name=f"Über {fresh()}.pdf"))
    assert at_work.record_of(sent).id == made(at_work, sent)[0]["id"]
    assert made(at_work, sent)[0]["is_public"] is False
    assert "public." not in repr(sent)


def test_facts_survive_being_written_down(at_work: AtWork) -> None:
    """What a search needs is plain JSON, in the ledger as in job.json."""
    begun = at_work.begun(at_work.job())
    assert json.loads(json.dumps(begun.facts.provider)) == begun.facts.provider
    assert at_work.provider.find([replace(begun, facts=Facts())], NO_OWNERS) == {}
