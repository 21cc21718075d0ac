"""The users of one directory as they are answered: fresh, or as old as they may be when nothing newer can be had.

A snapshot comes of a complete listing that the guard has reviewed and the store has kept, or not at all. One refresh
runs at a time, however many wait for it. Knows nothing of HTTP, and nothing of how a directory is asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from bridge.errors import ApprovalOutdated, BridgeError, RemovalsRefused, share
from bridge.events import ApprovalExpired, Refreshed, RefreshFailed, RemovalsApproved, RemovalsReset
from bridge.removals.model import GuardState, HeldBy, RemovalKind
from bridge.removals.review import CONFIRMED_MAX_COUNT, Baseline, Fresh, review
from bridge.removals.witnesses import find_foreign_losses
from bridge.roster.comparison import compare
from bridge.roster.roster import Roster, fold_user_name
from bridge.roster.shared_addresses import find_shared_addresses
from bridge.snapshots.store import Snapshot
from bridge.sources.directory.confirmation import confirm
from bridge.sources.directory.listing import refuse_if_empty, take_listing
from bridge.sources.directory.replicas import Replicas, choose_sample
from bridge.sources.directory.witnesses import hear_witnesses

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bridge.clock import Clock
    from bridge.events import Observer
    from bridge.model import Report, User
    from bridge.removals.model import Finding
    from bridge.removals.review import Review
    from bridge.roster.comparison import Comparison
    from bridge.snapshots.policy import SnapshotPolicy
    from bridge.snapshots.store import SnapshotStore
    from bridge.sources.directory.listing import DirectoryListing
    from bridge.sources.directory.source import DirectorySource

_NAMED_MAX_COUNT = 10
"""So many users are named in a report."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A fresh listing beside the accepted one."""

    accepted: Roster
    accepted_at_s: float | None
    """Seconds since 1970; None where nothing was ever accepted."""
    listing: DirectoryListing
    comparison: Comparison
    review: Review | None = None
    """None where there is nothing to compare with."""
    server_before: str | None = None
    """The URL of the server of the accepted listing, where the fresh one comes from another."""


class NameKeeper(Protocol):
    """Knows the other directories that answer beside one, and which of them has a user name."""

    async def load(self) -> None:
        """What an earlier run has left of each directory is there. Raises `StateUnavailable`."""

    async def foresee(self, directory: DirectorySnapshots, later: Roster) -> None:
        """Names that are new in a directory, and that others have, stay with those: noted before anybody is answered.

        Raises what the store raises.
        """


