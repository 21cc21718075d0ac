"""Removals are confirmed, not inferred: the directory is asked once more for exactly the entries that are missing.

A listing can lack somebody who is there: an entry that moved between two pages, a server that forgets one. Asked by
their ids, such users show themselves; the others show why they are gone. Knows nothing of limits and approvals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from bridge.directory import Scope
from bridge.errors import DirectoryError, DirectoryUnavailable, EntryUnusable
from bridge.removals.model import Finding, RemovalReason
from bridge.roster.roster import fold_user_name
from bridge.syntax.filters import And, Present, attributes_of, render_filter

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from bridge.directory import Entry
    from bridge.errors import BridgeError
    from bridge.model import User
    from bridge.sources.directory.source import DirectorySource
    from bridge.syntax.filters import Filter

_IDS_IN_ONE_FILTER_COUNT = 50
_STAYS = Finding(None)
_DELETED = Finding(RemovalReason.DELETED, "not found by its id; deleted, or hidden from the service account")

_OF_ANOTHER_KIND = Finding(RemovalReason.UNCONFIRMED, "its id is none of attributes.id, which was another one before")


async def confirm(source: DirectorySource, users: Sequence[User], contested: Container[str]) -> dict[str, Finding]:
    """What the directory says of each user, by id.

    `contested` holds the folded names that several entries claim. Whatever can't be asked is UNCONFIRMED; nothing is
    raised but what cancels us.
    """
    if source.groups is not None and source.groups.is_walked:
        try:
            # Members were read before the users were: who was renamed in between is known by the other name.
            await source.read_groups_anew()
        except DirectoryError as error:
            return {user.id: _unconfirmed(error) for user in users}
    if source.attribute_map.id_attribute is None:
        return {user.id: await _confirm_by_dn(source, user, contested) for user in users}
    wanted = [user.id for user in users if _can_be_asked_for(source, user.id)]
    found = {user.id: _OF_ANOTHER_KIND for user in users}
    for start in range(0, len(wanted), _IDS_IN_ONE_FILTER_COUNT):
        ids = wanted[start : start + _IDS_IN_ONE_FILTER_COUNT]
        try:
            found |= await _confirm_by_ids(source, ids, contested)
        except (DirectoryError, EntryUnusable) as error:
            found |= dict.fromkeys(ids, _unconfirmed(error))
    return found


def _can_be_asked_for(source: DirectorySource, user_id: str) -> bool:
    """Whether it can be a value of the id attribute; the configuration may have had another one before."""
    try:
        source.attribute_map.id_value(user_id)
    except ValueError:
        return False
    return True


async def _confirm_by_ids(source: DirectorySource, ids: Sequence[str], contested: Container[str]) -> dict[str, Finding]:
    bases = await source.resolve_bases()
    matching = await _find(source, bases, ids, source.filter, scope=source.scope)
    found = {user_id: _judge(source, entry, contested) for user_id, entry in matching.items()}
    rest = [user_id for user_id in ids if user_id not in found]
    present = await _find(source, bases, rest, scope=source.scope) if rest else {}
    found |= await _find_clause(source, bases, list(present))
    rest = [user_id for user_id in rest if user_id not in present]
    elsewhere = await _find_elsewhere(source, rest) if rest else {}
    for user_id in rest:
        entry = elsewhere.get(user_id)
        found[user_id] = _DELETED if entry is None else Finding(RemovalReason.MOVED, f"it is at {entry.dn}")
    return found


async def _find(
    source: DirectorySource, bases: Iterable[str], ids: Sequence[str], *filters: Filter, scope: Scope
) -> dict[str, Entry]:
    """The entries of these ids that lie below the bases and match, by id."""
    found: dict[str, Entry] = {}
    for base in bases:
        asked = await source.directory.look_up(source.ids_search(base, ids, *filters, scope=scope))
        for entry in asked.entries:
            found[source.attribute_map.id_of(entry)] = entry
    return found


async def _find_elsewhere(source: DirectorySource, ids: Sequence[str]) -> dict[str, Entry]:
    """The entries of these ids wherever they are, as far as the service account may look."""
    try:
        contexts = await source.resolve_contexts()
        return await _find(source, contexts, ids, scope=Scope.SUBTREE)
    except DirectoryUnavailable:
        raise
    except DirectoryError:
        # The account may search its bases and no more: what lies outside of them is as good as gone.
        return {}


async def _find_clause(source: DirectorySource, bases: Iterable[str], ids: list[str]) -> dict[str, Finding]:
    """Which clause of the users' filter doesn't match the entries any more; the directory evaluates it, not we."""
    found: dict[str, Finding] = {}
    for clause, finding in _findings(source):
        rest = [user_id for user_id in ids if user_id not in found]
        if not rest:
            break
        matching = await _find(source, bases, rest, clause, scope=source.scope)
        found |= {user_id: finding for user_id in rest if user_id not in matching}
    # Each clause matched, so the entry came back between two questions.
    return dict.fromkeys(ids, _STAYS) | found


def _findings(source: DirectorySource) -> Iterator[tuple[Filter, Finding]]:
    """Every clause that makes somebody a user, with what it means that it doesn't match."""
    for clause in _clauses(source.users_filter):
        yield clause, Finding(_reason_of(clause), f"{render_filter(clause)} does not match any more")
    for of_group in source.resolved_groups.clauses:
        yield of_group.filter, Finding(RemovalReason.GROUP, of_group.absence)


