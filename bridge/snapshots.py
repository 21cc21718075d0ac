"""The users of one directory as they were last seen: fresh, or as old as they may be when nothing newer can be had.

A snapshot comes of a complete listing or not at all. One refresh runs at a time, however many wait for it. Knows
nothing of HTTP, and nothing of how a directory is asked.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.errors import (
    BridgeError,
    DirectoryUnavailable,
    EntryUnusable,
    RemovalsRefused,
    SearchIncomplete,
    SearchInvalid,
)
from bridge.events import Refreshed, RefreshFailed
from bridge.model import Report, Skipped
from bridge.roster import RosterBuilder
from bridge.storage import Snapshot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bridge.directory import Entry, EntryStream
    from bridge.events import Observer
    from bridge.model import User
    from bridge.source import DirectorySource
    from bridge.storage import SnapshotStore

_EXAMPLES_MAX_COUNT = 3


@dataclass(slots=True)
class _Tally:
    """What a listing left out, by reason."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, dn: str) -> None:
        self.counts[reason] += 1
        examples = self.examples.setdefault(reason, [])
        if len(examples) < _EXAMPLES_MAX_COUNT:
            examples.append(dn.encode("utf-8", "replace").decode())

    def skipped(self) -> tuple[Skipped, ...]:
        return tuple(
            Skipped(reason, count, tuple(self.examples[reason])) for reason, count in sorted(self.counts.items())
        )


async def take_snapshot(source: DirectorySource, previous: Snapshot | None, clock: Callable[[], float]) -> Snapshot:
    """A new snapshot of a directory.

    Raises a `DirectoryError` where it can't be proven complete, or lacks more users than is believed.
    """
    try:
        return await _list_once(source, previous, clock)
    except DirectoryUnavailable:
        # The server broke off and is set aside: the listing starts anew, on the next one where there is one.
        return await _list_once(source, previous, clock)


async def _list_once(source: DirectorySource, previous: Snapshot | None, clock: Callable[[], float]) -> Snapshot:
    started_s = clock()
    searches = [source.listing_search(base) for base in await source.resolve_bases()]
    builder, tally = RosterBuilder(), _Tally()
    async with source.directory.list_entries(searches) as stream:
        async for entries in stream:
            builder.add(_map_users(entries, source, tally))
            await asyncio.sleep(0)  # logins must not wait for a listing
    built = await asyncio.to_thread(builder.build, previous.roster if previous else None)
    if built.repeated_id is not None:
        raise SearchIncomplete(
            f"the entry with the id {built.repeated_id} came under two user names; it was renamed meanwhile",
            directory=source.name,
            server=stream.server,
            remedy="Nothing needs to be done: the next listing will show it once.",
        )
    _refuse_if_short(source, len(built.roster), stream)
    finished_s = clock()
    report = Report(
        directory=source.name,
        server=stream.server,
        finished_at_s=finished_s,
        duration_s=finished_s - started_s,
        page_count=stream.page_count,
        entry_count=stream.entry_count,
        user_count=len(built.roster),
        ignored_reference_count=stream.ignored_reference_count,
        skipped=tally.skipped(),
        collisions=built.collisions,
    )
    return Snapshot(source.name, built.roster, finished_s, report)


def _map_users(entries: Sequence[Entry], source: DirectorySource, tally: _Tally) -> Iterator[User]:
    """The users that the entries make; who makes none is counted."""
    attribute_map, list_disabled = source.attribute_map, source.list_disabled
    for entry in entries:
        rejection = None if list_disabled else attribute_map.account_rejection(entry)
        if rejection is not None:
            tally.add(rejection.value, entry.dn)
            continue
        try:
            user, remarks = attribute_map.map_entry(entry)
        except EntryUnusable as error:
            _check_id(error, entry, source)
            tally.add(error.reason, entry.dn)
            continue
        for remark in remarks:
            tally.add(remark, entry.dn)
        yield user


