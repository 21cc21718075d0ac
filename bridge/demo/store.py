"""Entries in memory, found by DN and by the values that look-ups ask for."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bridge.demo.matching import fold, matches
from bridge.syntax.dn import DNError, normalize_dn
from bridge.syntax.filters import And, Equal

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bridge.syntax.filters import Filter

_INDEXED = ("uid", "mail", "entryuuid")
OPERATIONAL = frozenset(("entryuuid", "pwdaccountlockedtime", "createtimestamp"))
"""Given only to those who ask for them by name or by `+` (RFC 4512 §3.4)."""


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry; `names` gives the spelling of each attribute."""

    dn: str
    path: tuple[object, ...]
    attributes: Mapping[str, Sequence[bytes]]
    names: Mapping[str, str]


class Store:
    """Entries in the order in which they were added."""

    def __init__(self, base: str) -> None:
        self.base = base
        self._entries: list[StoredEntry] = []
        self._by_path: dict[tuple[object, ...], StoredEntry] = {}
        self._index: dict[tuple[str, str], list[StoredEntry]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, dn: str, attributes: Mapping[str, Sequence[str | bytes]]) -> None:
        """Adds an entry, with an entryUUID made of its DN. Raises `ValueError` where it stands there already."""
        path = normalize_dn(dn)
        if path in self._by_path:
            raise ValueError(f"{dn} stands there already")
        named: dict[str, Sequence[str | bytes]] = {**attributes}
        if "entryuuid" not in map(str.lower, named):
            named["entryUUID"] = [str(uuid.uuid5(uuid.NAMESPACE_X500, dn))]
        values = {name.lower(): list(map(_to_bytes, found)) for name, found in named.items()}
        entry = StoredEntry(dn, path, values, {name.lower(): name for name in named})
        self._entries.append(entry)
        self._by_path[path] = entry
        for name in _INDEXED:
            for value in values.get(name, ()):
                self._index.setdefault((name, fold(value)), []).append(entry)

    def find(self, dn: str) -> StoredEntry | None:
        """The entry of that name, or None."""
        try:
            return self._by_path.get(normalize_dn(dn))
        except DNError:
            return None

    def search(self, base: StoredEntry, scope: int, tree: Filter) -> Iterator[StoredEntry]:
        """The entries that match, in the order in which they were added, found one at a time."""
        for entry in self._candidates(base, scope, tree):
            depth = len(entry.path) - len(base.path)
            if depth < 0 or entry.path[depth:] != base.path or (scope == 1 and depth != 1):
                continue
            if matches(tree, entry.attributes):
                yield entry

    def _candidates(self, base: StoredEntry, scope: int, tree: Filter) -> Sequence[StoredEntry]:
        """All that may match; few, where the filter asks for one value that is indexed."""
        if scope == 0:
            return (base,)
        parts = tree.parts if isinstance(tree, And) else (tree,)
        for part in parts:
            if isinstance(part, And):
                found = self._candidates(base, scope, part)
                if found is not self._entries:
                    return found
            if isinstance(part, Equal) and part.attribute.lower() in _INDEXED:
                return self._index.get((part.attribute.lower(), fold(part.value)), ())
        return self._entries


def _to_bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value
