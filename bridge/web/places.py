"""Who may have a connection: a bound for all listeners together, one for each address, and who goes when it is reached.

A connection that waits for its caller, and on which nobody has shown credentials, goes in favour of a new one: the
oldest of the address that has most of them. Callers with credentials, and those who are being answered, stay.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from ipaddress import IPv6Address, ip_network
from typing import TYPE_CHECKING, Protocol

from bridge.web.addresses import SITE_BITS, UNIX, parse_address
from bridge.web.drops import ADDRESS, DISPLACED, FULL, Drops

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bridge.events import Event, Observer
    from bridge.web.limits import WebLimits

_OTHER_DESCRIPTORS_COUNT = 200
"""Kept for directories, state, files and logs."""
_RESERVED_COUNT = 32
_RESERVED_SHARE = 8
"""At most one place of so many is reserved for a listener."""


class Occupant(Protocol):
    """Who has a place: a caller before its first request, or the connection that answers requests."""

    @property
    def is_idle(self) -> bool:
        """Nothing of a request is here."""

    @property
    def is_awaited(self) -> bool:
        """The caller is waited for: it has not sent all of its request, or not taken the answer."""

    def abort(self) -> None:
        """Close the connection at once."""


class Place:
    """One connection that was admitted."""

    __slots__ = ("_group", "is_held", "occupant", "pool")

    def __init__(self, pool: Pool, group: _Group) -> None:
        self.pool, self._group = pool, group
        self.is_held = True
        """False once somebody else may have it; the connection is closed then, or will be at once."""
        self.occupant: Occupant | None = None
        pool.count += 1
        group.count += 1
        group.strangers[self] = None

    @property
    def is_of_unix(self) -> bool:
        """The caller came through a Unix socket."""
        return self._group.key == UNIX

    def trust(self) -> None:
        """Keep this connection, whoever comes: its caller has shown credentials."""
        self._group.strangers.pop(self, None)

    def leave(self, reason: str | None = None) -> None:
        """The connection is gone, or as good as gone; `reason` is counted. A second call changes nothing."""
        if not self.is_held:
            return
        self.is_held = False
        self.occupant = None
        self.pool.count -= 1
        self._group.count -= 1
        self._group.strangers.pop(self, None)
        self.pool.places.forget_if_empty(self._group)
        if reason is not None:
            self.pool.drop(reason)


class _Group:
    """The connections of one address; its neighbours under IPv6 are one with it."""

    __slots__ = ("count", "key", "strangers")

    def __init__(self, key: str) -> None:
        self.key, self.count = key, 0
        self.strangers: dict[Place, None] = {}
        """Those without credentials, the oldest first."""


class Pool:
    """The connections of one listener; `reserved_count` of the places are its own, whatever others do."""

    def __init__(self, places: Places, name: str, reserved_count: int) -> None:
        self.places, self.name, self.reserved_count = places, name, reserved_count
        self.count = 0

    def admit(self, remote: str | None) -> Place | None:
        """A place for a caller at this address (None: a Unix socket); None where it is refused, which is counted."""
        return self.places.admit(self, remote)

    def drop(self, reason: str) -> None:
        """Count a connection that came to nothing."""
        self.places.drops.count(self.name, reason)


class Places:
    """The connections of all listeners of a process."""

    def __init__(self, limits: WebLimits, observe: Observer | None = None, descriptor_count: int | None = None) -> None:
        """`descriptor_count` is the limit of the process, which bounds what the limits say; None: no bound."""
        self._total_count = limits.connection_count
        if descriptor_count is not None:
            room_count = max(descriptor_count - _OTHER_DESCRIPTORS_COUNT, descriptor_count // 4)
            self._total_count = min(self._total_count, room_count)
        scale = self._total_count / max(limits.connection_count, 1)
        self._per_address_count = max(1, int(limits.connection_per_address_count * scale))
        self._pools: list[Pool] = []
        self._groups: dict[str, _Group] = {}
        self.drops = Drops(observe or _ignore, limits.flood_pause_s, self._busiest)

    def make_pool(self, name: str, *, is_reserved: bool = False) -> Pool:
        """The connections of one more listener."""
        reserved_count = min(_RESERVED_COUNT, self._total_count // _RESERVED_SHARE) if is_reserved else 0
        pool = Pool(self, name, reserved_count)
        self._pools.append(pool)
        return pool

    def admit(self, pool: Pool, remote: str | None) -> Place | None:
        """See `Pool.admit`."""
        key = _find_site(remote)
        group = self._groups.get(key)
        if pool.count >= pool.reserved_count:
            if group is not None and key != UNIX and group.count >= self._per_address_count:
                refused = None if self._displace(pool, (group,)) else ADDRESS
            elif sum(max(each.count, each.reserved_count) for each in self._pools) >= self._total_count:
                refused = None if self._displace(pool, self._by_size()) else FULL
            else:
                refused = None
            if refused is not None:
                pool.drop(refused)
                return None
        return Place(pool, self._groups.setdefault(key, group or _Group(key)))

    def forget_if_empty(self, group: _Group) -> None:
        """Keep no address that has no connection."""
        if group.count == 0:
            self._groups.pop(group.key, None)

    def _displace(self, pool: Pool, groups: Iterable[_Group]) -> bool:
        """Close a connection in favour of a new one of `pool`; False where each must stay."""
        victim = _find_victim(pool, tuple(groups))
        if victim is None or victim.occupant is None:
            return False
        occupant = victim.occupant
        victim.leave(DISPLACED)
        occupant.abort()
        return True

    def _by_size(self) -> list[_Group]:
        return sorted(self._groups.values(), key=lambda group: len(group.strangers), reverse=True)

    def _busiest(self) -> tuple[str, int]:
        found = max(self._groups.values(), key=lambda group: group.count, default=None)
        return (found.key, found.count) if found is not None else ("", 0)


_current: ContextVar[Place | None] = ContextVar("place", default=None)


@contextmanager
def standing_at(place: Place) -> Iterator[None]:
    """Tasks that are begun inside belong to this connection."""
    token = _current.set(place)
    try:
        yield
    finally:
        _current.reset(token)


def trust_caller() -> None:
    """Credentials were accepted on the connection whose request is being answered."""
    place = _current.get()
    if place is not None:
        place.trust()


def _find_victim(pool: Pool, groups: tuple[_Group, ...]) -> Place | None:
    """The connection that goes first. What is reserved for another listener would make no room."""
    for must_be_idle in (True, False):
        for group in groups:
            for place in group.strangers:
                occupant = place.occupant
                if place.pool is not pool and place.pool.count <= place.pool.reserved_count:
                    continue
                if occupant is not None and (occupant.is_idle if must_be_idle else occupant.is_awaited):
                    return place
    return None


def _find_site(remote: str | None) -> str:
    if remote is None:
        return UNIX
    address = parse_address(remote.partition("%")[0])
    if isinstance(address, IPv6Address):
        return str(ip_network((int(address), SITE_BITS), strict=False))
    return str(address)


def _ignore(_event: Event) -> None:
    """Nobody watches."""
