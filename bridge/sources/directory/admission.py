"""Whether who logs in is in the configured groups, asked of the directory as it is now.

One search at each group by the one member is cheap; where groups hold many others, what was last read of them has
to do, which is as young as `cache.ttl`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from bridge.directory import Scope, SearchRequest
from bridge.errors import SearchInvalid
from bridge.sources.directory.group_entries import group_missing, group_search
from bridge.sources.directory.groups import primary_group_sid
from bridge.syntax.dn import dn_key
from bridge.syntax.filters import Equal, Or

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bridge.directory import Entry, LookUp
    from bridge.sources.directory.groups import Group, GroupRules, ResolvedGroups
    from bridge.sources.directory.source import DirectorySource
    from bridge.syntax.filters import Filter

LIVE_GROUPS_MAX_COUNT = 8
"""So many groups, those inside of others too, are asked at each login: at most two searches each, all at once."""


class _Asked(NamedTuple):
    """Whom a login asks, and by which rules."""

    source: DirectorySource
    rules: GroupRules
    server: str

    async def look_up(self, search: SearchRequest, *, must_find: bool = False) -> tuple[Entry, ...]:
        """What the server has that matches."""
        return (await self.source.directory.look_up(search, self.server, must_find=must_find)).entries


class _GroupGoneError(Exception):
    """A group that was inside of another one is not there any more."""


async def admit(source: DirectorySource, found: LookUp) -> LookUp:
    """Those entries that are in the groups. They came by the source's filter, after its groups were known.

    The server that has shown the entries is asked.

    Raises a `DirectoryError` where a group can't be asked: never is somebody let in for that, nor taken for unknown.
    """
    rules = source.groups
    if rules is None or not found.entries:
        return found
    asked = _Asked(source, rules, found.server)
    if rules.is_walked:
        are_in = [await _is_in_groups(asked, entry) for entry in found.entries]
        return found._replace(entries=tuple(each for each, is_in in zip(found.entries, are_in, strict=True) if is_in))
    # A group that was deleted is in nobody's memberOf, and would exclude nobody.
    await asyncio.gather(*(_check_is_there(asked, dn) for dn in rules.exclude))
    return found


async def _is_in_groups(asked: _Asked, entry: Entry) -> bool:
    source = asked.source
    groups = source.resolved_groups
    was_in = groups.absence(entry) is None
    if groups.group_count > LIVE_GROUPS_MAX_COUNT or not source.asks_groups:
        return was_in
    try:
        is_in = await _is_in_groups_now(asked, groups, entry)
    except _GroupGoneError:
        return (await source.read_groups_anew()).absence(entry) is None
    if is_in == was_in:
        return is_in
    # Somebody was put in or taken out, or the server finds other members than it shows. Who is listed can log in, so
    # that the groups are to be read as for a listing.
    is_read_in = (await source.read_groups_anew()).absence(entry) is None
    if is_read_in != is_in:
        source.asks_groups = False
    return is_read_in


async def _is_in_groups_now(asked: _Asked, resolved: ResolvedGroups, entry: Entry) -> bool:
    groups = (*resolved.excluded, *resolved.included)
    holders = await asyncio.gather(*(_holds(asked, group, entry) for group in groups))
    excluded, included = holders[: len(resolved.excluded)], holders[len(resolved.excluded) :]
    return not any(excluded) and (not included or any(included))


async def _holds(asked: _Asked, group: Group, entry: Entry) -> bool:
    """Whether the entry is in the group or in one inside of it, now."""
    if group.sids and primary_group_sid(entry) in group.sids:
        return True
    wanted = _membership(asked.rules, entry)
    answers = await asyncio.gather(*(_has_member(asked, dn, wanted, group) for dn in group.dns))
    return any(answers)


def _membership(rules: GroupRules, entry: Entry) -> Filter:
    """What matches a group that has the entry as a member."""
    name = entry.dn.encode("utf-8", "surrogateescape")
    uids: Iterable[bytes] = entry.attributes.get(rules.user_uid.lower(), ())
    by_name = (Equal(attribute, name) for attribute in rules.member_attributes)
    by_uid = (Equal(attribute, uid) for attribute in rules.uid_attributes for uid in uids)
    gid = rules.gid_attribute
    by_gid = (Equal(gid, value) for value in entry.attributes.get(gid.lower(), ())) if gid else ()
    return Or((*by_name, *by_uid, *by_gid))


async def _has_member(asked: _Asked, dn: str, wanted: Filter, group: Group) -> bool:
    of_member = SearchRequest(dn, Scope.BASE, wanted, (), size_limit_count=1)
    if await asked.look_up(of_member):
        return True
    if await asked.look_up(group_search(dn)):
        return False
    try:
        await _check_is_there(asked, dn)  # nothing comes of a group that can't be seen, either
    except SearchInvalid as error:
        if dn_key(dn) != dn_key(group.dn):
            raise _GroupGoneError from error
        raise
    return bool(await asked.look_up(of_member))  # the group is seen on a new connection, so who is in it is, too


async def _check_is_there(asked: _Asked, dn: str) -> None:
    """The group can be seen, on a new connection at the latest. Raises `SearchInvalid` otherwise."""
    if not await asked.look_up(group_search(dn), must_find=True):
        raise group_missing(dn, asked.source.name, asked.server)
