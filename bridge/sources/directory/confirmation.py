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
from bridge.sources.directory.eligibility import Excluded, judge
from bridge.syntax.filters import And, Present, attributes_of, render_filter

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from bridge.directory import Entry, SearchRequest
    from bridge.errors import BridgeError
    from bridge.model import User
    from bridge.sources.directory.groups import ResolvedGroups
    from bridge.sources.directory.source import DirectorySource
    from bridge.syntax.filters import Filter

_IDS_IN_ONE_FILTER_COUNT = 50
_STAYS = Finding(None)
_DELETED = Finding(RemovalReason.DELETED, "not found by its id; deleted, or hidden from the service account")

_OF_ANOTHER_KIND = Finding(RemovalReason.UNCONFIRMED, "its id is none of attributes.id, which was another one before")


async def confirm(
    source: DirectorySource, users: Sequence[User], contested: Container[str], server: str | None = None
) -> dict[str, Finding]:
    """What the directory says of each user, by id: `server` alone where it is given, or the first that answers.

    `contested` holds the folded names that several entries claim. Whatever can't be asked is UNCONFIRMED; nothing is
    raised but what cancels us.
    """
    if source.groups is not None and source.groups.is_walked:
        try:
            # Members were read before the users were: who was renamed in between is known by the other name.
            await source.read_groups_anew(server)
        except DirectoryError as error:
            return {user.id: _unconfirmed(error) for user in users}
    return await Confirmation(source, source.resolved_groups, contested, server).ask(users)


