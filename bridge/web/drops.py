"""Connections that came to nothing: each is counted, and a flood of them is one log line a minute."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from bridge.events import ConnectionDropped, DropsCounted

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.events import Observer

ADDRESS = "address"
"""Refused: its address has all the connections that one address may have, and each of them is at work."""
FULL = "full"
"""Refused: there are as many connections as there may be, and each of them is at work."""
DISPLACED = "displaced"
"""Closed in favour of a new one: it was idle, and nobody had shown credentials on it."""
DESCRIPTORS = "descriptors"
"""Not accepted for a moment: the process or the system has no descriptor, or no memory, for one more."""
SILENT = "silent"
"""Closed: its caller has not begun, or not ended, TLS in time, or has not sent the headers of a request."""
NOT_TLS = "not_tls"
"""Closed: its first byte does not begin TLS."""
HANDSHAKE = "handshake"
"""The handshake of TLS failed."""
GONE = "gone"
"""Its caller has closed it before the first byte, as health checks do."""

_OF_LIMITS = frozenset((ADDRESS, FULL, DISPLACED, DESCRIPTORS))


class Drops:
    """Counts connections by listener and reason."""

    def __init__(self, observe: Observer, pause_s: float, busiest: Callable[[], tuple[str, int]]) -> None:
        """`busiest` says which address has most connections now, and how many."""
        self._observe = observe
        # A handshake that fails once a minute must not keep back the line that says that nobody gets in any more.
        self._about_limits = _Teller(observe, pause_s, busiest, are_limits=True)
        self._about_callers = _Teller(observe, pause_s, busiest, are_limits=False)

    def count(self, listener: str, reason: str) -> None:
        """It happened once more."""
        self._observe(ConnectionDropped(listener, reason))
        if reason != GONE:
            (self._about_limits if reason in _OF_LIMITS else self._about_callers).count(listener, reason)

    def flush(self) -> None:
        """Tell what has not been told yet: nothing more comes."""
        self._about_limits.flush()
        self._about_callers.flush()


class _Teller:
    """Tells the first of a flood at once, then how many came, when a pause is over."""

    def __init__(
        self, observe: Observer, pause_s: float, busiest: Callable[[], tuple[str, int]], *, are_limits: bool
    ) -> None:
        self._observe, self._pause_s, self._busiest, self._are_limits = observe, pause_s, busiest, are_limits
        self._counts: Counter[tuple[str, str]] = Counter()
        self._timer: asyncio.TimerHandle | None = None

    def count(self, listener: str, reason: str) -> None:
        self._counts[listener, reason] += 1
        if self._timer is None:
            self._tell(0.0)

    def flush(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._counts:
            self._send(self._pause_s)

    def _tell(self, period_s: float) -> None:
        self._timer = None
        if self._counts:
            self._send(period_s)
            self._timer = asyncio.get_running_loop().call_later(self._pause_s, self._tell, self._pause_s)

    def _send(self, period_s: float) -> None:
        counts = tuple((listener, reason, count) for (listener, reason), count in sorted(self._counts.items()))
        self._counts.clear()
        self._observe(DropsCounted(counts, period_s, *self._busiest(), are_limits=self._are_limits))
