"""A receptionist's trial: for each failure she knows what to do, with the page, the notes and the sheet alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import unescape
from uuid import uuid4

import httpx
import polib
import pytest

from tasks.closing.notes import FailureNotes, facts_of
from tasks.ledger import moves
from tasks.ledger.lease import NotStarted
from tasks.model.document import Document, Door
from tasks.model.errors import UNCERTAIN_CODES, About, Code
from tasks.model.job import Failure, Job
from tasks.model.route import Step
from tasks.wording.buttons import Button, button_name
from tasks.wording.explanation import WhoActs, who_acts_name
from tasks.wording.failures import explain_failure
from tasks.wording.language import Words
from tasks.wording.sheet import explanations, helps
from tests.harness.page import ServedPage, form_token, served_page
from tests.harness.waiting import wait_until
from tests.translations import po_file
from tests.worker.cli.jobs import Jobs
from worker.web.acts import Act, Outcome, Shown, acts_for
from worker.web.shown import Shows
from worker.web.users import Right

LANGUAGES = ("en", "de", "nb", "nl")
CONTACT = "Erika, extension 212"
COMMANDS = re.compile(r"chartpost [a-z]|--[a-z]|\bJOB\b|sidecar|\bNone\b|\{|\}|[a-z]_[a-z]")
SENDS = {Act.SEND_AGAIN, Act.NOT_IN_CHART, Act.AS_IT_IS}
# A failure by code, and what it was about where that tells more; `no code`: why is not known any more.
KINDS = [
    *((code, None) for code in Code if code is not Code.DUPLICATE),  # which is no failure
    *((Code.INVALID_REQUEST, about) for about in (About.FILE_NAME, About.PATIENT, About.SIDECAR)),
    (Code.REFUSED_BY_PROVIDER, About.PATIENT),
    (Code.PATIENT_REQUIRED, About.FILE_NAME),
]
IDS = [f"{code} {about}" if about else str(code) for code, about in KINDS]


@pytest.fixture(scope="module")
def trial(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedPage]:
    with served_page(tmp_path_factory.mktemp("trial"), valkey_url, f'[notes]\ncontact = "{CONTACT}"\n') as page:
        page.add("anna", may={"*": Right.ACT})
        page.add("looker", may={"*": Right.LOOK})
        yield page


@pytest.fixture(scope="module")
def anna(trial: ServedPage) -> Iterator[httpx.Client]:
    with trial.logged_in("anna") as client:
        yield client


@pytest.fixture(scope="module")
def failures(trial: ServedPage) -> Mapping[tuple[Code, About | None], Job]:
    return {kind: failed(trial, *kind) for kind in KINDS}


def failed(page: ServedPage, code: Code, about: About | None) -> Job:
    ledger, job_id = page.runtime.ledger, str(uuid4())
    document = Document("north_clinic", "4711", source="", file_name="letter.pdf", size_bytes=1, door=Door.INBOX)
    ledger.open(job_id, document, "pracsuite")
    started = ledger.start(job_id, Step.PRESIGN)
    assert not isinstance(started, NotStarted)
    failure = Failure(code, "For IT: run chartpost retry JOB.", "hint for IT", "The provider said no.", about)
    ledger.apply(started[0], moves.failed(failure, calls=0))
    job = ledger.get(job_id)
    assert job
    return job


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


class Seen:
    """What she sees of one document on its own page."""

    def __init__(self, client: httpx.Client, job: Job, language: str) -> None:
        client.cookies.set("chartpost_language", language)
        answer = client.get(f"/document/{job.id}")
        assert answer.status_code == 200, answer.text
        self.html = answer.text
        sections = re.findall(
            r'<section class="card[^"]*" aria-labelledby="(\w+)">(.*?)</section>', self.html, re.DOTALL
        )
        self.sections = dict(sections)
        self.why = text_of(self.sections["why"])
        self.steps = text_of(" ".join(re.findall(r"<li>(.*?)</li>", self.sections["why"], re.DOTALL)))
        self.acts = [Act(act) for act in re.findall(r'name="act" value="(\w+)"', self.html)]


@pytest.mark.parametrize("kind", KINDS, ids=IDS)
def test_the_sentence_and_the_buttons_of_each_failure_agree(
    trial: ServedPage,
    anna: httpx.Client,
    failures: Mapping[tuple[Code, About | None], Job],
    kind: tuple[Code, About | None],
) -> None:
    job = failures[kind]
    seen = Seen(anna, job, "en")
    assert Act.DISMISS in seen.acts
    assert not COMMANDS.search(seen.why), seen.why
    assert job.id[:8] not in seen.why
    for language in LANGUAGES:
        words = Words(language)
        told = explain_failure(words, facts_of(job, trial.runtime.settings.accounts)).for_page()
        offered = {Button(act) for act in acts_for(job, told.again)}
        steps = plain(" ".join(told.what_to_do))
        named = {button for button in Button if f"“{button_name(words, button)}”" in steps}
        assert named <= offered | {Button.SEND, Button.DOWNLOAD, Button.ATTENTION}, (
            "it names a button that is not there"
        )
        # Whoever has dealt with it elsewhere needs no sentence for that button; the others are explained.
        assert offered - {Button.DISMISS} <= named, "a button is there, and nothing says when to press it"
        if language == "en":
            assert (steps, offered) == (seen.steps, {Button(act) for act in seen.acts}), "the page shows just that"


@pytest.mark.parametrize("language", ["en", "nb"])
def test_the_page_the_note_and_the_sheet_say_the_same(
    trial: ServedPage, anna: httpx.Client, failures: Mapping[tuple[Code, About | None], Job], language: str
) -> None:
    words = Words(language)
    for code, told in explanations(words):
        if code is Code.DUPLICATE:
            continue
        job = failures[code, None]
        seen = Seen(anna, job, language)
        sends_first = seen.acts[0] in SENDS
        if code in UNCERTAIN_CODES:  # here the chart says which button is right
            assert seen.acts[:2] == [Act.IN_CHART, Act.NOT_IN_CHART]
        else:
            assert sends_first is told.trying_again_helps, f"{code}: the sheet says {helps(words, told)}"
        assert f"{words.say('Who acts')}: {who_acts_name(words, told.who_acts)}" in seen.why, code
        assert (CONTACT in seen.why) is (told.who_acts is WhoActs.IT)
        settings = trial.runtime.settings
        settings = settings.model_copy(update={"notes": settings.notes.model_copy(update={"language": language})})
        note = FailureNotes(settings).of(job, "letter.pdf")[".txt"]("")
        advice, _, reference = note.replace(job.account, "").rpartition("--")
        assert text_of(re.findall(r"<h2 id=\"why\">(.*?)</h2>", seen.html)[0]) in advice
        assert CONTACT in advice
        assert not COMMANDS.search(advice), advice
        assert job.id[:8] not in advice
        assert job.id[:8] in reference


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_no_page_has_a_sentence_in_another_language(
    anna: httpx.Client, failures: Mapping[tuple[Code, About | None], Job], language: str
) -> None:
    anna.cookies.set("chartpost_language", language)
    paths = [
        "/",
        "/attention",
        "/find",
        "/find?state=failed",
        "/send",
        *(f"/document/{job.id}" for job in failures.values()),
    ]
    pages = "\n".join(plain(text_of(anna.get(path).text)) for path in paths)
    told = {entry.msgid: entry.msgstr for entry in polib.pofile(str(po_file(language)))}
    english = [text for text, own in told.items() if " " in text and "{" not in text and text not in own]
    assert len(english) > 100
    assert [text for text in english if re.search(rf"(?<!\w){re.escape(plain(text))}(?!\w)", pages)] == []
    assert "The provider said no." in pages, "the provider's own words stay"
    assert "hint for IT" not in pages


def test_who_may_only_look_reads_what_the_note_says(
    trial: ServedPage, failures: Mapping[tuple[Code, About | None], Job]
) -> None:
    with trial.logged_in("looker") as client:
        for (code, _), job in failures.items():
            seen = Seen(client, job, "en")
            assert seen.acts == [], code
            assert "press “" not in seen.steps, code


def test_failures_with_one_thing_to_do_stand_together_and_each_says_what_happened(
    trial: ServedPage, anna: httpx.Client
) -> None:
    anna.cookies.set("chartpost_language", "en")
    ledger, ids = trial.runtime.ledger, []
    for patient in ("4712", "4713"):
        ids.append(str(uuid4()))
        document = Document("south_clinic", patient, source="", file_name=f"{patient}.pdf", size_bytes=1)
        ledger.open(ids[-1], document, "pracsuite")
        started = ledger.start(ids[-1], Step.PRESIGN)
        assert not isinstance(started, NotStarted)
        failure = Failure(Code.REFUSED_BY_PROVIDER, "No such patient.", about=About.PATIENT)
        ledger.apply(started[0], moves.failed(failure, calls=0))

    def listed() -> str:
        page = anna.get("/attention?account=south_clinic").text
        return page if ids[-1] in page else ""

    page = wait_until(listed, "both are listed")
    assert page.count("PracSuite does not know this patient</h2>") == 1
    for patient in ("4712", "4713"):
        assert f"PracSuite has no patient with the number {patient}." in page
    form = re.findall(r'name="job" value="([^"]+)"', page)
    assert [shown[:36] for shown in form] == ids[::-1]


@pytest.mark.usefixtures("failures")
def test_failures_are_counted_by_clinic_and_reason(anna: httpx.Client) -> None:
    anna.cookies.set("chartpost_language", "en")
    found = "2 north_clinic: PracSuite did not accept the document"
    wait_until(lambda: found in text_of(anna.get("/find?state=failed&account=north_clinic").text), "they are counted")
    assert "By clinic and reason" not in anna.get("/find?state=open").text
    assert anna.get("/find?state=nonsense").status_code == 400
    assert 'id="found"' not in anna.get("/find?patient=4711").text, "no address names a patient"


@pytest.mark.parametrize("language", LANGUAGES[1:])
def test_what_came_of_an_act_is_told_in_each_language(language: str) -> None:
    ours, english = Shows(Words(language)), Shows(Words("en"))
    for outcome in (*Outcome, "not allowed"):
        assert ours.outcome(outcome) != english.outcome(outcome)
        assert not COMMANDS.search(english.outcome(outcome))
    for act in Act:
        assert ours.did(act) != english.did(act)


def test_a_file_whose_end_seems_to_be_missing_is_sent_as_it_is(trial: ServedPage, anna: httpx.Client) -> None:
    anna.cookies.set("chartpost_language", "en")
    trial.runtime.folders.create()
    jobs = Jobs(trial.runtime)
    job = jobs.failed(jobs.in_care("cut off.pdf"), Code.FILE_INCOMPLETE)
    page = Seen(anna, job, "en")
    assert page.acts == [Act.DISMISS, Act.AS_IT_IS]
    form = {"form_token": form_token(page.html), "job": str(Shown.of(job)), "act": "send_again"}
    assert "That cannot be done with it" in anna.post(f"/document/{job.id}", data=form).text
    told = anna.post(f"/document/{job.id}", data={**form, "act": "as_it_is"}).text
    assert "Done." in told
    now = jobs.get(job.id)
    assert (now.stage, now.document.as_it_is) == ("received", True)
    assert "had it sent as it is" in told


def test_a_file_that_is_no_more_there_is_told(
    anna: httpx.Client, failures: Mapping[tuple[Code, About | None], Job]
) -> None:
    anna.cookies.set("chartpost_language", "en")
    answer = anna.get(f"/document/{failures[Code.FILE_EMPTY, None].id}/file")
    assert answer.status_code == 404
    assert "The file is not here" in answer.text


def plain(text: str) -> str:
    """With the quotation marks of English, whatever the language's own are."""
    return re.sub("[„«‘]", "“", re.sub("[»’]", "”", text.replace("“", "”") if "„" in text else text))