class DirectorySnapshots:
    """The snapshot of one directory that is answered now, and its refreshes."""

    def __init__(
        self,
        source: DirectorySource,
        policy: SnapshotPolicy,
        store: SnapshotStore,
        clock: Clock,
        observe: Observer,
    ) -> None:
        self.source = source
        self.policy = policy
        self.replicas = Replicas(source, self._choose_sample)
        self._store = store
        self._clock = clock
        self._observe = observe
        self._snapshot: Snapshot | None = None
        self._taken_monotonic_s = 0.0
        """When the snapshot was taken, by the clock that is never set."""
        self._is_dated = True
        """False where the snapshot bears a date that lies in the future: nobody knows how old it is."""
        self._is_loaded = False
        self._changing = asyncio.Lock()
        """Held while the snapshot is being replaced, so that an approval and a refresh don't overwrite each other."""
        self._keepers: list[NameKeeper] = []
        self._settling = asyncio.Lock()
        """Held while it is settled who has which name, shared by all directories that are answered together."""
        self._running: asyncio.Task[Snapshot] | None = None
        self._checking: asyncio.Task[None] | None = None
        """Asks the other servers whether they know the users."""
        self.failure: BridgeError | None = None
        """Why the last refresh failed; None after one that did not."""
        self.failing_since_s: float | None = None
        """Since when refreshes fail, in seconds since 1970."""
        self._has_answered = False
        """Whether the directory has been asked since the start, and has not failed since."""

    @property
    def last_good(self) -> Snapshot | None:
        """The snapshot that was accepted last, whatever its age."""
        return self._snapshot

    @property
    def age_s(self) -> float | None:
        """How old the last good snapshot is, or None where there is none."""
        return self._clock.monotonic_s() - self._taken_monotonic_s if self._snapshot else None

    @property
    def answerable(self) -> Snapshot | None:
        """The last good snapshot, if it is young enough to be answered while nothing newer can be had."""
        age_s = self.age_s
        return self._snapshot if age_s is not None and age_s < self.policy.stale_if_error_s else None

    @property
    def can_answer(self) -> bool:
        """Whether users could be listed now: from memory, or by a directory that answered when it was last asked."""
        return self._is_fresh or self.answerable is not None or self.has_answered

    @property
    def has_answered(self) -> bool:
        """Whether the directory answered when it was last asked since the start."""
        return self._has_answered and self.failure is None

    @property
    def _is_fresh(self) -> bool:
        return self._snapshot is not None and self._is_dated and (self.age_s or 0.0) < self.policy.ttl_s

    @property
    def is_doubted(self) -> bool:
        """Whether what the directory shows now is not believed.

        The last refresh failed, too many were missing, or somebody whom another server has shown.
        """
        is_held = self._snapshot is not None and self._snapshot.guard.is_doubtful
        return is_held or self.failure is not None

    def decides(self, user_name: str) -> bool:
        """Whether the listing, and not the directory, says whose name this is: it was kept, or is contested."""
        return self._snapshot is not None and fold_user_name(user_name) in self._snapshot.guard.decided_names

    def witness_of(self, user: User) -> str | None:
        """The URL of the server that has last shown a listed user as they are answered."""
        if self._snapshot is None:
            return None
        return self._snapshot.guard.last_seen_at.get(user.id, self._snapshot.report.server)

    def share_names(self, keeper: NameKeeper, settling: asyncio.Lock) -> None:
        """The directory is answered together with others; nothing is kept before the keeper was asked."""
        self._keepers.append(keeper)
        self._settling = settling

    async def load(self) -> Snapshot | None:
        """The snapshot that an earlier run has left, if any, or the one that has taken its place.

        Raises `StateLost` and `StateUnavailable`.
        """
        if not self._is_loaded:
            async with self._changing:
                await self._load()
        return self._snapshot

    async def current(self) -> Snapshot:
        """A snapshot younger than the TTL, or a stale one where the directory can't be listed, or takes too long.

        Raises what the refresh raised, where there is no snapshot that may be answered.
        """
        if not self._is_loaded:
            await self._load_or_fail()
        if self._snapshot is not None and self._is_fresh:
            return self._snapshot
        try:
            async with asyncio.timeout(self._patience_s):
                return await self.refresh()
        except RemovalsRefused:
            raise  # it is no outage: the configuration wants an error rather than what was listed before
        except (BridgeError, TimeoutError):
            stale = self.answerable
            if stale is None:
                raise
            return stale

    @property
    def _patience_s(self) -> float | None:
        """How long a refresh is waited for, where there is something to answer instead; it goes on in any case."""
        has_other = self.answerable is not None and not isinstance(self.failure, RemovalsRefused)
        return self.policy.patience_s if has_other else None

    async def refresh(self) -> Snapshot:
        """A snapshot newer than this call began or was joined; one refresh serves all who wait.

        Whoever goes away meanwhile doesn't end it. Raises what kept it from being taken.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._refresh())
            self._running.add_done_callback(self._forget_running)
        return await share(self._running)

    def _forget_running(self, task: asyncio.Task[Snapshot]) -> None:
        """Keep nothing of a refresh that has failed: its error holds what was read before."""
        if not task.cancelled():
            task.exception()  # nobody may have waited for it
        if self._running is task:
            self._running = None

    async def find_out(self) -> None:
        """Find out whether users could be listed where nothing says so: by a sign of life of the directory.

        Where it failed when it was last asked, a listing is its sign of life. Raises what either raises.
        """
        await self._load_or_fail()
        if self.failure is not None:
            await self.refresh()
        elif not self._is_fresh and self.answerable is None:
            try:
                await self.source.try_search()
            except BridgeError as error:
                self._fail(error)
                raise
            self._has_answered = True

    async def compare_now(self) -> Difference:
        """A fresh listing beside the accepted one, and what the guard would make of it; nothing is changed."""
        previous = await self.load()
        listing = await take_listing(self.source, previous.roster if previous else None, self._clock, self.replicas)
        if previous is None:
            refuse_if_empty(self.source, listing, allow_empty=self.policy.removals.allow_empty)
            return Difference(Roster(), None, listing, compare(Roster(), listing.roster))
        comparison, reviewed = await self._review(previous, listing)
        server, server_before = listing.report.server, previous.report.server
        return Difference(
            previous.roster,
            previous.taken_at_s,
            listing,
            comparison,
            reviewed,
            server_before if server_before != server else None,
        )

    async def approve(self, digest: str) -> int:
        """The next refresh lets exactly these withheld removals through; returns how many they are.

        Raises `ApprovalOutdated` where the digest is not that of what is withheld now.
        """
        async with self._changing:
            await self._load()
            snapshot = self._snapshot
            if snapshot is None or snapshot.guard.digest != digest:
                raise ApprovalOutdated(f"{digest} is not what is withheld now")
            count = len(snapshot.guard.withheld)
            await self._keep(replace(snapshot, guard=replace(snapshot.guard, approved=digest)))
        self._observe(RemovalsApproved(self.source.name, digest, count))
        return count

    async def reset(self) -> None:
        """The next listing counts as the first one: nothing is known of the directory any more."""
        async with self._changing:
            await self._store.forget(self.source.name)
            self._snapshot, self._is_loaded = None, True
        self._observe(RemovalsReset(self.source.name))

    async def aclose(self) -> None:
        """No refresh runs any more."""
        await self.source.aclose()
        tasks = [task for task in (self._running, self._checking) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _choose_sample(self) -> Sequence[User]:
        snapshot = self._snapshot
        if snapshot is None:
            return ()
        return choose_sample(self.source, snapshot.roster, snapshot.guard.absent_ids)

    def _check_others(self, server: str) -> None:
        """Begin to ask the other servers whether they are replicas: once for each refresh, never twice at a time."""
        is_needed = len(self.source.directory.servers) > 1 or bool(self.replicas.strangers)
        if is_needed and (self._checking is None or self._checking.done()):
            self._checking = asyncio.create_task(self.replicas.check_others(server))
            self._checking.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def _load(self) -> None:
        if not self._is_loaded:
            self._snapshot = await self._store.load(self.source.name)
            self._is_loaded = True
            if self._snapshot is not None:
                self._date(self._clock.now_s() - self._snapshot.taken_at_s)

    def _date(self, age_s: float) -> None:
        """Take the snapshot's age down, so that it grows by the second whatever becomes of the date."""
        self._is_dated = age_s >= 0
        self._taken_monotonic_s = self._clock.monotonic_s() - max(0.0, age_s)

    async def _load_or_fail(self) -> None:
        try:
            await self.load()
        except BridgeError as error:
            self._fail(error)
            raise

    def _fail(self, error: BridgeError) -> None:
        self.failure = error.kept()
        self.failing_since_s = self.failing_since_s or self._clock.now_s()

    async def _keep(self, snapshot: Snapshot) -> None:
        """The snapshot is on disk, and only then the one that is answered."""
        for keeper in self._keepers:
            await keeper.load()  # before the lock, as loading waits for what may be waiting for it
        async with self._settling:
            if self._snapshot is None or self._snapshot.roster is not snapshot.roster:
                for keeper in self._keepers:
                    await keeper.foresee(self, snapshot.roster)
            await self._store.save(snapshot)
            if self._snapshot is None or self._snapshot.taken_at_s != snapshot.taken_at_s:
                self._date(0.0)  # it was taken a moment ago
            self._snapshot = snapshot

    async def _refresh(self) -> Snapshot:
        started_s = self._clock.monotonic_s()
        try:
            await self.load()
            holders = self._snapshot.roster if self._snapshot else None
            listing = await take_listing(self.source, holders, self._clock, self.replicas)
            async with self._changing:
                snapshot = await self._accept(listing)
        except BridgeError as error:
            self._fail(error)
            stale_age_s = self.age_s if self.answerable else None
            self._observe(RefreshFailed(self.source.name, error, self._clock.monotonic_s() - started_s, stale_age_s))
            raise
        self.failure, self.failing_since_s, self._has_answered = None, None, True
        self._observe(Refreshed(snapshot.report))
        self._check_others(snapshot.report.server)
        return snapshot

    async def _accept(self, listing: DirectoryListing) -> Snapshot:
        """What is answered from now on, kept. Raises `RemovalsRefused` and what the store raises."""
        previous = self._snapshot
        if previous is None:
            refuse_if_empty(self.source, listing, allow_empty=self.policy.removals.allow_empty)
            report = replace(listing.report, added_count=len(listing.roster), is_first=True)
            report = await self._add_shared(report, listing.roster, None)
            guard = GuardState(decided_names=frozenset(listing.contested))
            await self._keep(Snapshot(self.source.name, listing.roster, report.finished_at_s, report, guard))
        else:
            _, reviewed = await self._review(previous, listing)
            if reviewed.expired is not None:
                self._observe(ApprovalExpired(self.source.name, reviewed.expired))
            if self.policy.removals.refuse and reviewed.is_tripped:
                guard = replace(previous.guard, withheld=reviewed.guard.withheld, approved=None)
                await self._keep(replace(previous, guard=guard))
                raise self._refusal(reviewed)
            extended = _extend(listing.report, reviewed, previous.report.server)
            report = await self._add_shared(extended, reviewed.roster, previous)
            await self._keep(Snapshot(self.source.name, reviewed.roster, report.finished_at_s, report, reviewed.guard))
        assert self._snapshot is not None  # noqa: S101 - it was kept a moment ago
        return self._snapshot

    async def _review(self, previous: Snapshot, listing: DirectoryListing) -> tuple[Comparison, Review]:
        comparison = await asyncio.to_thread(compare, previous.roster, listing.roster)
        findings: Mapping[str, Finding] = {}
        if 0 < len(comparison.missing) <= CONFIRMED_MAX_COUNT:
            users = [previous.roster[position] for position in comparison.missing]
            findings = await confirm(self.source, users, listing.contested, listing.report.server)
        baseline = Baseline(previous.roster, previous.guard, previous.taken_at_s, previous.report.server)
        fresh = Fresh(listing.roster, comparison, findings, listing.contested, listing.report.server)
        fresh = await self._hear_witnesses(baseline, fresh)
        return comparison, await asyncio.to_thread(
            review, baseline, fresh, self.policy.removals, listing.report.finished_at_s
        )

    async def _hear_witnesses(self, baseline: Baseline, fresh: Fresh) -> Fresh:
        """The listing with the word of the other servers that have last shown those of whom something is lost."""
        keeps_name = self.policy.removals.keep_user_names
        users = await asyncio.to_thread(
            find_foreign_losses, baseline, fresh, keeps_name=keeps_name, max_count=CONFIRMED_MAX_COUNT
        )
        if not users:
            return fresh
        return replace(fresh, statements=await hear_witnesses(self.source, self.replicas, users, fresh.contested))

    async def _add_shared(self, report: Report, roster: Roster, previous: Snapshot | None) -> Report:
        """The report with the addresses that several users list; as before, where the roster is as before."""
        if previous is not None and previous.roster is roster:
            known = previous.report
            return replace(
                report, shared_address_count=known.shared_address_count, shared_addresses=known.shared_addresses
            )
        shared = await asyncio.to_thread(find_shared_addresses, roster)
        return replace(report, shared_address_count=len(shared), shared_addresses=shared[:_NAMED_MAX_COUNT])

    def _refusal(self, reviewed: Review) -> RemovalsRefused:
        count, digest = len(reviewed.guard.withheld), reviewed.guard.digest
        return RemovalsRefused(
            f"{count} removals at once are more than removals.max_percent and max_count allow",
            directory=self.source.name,
            remedy=how_to_approve(digest or ""),
        )


