"""Search filters as trees (RFC 4515), and filter templates.

A filter is parsed once into frozen values. What a user typed becomes an assertion value inside the tree, so that there
is nothing to escape on the way to the server; escaping is needed only to print a tree.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from bridge.syntax.attributes import is_attribute_description

_DEPTH_LIMIT = 50
_PLACEHOLDER = b"{user}"


class FilterError(ValueError):
    """The text is no filter; `position` counts characters from 0."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} at character {position + 1}")
        self.position = position


@dataclass(frozen=True, slots=True)
class And:
    """All parts match; without parts it is always true (RFC 4526)."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Or:
    """At least one part matches; without parts it is always false (RFC 4526)."""

    parts: tuple[Filter, ...]


@dataclass(frozen=True, slots=True)
class Not:
    """The part is false (undefined stays undefined)."""

    part: Filter


@dataclass(frozen=True, slots=True)
class Equal:
    """`(attribute=value)`."""

    attribute: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Substrings:
    """`(attribute=initial*middle*final)`."""

    attribute: str
    initial: bytes | None
    middle: tuple[bytes, ...]
    final: bytes | None


@dataclass(frozen=True, slots=True)
class GreaterOrEqual:
    """`(attribute>=value)`."""

    attribute: str
    value: bytes


@dataclass(frozen=True, slots=True)
class LessOrEqual:
    """`(attribute<=value)`."""

    attribute: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Present:
    """`(attribute=*)`."""

    attribute: str


@dataclass(frozen=True, slots=True)
class Approximate:
    """`(attribute~=value)`."""

    attribute: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Extensible:
    """`(attribute:dn:rule:=value)`; the attribute or the rule may be missing, not both."""

    attribute: str | None
    rule: str | None
    value: bytes
    dn_attributes: bool = False


Filter = And | Or | Not | Equal | Substrings | GreaterOrEqual | LessOrEqual | Present | Approximate | Extensible


def parse_filter(text: str) -> Filter:
    """The filter that `text` writes; blanks around it are taken off.

    Raises `FilterError` with the place of the first fault.
    """
    parser = _Parser(text.strip())
    tree = parser.read_filter(0)
    if parser.position != len(parser.text):
        raise FilterError("something follows the end of the filter", parser.position)
    return tree


def render_filter(tree: Filter) -> str:
    """The text of a filter, which `parse_filter` takes back to the same tree."""
    match tree:
        case And(parts):
            return f"(&{''.join(map(render_filter, parts))})"
        case Or(parts):
            return f"(|{''.join(map(render_filter, parts))})"
        case Not(part):
            return f"(!{render_filter(part)})"
        case Present(attribute):
            return f"({attribute}=*)"
        case Substrings(attribute, initial, middle, final):
            pieces = [initial or b"", *middle, final or b""]
            return f"({attribute}={'*'.join(map(escape_assertion_value, pieces))})"
        case Extensible(attribute, rule, value, dn_attributes):
            head = (attribute or "") + (":dn" if dn_attributes else "") + (f":{rule}" if rule else "")
            return f"({head}:={escape_assertion_value(value)})"
        case Equal(attribute, value):
            return f"({attribute}={escape_assertion_value(value)})"
        case GreaterOrEqual(attribute, value):
            return f"({attribute}>={escape_assertion_value(value)})"
        case LessOrEqual(attribute, value):
            return f"({attribute}<={escape_assertion_value(value)})"
        case Approximate(attribute, value):
            return f"({attribute}~={escape_assertion_value(value)})"


def escape_assertion_value(value: bytes) -> str:
    r"""The text that stands for `value` in a filter; what is no UTF-8 and `*()\` and NUL become `\xx` (RFC 4515 §3)."""
    try:
        text = value.decode()
    except UnicodeDecodeError:
        return "".join(f"\\{octet:02x}" for octet in value)
    return re.sub(r"[\x00-\x1f*()\\\x7f]", lambda found: f"\\{ord(found[0]):02x}", text)


def attributes_of(tree: Filter) -> frozenset[str]:
    """The attribute descriptions that the filter asks about, in lower case."""
    match tree:
        case And(parts) | Or(parts):
            return frozenset().union(*map(attributes_of, parts))
        case Not(part):
            return attributes_of(part)
        case Extensible(attribute=None):
            return frozenset()
        case _:
            return frozenset((str(tree.attribute).lower(),))


@dataclass(frozen=True, slots=True)
class FilterTemplate:
    """A filter with `{user}` in its assertion values, such as `(|(uid={user})(mail={user}))`."""

    tree: Filter

    def fill(self, user_name: str) -> Filter:
        """The filter for one user name, which may hold any character at all."""
        return _fill(self.tree, user_name.encode())


def parse_filter_template(text: str) -> FilterTemplate:
    """The template that `text` writes.

    Raises `FilterError` where it is no filter, or asks the same of every user because `{user}` is missing.
    """
    tree = parse_filter(text)
    if _fill(tree, b"\0") == tree:
        raise FilterError("no assertion value holds {user}", 0)
    return FilterTemplate(tree)


def _fill(tree: Filter, value: bytes) -> Filter:
    match tree:
        case And(parts):
            return And(tuple(_fill(part, value) for part in parts))
        case Or(parts):
            return Or(tuple(_fill(part, value) for part in parts))
        case Not(part):
            return Not(_fill(part, value))
        case Equal(attribute, assertion):
            return Equal(attribute, assertion.replace(_PLACEHOLDER, value))
        case Present():
            return tree
        case Substrings(attribute, initial, middle, final):
            return Substrings(
                attribute,
                initial and initial.replace(_PLACEHOLDER, value),
                tuple(piece.replace(_PLACEHOLDER, value) for piece in middle),
                final and final.replace(_PLACEHOLDER, value),
            )
        case _:
            return replace(tree, value=tree.value.replace(_PLACEHOLDER, value))


class _Parser:
    """Reads RFC 4515 §3 from the left to the right."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def read_filter(self, depth: int) -> Filter:
        if depth > _DEPTH_LIMIT:
            raise FilterError(f"filters are nested deeper than {_DEPTH_LIMIT}", self.position)
        self._expect("(")
        sign = self.text[self.position : self.position + 1]
        if sign and sign in "&|!":
            self.position += 1
            tree = self._read_composite(sign, depth)
        else:
            tree = self._read_item()
        self._expect(")")
        return tree

    def _read_composite(self, sign: str, depth: int) -> Filter:
        start = self.position
        parts = []
        while self.text[self.position : self.position + 1] == "(":
            parts.append(self.read_filter(depth + 1))
        if sign == "&":
            return And(tuple(parts))
        if sign == "|":
            return Or(tuple(parts))
        if len(parts) != 1:
            raise FilterError("'!' takes exactly one filter", start)
        return Not(parts[0])

    def _expect(self, character: str) -> None:
        if self.text[self.position : self.position + 1] != character:
            raise FilterError(f"'{character}' is missing", self.position)
        self.position += 1

    def _read_item(self) -> Filter:
        start = self.position
        found = re.compile(r"([^=()~<>]*?)(:=|~=|>=|<=|=)").match(self.text, start)
        if found is None:
            raise FilterError("an attribute and '=' are missing", start)
        head, sign = found.groups()
        self.position = found.end()
        end = re.compile(r"[^()]*").match(self.text, self.position)
        assert end is not None  # noqa: S101 - the pattern matches the empty text
        raw, value_start = end[0], self.position
        self.position = end.end()
        if sign == ":=":
            return self._extensible(head, self._unescape(raw, value_start), start)
        if not is_attribute_description(head):
            raise FilterError(f"{head!r} is no attribute description", start)
        if sign == "=":
            return self._equality(head, raw, value_start)
        value = self._unescape(raw, value_start)
        if sign == ">=":
            return GreaterOrEqual(head, value)
        return LessOrEqual(head, value) if sign == "<=" else Approximate(head, value)

    def _equality(self, attribute: str, raw: str, start: int) -> Filter:
        if raw == "*":
            return Present(attribute)
        pieces = [self._unescape(piece, start, wildcard=True) for piece in raw.split("*")]
        if len(pieces) == 1:
            return Equal(attribute, pieces[0])
        first, *middle, last = pieces
        if not all(middle) or not (first or middle or last):
            raise FilterError("two '*' stand beside each other", start)
        return Substrings(attribute, first or None, tuple(middle), last or None)

    def _extensible(self, head: str, value: bytes, start: int) -> Filter:
        attribute, *rest = head.split(":")
        dn_attributes = bool(rest) and rest[0].lower() == "dn"
        rule = rest[1:] if dn_attributes else rest
        if len(rule) > 1 or not (attribute or rule):
            raise FilterError(f"{head!r} is no attribute with a matching rule", start)
        for name in (*((attribute,) if attribute else ()), *rule):
            if not is_attribute_description(name):
                raise FilterError(f"{name!r} is no attribute description", start)
        return Extensible(attribute or None, rule[0] if rule else None, value, dn_attributes)

    def _unescape(self, raw: str, start: int, *, wildcard: bool = False) -> bytes:
        if "*" in raw and not wildcard:
            raise FilterError("'*' must be written \\2a here", start + raw.index("*"))
        pieces = raw.split("\\")
        value = pieces[0].encode()
        for piece in pieces[1:]:
            if re.match(r"[0-9A-Fa-f]{2}", piece) is None:
                raise FilterError("a backslash is not followed by two hexadecimal digits", start)
            value += bytes.fromhex(piece[:2]) + piece[2:].encode()
        return value
