"""Which server of a directory is asked: the first that works, in the configured order.

A server that fails is set aside, tried in the background after a while that doubles with each failure, and asked again
once it has answered there. Knows nothing of connections.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from bridge.errors import DirectoryError, DirectoryRefused, DirectoryUnavailable, summarize
from bridge.events import ServerRestored, ServerSetAside, ServersKnown
from bridge.model import error_problem

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Sequence

    from bridge.certificates.verification import Words
    from bridge.clock import Clock
    from bridge.events import Observer
    from bridge.ldap.settings import ServerAddress
    from bridge.model import Problem

T = TypeVar("T")

_FIRST_PAUSE_S = 5.0
_LONGEST_PAUSE_S = 300.0
_TOLD_AFTER_S = 60.0
"""How long a server is set aside before health speaks of it: most restart within that time."""
INNER_PART = 0.95
"""The part of the caller's time that servers get: a deadline ends before the one around it, and says who was slow."""


@dataclass(slots=True)
class _Absence:
    """A server that is set aside."""

    error: DirectoryError
    """What it has failed with last."""
    since_s: float
    """Since when it is away, by the clock that nobody sets."""
    pause_s: float
    """How long after its last failure it is tried."""
    until_s: float
    """When that is, by the clock."""
    task: asyncio.Task[None] | None = None
    trial: Callable[[], Awaitable[None]] | None = None
    """What must succeed, too, before the server is asked again: nothing else that works there counts meanwhile."""


@dataclass(frozen=True, slots=True)
class _Return:
    """A server that was set aside and is asked again."""

    at_s: float
    pause_s: float


