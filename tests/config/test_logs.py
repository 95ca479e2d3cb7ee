"""What is logged, in which form, and above all what is not. Records are made by the installed Celery and kombu."""

import inspect
import io
import json
import logging
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, Protocol

import celery.worker.consumer.consumer
import celery.worker.strategy
import kombu.transport.redis
import pydantic
import pytest
import redis
import structlog
from celery import Celery
from celery.app.trace import report_internal_error
from celery.exceptions import Ignore, Reject
from celery.worker.consumer.consumer import Consumer
from kombu.asynchronous.hub import Hub

from config.errors import SettingsError
from config.logs import QUIET_LEVELS, StderrHandler, configure_logs
from config.redaction import OUR_PACKAGES, REWRITES, RedactMessages, describe, format_traceback

PATIENT = "PATIENT-4711"

Lines = Callable[[], list[dict[str, Any]]]


class SetUp(Protocol):
    """Sets up this process's logging. Returns what is written from then on."""

    def __call__(self, form: str, level: str) -> io.StringIO: ...


@pytest.fixture
def set_up(monkeypatch: pytest.MonkeyPatch) -> Iterator[SetUp]:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    written = io.StringIO()

    def configured(form: str, level: str) -> io.StringIO:
        configure_logs(form, level)
        (handler,) = (other for other in logging.getLogger().handlers if isinstance(other, StderrHandler))
        assert handler.stream is sys.stderr
        handler.setStream(written)  # pytest gives every phase of a test another standard error
        return written

    levels = {name: logging.getLogger(name).level for name in [None, *QUIET_LEVELS, *OUR_PACKAGES]}
    yield configured
    root = logging.getLogger()
    root.handlers = [handler for handler in root.handlers if not isinstance(handler, StderrHandler)]
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    for name in REWRITES:
        logger = logging.getLogger(name)
        logger.filters = [other for other in logger.filters if not isinstance(other, RedactMessages)]
    logging.captureWarnings(False)
    structlog.reset_defaults()


@pytest.fixture
def written(set_up: SetUp) -> io.StringIO:
    """What is written as JSON, at the usual level."""
    return set_up("json", "info")


@pytest.fixture
def lines(written: io.StringIO) -> Lines:
    """What was logged so far."""
    return lambda: [json.loads(line) for line in written.getvalue().splitlines()]


@pytest.fixture
def private(written: io.StringIO) -> Iterator[None]:
    """Something must be logged by the end of the test, and no patient in it."""
    yield
    assert written.getvalue()
    assert PATIENT not in written.getvalue()


# Form


def test_our_events_and_those_of_libraries_have_one_form(lines: Lines) -> None:
    with structlog.contextvars.bound_contextvars(job="j1"):
        structlog.get_logger("tasks.pipeline.runner").info("job_stored", account="north")
        logging.getLogger("watchfiles").warning("found %s changes", 3)
    ours, theirs = lines()
    assert (
        ours.items()
        >= {
            "event": "job_stored",
            "account": "north",
            "job": "j1",
            "logger": "tasks.pipeline.runner",
            "level": "info",
        }.items()
    )
    assert (
        theirs.items()
        >= {
            "event": "found 3 changes",
            "job": "j1",
            "logger": "watchfiles",
            "level": "warning",
        }.items()
    )
    for line in (ours, theirs):
        assert line["timestamp"].endswith("Z")


def test_our_events_make_no_record_of_the_standard_library(lines: Lines, monkeypatch: pytest.MonkeyPatch) -> None:
    records: list[str] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", lambda record: records.append(record.name))
    monkeypatch.setattr(logging.getLogger(), "handlers", [*logging.getLogger().handlers, handler])
    structlog.get_logger("tasks.x").warning("ours")
    logging.getLogger("theirs").warning("theirs")
    assert [line["event"] for line in lines()] == ["ours", "theirs"]
    assert records == ["theirs"]


def test_a_logger_is_named_for_the_module_that_logs(lines: Lines) -> None:
    structlog.get_logger().warning("here")
    assert lines()[0]["logger"] == __name__


