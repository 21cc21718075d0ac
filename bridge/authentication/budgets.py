"""How many failed binds each directory's users may have: as configured, or one below what the directory locks at.

What a directory shows of its own policy is read when it refuses a password, at most once an hour.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.errors import DirectoryError
from bridge.sources.directory.lockout import budget_of, read_lockout, window_of

if TYPE_CHECKING:
    from bridge.authentication.throttle import Throttle
    from bridge.clock import Clock
    from bridge.sources.directory.source import DirectorySource

_GOOD_FOR_S = 3600.0
"""Policies are changed by hand, and seldom."""


class Budgets:
    """Tells the throttle what each directory's policy leaves room for."""

    def __init__(
        self, throttle: Throttle, clock: Clock, *, max_failure_count: int | None = None, window_s: float = 1800.0
    ) -> None:
        """`max_failure_count` None: by what the directory shows. `window_s`: how long failures count at the least."""
        self._throttle = throttle
        self._clock = clock
        self._max_failure_count = max_failure_count
        self._window_s = window_s
        self._good_until_s: dict[str, float] = {}

    async def learn(self, source: DirectorySource) -> None:
        """Set the budget of the directory by its own policy, unless that was done a while ago."""
        now_s = self._clock.monotonic_s()
        if now_s < self._good_until_s.get(source.name, now_s):
            return
        self._good_until_s[source.name] = now_s + _GOOD_FOR_S  # whoever comes meanwhile goes by what was known
        try:
            policy = await read_lockout(source)
        except DirectoryError:
            self._good_until_s.pop(source.name, None)
            return
        count, window_s = budget_of(self._max_failure_count, policy), window_of(self._window_s, policy)
        self._throttle.set_budget(source.name, count, window_s)
