"""A roster made of users that come in any order, as a directory is listed.

Sorts while users come, so that little is left to do at the end. Knows nothing of directories or HTTP.
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.roster.roster import Roster, fold_user_name, render_user

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from bridge.model import User

_MERGED_COUNT = 4000
"""Of rows in a run that is still merged with another: less than a millisecond of sorting at once."""
_PORTION_COUNT = 4000
"""Of rows that are made into a part of the roster at once, where they come from a single run."""
_STEP_MIN_COUNT = 100
"""Of rows that are taken from one of many runs at once."""


@dataclass(frozen=True, slots=True)
class Built:
    """A roster, and what stood in its way."""

    roster: Roster
    collisions: tuple[str, ...] = ()
    """Folded user names that more than one entry claims."""
    repeated_id: str | None = None
    """The id of an entry that came under two user names: it was renamed while the directory was being read."""


class RosterBuilder:
    """Collects users in any order, one small row of bytes for each: folded user name, id and JSON object."""

    def __init__(self) -> None:
        self._runs: list[list[bytes]] = []

    def add(self, users: Iterable[User]) -> None:
        """Takes some users; the same entry may come more than once, through bases that overlap.

        They are sorted here and now, so that little is left to do once the last ones have come.
        """
        run = [
            b"\0".join((fold_user_name(user.user_name).encode(), user.id.encode(), render_user(user))) for user in users
        ]
        if not run:
            return
        run.sort()
        self._runs.append(run)
        while len(self._runs) > 1 and len(self._runs[-2]) <= len(self._runs[-1]) <= _MERGED_COUNT:
            self._merge_last()

    def build(self, previous: Roster | None = None) -> Built:
        """The roster of all that was added, which is used up by this.

        A name that several entries claim belongs to the one that held it in `previous`, or to none. The same users give
        the same bytes in whatever order they came.
        """
        choice = _Choice(previous)
        roster = Roster(map(choice.of, _take_portions(self._runs)))
        return Built(roster, tuple(choice.collisions), choice.repeated_id)

    def _merge_last(self) -> None:
        """The last two runs become one, in linear time: sorting begins with the runs that are there."""
        last = self._runs.pop()
        self._runs[-1] += last
        self._runs[-1].sort()


def _take_portions(runs: list[list[bytes]]) -> Iterator[list[bytes]]:
    """Portions of the rows in order, which are gone from the runs then; rows of one name stay together.

    From each run comes what stands before one name, so that no more than a portion is ever sorted at once: while a
    list is sorted, no other thread does anything, and nobody is logged in.
    """
    while runs:
        step_count = max(_PORTION_COUNT // len(runs), _STEP_MIN_COUNT)
        last = min(run[min(step_count, len(run)) - 1] for run in runs)
        behind = _name_of(last) + b"\1"
        portion: list[bytes] = []
        for run in runs:
            count = bisect_left(run, behind)
            portion += run[:count]
            del run[:count]
        runs[:] = filter(None, runs)
        portion.sort()
        yield portion


def _split(rows: list[bytes]) -> tuple[Sequence[bytes], Sequence[bytes], Sequence[bytes]]:
    """The names, the ids and the JSON objects of the rows."""
    fields = [row.split(b"\0") for row in rows]
    try:
        names, ids, pieces = zip(*fields, strict=True)
    except ValueError:  # a DN that is an id may hold NUL
        return (
            [row[0] for row in fields],
            [b"\0".join(row[1:-1]) for row in fields],
            [row[-1] for row in fields],
        )
    return names, ids, pieces


def _name_of(row: bytes) -> bytes:
    return row.partition(b"\0")[0]


class _Choice:
    """Who of those that claim a name gets it, and what else is found on the way."""

    def __init__(self, previous: Roster | None) -> None:
        self._previous = previous
        self._seen: set[bytes] = set()
        self.collisions: list[str] = []
        self.repeated_id: str | None = None

    def of(self, rows: list[bytes]) -> tuple[Sequence[bytes], Sequence[bytes]]:
        """The ids and the JSON objects of the users that the rows make."""
        names, ids, pieces = _split(rows)
        if len(set(names)) < len(names):
            ids, pieces = self._settle(names, ids, pieces)
        self._check_ids(ids)
        return ids, pieces

    def _settle(
        self, names: Sequence[bytes], ids: Sequence[bytes], pieces: Sequence[bytes]
    ) -> tuple[Sequence[bytes], Sequence[bytes]]:
        claims: dict[bytes, dict[bytes, bytes]] = {}
        for name, user_id, piece in zip(names, ids, pieces, strict=True):
            claims.setdefault(name, {}).setdefault(user_id, piece)
        chosen: list[tuple[bytes, bytes]] = []
        for name, claimants in claims.items():
            if len(claimants) == 1:
                chosen += claimants.items()
                continue
            self.collisions.append(name.decode())
            holder = self._previous.find(name.decode()) if self._previous is not None else None
            if holder is not None and holder.id.encode() in claimants:
                chosen.append((holder.id.encode(), claimants[holder.id.encode()]))
        return [user_id for user_id, _ in chosen], [piece for _, piece in chosen]

    def _check_ids(self, ids: Sequence[bytes]) -> None:
        """Remembers an id that stands in two places."""
        fresh = set(ids)
        if self.repeated_id is None and (len(fresh) < len(ids) or not fresh.isdisjoint(self._seen)):
            repeated = next(user_id for user_id in ids if user_id in self._seen or ids.count(user_id) > 1)
            self.repeated_id = repeated.decode()
        self._seen |= fresh
