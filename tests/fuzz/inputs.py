"""Inputs taken apart: what a target is made of beside its one text.

Plain notations, so that a file of the corpus can be read and written by hand.
"""

from __future__ import annotations

from bridge.directory import Entry


def split_off(data: bytes, count: int) -> tuple[bytes, bytes]:
    """The first octets, as many as `count` with zeros where there are fewer, and the rest."""
    return data[:count].ljust(count, b"\0"), data[count:]


def text_of(data: bytes) -> str:
    """The octets as names from a directory are decoded: what is no UTF-8 is kept as surrogates."""
    return data.decode("utf-8", "surrogateescape")


def said_of(data: bytes) -> str:
    """The octets as a server's words for people are decoded."""
    return data.decode("utf-8", "replace").rstrip("\0")


def strict_text_of(data: bytes) -> str | None:
    """The text, or None for what is no UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return None


def cut(data: bytes, places: bytes) -> list[bytes]:
    """The data in as many pieces as `places` says and one more; each octet is the length of a piece, which may be 0."""
    pieces, position = [], 0
    for length in places:
        pieces.append(data[position : position + length])
        position += length
    return [*pieces, data[position:]]


def entries_of(data: bytes) -> list[Entry]:
    """Entries apart by an empty line: the DN in the first, then lines of a description and its values, with tabs."""
    return [_entry_of(block) for block in data.split(b"\n\n")]


def _entry_of(block: bytes) -> Entry:
    dn, *lines = block.split(b"\n")
    attributes: dict[str, list[bytes]] = {}
    for line in lines:
        name, *values = line.split(b"\t")
        attributes.setdefault(name.decode("ascii", "ignore").lower(), []).extend(values)
    return Entry(text_of(dn), attributes)
