"""Everything that lives in these months, and the rules that must hold whatever happens."""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import time
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from tests.conftest import StartSlapd
from tests.months.people import BUDGET_COUNT, CONSUMER, PROVIDER, Person
from tests.months.replicas import Replicas, start_consumer, start_provider
from tests.support.bridges import CALLER, CALLER_PASSWORD, Client, configuration, running_bridge
from tests.support.ldap_messages import Request
from tests.support.ldap_proxy import LdapProxy
from tests.support.manual_clock import ManualClock
from tests.support.slapd import person
from tests.support.waiting import until

SEED = int(os.environ.get("BRIDGE_TEST_SEED") or random.SystemRandom().randrange(2**32))
"""Its lowest bits choose whether slapd says that an account is locked, what is replicated of counts, and who is first."""

_USERS = tuple(f"user{number:02}" for number in range(12))
_UID = re.compile(rb"(?:user|later)\d\d+")
_AUTHORIZATION = f"Basic {b64encode(f'{CALLER}:{CALLER_PASSWORD}'.encode()).decode()}"
_TIMEOUTS = "timeouts: {connect: 700ms, request: 1500ms, listing: 5s}"
_CACHE = "cache: {refresh_ahead: false, ttl: 1s}"
_BUSY_COUNT = 5
_LONGEST_LOGIN_S = 10.0


