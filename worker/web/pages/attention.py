"""Needs attention: each failure in a sentence, with the buttons that fit it, for one or several at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from starlette.responses import Response

from tasks.model.errors import Code
from tasks.model.job import Job
from worker.web.acts import Act, Shown, acts_for
from worker.web.explain import Explained, Explainer
from worker.web.job_index import Search
from worker.web.pages.acting import Told, act_on
from worker.web.users import Right
from worker.web.visit import Visit

_MOST = 50


@dataclass(frozen=True, slots=True)
class Row:
    job: Job
    shown: Shown
    explained: Explained
    acts: Sequence[Act]


@dataclass(frozen=True, slots=True)
class Kind:
    """Failures of one clinic for one reason, with one thing to do."""

    account: str
    explained: Explained
    rows: Sequence[Row]
    # What happened differs: it names a number, or has the provider's words.
    told_of_each: bool
    # The acts that fit all of them.
    acts: Sequence[Act]
    may_act: bool


def attention(visit: Visit) -> Response:
    visit.looked("attention")
    return _page(visit)


def act_on_several(visit: Visit) -> Response:
    """One act for all that are ticked."""
    return _page(visit, act_on(visit))


def _page(visit: Visit, told: Sequence[Told] = ()) -> Response:
    account, code = visit.query.get("account", ""), visit.query.get("code", "")
    accounts = [name for name in visit.accounts() if account in ("", name)]
    search = Search(accounts, state="attention", codes=[code] if code in {str(each) for each in Code} else None)
    entries, total = visit.services.index.find_and_count(search, _MOST)
    kinds = _by_kind(visit, visit.services.runtime.ledger.get_all([entry.job_id for entry in entries]))
    return visit.render(
        "attention.html", kinds=kinds, total=total, shown=sum(len(kind.rows) for kind in kinds), told=told
    )


def _by_kind(visit: Visit, jobs: Sequence[Job]) -> Sequence[Kind]:
    explainer = Explainer(visit.services.runtime, visit.language)
    grouped: dict[tuple[str, str, Sequence[str]], list[Row]] = {}
    for job in jobs:
        explained = explainer.failure(job, may_act=visit.user.may(Right.ACT, job.account))
        row = Row(job, Shown.of(job), explained, acts_for(job, explained.again))
        grouped.setdefault((job.account, explained.title, explained.what_to_do), []).append(row)
    return [_kind(visit, account, rows) for (account, _, _), rows in grouped.items()]


def _kind(visit: Visit, account: str, rows: Sequence[Row]) -> Kind:
    told_of_each = len({row.explained.what_happened for row in rows}) > 1
    explained = replace(rows[0].explained, what_happened="") if told_of_each else rows[0].explained
    return Kind(account, explained, rows, told_of_each, _shared(rows), visit.user.may(Right.ACT, account))


def _shared(rows: Sequence[Row]) -> Sequence[Act]:
    return [act for act in rows[0].acts if all(act in row.acts for row in rows)]
