"""Probes accounts that are parked or down, by a call that needs no document."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import structlog

from config.redaction import crash_site
from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.ledger.redis import REDIS_ERRORS, log_redis_error
from tasks.model.errors import StepError

log = structlog.get_logger()

_MOST_AT_ONCE = 64
_KEPT = 16  # of these, for accounts whose last probe ended before the next was due


class Probes:
    """Each account is probed in a thread of its own, one probe at a time.

    So a provider that hangs holds up neither the feeder nor another account's probe. Every exchange of a probe has a
    deadline. `on_resumed` is called when an account's documents may go on.
    """

    def __init__(self, breaker: CircuitBreaker, accounts: Accounts, on_resumed: Callable[[], None]) -> None:
        self._breaker = breaker
        self._accounts = accounts
        self._on_resumed = on_resumed
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._overtaken: set[str] = set()  # a probe was due again while the one before still ran
        self._stopped = False

    def start(self, due: Iterable[str]) -> None:
        """Start the probes of these accounts, which are due. Of all workers, one probes an account."""
        for name in due:
            if self._may_start(name) and self._breaker.take_probe(name):
                with self._lock:
                    self._running.add(name)
                # A daemon: a probe that hangs must not keep the process from ending.
                threading.Thread(target=self._run, args=(name,), name=f"probe-{name}", daemon=True).start()

    def stop(self) -> None:
        """Start no more probes. Does not wait for those that run."""
        self._stopped = True

    def _may_start(self, name: str) -> bool:
        with self._lock:
            if name in self._running:
                self._overtaken.add(name)
                return False
            room = _MOST_AT_ONCE - (_KEPT if name in self._overtaken else 0)
            return not self._stopped and len(self._running) < room

    def _run(self, name: str) -> None:
        try:
            self._probe(name)
        except REDIS_ERRORS as error:
            log_redis_error(error, account=name)
        finally:
            with self._lock:
                self._running.discard(name)

    def _probe(self, name: str) -> None:
        try:
            self._accounts[name].provider.probe()
        except StepError as error:
            log.info("account_still_unwell", account=name, reason=self._accounts[name].reason(error))
            return
        except REDIS_ERRORS:
            raise
        except Exception as error:  # noqa: BLE001, outermost; the words of an error may name the patient
            log.error("probe_failed", account=name, **crash_site(error))
            return
        if self._breaker.half_open(name):
            log.info("account_resumed", account=name)
            self._on_resumed()
