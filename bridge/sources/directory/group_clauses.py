"""Groups that the server compares: the clauses of a filter, by memberOf, with the primary group where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.directory import NO_SUCH_OBJECT, Scope, SearchRequest
from bridge.errors import SearchInvalid
from bridge.sources.directory.group_entries import GroupReader, any_of
from bridge.sources.directory.groups import (
    OBJECT_SID,
    PRIMARY_GROUP_ID,
    Clause,
    GroupWay,
    ResolvedGroups,
    absence_from_excluded,
    absence_from_included,
    rid_of,
)
from bridge.syntax.dn import DNError, is_at_or_below, parse_dn, render_dn
from bridge.syntax.filters import And, Equal, Extensible, Not, Present

if TYPE_CHECKING:
    from bridge.syntax.filters import Filter

IN_CHAIN = "1.2.840.113556.1.4.1941"
"""LDAP_MATCHING_RULE_TRANSITIVE_EVAL (MS-ADTS §3.1.1.3.4.4.3)."""


class ClauseMaker(GroupReader):
    """Makes the clauses, once every group is known to be there."""

    async def read(self) -> ResolvedGroups:
        """The clauses that the server compares; every group is known to be there."""
        clauses = []
        if self.rules.include:
            tests = [test for dn in self.rules.include for test in await self._tests(dn)]
            clauses.append(Clause(any_of(tests), absence_from_included(list(self.rules.include))))
        for dn in self.rules.exclude:
            await self._check_member_of(dn)
            tests = await self._tests(dn)
            clauses.append(Clause(Not(any_of(tests)), absence_from_excluded(dn)))
        return ResolvedGroups(tuple(clauses))

    async def _check_member_of(self, dn: str) -> None:
        """Somebody has the group in memberOf, if it has members at all.

        Where memberOf can't be read, or isn't kept, everybody would pass for somebody who is not in the group: an
        attribute that the account can't see counts as missing in filters, too (MS-ADTS §3.1.1.4.3).
        """
        members = any_of([Present(name) for name in self.rules.member_attributes])
        if not await self._finds_any(SearchRequest(dn, Scope.BASE, members, (), size_limit_count=1)):
            return
        name, value = self.rules.member_of_attribute, dn.encode()
        places = dict.fromkeys((*self.place.bases, *self.place.contexts))
        for place in places:
            bearers = SearchRequest(place, Scope.SUBTREE, Equal(name, value), (), size_limit_count=1)
            if await self._finds_any(bearers):
                return
        raise self.incomplete(
            f"the group {dn!r} has members, and nobody below {' or '.join(places)} shows it in {name}",
            f"Let the service account read {name}, have the server keep it, or set users.groups.way to members.",
        )

    async def _tests(self, dn: str) -> list[Filter]:
        """What matches the members of one group."""
        attributes = (OBJECT_SID,) if self.rules.has_primary_group else ()
        group = await self.read_configured(dn, *attributes)
        is_in_chain = self.rules.way is GroupWay.IN_CHAIN
        value = group.dn.encode("utf-8", "surrogateescape")
        name = self.rules.member_of_attribute
        in_group: Filter = Extensible(name, IN_CHAIN, value) if is_in_chain else Equal(name, value)
        if not self.rules.has_primary_group:
            return [in_group]
        # AD: the primary group is in nobody's memberOf (MS-ADA2 §2.45).
        groups = [group]
        if is_in_chain:
            inside = And((self.is_group(), in_group))
            groups += [found async for found in self.search_contexts(inside, OBJECT_SID)]
        rids = sorted({rid_of(self.sid_of(each)) for each in groups if self._has_users_near(each.dn)})
        return [in_group, *(Equal(PRIMARY_GROUP_ID, str(rid).encode()) for rid in rids)]

    def _has_users_near(self, dn: str) -> bool:
        """Whether users may have the group as their primary one, which is one of their own domain.

        In another domain the same number is another group's.
        """
        try:
            name = parse_dn(dn)
        except DNError as error:
            raise self.incomplete("the DN of a group can't be read", "Correct its name.", subject=dn) from error
        domain = tuple(rdn for rdn in name if any(kind.lower() == "dc" for kind, _ in rdn))
        text = render_dn(domain)
        return any(is_at_or_below(base, text) or is_at_or_below(text, base) for base in self.place.bases)

    async def _finds_any(self, search: SearchRequest) -> bool:
        try:
            return bool(await self.look_up(search))
        except SearchInvalid as error:
            if error.result_code != NO_SUCH_OBJECT:
                raise
            return False
