"""The page over a running installation: each button does what it says, once, and for whom it may."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import httpx
import pytest

from tests.acceptance.test_accounts import status_of
from tests.harness.installation import Installation, impatient, installed
from tests.harness.pages import PASSWORD, Browser
from tests.harness.ports import free_port
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until

NORTH, CLINIKO, REDOX = "north_clinic", "cliniko_clinic", "redox_hospital"


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory, world: SandboxProcess) -> Iterator[Installation]:
    port = free_port()
    end = f"[web]\nport = {port}\n[notes]\nafter_minutes = 0.01\n"
    with installed(tmp_path_factory.mktemp("page") / "clinic", world, end=end) as started:
        for name, rights in (("anna", ["act"]), ("bob", [f"{CLINIKO}=look"]), ("carla", ["admin"])):
            may = [part for right in rights for part in ("--may", right)]
            added = started.command("users", "add", name, *may, "--password", "@-", input=PASSWORD)
            assert added.returncode == 0, added.stderr
        web = started.start("worker", "web")
        started.start("worker", "watch")
        started.start_worker(**impatient(NORTH))
        wait_until(lambda: "page_ready" in web.log, "the page is there")
        yield started


@pytest.fixture(autouse=True)
def world_as_before(world: SandboxProcess) -> Iterator[None]:
    yield
    world.world(reset=True)


@pytest.fixture
def anna(clinic: Installation) -> Browser:
    return Browser(base(clinic), "anna")


@pytest.fixture
def bob(clinic: Installation) -> Browser:
    return Browser(base(clinic), "bob")


def base(clinic: Installation) -> str:
    return f"http://127.0.0.1:{clinic.process.settings.web.port}"


def ended(clinic: Installation, job_id: str, state: str) -> None:
    wait_until(lambda: clinic.stage(job_id) == state, f"it is {state}")
    wait_until(lambda: clinic.redis.hget(f"chartpost:job:{job_id}", "step") in ("", "confirm"), "it is closed")


def failed(clinic: Installation, patient: str, name: str, content: bytes = b"", account: str = NORTH) -> str:
    """A document of the inbox that has failed; its job's id."""
    clinic.drop(patient, name, content, account)
    [error] = wait_until(
        lambda: [error for error in clinic.errors() if error["file_name"] == name], "its error file is there"
    )
    ended(clinic, error["job_id"], "failed")
    return str(error["job_id"])


def test_today_tells_of_each_clinic_what_has_arrived_what_waits_and_what_needs_attention(
    clinic: Installation, anna: Browser
) -> None:
    clinic.world.world(down={"cliniko": "503"})
    failed(clinic, "4711", f"{uuid4()}.pdf")
    clinic.drop("4711", "arrives.pdf", b"a letter")
    clinic.drop("4711", "waits.pdf", b"a letter", CLINIKO)
    wait_until(lambda: "arrives.pdf" in {receipt["file_name"] for receipt in clinic.receipts()}, "it has arrived")
    wait_until(lambda: status_of(clinic, CLINIKO) == "down", "its account is down")
    wait_until(lambda: "waits.pdf" in anna.get("/").text, "it is listed")
    page = anna.get("/").text
    assert "Cliniko does not answer" in page
    assert "Needs attention" in page
    clinic.world.world(down={"cliniko": None})
    assert Browser(base(clinic), "carla").post("/resume", {"account": CLINIKO}).status_code == 303
    assert anna.post("/resume", {"account": CLINIKO}).status_code == 403
    wait_until(lambda: "waits.pdf" in {receipt["file_name"] for receipt in clinic.receipts()}, "it has arrived too")


def test_what_failed_is_explained_and_dealt_with_and_its_file_can_be_had(clinic: Installation, anna: Browser) -> None:
    name = f"{uuid4()} <script>alert(1)<img src=x>.pdf"
    job = failed(clinic, "4711", name)
    listed = anna.get("/attention").text
    assert "The file is empty" in listed
    assert "<script>alert" not in listed + anna.document(job)
    assert "&lt;script&gt;alert(1)" in anna.document(job)
    file = anna.get(f"/document/{job}/file")
    assert (file.status_code, file.content) == (200, b"")
    assert file.headers["Content-Disposition"].startswith("attachment; ")
    assert "Done." in anna.act(job, "dismiss", note="scanned again")
    assert job not in anna.get("/attention").text
    page = anna.document(job)
    assert "Dealt with by anna." in page
    assert "scanned again" in page
    assert "marked it as dealt with" in page


