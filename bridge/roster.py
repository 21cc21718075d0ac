"""The users of a listing as one compact block: the very bytes that MailStore gets, and where each user stands in them.

A hundred thousand users as objects take 50 MB and more; as the JSON that is answered anyway they take half of it, and
one is read back in microseconds. The form of a user's JSON is that of the wire. Knows nothing of directories or HTTP.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import accumulate
from typing import TYPE_CHECKING, overload

import orjson

from bridge.model import User

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SEPARATOR = b","
_MERGED_COUNT = 4000
"""Of rows in a run that is still merged with another: less than a millisecond of sorting at once."""
_PORTION_COUNT = 4000
"""Of rows that are made into a part of the roster at once, where they come from a single run."""
_STEP_MIN_COUNT = 100
"""Of rows that are taken from one of many runs at once."""


def fold_user_name(user_name: str) -> str:
    """What two spellings of one user name have in common: MailStore does not tell case apart."""
    return user_name.casefold()


def render_user(user: User) -> bytes:
    """The JSON object of one user; what is not known is left out."""
    fields: dict[str, object] = {"userName": user.user_name, "distinguishedName": user.distinguished_name}
    if user.full_name:
        fields["fullName"] = user.full_name
    if user.email_addresses:
        fields["emailAddresses"] = user.email_addresses
    return orjson.dumps(fields)


class Roster(Sequence[User]):
    """Users without equal user names, sorted by folded user name; unchanging."""

    __slots__ = ("_ends", "_id_ends", "_ids", "json")

    def __init__(self, portions: Iterable[tuple[Sequence[bytes], Sequence[bytes]]] = ()) -> None:
        """From portions of ids and as many JSON objects, all in order of their folded user names."""
        json, ids = BytesIO(), BytesIO()
        self._ends, self._id_ends = array("Q", (0,)), array("Q", (0,))
        json.write(b"[")
        for user_ids, pieces in portions:
            if pieces:
                json.write(_SEPARATOR.join((b"", *pieces) if len(self) else pieces))
                ids.write(b"".join(user_ids))
                _add_ends(self._ends, pieces, len(_SEPARATOR))
                _add_ends(self._id_ends, user_ids, 0)
        json.write(b"]")
        self.json = json.getvalue()
        self._ids = ids.getvalue()

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> User: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[User]: ...
    def __getitem__(self, index: int | slice) -> User | Sequence[User]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = range(len(self))[index]
        fields = orjson.loads(self.json_of(position))
        return User(
            id=self.id_of(position).decode(),
            user_name=fields["userName"],
            distinguished_name=fields["distinguishedName"],
            full_name=fields.get("fullName"),
            email_addresses=tuple(fields.get("emailAddresses", ())),
        )

    def json_of(self, position: int) -> bytes:
        """The JSON object of the user at `position`, counted from 0."""
        start = self._ends[position] + len(_SEPARATOR)  # the first one stands behind the bracket, which is as long
        return self.json[start : self._ends[position + 1]]

    def id_of(self, position: int) -> bytes:
        """The id of the user at `position`, in UTF-8."""
        return self._ids[self._id_ends[position] : self._id_ends[position + 1]]

    def ids(self) -> Iterator[bytes]:
        """The ids of all users, in UTF-8."""
        return map(self.id_of, range(len(self)))

    def name_of(self, position: int) -> str:
        """The folded name of the user at `position`."""
        return fold_user_name(orjson.loads(self.json_of(position))["userName"])

    def rows(self) -> Iterator[tuple[str, int]]:
        """Folded user names with their positions, in order."""
        for position in range(len(self)):
            yield self.name_of(position), position

    def has_same_rows(self, start: int, other: Roster, other_start: int, count: int) -> bool:
        """Whether `count` users from `start` on are those of another roster from `other_start` on, field by field."""
        stop, other_stop = start + count, other_start + count
        return (
            self.json[self._ends[start] + len(_SEPARATOR) : self._ends[stop]]
            == other.json[other._ends[other_start] + len(_SEPARATOR) : other._ends[other_stop]]
            and self._ids[self._id_ends[start] : self._id_ends[stop]]
            == other._ids[other._id_ends[other_start] : other._id_ends[other_stop]]
            and _lengths(self._id_ends, start, stop) == _lengths(other._id_ends, other_start, other_stop)
        )

    def find(self, user_name: str) -> User | None:
        """The user of that name, whatever its case, or None."""
        position = self.position_of(fold_user_name(user_name))
        return None if position is None else self[position]

    def position_of(self, folded_name: str) -> int | None:
        """Where the user of that folded name stands, or None."""
        position = self.place_of(folded_name)
        return position if position < len(self) and self.name_of(position) == folded_name else None

    def place_of(self, folded_name: str) -> int:
        """Before which position a user of that folded name stands, or would stand."""
        return bisect_left(range(len(self)), folded_name, key=self.name_of)


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


def _add_ends(ends: array[int], pieces: Iterable[bytes], between: int) -> None:
    """Adds where each piece ends."""
    lengths = map(len, pieces)
    ends.extend(accumulate(map(between.__add__, lengths) if between else lengths, initial=ends.pop()))


def _lengths(ends: array[int], start: int, stop: int) -> list[int]:
    """Where each of some pieces ends, counted from where the first one starts."""
    first = ends[start]
    return [end - first for end in ends[start : stop + 1]]
