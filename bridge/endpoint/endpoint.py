"""One HTTP address with the directories behind it: their users as one answer, and whose each name is.

Knows neither HTTP nor LDAP, and nothing of other endpoints.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.errors import BridgeError, SnapshotMissing, StateLost
from bridge.events import NamesContested
from bridge.mailstore import ListAnswer, compress
from bridge.model import EndpointHealth, Problem, Status, error_problem
from bridge.removals.model import HeldBy
from bridge.roster.comparison import find_claims
from bridge.roster.merging import MergedListing, merge_rosters
from bridge.roster.roster import Roster
from bridge.snapshots.directory_snapshots import how_to_approve

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bridge.authentication.authenticator import Authenticator
    from bridge.events import Observer
    from bridge.snapshots.directory_snapshots import DirectorySnapshots
    from bridge.snapshots.store import Snapshot, SnapshotStore


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
        self._newcomers: set[str] | None = None
        """Directories of which nothing was kept at the start, until all are answered; None before the first look."""

    async def load(self) -> None:
        """What an earlier run has left of each directory is there.

        Raises `StateUnavailable`; a directory whose listing is lost has no names that could be taken from it.
        """
        newcomers = set()
        for directory in self.directories:
            with contextlib.suppress(StateLost):
                if await directory.load() is None:
                    newcomers.add(directory.source.name)
        if self._newcomers is None:
            self._newcomers = newcomers

    async def foresee(self, directory: DirectorySnapshots, later: Roster) -> None:
        """Names that are new in a directory, and that others have, stay with those.

        It is noted before the new listing is kept: whatever ends the process then, nobody's name changes hands. The
        caller holds the lock. Raises what the store raises.
        """
        # Newcomers were never answered here: their order decides, and not which of them was listed first.
        strangers = (self._newcomers or set()) if self._is_newcomer(directory) else set()
        others = {
            other.source.name: other.last_good.roster
            for other in self.directories
            if other is not directory and other.last_good is not None and other.source.name not in strangers
        }
        holders = await self._load_holders()
        previous = directory.last_good
        claims = await asyncio.to_thread(find_claims, previous.roster if previous else Roster(), later, others)
        noted = {name: names[0] for name, names in claims.items() if holders.get(name) not in names}
        if previous is None:  # it was reset: what it held then is still its own
            noted = {name: holder for name, holder in noted.items() if holders.get(name) != directory.source.name}
        if noted:
            await self._save_holders({**holders, **noted})

    def _is_newcomer(self, directory: DirectorySnapshots) -> bool:
        """Whether the directory has its first listing yet to come, and none of an earlier run."""
        return directory.last_good is None and directory.source.name in (self._newcomers or ())

    async def list_users(self, *, compressed: bool) -> ListAnswer:
        """The users of all directories, or an error: never of some."""
        prepared = self._prepare(tuple(snapshot.roster for snapshot in await self._current_snapshots()))
        merged = await asyncio.shield(prepared.plain)
        if not compressed:
            return ListAnswer(merged.json, merged.user_count)
        if prepared.compressed is None or _has_failed(prepared.compressed):
            prepared.compressed = asyncio.create_task(asyncio.to_thread(compress, merged.json))
        return ListAnswer(await asyncio.shield(prepared.compressed), merged.user_count, "gzip")

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
        self._newcomers = set()
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
            self._holders = self.authenticator.selection.contested = await self._store.load_holders(self.path)
            self._told = self._holders
        return self._holders

    async def _save_holders(self, holders: Mapping[str, str]) -> None:
        if holders != self._holders:
            await self._store.save_holders(self.path, holders)
            self._holders = self.authenticator.selection.contested = holders

    async def _current_snapshots(self) -> tuple[Snapshot, ...]:
        outcomes = await asyncio.gather(
            *(directory.current() for directory in self.directories), return_exceptions=True
        )
        snapshots = []
        for directory, outcome in zip(self.directories, outcomes, strict=True):
            if isinstance(outcome, BridgeError):
                raise outcome.kept()  # this frame holds the outcome, and would be held by it
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

    def health(self, now_s: float, others: Sequence[Problem] = ()) -> EndpointHealth:
        """How the endpoint fares: unavailable where it could not answer a listing now.

        `others` are problems that are no directory's.
        """
        found = (
            problem
            for directory in self.directories
            for problem in (*_problems(directory, now_s), *self.authenticator.problems(directory.source.name))
        )
        problems = (*found, *others)
        if not all(directory.can_answer for directory in self.directories):
            return EndpointHealth(self.path, Status.UNAVAILABLE, problems)
        return EndpointHealth(self.path, Status.DEGRADED if problems else Status.OK, problems)


def _has_failed(task: asyncio.Task[MergedListing] | asyncio.Task[bytes]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _are_same(rosters: tuple[Roster, ...], others: tuple[Roster, ...]) -> bool:
    return len(rosters) == len(others) and all(map(operator.is_, rosters, others))


def _problems(directory: DirectorySnapshots, now_s: float) -> Iterator[Problem]:
    name, failure, snapshot = directory.source.name, directory.failure, directory.last_good
    if failure is not None:
        yield error_problem(failure, name, directory.failing_since_s or now_s)
    elif snapshot is None and not directory.has_answered:
        yield error_problem(SnapshotMissing("the first listing has not ended", remedy="Wait for it."), name, now_s)
    if snapshot is not None and snapshot.guard.withheld:
        withheld = snapshot.guard.withheld
        message = f"{len(withheld)} removals are withheld: the users stay in the answer as they were."
        waiting_count = sum(held.held_by is HeldBy.WITNESS for held in withheld)
        if waiting_count:
            message += f" {waiting_count} of them wait, for a day, for the server that has last shown the users."
        remedy, since_s = how_to_approve(snapshot.guard.digest or ""), snapshot.guard.withheld_since_s
        yield Problem("removals_withheld", name, message, remedy, since_s or now_s)
    yield from directory.source.directory.problems
    for error, stranger_since_s in directory.replicas.strangers.values():
        yield error_problem(error, name, stranger_since_s)