def test_a_document_that_is_in_the_chart_is_marked_so_by_name_and_one_that_is_not_is_sent(
    clinic: Installation, anna: Browser
) -> None:
    seen, unseen = (f"{word} {uuid4()}.pdf" for word in ("INVALID", "LOST"))
    in_chart = failed(clinic, "4711", seen, b"seen")
    assert "Done." in anna.act(in_chart, "in_chart", record=f"r{uuid4()}", note="I looked")
    ended(clinic, in_chart, "delivered")
    [receipt] = [receipt for receipt in clinic.receipts() if receipt["file_name"] == seen]
    assert (receipt["resolved_by"], receipt["resolution"]["by"]) == ("human", "anna")
    assert "found it in the chart" in anna.document(in_chart)

    held = failed(clinic, "4711", unseen, b"unseen", REDOX)
    assert "It is not in the chart: send it" in anna.document(held)
    before = len([record for record in clinic.chart() if record["file_name"] == unseen])
    assert "Done." in anna.act(held, "not_in_chart")
    ended(clinic, held, "delivered")
    assert len([record for record in clinic.chart() if record["file_name"] == unseen]) == before + 1


def test_a_button_pressed_twice_or_in_an_old_page_acts_once(clinic: Installation, anna: Browser) -> None:
    name = f"LOST {uuid4()}.pdf"
    job = failed(clinic, "4711", name, b"x", REDOX)
    before = len([record for record in clinic.chart() if record["file_name"] == name])
    form = {"job": anna.shown(job), "act": "not_in_chart"}
    second = Browser(base(clinic), "anna")
    with ThreadPoolExecutor() as pool:
        pages = list(pool.map(lambda browser: browser.post(f"/document/{job}", form).text, (anna, second)))
    assert any("Done." in page for page in pages)
    ended(clinic, job, "delivered")
    assert len([record for record in clinic.chart() if record["file_name"] == name]) == before + 1
    stale = anna.post("/attention", form).text
    assert "It has changed since this page was shown" in stale


def test_a_document_on_its_way_is_stopped_and_sent_after_all(clinic: Installation, anna: Browser) -> None:
    clinic.world.world(down={"cliniko": "503"})
    name = f"{uuid4()}.pdf"
    clinic.drop("4711", name, b"x", CLINIKO)
    job = wait_until(lambda: found(anna, file_name=name), "it is found")
    wait_until(lambda: "Stop it" in anna.document(job), "it waits")
    wait_until(lambda: "Done." in anna.act(job, "cancel"), "it is stopped")
    ended(clinic, job, "cancelled")
    clinic.world.world(down={"cliniko": None})
    assert "Done." in anna.act(job, "send_again")
    ended(clinic, job, "delivered")
    assert len([record for record in clinic.chart() if record["file_name"] == name]) == 1


def found(browser: Browser, **asked: str) -> str:
    """The id of the first document that is found; empty if none is."""
    page = browser.post("/find", asked).text
    return page.partition('href="/document/')[2][:36] if 'href="/document/' in page else ""


def test_a_document_is_found_by_patient_name_state_clinic_day_job_and_record(
    clinic: Installation, anna: Browser
) -> None:
    name, patient = f"Überweisung {uuid4()}.pdf", f"p{uuid4()}"
    clinic.drop(patient, name, b"a letter")
    [receipt] = wait_until(lambda: [each for each in clinic.receipts() if each["file_name"] == name], "it arrives")
    job = receipt["job_id"]
    wait_until(lambda: found(anna, patient=patient, state="delivered") == job, "it is found by its patient")
    day = receipt["times"]["received"][:10]
    for asked in (
        {"file_name": name[:20].upper()},
        {"patient": patient, "account": NORTH, "since": day, "until": day},
    ):
        assert found(anna, **asked) == job, asked
    for reference in (job, job[:8], str(receipt["record"]["id"])):
        assert anna.post("/find", {"reference": reference}).headers["Location"] == f"/document/{job}", reference
    for asked in ({"patient": patient, "account": CLINIKO}, {"patient": patient, "state": "failed"}, {"patient": "x"}):
        assert found(anna, **asked) == "", asked
    assert anna.post("/find", {"since": "tomorrow"}).status_code == 400
    assert "In the chart" in anna.document(job)
    clinic.redis.delete(f"chartpost:job:{job}")
    clinic.redis.zrem("chartpost:jobs", job)
    page = anna.post("/find", {"patient": patient}).text
    assert "Older documents" in page
    assert name in page
    assert name not in anna.post("/find", {"patient": patient, "state": "failed"}).text


