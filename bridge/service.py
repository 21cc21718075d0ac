"""The bridge itself: lists users, checks passwords, refreshes directories, and knows how it fares.

Knows neither HTTP nor LDAP; `bridge.web` calls it, and the directories behind it are ports.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

from bridge.authentication.authenticator import Authenticator
from bridge.authentication.candidates import find_holder
from bridge.endpoint.endpoint import Endpoint
from bridge.errors import ApprovalOutdated, BridgeError, UnknownDirectory
from bridge.events import Refreshed, RefreshFailed
from bridge.model import Health
from bridge.snapshots.directory_snapshots import DirectorySnapshots

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from bridge.authentication.throttle import Remembered
    from bridge.authentication.user_binds import UserBinds
    from bridge.clock import Clock
    from bridge.events import Event, Observer
    from bridge.mailstore import ListAnswer
    from bridge.model import Problem, Report, Secret, Verdict
    from bridge.snapshots.policy import SnapshotPolicy
    from bridge.snapshots.store import Snapshot, SnapshotStore
    from bridge.sources.directory.source import DirectorySource

_REFRESH_AT = 0.8
"""The part of the TTL after which a snapshot is renewed ahead of time."""
_RETRY_FIRST_S = 5.0
_RETRY_LONGEST_S = 300.0
_FIND_OUT_S = 30.0
"""How often a directory that is listed on demand alone is looked at, where nothing of it could be answered."""


class Bridge:
    """Everything that the program does, by endpoint."""

    def __init__(
        self,
        endpoints: dict[str, tuple[str, ...]],
        sources: Sequence[tuple[DirectorySource, SnapshotPolicy]],
        *,
        store: SnapshotStore,
        clock: Clock,
        make_token: Callable[[], str],
        observe: Observer,
        binds: UserBinds,
    ) -> None:
        self._clock = clock
        self._observe = observe
        self.directories = {
            source.name: DirectorySnapshots(source, policy, store, clock, self._observe_directory)
            for source, policy in sources
        }
        self._throttle, self._budgets = binds.throttle, binds.budgets
        self._endpoints: dict[str, Endpoint] = {}
        settling = asyncio.Lock()
        for path, names in endpoints.items():
            chosen = [self.directories[name] for name in names]
            authenticator = Authenticator(path, chosen, binds, make_token=make_token, observe=observe)
            self._endpoints[path] = Endpoint(path, chosen, authenticator, store, observe, settling=settling)
            if len(chosen) > 1:
                for directory in chosen:
                    directory.share_names(self._endpoints[path], settling)
        self._store = store
        self.problems_of: Callable[[str], Sequence[Problem]] = lambda _endpoint: ()
        """What else is wrong with an endpoint, which no directory knows of."""

    def directories_of(self, endpoint: str) -> tuple[str, ...]:
        """The names of an endpoint's directories, in order of their priority."""
        return tuple(directory.source.name for directory in self._endpoints[endpoint].directories)

    async def list_users(self, endpoint: str, *, compressed: bool) -> ListAnswer:
        """The answer to `cmd=list`. Raises a `BridgeError` rather than leave anybody out."""
        return await self._endpoints[endpoint].list_users(compressed=compressed)

    async def authenticate(self, endpoint: str, user_name: str, password: Secret) -> Verdict:
        """The answer to `cmd=auth`. Raises a `BridgeError` where it can't be found out."""
        return await self._endpoints[endpoint].authenticator.authenticate(user_name, password)

    async def refresh(self, directory: str) -> Report:
        """The report of a listing made now. Raises a `BridgeError`."""
        report = (await self.directories[directory].refresh()).report
        await self._catch_up(directory)
        return report

    def forgive_refusal(self, directory: str) -> None:
        """The directory's service account is tried once more, though it was refused: the operator asks for it."""
        self.directories[directory].source.directory.forgive_refusal()

    async def load(self) -> None:
        """What an earlier run has left is there. A directory whose state can't be read tells so when it is asked."""
        for name, snapshots in self.directories.items():
            with suppress(BridgeError):
                await snapshots.load()
                await self._catch_up(name)

    async def strangers(self) -> tuple[str, ...]:
        """The directories of which a listing is kept, and which the configuration doesn't have any more."""
        return tuple(name for name in await self._store.directories() if name not in self.directories)

    async def reports(self, directory: str) -> tuple[Report, ...]:
        """The reports of the last refreshes that were accepted, the newest first."""
        return await self._store.reports(directory)

    async def approve(self, digest: str) -> tuple[str, int]:
        """The directory whose withheld removals have this digest, and how many they are; the next refresh lets them go.

        Raises `ApprovalOutdated` where none has.
        """
        failure: BridgeError | None = None
        found: list[Snapshot] = []
        for snapshots in self.directories.values():
            try:
                snapshot = await snapshots.load()
            except BridgeError as error:
                failure = error  # it may be another directory that is meant
            else:
                found += [snapshot] if snapshot is not None and snapshot.guard.digest == digest else []
        if found:
            # Two directories that withhold the same are approved one after the other.
            name = min(found, key=lambda snapshot: snapshot.guard.approved == digest).directory
            return name, await self.directories[name].approve(digest)
        raise failure or ApprovalOutdated(f"nothing that is withheld now has the digest {digest}")

    async def reset(self, directory: str) -> None:
        """Nothing is known any more of a directory, be it configured or not.

        Raises `UnknownDirectory` where nothing was ever known of it.
        """
        if directory in self.directories:
            await self.directories[directory].reset()
        elif directory in (strangers := await self.strangers()):
            await self._store.forget(directory)
        else:
            raise UnknownDirectory(directory, (*self.directories, *strangers))

    async def _catch_up(self, directory: str) -> None:
        for endpoint in self._endpoints.values():
            if any(snapshots.source.name == directory for snapshots in endpoint.directories):
                await endpoint.catch_up()

    def remembered(self) -> tuple[Remembered, ...]:
        """Of whom failed logins are remembered, and who is not bound any more for a while."""
        return self._throttle.remembered()

    def release(self, user_name: str) -> int:
        """How many users have been freed: those who typed this name, are listed by it, or have it as their id."""
        listed = ((name, find_holder(snapshots, user_name)) for name, snapshots in self.directories.items())
        return self._throttle.release(user_name, {(name, user.id) for name, user in listed if user is not None})

    def health(self) -> Health:
        """How each endpoint fares."""
        now_s = self._clock.now_s()
        return Health(
            tuple(endpoint.health(now_s, self.problems_of(path)) for path, endpoint in self._endpoints.items())
        )

    async def keep_fresh(self, directory: str, wait: Callable[[float], Awaitable[None]]) -> None:
        """Renews a directory's snapshot ahead of its end, for ever; after a failure sooner, then less often.

        `wait` lets a number of seconds pass.
        """
        ttl_s = self.directories[directory].policy.ttl_s
        await self._repeat(directory, lambda: self.refresh(directory), _REFRESH_AT * ttl_s, ttl_s, wait)

    async def keep_answerable(self, directory: str, wait: Callable[[float], Awaitable[None]]) -> None:
        """Finds out, now and for ever, whether a directory that is listed on demand alone could be listed.

        One that has failed is listed until that succeeds, or health would tell of the failure until somebody asks.
        """
        find_out = self.directories[directory].find_out
        await self._repeat(directory, find_out, _FIND_OUT_S, _RETRY_LONGEST_S, wait)

    async def _repeat(
        self,
        directory: str,
        act: Callable[[], Awaitable[object]],
        pause_s: float,
        retry_at_most_s: float,
        wait: Callable[[float], Awaitable[None]],
    ) -> None:
        retry_s = _RETRY_FIRST_S
        while True:
            try:
                await act()
            except Exception as error:  # noqa: BLE001 - a bug in one refresh must not end all that would follow
                if not isinstance(error, BridgeError):
                    bug = BridgeError(type(error).__name__, subject=str(error), remedy="Please report it.")
                    self._observe(RefreshFailed(directory, bug, 0.0))
                await wait(min(retry_s, retry_at_most_s))
                retry_s = min(2 * retry_s, _RETRY_LONGEST_S)
            else:
                retry_s = _RETRY_FIRST_S
                await wait(pause_s)

    def _observe_directory(self, event: Event) -> None:
        """Passes the event on; whoever a new listing doesn't hold has their password checked by the directory again."""
        self._observe(event)
        if not isinstance(event, Refreshed):
            return
        directory = event.report.directory
        remembered, snapshot = self._throttle.remembered_successes(directory), self.directories[directory].last_good
        if remembered and snapshot is not None:
            gone = {user_id.encode() for user_id in remembered}.difference(snapshot.roster.ids())
            self._throttle.forget_successes(directory, [user_id.decode() for user_id in gone])

    async def aclose(self) -> None:
        """End what runs, and leave the directories. The store stays open: it belongs to whoever has opened it."""
        async with AsyncExitStack() as stack:
            for endpoint in self._endpoints.values():
                stack.push_async_callback(endpoint.aclose)
            for directory in self.directories.values():
                stack.push_async_callback(directory.source.directory.aclose)
                stack.push_async_callback(directory.aclose)
            stack.push_async_callback(self._budgets.aclose)
