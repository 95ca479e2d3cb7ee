"""What the process that has the folders does beside watching: closes documents that no worker closes, tidies up, and
tells the metrics what the inbox leaves alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta

import structlog

from config.redaction import crash_site
from tasks.closing.closing import Closing
from tasks.folders.inbox_counts import publish_inbox_counts
from tasks.folders.layout import Folders
from tasks.folders.machines import Machine
from tasks.folders.outcomes import Outcomes
from tasks.folders.retention import Retention
from tasks.folders.staging import Staging
from tasks.ledger.identity import LedgerRefused
from tasks.ledger.ledger import Ledger
from tasks.ledger.redis import REDIS_ERRORS, is_outage, log_redis_error
from tasks.sources.objects import StorageFault
from worker.inbox.waiting_notes import WaitingNotes

log = structlog.get_logger()

_CLOSING_SECONDS = 2.0
_SWEEP_SECONDS = 3600.0
_STAGED_AT_LEAST = timedelta(hours=1)  # what is younger may belong to a document that is being claimed
_PUBLISH_SECONDS = 10.0
_NOTES_SECONDS = 60.0
_UNTAKEN_SECONDS = 3.0  # a worker on this machine takes closing work within a second


class FolderChores:
    """`closing` closes jobs whose files workers on other machines cannot reach.

    `left_in_inbox` gives (account, reason) -> how many entries of the inbox are left alone.
    """

    def __init__(
        self,
        *,
        closing: Closing,
        ledger: Ledger,
        machine: Machine,
        folders: Folders,
        staging: Staging | None,
        retention: Retention,
        outcomes: Outcomes,
        waiting_notes: WaitingNotes,
        left_in_inbox: Callable[[], Mapping[tuple[str, str], int]],
        stop: threading.Event,
    ) -> None:
        self._closing = closing
        self._ledger = ledger
        self._folders = folders
        self._staging = staging
        self._machine = machine
        self._retention = retention
        self._outcomes = outcomes
        self._waiting_notes = waiting_notes
        self._left_in_inbox = left_in_inbox
        self._stop = stop
        self.refused: LedgerRefused | None = None

    def run(self) -> None:
        """Until `stop` is set. An outage of Redis or the disk is logged and waited for.

        A Redis that this process must not use ends the process: `refused` says why.
        """
        swept_at = published_at = notes_due_at = float("-inf")
        put_off = ""
        while not self._stop.wait(_CLOSING_SECONDS):
            try:
                self._ledger.identity.confirm()
                self._machine.beat(watches=True)
                self._close_left()
                if time.monotonic() - published_at > _PUBLISH_SECONDS:
                    self.publish()
                    published_at = time.monotonic()
                self._waiting_notes.run()
                if time.monotonic() >= notes_due_at:
                    started = time.monotonic()
                    self._drop_stale_notes()
                    # A tenth of a percent of the time at most, however many documents have failed.
                    notes_due_at = started + max(_NOTES_SECONDS, 1000 * (time.monotonic() - started))
                if time.monotonic() - swept_at > _SWEEP_SECONDS:
                    swept_at = time.monotonic()
                    self._retention.run()
                    self._sweep_staged()
                put_off = ""
            except LedgerRefused as error:
                self.refused = error
                self._stop.set()
            except (*REDIS_ERRORS, OSError, StorageFault) as error:
                # Once for each outage: a line each second would help to fill a disk that is full.
                if type(error).__name__ != put_off:
                    put_off = type(error).__name__
                    if isinstance(error, REDIS_ERRORS) and not is_outage(error):
                        log_redis_error(error, part="chores")
                    log.warning("chores_put_off", error=put_off)
            except Exception as error:  # noqa: BLE001, outermost: without this thread the machine seems to be gone
                log.error("chores_failed", **crash_site(error))

    def _sweep_staged(self) -> None:
        """Remove staged copies whose jobs a wiped Redis has forgotten, and whose documents were closed before that."""
        machine = self._machine.name()
        if self._staging is None or machine is None:
            return
        swept = self._staging.sweep(machine, self._is_needed, older_than=_STAGED_AT_LEAST)
        if swept:
            log.info("staged_copies_removed", count=swept)

    def _is_needed(self, job_id: str) -> bool:
        """True for a staged copy that a job may still use, and for whatever is not ours to judge."""
        try:
            in_care = self._folders.job_folder(job_id).path.exists()
        except ValueError:
            return True
        return in_care or self._ledger.known(job_id)

    def _drop_stale_notes(self) -> None:
        """Remove the notes in failed/ whose documents people have taken away."""
        dropped = self._outcomes.drop_stale_notes()
        if dropped:
            log.info("notes_dropped", count=dropped)

    def _close_left(self) -> None:
        """Close what workers elsewhere left to this machine, and what no worker here has taken."""
        machine = self._machine.name()
        if machine is None:
            return
        for job_id in (*self._ledger.left_to(machine), *self._ledger.unclosed(machine, _UNTAKEN_SECONDS)):
            try:
                self._closing.run(job_id)
            except (LedgerRefused, *REDIS_ERRORS):
                raise
            except Exception as error:  # noqa: BLE001, one job must not hold up the others; its words may name the patient
                log.error("closing_crashed", job=job_id, **crash_site(error))

    def publish(self) -> None:
        """Tell the metrics what the inbox leaves alone. Raises RedisError and OSError."""
        machine = self._machine.name()
        if machine is not None:
            publish_inbox_counts(self._ledger.redis, machine, self._left_in_inbox())
