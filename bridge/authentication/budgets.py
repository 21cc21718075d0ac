"""How many failed binds each directory's users may have: as configured, or one below what the directory locks at.

What a directory shows of its own policy is read before its first user bind, and again after an hour.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bridge.errors import DirectoryError
from bridge.sources.directory.lockout import budget_of, read_lockout, window_of

if TYPE_CHECKING:
    from bridge.authentication.throttle import Throttle
    from bridge.clock import Clock
    from bridge.sources.directory.lockout import LockoutPolicy
    from bridge.sources.directory.source import DirectorySource

_GOOD_FOR_S = 3600.0
"""Policies are changed by hand, and seldom."""
_PAUSE_S = 900.0
"""After a policy could not be read: a search that takes too long has its server set aside each time."""
_PATIENCE_S = 1.0
"""How long the first logins wait for a policy: what is left of their time is for the bind."""


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
        self._due_s: dict[str, float] = {}
        """When the policy of a directory is read again."""
        self._policies: dict[str, LockoutPolicy | None] = {}
        """What each directory has shown; those that are not in here were not read yet."""
        self._readings: dict[str, asyncio.Task[None]] = {}

    async def learn(self, source: DirectorySource) -> None:
        """Set the budget of the directory by its own policy, unless that was done a while ago.

        Only while nothing is known of it, whoever comes waits a moment: some logins at once may be one too many.
        """
        if self._clock.monotonic_s() < self._due_s.get(source.name, 0.0):
            return
        reading = self._readings.get(source.name)
        if reading is None:
            reading = self._readings[source.name] = asyncio.create_task(self._read(source))
        if source.name not in self._policies:
            await asyncio.wait((reading,), timeout=_PATIENCE_S)

    async def aclose(self) -> None:
        """No policy is being read any more."""
        readings = list(self._readings.values())
        for reading in readings:
            reading.cancel()
        await asyncio.gather(*readings, return_exceptions=True)

    async def _read(self, source: DirectorySource) -> None:
        pause_s = _PAUSE_S
        try:
            policy = await read_lockout(source, self._policies.get(source.name))
            count, window_s = budget_of(self._max_failure_count, policy), window_of(self._window_s, policy)
            self._throttle.set_budget(source.name, count, window_s)
            self._policies[source.name] = policy
            pause_s = _GOOD_FOR_S
        except DirectoryError:
            pass  # what was known stays
        finally:
            self._due_s[source.name] = self._clock.monotonic_s() + pause_s
            del self._readings[source.name]