def _check_id(error: EntryUnusable, entry: Entry, source: DirectorySource) -> None:
    if error.reason == "id_missing":
        raise SearchInvalid(
            f"{entry.dn!r} can't be told apart from others: {error.detail}",
            directory=source.name,
            remedy="Let the service account read the id attribute, or set attributes.id to one that it can read.",
        ) from error


def _refuse_if_short(source: DirectorySource, user_count: int, stream: EntryStream) -> None:
    """A listing that is complete can still be wrong: without rights, a directory shows nobody and reports success."""
    if user_count == 0 and not source.allow_empty:
        raise RemovalsRefused(
            "the account can bind but sees nobody" if stream.entry_count == 0 else "no entry makes a user",
            directory=source.name,
            server=stream.server,
            remedy="Check users.bases, users.filter and the rights of the service account; "
            "set removals.allow_empty if nobody is right.",
        )
    if user_count < source.min_user_count:
        raise RemovalsRefused(
            f"{user_count} users came, and removals.min_users wants {source.min_user_count}",
            directory=source.name,
            server=stream.server,
            remedy="Check users.filter and the rights of the service account, or lower removals.min_users.",
        )


class DirectorySnapshots:
    """The snapshot of one directory that is answered now, and its refreshes."""

    def __init__(
        self, source: DirectorySource, store: SnapshotStore, clock: Callable[[], float], observe: Observer
    ) -> None:
        self.source = source
        self._store = store
        self._clock = clock
        self._observe = observe
        self._snapshot: Snapshot | None = None
        self._running: asyncio.Task[Snapshot] | None = None
        self.failure: BridgeError | None = None
        """Why the last refresh failed; None after one that did not."""
        self.failing_since_s: float | None = None
        """Since when refreshes fail, in seconds since 1970."""

    @property
    def last_good(self) -> Snapshot | None:
        """The snapshot that was taken last, whatever its age."""
        return self._snapshot

    @property
    def age_s(self) -> float | None:
        """How old the last good snapshot is, or None where there is none."""
        return max(0.0, self._clock() - self._snapshot.taken_at_s) if self._snapshot else None

    @property
    def answerable(self) -> Snapshot | None:
        """The last good snapshot, if it is young enough to be answered while nothing newer can be had."""
        age_s = self.age_s
        return self._snapshot if age_s is not None and age_s < self.source.stale_if_error_s else None

    async def current(self) -> Snapshot:
        """A snapshot younger than the TTL, or a stale one where the directory can't be listed.

        Raises what the refresh raised, where there is no snapshot that may be answered.
        """
        age_s = self.age_s
        if self._snapshot is not None and age_s is not None and age_s < self.source.ttl_s:
            return self._snapshot
        try:
            return await self.refresh()
        except BridgeError:
            stale = self.answerable
            if stale is None:
                raise
            return stale

    async def refresh(self) -> Snapshot:
        """A snapshot newer than this call began or was joined; one refresh serves all who wait.

        Whoever goes away meanwhile doesn't end it. Raises what kept it from being taken.
        """
        if self._running is None or self._running.done():
            self._running = asyncio.create_task(self._refresh())
            self._running.add_done_callback(lambda task: task.cancelled() or task.exception())
        return await asyncio.shield(self._running)

    async def aclose(self) -> None:
        """No refresh runs any more."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _refresh(self) -> Snapshot:
        started_s = self._clock()
        if self._snapshot is None:
            self._snapshot = await self._store.load(self.source.name)
        try:
            snapshot = await take_snapshot(self.source, self._snapshot, self._clock)
        except BridgeError as error:
            self.failure = error
            self.failing_since_s = self.failing_since_s or self._clock()
            stale_age_s = self.age_s if self.answerable else None
            self._observe(RefreshFailed(self.source.name, error, self._clock() - started_s, stale_age_s))
            raise
        await self._store.save(snapshot)
        self._snapshot, self.failure, self.failing_since_s = snapshot, None, None
        self._observe(Refreshed(snapshot.report))
        return snapshot
