"""Search filters as they travel (RFC 4511 §4.5.1.7): written from trees, and read back into them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.syntax import ber
from bridge.syntax.filters import (
    And,
    Approximate,
    Equal,
    Extensible,
    Filter,
    GreaterOrEqual,
    LessOrEqual,
    Not,
    Or,
    Present,
    Substrings,
)

if TYPE_CHECKING:
    from collections.abc import Callable

_AND, _OR, _NOT = 0xA0, 0xA1, 0xA2
_EQUAL, _SUBSTRINGS, _GREATER_OR_EQUAL, _LESS_OR_EQUAL = 0xA3, 0xA4, 0xA5, 0xA6
_PRESENT, _APPROXIMATE, _EXTENSIBLE = 0x87, 0xA8, 0xA9
_INITIAL, _MIDDLE, _FINAL = 0x80, 0x81, 0x82
_RULE, _TYPE, _VALUE, _DN_ATTRIBUTES = 0x81, 0x82, 0x83, 0x84
_DEPTH_LIMIT = 50

_ASSERTIONS: dict[int, Callable[[str, bytes], Filter]] = {
    _EQUAL: Equal,
    _GREATER_OR_EQUAL: GreaterOrEqual,
    _LESS_OR_EQUAL: LessOrEqual,
    _APPROXIMATE: Approximate,
}


def encode_filter(tree: Filter) -> bytes:
    """The BER of a filter."""
    if isinstance(tree, Equal):  # what a login looks for
        return _assertion(_EQUAL, tree.attribute, tree.value)
    match tree:
        case And(parts):
            return ber.write_element(_AND, *map(encode_filter, parts))
        case Or(parts):
            return ber.write_element(_OR, *map(encode_filter, parts))
        case Not(part):
            return ber.write_element(_NOT, encode_filter(part))
        case Present(attribute):
            return ber.write_octets(attribute.encode(), _PRESENT)
        case Substrings():
            return _substrings(tree)
        case GreaterOrEqual(attribute, value):
            return _assertion(_GREATER_OR_EQUAL, attribute, value)
        case LessOrEqual(attribute, value):
            return _assertion(_LESS_OR_EQUAL, attribute, value)
        case Approximate(attribute, value):
            return _assertion(_APPROXIMATE, attribute, value)
        case Extensible():
            return _extensible(tree)


def _assertion(tag: int, attribute: str, value: bytes) -> bytes:
    return ber.write_element(tag, ber.write_octets(attribute.encode()), ber.write_octets(value))


def _substrings(tree: Substrings) -> bytes:
    pieces = [ber.write_octets(tree.initial, _INITIAL)] if tree.initial is not None else []
    pieces += [ber.write_octets(piece, _MIDDLE) for piece in tree.middle]
    pieces += [ber.write_octets(tree.final, _FINAL)] if tree.final is not None else []
    return ber.write_element(
        _SUBSTRINGS, ber.write_octets(tree.attribute.encode()), ber.write_element(ber.SEQUENCE, *pieces)
    )


def _extensible(tree: Extensible) -> bytes:
    pieces = [ber.write_octets(tree.rule.encode(), _RULE)] if tree.rule is not None else []
    pieces += [ber.write_octets(tree.attribute.encode(), _TYPE)] if tree.attribute is not None else []
    pieces.append(ber.write_octets(tree.value, _VALUE))
    if tree.dn_attributes:  # the default, FALSE, is left out (RFC 4511 §5.1)
        pieces.append(ber.write_boolean(True, _DN_ATTRIBUTES))
    return ber.write_element(_EXTENSIBLE, *pieces)


def decode_filter(reader: ber.Reader, depth: int = 0) -> Filter:
    """The tree of the filter that comes next.

    Raises `bridge.syntax.ber.BerError` where it is none, or is nested deeper than 50.
    """
    if depth > _DEPTH_LIMIT:
        raise ber.BerError("filters are nested too deeply")
    tag, start, stop = reader.read()
    inner = ber.Reader(reader.data, start, stop)
    if tag == _PRESENT:
        return Present(_text(reader.data[start:stop]))
    if tag in (_AND, _OR, _NOT):
        return _composite(tag, inner, depth)
    if tag == _SUBSTRINGS:
        return _read_substrings(inner)
    if tag == _EXTENSIBLE:
        return _read_extensible(inner)
    if tag not in _ASSERTIONS:
        raise ber.BerError(f"no filter has the tag 0x{tag:02x}")
    attribute, value = _text(inner.read_octets()), inner.read_octets()
    _expect_end(inner)
    return _ASSERTIONS[tag](attribute, value)


def _composite(tag: int, inner: ber.Reader, depth: int) -> Filter:
    parts = []
    while not inner.at_end:
        parts.append(decode_filter(inner, depth + 1))
    if tag == _AND:
        return And(tuple(parts))
    if tag == _OR:
        return Or(tuple(parts))
    if len(parts) != 1:
        raise ber.BerError("a negation holds exactly one filter")
    return Not(parts[0])


def _read_substrings(inner: ber.Reader) -> Substrings:
    attribute = _text(inner.read_octets())
    pieces = inner.read_inner()
    _expect_end(inner)
    initial = pieces.read_octets(_INITIAL) if pieces.peek_tag() == _INITIAL else None
    middle = []
    while pieces.peek_tag() == _MIDDLE:
        middle.append(pieces.read_octets(_MIDDLE))
    final = pieces.read_octets(_FINAL) if pieces.peek_tag() == _FINAL else None
    _expect_end(pieces)
    if initial is None and not middle and final is None:
        raise ber.BerError("a substring filter has no substring")
    return Substrings(attribute, initial, tuple(middle), final)


def _read_extensible(inner: ber.Reader) -> Extensible:
    rule = _text(inner.read_octets(_RULE)) if inner.peek_tag() == _RULE else None
    attribute = _text(inner.read_octets(_TYPE)) if inner.peek_tag() == _TYPE else None
    value = inner.read_octets(_VALUE)
    dn_attributes = inner.read_boolean(_DN_ATTRIBUTES) if inner.peek_tag() == _DN_ATTRIBUTES else False
    _expect_end(inner)
    return Extensible(attribute, rule, value, dn_attributes)


def _expect_end(reader: ber.Reader) -> None:
    if not reader.at_end:
        raise ber.BerError("a filter holds more than it should")


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise ber.BerError("a name in a filter is not UTF-8") from error
