"""`chartpost reload`: asks all running processes to read their settings again, and says what each did."""

from __future__ import annotations

import time
from collections.abc import Iterator

import click

from worker.cli.context import Context, pass_context
from worker.cli.output import Output, output_option
from worker.cli.startup import open_runtime
from worker.reload.requests import Answer, ReloadRequests

_COLUMNS = ("part", "ok", "message")
_POLL_SECONDS = 0.2
_REFUSED, _SILENT = 2, 1


@click.command
@click.option("--seconds", default=90.0, show_default=True, help="Wait this long for their answers.")
@output_option
@pass_context
def reload(context: Context, seconds: float, output: Output) -> None:
    """Let all running processes take up changed settings.

    Workers, watchers and intakes on all machines read their settings, from their own files and environment. One whose
    settings are wrong keeps the old ones. The exit code is then 2.
    """
    # Settings that are wrong here have ended the command by now, with nobody asked.
    requests = ReloadRequests(open_runtime(context).redis)
    parts = requests.parts()
    if not parts:
        raise click.ClickException("No worker, watcher or intake is running: they read the settings when they start.")
    exit_code = 0

    def rows() -> Iterator[dict[str, object]]:
        nonlocal exit_code
        for part, answer in _answers(requests, parts, seconds):
            if answer is None:
                answer = Answer(False, f"It has not answered within {seconds:.0f} seconds; its log says what it does.")
                exit_code = max(exit_code, _SILENT)
            elif not answer.ok:
                exit_code = _REFUSED
            yield {"part": part, "ok": answer.ok, "message": answer.message}

    output.rows(_COLUMNS, rows())
    if exit_code:
        raise SystemExit(exit_code)


def _answers(requests: ReloadRequests, parts: list[str], seconds: float) -> Iterator[tuple[str, Answer | None]]:
    """Each part with its answer, as they come in; at last those without one."""
    number, waiting = requests.ask(), list(parts)
    until = time.monotonic() + seconds
    while waiting and time.monotonic() < until:
        answers = requests.answers(number)
        for part in [part for part in waiting if part in answers]:
            waiting.remove(part)
            yield part, answers[part]
        time.sleep(_POLL_SECONDS)
    for part in waiting:
        yield part, None
