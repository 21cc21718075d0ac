"""Whose name it is among the directories of an endpoint: asked all at once, by their priority, and by what is listed.

Don't wait for a slow directory when another one owns the name; an outage is never "nobody of that name".
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from bridge.authentication.candidates import find_holder, find_user
from bridge.errors import BridgeError
from bridge.model import Rejection
from bridge.roster.roster import fold_user_name

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bridge.authentication.candidates import Found
    from bridge.snapshots.directory_snapshots import DirectorySnapshots

_PATIENCE_S = 0.1
"""How long directories that hold no such name by their listing are waited for: one that works answers by then."""


class Selected(NamedTuple):  # made for each login
    """What the endpoint holds for a name."""

    found: Found
    late: frozenset[asyncio.Task[Found]] = frozenset()
    """The look-ups in other directories that were not waited for."""


class Selection:
    """Looks a name up in every directory that may hold it, and chooses."""

    def __init__(self, directories: Sequence[DirectorySnapshots]) -> None:
        """`directories` come in order of their priority."""
        self._directories = directories
        self._late: set[asyncio.Task[Found]] = set()
        self.contested: Mapping[str, str] = {}
        """Which directory has each folded userName that several claim, by what is answered to `list`."""

    async def find(self, user_name: str) -> Selected:
        """What the directory holds that has the name; nothing where none does.

        Raises what kept a directory from answering, unless another is known to hold the name.
        """
        if len(self._directories) == 1:
            return Selected(await find_user(self._directories[0], user_name))
        holder = self._holder_of(user_name)
        if holder is not None:
            return Selected(await find_user(holder, user_name))
        best, absent, failures = await self._ask_everywhere(user_name)
        if best is not None and (holder := self._holder_of(best.found.candidates[0].user_name)) is not None:
            # A spelling that the directories take for a contested name.
            return Selected(await find_user(holder, user_name))
        for directory, failure in failures:
            if best is None or self._may_outrank(directory, best.found, user_name):
                raise failure
        return best or Selected(next((each for each in absent if each.reason is not Rejection.UNKNOWN_USER), absent[0]))

    async def _ask_everywhere(
        self, user_name: str
    ) -> tuple[Selected | None, list[Found], list[tuple[DirectorySnapshots, BridgeError]]]:
        """What the name most likely means, what was found of nobody, and which directories could not be asked."""
        tasks = {asyncio.create_task(find_user(each, user_name)): each for each in self._directories}
        self._late.update(tasks)
        for task in tasks:
            task.add_done_callback(self._forget)
        best, pending, patience_s = None, set(tasks), None
        answers: list[Found] = []
        try:
            while pending:
                done, pending = await asyncio.wait(pending, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
                answers = [task.result() for task in tasks if task.done() and not _failure_of(task)]
                candidates = [answer for answer in answers if answer.candidates]
                best = min(candidates, key=lambda each: each.rank(user_name), default=None)
                if best is None:
                    continue
                rivals = [tasks[task] for task in pending if not self._comes_before(best, tasks[task], user_name)]
                if not (rivals and done):
                    break
                is_open = any(self._may_outrank(rival, best, user_name) for rival in rivals)
                patience_s = None if is_open else _PATIENCE_S
        except asyncio.CancelledError:
            for task in pending:
                task.cancel()
            raise
        failures = [(tasks[task], error) for task in tasks if task.done() and (error := _failure_of(task))]
        selected = Selected(best, frozenset(pending)) if best is not None else None
        return selected, [answer for answer in answers if not answer.candidates], failures

    def _forget(self, task: asyncio.Task[Found]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # who does not wait for it is not told

    def _comes_before(self, best: Found, directory: DirectorySnapshots, user_name: str) -> bool:
        """Whether what was found counts whatever a directory will say."""
        order = self._directories.index
        return best.rank(user_name) == 0 and order(best.directory) < order(directory)

    def _holder_of(self, user_name: str) -> DirectorySnapshots | None:
        """The directory that has a userName which several claim."""
        name = self.contested.get(fold_user_name(user_name)) if self.contested else None
        return next((directory for directory in self._directories if directory.source.name == name), None)

    def _may_outrank(self, directory: DirectorySnapshots, best: Found, user_name: str) -> bool:
        """Whether a directory that can't be asked could hold the name before the one that does."""
        is_user_name = best.rank(user_name) == 0
        if self._comes_before(best, directory, user_name):
            return False
        if directory.last_good is None:
            return True
        names = (user_name, best.candidates[0].user_name)
        if any(find_holder(directory, name) is not None for name in names if name):
            return True
        return not (is_user_name or directory.source.finds_by_user_name)


async def wait_for(late: frozenset[asyncio.Task[Found]]) -> None:
    """Wait for look-ups that nobody needs any more."""
    if late:
        await asyncio.wait(late)


def _failure_of(task: asyncio.Task[Found]) -> BridgeError | None:
    """What kept a look-up that is done from being answered. Raises what is a bug."""
    error = task.exception()
    if error is None or isinstance(error, BridgeError):
        return error
    raise error
