"""Groups that are read: who is in them by DN, by uid and by primary group, and in the groups inside of them."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.errors import SearchInvalid
from bridge.sources.directory.group_entries import GroupReader
from bridge.sources.directory.groups import OBJECT_SID, Group, ResolvedGroups
from bridge.syntax.dn import dn_key

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bridge.directory import Entry, EntryStream
    from bridge.sources.directory.group_entries import LookUp, Place
    from bridge.sources.directory.groups import GroupRules

GROUPS_MAX_COUNT = 10_000
"""Groups that are read for one listing, the configured ones and those inside of them."""
MEMBERS_MAX_COUNT = 5_000_000
"""Members of all of them: as many as a listing may have entries."""
_MEMBERS_AT_ONCE_COUNT = 1_000
"""After so many members other work has its turn."""
_CANT_LOOK_INSIDE = "Let the service account search there for groups, or set users.groups.nested to false."
_UID_OF_A_NAME = re.compile(r"#'[01]*'B\Z")
"""What may follow the DN in a value of uniqueMember: Name and Optional UID (RFC 4517 §3.3.21)."""


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


class Walker(GroupReader):
    """Goes from group to group, each once."""

    def __init__(self, rules: GroupRules, stream: EntryStream, place: Place, look_up: LookUp) -> None:
        super().__init__(rules, stream, place, look_up)
        self._member_count = 0
        self._unsearched = {f",{dn_key(context)}": context for context in place.others}
        """Naming contexts in which no group was looked for, by the end of the keys of what lies in them."""
        self._reached: set[str] = set()
        """Those of them in which a member lies, which may be a group."""

    async def read(self) -> ResolvedGroups:
        """Everybody who is in the groups."""
        read: dict[str, _WalkedGroup] = {}
        tops: dict[str, str] = {}
        for dn in dict.fromkeys((*self.rules.include, *self.rules.exclude)):
            group = await self._read_members(await self.read_configured(dn, *self._member_attributes))
            tops[dn] = dn_key(group.dn)
            read[tops[dn]] = group
        if self.rules.nested and any(group.keys for group in read.values()):
            await self._read_inside(read)

        def gather(dns: Iterable[str]) -> tuple[Group, ...]:
            return tuple(_gather(dn, tops[dn], read) for dn in dns)

        names = self.rules.user_uid.lower(), (self.rules.gid_attribute or "").lower()
        return ResolvedGroups((), gather(self.rules.include), gather(self.rules.exclude), *names)

    @property
    def _member_attributes(self) -> tuple[str, ...]:
        rules = self.rules
        sid = (OBJECT_SID,) if rules.has_primary_group else ()
        gid = (rules.gid_attribute,) if rules.gid_attribute else ()
        return ("objectClass", *rules.member_attributes, *rules.uid_attributes, *gid, *sid)

    async def _read_inside(self, read: dict[str, _WalkedGroup]) -> None:
        """The groups inside of groups are read too, each once, however they hold each other."""
        known = await self._find_all_groups(read)
        pending = list(read)
        while pending:
            if reached := [self._unsearched.pop(end) for end in sorted(self._reached)]:
                self._reached.clear()
                known |= await self._find_groups(reached)
                pending = list(read)  # those that were gone through before may hold what was found now
            group = read[pending.pop()]
            for key in sorted(known.keys() & group.keys - set(group.inside)):
                group.inside.append(key)
                if key in read:
                    continue
                if len(read) >= GROUPS_MAX_COUNT:
                    raise self.incomplete(f"more than {GROUPS_MAX_COUNT} groups are inside of each other")
                read[key] = await self._read_members(await self._read_inner(known[key]))
                pending.append(key)

    async def _find_all_groups(self, configured: Mapping[str, _WalkedGroup]) -> dict[str, str]:
        """The DNs of all groups that may be inside of others, by their keys.

        Only the DNs: members are read of those that matter. To read what each member is instead would take a search
        for each.
        """
        found = await self._find_groups(self.place.contexts)
        for key, group in configured.items():
            if key not in found and group.is_of_known_class:
                raise self.incomplete(
                    f"looking for groups below {' or '.join(self.place.contexts)} doesn't show {group.dn!r}",
                    _CANT_LOOK_INSIDE,
                )
            found.setdefault(key, group.dn)
        return found

    async def _find_groups(self, contexts: Sequence[str]) -> dict[str, str]:
        """The DNs of all groups in these naming contexts, by their keys."""
        try:
            found = self.search_contexts(self.is_group(), contexts=contexts)
            return {dn_key(entry.dn): entry.dn async for entry in found}
        except SearchInvalid as error:
            raise SearchInvalid(
                f"groups inside of groups can't be looked for: {error.detail}",
                directory=self.place.directory,
                server=self.stream.server,
                result_code=error.result_code,
                diagnostic_message=error.diagnostic_message,
                subject=error.subject,
                remedy=_CANT_LOOK_INSIDE,
            ) from error

    async def _read_members(self, entry: Entry) -> _WalkedGroup:
        rules, attributes = self.rules, entry.attributes
        values = [value for name in rules.member_attributes for value in attributes.get(name.lower(), ())]
        uids = frozenset(value for name in rules.uid_attributes for value in attributes.get(name.lower(), ()))
        classes = {value.decode("utf-8", "replace").lower() for value in attributes.get("objectclass", ())}
        if not (values or uids):
            self._check_may_be_empty(entry.dn, classes)
        self._member_count += len(values) + len(uids)
        if self._member_count > MEMBERS_MAX_COUNT:
            raise self.incomplete(f"more than {MEMBERS_MAX_COUNT} members came")
        keys: set[str] = set()
        for start in range(0, len(values), _MEMBERS_AT_ONCE_COUNT):
            some = set(map(_key_of, values[start : start + _MEMBERS_AT_ONCE_COUNT]))
            self._reached |= {end for end in self._unsearched if any(key.endswith(end) for key in some)}
            keys |= some
            await asyncio.sleep(0)  # logins must not wait for a large group
        sid = self.sid_of(entry) if rules.has_primary_group else None
        gids = frozenset(attributes.get(rules.gid_attribute.lower(), ()) if rules.gid_attribute else ())
        is_of_known_class = not classes or any(name.lower() in classes for name in rules.classes)
        return _WalkedGroup(entry.dn, frozenset(keys), uids, sid, gids, is_of_known_class)

    def _check_may_be_empty(self, dn: str, classes: set[str]) -> None:
        """RFC 4519 §3.5 and §3.6: some groups have a member by their schema. What shows none hides them."""
        found = [name for name in self.rules.never_empty if name.lower() in classes]
        if found:
            what, subject = self.describe(dn)
            raise self.incomplete(
                f"{what} shows no member, and a {found[0]} has at least one",
                "Let the service account read the members of groups.",
                subject=subject,
            )

    async def _read_inner(self, dn: str) -> Entry:
        entry = await self.read_entry(dn, *self._member_attributes)
        if entry is None:
            what, subject = self.describe(dn)
            raise self.incomplete(f"{what} was there and is gone", "Nothing needs to be done.", subject=subject)
        return entry


def _key_of(value: bytes) -> str:
    return dn_key(_UID_OF_A_NAME.sub("", value.decode("utf-8", "surrogateescape")))


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