class World:
    """The bridge, the servers, and the people."""

    def __init__(
        self,
        client: Client,
        session: aiohttp.ClientSession,
        replicas: Replicas,
        proxies: tuple[LdapProxy, LdapProxy],
        relays: tuple[LdapProxy, LdapProxy],
        clock: ManualClock,
    ) -> None:
        """The proxies stand before the provider and the consumer; the relays are another way to these."""
        self.client, self.replicas, self.proxies, self.relays, self.clock = client, replicas, proxies, relays, clock
        self.random = random.Random(SEED)
        self.people = {uid: Person(uid, f"Pass-{uid}") for uid in _USERS}
        self.by_dn = {each.dn: each for each in self.people.values()}
        self.is_disturbed = False
        """Whether something is broken in this round."""
        self.counts: Counter[str] = Counter()
        self.busy: list[Person] = []
        """Who logs in at present."""
        self.listed: set[str] = set()
        """Who was listed ever."""
        self._bound_too_often: list[str] = []
        self._suspects: dict[int, frozenset[int]] = {PROVIDER: frozenset(), CONSUMER: frozenset()}
        """By server, connections that were silent when a bind there was not answered."""
        self._session = session
        self.choose_busy()
        for server, proxy in enumerate(proxies):
            proxy.on_request = lambda request, server=server: self._note(request, server)

    def choose_busy(self) -> None:
        """Others log in from now on; who is new is among them more often."""
        newest = list(self.people.values())[-_BUSY_COUNT:]
        self.busy = self.random.sample(list(self.people.values()), _BUSY_COUNT - 1)
        self.busy.append(self.random.choice([who for who in newest if who not in self.busy]))

    def add(self, who: Person) -> None:
        """Somebody is new."""
        self.people[who.uid] = self.by_dn[who.dn] = who

    def _note(self, request: Request, server: int) -> None:
        """Note each bind of a user, and each question for one."""
        if request.kind == "search":
            uid = _UID.search(request.filter)
            asked = self.people.get(uid.group().decode()) if uid is not None else self.by_dn.get(request.base)
            if asked is not None:
                asked.asked.add(server)
        elif request.kind == "bind" and (bound := self.by_dn.get(request.dn)) is not None:
            self.counts[f"binds at {'the consumer' if server == CONSUMER else 'the provider'}"] += 1
            if not bound.note_bind(server, self.clock.monotonic_s()):
                self._bound_too_often.append(f"{server}: {vars(bound)}")

    async def ask(self, body: str) -> tuple[int, str]:
        """The status and the text of an answer."""
        async with self._session.post("/mailstore", data=body) as answer:
            return answer.status, await answer.text()

    # Logins

    async def log_in(self, who: Person, password: str) -> None:
        """One login, and whether its answer may be."""
        async with who.turn:  # passwords change between two logins of the same user
            who.begin()
            began_s, was_listed = time.monotonic(), who.uid in self.listed
            status, text = await self.ask(f"cmd=auth&user={who.uid}&pass={password}")
            told = f"{who.uid} with {password}: {status} {text}, {vars(who)}"
            assert time.monotonic() - began_s < _LONGEST_LOGIN_S, told
            assert len(who.judges) <= 1, told
            self._judge(who, password, status, text, told, was_listed=was_listed)

    async def fail_at_once(self, who: Person) -> None:
        """Several different wrong passwords at the same time."""
        async with who.turn:
            who.begin()
            bodies = [f"cmd=auth&user={who.uid}&pass=at-once-{self.random.getrandbits(32)}" for _ in range(6)]
            for status, text in await asyncio.gather(*map(self.ask, bodies)):
                told = f"{who.uid}: {status} {text}, {vars(who)}"
                if status == 200:
                    assert not json.loads(text)["succeeded"], told
                else:
                    self._judge_error(who, status, told)
            self._note_doubts(who)

    def _judge(self, who: Person, password: str, status: int, text: str, told: str, *, was_listed: bool) -> None:
        is_right = password == who.now.password
        kind = "right" if is_right else "old" if password in who.old_passwords else "wrong"
        where = f" at {who.judges[0]}" if who.judges else ""
        if status != 200:
            self.counts[f"{kind} {status}"] += 1
            for server in who.judges:
                self._suspects[server] |= self.proxies[server].silent_connections
            self._judge_error(who, status, told)
        elif json.loads(text)["succeeded"]:
            self.counts[f"{kind} accepted{where}"] += 1
            assert who.may_be_accepted(password), told
            who.note_accepted()
            return
        else:
            self.counts[f"{kind} refused{where}"] += 1
            assert not is_right or who.may_be_refused(password, is_listed=was_listed), told
            who.note_refused(password, self.clock.monotonic_s(), is_sure=not self.is_disturbed)
        self._note_doubts(who)

    def _judge_error(self, who: Person, status: int, told: str) -> None:
        assert status == 503 or (status == 502 and self.is_disturbed), told
        assert self.is_disturbed or who.may_be_unknown or self._is_outage(), told

    def _note_doubts(self, who: Person) -> None:
        if self.is_disturbed or not who.is_certain:
            who.may_be_unknown = True
        if self._is_outage():
            for each in self.people.values():
                each.may_be_unknown = True
                each.known_wrong.clear()

    def _is_outage(self) -> bool:
        """Whether many wrong passwords in a row have made the bridge doubt them all."""
        health = self.client.service.bridge.health()
        return any(problem.code == "logins_refused" for each in health.endpoints for problem in each.problems)

    async def check_binds(self) -> None:
        """Nobody was bound too often; where a bind was not answered, no connection is kept that was silent then."""
        assert not self._bound_too_often
        for server, silent in self._suspects.items():
            await until(lambda: not self.proxies[server].silent_connections & silent, timeout_s=5)  # noqa: B023 - it is over before the next one
            self._suspects[server] = frozenset()

    # Listings

    async def list_users(self) -> None:
        """Everybody is listed whom both servers have, or whom one has shown; or nobody is answered."""
        due = {uid for uid, who in self.people.items() if all(state is not None for state in who.possible(CONSUMER))}
        status, text = await self.ask("cmd=list")
        self.counts[f"list {status}"] += 1
        if status != 200:
            assert status in (502, 503), text
            assert self.is_disturbed, text
            return
        names = {user["userName"] for user in json.loads(text)}
        assert self.listed <= names <= self.people.keys(), f"{self.listed - names} are lost"
        assert self.is_disturbed or due <= names, f"{due - names} are not listed"
        self.counts["listed while the consumer lacks them"] += len(names - due)
        self.listed |= names

    # Counters

    async def settle(self) -> None:
        """Wait until the consumer has everything, and have what others have failed there forgotten."""
        await self.replicas.catch_up()
        for who in self.people.values():
            who.first_shown = len(who.states) - 1
            if (who.is_barred_there or who.is_uncleared) and not who.now.is_locked:
                is_free = await asyncio.to_thread(self.replicas.binds, CONSUMER, who.dn, [who.now.password])
                who.is_barred_there = who.is_uncleared = not is_free

    async def pass_time(self, seconds: float) -> None:
        """Time passes for the bridge, and the servers forget what is older than their window."""
        self.clock.advance(seconds)
        over = [who for who in self.people.values() if who.forget_if_over(self.clock.monotonic_s())]
        await asyncio.to_thread(self.replicas.forget, [who.dn for who in over if not who.now.is_locked])
        counts = await asyncio.to_thread(self.replicas.counts, CONSUMER)
        for who in over:
            shown = counts.get(who.uid)
            if shown is None or not shown.failures_count or who.may_be_barred(CONSUMER):
                continue
            # Nobody may write at a consumer; a login by another program has it forget, and a failed one might lock.
            passwords = {state.password for state in who.possible(CONSUMER) if state is not None}
            if len(passwords) > 1:
                who.is_barred_there = who.is_uncleared = True
            else:
                assert await asyncio.to_thread(self.replicas.binds, CONSUMER, who.dn, passwords), vars(who)

    async def check_counters(self) -> None:
        """No server has locked anybody on our account, and each one's counter is below its threshold."""
        for server in (PROVIDER, CONSUMER):
            for uid, shown in (await asyncio.to_thread(self.replicas.counts, server)).items():
                who = self.people[uid]
                if who.may_be_barred(server) or (server == CONSUMER and who.is_uncleared):
                    continue
                told = f"{shown} at {server}: {vars(who)}"
                assert not shown.is_locked, told
                assert shown.failures_count <= BUDGET_COUNT, told

    def new_password(self) -> str:
        """A password that nobody had."""
        return f"Pass-{self.random.getrandbits(32)}"


