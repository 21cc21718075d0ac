"""A directory listed once: every entry mapped, every user in the roster, what is left out counted; all or nothing.

Knows nothing of what was listed before, but for who held a name that several entries claim now.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.errors import (
    DirectoryUnavailable,
    EntryUnusable,
    RemovalsRefused,
    SearchIncomplete,
    SearchInvalid,
)
from bridge.model import Report, Skipped
from bridge.roster.builder import RosterBuilder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bridge.clock import Clock
    from bridge.directory import Entry
    from bridge.model import User
    from bridge.roster.roster import Roster
    from bridge.sources.directory.groups import ResolvedGroups
    from bridge.sources.directory.source import DirectorySource

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


@dataclass(frozen=True, slots=True)
class DirectoryListing:
    """A complete listing of one directory."""

    roster: Roster
    report: Report
    contested: tuple[str, ...] = ()
    """Folded user names that more than one entry claims."""


async def take_listing(source: DirectorySource, holders: Roster | None, clock: Clock) -> DirectoryListing:
    """A complete listing of a directory, now; a contested name goes to the one who has it in `holders`, or to none.

    Raises a `DirectoryError` where it can't be proven complete, or has fewer users than are ever right.
    """
    began_s, broken = asyncio.get_running_loop().time(), set[str | None]()
    while True:
        try:
            return await _list_once(source, holders, clock, began_s)
        except DirectoryUnavailable as error:
            # The server broke off and is set aside: the listing starts anew, on the next one where there is one.
            if error.server in broken:
                raise
            broken.add(error.server)


async def _list_once(source: DirectorySource, holders: Roster | None, clock: Clock, began_s: float) -> DirectoryListing:
    started_s = clock.monotonic_s()
    bases = await source.resolve_bases()
    builder, tally = RosterBuilder(), _Tally()
    async with source.directory.open_listing(began_s) as stream:
        groups = await source.read_groups(stream)
        group_entry_count = stream.entry_count
        async for entries in stream.read([source.listing_search(base) for base in bases]):
            builder.add(_map_users(entries, source, groups, tally))
            await asyncio.sleep(0)  # logins must not wait for a listing
    built = await asyncio.to_thread(builder.build, holders)
    if built.repeated_id is not None:
        raise SearchIncomplete(
            f"the entry with the id {built.repeated_id} came under two user names; it was renamed meanwhile",
            directory=source.name,
            server=stream.server,
            remedy="Nothing needs to be done: the next listing will show it once.",
        )
    report = Report(
        directory=source.name,
        server=stream.server,
        finished_at_s=clock.now_s(),
        duration_s=clock.monotonic_s() - started_s,
        page_count=stream.page_count,
        entry_count=stream.entry_count - group_entry_count,
        user_count=len(built.roster),
        ignored_reference_count=stream.ignored_reference_count,
        skipped=tally.skipped(),
        collisions=built.collisions,
    )
    _refuse_if_short(source, report)
    return DirectoryListing(built.roster, report, built.collisions)


def _map_users(
    entries: Sequence[Entry], source: DirectorySource, groups: ResolvedGroups, tally: _Tally
) -> Iterator[User]:
    """The users that the entries make; who makes none is counted."""
    attribute_map, list_disabled = source.attribute_map, source.list_disabled
    now_s = source.clock.now_s()
    is_walked = groups.is_walked
    for entry in entries:
        if is_walked and groups.absence(entry) is not None:
            continue
        rejection = None if list_disabled else attribute_map.exclusion(entry, now_s)
        if rejection is not None:
            tally.add(rejection.value, entry.dn)
            continue
        try:
            user, remarks = attribute_map.map_entry(entry)
        except EntryUnusable as error:
            check_id(error, entry, source)
            tally.add(error.reason, entry.dn)
            continue
        for remark in remarks:
            tally.add(remark, entry.dn)
        yield user


def check_id(error: EntryUnusable, entry: Entry, source: DirectorySource) -> None:
    """Raise `SearchInvalid` where the entry is unusable because it doesn't show its id."""
    if error.reason == "id_missing":
        raise SearchInvalid(
            f"{entry.dn!r} can't be told apart from others: {error.detail}",
            directory=source.name,
            remedy="Let the service account read the id attribute, or set attributes.id to one that it can read.",
        ) from error


def _refuse_if_short(source: DirectorySource, report: Report) -> None:
    if report.user_count < source.min_user_count:
        raise RemovalsRefused(
            f"{report.user_count} users came, and removals.min_users wants {source.min_user_count}",
            directory=source.name,
            server=report.server,
            remedy="Check users.filter, users.groups and the service account's rights, or lower removals.min_users.",
        )


def refuse_if_empty(source: DirectorySource, listing: DirectoryListing, *, allow_empty: bool) -> None:
    """Without an earlier listing to compare with, nobody is no listing, unless the configuration says so.

    A listing can be complete and wrong: without rights, a directory shows nobody and reports success. Raises
    `RemovalsRefused`.
    """
    report = listing.report
    if report.user_count or allow_empty:
        return
    raise RemovalsRefused(
        _why_nobody(source, report.entry_count),
        directory=source.name,
        server=report.server,
        remedy="Check users.bases, users.filter, users.groups and the rights of the service account; "
        "set removals.allow_empty if nobody is right.",
    )


def _why_nobody(source: DirectorySource, entry_count: int) -> str:
    if entry_count == 0:
        return "the account can bind but sees nobody"
    return "no entry makes a user" if source.groups is None else "no entry makes a user that is in the groups"