def test_files_are_sent_from_the_page_once_or_refused_with_what_to_do(clinic: Installation, anna: Browser) -> None:
    name, patient = f"{uuid4()}.pdf", f"p{uuid4()}"
    files = [("file", (name, b"sent by hand")), ("file", ("empty.pdf", b""))]
    page = anna.post("/send", {"account": NORTH, "patient": patient}, files=files).text
    assert f"<strong>{name}</strong> is on its way." in page
    assert "empty.pdf: The file is empty" in page
    wait_until(lambda: len(clinic.chart(patient_id=patient)) == 1, "it is in the chart")
    assert not list((clinic.data / "processing" / ".uploads").iterdir())
    assert anna.post("/send", {"account": NORTH}, files=[("file", ("", b""))]).status_code == 200


def test_somebody_of_another_clinic_sees_and_does_nothing_and_learns_of_nothing(
    clinic: Installation, anna: Browser, bob: Browser
) -> None:
    name, patient = f"{uuid4()}.pdf", f"p{uuid4()}"
    job = failed(clinic, patient, name)
    shown = anna.shown(job)
    for path in (f"/document/{job}", f"/document/{job}/file", "/document/../../etc/passwd", "/nowhere"):
        assert bob.get(path).status_code == 404, path
    assert bob.get(f"/document/{job}").text == bob.get(f"/document/{uuid4()}").text
    for path in ("/", "/attention", f"/attention?account={NORTH}", "/send"):
        page = bob.get(path).text
        assert NORTH not in page, path
        assert name not in page, path
    for asked in ({"patient": patient}, {"file_name": name}, {"account": NORTH}):
        assert found(bob, **asked) == "", asked
    assert bob.post("/find", {"reference": job}).status_code == 200
    for act in ("dismiss", "send_again"):
        told = bob.post("/attention", {"job": shown, "act": act}).text
        assert "It has changed since" in told
        assert name not in told
    assert bob.post("/send", {"account": CLINIKO, "patient": "1"}, files=[("file", ("a.pdf", b"x"))]).status_code == 403
    assert bob.post("/send", {"account": NORTH, "patient": "1"}, files=[("file", ("a.pdf", b"x"))]).status_code == 403
    own = failed(clinic, patient, f"own {name}", account=CLINIKO)
    assert bob.get(f"/document/{own}").status_code == 200
    assert bob.post(f"/document/{own}", {"job": anna.shown(own), "act": "dismiss"}).status_code == 403
    assert anna.shown(job) == shown, "nothing was done"


def test_a_forged_form_does_nothing(clinic: Installation, anna: Browser, bob: Browser) -> None:
    job = failed(clinic, "4711", f"{uuid4()}.pdf")
    form = {"job": anna.shown(job), "act": "dismiss"}
    assert anna.post("/attention", form, token="").status_code == 403
    assert anna.post("/attention", form, token=bob.token()).status_code == 403
    foreign = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    answer = anna.http.post("/attention", data={**form, "form_token": anna.token()}, headers=foreign)
    assert answer.status_code == 403
    assert httpx.post(f"{base(clinic)}/attention", data=form, trust_env=False).headers["Location"].startswith("/login")
    for field, value in (("act", "format_disk"), ("job", "no-such"), ("note", "n" * 2000)):
        assert anna.post("/attention", {**form, field: value}).status_code == 400, field
    assert job in anna.get("/attention").text, "it is as it was"


def test_patients_stand_in_no_log_no_address_no_cache_and_no_record_of_acts(
    clinic: Installation, anna: Browser
) -> None:
    patient, name = f"patient-{uuid4()}", f"name-{uuid4()}.pdf"
    job = failed(clinic, patient, name)
    answers = [
        anna.get("/attention"),
        anna.get(f"/document/{job}"),
        anna.post("/find", {"patient": patient, "file_name": name}),
        anna.post("/send", {"account": NORTH, "patient": patient}, files=[("file", (name, b""))]),
        anna.post(f"/document/{job}", {"job": anna.shown(job), "act": "dismiss", "note": f"of {patient}"}),
    ]
    for answer in answers:
        assert answer.headers["Cache-Control"] == "no-store"
        assert patient not in str(answer.url) + answer.headers.get("Location", "")
    kept = "".join(path.read_text() for path in (clinic.data / "audit").glob("*.jsonl"))
    logs = "".join(child.log for child in clinic.children)
    in_redis = str([clinic.redis.lrange(key, 0, -1) for key in clinic.redis.scan_iter("chartpost:acts:*")])
    for secret in (patient, name):
        assert secret not in kept + logs + in_redis
    lines = [json.loads(line) for line in kept.splitlines()]
    acts = [(line["act"], line["outcome"]) for line in lines if line.get("job") == job and "outcome" in line]
    assert acts == [("dismiss", "begun"), ("dismiss", "done")]
    digest = clinic.process.seal.lookup("patient", NORTH, patient)
    assert any(line["act"] == "search" and line["patient"] == digest and line["user"] == "anna" for line in lines)
