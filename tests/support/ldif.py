"""LDIF (RFC 2849) as the tests' own files write it: entries, no changes, no URLs."""

from __future__ import annotations

import base64
from pathlib import Path

from bridge.demo.store import Store
from tests.support.slapd import Entry


def read_ldif(file: Path) -> list[Entry]:
    """The entries of a file in their order."""
    entries: list[Entry] = []
    for block in file.read_text("utf-8").split("\n\n"):
        lines = [line for line in block.replace("\n ", "").splitlines() if line and not line.startswith("#")]
        values = [_parse(line) for line in lines]
        if not values:
            continue
        (kind, dn), *rest = values
        assert kind == "dn", f"{file}: {lines[0]!r} begins no entry"
        attributes: dict[str, list[str | bytes]] = {}
        for name, value in rest:
            attributes.setdefault(name, []).append(value)
        entries.append((str(dn), attributes))
    return entries


def load_store(file: Path) -> Store:
    """The entries of a file, below its first one."""
    entries = read_ldif(file)
    store = Store(entries[0][0])
    for dn, attributes in entries:
        store.add(dn, attributes)
    return store


def _parse(line: str) -> tuple[str, str | bytes]:
    name, _, value = line.partition(":")
    if value.startswith(":"):
        return name, base64.b64decode(value[1:].strip(), validate=True)
    return name, value.strip()
