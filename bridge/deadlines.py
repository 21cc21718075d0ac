"""Deadlines for what comes in great numbers: one timer for all, however many wait.

`asyncio.timeout` makes a timer for each use, and a login would need four of them; here a deadline costs an entry in a
dictionary. Knows nothing of what is waited for.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from types import TracebackType


ANSWER_S = 10.0
"""For the answer to a login over HTTP: a person waits for it."""
LOGIN_S = 9.0
"""For a login inside of that. A look-up and a bind, one after the other, must fit into it."""
VERDICT_S = 8.4
"""For a verdict inside of that: what a refusal lasts beyond it, so that its time tells nothing, takes half a second."""
GROUPS_S = 6.0
"""For groups that are read anew at a login: what is left is for another server, and for the bind."""
LIST_ANSWER_S = 90.0
"""For the answer to a list over HTTP: MailStore gives up after 100 s, and an error before that is better than none."""


class Due(Protocol):
    """Something that happens when a time is over; hashed by identity."""

    due_s: float
    """When that is, by the clock of the event loop."""

    def pass_by(self) -> None:
        """Do what happens then."""


class Deadlines:
    """Ends whatever takes longer than `timeout_s` from the moment at which it begins."""

    __slots__ = ("_timer", "running", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self.running: dict[Due, None] = {}
        """In the order in which they began, which is the order in which they are due."""
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> Deadline:
        """A context manager, entered once: `TimeoutError` is raised where its inside has not ended in time."""
        return Deadline(self)

    def add(self, item: Due) -> None:
        """Have `pass_by` called when the time is over, unless the item is removed before."""
        loop = asyncio.get_running_loop()
        item.due_s = loop.time() + self.timeout_s
        self.running[item] = None
        if self._timer is None:
            self._timer = loop.call_at(item.due_s, self._end_overdue, loop)

    def remove(self, item: Due) -> None:
        """Forget an item that has come to its end by itself, or has passed."""
        self.running.pop(item, None)

    def _end_overdue(self, loop: asyncio.AbstractEventLoop) -> None:
        """Ends what is due, and comes again when the next one will be."""
        self._timer = None
        now_s = loop.time()
        while self.running:
            oldest = next(iter(self.running))
            if oldest.due_s > now_s:
                self._timer = loop.call_at(oldest.due_s, self._end_overdue, loop)
                return
            del self.running[oldest]
            oldest.pass_by()


class Deadline:
    """One use of `Deadlines`."""

    __slots__ = ("_cancelling_count", "_has_passed", "_owner", "_task", "due_s")

    def __init__(self, owner: Deadlines) -> None:
        self._owner = owner
        self._has_passed = False
        self.due_s = 0.0

    def pass_by(self) -> None:
        """The time is over, and the task that waits is woken."""
        self._has_passed = True
        self._task.cancel()

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - only tasks wait
        self._task = task
        self._cancelling_count = task.cancelling()
        self._owner.add(self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._owner.remove(self)
        if self._has_passed and self._task.uncancel() <= self._cancelling_count and kind is asyncio.CancelledError:
            # As in asyncio.timeout: whoever else has cancelled the task is not robbed of it.
            raise TimeoutError from error
