"""What happens in a storm: to the servers, to the ways to them, and to the people in them."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Sequence
from itertools import count
from typing import Any

from tests.storm.people import Change, Person
from tests.storm.world import CONSUMER, PROVIDER, World
from tests.support.ldap_proxy import LdapProxy
from tests.support.slapd import READER, person

Event = Callable[[float], Coroutine[Any, Any, None]]

_GUESTS_COUNT = 12
"""So many are there at once."""


class Faults:
    """What breaks, for so many seconds each time."""

    def __init__(self, world: World) -> None:
        self._world, self._random = world, world.random
        self.script: tuple[Event, ...] = (
            self.slow,
            self.first_hangs,
            self.cut,
            self.both_hang,
            self.provider_is_killed,
            self.binds_are_unanswered,
            self.consumer_is_killed,
            self.down,
            self.provider_restarts,
            self.busy,
            self.both_are_killed,
        )
        """In this order at first, so that a short storm has all of them."""

    async def slow(self, seconds: float) -> None:
        """Answers come late."""
        for proxy in self._world.proxies:
            proxy.delay(self._random.uniform(0.2, 0.9))
        await self._heal_after(seconds)

    async def first_hangs(self, seconds: float) -> None:
        """The way to the first server is a black hole, for old connections and new ones."""
        self._world.proxies[0].black_hole(self._random.choice(("existing", "all")))
        await self._heal_after(seconds)

    async def both_hang(self, seconds: float) -> None:
        """Nothing gets through to either."""
        for proxy in self._world.proxies:
            proxy.black_hole()
        await self._heal_after(seconds)

    async def cut(self, seconds: float) -> None:
        """Connections end again and again, wherever they are, while answers are late enough to be lost by it."""
        for proxy in self._world.proxies:
            proxy.delay(self._random.uniform(0.02, 0.2))
        ends_s = time.monotonic() + seconds
        while time.monotonic() < ends_s:
            for proxy in self._some_proxies():
                proxy.close_existing(rst=self._random.random() < 0.5)
            await asyncio.sleep(self._random.uniform(0.1, 0.5))
        await self._heal_after(0)

    async def down(self, seconds: float) -> None:
        """Neither server takes connections, and all end."""
        for proxy in self._world.proxies:
            proxy.stop_listening()
            proxy.close_existing(rst=False)
        await self._heal_after(seconds)

    async def binds_are_unanswered(self, seconds: float) -> None:
        """Servers judge passwords, and what they say is lost."""
        for proxy in self._some_proxies():
            proxy.swallow_binds(only=lambda dn: dn != READER)
        await self._heal_after(seconds)

    async def busy(self, seconds: float) -> None:
        """Servers have too much to do (RFC 4511 Appendix A.2: 51)."""
        for proxy in self._some_proxies():
            proxy.answer_searches(51, entries=self._random.random() < 0.5)
        await self._heal_after(seconds)

    async def provider_is_killed(self, seconds: float) -> None:
        """SIGKILL for the provider, which comes back."""
        await self._kill(seconds, PROVIDER)

    async def consumer_is_killed(self, seconds: float) -> None:
        """SIGKILL for the consumer, which comes back."""
        await self._kill(seconds, CONSUMER)

    async def both_are_killed(self, seconds: float) -> None:
        """SIGKILL for both, which come back."""
        await self._kill(seconds, PROVIDER, CONSUMER)

    async def provider_restarts(self, seconds: float) -> None:
        """The provider ends in good order, and comes back."""
        async with self._world.provider_turn:
            await asyncio.to_thread(self._world.servers[PROVIDER].stop)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(self._world.servers[PROVIDER].start)

    async def _kill(self, seconds: float, *servers: int) -> None:
        async with self._world.provider_turn:
            for server in servers:
                process = self._world.servers[server].process
                assert process is not None
                process.kill()
                await asyncio.to_thread(process.wait)
            await asyncio.sleep(seconds)
            for server in servers:
                await asyncio.to_thread(self._world.servers[server].start)

    async def _heal_after(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        for proxy in self._world.proxies:
            proxy.heal(revive_black_holed=self._random.random() < 0.5)

    def _some_proxies(self) -> Sequence[LdapProxy]:
        return self._random.choice((self._world.proxies, self._world.proxies[:1], self._world.proxies[1:]))


async def break_things(
    world: World,
    choose_fault_s: Callable[[random.Random], float],
    pause_s: float,
    calm_s: float,
    *,
    waits_for_calm: bool,
) -> None:
    """Have one fault after the other until the storm is over: all of them in order, then in any order.

    With `waits_for_calm` each round ends when all is well again, and was for `calm_s`: servers are set aside for
    minutes where they have failed again and again.
    """
    faults = Faults(world)
    await world.pause(calm_s)
    for round_number in count():
        order = list(faults.script)
        if round_number:
            world.random.shuffle(order)
        for event in order:
            if world.is_over.is_set():
                return
            async with world.fault_turn:
                with world.weather.fault():
                    await event(choose_fault_s(world.random))
                world.figures.note_fault(event.__name__, world.process_id)
            await world.pause(world.random.uniform(0.5, 1.5) * pause_s)
        world.has_seen_everything.set()
        while waits_for_calm and not world.weather.is_calm and not await world.pause(1):
            pass
        await world.pause(calm_s if waits_for_calm else 0)


async def change_people(world: World, pause_s: float) -> None:
    """Add somebody and remove somebody, one after the other, until the storm is over."""
    present: list[Person] = []
    while not await world.pause(pause_s):
        if len(present) < _GUESTS_COUNT:
            present.append(await _add(world))
        else:
            await _remove(world, present.pop(world.random.randrange(len(present))))


async def _add(world: World) -> Person:
    async with world.provider_turn:
        who = world.people.add_guest()
        await asyncio.to_thread(world.servers[PROVIDER].add, person(who.uid))
    await _until_both(world, who, is_there=True)
    who.came = Change(who.came.begun_s, time.monotonic())
    world.figures.counts["people added"] += 1
    return who


async def _remove(world: World, who: Person) -> None:
    async with world.provider_turn:
        begun_s = time.monotonic()
        who.left = Change(begun_s, float("inf"))
        await asyncio.to_thread(world.servers[PROVIDER].delete, who.dn)
    await _until_both(world, who, is_there=False)
    who.left = Change(begun_s, time.monotonic())
    world.figures.counts["people removed"] += 1


async def _until_both(world: World, who: Person, *, is_there: bool) -> None:
    """Wait until both servers can be asked, and show somebody or not."""
    for server in (PROVIDER, CONSUMER):
        await world.until_shown(server, who.uid, is_there=is_there)
