"""Carries out what a form asks for, and tells what came of it for each document."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.web.acts import Act, Done, Outcome, Shown
from worker.web.users import Right
from worker.web.visit import Refused, Visit

_MOST = 500
_LONGEST_NOTE = 1000
_LONGEST_RECORD = 200


@dataclass(frozen=True, slots=True)
class Told:
    """What came of an act for one document."""

    act: Act
    done: Done
    # As the list has it; empty if it is not known any more.
    file_name: str = ""


def act_on(visit: Visit) -> Sequence[Told]:
    """The form's `act` for each of its `job`. Raises Refused if the form is none of ours, or the person may not."""
    try:
        act = Act(visit.text("act"))
        documents = [Shown.read(text) for text in visit.texts("job")]
    except ValueError:
        raise Refused(400, "malformed") from None
    note, record = visit.text("note"), visit.text("record")
    if len(documents) > _MOST or len(note) > _LONGEST_NOTE or len(record) > _LONGEST_RECORD:
        raise Refused(400, "malformed")
    return [_act_on(visit, act, shown, note, record) for shown in documents]


def _act_on(visit: Visit, act: Act, shown: Shown, note: str, record: str) -> Told:
    job = visit.services.runtime.ledger.get(shown.job_id)
    # Of another clinic, or of none: the answer is the same, so that nobody learns which jobs there are.
    if job is None or not visit.user.may(Right.LOOK, job.account):
        return Told(act, Done(shown.job_id, Outcome.CHANGED))
    where = {"job": job.id, "account": job.account}
    if not visit.user.may(Right.ACT, job.account):
        visit.did(act, "not allowed", **where)
        raise Refused(403, "not_allowed")
    # Before it is done: what is not recorded must not happen.
    visit.did(act, "begun", **where)
    done = visit.services.acts.do(act, shown, visit.user.name, note, record)
    visit.did(act, done.outcome, **where)
    return Told(act, done, job.document.file_name)
