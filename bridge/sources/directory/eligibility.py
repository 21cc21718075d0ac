"""Who is a user: one answer for listings, confirmations and logins.

Groups come first, then the state of the account, then what the entry holds (`bridge.mapping`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from bridge.errors import EntryUnusable, SearchInvalid
from bridge.mapping.attribute_map import Mapped
from bridge.removals.model import RemovalReason

if TYPE_CHECKING:
    from bridge.directory import Entry
    from bridge.sources.directory.groups import ResolvedGroups
    from bridge.sources.directory.source import DirectorySource

Eligible = Mapped
"""The user that an entry makes, with remarks for the report."""

_UNDECIDED = {
    "id_missing": (
        "an entry can't be told apart from others",
        "Let the service account read the id attribute, or set attributes.id to one that it can read.",
    ),
    "too_many_values": (
        "an entry holds more than is read of one user",
        "Take values away from this entry, or leave it out by users.filter.",
    ),
}
"""By the reason of an unusable entry that may be a listed user's all the same: what happened, and what to do."""


class Excluded(NamedTuple):
    """Why an entry makes no user."""

    removal: RemovalReason
    """GROUP, DISABLED or UNUSABLE."""
    reason: str
    """The word that a report counts; "" for groups, since whoever is in none of them is not counted."""
    detail: str = ""

    @property
    def words(self) -> str:
        """The reason with its detail."""
        return f"{self.reason}: {self.detail}" if self.reason and self.detail else self.reason or self.detail


def judge(source: DirectorySource, entry: Entry, groups: ResolvedGroups | None, now_s: float) -> Eligible | Excluded:
    """Judge whether an entry that matches the users' filter makes a user at `now_s`, in seconds since 1970.

    `groups` are those whose members the program walks; None where the entry's membership was decided elsewhere: by the
    filter, or by a question to the server.

    Raises `SearchInvalid` like `make_user`.
    """
    if groups is not None and (absence := groups.absence(entry)) is not None:
        return Excluded(RemovalReason.GROUP, "", absence)
    rejection = None if source.list_disabled else source.attribute_map.exclusion(entry, now_s)
    if rejection is not None:
        return Excluded(RemovalReason.DISABLED, rejection.value)
    return make_user(source, entry)


def make_user(source: DirectorySource, entry: Entry) -> Eligible | Excluded:
    """Map an entry to its user, whatever the groups and the state of the account are.

    Raises `SearchInvalid` where nobody can say which user the entry makes, so that nobody is lost by it.
    """
    try:
        return source.attribute_map.map_entry(entry)
    except EntryUnusable as error:
        _refuse_undecided(error, entry, source)
        return Excluded(RemovalReason.UNUSABLE, error.reason, error.detail)


def id_of(source: DirectorySource, entry: Entry) -> str:
    """Return the id of an entry, which it has though it may make no user. Raises `SearchInvalid` like `make_user`."""
    try:
        return source.attribute_map.id_of(entry)
    except EntryUnusable as error:
        _refuse_undecided(error, entry, source)
        raise


def _refuse_undecided(error: EntryUnusable, entry: Entry, source: DirectorySource) -> None:
    if error.reason in _UNDECIDED:
        happened, remedy = _UNDECIDED[error.reason]
        raise SearchInvalid(
            f"{happened}: {error.detail}", subject=entry.dn, directory=source.name, remedy=remedy
        ) from error
