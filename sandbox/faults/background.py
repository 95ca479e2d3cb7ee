"""What a provider does after it has answered: validation and the like."""

import asyncio
from collections.abc import Coroutine


class BackgroundTasks:
    """Runs coroutines until they end or are stopped."""

    def __init__(self) -> None:
        # asyncio itself keeps only weak references to tasks: without this set one could vanish while it runs.
        self._running: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[object, object, None]) -> None:
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def stop(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
