"""What happens in these months: to accounts, to servers, to the ways between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from tests.months.people import CONSUMER, PROVIDER, Person, State
from tests.months.world import World
from tests.support.ldap_proxy import LdapProxy, Which
from tests.support.slapd import READER, person

Event = Callable[[], Coroutine[Any, Any, None]]

_BETWEEN_CHANGES_S = 1.2
"""pwdChangedTime is in whole seconds: two passwords of one second look like one."""


class AccountEvents:
    """What people and administrators do, and other programs."""

    def __init__(self, world: World) -> None:
        self._world, self._replicas, self._random = world, world.replicas, world.random

    async def lock(self, who: Person) -> None:
        """Another program fails at the provider until the account is locked, there and at the consumer."""
        async with who.turn:
            who.change(State(who.now.password, is_locked=True))
            who.is_uncleared = True
            await asyncio.to_thread(self._replicas.lock, PROVIDER, who.dn)

    async def lock_there(self, who: Person) -> None:
        """Another program fails at the consumer, which locks the account for itself alone."""
        async with who.turn:
            who.is_barred_there = who.is_uncleared = True
            who.known_wrong.clear()
            await asyncio.to_thread(self._replicas.lock, CONSUMER, who.dn)

    async def unlock(self, who: Person) -> None:
        """An administrator lets the user in again, which has the provider forget the failures."""
        async with who.turn:
            if who.now.is_locked:
                who.change(State(who.now.password))
                deletion = f"dn: {who.dn}\nchangetype: modify\ndelete: pwdAccountLockedTime\n"
                await asyncio.to_thread(self._replicas.provider.modify, deletion)
            else:  # any change of the entry replaces that of the consumer
                who.signs_count += 1
                touched = f"touched at {time.monotonic()}"
                await asyncio.to_thread(self._replicas.provider.replace, [who.dn], "description", touched)

    async def change_password(self, who: Person) -> None:
        """The user sets another password, and a mail program goes on with the old one."""
        async with who.turn:
            if time.monotonic() - who.changed_s < _BETWEEN_CHANGES_S:
                return
            who.changed_s = time.monotonic()
            who.change(State(self._world.new_password()))  # slapo-ppolicy(5): it ends a lock
            await asyncio.to_thread(self._replicas.provider.replace, [who.dn], "userPassword", who.now.password)

    async def create(self) -> None:
        """Somebody is new at the provider."""
        password = self._world.new_password()
        who = Person(f"later{len(self._world.people):03}", password, is_new=True)
        async with who.turn:
            who.last_shown = 0 if self._replicas.is_held else None
            self._world.add(who)
            await asyncio.to_thread(self._replicas.provider.add, person(who.uid, userPassword=[password]))
        self._world.counts["created while the consumer lags"] += self._replicas.is_held


class ServerEvents:
    """What breaks, moves and comes back. Everything but `replication` and `be_well` disturbs the bridge."""

    def __init__(self, world: World) -> None:
        self._world, self._replicas, self._random = world, world.replicas, world.random
        self.restarts: dict[Event, str] = {
            self.restart_provider: "restarts of the provider",
            self.restart_consumer: "restarts of the consumer",
            self.restart_way_to_provider: "restarts of the way to the provider",
            self.restart_way_to_consumer: "restarts of the way to the consumer",
        }
        self.faults: tuple[Event, ...] = (
            self.hang,
            self.lag,
            self.answer_no_binds,
            self.answer_no_binds,
            self.lose_sessions,
            self.break_off,
            self.move,
        )

    # Restarts

    def server_restarts_count(self) -> int:
        """Without those of the ways to the servers."""
        return sum(self._world.counts[self.restarts[each]] for each in (self.restart_provider, self.restart_consumer))

    def rarest_restart(self) -> Event:
        """What was restarted least often by now."""
        return min(self.restarts, key=lambda event: self._world.counts[self.restarts[event]])

    async def _restart(self, server: int) -> None:
        slapd = self._replicas.servers[server]
        await asyncio.to_thread(slapd.stop)
        await asyncio.to_thread(slapd.start)

    async def restart_provider(self) -> None:
        await self._restart(PROVIDER)
        self._world.counts[self.restarts[self.restart_provider]] += 1

    async def restart_consumer(self) -> None:
        await self._restart(CONSUMER)
        self._world.counts[self.restarts[self.restart_consumer]] += 1

    async def _restart_way(self, server: int) -> None:
        proxy = self._world.proxies[server]
        proxy.stop_listening()
        proxy.close_existing(rst=self._random.random() < 0.5)
        await asyncio.sleep(0)
        proxy.listen_again()

    async def restart_way_to_provider(self) -> None:
        await self._restart_way(PROVIDER)
        self._world.counts[self.restarts[self.restart_way_to_provider]] += 1

    async def restart_way_to_consumer(self) -> None:
        await self._restart_way(CONSUMER)
        self._world.counts[self.restarts[self.restart_way_to_consumer]] += 1

    # Faults

    def _which(self) -> Which:
        return self._random.choice(("existing", "new", "all"))

    def _some_proxy(self) -> LdapProxy:
        """Mostly the one before the provider while the consumer lags, so that this one is asked."""
        provider, consumer = self._world.proxies
        return provider if self._random.random() < (0.8 if self._replicas.is_held else 0.5) else consumer

    def _some_proxies(self) -> tuple[LdapProxy, ...]:
        return self._world.proxies if self._random.random() < 0.3 else (self._some_proxy(),)

    async def hang(self) -> None:
        for proxy in self._some_proxies():
            proxy.black_hole(self._which())

    async def lag(self) -> None:
        self._some_proxy().delay(self._random.uniform(0.05, 1.2))

    async def answer_no_binds(self) -> None:
        for proxy in self._some_proxies():
            keep = self._random.choice((proxy.swallow_binds, proxy.drop_binds))
            keep(only=lambda dn: dn != READER, which=self._random.choice(("existing", "all")))

    async def lose_sessions(self) -> None:
        code = self._random.choice((0, 1, 3, 8, 11, 50, 51, 52, 53, 80))
        self._some_proxy().answer_searches(code, which=self._which())

    async def break_off(self) -> None:
        proxy = self._some_proxy()
        self._random.choice((proxy.send_notice, proxy.garbage))()

    async def move(self) -> None:
        """A name leads elsewhere; connections to the old place stay as they are, or fall silent."""
        server = self._random.choice((PROVIDER, CONSUMER))
        proxy, places = (
            self._world.proxies[server],
            (self._replicas.servers[server].port, self._world.relays[server].port),
        )
        proxy.target = ("127.0.0.1", places[proxy.target[1] == places[0]])
        if self._random.random() < 0.5:
            proxy.black_hole("existing")

    async def be_well(self) -> None:
        """Nothing happens."""

    # Replication

    async def hold(self) -> None:
        """The consumer hears of no change any more."""
        self._replicas.hold(cut=self._random.random() < 0.5)
        for who in self._world.people.values():
            who.last_shown = len(who.states) - 1

    async def let_go(self) -> None:
        """The consumer hears what it has missed, while people log in."""
        for who in self._world.people.values():
            who.last_shown = None
        self._replicas.let_go()

    def heal(self, *, revives: bool | None = None) -> None:
        """End what is broken between the bridge and the servers; what has fallen silent may stay so."""
        for proxy in self._world.proxies:
            proxy.heal(revive_black_holed=self._random.random() < 0.5 if revives is None else revives)
            proxy.requests.clear()
        for relay in self._world.relays:
            relay.requests.clear()
