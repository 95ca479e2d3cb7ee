"""Logs for commands that only ask, and hardly ever log anything: they are set up with the first event.

structlog brings rich with it. To import both takes as long as all that `chartpost jobs` needs of our own code.
"""

import logging
import sys
import threading
from types import TracebackType
from typing import Any


class LateLog:
    """structlog's logger of that name, which is imported with the first event."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, level: str) -> Any:  # as structlog's own loggers are typed
        if _waits:
            _set_up()
        import structlog  # late: this is what the class is for

        return getattr(structlog.get_logger(self._name), level)


_waits = False


def log_errors_late() -> None:
    """Log as `configure_logs("console", "error")` does, but set that up only when there is something to log."""
    global _waits
    _waits = True
    logging.getLogger().addHandler(_FirstError(logging.ERROR))
    logging.captureWarnings(True)

    def in_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        _set_up()
        sys.excepthook(kind, error, trace)

    def in_thread(crash: threading.ExceptHookArgs) -> None:
        _set_up()
        threading.excepthook(crash)

    sys.excepthook, threading.excepthook = in_process, in_thread


class _FirstError(logging.Handler):
    """Of a library: it gives way to our own handler, which redacts it."""

    def emit(self, record: logging.LogRecord) -> None:
        _set_up()
        logging.getLogger(record.name).handle(record)


def _set_up() -> None:
    global _waits
    from config.logs import configure_logs  # late: it imports structlog

    _waits = False
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other, _FirstError)]
    configure_logs("console", "error")
