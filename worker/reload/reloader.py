"""Reads the settings again when that is asked for, or when a file with a secret has changed.

If they can be used and differ, the process ends in order, as after SIGTERM, and then replaces itself by a new one: the
same command under the same process id (exec). What it was doing goes on as after any restart: from the ledger and
`processing/`, so that nothing is lost and nothing goes twice. That was chosen over exchanging parts of a running
process: there every collaborator would need a moment at which it may change, and steps in flight would go on with old
keys beside new ones.

Settings that cannot be used change nothing: the process keeps the old ones, and logs why.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import structlog

from config.changes import NEEDS_RESTART, changed_accounts, changed_keys
from config.errors import SettingsError
from config.load import ensure_secret_key, load
from config.settings import Settings
from config.vital_threads import start_vital
from tasks.ledger.redis import REDIS_ERRORS, log_redis_error
from worker.reload.requests import Answer, ReloadRequests

log = structlog.get_logger()

_POLL_SECONDS = 2.0
_LONGEST_END_SECONDS = 60.0  # as `chartpost run` gives each part
# What a process leaves to the one that replaces it, as JSON in the environment. It must not begin with CHARTPOST_, or
# it would be reported as an unknown setting.
_HANDOVER = "_CHARTPOST_RELOADED"


@dataclass(frozen=True, slots=True)
class Handover:
    # The keys for whose sake the process was replaced.
    changed: list[str]
    # The number of the last request that was seen, and of the one that is to be answered, if there is one.
    seen: int | None
    to_answer: int | None


class Reloader:
    """`part` is `worker`, `watch` or `intake`. `end` begins the orderly end of the process, from any thread.

    Afterwards call `restart_if_due`, as the last act of the process.
    """

    def __init__(
        self,
        settings: Settings,
        part: str,
        requests: ReloadRequests,
        end: Callable[[], None],
        *,
        load: Callable[[], Settings] = load,
        longest_end_seconds: float = _LONGEST_END_SECONDS,
    ) -> None:
        self.part = f"{part} {platform.node()}:{os.getpid()}"
        self._settings = settings
        self._requests = requests
        self._end = end
        self._load = load
        self._longest_end_seconds = longest_end_seconds
        self._stamps = (*settings.origin.secret_files, *settings.origin.ca_files)
        self._last_stamps = self._stamps
        self._asked = threading.Event()
        self._stopped = threading.Event()
        self._for_good = False
        self._due = False
        text = os.environ.pop(_HANDOVER, None)
        self._handover = Handover(**json.loads(text)) if text else None
        self._seen = self._handover.seen if self._handover else None
        self._to_answer = self._handover.to_answer if self._handover else None

    @property
    def changed_accounts(self) -> list[str]:
        """The accounts for whose sake this process was begun again."""
        return changed_accounts(self._handover.changed) if self._handover else []

    def start(self) -> None:
        """Call it from the main thread. SIGHUP asks for a reload from now on."""
        if not at_terminal():
            signal.signal(signal.SIGHUP, lambda *_: self._asked.set())
        if self._handover:
            log.info("reloaded", part=self.part, changed=self._handover.changed)
            self._asked.set()  # SIGHUP was ignored until now: look once whether the settings have changed again
        start_vital(self._run, "reload")

    def end_for_good(self) -> None:
        """The process is to end and not to begin again, also if a reload has begun."""
        self._for_good = True
        self._stopped.set()

    def restart_if_due(self) -> None:
        """Replace this process if a reload is due; else return."""
        self._stopped.set()
        if not self._due:
            self._requests.leave(self.part)
            return
        # All is ended: from now on these may end the process at once. One that came before has set `_for_good`.
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        if not self._for_good:
            self._wait_for_usable_settings()
            self._replace()

    # --- the thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped.is_set():
            number = self._poll()
            asked = self._asked.is_set()
            self._asked.clear()
            # 0 is a Redis that was wiped, or that nobody has asked yet.
            requested = bool(number) and self._seen not in (None, number)
            # Who asked before this part was there awaits no answer from it. But its settings may be older than that.
            came_before = bool(number) and self._seen is None
            if number is not None:
                self._seen = number
            if asked or requested or came_before or self._files_changed():
                self._consider(number if requested else None)
            if self._due:
                self._wait_for_the_end()
                return
            self._asked.wait(_POLL_SECONDS)

    def _poll(self) -> int | None:
        """The number of the last request; None while Redis is away."""
        try:
            number = self._requests.poll(self.part)
            if self._handover and self._to_answer is not None:
                self._requests.answer(self._to_answer, self.part, Answer(True, said(self._handover.changed)))
                self._to_answer = None
        except REDIS_ERRORS:
            return None
        return number

    def _files_changed(self) -> bool:
        """True if a file that became part of the settings is another one now, and is not being written any more."""
        now = tuple(stamp.now() for stamp in self._stamps)
        steady, self._last_stamps = now == self._last_stamps, now
        if now == self._stamps or not steady:
            return False
        self._stamps = now  # one look for each change, also if it is refused
        return True

    def _consider(self, number: int | None) -> None:
        """Begin a reload if the settings can be used and differ. `number` is the request to answer, if there is one."""
        try:
            new = ensure_secret_key(self._load())
        except SettingsError as error:
            log.error("reload_refused", problems=list(error.problems))
            self._answer(number, Answer(False, "Nothing was changed: " + " ".join(error.problems)))
            return
        keys = changed_keys(ensure_secret_key(self._settings), new)
        if fixed := [key for key in keys if key in NEEDS_RESTART]:
            sentence = f"Nothing was changed: {', '.join(fixed)} can change only when all processes are restarted."
            log.error("reload_refused", problems=[sentence])
            self._answer(number, Answer(False, sentence))
            return
        if not keys and new.origin.ca_files == self._settings.origin.ca_files:
            log.info("reload_unchanged")
            self._answer(number, Answer(True, said([])))
            return
        log.info("reloading", changed=keys)
        os.environ[_HANDOVER] = json.dumps(asdict(Handover(keys, self._seen, number)))
        self._due = True
        self._end()

    def _answer(self, number: int | None, answer: Answer) -> None:
        if number is None:
            return
        try:
            self._requests.answer(number, self.part, answer)
        except REDIS_ERRORS as error:
            log_redis_error(error)

    def _wait_for_the_end(self) -> None:
        until = time.monotonic() + self._longest_end_seconds
        while time.monotonic() < until:
            if self._stopped.wait(_POLL_SECONDS):
                return
            self._poll()
        # As `run` kills a part that does not end; documents survive both.
        log.warning("reload_forced", seconds=self._longest_end_seconds)
        self._replace()

    def _wait_for_usable_settings(self) -> None:
        """They were usable when the end began, which may have taken a minute: somebody may be editing them again."""
        logged = False
        while True:
            try:
                ensure_secret_key(self._load())
            except SettingsError as error:
                if not logged:
                    log.error("reload_waits", problems=list(error.problems))
                logged = True
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _replace(self) -> None:
        if threading.current_thread() is threading.main_thread() and not at_terminal():
            # Stays ignored through exec, so that it does not end the new process before that listens.
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        try:
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606  our own command, as it was given
        except OSError as error:
            # The interpreter is gone, say. The process ends, and its supervisor starts another.
            log.error("reload_failed", reason=error.strerror)


def at_terminal() -> bool:
    """There SIGHUP says that the terminal is gone, and ends the process, as it does by default."""
    return sys.stdin is not None and sys.stdin.isatty()


def said(keys: Sequence[str]) -> str:
    """What `chartpost reload` prints of a part that has these changed keys."""
    return f"Reloaded: {', '.join(keys)}." if keys else "Nothing has changed."
