"""A directory listed once: every entry mapped, every user in the roster, what is left out counted; all or nothing.

Knows nothing of what was listed before, but for who held a name that several entries claim now.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.errors import (
    DirectoryError,
    DirectoryUnavailable,
    NoReplica,
    RemovalsRefused,
    SearchIncomplete,
    SearchInvalid,
    summarize,
)
from bridge.model import Report, Skipped
from bridge.roster.builder import RosterBuilder
from bridge.sources.directory.eligibility import Excluded, judge

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bridge.clock import Clock
    from bridge.directory import Entry
    from bridge.model import User
    from bridge.roster.roster import Roster
    from bridge.sources.directory.groups import ResolvedGroups
    from bridge.sources.directory.replicas import Replicas
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


async def take_listing(
    source: DirectorySource, holders: Roster | None, clock: Clock, replicas: Replicas | None = None
) -> DirectoryListing:
    """A complete listing of a directory, now; a contested name goes to the one who has it in `holders`, or to none.

    Whatever fails at one server, the listing starts anew at the next one, within one time for all of them, and the
    first is set aside once another one has listed everybody. A server that is none of `replicas` is not believed.

    Raises a `DirectoryError` where no server lists completely, or each has fewer users than are ever right.
    """
    began_s, attempts = asyncio.get_running_loop().time(), _Attempts(source, replicas)
    while True:
        attempt = attempts.next()
        try:
            listing = await _list_once(source, holders, clock, began_s, attempt)
        except DirectoryError as error:
            found = attempts.note(attempt, error)
        else:
            found = attempts.judge(listing)
        if found is not None:
            return found


@dataclass(slots=True)
class _Attempt:
    """One try to list the directory."""

    avoid: tuple[str, ...]
    """The servers that have failed already."""
    replicas: Replicas | None
    """None: whatever the server lists is taken."""
    server: str | None = None
    """The URL of the server that lists, once it is known."""


class _Attempts:
    """Where a listing has failed and why, and where it is tried next: everywhere once.

    A server that broke off, and has not failed in another way, is tried once more when all have had their turn.
    """

    def __init__(self, source: DirectorySource, replicas: Replicas | None) -> None:
        self._source = source
        self._replicas = replicas
        self._failures: dict[str, DirectoryError] = {}
        self._counts: Counter[str] = Counter()
        self._left: tuple[str, ...] = ()
        """Where to go on; empty at first, when every server may be asked."""
        self._empty: DirectoryListing | None = None
        """The first listing without users."""
        self._is_last = False
        """Whether whatever comes now is taken."""

    def next(self) -> _Attempt:
        """The next try."""
        avoid = tuple(url for url in self._source.directory.servers if url not in self._left) if self._left else ()
        return _Attempt(avoid, self._replicas)

    def note(self, attempt: _Attempt, error: DirectoryError) -> DirectoryListing | None:
        """The try has failed. Returns an earlier listing without users where it is as good as any.

        Raises what stands for all servers where none is left.
        """
        if self._is_last:
            raise error.kept()
        for part in error.parts or (error,):
            part.server = part.server or attempt.server
            if part.server is None:  # the time for all of them is over
                raise self._conclude() if self._failures else error.kept()
            self._failures[part.server] = part.kept()
            self._counts[part.server] += 1
        servers = self._source.directory.servers
        self._left = tuple(url for url in servers if url not in self._failures)
        if not self._left:
            broken = (url for url in servers if isinstance(self._failures.get(url), DirectoryUnavailable))
            self._left = tuple(url for url in broken if self._counts[url] == 1)
        if not self._left:
            return self._give_up()
        if attempt.server is None and isinstance(error, SearchInvalid) and error.server is not None:
            self._source.directory.set_aside(error.server, error)  # or it would be asked for the bases again

        return None

    def _give_up(self) -> DirectoryListing | None:
        """No server is left: the guard judges what the first one lists if none of them knows anybody."""
        if self._replicas is not None and self._is_unanimous(NoReplica):
            self._replicas, self._is_last = None, True
            self._left = (next(iter(self._failures)),)
            return None
        if self._empty is not None and self._is_unanimous(RemovalsRefused, DirectoryUnavailable):
            return self._empty
        self._bar()
        raise self._conclude()

    def _conclude(self) -> DirectoryError:
        """What to raise for all servers; not what is held here, which would hold the frames that it passes through."""
        failures = list(self._failures.values())
        refusal = next((each for each in failures if isinstance(each, RemovalsRefused)), None)
        if refusal is not None and self._is_unanimous(RemovalsRefused, DirectoryUnavailable):
            return refusal.kept()  # it is no outage: those servers that can be asked show too few
        return summarize(failures).kept()

    def judge(self, listing: DirectoryListing) -> DirectoryListing | None:
        """The listing to be taken, or None where another server is to be asked. Raises like `note`."""
        server = listing.report.server
        others = [url for url in self._source.directory.servers if url != server]
        if self._is_last or not others:
            return listing
        if listing.roster:
            self._set_others_aside(server)
            return listing
        # Nobody is no better than an error: a server without rights, or made anew, says the same.
        self._empty = self._empty or listing
        self._failures[server] = _nobody_came(self._source, listing.report)
        self._left = tuple(url for url in others if url not in self._failures)
        return None if self._left else self._give_up()

    def _is_unanimous(self, *kinds: type[DirectoryError]) -> bool:
        return all(isinstance(failure, kinds) for failure in self._failures.values())

    def _set_others_aside(self, server: str) -> None:
        for url, failure in self._failures.items():
            if url != server and not isinstance(failure, NoReplica):
                self._source.directory.set_aside(url, failure)
        if self._replicas is not None:
            self._bar()

    def _bar(self) -> None:
        for url, failure in self._failures.items():
            if self._replicas is not None and isinstance(failure, NoReplica):
                self._replicas.bar(url, failure)


async def _list_once(
    source: DirectorySource, holders: Roster | None, clock: Clock, began_s: float, attempt: _Attempt
) -> DirectoryListing:
    started_s = clock.monotonic_s()
    bases = await source.resolve_bases()
    builder, tally = RosterBuilder(), _Tally()
    async with source.directory.open_listing(began_s, attempt.avoid) as stream:
        attempt.server = stream.server
        if attempt.replicas is not None:
            await attempt.replicas.check(stream.server)
        groups = await source.read_groups(stream)
        group_entry_count = stream.entry_count
        async for entries in stream.read([source.listing_search(base) for base in bases]):
            builder.add(_map_users(entries, source, groups, tally))
            await asyncio.sleep(0)  # logins must not wait for a listing
    built = await asyncio.to_thread(builder.build, holders)
    if built.repeated_id is not None:
        raise SearchIncomplete(
            "an entry came under two user names; it was renamed meanwhile",
            subject=built.repeated_id,
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
    now_s, walked = source.clock.now_s(), groups if groups.is_walked else None
    for entry in entries:
        judged = judge(source, entry, walked, now_s)
        if isinstance(judged, Excluded):
            if judged.reason:
                tally.add(judged.reason, entry.dn)
            continue
        for remark in judged.remarks:
            tally.add(remark, entry.dn)
        yield judged.user


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
    if not (listing.report.user_count or allow_empty):
        raise _nobody_came(source, listing.report)


def _nobody_came(source: DirectorySource, report: Report) -> RemovalsRefused:
    return RemovalsRefused(
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
