"""Months in minutes: a whole bridge before a real slapd that locks accounts, and everything that happens to them.

Time passes by the bridge's clock alone. Two addresses lead to one slapd, so that its own counter holds what both have
bound; connections age, names move, servers restart, hang, lag, lose sessions and return, accounts lock and unlock,
passwords change, and programs repeat old ones all the while.

`BRIDGE_TEST_MONTHS_S` is how many seconds it goes on, `BRIDGE_TEST_SEED` repeats the choices of a run.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import time
from base64 import b64encode
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from bridge.ldap.directory import LdapDirectory
from tests.conftest import StartSlapd
from tests.support.bridges import CALLER, CALLER_PASSWORD, Client, configuration, running_bridge
from tests.support.ldap_messages import Request
from tests.support.ldap_proxy import LdapProxy, Which
from tests.support.manual_clock import ManualClock
from tests.support.slapd import BASE, PEOPLE, READER, Slapd, person
from tests.support.waiting import until

LENGTH_S = float(os.environ.get("BRIDGE_TEST_MONTHS_S", "60"))
SEED = int(os.environ.get("BRIDGE_TEST_SEED") or random.SystemRandom().randrange(2**32))

pytestmark = [pytest.mark.slapd, pytest.mark.timeout(LENGTH_S * 2 + 120)]

POLICIES = f"ou=policies,{BASE}"
THRESHOLD_COUNT, BUDGET_COUNT, WINDOW_S = 5, 4, 1800.0
RESTARTS_COUNT = 20
LOGINS_COUNT = 10
"""In each round, at once."""
BUSY_COUNT = 5
USERS = tuple(f"user{number}" for number in range(12))
AUTHORIZATION = f"Basic {b64encode(f'{CALLER}:{CALLER_PASSWORD}'.encode()).decode()}"
TIMEOUTS = "timeouts: {connect: 700ms, request: 1500ms, listing: 5s}"
PAUSES_S = (1.0, 60.0, 300.0, 600.0, 900.0, WINDOW_S + 1, 7200.0, 3 * 86_400.0)
"""The first ones are shorter than a window, so that what is bound in them counts together."""
MORE_DESCRIPTORS_COUNT = 2
MORE_MEMORY_MIB = 16.0


class Person:
    """One account, and what the directory must hold of it by now."""

    def __init__(self, uid: str) -> None:
        self.uid, self.dn = uid, f"uid={uid},{PEOPLE}"
        self.password, self.old_passwords = f"Pass-{uid}", ["brand-old"]
        self.is_locked = False
        self.bound_s: list[float] = []
        """When binds of this account that may count were made, since somebody got in or a window has passed."""
        self.may_be_unknown = False
        """Whether one of them may have had no outcome."""
        self.turn = asyncio.Lock()


class World:
    """Everything that lives, and the rules that must hold whatever happens."""

    def __init__(
        self, client: Client, slapd: Slapd, proxies: list[LdapProxy], relay: LdapProxy, clock: ManualClock
    ) -> None:
        self.client, self.slapd, self.proxies, self.relay, self.clock = client, slapd, proxies, relay, clock
        self.random = random.Random(SEED)
        self.people = {uid: Person(uid) for uid in USERS}
        self.by_dn = {person.dn: person for person in self.people.values()}
        self.is_disturbed = False
        """Whether something is broken in this round."""
        self.counts: Counter[str] = Counter()
        self.busy = self.random.sample(list(self.people.values()), BUSY_COUNT)
        """Who logs in at present."""
        self.session: aiohttp.ClientSession | None = None
        for proxy in proxies:
            proxy.on_request = self.note

    # What is seen

    def note(self, request: Request) -> None:
        """Note each bind of a user at either address."""
        found = self.by_dn.get(request.dn) if request.kind == "bind" else None
        if found is None:
            return
        self.counts["binds"] += 1
        if not found.is_locked:
            found.bound_s.append(self.clock.monotonic_s())
            assert len(found.bound_s) <= BUDGET_COUNT + 1, f"{found.uid} is bound too often"

    async def ask(self, body: str) -> tuple[int, str]:
        """The status and the text of an answer."""
        assert self.session is not None
        async with self.session.post("/mailstore", data=body) as answer:
            return answer.status, await answer.text()

    async def log_in(self, who: Person, password: str) -> None:
        """One login, and whether its answer may be."""
        async with who.turn:  # passwords change between two logins of the same user
            began_s = time.monotonic()
            status, text = await self.ask(f"cmd=auth&user={who.uid}&pass={password}")
            took_s = time.monotonic() - began_s
            told = f"{who.uid} with {password}: {status} {text} after {took_s:.1f} s; {vars(who)}"
            assert took_s < 10, told
            is_right = password == who.password
            self.counts[f"{'right' if is_right else 'wrong'} {status} {text if status == 200 else ''}"] += 1
            if status == 200 and json.loads(text)["succeeded"]:
                assert is_right, told
                assert not who.is_locked, told
                who.bound_s.clear()
                who.may_be_unknown = False
                return
            assert len(who.bound_s) <= BUDGET_COUNT, told
            if self.is_disturbed:
                who.may_be_unknown = True
            if status == 200:
                assert not is_right or who.is_locked or len(who.bound_s) >= BUDGET_COUNT, told
                return
            assert status == 503 or (status == 502 and self.is_disturbed), told
            assert self.is_disturbed or who.may_be_unknown or self._is_outage(), told

    def _is_outage(self) -> bool:
        """Whether many wrong passwords in a row have made the bridge doubt them all."""
        health = self.client.service.bridge.health()
        return any(problem.code == "logins_refused" for each in health.endpoints for problem in each.problems)

    async def list_users(self) -> None:
        """Everybody is listed, or nobody is answered."""
        status, text = await self.ask("cmd=list")
        self.counts[f"list {status}"] += 1
        if status == 200:
            assert sorted(user["userName"] for user in json.loads(text)) == sorted(USERS)
        else:
            assert status in (502, 503), text
            assert self.is_disturbed, text

    # What happens to accounts

    def _fail(self, dn: str) -> None:
        with contextlib.suppress(AssertionError):  # result 49
            self.slapd._run("ldapwhoami", "-x", "-H", self.slapd.url, "-D", dn, "-w", "fails elsewhere")

    async def lock(self, who: Person) -> None:
        """Another program fails until the account is locked."""
        async with who.turn:
            for _ in range(THRESHOLD_COUNT):
                await asyncio.to_thread(self._fail, who.dn)
            who.is_locked = True

    async def unlock(self, who: Person) -> None:
        """An administrator lets the user in again, which has slapd forget the failures."""
        async with who.turn:
            deletion = f"dn: {who.dn}\nchangetype: modify\ndelete: pwdAccountLockedTime\n"
            await asyncio.to_thread(self.slapd.modify, deletion)
            who.is_locked = False
            # Until a window has passed, the bridge counts what it has bound; slapd has begun anew.

    async def change_password(self, who: Person) -> None:
        """The user sets another password, and a mail program goes on with the old one."""
        async with who.turn:
            who.old_passwords.append(who.password)
            who.password = f"Pass-{self.random.getrandbits(32)}"
            await asyncio.to_thread(self.slapd.replace, [who.dn], "userPassword", who.password)
            who.is_locked = False  # slapo-ppolicy(5): a new password ends a lock, and has failures forgotten

    async def pass_time(self, seconds: float) -> None:
        """Time passes for the bridge, and slapd forgets what is older than its window."""
        self.clock.advance(seconds)
        now_s = self.clock.monotonic_s()
        forgotten = [who for who in self.people.values() if not who.bound_s or now_s - who.bound_s[-1] >= WINDOW_S]
        for who in forgotten:
            who.bound_s.clear()
            who.may_be_unknown = False
        dns = [who.dn for who in forgotten if not who.is_locked]
        await asyncio.to_thread(self._forget_failures, dns)

    def _forget_failures(self, dns: list[str]) -> None:
        account = ["-x", "-H", self.slapd.url, "-D", f"cn=admin,{BASE}", "-w", "admin"]
        ldif = "".join(f"dn: {dn}\nchangetype: modify\nreplace: pwdFailureTime\n\n" for dn in dns)
        self.slapd._run("ldapmodify", *account, "-e", "relax", stdin=ldif)

    def check_counters(self) -> None:
        """Slapd has locked nobody on our account, and its counter is below its threshold."""
        found = self.slapd.ldapsearch("-b", PEOPLE, "(uid=*)", "uid", "pwdFailureTime", "pwdAccountLockedTime")
        for entry in found.split("\n\n"):
            who = self.people.get(entry.partition("uid=")[2].partition(",")[0])
            if who is None or who.is_locked:
                continue
            assert "pwdAccountLockedTime" not in entry, f"{entry} {vars(who)}"
            assert entry.count("pwdFailureTime:") <= BUDGET_COUNT, f"{entry} {vars(who)}"

    # What happens to servers

    async def restart_slapd(self) -> None:
        await asyncio.to_thread(self.slapd.stop)
        await asyncio.to_thread(self.slapd.start)
        self.counts["restarts"] += 1

    async def restart_one(self) -> None:
        proxy = self.random.choice(self.proxies)
        proxy.stop_listening()
        proxy.close_existing(rst=self.random.random() < 0.5)
        await asyncio.sleep(0)
        proxy.listen_again()
        self.counts["restarts"] += 1

    def _which(self) -> Which:
        return self.random.choice(("existing", "new", "all"))

    async def hang(self) -> None:
        for proxy in self.random.sample(self.proxies, self.random.choice((1, 1, 2))):
            proxy.black_hole(self._which())

    async def lag(self) -> None:
        self.random.choice(self.proxies).delay(self.random.uniform(0.05, 1.2))

    async def answer_no_binds(self) -> None:
        for proxy in self.random.sample(self.proxies, self.random.choice((1, 2))):
            keep = self.random.choice((proxy.swallow_binds, proxy.drop_binds))
            keep(only=lambda dn: dn != READER, which=self.random.choice(("existing", "all")))

    async def lose_sessions(self) -> None:
        code = self.random.choice((0, 1, 3, 8, 11, 50, 51, 52, 53, 80))
        self.random.choice(self.proxies).answer_searches(code, which=self._which())

    async def break_off(self) -> None:
        proxy = self.random.choice(self.proxies)
        self.random.choice((proxy.send_notice, proxy.garbage))()

    async def move(self) -> None:
        """The name leads elsewhere; connections to the old place stay as they are, or fall silent."""
        proxy, places = self.random.choice(self.proxies), (self.slapd.port, self.relay.port)
        proxy.target = ("127.0.0.1", places[proxy.target[1] == places[0]])
        if self.random.random() < 0.5:
            proxy.black_hole("existing")

    async def be_well(self) -> None:
        """Nothing happens."""

    def heal(self) -> None:
        for proxy in self.proxies:
            proxy.heal(revive_black_holed=self.random.random() < 0.5)
            proxy.requests.clear()
        self.relay.requests.clear()

    @property
    def events(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        faults = [
            self.hang,
            self.lag,
            self.answer_no_binds,
            self.answer_no_binds,
            self.lose_sessions,
            self.break_off,
            self.move,
        ]
        restarts = [self.restart_slapd, self.restart_slapd, self.restart_one, self.restart_one]
        return [*faults, *restarts, self.be_well, self.be_well]


def choose_password(world: World, who: Person) -> str:
    """Mostly the right one; what programs repeat, and what people mistype."""
    draw = world.random.random()
    if draw < 0.45:
        return who.password
    if draw < 0.65:
        return world.random.choice(who.old_passwords)
    return f"repeated-{who.uid}" if draw < 0.8 else f"typo-{world.random.getrandbits(32)}"


async def live_one_round(world: World, *, restarts: bool) -> None:
    """Something happens while people log in, such as a restart; then all is well again, and time passes."""
    chance, people = world.random, list(world.people.values())
    happening = list(dict.fromkeys(chance.choices(world.events, k=chance.choice((1, 1, 2)))))
    if restarts and world.restart_slapd not in happening:
        happening.append(world.restart_slapd)
    world.is_disturbed = any(event != world.be_well for event in happening)
    tasks: list[Coroutine[Any, Any, None]] = [event() for event in happening]
    for _ in range(LOGINS_COUNT):
        who = chance.choice(world.busy)
        tasks.append(world.log_in(who, choose_password(world, who)))
    if chance.random() < 0.3:
        tasks.append(world.list_users())
    if world.restart_slapd not in happening and chance.random() < 0.4:
        who = chance.choice(people)
        tasks.append(world.unlock(who) if who.is_locked else chance.choice((world.lock, world.change_password))(who))
    chance.shuffle(tasks)
    async with asyncio.TaskGroup() as group:
        for task in tasks:
            group.create_task(task)
    world.heal()
    pause_s = chance.choice(PAUSES_S)
    await world.pass_time(pause_s)
    if pause_s > WINDOW_S:
        world.busy = chance.sample(people, BUSY_COUNT)
    await asyncio.to_thread(world.check_counters)
    world.client.log.seek(0)
    world.client.log.truncate()
    world.counts["rounds"] += 1


async def log_in_everybody(world: World) -> None:
    """All is well, and every window has passed: each right password is accepted at once, and each wrong one is not."""
    for proxy in world.proxies:
        proxy.heal(revive_black_holed=True)
    for who in world.people.values():
        if who.is_locked:
            await world.unlock(who)
    await world.pass_time(7 * 86_400.0)
    world.is_disturbed = False
    for who in world.people.values():
        await world.log_in(who, f"never-{world.random.getrandbits(32)}")
        status, text = await world.ask(f"cmd=auth&user={who.uid}&pass={who.password}")
        assert (status, json.loads(text)) == (200, {"succeeded": True}), f"{who.uid}: {status} {text}"
        who.bound_s.clear()
    await world.list_users()


async def measure(world: World) -> tuple[int, float]:
    """How many descriptors are open, and how many MiB this process holds, when no connection is kept."""
    directory = world.client.service.bridge.directories["company"].source.directory
    assert isinstance(directory, LdapDirectory)
    for server in directory._settings.servers:
        directory._binds.suspect(server)
        directory._lookups.retire(server)
    await until(lambda: not any(proxy.open_count for proxy in (*world.proxies, world.relay)))
    gc.collect()
    return resources()


def resources() -> tuple[int, float]:
    pages_count = int(Path("/proc/self/statm").read_text().split()[1])
    return len(list(Path("/proc/self/fd").iterdir())), pages_count * os.sysconf("SC_PAGE_SIZE") / 2**20


def policy_entries() -> list[tuple[str, dict[str, list[str]]]]:
    values = {"pwdLockout": "TRUE", "pwdMaxFailure": f"{THRESHOLD_COUNT}", "pwdFailureCountInterval": f"{WINDOW_S:g}"}
    found = {"objectClass": ["device", "pwdPolicy"], "cn": ["default"], "pwdAttribute": ["userPassword"]}
    return [
        (POLICIES, {"objectClass": ["organizationalUnit"], "ou": ["policies"]}),
        (f"cn=default,{POLICIES}", {**found, **{key: [value] for key, value in values.items()}}),
    ]


@asynccontextmanager
async def living_world(start_slapd: StartSlapd, folder: Path) -> AsyncIterator[World]:
    """A bridge before two addresses of one slapd, one of which can be reached in two ways."""
    says_locked = (
        "\nppolicy_use_lockout" if SEED % 2 else ""
    )  # without it, a locked account is one with a wrong password
    ppolicy = f'overlay ppolicy\nppolicy_default "cn=default,{POLICIES}"{says_locked}'
    entries = [*policy_entries(), *(person(uid) for uid in USERS)]
    slapd = start_slapd(entries, overlays="moduleload ppolicy", extra=ppolicy, log_level="none")
    clock = ManualClock(time.time())
    async with AsyncExitStack() as stack:
        relay = await stack.enter_async_context(LdapProxy(("127.0.0.1", slapd.port)))
        proxies = [await stack.enter_async_context(LdapProxy(("127.0.0.1", slapd.port))) for _ in range(2)]
        file = configuration(proxies[0].url, folder, directory=TIMEOUTS)
        servers = ", ".join(f'"{proxy.url}"' for proxy in proxies)
        file.write_text(file.read_text().replace(f'"{proxies[0].url}"', servers))
        client = await stack.enter_async_context(running_bridge(file, clock))
        world = World(client, slapd, proxies, relay, clock)
        world.session = await stack.enter_async_context(
            aiohttp.ClientSession(
                f"http://127.0.0.1:{client.port}",
                connector=aiohttp.TCPConnector(force_close=True),
                headers={"Authorization": AUTHORIZATION, "Content-Type": "application/x-www-form-urlencoded"},
            )
        )
        yield world


async def test_months_of_faults_give_no_wrong_verdict_and_leave_nothing_behind(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """No password is accepted or refused wrongly, no account locked by us, and nothing grows."""
    print(f"BRIDGE_TEST_SEED={SEED}")  # noqa: T201 - pytest shows it where the test fails
    async with living_world(start_slapd, tmp_path) as world:
        await world.list_users()
        for who in list(world.people.values())[::2]:
            await world.change_password(who)  # from then on the entry shows when its password was set
        began_s, date_s = time.monotonic(), world.clock.now_s()
        warm: tuple[int, float] | None = None
        try:
            while (part := (time.monotonic() - began_s) / LENGTH_S) < 1 or world.counts["restarts"] < RESTARTS_COUNT:
                await live_one_round(world, restarts=world.counts["restarts"] < RESTARTS_COUNT * part)
                if warm is None and part > 1 / 3:
                    await log_in_everybody(world)
                    warm = await measure(world)
            await log_in_everybody(world)
            found = await measure(world)
        finally:
            days = (world.clock.now_s() - date_s) / 86_400
            print(f"{days:.0f} days, {dict(sorted(world.counts.items()))}")  # noqa: T201
        assert warm is not None
        assert found[0] <= warm[0] + MORE_DESCRIPTORS_COUNT, (warm, found)
        assert found[1] <= warm[1] + MORE_MEMORY_MIB, (warm, found)
        print(f"descriptors and MiB: {warm} {found}")  # noqa: T201