def how_to_approve(digest: str) -> str:
    """What an administrator can do about withheld removals."""
    return (
        "Look at them with `mailstore-bridge removals show`; "
        f"if they are right: `mailstore-bridge removals approve {digest}`."
    )


def _extend(report: Report, reviewed: Review, server_before: str) -> Report:
    """The report of a listing with what the guard made of it; `server_before` is that of the listing before."""
    kinds = Counter(removal.kind for removal in reviewed.removed)
    return replace(
        report,
        user_count=len(reviewed.roster),
        collisions=tuple(sorted({*report.collisions, *reviewed.collisions})),
        added_count=reviewed.added_count,
        changed_count=reviewed.changed_count,
        removed_count=kinds[RemovalKind.MISSING],
        renamed_count=kinds[RemovalKind.RENAMED],
        withheld_count=len(reviewed.guard.withheld),
        in_grace_count=reviewed.in_grace_count,
        inconsistent=reviewed.inconsistent[:_NAMED_MAX_COUNT],
        server_before=server_before if server_before != report.server else None,
        lagging_count=len(reviewed.lagging),
        lagging=reviewed.lagging[:_NAMED_MAX_COUNT],
        witness_count=sum(held.held_by is HeldBy.WITNESS for held in reviewed.guard.withheld),
        approved_digest=reviewed.approved,
    )
