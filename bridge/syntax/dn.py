"""Distinguished names: parsed, written, compared (RFC 4514).

Comparison here ignores case and insignificant blanks, which is right for names of people and places in practice; it is
used to relate names to each other, never to decide who somebody is.
"""

from __future__ import annotations

import re

from bridge.syntax import ber
from bridge.syntax.attributes import is_attribute_description

RDN = tuple[tuple[str, bytes], ...]
"""A relative distinguished name: attribute types with their values, more than one where it is multi-valued."""

DN = tuple[RDN, ...]

_ESCAPED = re.compile(rb"\\(?:([0-9A-Fa-f]{2})|(.))", re.DOTALL)
_SPECIAL = re.compile(r'[,+"\\<>;=\x00-\x1f\x7f]')
_PLAIN_WORD = r'(?:[^\s,;+"\\<>=#\x00-\x1f\x7f]++|\\[,+"\\<>;=])++'
_PLAIN_VALUE = rf"{_PLAIN_WORD}(?: {_PLAIN_WORD})*"
_PLAIN_RDN = rf"[A-Za-z][A-Za-z0-9-]*={_PLAIN_VALUE}"
_PLAIN_DN = re.compile(rf"{_PLAIN_RDN}(?:,{_PLAIN_RDN})*")
"""One value to a name, escaped as `escape_attribute_value` does it, and no blank that doesn't count."""


class DNError(ValueError):
    """The text is no distinguished name."""


def escape_attribute_value(value: str) -> str:
    """The text that stands for `value` inside a DN; every value has one, the empty one and NUL too (RFC 4514 §2.4)."""
    text = _SPECIAL.sub(_escape_character, value)
    if text.startswith((" ", "#")):
        text = "\\" + text
    if text.endswith(" ") and value != " ":
        text = text[:-1] + "\\ "
    return text


def _escape_character(found: re.Match[str]) -> str:
    character = found[0]
    return f"\\{ord(character):02x}" if character < " " or character == "\x7f" else f"\\{character}"


def parse_dn(text: str) -> DN:
    """The names that `text` is made of, the deepest first; an empty text is the root.

    Raises `DNError`.
    """
    if not text.strip():
        return ()
    return tuple(_parse_rdn(piece) for piece in _split(text, ",;"))


def render_dn(name: DN) -> str:
    """The text of a name; values that are no UTF-8 are written as `#` and hexadecimal digits of their BER."""
    return ",".join("+".join(f"{kind}={_render_value(value)}" for kind, value in rdn) for rdn in name)


def normalize_dn(text: str) -> tuple[frozenset[tuple[str, str]], ...]:
    """What two spellings of one DN have in common.

    Raises `DNError`.
    """
    return tuple(frozenset((kind.lower(), _fold(value)) for kind, value in rdn) for rdn in parse_dn(text))


def _fold(value: bytes) -> str:
    return " ".join(value.decode(errors="surrogateescape").split()).casefold()


def dn_key(text: str) -> str:
    """One text for all spellings of a DN, and no two DNs have the same; made for hundreds of thousands of them.

    What is no DN has itself alone as its key. Takes a microsecond or two where the DN is plain, as nearly all are.
    """
    if _PLAIN_DN.fullmatch(text) is not None:
        return text.casefold()
    try:
        name = normalize_dn(text)
    except DNError:
        return f"\0{text}"
    return ",".join("+".join(sorted(f"{kind}={escape_attribute_value(value)}" for kind, value in rdn)) for rdn in name)


def is_at_or_below(text: str, base: str) -> bool:
    """Whether the entry named `text` is `base` or lies under it.

    Raises `DNError`.
    """
    name, top = normalize_dn(text), normalize_dn(base)
    return len(name) >= len(top) and name[len(name) - len(top) :] == top


def _split(text: str, separators: str) -> list[str]:
    """The pieces of `text` between separators that are neither escaped nor quoted (RFC 2253 §4 allowed quotes)."""
    pieces, start, position, quoted = [], 0, 0, False
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif character == '"':
            quoted = not quoted
        elif character in separators and not quoted:
            pieces.append(text[start:position])
            start = position + 1
        position += 1
    if quoted:
        raise DNError(f"a quotation mark is not closed in {text!r}")
    return [*pieces, text[start:]]


def _parse_rdn(text: str) -> RDN:
    return tuple(_parse_assertion(piece) for piece in _split(text, "+"))


def _parse_assertion(text: str) -> tuple[str, bytes]:
    kind, sign, raw = text.partition("=")
    kind = kind.strip()
    if not sign or not is_attribute_description(kind):
        raise DNError(f"{text!r} is not of the form attribute=value")
    return kind, _parse_value(raw)


def _parse_value(raw: str) -> bytes:
    text = raw.lstrip(" ")
    if text.startswith("#"):
        return _parse_hexadecimal(text.rstrip(" "))
    trimmed = text.rstrip(" ")
    text = text[: len(trimmed) + 1] if _ends_in_escape(trimmed) else trimmed  # an escaped blank counts
    if len(text) > 1 and text.startswith('"') and text.endswith('"'):
        text = text[1:-1]
    if _ends_in_escape(text):
        raise DNError(f"a backslash escapes nothing in {raw!r}")
    try:
        data = text.encode()
    except UnicodeEncodeError as error:  # of a server that sends names that are no UTF-8
        raise DNError(f"{raw!r} is no UTF-8") from error
    return _ESCAPED.sub(lambda found: bytes.fromhex(found[1].decode()) if found[1] else found[2], data)


def _ends_in_escape(text: str) -> bool:
    """Whether the last backslash waits for what it escapes: one that another one escapes does not."""
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _parse_hexadecimal(text: str) -> bytes:
    """The content of the BER element that `#xxxx` writes."""
    try:
        data = bytes.fromhex(text[1:])
        _, start, stop = ber.read_header(data, 0, len(data))
    except ValueError as error:
        raise DNError(f"{text!r} is no hexadecimal value") from error
    return data[start:stop]


def _render_value(value: bytes) -> str:
    try:
        return escape_attribute_value(value.decode())
    except UnicodeDecodeError:
        return "#" + ber.write_octets(value).hex()
