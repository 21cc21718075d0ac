"""The bridge itself: lists users, checks passwords, refreshes directories, and knows how it fares.

Knows neither HTTP nor LDAP; `bridge.web` calls it, and the directories behind it are ports.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.attempts import UserBinds
from bridge.authentication import Authenticator, find_holder
from bridge.comparison import find_claims
from bridge.errors import ApprovalOutdated, BridgeError, SnapshotMissing, StateLost
from bridge.events import NamesContested, Refreshed, RefreshFailed
from bridge.model import EndpointHealth, Health, Problem, Status
from bridge.protocol import Listing, MergedListing, compress, merge_rosters
from bridge.roster import Roster
from bridge.snapshots import DirectorySnapshots, how_to_approve
from bridge.throttle import MemoryThrottle, ThrottleRules

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

    from bridge.events import Event, Observer
    from bridge.model import Report, Secret, Verdict
    from bridge.source import DirectorySource
    from bridge.storage import Snapshot, SnapshotStore
    from bridge.throttle import HeldBack, Throttle

_REFRESH_AT = 0.8
"""The part of the TTL after which a snapshot is renewed ahead of time."""
_RETRY_FIRST_S = 5.0
_RETRY_LONGEST_S = 300.0


@dataclass(slots=True)
class _Prepared:
    """The answer of an endpoint, made once for a set of rosters."""

    rosters: tuple[Roster, ...]
    plain: asyncio.Task[MergedListing]
    compressed: asyncio.Task[bytes] | None = None


class Endpoint:
    """One HTTP address with the directories behind it, in order of their priority."""

    def __init__(
        self,
        path: str,
        directories: Sequence[DirectorySnapshots],
        authenticator: Authenticator,
        store: SnapshotStore,
        observe: Observer,
        *,
        settling: asyncio.Lock,
    ) -> None:
        self.path = path
        self.directories = directories
        self._settling = settling
        """Held where what is kept of a directory, or who holds a name, is about to change."""
        self.authenticator = authenticator
        self._store = store
        self._observe = observe
        self._prepared: _Prepared | None = None
        self._holders: Mapping[str, str] | None = None
        """Which directory has each folded name that several claim; None until the store was asked."""
        self._told: Mapping[str, str] | None = None
        """What was last told of it."""

    async def load(self) -> None:
        """What an earlier run has left of each directory is there.

        Raises `StateUnavailable`; a directory whose listing is lost has no names that could be taken from it.
        """
        for directory in self.directories:
            with contextlib.suppress(StateLost):
                await directory.load()

    async def foresee(self, directory: DirectorySnapshots, later: Roster) -> None:
        """Names that are new in a directory, and that others have, stay with those.

        It is noted before the new listing is kept: whatever ends the process then, nobody's name changes hands. The
        caller holds the lock. Raises what the store raises.
        """
        others = {
            other.source.name: other.last_good.roster
            for other in self.directories
            if other is not directory and other.last_good is not None
        }
        holders = await self._load_holders()
        previous = directory.last_good
        claims = await asyncio.to_thread(find_claims, previous.roster if previous else Roster(), later, others)
        noted = {name: names[0] for name, names in claims.items() if holders.get(name) not in names}
        if previous is None:  # it was reset: what it held then is still its own
            noted = {name: holder for name, holder in noted.items() if holders.get(name) != directory.source.name}
        if noted:
            await self._save_holders({**holders, **noted})

    async def list_users(self, *, compressed: bool) -> Listing:
        """The users of all directories, or an error: never of some."""
        prepared = self._prepare(tuple(snapshot.roster for snapshot in await self._current_snapshots()))
        merged = await asyncio.shield(prepared.plain)
        if not compressed:
            return Listing(merged.json, merged.user_count)
        if prepared.compressed is None or _has_failed(prepared.compressed):
            prepared.compressed = asyncio.create_task(asyncio.to_thread(compress, merged.json))
        return Listing(await asyncio.shield(prepared.compressed), merged.user_count, "gzip")

    async def catch_up(self) -> None:
        """The answer is being made of what was last accepted, before anybody asks for it."""
        if len(self.directories) > 1:
            rosters = self._last_rosters()
            if len(rosters) == len(self.directories):
                await asyncio.shield(self._prepare(rosters).plain)

    def _prepare(self, rosters: tuple[Roster, ...]) -> _Prepared:
        """The answer for these rosters, being made; the one that is there already where they are the same."""
        prepared = self._prepared
        if prepared is None or _has_failed(prepared.plain) or not _are_same(prepared.rosters, rosters):
            merging = asyncio.create_task(self._merge(rosters, prepared))
            prepared = self._prepared = _Prepared(rosters, merging)
        return prepared

    async def _merge(self, rosters: tuple[Roster, ...], before: _Prepared | None) -> MergedListing:
        if len(rosters) == 1:
            return MergedListing(rosters[0].json, len(rosters[0]))
        if before is not None and not before.plain.done():
            await asyncio.wait((before.plain,))  # who holds a name is settled in the order of the answers
        async with self._settling:
            holders = await self._load_holders()
            names = [directory.source.name for directory in self.directories]
            merged = await asyncio.to_thread(merge_rosters, dict(zip(names, rosters, strict=True)), holders)
            # What was noted of names that come with a newer listing than these is needed yet.
            noted = {} if _are_same(rosters, self._last_rosters()) else holders
            await self._save_holders({**noted, **merged.holders})
        if merged.holders != self._told:
            self._told = merged.holders
            self._observe(NamesContested(self.path, tuple(sorted(merged.holders.items()))))
        return merged

    def _last_rosters(self) -> tuple[Roster, ...]:
        """What was accepted last of each directory, as far as there is something."""
        snapshots = [directory.last_good for directory in self.directories]
        return tuple(snapshot.roster for snapshot in snapshots if snapshot is not None)

    async def _load_holders(self) -> Mapping[str, str]:
        if self._holders is None:
            self._holders = self.authenticator.contested = await self._store.load_holders(self.path)
            self._told = self._holders
        return self._holders

    async def _save_holders(self, holders: Mapping[str, str]) -> None:
        if holders != self._holders:
            await self._store.save_holders(self.path, holders)
            self._holders = self.authenticator.contested = holders

    async def _current_snapshots(self) -> tuple[Snapshot, ...]:
        outcomes = await asyncio.gather(
            *(directory.current() for directory in self.directories), return_exceptions=True
        )
        snapshots = []
        for directory, outcome in zip(self.directories, outcomes, strict=True):
            if isinstance(outcome, BaseException):
                raise outcome
            # While another directory was being listed, this one may have been listed anew.
            snapshots.append(directory.last_good or outcome)
        return tuple(snapshots)

    async def aclose(self) -> None:
        """No answer is being made any more."""
        if self._prepared is not None:
            tasks = [task for task in (self._prepared.plain, self._prepared.compressed) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

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
        throttle: Throttle | None = None,
        fast_refusals: bool = False,
    ) -> None:
        """Without a `throttle`, one with the default rules is made."""
        self._clock = clock
        self._observe = observe
        self.directories = {
            source.name: DirectorySnapshots(source, store, clock, self._observe_directory) for source in sources
        }
        self._throttle = throttle or MemoryThrottle(ThrottleRules(), make_token().encode(), clock)
        binds = UserBinds(self._throttle, fast_refusals=fast_refusals)
        self._endpoints: dict[str, Endpoint] = {}
        settling = asyncio.Lock()
        for path, names in endpoints.items():
            chosen = [self.directories[name] for name in names]
            authenticator = Authenticator(path, chosen, binds, clock=clock, make_token=make_token, observe=observe)
            self._endpoints[path] = Endpoint(path, chosen, authenticator, store, observe, settling=settling)
            if len(chosen) > 1:
                for directory in chosen:
                    directory.share_names(self._endpoints[path], settling)
        self._store = store

    def directories_of(self, endpoint: str) -> tuple[str, ...]:
        """The names of an endpoint's directories, in order of their priority."""
        return tuple(directory.source.name for directory in self._endpoints[endpoint].directories)

    async def list_users(self, endpoint: str, *, compressed: bool) -> Listing:
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

    async def load(self) -> None:
        """What an earlier run has left is there. A directory whose state can't be read tells so when it is asked."""
        for name, snapshots in self.directories.items():
            with contextlib.suppress(BridgeError):
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
        """Nothing is known any more of a directory, be it configured or not."""
        if directory in self.directories:
            await self.directories[directory].reset()
        else:
            await self._store.forget(directory)

    async def _catch_up(self, directory: str) -> None:
        for endpoint in self._endpoints.values():
            if any(snapshots.source.name == directory for snapshots in endpoint.directories):
                await endpoint.catch_up()

    def held_back(self) -> tuple[HeldBack, ...]:
        """Who is not bound any more for a while, as too many of their passwords were wrong."""
        return self._throttle.held()

    def release(self, user_name: str) -> int:
        """How many users have been freed: those who typed this name, are listed by it, or have it as their id."""
        listed = ((name, find_holder(snapshots, user_name)) for name, snapshots in self.directories.items())
        return self._throttle.release(user_name, {(name, user.id) for name, user in listed if user is not None})

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
                await self.refresh(directory)
            except Exception as error:  # noqa: BLE001 - a bug in one refresh must not end all that would follow
                if not isinstance(error, BridgeError):
                    bug = BridgeError(f"{type(error).__name__}: {error}", remedy="Please report it.")
                    self._observe(RefreshFailed(directory, bug, 0.0))
                await wait(min(pause_s, snapshots.source.ttl_s))
                pause_s = min(2 * pause_s, _RETRY_LONGEST_S)
            else:
                pause_s = _RETRY_FIRST_S
                await wait(_REFRESH_AT * snapshots.source.ttl_s)

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
        """Nothing runs any more, and the directories are left."""
        for directory in self.directories.values():
            await directory.aclose()
            await directory.source.directory.aclose()
        for endpoint in self._endpoints.values():
            await endpoint.aclose()
        await self._store.aclose()


def _has_failed(task: asyncio.Task[MergedListing] | asyncio.Task[bytes]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _are_same(rosters: tuple[Roster, ...], others: tuple[Roster, ...]) -> bool:
    return len(rosters) == len(others) and all(map(operator.is_, rosters, others))


def _problems(directory: DirectorySnapshots, now_s: float) -> Iterator[Problem]:
    name, failure, snapshot = directory.source.name, directory.failure, directory.last_good
    if failure is not None:
        yield Problem(failure.code, name, failure.message, failure.remedy, directory.failing_since_s or now_s)
    elif snapshot is None:
        missing = SnapshotMissing("the first listing has not ended", remedy="Wait for it.")
        yield Problem(missing.code, name, missing.message, missing.remedy, now_s)
    if snapshot is not None and snapshot.guard.withheld:
        withheld = snapshot.guard.withheld
        message = f"{len(withheld)} removals are withheld: the users stay in the answer as they were."
        remedy, since_s = how_to_approve(snapshot.guard.digest or ""), snapshot.guard.withheld_since_s
        yield Problem("removals_withheld", name, message, remedy, since_s or now_s)
