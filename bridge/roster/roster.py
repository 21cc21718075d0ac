"""The users of a listing as one compact block: the very bytes that MailStore gets, and where each user stands in them.

A hundred thousand users as objects take 50 MB and more; as the JSON that is answered anyway they take half of it, and
one is read back in microseconds. The form of a user's JSON is that of the wire. Knows nothing of directories or HTTP.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from io import BytesIO
from itertools import accumulate
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


def _add_ends(ends: array[int], pieces: Iterable[bytes], between: int) -> None:
    """Adds where each piece ends."""
    lengths = map(len, pieces)
    ends.extend(accumulate(map(between.__add__, lengths) if between else lengths, initial=ends.pop()))


def _lengths(ends: array[int], start: int, stop: int) -> list[int]:
    """Where each of some pieces ends, counted from where the first one starts."""
    first = ends[start]
    return [end - first for end in ends[start : stop + 1]]
