"""Which server of a directory is asked: the first that works, in the configured order.

A server that fails is set aside for a while that doubles with each failure. Knows nothing of connections.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from bridge.errors import DirectoryUnavailable
from bridge.events import ServerSetAside

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bridge.errors import BridgeError
    from bridge.events import Observer
    from bridge.ldap.settings import ServerAddress

T = TypeVar("T")

_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 300.0


@dataclass(slots=True)
class _State:
    until_s: float = 0.0
    """When it may be asked again, by the monotonic clock."""
    pause_s: float = 0.0


class Servers:
    """The servers of one directory, and which of them are set aside."""

    def __init__(
        self, directory: str, servers: Sequence[ServerAddress], clock: Callable[[], float], observe: Observer
    ) -> None:
        self._directory = directory
        self._servers = list(servers)
        self._failed: dict[ServerAddress, _State] = {}
        """Those whose last use failed."""
        self._clock = clock
        self._observe = observe

    def in_order(self) -> list[ServerAddress]:
        """The servers to be tried, one after the other: those set aside only where no other is left."""
        if not self._failed:
            return self._servers
        now, until_s = self._clock(), {server: state.until_s for server, state in self._failed.items()}
        usable = [server for server in self._servers if until_s.get(server, now) <= now]
        return usable or sorted(self._servers, key=until_s.__getitem__)

    def set_aside(self, server: ServerAddress, error: BridgeError) -> None:
        """The server is not asked for 5 s, then for twice as long each time, up to 5 min."""
        state, now = self._failed.setdefault(server, _State()), self._clock()
        if state.until_s > now:
            return  # several requests failed together: that is one failure
        state.pause_s = min(max(2 * state.pause_s, _FIRST_PAUSE_S), _LONGEST_PAUSE_S)
        state.until_s = now + state.pause_s
        self._observe(ServerSetAside(self._directory, server.url, error, state.pause_s))

    def welcome(self, server: ServerAddress) -> None:
        """The server works, so that its next failure is its first."""
        self._failed.pop(server, None)

    async def first(self, attempt: Callable[[ServerAddress], Awaitable[T]], timeout_s: float) -> T:
        """What `attempt` gives at the first server that is not unavailable.

        No server may take more than its even share of `timeout_s`, so that one which hangs leaves time for the next;
        the last one has until the deadline of the caller, which must set one.
        Only what may be repeated belongs into `attempt`. Raises `DirectoryUnavailable` where none is left; any other
        exception is an answer and passes.
        """
        servers = self.in_order()
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + timeout_s
        failures: list[DirectoryUnavailable] = []
        for position, server in enumerate(servers):
            remaining_count = len(servers) - position
            share_s = max(0.0, deadline_s - clock()) / remaining_count
            try:
                if remaining_count == 1:  # the caller's own deadline is its share
                    found = await attempt(server)
                else:
                    async with asyncio.timeout(share_s):
                        found = await attempt(server)
            except TimeoutError as error:
                failure = self._slow(server, share_s)
                failure.__cause__ = error
            except DirectoryUnavailable as error:
                failure = error
            else:
                self.welcome(server)
                return found
            self.set_aside(server, failure)
            failures.append(failure)
        raise _all_failed(failures)

    def _slow(self, server: ServerAddress, share_s: float) -> DirectoryUnavailable:
        return DirectoryUnavailable(
            f"no answer within {share_s:.1f} s",
            directory=self._directory,
            server=server.url,
            remedy="Check the load of the server, and the indexes for the attributes in the filter.",
        )


def _all_failed(failures: list[DirectoryUnavailable]) -> DirectoryUnavailable:
    """One error for all: the only one, or one that names each server with what was wrong there."""
    first = failures[0]
    if len(failures) == 1:
        return first
    detail = "no server answers: " + "; ".join(f"{failure.server}: {failure.detail}" for failure in failures)
    error = DirectoryUnavailable(detail, directory=first.directory, remedy=first.remedy)
    error.__cause__ = first
    return error
