"""Logging, set up once per process: our events and the records of libraries leave through one handler.

Our events go to it straight. A record of `logging` for each would cost as much as everything else about a line.
"""

import contextlib
import json
import logging
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from config.redaction import OUR_PACKAGES, REWRITES, RedactErrors, RedactMessages, format_traceback

# At INFO these log every address (httpx: patients and signatures) or every task's arguments. urllib3's warnings hold
# addresses as well.
QUIET_LEVELS = {
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "botocore": logging.WARNING,
    "urllib3": logging.ERROR,
    "celery.worker.strategy": logging.WARNING,
    # That a task has succeeded, or was ignored. Our own events say what it has done.
    "celery.app.trace": logging.WARNING,
    # An outage of Redis while a result is stored. Whoever stores it says what follows.
    "celery.backends.redis": logging.CRITICAL,
}
PAYLOAD_KEYS = ("data", "args", "kwargs", "return_value")


class StderrHandler(logging.StreamHandler[Any]):  # Any: sys.stderr may be replaced by anything that writes text
    """The handler that `configure_logs` installs. Its class tells it apart from other handlers in a second call."""

    def __init__(self, renderers: Sequence[Processor]) -> None:
        super().__init__(sys.stderr)
        self._renderers = renderers
        self.setFormatter(_formatter(renderers))
        self.addFilter(RedactErrors())

    def write(self, event: EventDict) -> None:
        """Write one of our events. Never raises, as `emit`: what is logged goes on without the line."""
        name, word = event.get("logger"), event.get("event")
        try:
            line: Any = event
            for render in self._renderers:
                line = render(None, "", line)
            with _lock_of(self):
                self.stream.write(line + self.terminator)
                self.flush()
        except Exception:  # noqa: BLE001, a value's own __str__ may raise anything
            self._write_lost({"logger": name, "line": word})

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  the standard library's name
        """Log that a line was lost, and where. The standard library would print the line's arguments."""
        self._write_lost({"logger": record.name, "place": f"{record.filename}:{record.lineno}"})

    def _write_lost(self, line: dict[str, object]) -> None:
        with contextlib.suppress(OSError, ValueError), _lock_of(self):  # the stream itself is gone
            self.stream.write(json.dumps({"event": "log_line_lost", **line}) + self.terminator)
            self.flush()


class StraightLogger:
    """What structlog hands our events to, in the place of a logger of `logging`, from which it has name and level."""

    def __init__(self, logger: logging.Logger, handler: StderrHandler) -> None:
        self.name = logger.name
        self.disabled = logger.disabled
        self.getEffectiveLevel = logger.getEffectiveLevel
        self._handler = handler

    def info(self, /, **event: Any) -> None:
        self._handler.write(event)

    debug = warning = error = exception = critical = info  # the level stands in the event


def configure_logs(format: str, level: str) -> None:  # noqa: A002  the settings' own word
    """Send everything that is logged in this process to standard error, as "json" lines or for the "console".

    `level` (debug, info, warning, error) is that of our own loggers. Those of libraries never go below INFO, since
    their debugging output holds keys and message bodies. Uncaught errors and warnings are logged as well.
    """
    handler = StderrHandler(_renderers(format))
    root = logging.getLogger()
    root.handlers = [other for other in root.handlers if not isinstance(other, StderrHandler)] + [handler]
    _set_levels(logging.getLevelNamesMapping()[level.upper()])
    for name, rewrite in REWRITES.items():
        logger = logging.getLogger(name)
        logger.filters = [other for other in logger.filters if not isinstance(other, RedactMessages)]
        logger.addFilter(RedactMessages(rewrite))
    logging.captureWarnings(True)
    _log_uncaught_errors()
    named_logger = structlog.stdlib.LoggerFactory(ignore_frame_names=[__name__])  # named for the module that logs
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_common_processors(),
            structlog.stdlib.PositionalArgumentsFormatter(),
            structlog.processors.StackInfoRenderer(),
        ],
        logger_factory=lambda *names: StraightLogger(named_logger(*names), handler),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,  # a logger used before this call must follow it too
    )


def _set_levels(level: int) -> None:
    logging.getLogger().setLevel(max(level, logging.INFO))
    for name in OUR_PACKAGES:
        logging.getLogger(name).setLevel(level)
    for name, quiet in QUIET_LEVELS.items():
        logging.getLogger(name).setLevel(max(level, quiet))


def _lock_of(handler: logging.Handler) -> AbstractContextManager[object]:
    assert handler.lock  # noqa: S101, `logging` makes it with the handler
    return handler.lock


def _renderers(format: str) -> list[Processor]:  # noqa: A002
    renderer: Processor = structlog.processors.JSONRenderer(serializer=json.dumps, default=str)
    if format == "console":
        renderer = structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    return [structlog.processors.ExceptionRenderer(format_traceback), renderer]


def _formatter(renderers: Sequence[Processor]) -> logging.Formatter:
    """For the records of libraries."""
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*_common_processors(), name_task],
        processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *renderers],
    )


def _common_processors() -> list[Processor]:
    """For our events and for the records of libraries."""
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        drop_payloads,
    ]


def drop_payloads(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor that removes the keys under which Celery hands over arguments and results."""
    for key in PAYLOAD_KEYS:
        event.pop(key, None)
    return event


def name_task(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    """A structlog processor that adds a task's id, name and running time to Celery's own lines about it."""
    context = getattr(event.get("_record"), "data", None)
    if isinstance(context, dict):
        names = {"id": "task_id", "name": "task", "runtime": "runtime_seconds"}
        event.update({names[key]: value for key, value in context.items() if key in names})
    return event


def _log_uncaught_errors() -> None:
    """Log what the interpreter would otherwise print, with the error's text."""
    log = structlog.get_logger("config.logs")

    def in_process(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            sys.__excepthook__(kind, error, trace)
        else:
            log.critical("process_crashed", exc_info=(kind, error, trace))

    def in_thread(crash: threading.ExceptHookArgs) -> None:
        if crash.exc_value is not None and not isinstance(crash.exc_value, SystemExit):
            name = crash.thread.name if crash.thread else None
            log.critical("thread_crashed", thread=name, exc_info=(crash.exc_type, crash.exc_value, crash.exc_traceback))

    sys.excepthook = in_process
    threading.excepthook = in_thread
