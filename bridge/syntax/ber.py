"""The part of the Basic Encoding Rules that LDAP uses (RFC 4511 §5.1), written and read.

Reading is strict: only definite lengths, every element inside its parent, integers of at most eight octets. What breaks
a rule raises `BerError`; nothing is guessed, so a truncated message can't pass for a shorter one.
"""

from __future__ import annotations

INTEGER = 0x02
OCTET_STRING = 0x04
BOOLEAN = 0x01
ENUMERATED = 0x0A
SEQUENCE = 0x30
SET = 0x31

_SHORT_FORM_LIMIT = 0x80
_LENGTH_OCTETS_MAX_COUNT = 4
_INTEGER_OCTETS_MAX_COUNT = 8


class BerError(ValueError):
    """The bytes are not what RFC 4511 §5.1 allows."""


def write_length(length: int) -> bytes:
    """The length octets, as short as they can be."""
    if length < _SHORT_FORM_LIMIT:
        return bytes((length,))
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((_SHORT_FORM_LIMIT | len(octets),)) + octets


def write_element(tag: int, *contents: bytes) -> bytes:
    """An element whose content is all of `contents`, one after the other."""
    content = b"".join(contents)
    length = len(content)
    if length < _SHORT_FORM_LIMIT:
        return bytes((tag, length)) + content
    return bytes((tag,)) + write_length(length) + content


def write_integer(value: int, tag: int = INTEGER) -> bytes:
    """An INTEGER from 0 on or, with another tag, an ENUMERATED, in the fewest octets: LDAP has no negative ones."""
    octets = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
    return bytes((tag, len(octets))) + octets


def write_octets(value: bytes, tag: int = OCTET_STRING) -> bytes:
    """An OCTET STRING."""
    length = len(value)
    if length < _SHORT_FORM_LIMIT:
        return bytes((tag, length)) + value
    return write_element(tag, value)


def write_boolean(value: bool, tag: int = BOOLEAN) -> bytes:  # noqa: FBT001 - the value is the matter itself
    """A BOOLEAN; true is 0xFF (RFC 4511 §5.1)."""
    return bytes((tag, 1, 0xFF if value else 0x00))


def read_header(data: bytes, position: int, end: int) -> tuple[int, int, int]:
    """The tag of the element at `position`, and where its content starts and stops.

    Raises `BerError` unless the whole element lies before `end`.
    """
    if position + 2 > end:
        raise BerError("an element is cut off before its length")
    tag, length, start = data[position], data[position + 1], position + 2
    if length >= _SHORT_FORM_LIMIT:
        octet_count = length & 0x7F
        if not 1 <= octet_count <= _LENGTH_OCTETS_MAX_COUNT or start + octet_count > end:
            raise BerError("a length is indefinite, too long or cut off")
        length = int.from_bytes(data[start : start + octet_count], "big")
        start += octet_count
    if start + length > end:
        raise BerError("an element is longer than what holds it")
    return tag, start, start + length


def message_size(data: bytes | bytearray, position: int = 0) -> int | None:
    """How many bytes the message at `position` has in all, or None while too few have come to tell.

    Raises `BerError` where no LDAP message begins there.
    """
    available = len(data) - position
    if available and data[position] != SEQUENCE:
        raise BerError("what came is no LDAP message")
    if available < 2:  # noqa: PLR2004 - the tag and the first length octet
        return None
    length = data[position + 1]
    if length < _SHORT_FORM_LIMIT:
        return 2 + length
    octet_count = length & 0x7F
    if not 1 <= octet_count <= _LENGTH_OCTETS_MAX_COUNT:
        raise BerError("a length is indefinite or too long")
    if available < 2 + octet_count:
        return None
    return 2 + octet_count + int.from_bytes(data[position + 2 : position + 2 + octet_count], "big")


class Reader:
    """Reads the elements between two positions, one after the other."""

    __slots__ = ("_end", "_position", "data")

    def __init__(self, data: bytes, start: int = 0, end: int | None = None) -> None:
        self.data = data
        self._position = start
        self._end = len(data) if end is None else end

    @property
    def at_end(self) -> bool:
        """Whether every element has been read."""
        return self._position >= self._end

    def peek_tag(self) -> int | None:
        """The tag of the next element, or None at the end."""
        return None if self.at_end else self.data[self._position]

    def read(self, tag: int | None = None) -> tuple[int, int, int]:
        """The tag, start and stop of the next element, which must have `tag` unless that is None."""
        found, start, stop = read_header(self.data, self._position, self._end)
        if tag is not None and found != tag:
            raise BerError(f"expected an element with tag 0x{tag:02x}, got 0x{found:02x}")
        self._position = stop
        return found, start, stop

    def read_octets(self, tag: int = OCTET_STRING) -> bytes:
        """The content of the next element."""
        _, start, stop = self.read(tag)
        return self.data[start:stop]

    def read_integer(self, tag: int = INTEGER) -> int:
        """The next element as a number of at most 64 bits."""
        octets = self.read_octets(tag)
        if not 1 <= len(octets) <= _INTEGER_OCTETS_MAX_COUNT:
            raise BerError("an integer is empty or too long")
        return int.from_bytes(octets, "big", signed=True)

    def read_boolean(self, tag: int = BOOLEAN) -> bool:
        """The next element as a truth value; anything but zero is true."""
        octets = self.read_octets(tag)
        if len(octets) != 1:
            raise BerError("a boolean has one octet")
        return octets != b"\0"

    def read_inner(self, tag: int = SEQUENCE) -> Reader:
        """A reader over the elements inside the next one."""
        _, start, stop = self.read(tag)
        return Reader(self.data, start, stop)
