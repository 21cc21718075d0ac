"""What the guard knows and decides by: removals, their reasons, the policy, and what is remembered of each directory.

Values only; `bridge.removals.review` decides, `bridge.state` keeps.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bridge.model import User

_DIGEST_CHARACTERS = 16


class RemovalKind(Enum):
    """What MailStore would lose."""

    MISSING = "missing"
    """The user."""
    ADDRESSES = "addresses"
    """Some e-mail addresses of the user."""
    RENAMED = "renamed"
    """The user's name, and with it the archive: the new name is a new, empty one."""


class RemovalReason(Enum):
    """Why, as far as the directory tells when it is asked for the entry by its id."""

    DELETED = "deleted"
    """The entry is not there any more, or the service account can't see it."""
    MOVED = "moved"
    """The entry is outside of the search bases."""
    FILTER = "filter"
    """A clause of the users' filter doesn't match any more."""
    GROUP = "group"
    """The entry left a group that was asked for."""
    DISABLED = "disabled"
    """The account may not be used any more."""
    UNUSABLE = "unusable"
    """The entry makes no user any more: it has no user name, say."""
    NAME_TAKEN = "name_taken"
    """Another entry claims the user name."""
    CHANGED = "changed"
    """The entry lists other values than before."""
    UNCONFIRMED = "unconfirmed"
    """The directory could not be asked, or too many are missing to ask for each."""


class HeldBy(Enum):
    """What keeps a removal from going through."""

    LIMIT = "limit"
    """Too many at once; only the operator's word, or the user's return, ends it."""
    CONFIRMATION = "confirmation"
    """The directory did not confirm it; the next refresh asks again."""
    NAME = "name"
    """The new user name belongs to somebody else."""
    WITNESS = "witness"
    """Another server has last shown the user, and can't be asked; it is waited for, for a day."""


class Finding(NamedTuple):
    """What the directory said of a missing user. `reason` None: the entry is there and matches, so the user stays."""

    reason: RemovalReason | None
    detail: str = ""


class Statement(NamedTuple):
    """What the server that last showed a user says of them, where the listing has come from another one."""

    server: str
    """Its URL."""
    finding: Finding | None
    """None: it can't be asked."""
    user: User | None = None
    """As it shows the user now; None where it shows none."""
    detail: str = ""
    """Why it can't be asked."""


class Removal(NamedTuple):
    """Something that MailStore would lose."""

    user_id: str
    user_name: str
    """As it was last listed."""
    kind: RemovalKind
    reason: RemovalReason = RemovalReason.CHANGED
    detail: str = ""
    lost: tuple[str, ...] = ()
    """The addresses, for the kind ADDRESSES."""
    new_name: str | None = None
    """For the kind RENAMED."""

    @property
    def key(self) -> tuple[str, RemovalKind]:
        """What stays the same while the reason is being found out."""
        return self.user_id, self.kind


class Withheld(NamedTuple):
    """A removal that was kept out of the answer."""

    removal: Removal
    held_by: HeldBy
    since_s: float
    """Seconds since 1970."""


@dataclass(frozen=True, slots=True)
class RemovalPolicy:
    """How much may be lost without asking."""

    max_percent: float = 10.0
    max_count: int = 10
    window_s: float = 86_400.0
    """How long a removal that went through is counted together with those that follow."""
    refuse: bool = False
    """Whether too many removals are an error, instead of being withheld."""
    grace_s: float = 0.0
    """How long a missing user stays in the answer in any case."""
    allow_empty: bool = False
    keep_user_names: bool = False


@dataclass(frozen=True, slots=True)
class GuardState:
    """What is remembered of a directory beside its last accepted listing."""

    withheld: tuple[Withheld, ...] = ()
    """Sorted by user id and kind."""
    last_seen_s: Mapping[str, float] = field(default_factory=dict)
    """When users who are answered although they did not come were last seen, by id."""
    recent: Mapping[str, float] = field(default_factory=dict)
    """When removals went through without being approved, by user id; those within the window count."""
    former_names: Mapping[str, str] = field(default_factory=dict)
    """Under which name users were listed who have left, by id."""
    decided_names: frozenset[str] = frozenset()
    """Folded user names whose owner is the one in the listing, whoever bears the name in the directory."""
    approved: str | None = None
    """The digest of the withheld removals that the operator has approved."""
    last_seen_at: Mapping[str, str] = field(default_factory=dict)
    """Which server has last shown users as they are answered, by id, where it is not that of the accepted listing."""
    digest: str | None = field(init=False, repr=False, compare=False)
    """What stands for exactly this set of withheld removals; None where there are none."""

    withheld_since_s: float | None = field(init=False, repr=False, compare=False)
    """Since when something is withheld, in seconds since 1970."""
    is_tripped: bool = field(init=False, repr=False, compare=False)
    """Whether something is withheld because too many were missing."""
    is_doubtful: bool = field(init=False, repr=False, compare=False)
    """Whether something is withheld that a server has shown which may be wrong: too much, or against another's word."""

    @property
    def absent_ids(self) -> frozenset[str]:
        """The ids of users whom the accepted listing itself has not shown, or not as they are answered."""
        return frozenset(self.last_seen_s) | frozenset(self.last_seen_at)

    def __post_init__(self) -> None:
        # Both are asked for by every look at the health: of a hundred thousand removals it takes a third of a second.
        digest = digest_of(withheld.removal for withheld in self.withheld) if self.withheld else None
        object.__setattr__(self, "digest", digest)
        object.__setattr__(self, "withheld_since_s", min((held.since_s for held in self.withheld), default=None))
        held_by = {held.held_by for held in self.withheld}
        object.__setattr__(self, "is_tripped", HeldBy.LIMIT in held_by)
        object.__setattr__(self, "is_doubtful", not held_by.isdisjoint((HeldBy.LIMIT, HeldBy.WITNESS)))


def digest_of(removals: Iterable[Removal]) -> str:
    """Sixteen hexadecimal digits for a set of removals, the same in whatever order they come.

    What is lost counts, and not why: a reason that is found out later leaves an approval valid.
    """
    digest = hashlib.sha256()
    for removal in sorted(removals, key=_order):
        fields = (removal.user_id, removal.kind.value, removal.user_name, removal.new_name or "", *removal.lost)
        for text in fields:
            data = text.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(4, "big") + data)
        digest.update(b"\xff\xff\xff\xff")
    return digest.hexdigest()[:_DIGEST_CHARACTERS]


def _order(removal: Removal) -> tuple[str, str]:
    return removal.user_id, removal.kind.value
