"""What may appear in logs: no contents of messages, and only error texts that cannot quote a document.

The messages that other services send through Celery hold patient data, and the text of an exception may quote the
value that caused it. What stays is enough to find the place: the exception's type, file and line of every frame, and
its text where it is known to be harmless.

`crash_site` and `describe` are for errors. The rest takes message contents out of the lines that Celery and kombu log,
logger by logger: see `REWRITES`.
"""

import logging
import re
import traceback
from collections.abc import Callable, Mapping
from types import TracebackType

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
Rewrite = Callable[[logging.LogRecord], None]

OUR_PACKAGES = {"config", "tasks", "worker"}
TRACE_KEYS = ("id", "name", "runtime", "description")
TASK_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")


# Errors


def describe(error: BaseException) -> str:
    """An error's type; and its text where that cannot quote a document: our own, the operating system's, Redis's."""
    kind = type(error)
    package = kind.__module__.partition(".")[0]
    name = kind.__qualname__ if package == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    text = ""
    if package in OUR_PACKAGES:
        text = str(error)
    elif package == "redis":
        # Both redis-py and the server quote the command that failed, with its values.
        text = re.sub(
            r"^Command # .* of pipeline caused error: |,? with args beginning with.*", "", str(error), flags=re.S
        )
    elif isinstance(error, OSError):
        text = error.strerror or ""  # str(error) would add the path, which may name a patient
    return f"{name}: {text}" if text else name


def crash_site(error: BaseException) -> dict[str, str]:
    """The class of an exception and where it was raised, as fields of a log event; without its text."""
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    place = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else ""
    return {"error": type(error).__name__, "place": place}


def format_traceback(exc_info: ExcInfo) -> str:
    """A traceback with its causes first, in which `describe` words each error."""
    _, error, frames = exc_info
    if error is None:
        return ""
    chain = [(error, frames)]
    seen = {id(error)}  # errors may cause each other in a circle
    while (earlier := _cause(chain[-1][0])) and id(earlier) not in seen:
        seen.add(id(earlier))
        chain.append((earlier, earlier.__traceback__))
    return "\n\n".join(
        "Traceback (most recent call last):\n" + "".join(traceback.format_tb(frames)) + describe(each)
        for each, frames in reversed(chain)
    )


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


class RedactErrors(logging.Filter):
    """Replaces errors among a record's arguments by their descriptions. Belongs on the handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: the record passes, changed."""
        if isinstance(record.args, tuple):
            record.args = tuple(_Plain(describe(arg)) if isinstance(arg, BaseException) else arg for arg in record.args)
        return True


class _Plain(str):
    """Has no quotation marks around it under %r, so that one replacement serves %s and %r."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


# Messages


class RedactMessages(logging.Filter):
    """Takes message contents out of one logger's records.

    Belongs on the logger, not on the handler: other handlers, such as those of pytest or Sentry, must not get the
    contents either.
    """

    def __init__(self, rewrite: Rewrite) -> None:
        super().__init__()
        self._rewrite = rewrite

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: the record passes, changed."""
        self._rewrite(record)
        return True


def _consumer(record: logging.LogRecord) -> None:
    # celery.worker.consumer.consumer and kombu.mixins: four templates print the body, and one also the headers.
    template = str(record.msg)
    if template.startswith("Received unregistered task of type"):
        error = _argument(record, 0)
        name = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
        # The name comes from the caller, so it may be anything.
        shown = name if TASK_NAME.fullmatch(name) else "a name that is not one"
        _replace(record, "Received a task that is not registered here and discarded it: %s", shown)
    elif template.startswith("Received invalid task message"):
        _replace(record, "Received an invalid task message and discarded it: %s", _error(record))
    elif template.startswith("Can't decode message body"):
        _replace(record, "Received a message that cannot be decoded and discarded it: %s", _error(record))
    elif template.startswith("Received and deleted unknown message"):
        _replace(record, "Received a message that is not a task and discarded it")
    elif "body" in template:  # a template of a later version
        _replace(record, "A message was not accepted; its contents are not logged")


def _strategy(record: logging.LogRecord) -> None:
    # celery.worker.strategy: an ETA that cannot be read is printed together with the task's arguments.
    if str(record.msg).startswith("Couldn't convert ETA"):
        _replace(record, "A task's ETA cannot be read: %s", _error(record))
    record.data = None


def _trace(record: logging.LogRecord) -> None:
    # celery.app.trace: the text has results and the texts of errors; `record.data` has the task's arguments too.
    context = record.args
    if not isinstance(context, Mapping):
        return
    error = record.exc_info[1] if record.exc_info else None
    error_type = re.match(r"[\w.]+", str(context.get("exc", "")))
    kept = {key: context.get(key) for key in TRACE_KEYS}
    record.msg = str(record.msg).replace(": %(return_value)s", "").replace("%(exc)s", "%(error)s")
    record.args = {**kept, "error": describe(error) if error else error_type and error_type[0]}
    record.data = {key: value for key, value in kept.items() if value is not None}


def _transport(record: logging.LogRecord) -> None:
    # kombu.transport.redis: messages that cannot be put back, and events that cannot be read, are printed whole.
    template = str(record.msg)
    if template.startswith("Could not restore message"):
        _replace(record, "Could not restore a message")
    elif template.startswith("Cannot process event on channel"):
        _replace(record, "Cannot read an event on channel %r", _argument(record, 0))


def _event_loop(record: logging.LogRecord) -> None:
    # kombu.asynchronous.hub: a callback is printed together with its arguments.
    if str(record.msg).startswith("Callback"):
        _replace(record, "A callback of the event loop failed: %s", _error(record))


def _python_warning(record: logging.LogRecord) -> None:
    # py.warnings: Celery warns with the whole traceback of an error outside a task's body.
    text = str(_argument(record, 0) or record.msg)
    before, found, error = text.partition("Exception raised outside body: ")
    if found:
        error_type = re.match(r"[\w.]+", error)
        shown = error_type[0] if error_type else "unknown error"
        _replace(record, "%sException raised outside a task's body: %s", before, shown)


REWRITES: dict[str, Rewrite] = {
    "celery.worker.consumer.consumer": _consumer,
    "celery.worker.strategy": _strategy,
    "celery.app.trace": _trace,
    "kombu.mixins": _consumer,
    "kombu.transport.redis": _transport,
    "kombu.asynchronous.hub": _event_loop,
    "py.warnings": _python_warning,
}


def _replace(record: logging.LogRecord, template: str, *args: object) -> None:
    record.msg, record.args = template, args


def _argument(record: logging.LogRecord, index: int) -> object:
    return record.args[index] if isinstance(record.args, tuple) and len(record.args) > index else None


def _error(record: logging.LogRecord) -> str:
    error = next((arg for arg in record.args or () if isinstance(arg, BaseException)), None)
    return describe(error) if error else "unknown error"
