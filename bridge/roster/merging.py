"""The rosters of several directories as one answer, each user name once."""

from __future__ import annotations

import heapq
import itertools
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from bridge.roster.roster import Roster


@dataclass(frozen=True, slots=True)
class MergedListing:
    """The users of several directories as one answer."""

    json: bytes
    user_count: int
    holders: Mapping[str, str] = field(default_factory=dict)
    """Folded user names that several directories claim, with the name of the one that has it."""


def merge_rosters(rosters: Mapping[str, Roster], holders: Mapping[str, str]) -> MergedListing:
    """One answer of several directories, which come by name in the order of their priority.

    A user name that several claim stays with the one that has it by `holders`, and else goes to the first.
    """
    names = list(rosters)
    pieces: list[bytes] = []
    contested: dict[str, str] = {}
    ranked = heapq.merge(*(_ranked(roster, priority) for priority, roster in enumerate(rosters.values())))
    for name, group in itertools.groupby(ranked, key=operator.itemgetter(0)):
        claims = {priority: position for _, priority, position in group}
        chosen = next(iter(claims))
        if len(claims) > 1:
            chosen = next((at for at in claims if names[at] == holders.get(name)), chosen)
            contested[name] = names[chosen]
        pieces.append(rosters[names[chosen]].json_of(claims[chosen]))
    return MergedListing(b"[" + b",".join(pieces) + b"]", len(pieces), contested)


def _ranked(roster: Roster, priority: int) -> Iterator[tuple[str, int, int]]:
    for name, position in roster.rows():
        yield name, priority, position
