"""How much of a listing is done at once: much while nobody logs in, little while somebody does.

One login meets some eight turns of the event loop, and each of them may hold a read and a portion of a listing;
docs/performance.md has what other sizes gave.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.ldap.limiter import Limiter


class Pace:
    """Watches the limiters through which logins go."""

    __slots__ = ("_clock", "_limiters", "_passed_count", "_quiet_from_s")

    _ALONE = (64 * 1024, 250)
    """Octets and entries: a millisecond each."""
    _SHARED = (16 * 1024, 60)
    """A quarter of that."""
    _USUAL_ENTRY_BYTES = 1024
    """Whoever has more than this takes more than the usual time."""
    _PAUSE_S = 0.001
    _QUIET_AFTER_S = 1.0
    """Whoever has logged in is likely to be followed by others, and the first turn that they meet counts most."""

    def __init__(self, *limiters: Limiter, clock: Callable[[], float] = time.monotonic) -> None:
        self._limiters = limiters
        self._clock = clock
        self._passed_count = 0
        self._quiet_from_s = clock()

    @property
    def read_bytes(self) -> int:
        """How much is taken from the socket at once."""
        return self._sizes[0]

    def portion_count(self, entry_bytes: float) -> int:
        """How many entries are handed on at once, where they have so many octets each."""
        entry_count = self._sizes[1]
        if entry_bytes <= self._USUAL_ENTRY_BYTES:
            return entry_count
        return max(int(entry_count * self._USUAL_ENTRY_BYTES / entry_bytes), 1)

    @property
    def is_shared(self) -> bool:
        """Whether somebody logs in, or did so a moment ago."""
        now_s, passed_count = self._clock(), 0
        for limiter in self._limiters:
            passed_count += limiter.entered_count
            if limiter.is_in_use:
                self._quiet_from_s = now_s + self._QUIET_AFTER_S
        if passed_count != self._passed_count:
            self._passed_count = passed_count
            self._quiet_from_s = now_s + self._QUIET_AFTER_S
        return now_s < self._quiet_from_s

    async def breathe(self) -> None:
        """Let others have their turn, and leave them the processor for a moment where somebody logs in.

        Who never sleeps is the one whom the system interrupts, for some 5 ms, when it wakes the server for a look-up.
        """
        await asyncio.sleep(self._PAUSE_S if self.is_shared else 0)

    @property
    def _sizes(self) -> tuple[int, int]:
        return self._SHARED if self.is_shared else self._ALONE
