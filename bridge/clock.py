"""The two clocks of the program: one for dates, one for durations.

A date (`now_s`) can be set forward or back at any moment. What must last for some time, such as a window, a time-out or
the age of what is kept in memory, is measured by `monotonic_s`.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Protocol

_MONOTONIC = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux: CLOCK_BOOTTIME goes on while a machine is suspended, as the locks and windows of directories do."""


class Clock(Protocol):
    """The port: what time it is, and how much of it has passed."""

    def now_s(self) -> float:
        """The date in seconds since 1970, for what is shown and what outlives the process."""

    def monotonic_s(self) -> float:
        """Seconds since an arbitrary moment; never goes back, and means nothing in another process."""


class SystemClock:
    """The clocks of this machine."""

    # Without a frame of their own: each login asks some ten times.
    now_s = staticmethod(time.time)
    monotonic_s = staticmethod(partial(time.clock_gettime, _MONOTONIC))
