"""Search result entries read from their bytes by index arithmetic: the hot path of every listing (RFC 4511 §4.5.2).

The answers are those of ldap3's decoder, which tests prove; the time is a twentieth. Strict as `bridge.syntax.ber`:
each element must end where the one that holds it ends.

Attributes come in the same order entry after entry, though some may be missing. What stands before the first value
(four tags, four lengths and the attribute description) is compared as a whole with what stood there in entries read
before; the same octets mean the same lengths, so one look into a dictionary takes the place of four elements.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.directory import Entry
from bridge.syntax.ber import OCTET_STRING, SEQUENCE, SET, BerError, write_integer

if TYPE_CHECKING:
    from collections.abc import Iterable

_SEARCH_ENTRY = 0x64
_SHORT_FORM_LIMIT = 0x80
_ONE_OCTET, _TWO_OCTETS = 0x81, 0x82
"""How a length from 128 to 255 begins, and one up to 65535: most entries have one of them."""
_VALUE_HEADER_BYTES = 2
"""The tag of a value, and its length where that is less than 128."""
_LENGTH_OCTETS_MAX_COUNT = 4
_SHOWN_CHARACTERS = 100
DN_MAX_BYTES = 8 * 1024
"""A name that is longer is refused, and never shortened: a part of it is another name."""


class _Step:
    """An attribute as it came before, and the one that came after it."""

    __slots__ = ("following", "header_bytes", "lengths", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.header_bytes = 0
        self.lengths: dict[bytes, int] = {}
        """By all the octets before the first value, which are `header_bytes` each time: the length of the only value,
        or, where there are several, the length of the whole attribute as a negative number."""
        self.following: _Step | None = None


class EntryReader:
    """Reads the entries of one connection; remembers what comes again and again."""

    __slots__ = ("_first", "_header_count", "_message_limit_bytes", "_steps", "has_long_names", "has_ranges")

    _DESCRIPTIONS_MAX_COUNT = 1000
    _HEADERS_MAX_COUNT = 10_000
    """A server that invents attribute descriptions and lengths can't make us remember them all."""

    def __init__(self, message_limit_bytes: int = 2**31) -> None:
        self._message_limit_bytes = message_limit_bytes
        self._steps: dict[bytes, _Step] = {}
        self._first: _Step | None = None
        self._header_count = 0
        self.has_ranges = False
        """Whether an attribute has come in pieces (`member;range=0-1499`)."""
        self.has_long_names = False
        """Whether an entry has come whose DN is longer than `DN_MAX_BYTES`."""

    def read(self, data: bytes, position: int, end: int) -> Entry:
        """The entry whose SearchResultEntry content lies between `position` and `end`.

        Raises `BerError` where the bytes are no entry.
        """
        try:
            return self._read(data, position, end)
        except IndexError as error:
            raise BerError("an entry is cut off") from error

    def read_run(self, data: bytes, position: int, message_id: int, entries: list[Entry], room: int) -> int:
        """Appends the entries of one search that stand whole in `data`, and returns where they end.

        The run ends before whatever is anything else than such an entry, as far as can be seen here, and after `room`
        entries; what stands there is the caller's to judge.

        Raises `BerError` where one of the entries is none.
        """
        id_and_tag = write_integer(message_id) + bytes((_SEARCH_ENTRY,))
        id_bytes, read, append = len(id_and_tag), self._read, entries.append
        end = len(data)
        largest_bytes = self._message_limit_bytes - _LENGTH_OCTETS_MAX_COUNT - 2
        try:
            for _ in range(room):
                start = position
                if position >= end or data[position] != SEQUENCE:
                    return start
                length = data[position + 1]
                position += 2
                if length == _ONE_OCTET:
                    length = data[position]
                    position += 1
                elif length == _TWO_OCTETS:
                    length = data[position] << 8 | data[position + 1]
                    position += 2
                elif length >= _SHORT_FORM_LIMIT:
                    length, position = _long_length(data, length, position)
                stop = position + length
                operation = position + id_bytes
                if stop > end or length > largest_bytes or data[position:operation] != id_and_tag:
                    return start
                length = data[operation]
                operation += 1
                if length == _ONE_OCTET:
                    length = data[operation]
                    operation += 1
                elif length == _TWO_OCTETS:
                    length = data[operation] << 8 | data[operation + 1]
                    operation += 2
                elif length >= _SHORT_FORM_LIMIT:
                    length, operation = _long_length(data, length, operation)
                if operation + length != stop:
                    return start
                append(read(data, operation, stop))
                position = stop
        except IndexError:
            return start  # cut off, or broken
        return position

    def _read(self, data: bytes, position: int, end: int) -> Entry:  # noqa: PLR0912 - a call would be a tenth of its time
        dn_bytes = data[position + 1]
        if data[position] == OCTET_STRING and dn_bytes < _SHORT_FORM_LIMIT:
            start = position + 2
            position = start + dn_bytes
        else:
            start, position = _element(data, position, end, OCTET_STRING)
            self.has_long_names = self.has_long_names or position - start > DN_MAX_BYTES
        dn = data[start:position].decode("utf-8", "surrogateescape")
        length = data[position + 1]
        if data[position] == SEQUENCE and length == _ONE_OCTET:
            stop = position + 3 + data[position + 2]
            position += 3
        else:
            position, stop = _element(data, position, end, SEQUENCE)  # behind the DN, so that ended before `end`, too
        if stop != end:
            raise BerError("an entry holds more than it should")
        attributes: dict[str, list[bytes]] = {}
        step, last = self._first, None
        while position < end:
            if step is not None:
                start = position + step.header_bytes
                known = step.lengths.get(data[position:start])
                if known is None and step.following is not None:  # the attribute may be missing here
                    start = position + step.following.header_bytes
                    known = step.following.lengths.get(data[position:start])
                    if known is not None:
                        step = step.following
                if known is not None and step.name not in attributes:
                    if known >= 0:
                        position = start + known
                        attributes[step.name] = [data[start:position]]
                    else:
                        position -= known
                        attributes[step.name] = _values(data, start - _VALUE_HEADER_BYTES, position)
                    last, step = step, step.following
                    continue
            found, position = self._read_attribute(data, position, end, attributes)
            if last is None:
                self._first = found
            else:
                last.following = found
            last, step = found, found.following
        if position != end:
            raise BerError("an attribute is longer than its entry")
        return tuple.__new__(Entry, (dn, attributes))

    def _read_attribute(
        self, data: bytes, position: int, end: int, attributes: dict[str, list[bytes]]
    ) -> tuple[_Step, int]:
        """Reads an attribute element by element into `attributes`; where it ends is returned with what it is."""
        beginning = position
        position, stop = _element(data, position, end, SEQUENCE)
        start, position = _element(data, position, stop, OCTET_STRING)
        step = self._step(data[start:position])
        position, values_stop = _element(data, position, stop, SET)
        if values_stop != stop:
            raise BerError("an attribute holds more than it should")
        values = _values(data, position, stop)
        if step.name in attributes:  # RFC 4511 §4.1.7 forbids it; losing the first half would be worse
            attributes[step.name] += values
        else:
            attributes[step.name] = values
        if values and self._header_count < self._HEADERS_MAX_COUNT:
            length = len(values[0])
            if len(values) == 1:
                self._remember(step, data[beginning : stop - length], length)
            elif length < _SHORT_FORM_LIMIT:
                self._remember(step, data[beginning : position + _VALUE_HEADER_BYTES], beginning - stop)
        return step, stop

    def _remember(self, step: _Step, header: bytes, length: int) -> None:
        step.header_bytes = len(header)
        self._header_count += header not in step.lengths
        step.lengths[header] = length

    def _step(self, raw: bytes) -> _Step:
        known = self._steps.get(raw)
        if known is None:
            try:
                known = _Step(raw.decode("ascii").lower())
            except UnicodeDecodeError as error:
                raise BerError("an attribute description is not ASCII") from error
            self.has_ranges = self.has_ranges or ";range=" in known.name
            if len(self._steps) < self._DESCRIPTIONS_MAX_COUNT:
                self._steps[raw] = known
        return known


def find_long_name(entries: Iterable[Entry]) -> str | None:
    """The beginning of the first DN that is longer than `DN_MAX_BYTES`, or None."""
    for entry in entries:
        if len(entry.dn.encode("utf-8", "surrogateescape")) > DN_MAX_BYTES:
            return entry.dn[:_SHOWN_CHARACTERS]
    return None


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
