"""Attributes that come in pieces: Active Directory sends long ones in ranges of values (MS-ADTS §3.1.1.3.1.3.3).

Nothing of a range is taken on trust: the pieces must begin at 0, follow each other, hold as many values as they say,
and all be of the same entry.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bridge.directory import Entry, Scope, SearchRequest
from bridge.errors import SearchIncomplete
from bridge.ldap.results import SUCCESS, search_error
from bridge.syntax.dn import dn_key
from bridge.syntax.filters import Present

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.ldap.connection import Connection
    from bridge.ldap.settings import Limits

_OPTION = ";range="
_SHOWN_CHARACTERS = 100
_RANGE = re.compile(r"(?P<attribute>(?:(?!;range=).)+);range=(?P<first>\d{1,10})-(?P<last>\d{1,10}|\*)")


class _Piece(NamedTuple):
    """Some values of an attribute."""

    attribute: str
    first: int
    """The position of the first value."""
    values: Sequence[bytes]
    is_last: bool

    @property
    def following(self) -> int:
        """Where the next piece begins."""
        return self.first + len(self.values)


async def complete_ranges(entries: list[Entry], connection: Connection, limits: Limits) -> list[Entry]:
    """The entries with every value of their attributes; themselves where nothing came in ranges.

    Raises `SearchIncomplete` where the server doesn't hand out what is missing, or something else than it says.
    """
    if not connection.has_ranges:
        return entries
    return [await _complete(entry, connection, limits) for entry in entries]


async def _complete(entry: Entry, connection: Connection, limits: Limits) -> Entry:
    attributes = {name: values for name, values in entry.attributes.items() if _OPTION not in name}
    if len(attributes) == len(entry.attributes):
        return entry
    reader = _RangeReader(entry.dn, connection, limits)
    for piece in reader.pieces_of(entry):
        # Active Directory sends the attribute without values beside its range.
        if attributes.get(piece.attribute):
            raise reader.incomplete(f"values of {piece.attribute} came beside a range of them")
        attributes[piece.attribute] = await reader.read_all(piece)
    return Entry(entry.dn, attributes)


class _RangeReader:
    """Reads what is missing of one entry."""

    def __init__(self, dn: str, connection: Connection, limits: Limits) -> None:
        self._dn = dn
        self._connection = connection
        self._limits = limits

    def pieces_of(self, entry: Entry) -> list[_Piece]:
        """The pieces that an answer holds, one of an attribute at most. Raises `SearchIncomplete`."""
        if dn_key(entry.dn) != dn_key(self._dn):
            raise self.incomplete("values of another entry came", of=entry.dn)
        pieces = [self._parse(name, values) for name, values in entry.attributes.items() if _OPTION in name]
        if len({piece.attribute for piece in pieces}) != len(pieces):
            raise self.incomplete("two ranges of one attribute came at once")
        return pieces

    async def read_all(self, piece: _Piece) -> list[bytes]:
        """All values of the attribute whose first piece has come."""
        values, size_bytes = list(piece.values), 0
        if piece.first != 0:
            raise self.incomplete(f"the first range of {piece.attribute} begins with number {piece.first}")
        if not values:  # an attribute has values (RFC 4512 §2.2); only behind others there may be none left
            raise self.incomplete(f"the first range of {piece.attribute} came without values")
        for _ in range(self._limits.range_count):
            if piece.is_last:
                return values
            wanted = f"{piece.attribute}{_OPTION}{piece.following}-*"
            following, received_bytes = await self._read(wanted)
            if (following.attribute, following.first) != (piece.attribute, piece.following):
                raise self.incomplete(f"{wanted} was asked for, and another range came")
            size_bytes += received_bytes
            if size_bytes > self._limits.in_flight_bytes:
                raise self.incomplete(f"more than {self._limits.in_flight_bytes} bytes came for {piece.attribute}")
            values += following.values
            piece = following
        raise self.incomplete(f"the values of {piece.attribute} did not all come")

    async def _read(self, wanted: str) -> tuple[_Piece, int]:
        """The piece, and how many bytes came for it."""
        search = SearchRequest(self._dn, Scope.BASE, Present("objectClass"), (wanted,))
        exchange = self._connection.send_search(search)
        response = await self._connection.wait(exchange)
        if response.result_code != SUCCESS:
            raise search_error(response, self._connection.peer, search)
        pieces = [piece for entry in exchange.entries for piece in self.pieces_of(entry)]
        if len(pieces) != 1:
            raise self.incomplete(f"{wanted} was asked for and did not come")
        return pieces[0], exchange.received_bytes

    def _parse(self, name: str, values: Sequence[bytes]) -> _Piece:
        found = _RANGE.fullmatch(name)
        if found is None:
            raise self.incomplete("what was sent as a range is none", of=name[:_SHOWN_CHARACTERS])
        first, is_last = int(found["first"]), found["last"] == "*"
        if not is_last and (not values or int(found["last"]) != first + len(values) - 1):
            raise self.incomplete(f"{name} came with {len(values)} values")
        return _Piece(found["attribute"], first, values, is_last)

    def incomplete(self, detail: str, of: str = "") -> SearchIncomplete:
        """The error that says what is wrong with the entry's ranges; `of` is what came instead."""
        peer = self._connection.peer
        return SearchIncomplete(
            detail,
            subject=", ".join(filter(None, (self._dn, of))),
            directory=peer.directory,
            server=peer.server,
            remedy="Look into the server's log.",
        )
