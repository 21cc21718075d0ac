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
from typing import TYPE_CHECKING, overload

import orjson

from bridge.model import User

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_SEPARATOR = b","
_PORTION_COUNT = 500


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
        run.sort()
        self._runs.append(run)
        while len(self._runs) > 1 and len(self._runs[-2]) <= len(self._runs[-1]):
            self._merge_last()

    def build(self, previous: Roster | None = None) -> Built:
        """The roster of all that was added, which is used up by this.

        A name that several entries claim belongs to the one that held it in `previous`, or to none. The same users give
        the same bytes in whatever order they came.
        """
        while len(self._runs) > 1:
            self._merge_last()
        rows = self._runs.pop() if self._runs else []
        rows.reverse()
        choice = _Choice(previous)
        roster = Roster(map(choice.of, _take_portions(rows)))
        return Built(roster, tuple(choice.collisions), choice.repeated_id)

    def _merge_last(self) -> None:
        """The last two runs become one, in linear time: sorting begins with the runs that are there."""
        last = self._runs.pop()
        self._runs[-1] += last
        self._runs[-1].sort()


def _take_portions(rows: list[bytes]) -> Iterator[list[bytes]]:
    """Portions of the rows from the end on, which are gone then; rows of one name stay together."""
    while rows:
        portion = rows[: -_PORTION_COUNT - 1 : -1]
        del rows[-_PORTION_COUNT:]
        beginning = _name_of(portion[-1]) + b"\0"
        while rows and rows[-1].startswith(beginning):
            portion.append(rows.pop())
        yield portion


def _name_of(row: bytes) -> bytes:
    return row.partition(b"\0")[0]


class _Choice:
    """Who of those that claim a name gets it, and what else is found on the way."""

    def __init__(self, previous: Roster | None) -> None:
        self._previous = previous
        self._seen: set[bytes] = set()
        self.collisions: list[str] = []
        self.repeated_id: str | None = None

    def of(self, rows: list[bytes]) -> tuple[list[bytes], list[bytes]]:
        """The ids and the JSON objects of the users that the rows make."""
        fields = [row.split(b"\0") for row in rows]
        names = [row[0] for row in fields]
        ids = [row[1] if len(row) == 3 else b"\0".join(row[1:-1]) for row in fields]  # noqa: PLR2004 - a DN may hold NUL
        pieces = [row[-1] for row in fields]
        if len(set(names)) < len(names):
            ids, pieces = self._settle(names, ids, pieces)
        self._check_ids(ids)
        return ids, pieces

    def _settle(self, names: list[bytes], ids: list[bytes], pieces: list[bytes]) -> tuple[list[bytes], list[bytes]]:
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

    def _check_ids(self, ids: list[bytes]) -> None:
        """Remembers an id that stands in two places."""
        fresh = set(ids)
        if self.repeated_id is None and (len(fresh) < len(ids) or not fresh.isdisjoint(self._seen)):
            repeated = next(user_id for user_id in ids if user_id in self._seen or ids.count(user_id) > 1)
            self.repeated_id = repeated.decode()
        self._seen |= fresh


def _add_ends(ends: array[int], pieces: Iterable[bytes], between: int) -> None:
    """Adds where each piece ends."""
    position = ends[-1]
    for piece in pieces:
        position += len(piece) + between
        ends.append(position)


def _lengths(ends: array[int], start: int, stop: int) -> list[int]:
    """Where each of some pieces ends, counted from where the first one starts."""
    first = ends[start]
    return [end - first for end in ends[start : stop + 1]]
