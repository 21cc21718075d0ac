"""Groups by which users are chosen: the rules, and whom a directory has put into which group. Values only.

Knows nothing of how groups are read: `group_walking` reads members, `group_clauses` has the server compare.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from bridge.syntax.dn import dn_key

if TYPE_CHECKING:
    from bridge.directory import Entry
    from bridge.syntax.filters import Filter

OBJECT_SID = "objectSid"
PRIMARY_GROUP_ID = "primaryGroupID"
_RID_BYTES = 4
_RID = re.compile(rb"[0-9]{1,10}")


class GroupWay(Enum):
    """How it is found out who is in a group."""

    MEMBER_OF = "member_of"
    """Users bear the groups in memberOf; the server compares."""
    IN_CHAIN = "in_chain"
    """The server follows memberOf through groups in groups (MS-ADTS §3.1.1.3.4.4.3)."""
    MEMBERS = "members"
    """The groups name their members: they are read, with the groups inside of them."""


@dataclass(frozen=True, slots=True)
class GroupRules:
    """Which groups count, and what is to be known of them in this directory."""

    include: tuple[str, ...] = ()
    """DNs; a user is in one of these, unless there are none."""
    exclude: tuple[str, ...] = ()
    """DNs; a user is in none of these."""
    way: GroupWay = GroupWay.MEMBERS
    nested: bool = True
    """Whether members of groups inside of a group are in it."""
    member_of_attribute: str = "memberOf"
    """The attribute of users that holds the DNs of their groups."""
    member_attributes: tuple[str, ...] = ("member", "uniqueMember")
    """Attributes of a group that hold the DNs of its members."""
    uid_attributes: tuple[str, ...] = ("memberUid",)
    """Attributes of a group that hold its members' `user_uid`."""
    user_uid: str = "uid"
    gid_attribute: str | None = "gidNumber"
    """An attribute of groups and users alike: who has the value of a group has it as the primary group (RFC 2307)."""
    classes: tuple[str, ...] = ("groupOfNames", "groupOfUniqueNames")
    """Object classes of the groups that may be inside of others."""
    never_empty: tuple[str, ...] = ()
    """Object classes that have members by their schema: where none is seen, they can't be read."""
    has_primary_group: bool = False
    """Whether users are in one more group, told by primaryGroupID alone (MS-ADA3 §2.120)."""

    @property
    def is_walked(self) -> bool:
        """Whether the groups are read, rather than asked about in the filter of a search."""
        return self.way is GroupWay.MEMBERS

    @property
    def user_attributes(self) -> tuple[str, ...]:
        """The attributes of users by which their membership is told, beside their DN."""
        if not self.is_walked:
            return ()
        uid = (self.user_uid,) if self.uid_attributes else ()
        gid = (self.gid_attribute,) if self.gid_attribute else ()
        return (*uid, *gid, *((PRIMARY_GROUP_ID, OBJECT_SID) if self.has_primary_group else ()))


@dataclass(frozen=True, slots=True)
class Clause:
    """A part of the users' filter that is about groups."""

    filter: Filter
    absence: str
    """What it means that the clause doesn't match."""


@dataclass(frozen=True, slots=True)
class Group:
    """A group of the configuration that was walked: everybody who is in it, however deep."""

    dn: str
    dns: tuple[str, ...] = ()
    """Its own and those of the groups inside of it."""
    member_keys: frozenset[str] = frozenset()
    """What `dn_key` makes of the members' DNs."""
    member_uids: frozenset[bytes] = frozenset()
    sids: frozenset[bytes] = frozenset()
    """The objectSids of all of these groups, for those whose primary group is one of them."""
    gids: frozenset[bytes] = frozenset()
    """Their gidNumbers, likewise."""

    def holds(self, entry: Entry, key: str, user_uid: str, gid: str) -> bool:
        """Whether the entry, whose `dn_key` is `key`, is in the group; the rest are names of its attributes."""
        if key in self.member_keys or (self.sids and primary_group_sid(entry) in self.sids):
            return True
        if self.gids and not self.gids.isdisjoint(entry.attributes.get(gid, ())):
            return True
        # RFC 2307: memberUid is compared by caseExactIA5Match.
        return bool(self.member_uids) and not self.member_uids.isdisjoint(entry.attributes.get(user_uid, ()))


@dataclass(frozen=True, slots=True)
class ResolvedGroups:
    """Who is in the configured groups, as far as the directory has said when it was asked."""

    clauses: tuple[Clause, ...] = ()
    """What the server is to compare; empty where groups are walked."""
    included: tuple[Group, ...] = ()
    excluded: tuple[Group, ...] = ()
    """Walked groups."""
    user_uid: str = "uid"
    gid: str = ""
    """Both in lower case, as in entries."""

    @property
    def is_walked(self) -> bool:
        """Whether `absence` has something to say."""
        return bool(self.included or self.excluded)

    @property
    def group_count(self) -> int:
        """How many groups there are, those inside of others too."""
        return sum(len(group.dns) for group in (*self.included, *self.excluded))

    def absence(self, entry: Entry) -> str | None:
        """Why the entry is none of the users, as a clause; None where the walked groups let it be one."""
        key = dn_key(entry.dn)
        for group in self.excluded:
            if self._holds(group, entry, key):
                return absence_from_excluded(group.dn)
        if not self.included or any(self._holds(group, entry, key) for group in self.included):
            return None
        return absence_from_included([group.dn for group in self.included])

    def _holds(self, group: Group, entry: Entry, key: str) -> bool:
        return group.holds(entry, key, self.user_uid, self.gid)


EVERYBODY = ResolvedGroups()
"""No groups are configured."""


def absence_from_included(dns: list[str]) -> str:
    """What is said of somebody who is in no included group."""
    return f"it is not in the group {dns[0]}" if len(dns) == 1 else f"it is in none of the groups {' and '.join(dns)}"


def absence_from_excluded(dn: str) -> str:
    """What is said of somebody who is in an excluded group."""
    return f"it is in the excluded group {dn}"


def primary_group_sid(entry: Entry) -> bytes | None:
    """The objectSid of the entry's primary group: that of the entry with another last part; None where it has none.

    MS-ADA3 §2.120: primaryGroupID is the last part (the RID) of a group in the domain of the user.
    """
    rids, sids = (entry.attributes.get(name.lower(), ()) for name in (PRIMARY_GROUP_ID, OBJECT_SID))
    if len(rids) != 1 or len(sids) != 1 or _RID.fullmatch(rids[0]) is None:
        return None
    rid = int(rids[0])
    if rid >= 1 << (8 * _RID_BYTES):
        return None
    return sids[0][:-_RID_BYTES] + rid.to_bytes(_RID_BYTES, "little")


def rid_of(sid: bytes) -> int:
    """The last part of a SID, which tells it apart from others of the domain (MS-DTYP §2.4.2.2)."""
    return int.from_bytes(sid[-_RID_BYTES:], "little")
