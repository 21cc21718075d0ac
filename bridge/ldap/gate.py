"""How many may do something at once, and how many may wait for it: work beyond that is turned away, not piled up."""

from __future__ import annotations

import asyncio

from bridge.errors import DirectoryUnavailable


class Gate:
    """Lets `open_count` through at a time, in the order in which they came."""

    def __init__(self, directory: str, open_count: int, queue_limit_count: int) -> None:
        self._directory = directory
        self._semaphore = asyncio.Semaphore(open_count)
        self._queue_limit_count = queue_limit_count
        self._waiting_count = 0
        self._inside_count = 0

    @property
    def waiting_count(self) -> int:
        """How many wait now."""
        return self._waiting_count

    @property
    def is_in_use(self) -> bool:
        """Whether anybody is inside or waits."""
        return self._inside_count > 0 or self._waiting_count > 0

    async def __aenter__(self) -> None:
        """Inside, one of the places is ours. Raises `DirectoryUnavailable` where too many wait already."""
        if self._semaphore.locked() and self._waiting_count >= self._queue_limit_count:
            raise DirectoryUnavailable(
                f"{self._waiting_count} requests wait already",
                directory=self._directory,
                remedy="Raise pool.size or pool.queue, or find out why the directory is slow.",
            )
        self._waiting_count += 1
        try:
            await self._semaphore.acquire()
        finally:
            self._waiting_count -= 1
        self._inside_count += 1

    async def __aexit__(self, *exception: object) -> None:
        self._inside_count -= 1
        self._semaphore.release()
