"""The page for a clinic's staff over a full ledger: how long each view takes, and what the process keeps of it.

`chartpost web` with its own Redis, asked over HTTP by one browser, whose connection stays. A view counts until its last
byte. Half of the accounts' jobs are the one clinic's; nine in ten were delivered, of the others half failed.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from uuid import uuid4

import httpx

from tasks.ledger import moves
from tasks.ledger.lease import NotStarted
from tasks.model.document import Document, Door
from tasks.model.errors import Code
from tasks.model.job import Facts, Failure, Record
from tasks.model.route import Step
from tasks.runtime import Runtime
from tests.benchmarks import rig
from tests.benchmarks.options import Options
from tests.benchmarks.progress import say
from tests.benchmarks.rig import ACCOUNT, Installation, Part
from tests.benchmarks.table import Row, percentile, shown
from tests.harness.page import CHEAP, PASSWORD
from tests.harness.pages import Browser
from tests.harness.ports import free_port
from tests.harness.sandbox import SandboxProcess
from tests.harness.waiting import wait_until
from worker.web.users import Right, User, Users, new_stamp

_MOST_JOBS = 20_000
_ROUNDS = 15
_MORE_REQUESTS = 300
_ACCOUNTS = (ACCOUNT, "south_clinic")
_DOCUMENTS_OF_A_PATIENT = 4
_PAUSE_SECONDS = 0.1  # so that some requests come after the index has grown old, and others before
_CODES = (Code.REFUSED_BY_PROVIDER, Code.FILE_EMPTY, Code.GAVE_UP, Code.OUTCOME_UNKNOWN)


@dataclass(frozen=True, slots=True)
class Filled:
    """Some of the jobs, to be asked for."""

    delivered: str
    failed: str
    waiting: str
    patient: str
    record: str


def measure(options: Options, folder: Path) -> list[Row]:
    jobs = min(options.jobs, _MOST_JOBS)
    with SandboxProcess("--providers", "pracsuite") as world, rig.fresh_valkey(folder / "redis") as url:
        installation = Installation(folder / "page", world, url)
        return measure_views(installation, fill(installation.runtime(), jobs), jobs)


def measure_views(installation: Installation, filled: Filled, jobs: int) -> list[Row]:
    with served(installation) as (part, browser):
        asked = views(browser, filled)
        rows = []
        for name, view in asked.items():
            seconds = times(view)
            detail = f"95 % {shown(percentile(seconds, 0.95) * 1000)} ms"
            rows.append(Row(f"{name}, {jobs:,} jobs", median(seconds) * 1000, "ms", at_most=300, detail=detail))
        before = resident_bytes(part.pid)
        for view in islice(cycle(asked.values()), _MORE_REQUESTS):
            view()
        after = resident_bytes(part.pid)
    what, detail = (
        f"the page's memory after {_MORE_REQUESTS} views more",
        f"{shown(after / 1e6)} to {shown(before / 1e6)} MB",
    )
    return [*rows, Row(what, after / before, "×", at_most=1.03, detail=detail)]


def fill(runtime: Runtime, jobs: int, first: int = 0, undelivered: int = 10) -> Filled:
    """Jobs as workers leave them: all delivered but one in so many, and these failed or open by turns."""
    kinds: dict[str, str] = {}
    for number in range(first, first + jobs):
        job_id = str(uuid4())
        kind = "delivered" if number % undelivered else "failed" if number % (2 * undelivered) else "waiting"
        open_job(runtime, job_id, number)
        if kind == "delivered":
            deliver(runtime, job_id, number)
        elif kind == "failed":
            fail(runtime, job_id, _CODES[number // (2 * undelivered) % len(_CODES)])
        kinds[kind] = job_id
        if number % 5000 == 0 and number:
            say(f"page: {number} of {jobs} jobs")
    half = first + jobs // 2 // 10 * 10 + 1  # one that was delivered
    return Filled(kinds["delivered"], kinds["failed"], kinds["waiting"], patient_of(half), f"r{half}")


def patient_of(number: int) -> str:
    return f"p{number // (2 * _DOCUMENTS_OF_A_PATIENT)}"


def open_job(runtime: Runtime, job_id: str, number: int) -> None:
    account = _ACCOUNTS[number % len(_ACCOUNTS)]
    document = Document(account, patient_of(number), "", f"referral {number}.pdf", 20_000, door=Door.INBOX)
    provider = runtime.accounts[account].provider
    runtime.ledger.open(job_id, document, provider.kind, route=provider.route(document))


def deliver(runtime: Runtime, job_id: str, number: int) -> None:
    _end(runtime, job_id, lambda job: moves.delivered(job, Record(f"r{number}"), 1, None, facts=Facts()))


def fail(runtime: Runtime, job_id: str, code: Code) -> None:
    _end(runtime, job_id, lambda _: moves.failed(Failure(code, "It failed.", "Look at it."), calls=1))
    runtime.ledger.note_failure(job_id)


def _end(runtime: Runtime, job_id: str, move: Callable[..., moves.Move]) -> None:
    started = runtime.ledger.start(job_id, Step.PRESIGN)
    assert not isinstance(started, NotStarted), started
    assert runtime.ledger.apply(started[0], move(started[0].job))
    closing = runtime.ledger.start(job_id, Step.NOTIFY)
    assert not isinstance(closing, NotStarted), closing
    runtime.ledger.apply(closing[0], moves.finished(closing[0].job, moves.ClosingDone(frozenset({"files"}))))


@contextmanager
def served(installation: Installation) -> Iterator[tuple[Part, Browser]]:
    """`chartpost web`, and somebody who is logged in."""
    port = free_port()
    installation.config.write_text(f"{installation.config.read_text()}\n[web]\nport = {port}\n")
    user = User("anna", CHEAP.hash(PASSWORD), {"*": Right.ADMIN}, new_stamp())
    Users(installation.data).put("anna", lambda _: user)
    with rig.started(installation, "web") as part:
        wait_until(lambda: "page_ready" in part.log.read_text(), "the page is there", rig.READY_SECONDS)
        yield part, Browser(f"http://127.0.0.1:{port}", "anna", PASSWORD)


def views(browser: Browser, filled: Filled) -> Mapping[str, Callable[[], object]]:
    """Each view with its name; the form's token is read once, as a browser has it in its page."""
    token = browser.token()

    def look(path: str) -> Callable[[], object]:
        return lambda: _good(browser.get(path))

    def find(**asked: str) -> Callable[[], object]:
        return lambda: _good(browser.post("/find", asked, token=token))

    today = time.strftime("%Y-%m-%d")
    return {
        "Today": look("/"),
        "Needs attention": look("/attention"),
        "Find, by patient": find(patient=filled.patient),
        "Find, by file name": find(file_name="ferral 1"),
        "Find, by day": find(since=today, until=today),
        "Find, by state and clinic": find(state="failed", account=ACCOUNT),
        "Find, what waits": find(state="open"),
        "Find, by reference": find(reference=filled.delivered[:8]),
        "Find, by record": find(reference=filled.record),
        "Find, a record that is not there": find(reference="r-none"),
        "Document, delivered": look(f"/document/{filled.delivered}"),
        "Document, failed": look(f"/document/{filled.failed}"),
        "Document, waiting": look(f"/document/{filled.waiting}"),
    }


def _good(answer: httpx.Response) -> None:
    assert answer.status_code in (200, 303), answer.text


def times(view: Callable[[], object]) -> list[float]:
    view()
    taken = []
    for _ in range(_ROUNDS):
        time.sleep(_PAUSE_SECONDS)
        began = time.monotonic()
        view()
        taken.append(time.monotonic() - began)
    return taken


def resident_bytes(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024
