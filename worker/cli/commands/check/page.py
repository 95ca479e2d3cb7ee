"""`chartpost check`: the page for the clinic's staff, where there is one."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module

from config.settings import Settings
from worker.cli.commands.check.result import CheckResult
from worker.cli.extra import NotInstalled, page_extra

_USERS = "web-users.json"  # `chartpost web` may run by itself, too


def check_page(settings: Settings) -> Iterator[CheckResult]:
    """Nothing if `run` does not serve the page and nobody has been added to it."""
    if not settings.web.enabled and not (settings.data_dir / _USERS).exists():
        return
    try:
        with page_extra():
            # By its name: the page's room stands above this one, and needs packages that only the page does.
            findings = list(import_module("worker.web.checks").examine(settings))
            import_module("worker.web.server")
    except NotInstalled as error:
        yield CheckResult("page", None, False, error.message)
        return
    for finding in findings:
        yield CheckResult("page", None, finding.ok, finding.sentence)
