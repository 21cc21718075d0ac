"""Entries of groups as a directory shows them: one that is missing or can't be read is an error, never an empty group.

An entry stream reads them, so that they come from the server, and in the time, of the listing that they are for.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.directory import NO_SUCH_OBJECT, Scope, SearchRequest
from bridge.errors import SearchIncomplete, SearchInvalid
from bridge.sources.directory.groups import OBJECT_SID
from bridge.syntax.dn import dn_key
from bridge.syntax.filters import Equal, Or, Present

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from bridge.directory import Entry, EntryStream
    from bridge.sources.directory.groups import GroupRules, ResolvedGroups
    from bridge.syntax.filters import Filter

    LookUp = Callable[[SearchRequest], Awaitable[tuple[Entry, ...]]]


@dataclass(frozen=True, slots=True)
class Place:
    """Which directory is read, and where it has groups."""

    directory: str
    contexts: tuple[str, ...]
    """Below these are all groups that may be inside of others."""
    bases: tuple[str, ...]
    """Below these are the users."""
    unnamed: tuple[str, ...] = ()
    """Bases and configured groups that lie in no naming context of the root DSE: nobody knows where else to look."""
    others: tuple[str, ...] = ()
    """The server's other naming contexts, in which members may lie, too."""


def group_search(dn: str, *attributes: str) -> SearchRequest:
    """The search for a group's own entry."""
    return SearchRequest(dn, Scope.BASE, Present("objectClass"), attributes)


def group_missing(dn: str, directory: str, server: str | None = None) -> SearchInvalid:
    """The error for a configured group that isn't to be had."""
    return SearchInvalid(
        f"the group {dn!r} of users.groups does not exist, or the service account can't see it",
        directory=directory,
        server=server,
        remedy="Correct users.groups, or let the service account read the group and its members.",
    )


class GroupReader(ABC):
    """Reads the entries of groups. `look_up` is for questions to which one entry is the answer."""

    def __init__(self, rules: GroupRules, stream: EntryStream, place: Place, look_up: LookUp) -> None:
        self.rules = rules
        self.look_up = look_up
        self.stream = stream
        self.place = place

    @abstractmethod
    async def read(self) -> ResolvedGroups:
        """Who is in the configured groups, now. Raises a `DirectoryError` where one can't be read as a whole."""

    def is_group(self) -> Filter:
        """What matches the groups that may be inside of others."""
        return any_of([Equal("objectClass", name.encode()) for name in self.rules.classes])

    async def read_configured(self, dn: str, *attributes: str) -> Entry:
        """The entry of a group of the configuration. Raises `SearchInvalid` where it isn't to be had."""
        entry = await self.read_entry(dn, *attributes)
        if entry is None:
            raise group_missing(dn, self.place.directory, self.stream.server)
        return entry

    async def read_entry(self, dn: str, *attributes: str) -> Entry | None:
        """The entry of that DN, or None where nothing is seen there."""
        try:
            found = [entry async for entry in self._read([group_search(dn, *attributes)])]
        except SearchInvalid as error:
            if error.result_code != NO_SUCH_OBJECT:
                raise
            return None
        return found[0] if found else None

    async def search_contexts(
        self, wanted: Filter, *attributes: str, contexts: Sequence[str] | None = None
    ) -> AsyncIterator[Entry]:
        """Every entry that matches, wherever groups may be: in `contexts`, or in those of bases and configured groups.

        Raises `SearchIncomplete` where that is not known.
        """
        if self.place.unnamed:
            raise self.incomplete(
                f"no naming context of the root DSE holds {' or '.join(map(repr, self.place.unnamed))}, so that groups "
                "inside of others can't be looked for",
                "Let the service account read namingContexts of the root DSE, or set users.groups.nested to false.",
            )
        async for entry in self._read(
            [SearchRequest(context, Scope.SUBTREE, wanted, attributes) for context in contexts or self.place.contexts]
        ):
            yield entry

    async def _read(self, searches: Sequence[SearchRequest]) -> AsyncIterator[Entry]:
        async for entries in self.stream.read(searches):
            for entry in entries:
                yield entry
            await asyncio.sleep(0)

    def incomplete(self, detail: str, remedy: str = "Narrow users.groups.", *, subject: str = "") -> SearchIncomplete:
        """The error for groups that were not read as a whole."""
        place, server = self.place, self.stream.server
        return SearchIncomplete(detail, directory=place.directory, server=server, remedy=remedy, subject=subject)

    def describe(self, dn: str) -> tuple[str, str]:
        """A group in words, and whom that names: one that is not configured may be a person's own, and named so."""
        configured = map(dn_key, (*self.rules.include, *self.rules.exclude))
        return (f"the group {dn!r}", "") if dn_key(dn) in configured else ("a group inside of another", dn)

    def sid_of(self, group: Entry) -> bytes:
        """The objectSid of a group. Raises `SearchIncomplete` where it shows none."""
        sids = group.attributes.get(OBJECT_SID.lower(), ())
        if len(sids) != 1:
            what, subject = self.describe(group.dn)
            raise self.incomplete(
                f"{what} shows no {OBJECT_SID}, by which its primary members are known",
                f"Let the service account read {OBJECT_SID} of groups.",
                subject=subject,
            )
        return sids[0]


def any_of(parts: list[Filter]) -> Filter:
    """What matches if one of the parts does."""
    return parts[0] if len(parts) == 1 else Or(tuple(parts))
