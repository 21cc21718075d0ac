"""Which servers of a directory know its users: those that show none of a handful of them are no replicas.

Such a server was made anew, holds something else, or hides the ids; what it lists or lacks proves nothing. Where there
is one server only, or none of them knows anybody, it is the guard that judges. Knows no roster as a whole.
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from bridge.directory import NO_SUCH_OBJECT, Scope
from bridge.errors import DirectoryError, DirectoryUnavailable, EntryUnusable, NoReplica
from bridge.syntax.filters import Present

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence

    from bridge.directory import Entry
    from bridge.model import User
    from bridge.roster.roster import Roster
    from bridge.sources.directory.source import DirectorySource

_SAMPLE_COUNT = 5
_LEAST_COUNT = 2
"""One user alone may be gone; that none of several is there says something of the server."""
STRANGER_REMEDY = (
    "Take it out of `servers`, or replicate it from the others; let the service account read the ids there. "
    "It is asked again once it knows them."
)


class Stranger(NamedTuple):
    """A server that is no replica."""

    error: NoReplica
    since_s: float
    """Seconds since 1970."""


class Replicas:
    """Tells the servers of a directory that know its users from those that don't."""

    def __init__(self, source: DirectorySource, choose: Callable[[], Sequence[User]]) -> None:
        """`choose` gives a handful of those who are listed now."""
        self._source = source
        self._choose = choose
        self._strangers: dict[str, Stranger] = {}

    @property
    def strangers(self) -> Mapping[str, Stranger]:
        """The servers that are set aside since they are no replicas, by their URLs."""
        known = self._source.directory.servers
        return {url: stranger for url, stranger in self._strangers.items() if url in known}

    async def check(self, server: str) -> None:
        """Ask the server for a handful of users, where there are others that could be asked instead.

        Raises `NoReplica` where it knows none of them, or another `DirectoryError` where it can't be asked.
        """
        users = self._choose()
        if len(users) >= _LEAST_COUNT and len(self._source.directory.servers) > 1:
            known_count = await count_known(self._source, users, server)
            if known_count == 0:
                raise NoReplica(
                    describe_stranger(self._source, len(users)),
                    directory=self._source.name,
                    server=server,
                    remedy=STRANGER_REMEDY,
                )
        self._strangers.pop(server, None)

    def bar(self, server: str, error: NoReplica) -> None:
        """Have the server asked last, until it knows those who are listed."""
        self._strangers.setdefault(server, Stranger(error.kept(), self._source.clock.now_s()))
        self._source.directory.set_aside(server, error, lambda: self.check(server))

    async def check_others(self, server: str) -> None:
        """Ask every server but the one from which an accepted listing has come; who is no replica is barred."""
        for other in self._source.directory.servers:
            if other == server:
                self._strangers.pop(other, None)
                continue
            try:
                await self.check(other)
            except NoReplica as error:
                self.bar(other, error)
            except DirectoryError:
                continue  # whoever needs the server finds out


def describe_stranger(source: DirectorySource, count: int) -> str:
    """What is said of a server that knows nobody."""
    return (
        f"it is no replica: it knows none of {count} listed users by their {source.attribute_map.id_attribute or 'DN'}"
    )


def choose_sample(source: DirectorySource, roster: Roster, absent_ids: Container[str]) -> tuple[User, ...]:
    """A handful of users, spread over the roster, of whom no server is known to lack them; none where they are few.

    `absent_ids` are the ids of users who are answered although they did not come.
    """
    count = min(_SAMPLE_COUNT, len(roster))
    ends = [len(roster) * number // count for number in range(count + 1)] if count else []
    chosen = []
    for portion in pairwise(ends):
        present = (at for at in range(*portion) if roster.id_of(at).decode() not in absent_ids)
        if (position := next(present, None)) is not None and source.can_be_asked_for(roster[position].id):
            chosen.append(roster[position])
    return tuple(chosen) if len(chosen) >= _LEAST_COUNT else ()


async def count_known(source: DirectorySource, users: Sequence[User], server: str) -> int:
    """How many of the users the server knows by their ids, wherever their entries are and whatever they say."""
    if source.attribute_map.id_attribute is None:
        return sum(await asyncio.gather(*(_is_at_dn(source, user.distinguished_name, server) for user in users)))
    bases = await source.resolve_bases()
    ids = {user.id for user in users}
    known = await _find_below(source, bases, ids, server)
    if not known:
        try:
            contexts = [each for each in await source.resolve_contexts() if each not in bases]
            known = await _find_below(source, contexts, ids, server)
        except DirectoryUnavailable:
            raise
        except DirectoryError:
            return 0  # the account may search its bases and no more, and nobody is there
    return len(known)


async def _find_below(source: DirectorySource, bases: Sequence[str], ids: set[str], server: str) -> set[str]:
    found: set[str] = set()
    for base in bases:
        if found == ids:
            break
        search = source.ids_search(base, sorted(ids - found), scope=Scope.SUBTREE)
        try:
            entries = (await source.directory.look_up(search, server, must_find=True)).entries
        except DirectoryError as error:
            if error.result_code != NO_SUCH_OBJECT:
                raise
            continue  # a server without the base has nobody below it
        found |= ids.intersection(_ids_of(source, entries))
    return found


def _ids_of(source: DirectorySource, entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        with contextlib.suppress(EntryUnusable):  # the server hides the id
            yield source.attribute_map.id_of(entry)


async def _is_at_dn(source: DirectorySource, dn: str, server: str) -> bool:
    search = replace(source.entry_search(dn), filter=Present("objectClass"), attributes=())
    return bool((await source.directory.look_up(search, server, must_find=True)).entries)