@asynccontextmanager
async def living_world(start_slapd: StartSlapd, folder: Path) -> AsyncIterator[World]:
    """A bridge before two slapds, each of which can be reached in two ways."""
    says_locked, keeps_count, consumer_is_first = (bool(SEED >> bit & 1) for bit in range(3))
    people = [person(uid) for uid in _USERS]
    provider = start_provider(start_slapd, people, says_locked=says_locked)
    clock = ManualClock(time.time())
    async with AsyncExitStack() as stack:
        link = await stack.enter_async_context(LdapProxy(("127.0.0.1", provider.port)))
        consumer = await start_consumer(start_slapd, link, says_locked=says_locked, keeps_count=keeps_count)
        replicas = Replicas(provider, consumer, link)
        await replicas.catch_up()
        ways = [LdapProxy(("127.0.0.1", server.port)) for server in replicas.servers for _ in range(2)]
        proxies = (await stack.enter_async_context(ways[0]), await stack.enter_async_context(ways[2]))
        relays = (await stack.enter_async_context(ways[1]), await stack.enter_async_context(ways[3]))
        file = configuration(proxies[0].url, folder, directory=_TIMEOUTS, more=_CACHE)
        urls = [f'"{proxy.url}"' for proxy in proxies]
        text = file.read_text().replace(urls[0], ", ".join(reversed(urls) if consumer_is_first else urls))
        file.write_text(text)
        client = await stack.enter_async_context(running_bridge(file, clock))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(
                f"http://127.0.0.1:{client.port}",
                connector=aiohttp.TCPConnector(force_close=True),
                headers={"Authorization": _AUTHORIZATION, "Content-Type": "application/x-www-form-urlencoded"},
            )
        )
        yield World(client, session, replicas, proxies, relays, clock)
