"""Probes accounts that are parked or down, by a call that needs no document."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import structlog

from config.redaction import crash_site
from tasks.accounts.account import Accounts
from tasks.accounts.breaker import CircuitBreaker
from tasks.model.errors import StepError

log = structlog.get_logger()


class Probes:
    """`on_resumed` is called when an account's documents may go on."""

    def __init__(self, breaker: CircuitBreaker, accounts: Accounts, on_resumed: Callable[[], None]) -> None:
        self._breaker = breaker
        self._accounts = accounts
        self._on_resumed = on_resumed
        # In threads: a provider that hangs must not keep the feeder from feeding the other accounts.
        self._threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="account-probe")

    def start_due(self) -> None:
        """Start the probes that are due. Of all workers, one probes an account."""
        for name in self._breaker.parked_or_down(self._accounts):
            if self._breaker.take_probe(name):
                self._threads.submit(self._probe, name)

    def stop(self) -> None:
        """Start no more probes. Does not wait for those that run."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _probe(self, name: str) -> None:
        try:
            self._accounts[name].provider.probe()
        except StepError as error:
            log.info("account_still_unwell", account=name, reason=self._accounts[name].reason(error))
            return
        except Exception as error:  # noqa: BLE001, outermost; the words of an error may name the patient
            log.error("probe_failed", account=name, **crash_site(error))
            return
        if self._breaker.half_open(name):
            log.info("account_resumed", account=name)
            self._on_resumed()