def _reason_of(clause: Filter) -> RemovalReason:
    """What it means that a clause doesn't match: one about membership alone speaks of a group."""
    is_of_group = attributes_of(clause) == {"memberof"}
    return RemovalReason.GROUP if is_of_group else RemovalReason.FILTER


def _clauses(tree: Filter) -> Iterator[Filter]:
    if not isinstance(tree, And):
        yield tree
        return
    for part in tree.parts:
        yield from _clauses(part)


def _judge(source: DirectorySource, entry: Entry, contested: Container[str]) -> Finding:
    """Why an entry that matches makes no user, if so."""
    absence = source.resolved_groups.absence(entry) if source.resolved_groups.is_walked else None
    if absence is not None:
        return Finding(RemovalReason.GROUP, absence)
    rejection = None if source.list_disabled else source.attribute_map.exclusion(entry, source.clock.now_s())
    if rejection is not None:
        return Finding(RemovalReason.DISABLED, rejection.value)
    try:
        user = source.attribute_map.map_entry(entry).user
    except EntryUnusable as error:
        return Finding(RemovalReason.UNUSABLE, f"{error.reason}: {error.detail}" if error.detail else error.reason)
    if fold_user_name(user.user_name) in contested:
        return Finding(RemovalReason.NAME_TAKEN, f"more than one entry claims the user name {user.user_name}")
    return _STAYS


async def _confirm_by_dn(source: DirectorySource, user: User, contested: Container[str]) -> Finding:
    """What is at the DN, where the DN is all that tells entries apart."""
    try:
        entries = (await source.directory.look_up(source.entry_search(user.distinguished_name))).entries
        if entries and entries[0].dn != user.id:
            return Finding(RemovalReason.CHANGED, f"it is known as {entries[0].dn} now")
        if entries:
            return _judge(source, entries[0], contested)
        return await _find_clause_by_dn(source, user.distinguished_name)
    except DirectoryError as error:
        return _unconfirmed(error)


async def _find_clause_by_dn(source: DirectorySource, dn: str) -> Finding:
    """Which clause the entry at the DN doesn't match."""
    search = source.entry_search(dn)
    if not (await source.directory.look_up(replace(search, filter=Present("objectClass")))).entries:
        return _DELETED
    for clause, finding in _findings(source):
        if not (await source.directory.look_up(replace(search, filter=clause))).entries:
            return finding
    return _STAYS  # each clause matched, so the entry came back between two questions


def _unconfirmed(error: BridgeError) -> Finding:
    return Finding(RemovalReason.UNCONFIRMED, error.message)
