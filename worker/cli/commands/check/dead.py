"""`chartpost check`: calls that no worker takes."""

from __future__ import annotations

import redis

from tasks.intake.foreign_messages import DeadLetters
from worker.cli.commands.check.result import CheckResult, failed, passed


def check_dead_letters(letters: DeadLetters) -> CheckResult:
    try:
        count, newest = letters.count(), letters.newest(1)
    except redis.ResponseError as error:
        return failed("dead", f"chartpost:dead cannot be read ({error}): it is not the stream that chartpost writes.")
    if not newest:
        return passed("dead", "Every message of the queues was one for chartpost.")
    letter = newest[0]
    lie = "message became no job" if count == 1 else "messages became no jobs"
    message = (
        f"{count} {lie}; the newest at {letter.at} ({letter.code}): {letter.reason} Look with chartpost dead list and "
        "chartpost dead show ENTRY, tell its sender, then chartpost dead drop ENTRY."
    )
    return failed("dead", message)
