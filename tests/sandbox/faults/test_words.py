"""The words in a file's name that make something go wrong with it."""

import time
from email.utils import parsedate_to_datetime

import httpx
import pytest

from sandbox.faults.words import Faults, Turns
from tests.sandbox.providers.pracsuite_clinic import Clinic
from tests.sandbox.s3.engine_view import stored
from tests.sandbox.s3.raw_upload import multipart, open_upload

CONTENT = b"a clinical document, " * 20_000


def test_words_are_read_from_anywhere_in_the_name_and_combine() -> None:
    assert Faults.read("referral.pdf") == Faults()
    assert Faults.read("scanCUT.pdf") == Faults.read("XCUTX.pdf") == Faults(cut=True)
    assert Faults.read("BUSY-2 LOST SLOW-0.5.pdf") == Faults(busy_times=2, lost=True, slow_seconds=0.5)
    assert Faults.read("S3-InternalError, STALL-3.pdf") == Faults(storage_code="InternalError", stall_seconds=3)
    assert Faults.read("FILTERED BUSY-1.pdf") == Faults(filtered=True, busy_times=1)
    assert Faults.read("EXPIRED INVALID.pdf") == Faults(expired=True, invalid=True)
    assert Faults.read("DOWNCOMMIT BADTYPE.pdf") == Faults(down_commit=True, bad_type=True)


def test_a_longer_word_is_not_the_shorter_one_in_it() -> None:
    assert Faults.read("LOSTCOMMIT.pdf") == Faults(lost_commit=True)
    assert Faults.read("LOSTCREATE.pdf") == Faults(lost_create=True)
    assert Faults.read("LOSTCOMMIT LOST.pdf") == Faults(lost_commit=True, lost=True)


def test_small_letters_ask_for_nothing() -> None:
    assert Faults.read("haircut lost invalid.pdf") == Faults()


def test_each_target_has_its_own_number_of_turns() -> None:
    turns = Turns()
    assert [turns.take("a", "BUSY", 2) for _ in range(3)] == [True, True, False]
    assert turns.take("b", "BUSY", 2)
    assert turns.take("a", "CUT")


def test_busy_storage_refuses_so_many_times(north: Clinic) -> None:
    form = north.form("busy", "BUSY-2.txt")
    answers = [north.post(form, CONTENT) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [503, 503, 204]
    assert "<Code>SlowDown</Code>" in answers[0].text


def test_faults_count_by_document_and_not_by_form(north: Clinic) -> None:
    assert north.send("busy-forms", "BUSY-1.txt", CONTENT).status_code == 503
    assert north.send("busy-forms", "BUSY-1.txt", CONTENT).status_code == 204
    assert north.send("busy-others", "BUSY-1.txt", CONTENT).status_code == 503


def test_a_cut_upload_stores_nothing_the_first_time(north: Clinic) -> None:
    form = north.form("cut", "CUT.txt")
    with pytest.raises(httpx.TransportError):
        north.post(form, CONTENT)
    assert north.records_after_validation("cut") == []
    assert stored(north.sandbox, form["fields"]["key"]) == []
    assert north.post(form, CONTENT).status_code == 204
    assert len(north.records_once_there("cut")) == 1


def is_a_filters_page(answer: httpx.Response) -> bool:
    marks = {"x-amz-request-id", "location"} & set(answer.headers)
    page = answer.headers["content-type"].startswith("text/html") and "blocked" in answer.text
    return answer.status_code == 200 and page and not marks


def test_a_web_filter_answers_the_first_upload_which_does_not_reach_storage(north: Clinic) -> None:
    form = north.form("filtered", "FILTERED.txt")
    assert is_a_filters_page(north.post(form, CONTENT))
    assert north.records_after_validation("filtered") == []
    assert stored(north.sandbox, form["fields"]["key"]) == []
    assert north.post(form, CONTENT).status_code == 204
    assert len(north.records_once_there("filtered")) == 1


def test_a_web_filter_in_front_of_api_and_storage_answers_whatever_is_asked(north: Clinic) -> None:
    form = north.form("filter", "a.txt")
    north.sandbox.world(down={"pracsuite": "filter"}, storage_down="filter")
    try:
        answers = [north.ask_for_form("filter", "b.txt"), north.chart("filter"), north.post(form, CONTENT)]
    finally:
        north.sandbox.world(reset=True)
    assert all(is_a_filters_page(answer) for answer in answers)
    assert stored(north.sandbox, form["fields"]["key"]) == []


def test_the_date_of_the_answers_can_be_another_than_this_machines(north: Clinic) -> None:
    north.sandbox.world(date_seconds=3600)
    try:
        answers = [north.ask_for_form("dated", "a.txt"), north.chart("dated")]
    finally:
        north.sandbox.world(reset=True)
    for answer in answers:
        ahead = parsedate_to_datetime(answer.headers["date"]).timestamp() - time.time()
        assert 3500 < ahead < 3610


def test_a_lost_answer_leaves_the_document_stored(north: Clinic) -> None:
    with pytest.raises(httpx.TransportError):
        north.send("lost", "LOST.txt", CONTENT)
    assert len(north.records_once_there("lost")) == 1
    assert north.send("lost", "LOST.txt", CONTENT).status_code == 204


def test_a_lost_answer_is_a_reset_and_not_an_orderly_end(north: Clinic) -> None:
    form = north.form("lost-raw", "LOST.txt")
    body = multipart(form, ("file", "LOST.txt", CONTENT))
    with open_upload(form, len(body), body) as connection, pytest.raises(ConnectionResetError):
        connection.recv(1)


def test_an_expired_form_is_given_once(north: Clinic) -> None:
    answers = [north.send("expired-form", "EXPIRED.txt", CONTENT) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [403, 204]
    assert "Invalid according to Policy: Policy expired." in answers[0].text


@pytest.mark.parametrize(
    ("code", "status"), [("RequestTimeout", 400), ("InternalError", 500), ("SlowDown", 503), ("OperationAborted", 409)]
)
def test_storage_answers_once_with_any_error_of_s3(north: Clinic, code: str, status: int) -> None:
    form = north.form(f"code-{code}", f"S3-{code}.txt")
    answers = [north.post(form, CONTENT) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, 204]
    assert f"<Code>{code}</Code>" in answers[0].text


def test_a_stalling_answer_comes_after_the_document_was_stored(north: Clinic) -> None:
    began = time.monotonic()
    assert north.send("stall", "STALL-0.5.txt", CONTENT).status_code == 204
    assert time.monotonic() - began >= 0.5
    assert len(north.records_once_there("stall")) == 1


def test_words_act_one_after_the_other(north: Clinic) -> None:
    form = north.form("combined", "BUSY-1 CUT LOST.txt")
    assert north.post(form, CONTENT).status_code == 503
    for _ in ("CUT", "LOST"):
        with pytest.raises(httpx.TransportError):
            north.post(form, CONTENT)
    assert len(north.records_once_there("combined")) == 1


def test_renamed_is_a_word() -> None:
    assert Faults.read("RENAMED a.pdf").renamed
    assert not Faults.read("renamed a.pdf").renamed
