"""E-mail addresses that more than one user lists: legitimate, and worth a line in the report."""

from __future__ import annotations

from array import array
from itertools import pairwise
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.roster.roster import Roster


def find_shared_addresses(roster: Roster) -> tuple[str, ...]:
    """The addresses in lower case that several users list, sorted.

    What is kept meanwhile is a number for each address, not the address: a hundred thousand take 4 MB.
    """
    numbers = array("q", (hash(address) for address in _addresses(roster)))
    repeated = {one for one, next_one in pairwise(sorted(numbers)) if one == next_one}
    if not repeated:
        return ()
    seen: set[str] = set()
    shared: set[str] = set()
    for address in _addresses(roster):
        if hash(address) in repeated:
            (shared if address in seen else seen).add(address)
    return tuple(sorted(shared))


def _addresses(roster: Roster) -> Iterator[str]:
    """Each address of each user, once for each user, in lower case."""
    for position in range(len(roster)):
        for address in orjson.loads(roster.json_of(position)).get("emailAddresses", ()):
            yield address.lower()
