"""Threads without which a process is of no use: when one of them ends by an error, the process ends.

Everybody else would take the process for well: it would hold its slots and its connections, and do nothing. Its
supervisor starts another. A process may be killed at any moment, so ending it at once loses nothing.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable

import structlog

from config.redaction import crash_site

log = structlog.get_logger()

EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h


def start_vital(run: Callable[[], object], name: str) -> threading.Thread:
    """Start a daemon thread. `run` returns when the process is about to end; an error of it ends the process."""
    thread = threading.Thread(target=_run, args=(run, name), name=name, daemon=True)
    thread.start()
    return thread


def _run(run: Callable[[], object], name: str) -> None:
    try:
        run()
    except Exception as error:  # noqa: BLE001, outermost; its words may name the patient
        if sys.is_finalizing():
            return
        log.critical("vital_thread_crashed", thread=name, exit=EXIT_CODE, **crash_site(error))
        os._exit(EXIT_CODE)