class Servers:
    """The servers of one directory, and which of them are set aside."""

    def __init__(
        self,
        directory: str,
        servers: Sequence[ServerAddress],
        clock: Clock,
        observe: Observer,
        *,
        probe: Callable[[ServerAddress], Awaitable[object]],
        find: Callable[[], Awaitable[None]] | None = None,
        why_slow: Callable[[ServerAddress, float], Words | None] = lambda _server, _share_s: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """`probe` raises a `DirectoryError` where a server is not well, and ends by itself.

        `find` has `replace` called where no server is known, or raises `DirectoryUnavailable`. `why_slow` knows what
        else than the server has taken all of its share.
        """
        self._directory = directory
        self._servers = list(servers)
        self._urls = tuple(server.url for server in servers)
        self._absent: dict[ServerAddress, _Absence] = {}
        self._returned: dict[ServerAddress, _Return] = {}
        self._failed_binds: dict[ServerAddress, float] = {}
        """The last pause of those at which a user bind failed and none was accepted since."""
        self._clock = clock
        self._observe = observe
        self._probe = probe
        self._find = find
        self._why_slow = why_slow
        self._sleep = sleep
        if self._servers:
            self._tell(were_discovered=False)

    def in_order(self) -> list[ServerAddress]:
        """The servers to be tried, one after the other: those set aside only where no other is left.

        One that has to stand a trial comes after all others: it is asked only where each of them has to.
        """
        if not self._absent:
            return self._servers
        absent = self._absent
        usable = [server for server in self._servers if server not in absent]
        if usable:
            return usable
        waiting = self._set_aside
        return [server for server in waiting if absent[server].trial is None] or waiting

    def is_last(self, server: ServerAddress) -> bool:
        """Whether no other is asked after this one, but for those that are set aside."""
        return self.in_order()[-1:] == [server]

    @property
    def _set_aside(self) -> list[ServerAddress]:
        """Those that are set aside, who is tried first at the front, and who has to stand a trial at the end."""
        absent = self._absent
        waiting = [server for server in self._servers if server in absent]
        return sorted(waiting, key=lambda server: (absent[server].trial is not None, absent[server].until_s))

    def replace(self, servers: Sequence[ServerAddress]) -> None:
        """Others are asked from now on, in this order; what is known of those that stay is kept."""
        self._servers = list(servers)
        self._urls = tuple(server.url for server in servers)
        for gone in self._absent.keys() - set(servers):
            self._end_absence(gone)
        self._tell(were_discovered=True)

    def set_aside(
        self,
        server: ServerAddress,
        error: DirectoryError,
        trial: Callable[[], Awaitable[None]] | None = None,
        *,
        is_of_bind: bool = False,
    ) -> None:
        """The server is not asked until it has been tried: after 5 s, then twice as long each time, up to 5 min.

        Where it fails again soon after it has come back, it is away for twice as long as before; where a user bind has
        failed (`is_of_bind`), however late the next one does: trying it shows nothing of those. `trial` raises a
        `DirectoryError` while the server is not to be asked, although it answers.
        """
        absent = self._absent.get(server)
        if absent is not None and absent.trial is None and trial is not None:
            absent.trial = trial
            self._observe(ServerSetAside(self._directory, server.url, error, absent.pause_s))
        if absent is not None or server not in self._servers:
            return  # several requests failed together: that is one failure
        before, now = self._returned.pop(server, None), self._clock.monotonic_s()
        pause_s = _FIRST_PAUSE_S
        if before is not None and now - before.at_s < before.pause_s:
            pause_s = _double(before.pause_s)
        if is_of_bind:
            if server in self._failed_binds:
                pause_s = max(pause_s, _double(self._failed_binds[server]))
            self._failed_binds[server] = pause_s
        absence = self._absent[server] = _Absence(error.kept(), now, pause_s, now + pause_s, trial=trial)
        self._observe(ServerSetAside(self._directory, server.url, error, pause_s))
        absence.task = asyncio.create_task(self._try_until_well(server, absence))

    def note_accepted(self, server: ServerAddress) -> None:
        """The server has accepted a user's password: it checks them."""
        if self._failed_binds:
            self._failed_binds.pop(server, None)

    def welcome(self, server: ServerAddress) -> None:
        """The server works and is asked again, in its place; one that has to stand a trial has to stand it yet."""
        absence = self._absent.get(server)
        if absence is None or absence.trial is not None:
            return
        self._returned[server] = _Return(self._clock.monotonic_s(), absence.pause_s)
        self._end_absence(server)
        self._observe(ServerRestored(self._directory, server.url))

    async def first(
        self,
        attempt: Callable[[ServerAddress], Awaitable[T]],
        timeout_s: float,
        url: str | None = None,
        *,
        avoid: Collection[str] = (),
        proves: bool = True,
    ) -> T:
        """What `attempt` gives at the first server at which it doesn't fail, or at the server `url` alone.

        No server may take more than its even share of `timeout_s`, so that one which hangs leaves time for the next,
        and each is ended before the caller's own deadline, so that the error names it. A single one has that deadline.
        `attempt` must be idempotent. `proves`: success marks the server healthy. Servers in `avoid` are not asked.

        A server at which something fails is set aside; where it refuses, only if another one does what was asked. When
        all have failed, and time is left, those are asked, too, that were set aside before: they may be well again.
        Raises the failure that all servers have in common, or `DirectoryUnavailable` with what each of them said.
        """
        servers = list(await self._choose(url, avoid))
        clock = asyncio.get_running_loop().time
        deadline_s = clock() + timeout_s * INNER_PART
        failures: list[tuple[ServerAddress, DirectoryError]] = []
        for position, server in enumerate(servers):  # which grows when its end is reached
            share_s = max(0.0, deadline_s - clock()) / (len(servers) - position)
            try:
                if len(servers) == 1:  # the caller's own deadline is its share
                    found = await attempt(server)
                else:
                    async with asyncio.timeout(share_s):
                        found = await attempt(server)
            except TimeoutError:
                failure: DirectoryError = self._slow(server, share_s)
            except DirectoryError as error:
                failure = error.kept()  # an error that this frame holds, and that holds this frame, would stay with it
            else:
                for failed, reason in failures:
                    self.set_aside(failed, reason)
                if proves and self._absent:
                    self.welcome(server)
                return found
            if isinstance(failure, DirectoryUnavailable):
                self.set_aside(server, failure)
            failures.append((server, failure))
            if len(failures) == len(servers) and url is None:
                servers += self._left_over(servers, avoid) if clock() < deadline_s else ()
        try:
            raise summarize([failure for _, failure in failures])
        finally:
            del failures, failure  # as above: this frame is held by what is raised

    async def _choose(self, url: str | None, avoid: Collection[str]) -> Sequence[ServerAddress]:
        """The servers to be asked, one after the other."""
        if url is not None:
            return (self.named(url),)
        servers = self.in_order()
        if not servers and self._find is not None:
            await self._find()
            servers = self.in_order()
        if not avoid:
            return servers
        others = [server for server in (*servers, *self._set_aside) if server.url not in avoid]
        if not others:
            raise DirectoryUnavailable("no other server is left", directory=self._directory)
        return [server for server in others if server in servers] or others

    def _left_over(self, asked: Sequence[ServerAddress], avoid: Collection[str]) -> list[ServerAddress]:
        """Those that are set aside, were not asked, and may be: a bind that is not answered would count."""
        return [
            server
            for server in self._set_aside
            if server not in asked
            and server.url not in avoid
            and self._absent[server].trial is None
            and server not in self._failed_binds
        ]

    def named(self, url: str) -> ServerAddress:
        """The server of that URL. Raises `DirectoryUnavailable` where there is none any more."""
        for server in self._servers:
            if server.url == url:
                return server
        detail = "it is none of the directory's servers any more"
        raise DirectoryUnavailable(detail, directory=self._directory, server=url)

    @property
    def urls(self) -> tuple[str, ...]:
        """The URLs of all servers, those that are asked first at the front, those set aside at the end."""
        if not self._absent:
            return self._urls
        usable = [server for server in self._servers if server not in self._absent]
        return tuple(server.url for server in (*usable, *self._set_aside))

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Servers that stay set aside while others do their work; who has to stand a trial is told elsewhere."""
        now_s, date_s = self._clock.monotonic_s(), self._clock.now_s()
        lasting = {
            server: absence
            for server, absence in self._absent.items()
            if absence.trial is None and now_s - absence.since_s >= _TOLD_AFTER_S
        }
        if len(self._absent) == len(self._servers):
            return ()  # then the directory itself fails
        return tuple(
            error_problem(
                absence.error,
                self._directory,
                date_s - (now_s - absence.since_s),
                code="server_failing",
                beginning=f"{server.url} is set aside, and the other servers are asked: ",
            )
            for server, absence in lasting.items()
        )

    async def aclose(self) -> None:
        """Nothing is tried any more."""
        tasks = [absence.task for absence in self._absent.values() if absence.task is not None]
        self._absent.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _try_until_well(self, server: ServerAddress, absence: _Absence) -> None:
        while True:
            await self._sleep(absence.pause_s)
            try:
                await self._probe(server)
                if absence.trial is not None:
                    await absence.trial()
            except DirectoryError as error:
                absence.error = error.kept()
                # Security: a service account that is refused here may be locked by being tried.
                is_refused = isinstance(error, DirectoryRefused)
                absence.pause_s = _LONGEST_PAUSE_S if is_refused else _double(absence.pause_s)
                absence.until_s = self._clock.monotonic_s() + absence.pause_s
                self._observe(ServerSetAside(self._directory, server.url, error, absence.pause_s))
            else:
                absence.task = absence.trial = None  # the task ends by itself
                self.welcome(server)
                return

    def _end_absence(self, server: ServerAddress) -> None:
        task = self._absent.pop(server).task
        if task is not None:
            task.cancel()

    def _tell(self, *, were_discovered: bool) -> None:
        urls = tuple(server.url for server in self._servers)
        self._observe(ServersKnown(self._directory, urls, were_discovered))

    def _slow(self, server: ServerAddress, share_s: float) -> DirectoryUnavailable:
        detail, remedy = self._why_slow(server, share_s) or (
            f"no answer within {share_s:.1f} s",
            "Check the load of the server, and the indexes for the attributes in the filter.",
        )
        return DirectoryUnavailable(detail, directory=self._directory, server=server.url, remedy=remedy)


def _double(pause_s: float) -> float:
    return min(2 * pause_s, _LONGEST_PAUSE_S)
