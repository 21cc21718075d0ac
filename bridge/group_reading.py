"""Groups read from a directory: what the server is to compare, or everybody who is in them.

A group that is missing or can't be read is an error, never an empty group. An entry stream reads them all, so that
they come from the server, and in the time, of the listing that they are for.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.directory import NO_SUCH_OBJECT, Scope, SearchRequest
from bridge.errors import SearchIncomplete, SearchInvalid
from bridge.groups import (
    OBJECT_SID,
    PRIMARY_GROUP_ID,
    Clause,
    Group,
    GroupScope,
    GroupWay,
    absence_from_excluded,
    absence_from_included,
    rid_of,
)
from bridge.syntax.dn import dn_key, is_at_or_below, parse_dn, render_dn
from bridge.syntax.filters import And, Equal, Extensible, Not, Or, Present

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence

    from bridge.directory import Entry, EntryStream
    from bridge.groups import GroupRules
    from bridge.syntax.filters import Filter

    LookUp = Callable[[SearchRequest], Awaitable[tuple[Entry, ...]]]

IN_CHAIN = "1.2.840.113556.1.4.1941"
"""LDAP_MATCHING_RULE_TRANSITIVE_EVAL (MS-ADTS §3.1.1.3.4.4.3)."""
GROUPS_MAX_COUNT = 10_000
"""Groups that are read for one listing, the configured ones and those inside of them."""
MEMBERS_MAX_COUNT = 5_000_000
"""Members of all of them: as many as a listing may have entries."""
_MEMBERS_AT_ONCE_COUNT = 1_000
"""After so many members other work has its turn."""
_CANT_LOOK_INSIDE = "Let the service account search there for groups, or set users.groups.nested to false."
_UID_OF_A_NAME = re.compile(r"#'[01]*'B\Z")
"""What may follow the DN in a value of uniqueMember: Name and Optional UID (RFC 4517 §3.3.21)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Which directory is read, and where it has groups."""

    directory: str
    contexts: tuple[str, ...]
    """Below these are all groups that may be inside of others."""
    bases: tuple[str, ...]
    """Below these are the users."""


@dataclass(slots=True)
class _WalkedGroup:
    dn: str
    keys: frozenset[str]
    uids: frozenset[bytes]
    sid: bytes | None
    gids: frozenset[bytes]
    is_of_known_class: bool
    """Whether a search for groups has to find it; of one whose classes can't be read, too."""
    inside: list[str] = field(default_factory=list)
    """Keys of the groups among its members."""


async def read_groups(rules: GroupRules, stream: EntryStream, place: Place, look_up: LookUp) -> GroupScope:
    """Who is in the configured groups, now. `look_up` is for questions to which one entry is the answer.

    Raises a `DirectoryError` where a group is missing, or can't be read as a whole.
    """
    reader = _Reader(rules, stream, place, look_up)
    return await (reader.walk() if rules.is_walked else reader.make_clauses())


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


