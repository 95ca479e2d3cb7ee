"""What a provider does on its own, after it has answered."""

import asyncio
from collections.abc import Coroutine


class Chores:
    """Runs them in the background until they end or are stopped."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()

    def begin(self, chore: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(chore)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
