"""Today: what has arrived, what is on its way, what waits, and what needs attention, for each clinic."""

from __future__ import annotations

from starlette.responses import Response

from worker.web.visit import Visit


def today(visit: Visit) -> Response:
    accounts = visit.accounts()
    visit.looked("today")
    rows = [status for status in visit.services.runtime.account_statuses.all() if status.name in accounts]
    return visit.render("today.html", rows=rows)
