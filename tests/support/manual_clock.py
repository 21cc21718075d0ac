"""A clock that stands still until a test moves it."""

from __future__ import annotations


class ManualClock:
    """The port `bridge.clock.Clock`; `date_s` alone is set where somebody sets the clock of the machine."""

    def __init__(self, date_s: float = 1_000_000.0) -> None:
        self.date_s = date_s
        self._elapsed_s = 5_000.0

    def now_s(self) -> float:
        return self.date_s

    def monotonic_s(self) -> float:
        return self._elapsed_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.date_s += seconds
        self._elapsed_s += seconds
