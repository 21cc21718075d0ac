"""Which directories have the same accounts, since they name the same server: a lock-out is one for all of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bridge.config.directories import DirectorySection

_USUAL_PORTS = frozenset((389, 636, 3268, 3269))
"""LDAP, LDAP over TLS, and the same two of Active Directory's global catalogue: one server at all of them."""


def find_realms(sections: Sequence[DirectorySection]) -> dict[str, str]:
    """The first directory of those that name the same server and the same id attribute, by the name of each other one.

    Directories with accounts of their own are left out. Where ids are made of other attributes, nobody can tell which
    users are the same.
    """
    found: dict[str, str] = {}
    for position, section in enumerate(sections):
        for earlier in sections[:position]:
            has_same_ids = earlier.attribute_map.id_attribute == section.attribute_map.id_attribute
            if has_same_ids and not set(_places(earlier)).isdisjoint(_places(section)):
                found[section.name] = found.get(earlier.name, earlier.name)
                break
    return found


def _places(section: DirectorySection) -> Iterator[tuple[str, int]]:
    """Where its accounts are: hosts with their ports, or the domain whose DNS names them."""
    for server in section.servers:
        yield server.host, 0 if server.port in _USUAL_PORTS else server.port
    if section.discover is not None:
        yield section.discover.domain, -1
