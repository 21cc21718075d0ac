from __future__ import annotations

from collections import Counter

import pytest

from bridge.events import ConnectionDropped, DropsCounted, Event
from bridge.web.limits import WebLimits
from bridge.web.places import Place, Places, Pool, standing_at, trust_caller


class Caller:
    """Who has a place, as the test wants it; it goes when it is told to."""

    def __init__(self, place: Place, *, is_idle: bool, is_awaited: bool) -> None:
        self.place, self.is_idle, self.is_awaited = place, is_idle, is_awaited
        self.is_gone = False
        place.occupant = self

    def abort(self) -> None:
        self.is_gone = True


def come(
    pool: Pool, remote: str | None = "192.0.2.1", *, is_idle: bool = True, is_awaited: bool = True
) -> Caller | None:
    place = pool.admit(remote)
    return None if place is None else Caller(place, is_idle=is_idle, is_awaited=is_awaited)


def work(pool: Pool, remote: str | None = "192.0.2.1") -> Caller | None:
    """A caller that is being answered."""
    return come(pool, remote, is_idle=False, is_awaited=False)


def make_places(total: int = 8, per_address: int = 8, descriptors: int | None = None) -> tuple[Places, list[Event]]:
    events: list[Event] = []
    limits = WebLimits(connection_count=total, connection_per_address_count=per_address)
    return Places(limits, events.append, descriptors), events


def dropped(events: list[Event]) -> Counter[str]:
    return Counter(event.reason for event in events if isinstance(event, ConnectionDropped))


async def test_oldest_idle_one_of_the_busiest_address_goes_first() -> None:
    """Not the oldest of all, and not one that is being answered."""
    places, events = make_places()
    pool = places.make_pool("server")
    other = come(pool, "192.0.2.9")
    busy = work(pool)
    held = [come(pool) for _ in range(6)]
    assert come(pool, "192.0.2.5") is not None
    assert [caller.is_gone for caller in held if caller] == [True] + [False] * 5
    assert other
    assert busy
    assert not other.is_gone
    assert not busy.is_gone
    assert dropped(events) == {"displaced": 1}


async def test_caller_who_keeps_us_waiting_goes_where_nobody_is_idle() -> None:
    """A request that doesn't end, or an answer that isn't taken, holds no place for ever."""
    places, _ = make_places(total=3)
    pool = places.make_pool("server")
    first, slow = work(pool), come(pool, is_idle=False)
    idle = come(pool)
    assert work(pool)
    assert idle
    assert idle.is_gone
    assert slow
    assert not slow.is_gone
    assert work(pool)
    assert slow.is_gone
    assert first
    assert not first.is_gone


async def test_callers_with_credentials_stay() -> None:
    """However idle they are; the new one is refused, and comes when there is room."""
    places, events = make_places(total=2)
    pool = places.make_pool("server")
    held = [come(pool), come(pool)]
    for caller in held:
        assert caller
        with standing_at(caller.place):
            trust_caller()
    trust_caller()  # outside of any connection it means nothing
    assert come(pool, "192.0.2.5") is None
    assert dropped(events) == {"full": 1}
    assert held[0]
    held[0].place.leave()
    held[0].place.leave()
    assert come(pool, "192.0.2.5") is not None


@pytest.mark.parametrize(
    ("addresses", "is_one"),
    [
        (["192.0.2.1", "192.0.2.1"], True),
        (["192.0.2.1", "::ffff:192.0.2.1"], True),
        (["192.0.2.1", "192.0.2.2"], False),
        (["2001:db8::1", "2001:db8::ffff:2"], True),
        (["fe80::1%1", "fe80::2%1"], True),
        (["2001:db8::1", "2001:db8:0:1::1"], False),
        ([None, None], False),
    ],
)
async def test_one_address_can_not_have_all(addresses: list[str | None], is_one: bool) -> None:
    """A subscriber's IPv6 network counts as one; Unix sockets are bounded by the whole alone."""
    places, events = make_places(per_address=1)
    pool = places.make_pool("server")
    assert work(pool, addresses[0])
    assert (work(pool, addresses[1]) is None) is is_one
    assert dropped(events) == ({"address": 1} if is_one else {})


async def test_reserved_places_are_there_whatever_others_do() -> None:
    """Callers at work at one listener, from the same address even, leave some to the admin listener."""
    places, _ = make_places(total=16, per_address=16)
    server, admin = places.make_pool("server"), places.make_pool("admin", is_reserved=True)
    assert [work(server) is not None for _ in range(16)] == [True] * 14 + [False] * 2
    assert [work(admin) is not None for _ in range(3)] == [True, True, False]


async def test_what_is_reserved_is_not_taken_for_others() -> None:
    """To close a reserved connection would make no room, so that it stays; one beyond goes."""
    places, _ = make_places(total=16)
    server, admin = places.make_pool("server"), places.make_pool("admin", is_reserved=True)
    watchers = [come(admin, "192.0.2.7") for _ in range(3)]
    assert all(work(server, f"192.0.2.{number}") for number in range(13))
    assert work(server, "192.0.2.99")
    assert [watcher.is_gone for watcher in watchers if watcher] == [True, False, False]
    assert work(server, "192.0.2.98") is None


@pytest.mark.parametrize(
    ("descriptor_count", "room_count"), [(None, 1000), (20000, 1000), (1024, 824), (256, 64), (100, 25)]
)
async def test_bound_lies_below_the_limit_of_descriptors(descriptor_count: int | None, room_count: int) -> None:
    """Directories, state and log need some, too; three of four may come from one address."""
    places, events = make_places(1000, 750, descriptor_count)
    pool = places.make_pool("server")
    assert sum(work(pool, f"2001:db8:0:{number}::1") is not None for number in range(1001)) == room_count
    assert dropped(events)["full"] == 1001 - room_count
    places, _ = make_places(1000, 750, descriptor_count)
    pool = places.make_pool("server")
    assert sum(work(pool) is not None for _ in range(1001)) == room_count * 3 // 4


async def test_flood_is_one_line_at_once_and_one_with_its_count() -> None:
    """The first is told when it comes, the rest together; what was not told yet is told at the end."""
    places, events = make_places(total=1)
    pool = places.make_pool("server")
    assert work(pool, "192.0.2.7")
    for _ in range(1000):
        assert work(pool) is None
    pool.drop("handshake")
    pool.drop("gone")
    places.drops.flush()
    told = [event for event in events if isinstance(event, DropsCounted)]
    assert [event.counts for event in told] == [
        (("server", "full", 1),),
        (("server", "handshake", 1),),
        (("server", "full", 999),),
    ]
    assert [event.are_limits for event in told] == [True, False, True]
    assert told[0].busiest_address == "192.0.2.7"
    assert dropped(events) == {"full": 1000, "handshake": 1, "gone": 1}
