"""Attributes that come in pieces: Active Directory sends long ones in ranges of values (MS-ADTS §3.1.1.3.1.3.3)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bridge.directory import Entry, Scope, SearchRequest
from bridge.errors import SearchIncomplete
from bridge.ldap.results import SUCCESS, search_error
from bridge.syntax.filters import Present

if TYPE_CHECKING:
    from bridge.ldap.connection import Connection
    from bridge.ldap.settings import Limits

_RANGE = re.compile(r"(?P<attribute>.+);range=(?P<first>\d+)-(?P<last>\d+|\*)")


async def complete_ranges(entries: list[Entry], connection: Connection, limits: Limits) -> list[Entry]:
    """The entries with every value of their attributes; themselves where nothing came in ranges.

    Raises `SearchIncomplete` where the server doesn't hand out what is missing.
    """
    if not connection.has_ranges:
        return entries
    return [await _complete(entry, connection, limits) for entry in entries]


async def _complete(entry: Entry, connection: Connection, limits: Limits) -> Entry:
    found = [(name, match) for name in entry.attributes if (match := _RANGE.fullmatch(name))]
    if not found:
        return entry
    attributes = {name: values for name, values in entry.attributes.items() if not _RANGE.fullmatch(name)}
    for name, match in found:
        rest = await _read_rest(entry.dn, match, connection, limits)
        attributes[match["attribute"]] = [*entry.attributes[name], *rest]
    return Entry(entry.dn, attributes)


async def _read_rest(dn: str, match: re.Match[str], connection: Connection, limits: Limits) -> list[bytes]:
    """The values behind the range that `match` describes."""
    attribute, values = match["attribute"], list[bytes]()
    for _ in range(limits.range_count):
        if match["last"] == "*":
            return values
        following = int(match["last"]) + 1
        name, piece = await _read_range(dn, f"{attribute};range={following}-*", connection)
        next_match = _RANGE.fullmatch(name)
        if next_match is None or next_match["attribute"] != attribute or int(next_match["first"]) != following:
            break
        values += piece
        match = next_match
    raise _incomplete(connection, f"the values of {attribute} of {dn!r} did not all come")


async def _read_range(dn: str, wanted: str, connection: Connection) -> tuple[str, list[bytes]]:
    search = SearchRequest(dn, Scope.BASE, Present("objectClass"), (wanted,))
    exchange = connection.send_search(search)
    response = await connection.wait(exchange)
    if response.result_code != SUCCESS:
        raise search_error(response, connection.peer, dn)
    for entry in exchange.entries:
        for name, values in entry.attributes.items():
            if _RANGE.fullmatch(name):
                return name, list(values)
    raise _incomplete(connection, f"{wanted} of {dn!r} was asked for and did not come")


def _incomplete(connection: Connection, detail: str) -> SearchIncomplete:
    peer = connection.peer
    return SearchIncomplete(detail, directory=peer.directory, server=peer.server, remedy="Look into the server's log.")
