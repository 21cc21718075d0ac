"""The clocks of the machine."""

from __future__ import annotations

import time

from bridge.clock import SystemClock


def test_system_clock_tells_dates_and_durations_apart() -> None:
    """The date is the machine's; durations come from a clock that goes on while the machine is suspended."""
    clock = SystemClock()
    before = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    found = clock.now_s(), clock.monotonic_s()
    after = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    assert before[0] <= found[0] <= after[0]
    assert before[1] <= found[1] <= after[1]
