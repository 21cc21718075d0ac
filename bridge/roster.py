"""The users of a listing as one compact block: the very bytes that MailStore gets, and where each user stands in them.

A hundred thousand users as objects take 50 MB and more; as the JSON that is answered anyway they take half of it, and
one is read back in microseconds. The form of a user's JSON is that of the wire. Knows nothing of directories or HTTP.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import TYPE_CHECKING, overload

import orjson

from bridge.model import User

if TYPE_CHECKING:
    from collections.abc import Iterable

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

    def __init__(self, rows: Iterable[tuple[str, bytes]]) -> None:
        """From ids and JSON objects, which must come in order of their folded user names."""
        pieces, ids = [], []
        self._ends, self._id_ends = array("Q", (0,)), array("Q", (0,))
        for user_id, piece in rows:
            pieces.append(piece)
            ids.append(user_id.encode())
            self._ends.append(self._ends[-1] + len(piece) + len(_SEPARATOR))
            self._id_ends.append(self._id_ends[-1] + len(ids[-1]))
        self.json = b"[" + _SEPARATOR.join(pieces) + b"]"
        self._ids = b"".join(ids)

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
            id=self._ids[self._id_ends[position] : self._id_ends[position + 1]].decode(),
            user_name=fields["userName"],
            distinguished_name=fields["distinguishedName"],
            full_name=fields.get("fullName"),
            email_addresses=tuple(fields.get("emailAddresses", ())),
        )

    def json_of(self, position: int) -> bytes:
        """The JSON object of the user at `position`, counted from 0."""
        return self.json[1 + self._ends[position] : self._ends[position + 1]]

    def find(self, user_name: str) -> User | None:
        """The user of that name, whatever its case, or None."""
        wanted = fold_user_name(user_name)
        position = bisect_left(range(len(self)), wanted, key=lambda at: fold_user_name(self[at].user_name))
        if position == len(self):
            return None
        user = self[position]
        return user if fold_user_name(user.user_name) == wanted else None
