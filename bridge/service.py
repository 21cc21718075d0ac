"""The bridge itself: lists users, checks passwords, refreshes directories, and knows how it fares.

Knows neither HTTP nor LDAP; `bridge.web` calls it, and the directories behind it are ports.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.authentication import Authenticator
from bridge.errors import BridgeError, SnapshotMissing
from bridge.events import RefreshFailed
from bridge.model import EndpointHealth, Health, Problem, Status
from bridge.protocol import Listing, MergedListing, compress, merge_rosters
from bridge.snapshots import DirectorySnapshots

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bridge.events import Observer
    from bridge.model import Report, Secret, Verdict
    from bridge.source import DirectorySource
    from bridge.storage import Snapshot, SnapshotStore

_REFRESH_AT = 0.8
"""The part of the TTL after which a snapshot is renewed ahead of time."""
_RETRY_FIRST_S = 5.0
_RETRY_LONGEST_S = 300.0


@dataclass(slots=True)
class _Prepared:
    """The answer of an endpoint, made once for a set of snapshots."""

    snapshots: tuple[Snapshot, ...]
    plain: asyncio.Task[MergedListing]
    compressed: asyncio.Task[bytes] | None = None


class Endpoint:
    """One HTTP address with the directories behind it, in order of their priority."""

    def __init__(self, path: str, directories: Sequence[DirectorySnapshots], authenticator: Authenticator) -> None:
        self.path = path
        self.directories = directories
        self.authenticator = authenticator
        self._prepared: _Prepared | None = None

    async def list_users(self, *, compressed: bool) -> Listing:
        """The users of all directories, or an error: never of some."""
        snapshots = await self._current_snapshots()
        prepared = self._prepared
        if prepared is None or prepared.snapshots != snapshots or _has_failed(prepared.plain):
            rosters = [snapshot.roster for snapshot in snapshots]
            merging = asyncio.create_task(asyncio.to_thread(merge_rosters, rosters))
            prepared = self._prepared = _Prepared(snapshots, merging)
        merged = await asyncio.shield(prepared.plain)
        if not compressed:
            return Listing(merged.json, merged.user_count)
        if prepared.compressed is None or _has_failed(prepared.compressed):
            prepared.compressed = asyncio.create_task(asyncio.to_thread(compress, merged.json))
        return Listing(await asyncio.shield(prepared.compressed), merged.user_count, "gzip")

    async def _current_snapshots(self) -> tuple[Snapshot, ...]:
        outcomes = await asyncio.gather(
            *(directory.current() for directory in self.directories), return_exceptions=True
        )
        snapshots = []
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
            snapshots.append(outcome)
        return tuple(snapshots)

    def health(self, now_s: float) -> EndpointHealth:
        """How the endpoint fares: unavailable where it could not answer a listing now."""
        problems = tuple(problem for directory in self.directories for problem in _problems(directory, now_s))
        if any(directory.answerable is None for directory in self.directories):
            return EndpointHealth(self.path, Status.UNAVAILABLE, problems)
        return EndpointHealth(self.path, Status.DEGRADED if problems else Status.OK, problems)


class Bridge:
    """Everything that the program does, by endpoint."""

    def __init__(
        self,
        endpoints: dict[str, tuple[str, ...]],
        sources: Sequence[DirectorySource],
        *,
        store: SnapshotStore,
        clock: Callable[[], float],
        make_token: Callable[[], str],
        observe: Observer,
    ) -> None:
        self._clock = clock
        self._observe = observe
        self.directories = {source.name: DirectorySnapshots(source, store, clock, observe) for source in sources}
        self._endpoints: dict[str, Endpoint] = {}
        for path, names in endpoints.items():
            chosen = [self.directories[name] for name in names]
            authenticator = Authenticator(path, chosen, clock, make_token, observe)
            self._endpoints[path] = Endpoint(path, chosen, authenticator)

    async def list_users(self, endpoint: str, *, compressed: bool) -> Listing:
        """The answer to `cmd=list`. Raises a `BridgeError` rather than leave anybody out."""
        return await self._endpoints[endpoint].list_users(compressed=compressed)

    async def authenticate(self, endpoint: str, user_name: str, password: Secret) -> Verdict:
        """The answer to `cmd=auth`. Raises a `BridgeError` where it can't be found out."""
        return await self._endpoints[endpoint].authenticator.authenticate(user_name, password)

    async def refresh(self, directory: str) -> Report:
        """The report of a listing made now. Raises a `BridgeError`."""
        return (await self.directories[directory].refresh()).report

    def health(self) -> Health:
        """How each endpoint fares."""
        now_s = self._clock()
        return Health(tuple(endpoint.health(now_s) for endpoint in self._endpoints.values()))

    async def keep_fresh(self, directory: str, wait: Callable[[float], Awaitable[None]]) -> None:
        """Renews a directory's snapshot ahead of its end, for ever; after a failure sooner, then less often.

        `wait` lets a number of seconds pass.
        """
        snapshots, pause_s = self.directories[directory], _RETRY_FIRST_S
        while True:
            try:
                await snapshots.refresh()
            except Exception as error:  # noqa: BLE001 - a bug in one refresh must not end all that would follow
                if not isinstance(error, BridgeError):
                    bug = BridgeError(f"{type(error).__name__}: {error}", remedy="Please report it.")
                    self._observe(RefreshFailed(directory, bug, 0.0))
                await wait(min(pause_s, snapshots.source.ttl_s))
                pause_s = min(2 * pause_s, _RETRY_LONGEST_S)
            else:
                pause_s = _RETRY_FIRST_S
                await wait(_REFRESH_AT * snapshots.source.ttl_s)

    async def aclose(self) -> None:
        """Nothing runs any more, and the directories are left."""
        for directory in self.directories.values():
            await directory.aclose()
            await directory.source.directory.aclose()


def _has_failed(task: asyncio.Task[MergedListing] | asyncio.Task[bytes]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _problems(directory: DirectorySnapshots, now_s: float) -> tuple[Problem, ...]:
    name, failure = directory.source.name, directory.failure
    if failure is not None:
        since_s = directory.failing_since_s or now_s
        return (Problem(failure.code, name, failure.message, failure.remedy, since_s),)
    if directory.last_good is None:
        missing = SnapshotMissing("the first listing has not ended", remedy="Wait for it.")
        return (Problem(missing.code, name, missing.message, missing.remedy, now_s),)
    return ()
