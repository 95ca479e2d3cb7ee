"""Today: what has arrived, what is on its way, what waits, and what needs attention, for each clinic."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from starlette.responses import RedirectResponse, Response

from tasks.accounts.status import AccountStatus
from tasks.model.job import Job
from tasks.model.times import to_ms
from worker.cli.commands.accounts import resumed
from worker.web.explain import Explained, Explainer
from worker.web.job_index import Counted
from worker.web.left_in_inbox import LeftAlone
from worker.web.users import EVERY_ACCOUNT, Right
from worker.web.visit import Refused, Visit

_MOST_WAITING = 5
_MOST_LEFT = 10


@dataclass(frozen=True, slots=True)
class Clinic:
    status: AccountStatus
    # Why it takes no documents; None while it does.
    trouble: Explained | None
    delivered: int
    on_the_way: int
    attention: int
    # Those that have waited for long, and why.
    waiting: Sequence[tuple[Job, Explained]]
    left: Sequence[LeftAlone]
    may_resume: bool


def today(visit: Visit) -> Response:
    if not visit.partial:  # the page asks for itself again and again
        visit.looked("today")
    # What lies beside the clinics' folders is nobody's, and its name may be a patient's.
    beside = visit.services.left_in_inbox.by_account().get("", ()) if visit.user.may(Right.LOOK, EVERY_ACCOUNT) else ()
    return visit.render("today.html", clinics=_clinics(visit, visit.accounts()), beside=beside[:_MOST_LEFT])


def resume(visit: Visit) -> Response:
    """Let an account that is parked or down be tried now, as `chartpost accounts resume` does."""
    account = visit.text("account")
    if account not in visit.accounts(Right.ADMIN):
        raise Refused(403, "not_allowed")
    visit.did("resume", "begun", account=account)
    list(resumed(visit.services.runtime, account))
    return RedirectResponse("/", status_code=303)


def _clinics(visit: Visit, accounts: Collection[str]) -> Sequence[Clinic]:
    services = visit.services
    explainer = Explainer(services.runtime, visit.language)
    counted = services.index.counted_since(to_ms(_midnight()))
    left = services.left_in_inbox.by_account()
    return [
        Clinic(
            status=status,
            trouble=explainer.account(status),
            delivered=counted.get(status.name, Counted()).delivered,
            on_the_way=status.waiting + status.in_flight,
            attention=counted.get(status.name, Counted()).attention,
            waiting=_waiting(visit, status, explainer),
            left=left.get(status.name, ())[:_MOST_LEFT],
            may_resume=visit.user.may(Right.ADMIN, status.name),
        )
        for status in services.runtime.account_statuses.all()
        if status.name in accounts
    ]


def _waiting(visit: Visit, status: AccountStatus, explainer: Explainer) -> Sequence[tuple[Job, Explained]]:
    """The documents that have waited for longer than a note waits, the oldest first."""
    ledger, after = visit.services.runtime.ledger, visit.services.settings.notes.after_minutes
    before = datetime.now(UTC) - timedelta(minutes=after)
    if status.oldest_at is None or status.oldest_at > before:
        return ()
    jobs = ledger.get_all(visit.services.runtime.queries.oldest_open(status.name, before, _MOST_WAITING))
    return [(job, explainer.waiting(job)) for job in jobs if not job.stage.final]


def _midnight() -> datetime:
    """When today began, by this machine's clock."""
    return datetime.now().astimezone().replace(hour=0, minute=0, second=0, microsecond=0)
