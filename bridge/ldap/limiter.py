"""How many may do something at once, and how many may wait for it: work beyond that is turned away, not piled up."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

from bridge.errors import DirectoryUnavailable


class Limiter:
    """Lets `open_count` through at a time, in the order in which they came.

    `asyncio.Semaphore` does as much, in three times as many steps; every login goes through two limiters.
    """

    def __init__(self, directory: str, open_count: int, queue_limit_count: int) -> None:
        self._directory = directory
        self._free_count = open_count
        self._queue_limit_count = queue_limit_count
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._inside_count = 0
        self.entered_count = 0
        """How many have ever been inside."""

    @property
    def waiting_count(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    @property
    def is_in_use(self) -> bool:
        """Whether anybody is inside or waits."""
        return self._inside_count > 0 or len(self._waiting) > 0

    async def __aenter__(self) -> None:
        """Inside, one of the places is ours. Raises `DirectoryUnavailable` where too many wait already."""
        if self._free_count and not self._waiting:
            self._free_count -= 1
        else:
            await self._wait()
        self._inside_count += 1
        self.entered_count += 1

    async def __aexit__(self, *exception: object) -> None:
        self._inside_count -= 1
        self._free_count += 1
        self._let_next_in()

    async def _wait(self) -> None:
        """Waits until somebody who leaves hands over a place."""
        if len(self._waiting) >= self._queue_limit_count:
            raise DirectoryUnavailable(
                f"{len(self._waiting)} requests wait already",
                directory=self._directory,
                remedy="Raise pool.size or pool.queue, or find out why the directory is slow.",
            )
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.cancelled():
                with suppress(ValueError):  # whoever left in this very turn may have passed over it already
                    self._waiting.remove(place)
            else:  # the place had been handed over already
                self._free_count += 1
                self._let_next_in()
            raise

    def _let_next_in(self) -> None:
        while self._free_count and self._waiting:
            place = self._waiting.popleft()
            if not place.done():
                self._free_count -= 1
                place.set_result(None)