def test_a_logger_that_was_used_before_follows_every_set_up(set_up: SetUp, lines: Lines) -> None:
    log = structlog.get_logger("tasks.x")
    log.info("first")
    again = set_up("json", "warning")
    log.info("not at this level")
    log.warning("second")
    assert [json.loads(line)["event"] for line in again.getvalue().splitlines()] == ["first", "second"]


class Halting(io.StringIO):
    """Lets other threads run in the middle of each line."""

    def write(self, text: str) -> int:
        super().write(text[:9])
        time.sleep(0.0001)
        return super().write(text[9:])


@pytest.mark.usefixtures("written")
def test_lines_of_many_threads_are_whole() -> None:
    (handler,) = (other for other in logging.getLogger().handlers if isinstance(other, StderrHandler))
    written = Halting()
    handler.setStream(written)

    def write() -> None:
        for number in range(20):
            structlog.get_logger("tasks.x").info("ours", number=number)
            logging.getLogger("theirs").info("theirs")

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([json.loads(line) for line in written.getvalue().splitlines()]) == 8 * 20 * 2


def test_setting_up_twice_logs_once(set_up: SetUp, lines: Lines) -> None:
    set_up("json", "info")
    logging.getLogger("x").warning("once")
    assert len(lines()) == 1
    assert sum(isinstance(handler, StderrHandler) for handler in logging.getLogger().handlers) == 1


def test_the_console_form_is_for_people(set_up: SetUp) -> None:
    console = set_up("console", "info")
    try:
        raise ValueError(PATIENT)
    except ValueError:
        structlog.get_logger("tasks.x").exception("job_failed", account="north")
    written = console.getvalue()
    assert "job_failed" in written
    assert "account=north" in written
    assert written.rstrip().endswith("ValueError")
    assert PATIENT not in written


def test_debugging_concerns_our_own_loggers_only(set_up: SetUp) -> None:
    written = set_up("json", "debug")
    for name in ("tasks.x", "worker.x", "config.x", "botocore", "httpcore", "kombu", "celery", "asyncio"):
        logging.getLogger(name).debug("%s", name)
    assert [json.loads(line)["event"] for line in written.getvalue().splitlines()] == [
        "tasks.x",
        "worker.x",
        "config.x",
    ]


def test_a_higher_level_holds_for_everyone(set_up: SetUp) -> None:
    written = set_up("json", "error")
    for name in ("tasks.x", "httpx", "celery"):
        logging.getLogger(name).warning("no")
        structlog.get_logger(name).warning("no")
    assert written.getvalue() == ""


@pytest.mark.parametrize("name", ["httpx", "httpcore.http11", "botocore.endpoint", "urllib3", "celery.worker.strategy"])
def test_loggers_that_name_addresses_or_arguments_are_quiet(lines: Lines, name: str) -> None:
    logging.getLogger(name).info("HTTP Request: GET https://api.example.org/patient/4711")
    assert lines() == []


def test_values_that_json_lacks_do_not_break_a_line(lines: Lines) -> None:
    structlog.get_logger("tasks.x").info("odd", value={1}, text="a\nb\udcff", secret=pydantic.SecretStr("hunter2"))
    (line,) = lines()
    assert line["value"] == "{1}"
    assert line["secret"] == "**********"


# Errors


@pytest.mark.usefixtures("private")
def test_an_error_is_logged_with_its_place_and_causes_and_without_its_text(lines: Lines) -> None:
    try:
        try:
            raise KeyError(PATIENT)
        except KeyError as error:
            raise RuntimeError(PATIENT) from error
    except RuntimeError as error:
        logging.getLogger("some.library").exception("failed: %r and %s", error, error)
    (line,) = lines()
    assert line["event"] == "failed: RuntimeError and RuntimeError"
    assert "KeyError" in line["exception"]
    assert "test_logs.py" in line["exception"]
    assert line["exception"].index("KeyError") < line["exception"].rindex("RuntimeError")


