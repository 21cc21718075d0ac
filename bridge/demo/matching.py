"""Whether an entry matches a filter: true, false or undefined (RFC 4511 §4.5.1.7).

Values are compared as people's names are: without case, blanks folded (RFC 4518 in essence).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bridge.syntax.filters import (
    And,
    Approximate,
    Equal,
    Extensible,
    GreaterOrEqual,
    LessOrEqual,
    Not,
    Or,
    Present,
    Substrings,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bridge.syntax.filters import Filter

    Attributes = Mapping[str, Sequence[bytes]]
    """Values by attribute description in lower case."""

_BIT_AND, _BIT_OR = "1.2.840.113556.1.4.803", "1.2.840.113556.1.4.804"


def fold(value: bytes) -> str:
    """What values have in common that match each other."""
    return " ".join(value.decode("utf-8", "surrogateescape").casefold().split())


def matches(tree: Filter, attributes: Attributes) -> bool | None:
    """Whether the entry matches; None where that is undefined, as its attribute is missing."""
    match tree:
        case And(parts):
            return _all([matches(part, attributes) for part in parts])
        case Or(parts):
            found = _all([_negate(matches(part, attributes)) for part in parts])
            return _negate(found)
        case Not(part):
            return _negate(matches(part, attributes))
        case Present(attribute):
            return attribute.lower() in attributes
        case Equal(attribute, value) | Approximate(attribute, value):
            wanted = fold(value)
            return _any(attributes, attribute, lambda found: fold(found) == wanted)
        case Substrings(attribute):
            return _any(attributes, attribute, lambda found: _has_substrings(fold(found), tree))
        case GreaterOrEqual(attribute, value):
            return _any(attributes, attribute, lambda found: _order(found) >= _order(value))
        case LessOrEqual(attribute, value):
            return _any(attributes, attribute, lambda found: _order(found) <= _order(value))
        case Extensible():
            return _matches_rule(tree, attributes)


def _all(results: list[bool | None]) -> bool | None:
    if False in results:
        return False
    return None if None in results else True


def _negate(result: bool | None) -> bool | None:  # noqa: FBT001 - three values, not a switch
    return None if result is None else not result


def _any(attributes: Attributes, attribute: str, test: Callable[[bytes], bool]) -> bool | None:
    values = attributes.get(attribute.lower())
    return None if values is None else any(map(test, values))


def _has_substrings(text: str, tree: Substrings) -> bool:
    initial = fold(tree.initial) if tree.initial else ""
    final = fold(tree.final) if tree.final else ""
    if not (text.startswith(initial) and text.endswith(final) and len(text) >= len(initial) + len(final)):
        return False
    position, end = len(initial), len(text) - len(final)
    for piece in map(fold, tree.middle):
        found = text.find(piece, position, end)
        if found < 0:
            return False
        position = found + len(piece)
    return True


def _order(value: bytes) -> tuple[int, int, str]:
    """Numbers before words, each in their own order."""
    text = fold(value)
    return (0, int(text), "") if text.removeprefix("-").isdecimal() else (1, 0, text)


def _matches_rule(tree: Extensible, attributes: Attributes) -> bool | None:
    if tree.attribute is None or tree.rule not in (None, _BIT_AND, _BIT_OR):
        return None
    if tree.rule is None:
        return matches(Equal(tree.attribute, tree.value), attributes)
    if not tree.value.isdigit():
        return None
    bits = int(tree.value)

    def has_bits(found: bytes) -> bool:
        common = int(found) & bits if found.removeprefix(b"-").isdigit() else 0
        return common == bits if tree.rule == _BIT_AND else common != 0

    return _any(attributes, tree.attribute, has_bits)
