"""`chartpost check`: the bucket to which inbox documents are staged can be written, read and emptied."""

from __future__ import annotations

from collections.abc import Iterator

from tasks.folders.staging import Staging
from tasks.sources.objects import StorageFault
from worker.cli.commands.check.result import CheckResult, failed, passed


def check_staging(staging: Staging | None, prefix: str) -> Iterator[CheckResult]:
    """With a small object, which is removed again. `prefix` is the setting's value; nothing is checked without one."""
    if staging is None:
        return
    try:
        staging.probe()
    except StorageFault as fault:
        hint = "Correct s3.stage_inbox, s3.endpoint_url or the S3 credentials; until then the inbox waits."
        yield failed("staging", f"{prefix}: {fault.why}. {hint}")
    else:
        yield passed("staging", f"{prefix} can be written, read, listed and emptied.")
