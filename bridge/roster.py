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

    def __init__(self, rows: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """From ids and JSON objects, which must come in order of their folded user names."""
        json, ids = BytesIO(), BytesIO()
        self._ends, self._id_ends = array("Q", (0,)), array("Q", (0,))
        json.write(b"[")
        for user_id, piece in rows:
            if len(self):
                json.write(_SEPARATOR)
            json.write(piece)
            ids.write(user_id)
            self._ends.append(json.tell())
            self._id_ends.append(ids.tell())
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

    def rows(self) -> Iterator[tuple[str, int]]:
        """Folded user names with their positions, in order."""
        for position in range(len(self)):
            yield fold_user_name(orjson.loads(self.json_of(position))["userName"]), position

    def find(self, user_name: str) -> User | None:
        """The user of that name, whatever its case, or None."""
        wanted = fold_user_name(user_name)
        position = bisect_left(range(len(self)), wanted, key=lambda at: fold_user_name(self[at].user_name))
        if position == len(self):
            return None
        user = self[position]
        return user if fold_user_name(user.user_name) == wanted else None


@dataclass(frozen=True, slots=True)
class Built:
    """A roster, and what stood in its way."""

    roster: Roster
    collisions: tuple[str, ...] = ()
    """Folded user names that more than one entry claims."""
    repeated_id: str | None = None
    """The id of an entry that came under two user names: it was renamed while the directory was being read."""


class RosterBuilder:
    """Collects users in any order, one small row of bytes for each."""

    def __init__(self) -> None:
        self._rows: list[bytes] = []

    def add(self, user: User) -> None:
        """Takes one user; the same entry may come more than once, through bases that overlap."""
        name = fold_user_name(user.user_name).encode()
        self._rows.append(b"\0".join((name, user.id.encode(), render_user(user))))

    def build(self, previous: Roster | None = None) -> Built:
        """The roster of all that was added, which is used up by this.

        A name that several entries claim belongs to the one that held it in `previous`, or to none. The same users give
        the same bytes in whatever order they came.
        """
        rows, self._rows = self._rows, []
        rows.sort(reverse=True)
        collisions: list[str] = []
        roster = Roster(_choose(rows, previous, collisions))
        return Built(roster, tuple(collisions), _repeated(roster))


def _choose(rows: list[bytes], previous: Roster | None, collisions: list[str]) -> Iterator[tuple[bytes, bytes]]:
    """The id and the JSON of each user, in order; takes the rows from the end, so that none is kept twice."""
    while rows:
        row = rows.pop()
        name = row.partition(b"\0")[0]
        beginning = name + b"\0"
        claims = [row]
        while rows and rows[-1].startswith(beginning):
            claims.append(rows.pop())
        if len(claims) == 1:
            yield _split(row, beginning)
            continue
        claimants: dict[bytes, bytes] = {}
        for claim in claims:
            user_id, piece = _split(claim, beginning)
            claimants.setdefault(user_id, piece)
        if len(claimants) > 1:
            collisions.append(name.decode())
            holder = previous.find(name.decode()) if previous is not None else None
            claimants = {key: piece for key, piece in claimants.items() if holder and key == holder.id.encode()}
        yield from claimants.items()


def _split(row: bytes, beginning: bytes) -> tuple[bytes, bytes]:
    user_id, _, piece = row[len(beginning) :].rpartition(b"\0")
    return user_id, piece


def _repeated(roster: Roster) -> str | None:
    """An id that stands there twice, or None."""
    seen: set[bytes] = set()
    for position in range(len(roster)):
        user_id = roster.id_of(position)
        if user_id in seen:
            return user_id.decode()
        seen.add(user_id)
    return None
