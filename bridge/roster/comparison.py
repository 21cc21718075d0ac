"""What differs between two rosters: who is missing, who is new, who has changed, told by their ids.

Both are sorted, and most of both is the same: equal stretches are compared as bytes, and only what differs is looked at
user by user.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bridge.roster.roster import Roster

_STRETCH_COUNT = 256
_LOOK_UPS_WORTH_A_ROSTER = 20
"""A name is found in a roster of this many times as many users about as fast as all are read."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Positions, counted from 0."""

    missing: tuple[int, ...] = ()
    """In the earlier roster: users whose id is not in the later one."""
    added: tuple[int, ...] = ()
    """In the later roster: users whose id was not in the earlier one."""
    changed: tuple[tuple[int, int], ...] = ()
    """In the earlier and in the later roster: users whose fields differ."""

    def __bool__(self) -> bool:
        return bool(self.missing or self.added or self.changed)


def compare(earlier: Roster, later: Roster) -> Comparison:
    """What differs, in the order of the rosters."""
    left: dict[bytes, int] = {}
    right: dict[bytes, int] = {}
    for position, other in differences(earlier, later):
        if position is not None:
            left[earlier.id_of(position)] = position
        if other is not None:
            right[later.id_of(other)] = other
    missing = tuple(position for user_id, position in left.items() if user_id not in right)
    added = tuple(other for user_id, other in right.items() if user_id not in left)
    changed = tuple((position, right[user_id]) for user_id, position in left.items() if user_id in right)
    return Comparison(missing, added, changed)


def find_claims(earlier: Roster, later: Roster, others: Mapping[str, Roster]) -> dict[str, list[str]]:
    """Folded user names that are new in the later roster, with the names of the others that have them, in order."""
    new = [later.name_of(at) for position, at in differences(earlier, later) if position is None and at is not None]
    claims: dict[str, list[str]] = {}
    for holder, roster in others.items():
        if len(new) * _LOOK_UPS_WORTH_A_ROSTER < len(roster):
            found = [name for name in new if roster.position_of(name) is not None]
        else:
            found = list({name for name, _ in roster.rows()}.intersection(new))
        for name in found:
            claims.setdefault(name, []).append(holder)
    return claims


def differences(earlier: Roster, later: Roster) -> Iterator[tuple[int | None, int | None]]:
    """Pairs of positions in both whose users differ, in order of their names; None where only one has the name."""
    left = right = 0
    left_count, right_count = len(earlier), len(later)
    while left < left_count and right < right_count:
        count = min(_STRETCH_COUNT, left_count - left, right_count - right)
        if earlier.has_same_rows(left, later, right, count):
            left, right = left + count, right + count
            continue
        stop = left + count
        while left < stop and right < right_count:
            if earlier.has_same_rows(left, later, right, 1):
                left, right = left + 1, right + 1
                continue
            name, other = earlier.name_of(left), later.name_of(right)
            yield (left if name <= other else None), (right if other <= name else None)
            left, right = left + (name <= other), right + (other <= name)
    for position in range(left, left_count):
        yield position, None
    for position in range(right, right_count):
        yield None, position