class _Reader:
    def __init__(self, rules: GroupRules, stream: EntryStream, place: Place, look_up: LookUp) -> None:
        self._rules = rules
        self._look_up = look_up
        self._stream = stream
        self._place = place
        self._member_count = 0

    # ── asked about in the filter ──

    async def make_clauses(self) -> GroupScope:
        """The clauses that the server compares; every group is known to be there."""
        clauses = []
        if self._rules.include:
            tests = [test for dn in self._rules.include for test in await self._tests(dn)]
            clauses.append(Clause(_any_of(tests), absence_from_included(list(self._rules.include))))
        for dn in self._rules.exclude:
            await self._check_member_of(dn)
            tests = await self._tests(dn)
            clauses.append(Clause(Not(_any_of(tests)), absence_from_excluded(dn)))
        return GroupScope(tuple(clauses))

    async def _check_member_of(self, dn: str) -> None:
        """Somebody has the group in memberOf, if it has members at all.

        Where memberOf can't be read, or isn't kept, everybody would pass for somebody who is not in the group: an
        attribute that the account can't see counts as missing in filters, too (MS-ADTS §3.1.1.4.3).
        """
        members = _any_of([Present(name) for name in self._rules.member_attributes])
        if not await self._finds_any(SearchRequest(dn, Scope.BASE, members, (), size_limit_count=1)):
            return
        name, value = self._rules.member_of_attribute, dn.encode()
        places = dict.fromkeys((*self._place.bases, *self._place.contexts))
        for place in places:
            bearers = SearchRequest(place, Scope.SUBTREE, Equal(name, value), (), size_limit_count=1)
            if await self._finds_any(bearers):
                return
        raise self._incomplete(
            f"the group {dn!r} has members, and nobody below {' or '.join(places)} shows it in {name}",
            f"Let the service account read {name}, have the server keep it, or set users.groups.way to members.",
        )

    async def _finds_any(self, search: SearchRequest) -> bool:
        try:
            return bool(await self._look_up(search))
        except SearchInvalid as error:
            if error.result_code != NO_SUCH_OBJECT:
                raise
            return False

    async def _tests(self, dn: str) -> list[Filter]:
        """What matches the members of one group."""
        attributes = (OBJECT_SID,) if self._rules.has_primary_group else ()
        group = await self._read_configured(dn, *attributes)
        is_in_chain = self._rules.way is GroupWay.IN_CHAIN
        value = group.dn.encode("utf-8", "surrogateescape")
        name = self._rules.member_of_attribute
        in_group: Filter = Extensible(name, IN_CHAIN, value) if is_in_chain else Equal(name, value)
        if not self._rules.has_primary_group:
            return [in_group]
        # AD: the primary group is in nobody's memberOf (MS-ADA2 §2.45).
        groups = [group]
        if is_in_chain:
            inside = And((self._is_group(), in_group))
            groups += [found async for found in self._search_contexts(inside, OBJECT_SID)]
        rids = sorted({rid_of(self._sid_of(each)) for each in groups if self._has_users_near(each.dn)})
        return [in_group, *(Equal(PRIMARY_GROUP_ID, str(rid).encode()) for rid in rids)]

    def _sid_of(self, group: Entry) -> bytes:
        sids = group.attributes.get(OBJECT_SID.lower(), ())
        if len(sids) != 1:
            raise self._incomplete(
                f"the group {group.dn!r} shows no {OBJECT_SID}, by which its primary members are known",
                f"Let the service account read {OBJECT_SID} of groups.",
            )
        return sids[0]

    def _has_users_near(self, dn: str) -> bool:
        """Whether users may have the group as their primary one, which is one of their own domain.

        In another domain the same number is another group's.
        """
        domain = tuple(rdn for rdn in parse_dn(dn) if any(kind.lower() == "dc" for kind, _ in rdn))
        text = render_dn(domain)
        return any(is_at_or_below(base, text) or is_at_or_below(text, base) for base in self._place.bases)

    # ── read, with those inside of them ──

    async def walk(self) -> GroupScope:
        """Everybody who is in the groups."""
        read: dict[str, _WalkedGroup] = {}
        tops: dict[str, str] = {}
        for dn in dict.fromkeys((*self._rules.include, *self._rules.exclude)):
            group = await self._read_members(await self._read_configured(dn, *self._member_attributes))
            tops[dn] = dn_key(group.dn)
            read[tops[dn]] = group
        if self._rules.nested and any(group.keys for group in read.values()):
            await self._read_inside(read)

        def gather(dns: Iterable[str]) -> tuple[Group, ...]:
            return tuple(_gather(dn, tops[dn], read) for dn in dns)

        names = self._rules.user_uid.lower(), (self._rules.gid_attribute or "").lower()
        return GroupScope((), gather(self._rules.include), gather(self._rules.exclude), *names)

    @property
    def _member_attributes(self) -> tuple[str, ...]:
        rules = self._rules
        sid = (OBJECT_SID,) if rules.has_primary_group else ()
        gid = (rules.gid_attribute,) if rules.gid_attribute else ()
        return ("objectClass", *rules.member_attributes, *rules.uid_attributes, *gid, *sid)

    async def _read_inside(self, read: dict[str, _WalkedGroup]) -> None:
        """The groups inside of groups are read too, each once, however they hold each other."""
        known = await self._find_all_groups(read)
        names = known.keys()
        pending = list(read)
        while pending:
            group = read[pending.pop()]
            for key in sorted(names & group.keys):
                group.inside.append(key)
                if key in read:
                    continue
                if len(read) >= GROUPS_MAX_COUNT:
                    raise self._incomplete(f"more than {GROUPS_MAX_COUNT} groups are inside of each other")
                read[key] = await self._read_members(await self._read_inner(known[key]))
                pending.append(key)

    async def _find_all_groups(self, configured: Mapping[str, _WalkedGroup]) -> dict[str, str]:
        """The DNs of all groups that may be inside of others, by their keys.

        Only the DNs: members are read of those that matter. To read what each member is instead would take a search
        for each.
        """
        found: dict[str, str] = {}
        try:
            async for entry in self._search_contexts(self._is_group()):
                found[dn_key(entry.dn)] = entry.dn
        except SearchInvalid as error:
            raise SearchInvalid(
                f"groups inside of groups can't be looked for: {error.detail}",
                directory=self._place.directory,
                server=self._stream.server,
                result_code=error.result_code,
                remedy=_CANT_LOOK_INSIDE,
            ) from error
        for key, group in configured.items():
            if key not in found and group.is_of_known_class:
                raise self._incomplete(
                    f"looking for groups below {' or '.join(self._place.contexts)} doesn't show {group.dn!r}",
                    _CANT_LOOK_INSIDE,
                )
            found.setdefault(key, group.dn)
        return found

    async def _read_members(self, entry: Entry) -> _WalkedGroup:
        rules, attributes = self._rules, entry.attributes
        values = [value for name in rules.member_attributes for value in attributes.get(name.lower(), ())]
        uids = frozenset(value for name in rules.uid_attributes for value in attributes.get(name.lower(), ()))
        classes = {value.decode("utf-8", "replace").lower() for value in attributes.get("objectclass", ())}
        if not (values or uids):
            self._check_may_be_empty(entry.dn, classes)
        self._member_count += len(values) + len(uids)
        if self._member_count > MEMBERS_MAX_COUNT:
            raise self._incomplete(f"more than {MEMBERS_MAX_COUNT} members came")
        keys: set[str] = set()
        for start in range(0, len(values), _MEMBERS_AT_ONCE_COUNT):
            keys.update(map(_key_of, values[start : start + _MEMBERS_AT_ONCE_COUNT]))
            await asyncio.sleep(0)  # logins must not wait for a large group
        sid = self._sid_of(entry) if rules.has_primary_group else None
        gids = frozenset(attributes.get(rules.gid_attribute.lower(), ()) if rules.gid_attribute else ())
        is_of_known_class = not classes or any(name.lower() in classes for name in rules.classes)
        return _WalkedGroup(entry.dn, frozenset(keys), uids, sid, gids, is_of_known_class)

    def _check_may_be_empty(self, dn: str, classes: set[str]) -> None:
        """RFC 4519 §3.5 and §3.6: some groups have a member by their schema. What shows none hides them."""
        found = [name for name in self._rules.never_empty if name.lower() in classes]
        if found:
            raise self._incomplete(
                f"the group {dn!r} shows no member, and a {found[0]} has at least one",
                "Let the service account read the members of groups.",
            )

    # ── both ──

    def _is_group(self) -> Filter:
        return _any_of([Equal("objectClass", name.encode()) for name in self._rules.classes])

    async def _read_configured(self, dn: str, *attributes: str) -> Entry:
        entry = await self._read_entry(dn, *attributes)
        if entry is None:
            raise group_missing(dn, self._place.directory, self._stream.server)
        return entry

    async def _read_inner(self, dn: str) -> Entry:
        entry = await self._read_entry(dn, *self._member_attributes)
        if entry is None:
            raise self._incomplete(f"the group {dn!r} was there and is gone", "Nothing needs to be done.")
        return entry

    async def _read_entry(self, dn: str, *attributes: str) -> Entry | None:
        try:
            found = [entry async for entry in self._read([group_search(dn, *attributes)])]
        except SearchInvalid as error:
            if error.result_code != NO_SUCH_OBJECT:
                raise
            return None
        return found[0] if found else None

    async def _search_contexts(self, wanted: Filter, *attributes: str) -> AsyncIterator[Entry]:
        async for entry in self._read(
            [SearchRequest(context, Scope.SUBTREE, wanted, attributes) for context in self._place.contexts]
        ):
            yield entry

    async def _read(self, searches: Sequence[SearchRequest]) -> AsyncIterator[Entry]:
        async for entries in self._stream.read(searches):
            for entry in entries:
                yield entry
            await asyncio.sleep(0)

    def _incomplete(self, detail: str, remedy: str = "Narrow users.groups.") -> SearchIncomplete:
        return SearchIncomplete(detail, directory=self._place.directory, server=self._stream.server, remedy=remedy)


def _key_of(value: bytes) -> str:
    return dn_key(_UID_OF_A_NAME.sub("", value.decode("utf-8", "surrogateescape")))


def _any_of(parts: list[Filter]) -> Filter:
    return parts[0] if len(parts) == 1 else Or(tuple(parts))


def _gather(dn: str, top: str, read: Mapping[str, _WalkedGroup]) -> Group:
    """Everybody in one group; each group inside is gone through once, so that circles end."""
    seen, pending = {top}, [top]
    while pending:
        for key in read[pending.pop()].inside:
            if key not in seen:
                seen.add(key)
                pending.append(key)
    groups = [read[key] for key in sorted(seen)]
    return Group(
        dn,
        tuple(group.dn for group in groups),
        groups[0].keys if len(groups) == 1 else frozenset().union(*(group.keys for group in groups)),
        frozenset().union(*(group.uids for group in groups)),
        frozenset(group.sid for group in groups if group.sid is not None),
        frozenset().union(*(group.gids for group in groups)),
    )
