"""Where callers come from: which addresses may ask, and which have shown wrong credentials of late."""

from __future__ import annotations

import ipaddress
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_ADDRESSES_MAX_COUNT = 1000
_FORGIVEN_AFTER_S = 600.0
_DOUBLED_AT_MOST_COUNT = 4
SITE_BITS = 64
"""One subscriber has all of an IPv6 network of this size (RFC 6177 §2), and could show another address each time."""

UNIX = "unix"
"""Stands for whoever comes through a Unix socket, which has no addresses."""


def parse_address(remote: str | None) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address of a client, or None for one that comes through a Unix socket."""
    try:
        found = ipaddress.ip_address(remote or "")
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return mapped or found  # a listener for both versions shows IPv4 as ::ffff:192.0.2.1 (RFC 4291 §2.5.5.2)


class AllowedAddresses:
    """The networks from which an endpoint is asked; who comes through a Unix socket is allowed by name alone."""

    def __init__(self, networks: Sequence[Network], *, unix: bool) -> None:
        self._networks = tuple(networks)
        self._unix = unix

    def allows(self, remote: str | None) -> bool:
        """Whether a client at `remote` may ask."""
        address = parse_address(remote)
        if address is None:
            return self._unix
        return any(address in network for network in self._networks)


@dataclass(slots=True)
class Trouble:
    """What one address has done of late."""

    wrong_count: int = 0
    last_s: float = 0.0
    waiting_count: int = 0
    hashing_count: int = 0


class Troublemakers:
    """Addresses that have shown wrong credentials, the last ones; each has a count of its own."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._troubles: OrderedDict[str, Trouble] = OrderedDict()

    def __len__(self) -> int:
        return len(self._troubles)

    def of(self, remote: str | None) -> Trouble:
        """What is known of the address from which a client came; its neighbours under IPv6 are one with it."""
        address = parse_address(remote)
        key = UNIX if address is None else str(address)
        if isinstance(address, ipaddress.IPv6Address):
            key = str(ipaddress.ip_network((int(address), SITE_BITS), strict=False))
        trouble = self._troubles.get(key)
        if trouble is None:
            trouble = self._troubles[key] = Trouble()
            if len(self._troubles) > _ADDRESSES_MAX_COUNT:
                self._troubles.popitem(last=False)
        self._troubles.move_to_end(key)
        return trouble

    def doublings(self, trouble: Trouble) -> int:
        """How often the pause is doubled for one more wrong try, which is counted by this."""
        now_s = self._clock()
        if now_s - trouble.last_s >= _FORGIVEN_AFTER_S:
            trouble.wrong_count = 0
        trouble.last_s = now_s
        trouble.wrong_count += 1
        return min(trouble.wrong_count - 1, _DOUBLED_AT_MOST_COUNT)