class Shape(pydantic.BaseModel):
    size: int


def _shape_error() -> Exception:
    try:
        Shape.model_validate({"size": PATIENT})
    except pydantic.ValidationError as error:
        return error
    raise AssertionError


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(PATIENT), "ValueError"),
        (FileNotFoundError(2, "No such file or directory", PATIENT), "FileNotFoundError: No such file or directory"),
        (OSError(PATIENT), "OSError"),
        (UnicodeDecodeError("utf-8", PATIENT.encode(), 0, 1, "bad"), "UnicodeDecodeError"),
        (
            redis.ConnectionError("Error 111 connecting to h:1."),
            "redis.exceptions.ConnectionError: Error 111 connecting to h:1.",
        ),
        (
            redis.ResponseError(f"Command # 1 (LPUSH q {PATIENT}\n) of pipeline caused error: OOM command not allowed"),
            "redis.exceptions.ResponseError: OOM command not allowed",
        ),
        (
            redis.ResponseError(f"unknown command 'X', with args beginning with: '{PATIENT}'\n{PATIENT}"),
            "redis.exceptions.ResponseError: unknown command 'X'",
        ),
        (SettingsError(["secret_key is missing."]), "config.errors.SettingsError: secret_key is missing."),
        (_shape_error(), "pydantic_core._pydantic_core.ValidationError"),
    ],
)
def test_only_errors_whose_text_is_known_to_be_harmless_keep_it(error: Exception, text: str) -> None:
    assert describe(error) == text


def test_errors_that_cause_each_other_are_logged_once() -> None:
    first, second = ValueError("a"), TypeError("b")
    first.__cause__, second.__cause__ = second, first
    assert format_traceback((ValueError, first, None)).count("Traceback") == 2
    assert format_traceback((None, None, None)) == ""


@pytest.mark.usefixtures("private")
def test_an_uncaught_error_is_logged_without_its_text(lines: Lines) -> None:
    def fail() -> None:
        raise ValueError(PATIENT)

    thread = threading.Thread(target=fail, name="feeder")
    thread.start()
    thread.join()
    try:
        fail()
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    in_thread, in_process = lines()
    assert (in_thread["event"], in_thread["thread"]) == ("thread_crashed", "feeder")
    assert in_process["event"] == "process_crashed"
    assert in_process["exception"].endswith("ValueError")


def test_an_interrupt_is_not_a_crash(lines: Lines, capsys: pytest.CaptureFixture[str]) -> None:
    sys.excepthook(KeyboardInterrupt, KeyboardInterrupt(), None)
    threading.excepthook(threading.ExceptHookArgs((SystemExit, SystemExit(), None, None)))
    assert lines() == []
    assert capsys.readouterr().err == "KeyboardInterrupt\n"


@pytest.mark.usefixtures("private")
def test_a_line_that_cannot_be_written_is_reported_without_its_contents(
    lines: Lines, capsys: pytest.CaptureFixture[str]
) -> None:
    (handler,) = (other for other in logging.getLogger().handlers if isinstance(other, StderrHandler))
    # Not through the logger: pytest's own handler makes an exception of it.
    handler.handle(logging.LogRecord("some.library", logging.ERROR, __file__, 7, "%d files", (PATIENT,), None))
    (line,) = lines()
    assert (line["event"], line["logger"]) == ("log_line_lost", "some.library")
    assert line["place"] == "test_logs.py:7"
    assert capsys.readouterr().err == ""


@pytest.mark.usefixtures("private")
def test_an_event_that_cannot_be_written_is_reported_and_stops_nobody(lines: Lines) -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError(PATIENT)

    structlog.get_logger("tasks.x").info("job_stored", value=Odd(), text=PATIENT)
    assert lines() == [{"event": "log_line_lost", "logger": "tasks.x", "line": "job_stored"}]


CRASHING = """
import threading, warnings
from config.logs import configure_logs

configure_logs("json", "info")
warnings.warn("old", UserWarning)
thread = threading.Thread(target=lambda: [][4711])
thread.start()
thread.join()
{}["PATIENT-4711"]
"""


