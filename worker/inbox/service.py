"""`chartpost watch`: watches the inbox; in a second thread, closes staged documents and tidies delivered/."""

from __future__ import annotations

from contextlib import suppress

import redis

from config.vital_threads import start_vital
from worker.inbox.chores import FolderChores
from worker.inbox.watcher import Watcher

_CHORES_END_SECONDS = 30


class InboxService:
    """Watches until it is told to stop, by the event that both parts have."""

    def __init__(self, watcher: Watcher, chores: FolderChores) -> None:
        self._watcher = watcher
        self.chores = chores

    def run(self, *, once: bool = False) -> None:
        """With `once`, claim the files that have settled and return. Only then does it raise LedgerAway and OSError.

        Raises LedgerRefused.
        """
        if once:
            self._watcher.once()
            with suppress(redis.RedisError):  # the documents are taken: only numbers are missing
                self.chores.publish()
            return
        # In a thread of their own: closing a large staged document must not delay new ones. One that hangs does not
        # keep the process alive.
        chores = start_vital(self.chores.run, "folder-chores")
        self._watcher.run()
        chores.join(_CHORES_END_SECONDS)
        if self.chores.refused:
            raise self.chores.refused
