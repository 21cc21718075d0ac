"""What is broken at present, and what the log says of it."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any

RECOVERED_AFTER_S = 8.0
"""From the end of the last fault: servers are found well, and a listing is taken."""
_KEPT_EVENTS = frozenset(("service.started", "service.stopped"))
_NEVER = frozenset(("request.failed", "library.logged", "connections.refused", "log.lost"))
_REFUSALS = frozenset(("directory_unavailable", "search_incomplete", "outcome_unknown", "too_busy", "no_replica"))
"""The errors that callers may see while servers fail."""


class Weather:
    """Calm, or not: a fault that was put in, or a server that the bridge has set aside, and some time after these."""

    def __init__(self) -> None:
        self._faults_count = 0
        self._set_aside: set[str] = set()
        self._calm_from_s = time.monotonic()
        self.listed_s = float("-inf")
        """The last listing that was accepted as a whole had not begun then: whatever is answered now is younger."""

    @contextmanager
    def fault(self) -> Iterator[None]:
        """Something is broken inside of this."""
        self._faults_count += 1
        self._trouble()
        try:
            yield
        finally:
            self._faults_count -= 1
            self._relieve()

    def set_aside(self, server: str) -> None:
        """The bridge asks others than this server."""
        self._set_aside.add(server)
        self._trouble()

    def restore(self, server: str) -> None:
        """The bridge asks this server again."""
        self._set_aside.discard(server)
        self._relieve()

    @property
    def is_calm(self) -> bool:
        """Whether everything is well, and was a while ago."""
        return time.monotonic() >= self._calm_from_s

    def _trouble(self) -> None:
        self._calm_from_s = float("inf")

    def _relieve(self) -> None:
        if not self._faults_count and not self._set_aside:
            self._calm_from_s = time.monotonic() + RECOVERED_AFTER_S


class LogWatch:
    """Reads the log as it comes: which servers are set aside, and what should never stand there."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._refreshed_s = float("-inf")
        """When the last refresh has ended."""
        self.counts: dict[str, int] = {}
        """Lines by event."""
        self.surprises: list[str] = []
        self.last: deque[str] = deque(maxlen=60)
        """The last lines about listings and servers, which tell why a rule was broken."""

    def __call__(self, line: dict[str, Any]) -> bool:
        """Take note of a line. Returns whether it must be kept."""
        event = line["event"]
        self.counts[event] = self.counts.get(event, 0) + 1
        if event == "server.set_aside":
            self._weather.set_aside(line["server"])
        elif event == "server.restored":
            self._weather.restore(line["server"])
        elif event in ("refresh.finished", "refresh.failed"):
            self._note_refresh(line)
        if event.startswith(("refresh.", "server.")):
            self.last.append(str(line))
        if self._is_surprise(event, line):
            self.surprises.append(str(line))
        return event in _KEPT_EVENTS

    def _note_refresh(self, line: dict[str, Any]) -> None:
        # One refresh runs at a time; how long this one has waited for witnesses is not in its `duration_s`.
        if not line.get("withheld_count", 1):
            self._weather.listed_s = self._refreshed_s
        since_written_s = time.time() - datetime.fromisoformat(line["timestamp"]).timestamp()
        self._refreshed_s = time.monotonic() - since_written_s

    def _is_surprise(self, event: str, line: dict[str, Any]) -> bool:
        if event in _NEVER or not event or "exception" in line or "Traceback" in str(line.get("error")):
            return True
        if line.get("code") is not None and line["code"] not in _REFUSALS:
            return True
        if event == "refresh.finished" and not self._weather.is_calm:
            return False  # whoever has left is kept while a server that has shown them can't be asked
        return line["level"] not in ("info", "warning")
