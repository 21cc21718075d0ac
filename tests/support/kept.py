"""Snapshots to keep, and a look at one from every side."""

from __future__ import annotations

from collections.abc import Iterable

from bridge.model import Report, User
from bridge.removals.model import GuardState
from bridge.roster.builder import RosterBuilder
from bridge.roster.roster import Roster
from bridge.snapshots.store import Snapshot


def roster_of(users: Iterable[User]) -> Roster:
    builder = RosterBuilder()
    builder.add(users)
    return builder.build().roster


def people(count: int, remark: str = "", every: int = 1) -> Roster:
    """So many users; the remark stands in every so many of their full names."""
    builder = RosterBuilder()
    for start in range(0, count, 1000):
        builder.add(
            User(
                f"{number:08x}-1111-4222-8333-123456789abc",
                f"user.name{number}",
                f"uid=user.name{number},ou=people,dc=example,dc=com",
                f"Name {number} {remark if number % every == 0 else ''}",
                (f"user.name{number}@example.com", f"u{number}@mail.example.com"),
            )
            for number in range(start, min(start + 1000, count))
        )
    return builder.build().roster


def report_of(directory: str = "company", number: float = 1.0, user_count: int = 0) -> Report:
    return Report(directory, "ldaps://ldap.example.com", number, 0.5, 1, user_count, user_count)


def snapshot_of(
    roster: Roster, directory: str = "company", number: float = 1.0, guard: GuardState | None = None
) -> Snapshot:
    return Snapshot(directory, roster, number, report_of(directory, number, len(roster)), guard or GuardState())


def content_of(snapshot: Snapshot | None) -> object:
    """Everything that is known of a snapshot, to be compared."""
    if snapshot is None:
        return None
    roster = snapshot.roster
    ids = [roster.id_of(position) for position in range(len(roster))]
    return snapshot.directory, roster.json, ids, snapshot.taken_at_s, snapshot.report, snapshot.guard
