"""What must not be logged: the message contents that Celery and kombu print, and the words of other people's errors.

Messages of foreign callers hold patient data, and an error's text may quote whatever it stumbled over. What stays is
enough to find the place: the error's type, file and line of every frame, and its words where we know who wrote them.
"""

import logging
import re
import traceback
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType

ExcInfo = tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
Rewrite = Callable[[logging.LogRecord], None]

OURS = {"config", "tasks", "worker"}
TRACE_KEYS = ("id", "name", "runtime", "description")
TASK_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,99}")


def told(error: BaseException) -> str:
    """An error's type, and its words where they cannot quote a document: ours, the system's, and Redis's."""
    kind = type(error)
    home = kind.__module__.partition(".")[0]
    name = kind.__qualname__ if home == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    words = ""
    if home in OURS:
        words = str(error)
    elif home == "redis":
        # redis-py and the server both quote the command that failed, with its values.
        words = re.sub(
            r"^Command # .* of pipeline caused error: |,? with args beginning with.*", "", str(error), flags=re.S
        )
    elif isinstance(error, OSError):
        words = error.strerror or ""  # without the path
    return f"{name}: {words}" if words else name


def traceback_of(exc_info: ExcInfo) -> str:
    """A traceback with the errors as `told` puts them, causes first."""
    _, error, trace = exc_info
    return "\n\n".join(_chapters(error, trace)) if error else ""


def _chapters(error: BaseException, trace: TracebackType | None) -> Iterator[str]:
    links: list[tuple[BaseException, TracebackType | None]] = [(error, trace)]
    while earlier := _before(links[-1][0], {id(link) for link, _ in links}):
        links.append((earlier, earlier.__traceback__))
    for link, frames in reversed(links):
        yield "Traceback (most recent call last):\n" + "".join(traceback.format_tb(frames)) + told(link)


def _before(error: BaseException, seen: set[int]) -> BaseException | None:
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return earlier if earlier is not None and id(earlier) not in seen else None


class _Told(str):
    """Reads the same under %s and %r."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class QuietErrors(logging.Filter):
    """Replaces errors among a record's arguments by what `told` says of them. Belongs on the handler."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: the record passes, changed."""
        if isinstance(record.args, tuple):
            record.args = tuple(_Told(told(arg)) if isinstance(arg, BaseException) else arg for arg in record.args)
        return True


class QuietMessages(logging.Filter):
    """Takes message contents out of one logger's records. Belongs on the logger, so that every handler is spared."""

    def __init__(self, rewrite: Rewrite) -> None:
        super().__init__()
        self._rewrite = rewrite

    def filter(self, record: logging.LogRecord) -> bool:
        """Always true: the record passes, changed."""
        self._rewrite(record)
        return True


def _argument(record: logging.LogRecord, index: int) -> object:
    return record.args[index] if isinstance(record.args, tuple) and len(record.args) > index else None


def _say(record: logging.LogRecord, words: str, *args: object) -> None:
    record.msg, record.args = words, args


def _error_argument(record: logging.LogRecord) -> str:
    error = next((arg for arg in record.args or () if isinstance(arg, BaseException)), None)
    return told(error) if error else "unknown error"


def _consumed(record: logging.LogRecord) -> None:
    """celery.worker.consumer.consumer and kombu.mixins: four templates print the body, one also the headers."""
    words = str(record.msg)
    if words.startswith("Received unregistered task of type"):
        error = _argument(record, 0)
        name = str(error.args[0]) if isinstance(error, KeyError) and error.args else ""
        shown = name if TASK_NAME.fullmatch(name) else "a name that is none"
        _say(record, "Received a task that is not registered here and discarded it: %s", shown)
    elif words.startswith("Received invalid task message"):
        _say(record, "Received an invalid task message and discarded it: %s", _error_argument(record))
    elif words.startswith("Can't decode message body"):
        _say(record, "Received a message that cannot be decoded and discarded it: %s", _error_argument(record))
    elif words.startswith("Received and deleted unknown message"):
        _say(record, "Received a message that is no task and discarded it")
    elif "body" in words:
        _say(record, "A message was not taken; its contents are not logged")


def _traced(record: logging.LogRecord) -> None:
    """celery.app.trace: results and the words of errors stand in the text, arguments in `record.data` besides."""
    context = record.args
    if not isinstance(context, Mapping):
        return
    error = record.exc_info[1] if record.exc_info else None
    named = re.match(r"[\w.]+", str(context.get("exc", "")))
    kept = {key: context.get(key) for key in TRACE_KEYS}
    record.msg = str(record.msg).replace(": %(return_value)s", "").replace("%(exc)s", "%(error)s")
    record.args = {**kept, "error": told(error) if error else named and named[0]}
    record.data = {key: value for key, value in kept.items() if value is not None}


def _received(record: logging.LogRecord) -> None:
    """celery.worker.strategy: an ETA that cannot be read is printed together with the task's arguments."""
    if str(record.msg).startswith("Couldn't convert ETA"):
        _say(record, "A task's ETA cannot be read: %s", _error_argument(record))
    record.data = None


def _transported(record: logging.LogRecord) -> None:
    """kombu.transport.redis: messages that cannot be put back, and events that cannot be read, are printed whole."""
    words = str(record.msg)
    if words.startswith("Could not restore message"):
        _say(record, "Could not restore a message")
    elif words.startswith("Cannot process event on channel"):
        _say(record, "Cannot read an event on channel %r", _argument(record, 0))


def _looped(record: logging.LogRecord) -> None:
    """kombu.asynchronous.hub: a callback is printed together with what it was called with."""
    if str(record.msg).startswith("Callback"):
        _say(record, "A callback of the event loop failed: %s", _error_argument(record))


def _warned(record: logging.LogRecord) -> None:
    """py.warnings: Celery warns with the whole traceback of an error outside a task's body."""
    words = str(_argument(record, 0) or record.msg)
    place, found, error = words.partition("Exception raised outside body: ")
    if found:
        named = re.match(r"[\w.]+", error)
        _say(record, "%sException raised outside a task's body: %s", place, named[0] if named else "unknown error")


REWRITES: dict[str, Rewrite] = {
    "celery.worker.consumer.consumer": _consumed,
    "celery.worker.strategy": _received,
    "celery.app.trace": _traced,
    "kombu.mixins": _consumed,
    "kombu.transport.redis": _transported,
    "kombu.asynchronous.hub": _looped,
    "py.warnings": _warned,
}


def crash_site(error: BaseException) -> dict[str, str]:
    """The class of an exception and where it was raised, without its words, which may name the patient."""
    last = error.__traceback__
    while last and last.tb_next:
        last = last.tb_next
    place = f"{last.tb_frame.f_code.co_filename}:{last.tb_lineno}" if last else ""
    return {"error": type(error).__name__, "place": place}
