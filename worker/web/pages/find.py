"""Find: what became of a document, by patient, file name, date, state, clinic, job or record.

The form is sent by POST, since addresses stand in histories and logs of proxies, and must not name a patient.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.responses import RedirectResponse, Response

from tasks.model.job import Job
from tasks.model.route import Stage
from tasks.model.times import to_ms
from worker.web.explain import Explained, Explainer
from worker.web.job_index import Search
from worker.web.visit import Refused, Visit

_MOST = 30
_LAST_PAGE = 200
_FIELDS = ("patient", "file_name", "reference", "since", "until", "state", "account")
_IN_LINKS = ("state", "account")  # never what names a patient
_STATES = ("", "open", "attention", "delivered", "failed", "cancelled")
_NEVER = datetime.fromtimestamp(0, UTC)
_ID = re.compile(r"[0-9a-f-]{6,36}")


@dataclass(frozen=True, slots=True)
class Found:
    job: Job
    # Why it failed or waits; None of a delivered one.
    explained: Explained | None


@dataclass(frozen=True, slots=True)
class OnDisk:
    """A document whose job has left Redis, by its receipt or error file."""

    account: str
    file_name: str
    state: str
    at: datetime | None


@dataclass(frozen=True, slots=True)
class Reason:
    """How many of the failures that were found are of one clinic and one reason."""

    account: str
    title: str
    documents: int


def find(visit: Visit) -> Response:
    """The form; with the state or the clinic that a link of ours names, also what it finds."""
    asked = dict.fromkeys(_FIELDS, "") | {name: visit.query.get(name, "") for name in _IN_LINKS}
    if any(asked.values()):
        return _page(visit, asked, _search(visit, asked))
    return visit.render(
        "find.html", asked=asked, found=None, older=(), reasons=(), more=False, number=0, states=_STATES
    )


def search(visit: Visit) -> Response:
    asked = {name: visit.text(name) for name in _FIELDS}
    reference = asked["reference"].casefold()
    if reference and (job_id := _by_reference(visit, reference)):
        visit.looked("find", job=job_id)
        return RedirectResponse(f"/document/{job_id}", status_code=303)
    return _page(visit, asked, None if reference else _search(visit, asked))


def _page(visit: Visit, asked: Mapping[str, str], wanted: Search | None) -> Response:
    number = _page_number(visit)
    entries = visit.services.index.find(wanted, _MOST + 1, number * _MOST) if wanted else ()
    if wanted and wanted.patients is not None:
        visit.searched(dict.fromkeys(wanted.accounts, asked["patient"]))
    else:
        visit.looked("find")
    jobs = visit.services.runtime.ledger.get_all([entry.job_id for entry in entries[:_MOST]])
    found = _explained(visit, jobs)
    return visit.render(
        "find.html",
        asked=asked,
        found=found,
        older=() if number or not wanted else _older(visit, wanted, asked["patient"]),
        reasons=() if number or not wanted else _reasons(visit, wanted),
        more=len(entries) > _MOST,
        number=number,
        states=_STATES,
    )


def _reasons(visit: Visit, wanted: Search) -> Sequence[Reason]:
    """Where failures are asked for: all of them by clinic and reason, the most frequent of each clinic first."""
    if wanted.state not in ("failed", "attention"):
        return ()
    explainer = Explainer(visit.services.runtime, visit.language)
    counts = visit.services.index.count_by_code(wanted)
    reasons = [Reason(account, explainer.usual_title(account, code), n) for (account, code), n in counts.items()]
    return sorted(reasons, key=lambda reason: (reason.account, -reason.documents, reason.title))


def _older(visit: Visit, wanted: Search, patient: str) -> Sequence[OnDisk]:
    """The patient's documents whose jobs have left Redis, as far as they lie on this machine; the newest first."""
    if not patient or wanted.state in ("open", "attention"):
        return ()
    folders, ledger = visit.services.runtime.folders, visit.services.runtime.ledger
    found = []
    for account in wanted.accounts:
        for companions, state in ((folders.receipts, "delivered"), (folders.error_files, "")):
            for closed in companions.of_patient(account, patient):
                state_there = state or str(closed.content.get("state"))
                older = OnDisk(account, closed.document.name, state_there, _ended_at(closed.content))
                if state_there in _STATES and _fits(older, wanted) and not ledger.known(closed.content["job_id"]):
                    found.append(older)
    return sorted(found, key=lambda each: each.at or _NEVER, reverse=True)[:_MOST]


def _fits(older: OnDisk, wanted: Search) -> bool:
    at = to_ms(older.at) if older.at else 0
    return (
        wanted.state in ("", older.state)
        and wanted.file_name in older.file_name.casefold()
        and (wanted.since or 0) <= at
        and (wanted.until is None or at < wanted.until)
    )


def _ended_at(content: Mapping[str, Any]) -> datetime | None:
    times = content.get("times")
    text = times.get("delivered") if isinstance(times, Mapping) else content.get("at")
    try:
        return datetime.fromisoformat(str(text))
    except ValueError:
        return None


def _search(visit: Visit, asked: Mapping[str, str]) -> Search:
    """Raises Refused for what our form cannot have sent."""
    seal = visit.services.runtime.seal
    accounts = [name for name in visit.accounts() if asked["account"] in ("", name)]
    patient = asked["patient"]
    if asked["state"] not in _STATES:
        raise Refused(400, "malformed")
    return Search(
        accounts,
        # As `JobCodec` keeps it in a row.
        {name: seal.lookup("patient", name, patient) for name in accounts} if patient else None,
        asked["file_name"].casefold(),
        _day(asked["since"]),
        _day(asked["until"], days_later=1),
        asked["state"],
    )


def _day(text: str, days_later: int = 0) -> int | None:
    """The beginning of a day by this machine's clock, in milliseconds. Raises Refused."""
    if not text:
        return None
    try:
        day = datetime.strptime(text, "%Y-%m-%d") + timedelta(days=days_later)  # noqa: DTZ007, made local below
        return to_ms(day.astimezone())
    except (ValueError, OverflowError, OSError):
        raise Refused(400, "malformed") from None


def _page_number(visit: Visit) -> int:
    text = visit.text("number") or "0"
    if not text.isdecimal() or len(text) > 4 or int(text) > _LAST_PAGE:
        raise Refused(400, "malformed")
    return int(text)


def _by_reference(visit: Visit, reference: str) -> str | None:
    """The id of the one job that a reference means: the beginning of its id, or the id of its record."""
    index, accounts = visit.services.index, visit.accounts()
    if _ID.fullmatch(reference) and len(ids := index.with_beginning(reference, accounts)) == 1:
        return ids[0]
    ledger = visit.services.runtime.ledger
    # An older one than the index holds.
    job = ledger.get(reference) or index.with_record(visit.text("reference"), accounts, ledger)
    return job.id if job and job.account in accounts else None


def _explained(visit: Visit, jobs: Sequence[Job]) -> Sequence[Found]:
    explainer = Explainer(visit.services.runtime, visit.language)
    return [Found(job, _why(explainer, job)) for job in jobs]


def _why(explainer: Explainer, job: Job) -> Explained | None:
    if job.stage is Stage.DELIVERED:
        return None
    # Its title alone is shown, which is the same with and without buttons.
    return explainer.failure(job, may_act=False) if job.stage.final else explainer.waiting(job)
