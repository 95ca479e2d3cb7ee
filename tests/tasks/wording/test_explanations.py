"""Each failure and each wait is explained in every language, from what is known of it."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest

from config.accounts import ACCOUNT_KINDS
from tasks.model.errors import About, Code
from tasks.wording.explanation import PROVIDERS, Explanation, WhoActs
from tasks.wording.failures import FailureFacts, explain_failure, trying_again_helps
from tasks.wording.language import Words
from tasks.wording.waiting import WaitingFacts, WaitingReason, explain_waiting, until_when

LANGUAGES = ("en", "de", "nb", "nl")
COMMANDS = re.compile(r"chartpost|--[a-z]|\bJOB\b|sidecar|\{|\}")


def texts(explanation: Explanation) -> str:
    return " ".join([explanation.title, explanation.what_happened, *explanation.what_to_do])


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("provider", [*ACCOUNT_KINDS, ""], ids=[*ACCOUNT_KINDS, "unknown"])
def test_every_failure_is_explained_without_commands(language: str, provider: str) -> None:
    words = Words(language)
    for code in (*Code, None):
        for about in (*About, None):
            facts = FailureFacts(code, about, provider, "4711", 2_000_000, 1_000_000, "Words of theirs")
            told = explain_failure(words, facts)
            assert told.title
            assert told.what_happened
            assert all(told.what_to_do)
            assert told.what_to_do
            for shown in (told, told.for_page(), told.for_sending_page()):
                assert shown.what_to_do
                assert not COMMANDS.search(texts(shown)), texts(shown)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("reason", list(WaitingReason), ids=[str(reason) for reason in WaitingReason])
def test_every_wait_is_explained_without_commands(language: str, reason: WaitingReason) -> None:
    told = explain_waiting(Words(language), WaitingFacts(reason, "pracsuite"))
    assert told.title
    assert told.what_happened
    assert not told.trying_again_helps
    assert not COMMANDS.search(texts(told)), texts(told)


def test_every_kind_of_provider_has_a_name_for_people() -> None:
    assert set(PROVIDERS) == set(ACCOUNT_KINDS)


def test_a_large_file_is_told_in_megabytes_of_this_account() -> None:
    told = explain_failure(
        Words("en"),
        FailureFacts(Code.FILE_TOO_LARGE, provider="cliniko", size_bytes=1_201_433, max_bytes=1_000_000),
    )
    assert told.what_happened == "The file has 1.2 MB. At most 1 MB can be sent to Cliniko."


def test_where_the_patients_number_stands_depends_on_the_provider() -> None:
    def steps(provider: str) -> str:
        return " ".join(explain_failure(Words("en"), FailureFacts(Code.PATIENT_REQUIRED, provider=provider)).what_to_do)

    assert "the web address of the patient's page in PracSuite" in steps("pracsuite")
    assert "national identity number" in steps("nhn")
    assert "web address" not in steps("redox")


def test_an_unknown_patient_is_named_and_any_other_refusal_has_the_providers_words() -> None:
    unknown = explain_failure(Words("en"), FailureFacts(Code.REFUSED_BY_PROVIDER, About.PATIENT, "pracsuite", "4711"))
    assert unknown.title == "PracSuite does not know this patient"
    assert "4711" in unknown.what_happened
    other = explain_failure(Words("en"), FailureFacts(Code.REFUSED_BY_PROVIDER, words="Not\na PDF.", provider="ovok"))
    assert "“Not a PDF.”" in other.what_happened


def test_a_document_that_is_still_searched_for_is_to_be_waited_for() -> None:
    searching = explain_failure(Words("en"), FailureFacts(Code.NOT_CONFIRMED, still_searching=True))
    assert searching.what_to_do[0].startswith("Wait.")
    over = explain_failure(Words("en"), FailureFacts(Code.NOT_CONFIRMED))
    assert over.title == "It did not arrive in the chart"


@pytest.mark.parametrize(
    ("code", "helps"),
    [
        (Code.FILE_EMPTY, False),
        (Code.FILE_TOO_LARGE, False),
        (Code.FILE_MISSING, True),
        (Code.FILE_CHANGED, True),
        (Code.FILE_INCOMPLETE, False),
        (Code.NOT_A_REGULAR_FILE, False),
        (Code.SOURCE_NOT_ALLOWED, True),
        (Code.UNSUPPORTED_TYPE, False),
        (Code.UNKNOWN_ACCOUNT, False),
        (Code.PATIENT_REQUIRED, False),
        (Code.INVALID_REQUEST, False),
        (Code.REFUSED_BY_PROVIDER, False),
        (Code.REFUSED_BY_STORAGE, False),
        (Code.NOT_CONFIRMED, True),
        (Code.OUTCOME_UNKNOWN, True),
        (Code.GAVE_UP, True),
        (Code.DUPLICATE, False),
        (Code.CANCELLED, True),
    ],
    ids=[str(code) for code in Code],
)
def test_whether_the_same_bytes_can_succeed(code: Code, helps: bool) -> None:
    assert trying_again_helps(FailureFacts(code)) is helps


def test_a_document_that_only_a_person_can_look_for_is_not_tried_again() -> None:
    assert not trying_again_helps(FailureFacts(Code.OUTCOME_UNKNOWN, only_a_person_can_look=True))


def test_a_wait_says_until_when_and_whose_turn_it_is() -> None:
    words, at = Words("en"), datetime(2026, 3, 2, 12, tzinfo=UTC)
    assert words.moment(at) in until_when(words, WaitingFacts(WaitingReason.TROUBLE, until=at))
    assert "however long" in until_when(words, WaitingFacts(WaitingReason.ACCOUNT_DOWN))
    assert explain_waiting(words, WaitingFacts(WaitingReason.ACCOUNT_PARKED)).who_acts is WhoActs.IT
