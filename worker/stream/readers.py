"""The readers of all streams, each in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from worker.stream.reader import StreamReader


class StreamReaders:
    """`stop` ends them all; it is also set when one of them ends by an error, so that the process can end."""

    def __init__(self, readers: Sequence[StreamReader], stop: threading.Event) -> None:
        self._readers = readers
        self._stop = stop
        self._errors: list[BaseException] = []

    def run(self) -> None:
        """Read until told to stop. Raises LedgerRefused, and any error that a reader does not foresee."""
        # The first one in this thread: without producers there is no other.
        first, *others = self._readers
        threads = [threading.Thread(target=self._run, args=(reader,), daemon=True) for reader in others]
        for thread in threads:
            thread.start()
        self._run(first)
        for thread in threads:
            thread.join()
        if self._errors:
            raise self._errors[0]

    def _run(self, reader: StreamReader) -> None:
        try:
            reader.run()
        except BaseException as error:  # noqa: BLE001, it is raised by `run` in the main thread
            self._errors.append(error)
            self._stop.set()
