"""Items of the mapping: an attribute (`mail`, `cn;lang-de`) or a template (`"{givenName} {sn}"`, `{uid|lower}`)."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from bridge.syntax.attributes import is_attribute_description

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence


VALUES_MAX_COUNT = 10_000
"""Of one attribute. Nobody has so many addresses, and whatever is done with each of them takes its time."""


class Values(Protocol):
    """The texts of an entry."""

    def get(self, description: str, default: Sequence[str], /) -> Sequence[str]:
        """The texts of an attribute, whose description is in lower case."""


class MappingError(ValueError):
    """The text is no item of the mapping."""


def _primary(values: Sequence[str]) -> list[str]:
    """The address whose prefix is `SMTP:` in capitals, or the first where none is marked."""
    marked = [value for value in values if value.startswith("SMTP:")]
    return [value.removeprefix("SMTP:") for value in marked or values][:1]


def _each(change: Callable[[str], str]) -> Callable[[Sequence[str]], list[str]]:
    return lambda values: [change(value) for value in values]


_OPERATIONS: Mapping[str, Callable[[Sequence[str]], list[str]]] = {
    "lower": _each(str.lower),
    "upper": _each(str.upper),
    "trim": _each(str.strip),
    "localpart": _each(lambda value: value.rpartition("@")[0] or value),
    "domain": _each(lambda value: value.rpartition("@")[2] if "@" in value else ""),
    "first": lambda values: list(values[:1]),
    "primary": _primary,
}


@dataclass(frozen=True, slots=True)
class Placeholder:
    """An attribute inside a template, and the operations on its values, from left to right."""

    attribute: str
    operations: tuple[str, ...] = ()

    def values(self, entry: Values) -> list[str]:
        """The values that are left when every operation is done; empty ones are none."""
        found = list(entry.get(self.attribute.lower(), ()))
        for operation in self.operations:
            found = _OPERATIONS[operation](found)
        return [value for value in found if value]


@dataclass(frozen=True, slots=True)
class Item:
    """What a line of the mapping takes from an entry: an attribute's values, or texts made of several attributes."""

    parts: tuple[str | Placeholder, ...]
    plain_attribute: str | None = field(init=False, repr=False)
    """The attribute whose values are taken as they are, in lower case; None for a template."""

    def __post_init__(self) -> None:
        plain = None
        match self.parts:
            case (Placeholder(attribute, ()),):
                plain = attribute.lower()
        object.__setattr__(self, "plain_attribute", plain)

    @property
    def attributes(self) -> tuple[str, ...]:
        """The attribute descriptions that must be asked for."""
        return tuple(part.attribute for part in self.parts if isinstance(part, Placeholder))

    def values(self, entry: Values) -> list[str]:
        """The texts in the order of the values.

        One placeholder gives a text for each of its values; several give one text, of the first value of each, and
        none at all where one of them is empty.
        """
        found = [part.values(entry) for part in self.parts if isinstance(part, Placeholder)]
        if not all(found):
            return []
        rows = [[value] for value in found[0]] if len(found) == 1 else [[values[0] for values in found]]
        return [self._fill(row) for row in rows]

    def _fill(self, row: list[str]) -> str:
        values = iter(row)
        return "".join(part if isinstance(part, str) else next(values) for part in self.parts)


_TOKEN = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]|[^{}]+")


def parse_item(text: str) -> Item:
    """The item that `text` writes; `{{` and `}}` stand for braces.

    Raises `MappingError`, whose message says what is wrong and how it is written.
    """
    if "{" not in text and "}" not in text:
        if not is_attribute_description(text):
            raise MappingError(f'{text!r} is no attribute; a template needs braces, such as "{{givenName}} {{sn}}"')
        return Item((Placeholder(text),))
    parts: list[str | Placeholder] = []
    for token in _TOKEN.finditer(text):
        if token[1] is not None:
            parts.append(_parse_placeholder(token[1]))
        elif token[0] in ("{", "}"):
            raise MappingError(f"a brace in {text!r} has no partner; a brace itself is written twice")
        else:
            parts.append(token[0][:1] if token[0] in ("{{", "}}") else token[0])
    if not any(isinstance(part, Placeholder) for part in parts):
        raise MappingError(f"{text!r} names no attribute, so it would be the same for everybody")
    return Item(tuple(parts))


def _parse_placeholder(text: str) -> Placeholder:
    attribute, *operations = (piece.strip() for piece in text.split("|"))
    if not is_attribute_description(attribute):
        raise MappingError(f"{attribute!r} in braces is no attribute")
    for operation in operations:
        if operation not in _OPERATIONS:
            raise MappingError(f"{operation!r} is no operation; there are {', '.join(sorted(_OPERATIONS))}")
    return Placeholder(attribute, tuple(operations))