class Confirmation:
    """One round of questions for users by their ids."""

    def __init__(
        self, source: DirectorySource, groups: ResolvedGroups, contested: Container[str], server: str | None
    ) -> None:
        self._source = source
        self._groups = groups
        self._contested = contested
        self._server = server
        self.shown: dict[str, User] = {}
        """The users that entries make which match, by their ids, whether or not somebody else claims their names."""
        self._is_certain = False
        """Whether a connection that was opened for this round has said that something isn't there."""

    async def ask(self, users: Sequence[User]) -> dict[str, Finding]:
        """What is said of each user; UNCONFIRMED where it can't be asked."""
        source = self._source
        if source.attribute_map.id_attribute is None:
            return await self._ask_by_dn(users)
        wanted = [user.id for user in users if source.can_be_asked_for(user.id)]
        found = {user.id: _OF_ANOTHER_KIND for user in users}
        for start in range(0, len(wanted), _IDS_IN_ONE_FILTER_COUNT):
            ids = wanted[start : start + _IDS_IN_ONE_FILTER_COUNT]
            try:
                found |= await self._confirm_by_ids(ids)
            except (DirectoryError, EntryUnusable) as error:
                found |= dict.fromkeys(ids, _unconfirmed(error))
                if isinstance(error, DirectoryUnavailable) and self._server is not None:
                    # It would be waited for again and again, for as long as a listing may take and longer.
                    return found | dict.fromkeys(wanted[start:], _unconfirmed(error))
        return found

    async def _look_up(self, search: SearchRequest) -> tuple[Entry, ...]:
        """What matches; a kept connection that has lost its session shows nobody, and is not believed."""
        must_find = not self._is_certain
        entries = (await self._source.directory.look_up(search, self._server, must_find=must_find)).entries
        self._is_certain |= not entries
        return entries

    async def _confirm_by_ids(self, ids: Sequence[str]) -> dict[str, Finding]:
        source = self._source
        bases, scope = await source.resolve_bases(), source.scope
        matching = await self._find(bases, ids, source.filter_with(self._groups), scope=scope)
        found = {user_id: self._judge(entry) for user_id, entry in matching.items()}
        rest = [user_id for user_id in ids if user_id not in found]
        present = await self._find(bases, rest, scope=scope) if rest else {}
        found |= await self._find_clause(bases, list(present))
        rest = [user_id for user_id in rest if user_id not in present]
        elsewhere = await self._find_elsewhere(rest) if rest else {}
        for user_id in rest:
            entry = elsewhere.get(user_id)
            found[user_id] = _DELETED if entry is None else Finding(RemovalReason.MOVED, f"it is at {entry.dn}")
        return found

    async def _find(self, bases: Iterable[str], ids: Sequence[str], *filters: Filter, scope: Scope) -> dict[str, Entry]:
        """The entries of these ids that lie below the bases and match, by id."""
        found: dict[str, Entry] = {}
        for base in bases:
            for entry in await self._look_up(self._source.ids_search(base, ids, *filters, scope=scope)):
                found[self._source.attribute_map.id_of(entry)] = entry
        return found

    async def _find_elsewhere(self, ids: Sequence[str]) -> dict[str, Entry]:
        """The entries of these ids wherever they are, as far as the service account may look."""
        try:
            contexts = await self._source.resolve_contexts()
            return await self._find(contexts, ids, scope=Scope.SUBTREE)
        except DirectoryUnavailable:
            raise
        except DirectoryError:
            # The account may search its bases and no more: what lies outside of them is as good as gone.
            return {}

    async def _find_clause(self, bases: Iterable[str], ids: list[str]) -> dict[str, Finding]:
        """Which clause of the users' filter doesn't match the entries any more; the directory evaluates it, not we."""
        found: dict[str, Finding] = {}
        for clause, finding in self._findings():
            rest = [user_id for user_id in ids if user_id not in found]
            if not rest:
                break
            matching = await self._find(bases, rest, clause, scope=self._source.scope)
            found |= {user_id: finding for user_id in rest if user_id not in matching}
        # Each clause matched, so the entry came back between two questions.
        return dict.fromkeys(ids, _STAYS) | found

    def _findings(self) -> Iterator[tuple[Filter, Finding]]:
        """Every clause that makes somebody a user, with what it means that it doesn't match."""
        for clause in _clauses(self._source.users_filter):
            yield clause, Finding(_reason_of(clause), f"{render_filter(clause)} does not match any more")
        for of_group in self._groups.clauses:
            yield of_group.filter, Finding(RemovalReason.GROUP, of_group.absence)

    def _judge(self, entry: Entry) -> Finding:
        """Why an entry that matches makes no user, if so."""
        walked = self._groups if self._groups.is_walked else None
        judged = judge(self._source, entry, walked, self._source.clock.now_s())
        if isinstance(judged, Excluded):
            return Finding(judged.removal, judged.words)
        user = judged.user
        self.shown[user.id] = user
        if fold_user_name(user.user_name) in self._contested:
            return Finding(RemovalReason.NAME_TAKEN, f"more than one entry claims the user name {user.user_name}")
        return _STAYS

    async def _ask_by_dn(self, users: Sequence[User]) -> dict[str, Finding]:
        found: dict[str, Finding] = {}
        for user in users:
            try:
                found[user.id] = await self._confirm_by_dn(user)
            except DirectoryError as error:
                found[user.id] = _unconfirmed(error)
                if isinstance(error, DirectoryUnavailable) and self._server is not None:
                    return dict.fromkeys((each.id for each in users), _unconfirmed(error)) | found
        return found

    async def _confirm_by_dn(self, user: User) -> Finding:
        """What is at the DN, where the DN is all that tells entries apart."""
        entries = await self._look_up(self._source.entry_search(user.distinguished_name))
        if entries and entries[0].dn != user.id:
            return Finding(RemovalReason.CHANGED, f"it is known as {entries[0].dn} now")
        if entries:
            return self._judge(entries[0])
        return await self._find_clause_by_dn(user.distinguished_name)

    async def _find_clause_by_dn(self, dn: str) -> Finding:
        """Which clause the entry at the DN doesn't match."""
        search = self._source.entry_search(dn)
        if not await self._look_up(replace(search, filter=Present("objectClass"))):
            return _DELETED
        for clause, finding in self._findings():
            if not await self._look_up(replace(search, filter=clause)):
                return finding
        return _STAYS  # each clause matched, so the entry came back between two questions


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


def _unconfirmed(error: BridgeError) -> Finding:
    return Finding(RemovalReason.UNCONFIRMED, error.full_message)