def test_a_process_writes_nothing_but_log_lines_whatever_happens_to_it() -> None:
    ended = subprocess.run([sys.executable, "-c", CRASHING], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    events = [json.loads(line)["event"].partition("\n")[0] for line in ended.stderr.splitlines()]
    assert events == ["<string>:6: UserWarning: old", "thread_crashed", "process_crashed"]
    assert PATIENT not in ended.stderr


# Celery: a message is not shown


def consumer() -> Any:  # Any: only what the methods under test touch is there
    bare: Any = Consumer.__new__(Consumer)
    bare.app = SimpleNamespace(backend=SimpleNamespace(mark_as_failure=lambda *_, **__: None))
    bare.connection_errors = ()
    bare.event_dispatcher = None
    return bare


def message(**headers: object) -> Any:  # Any: a stand-in for kombu's
    return SimpleNamespace(
        body=json.dumps([[], {"patient_id": PATIENT}, {}]).encode(),
        headers={"id": "i", "argsrepr": PATIENT, **headers},
        properties={},
        delivery_info={"routing_key": PATIENT},
        content_type="application/json",
        content_encoding="utf-8",
        ack=lambda: None,
        reject_log_error=lambda *_: None,
    )


def in_an_except_block(error: Exception, call: Callable[[], object]) -> None:
    try:
        raise error
    except type(error):
        call()


@pytest.mark.usefixtures("private")
def test_an_unregistered_task_is_named_and_its_body_withheld(lines: Lines) -> None:
    error = KeyError("clinic.send_document")
    sent = message(task="clinic.send_document")
    in_an_except_block(error, lambda: consumer().on_unknown_task(None, sent, error))
    (line,) = lines()
    assert line["event"] == "Received a task that is not registered here and discarded it: clinic.send_document"
    assert line["level"] == "error"


@pytest.mark.usefixtures("private")
def test_a_name_that_cannot_be_a_tasks_is_withheld_too(lines: Lines) -> None:
    error = KeyError(f"{PATIENT} Doe")
    in_an_except_block(error, lambda: consumer().on_unknown_task(None, message(task="x"), error))
    assert lines()[0]["event"].endswith("a name that is not one")


@pytest.mark.usefixtures("private")
def test_an_invalid_task_message_is_withheld(lines: Lines) -> None:
    error = celery.exceptions.InvalidTaskError(PATIENT)
    in_an_except_block(error, lambda: consumer().on_invalid_task(None, message(), error))
    words = "Received an invalid task message and discarded it: celery.exceptions.InvalidTaskError"
    assert lines()[0]["event"] == words


@pytest.mark.usefixtures("private")
def test_an_unreadable_message_is_withheld(lines: Lines) -> None:
    error = UnicodeDecodeError("utf-8", PATIENT.encode(), 0, 1, "bad")
    in_an_except_block(error, lambda: consumer().on_decode_error(message(), error))
    assert lines()[0]["event"] == "Received a message that cannot be decoded and discarded it: UnicodeDecodeError"


@pytest.mark.usefixtures("private")
def test_a_message_that_is_not_a_task_is_withheld(lines: Lines) -> None:
    consumer().on_unknown_message({"patient": PATIENT}, message())
    assert lines()[0]["event"] == "Received a message that is not a task and discarded it"


def test_no_other_template_of_the_consumer_prints_a_body() -> None:
    templates = {
        name
        for name, value in vars(celery.worker.consumer.consumer).items()
        if isinstance(value, str) and name.isupper() and "body" in value
    }
    assert templates == {
        "UNKNOWN_FORMAT",
        "UNKNOWN_TASK_ERROR",
        "INVALID_TASK_ERROR",
        "MESSAGE_DECODE_ERROR",
        "MESSAGE_REPORT",  # becomes part of UNKNOWN_FORMAT
    }


@pytest.mark.usefixtures("private")
def test_a_body_in_a_template_of_a_later_version_is_withheld() -> None:
    logging.getLogger("celery.worker.consumer.consumer").error("Odd message body: %s", PATIENT)


@pytest.mark.usefixtures("private")
def test_a_message_that_cannot_be_put_back_is_withheld(lines: Lines) -> None:
    channel: Any = kombu.transport.redis.Channel.__new__(kombu.transport.redis.Channel)
    channel.connection_errors = ()
    payload = {"body": PATIENT, "headers": {}, "properties": {"delivery_info": {}}}  # and no queue to be found
    channel._do_restore_message(payload, "exchange", "key", None)
    assert lines()[0]["event"] == "Could not restore a message"


@pytest.mark.usefixtures("private")
@pytest.mark.parametrize(
    ("module", "template", "args"),
    [
        (
            celery.worker.strategy,
            "Couldn't convert ETA %r to timestamp: %r. Task: %r",
            (PATIENT, ValueError(PATIENT), PATIENT),
        ),
        (kombu.transport.redis, "Cannot process event on channel %r: %s", ("celeryev", PATIENT)),
    ],
)
def test_rarer_templates_that_print_contents_are_known(module: Any, template: str, args: tuple[object, ...]) -> None:
    assert template in inspect.getsource(module)
    logging.getLogger(module.__name__).error(template, *args)


@pytest.mark.usefixtures("private")
def test_a_callback_that_fails_is_not_shown_with_its_arguments(lines: Lines) -> None:
    hub: Any = Hub.__new__(Hub)
    hub.on_callback_error([PATIENT], ValueError(PATIENT))
    assert lines()[0]["event"] == "A callback of the event loop failed: ValueError"


@pytest.mark.usefixtures("private")
def test_an_error_outside_a_task_is_warned_about_without_its_text(lines: Lines) -> None:
    task: Any = SimpleNamespace(backend=SimpleNamespace(prepare_exception=lambda error, _: error))
    error = ValueError(PATIENT)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        in_an_except_block(error, lambda: report_internal_error(task, error))
    assert lines()[0]["event"].endswith("Exception raised outside a task's body: ValueError")


# Celery: a task is named, its arguments and results are not


def run(outcome: object) -> None:
    """Run a task in this process; Celery traces it as a worker would."""
    app = Celery("chartpost-test", set_as_current=False)

    def body(patient: str) -> object:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    app.task(name="chartpost.upload", throws=(LookupError,), shared=False)(body)
    app.tasks["chartpost.upload"].apply(args=(PATIENT,), kwargs={}, task_id="j1")


@pytest.mark.usefixtures("private")
@pytest.mark.parametrize(
    ("outcome", "event"),
    [
        (ValueError(PATIENT), "Task chartpost.upload[j1] raised unexpected: ValueError"),
        (Reject(PATIENT), "Task chartpost.upload[j1] "),
        (redis.ConnectionError("Error 111"), "raised unexpected: redis.exceptions.ConnectionError: Error 111"),
    ],
)
def test_a_traced_task_shows_neither_arguments_nor_result(lines: Lines, outcome: object, event: str) -> None:
    run(outcome)
    line = lines()[-1]
    assert event in line["event"]
    assert (line["task_id"], line["task"]) == ("j1", "chartpost.upload")
    assert not line.keys() & {"data", "args", "kwargs", "return_value"}


@pytest.mark.parametrize("outcome", [{"patient_id": PATIENT}, Ignore(PATIENT), KeyError(PATIENT)])
def test_a_task_that_ended_as_it_may_has_no_line_of_celerys(written: io.StringIO, outcome: object) -> None:
    run(outcome)
    assert written.getvalue() == ""


@pytest.mark.usefixtures("private")
def test_payload_keys_are_dropped_from_our_own_events_too(lines: Lines) -> None:
    structlog.get_logger("tasks.x").info("odd", data=PATIENT, args=PATIENT, kwargs=PATIENT, return_value=PATIENT)
    assert lines()[0]["event"] == "odd"
