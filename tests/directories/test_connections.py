"""Connections that age, break, fall silent or lose their session: OpenLDAP behind a proxy, and whole logins by HTTP."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from bridge.ldap.connection import Connection
from bridge.ldap.directory import LdapDirectory
from tests.conftest import StartSlapd
from tests.support.bridges import Client, configuration, running_bridge, url_of
from tests.support.ldap_messages import Kind, Request
from tests.support.ldap_proxy import LdapProxy
from tests.support.manual_clock import ManualClock
from tests.support.proxied_connection import Rule
from tests.support.slapd import BASE, PEOPLE, READER, person
from tests.support.waiting import until

pytestmark = pytest.mark.slapd

REQUEST_S = 1.5
TIMEOUTS = "timeouts: {connect: 500ms, request: 1500ms, listing: 4s}"
AT_ONCE_S = 1.2
"""Shorter than any time-out, and long enough for a busy machine."""
USERS = ("anna", "bert", "carl", "dora", "emil", "frida")

LOST_SESSION = {
    "operationsError": 1,
    "strongerAuthRequired": 8,
    "insufficientAccessRights": 50,
    "unwillingToPerform": 53,
    "other": 80,
    "success without entries": 0,
}
ANOTHER_SERVER = {"timeLimitExceeded": 3, "adminLimitExceeded": 11, "busy": 51, "unavailable": 52}
OTHER_REFUSALS = {
    "protocolError": 2,
    "referral": 10,
    "unavailableCriticalExtension": 12,
    "confidentialityRequired": 13,
    "inappropriateMatching": 18,
    "noSuchObject": 32,
    "inappropriateAuthentication": 48,
}
SIZE_LIMIT = {"sizeLimitExceeded": 4}


class Setting:
    """A running bridge that has listed everybody, and the proxies before its servers."""

    def __init__(self, client: Client, proxies: list[LdapProxy]) -> None:
        self.client, self.proxies = client, proxies

    @property
    def first(self) -> LdapProxy:
        return self.proxies[0]

    @property
    def directory(self) -> LdapDirectory:
        found = self.client.service.bridge.directories["company"].source.directory
        assert isinstance(found, LdapDirectory)
        return found

    async def try_login(self, user: str = "anna", password: str | None = None) -> tuple[int, Any]:
        return await self.client.post(f"cmd=auth&user={user}&pass={password or f'Pass-{user}'}")

    async def problems(self) -> list[str]:
        """The codes that `/readyz` and `/status.json` tell alike."""
        admin = Client(self.client.service, self.client.log)
        admin.port = self.client.service.admin.addresses[0][1]
        found = []
        for path in ("/readyz", "/status.json"):
            status, body = await admin.curl(path=path)
            assert status == 200
            (endpoint,) = json.loads(body)["endpoints"]
            found.append([problem["code"] for problem in endpoint["problems"]])
        assert found[0] == found[1]
        return found[0]

    def is_set_aside(self, proxy: LdapProxy) -> bool:
        return any(
            '"server.set_aside"' in line and proxy.url in line for line in self.client.log.getvalue().splitlines()
        )


@asynccontextmanager
async def setting(
    start_slapd: StartSlapd,
    folder: Path,
    *,
    server_count: int = 1,
    directory: str = TIMEOUTS,
    clock: ManualClock | None = None,
    is_warm: bool = True,
) -> AsyncIterator[Setting]:
    """One slapd behind a proxy for each server; everybody is listed, and anna has logged in.

    When the bridge has stopped, no connection of it is left.
    """
    slapd = start_slapd([person(uid) for uid in USERS])
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(LdapProxy(("127.0.0.1", slapd.port))) for _ in range(server_count)]
        file = configuration(proxies[0].url, folder, directory=directory)
        servers = ", ".join(f'"{proxy.url}"' for proxy in proxies)
        file.write_text(file.read_text().replace(f'"{proxies[0].url}"', servers))
        stack.push_async_callback(until, lambda: not any(proxy.open_count for proxy in proxies), REQUEST_S / 2)
        client = await stack.enter_async_context(running_bridge(file, clock))
        found = Setting(client, proxies)
        assert len(await client.list_users()) == len(USERS)
        if is_warm:
            assert await client.auth("anna", "Pass-anna")
            assert not await client.auth("frida", "not this one")  # the directory's lock-out policy is read once
        yield found


async def warm_binds(found: Setting, count: int = len(USERS)) -> None:
    """Have so many bind connections to the first server kept: that many users are bound at once."""
    found.first.delay(0.4, only={"bind"})
    assert all(await asyncio.gather(*(found.client.auth(uid, f"Pass-{uid}") for uid in USERS[:count])))
    found.first.heal()
    assert sum(len(kept) for kept in found.directory._binds._idle.values()) == count


def is_login(request: Request) -> bool:
    """Listings set no size limit."""
    return request.kind == "search" and request.size_limit_count > 0


# What may mean a lost session


@pytest.mark.parametrize(
    "code",
    (LOST_SESSION | ANOTHER_SERVER | OTHER_REFUSALS).values(),
    ids=(LOST_SESSION | ANOTHER_SERVER | OTHER_REFUSALS).keys(),
)
async def test_answer_that_may_mean_a_lost_session_is_asked_for_again_on_a_new_connection(
    start_slapd: StartSlapd, tmp_path: Path, code: int
) -> None:
    """Existing connections give it, new ones work: the login succeeds at once, and the old connection is not used.

    Behind a balancer, one address is every server: what one of them says of itself is asked again there, too.
    """
    async with setting(start_slapd, tmp_path) as found:
        found.first.answer_searches(code, which="existing")
        opened_count, started_s = found.first.opened_count, time.monotonic()
        assert await found.client.auth("anna", "Pass-anna")
        assert time.monotonic() - started_s < AT_ONCE_S
        assert found.first.opened_count == opened_count + 1
        for _ in range(3):
            assert await found.client.auth("anna", "Pass-anna")
        assert not await found.client.auth("bert", "wrong")
        assert found.first.opened_count == opened_count + 1
        assert not found.is_set_aside(found.first)
        assert await found.problems() == []


@pytest.mark.parametrize("code", LOST_SESSION.values(), ids=list(LOST_SESSION))
async def test_lost_session_costs_nobody_a_login_where_names_are_composed(
    start_slapd: StartSlapd, tmp_path: Path, code: int
) -> None:
    """The entry is read by its DN, as the listing has it: that it isn't there is asked for again, too."""
    slapd = start_slapd([person(uid) for uid in USERS])
    lines = f'{TIMEOUTS}\n    attributes: {{userName: "{{uid}}.{{sn|lower}}"}}'
    async with LdapProxy(("127.0.0.1", slapd.port)) as proxy:
        async with running_bridge(configuration(proxy.url, tmp_path, directory=lines)) as client:
            name = (await client.list_users())[0]["userName"]
            password = f"Pass-{name.partition('.')[0]}"
            assert await client.auth(name, password)
            proxy.answer_searches(code, which="existing")
            opened_count = proxy.opened_count
            for _ in range(2):
                assert await client.auth(name, password)
            assert proxy.opened_count == opened_count + 1


@pytest.mark.parametrize("way", ["include", "exclude"])
@pytest.mark.parametrize("code", [*LOST_SESSION.values(), 32], ids=[*LOST_SESSION, "noSuchObject"])
async def test_lost_session_costs_nobody_a_login_where_groups_are_asked(
    start_slapd: StartSlapd, tmp_path: Path, code: int, way: str
) -> None:
    """A group that a kept connection doesn't show is asked for again, and so is who is in it."""
    groups, staff = f"ou=groups,{BASE}", f"cn=staff,ou=groups,{BASE}"
    members = [f"uid={uid},{PEOPLE}" for uid in USERS if (uid != "frida") == (way == "include")]
    entries = [
        (groups, {"objectClass": ["organizationalUnit"], "ou": ["groups"]}),
        (staff, {"objectClass": ["groupOfNames"], "cn": ["staff"], "member": members}),
    ]
    slapd = start_slapd([*map(person, USERS), *entries])
    users = f'users: {{bases: ["{PEOPLE}"], groups: {{{way}: ["{staff}"]}}}}'
    async with LdapProxy(("127.0.0.1", slapd.port)) as proxy:
        async with running_bridge(configuration(proxy.url, tmp_path, directory=TIMEOUTS, users=users)) as client:
            assert len(await client.list_users()) == len(USERS) - 1
            assert await client.auth("anna", "Pass-anna")
            proxy.answer_searches(code, only=lambda request: request.base.casefold() == staff, which="existing")
            for _ in range(2):
                assert await client.auth("anna", "Pass-anna")
            assert not await client.auth("frida", "Pass-frida")
            assert client.service.bridge.directories["company"].source.asks_groups


async def test_empty_answer_for_a_name_that_is_not_listed_is_believed_at_once(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """Whoever guesses names has no connection opened; a listed name has."""
    async with setting(start_slapd, tmp_path) as found:
        opened_count = found.first.opened_count
        assert not await found.client.auth("nobody", "Pass-anna")
        assert found.first.opened_count == opened_count
        found.first.answer_searches(0, which="existing")
        assert not await found.client.auth("nobody", "Pass-anna")
        assert found.first.opened_count == opened_count
        assert await found.client.auth("anna", "Pass-anna")
        assert found.first.opened_count == opened_count + 1


def end_by_fin(proxy: LdapProxy) -> None:
    proxy.close_existing(rst=False)


def end_by_rst(proxy: LdapProxy) -> None:
    proxy.close_existing(rst=True)


def send_notice(proxy: LdapProxy) -> None:
    proxy.send_notice(52, "going down")


def send_notice_and_end(proxy: LdapProxy) -> None:
    proxy.send_notice(52, "going down")
    proxy.close_existing(rst=False)


def send_garbage(proxy: LdapProxy) -> None:
    proxy.garbage()


def answer_garbage(proxy: LdapProxy) -> None:
    proxy.add(Rule(lambda request: request.kind == "search", lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n"), "existing")


def answer_with_end(proxy: LdapProxy) -> None:
    def end(_: Request) -> bytes:
        proxy.close_existing(rst=False)
        return b""

    proxy.add(Rule(lambda request: request.kind == "search", end), "existing")


ENDS = [end_by_fin, end_by_rst, send_notice, send_notice_and_end, send_garbage, answer_garbage, answer_with_end]


@pytest.mark.parametrize("end", ENDS)
async def test_connections_that_end_or_break_cost_nobody_a_login(
    start_slapd: StartSlapd, tmp_path: Path, end: Callable[[LdapProxy], None]
) -> None:
    """Whether the end comes between two logins or in place of an answer to a search: the login succeeds at once."""
    async with setting(start_slapd, tmp_path) as found:
        before = found.first.binds_of(READER)
        end(found.first)
        started_s = time.monotonic()
        assert await found.client.auth("anna", "Pass-anna")
        assert time.monotonic() - started_s < AT_ONCE_S
        assert found.first.binds_of(READER) == before + 1
        assert not await found.client.auth("bert", "wrong")
        assert found.first.binds_of(READER) == before + 1
        assert not found.is_set_aside(found.first)


def lose_sessions(proxy: LdapProxy) -> None:
    proxy.answer_searches(1, which="existing")


def show_nobody(proxy: LdapProxy) -> None:
    proxy.answer_searches(0, which="existing")


def fall_silent(proxy: LdapProxy) -> None:
    proxy.black_hole(which="existing")


@pytest.mark.parametrize("fault", [lose_sessions, show_nobody, fall_silent, end_by_fin, end_by_rst, answer_garbage])
async def test_twenty_logins_at_once_make_one_new_connection(
    start_slapd: StartSlapd, tmp_path: Path, fault: Callable[[LdapProxy], None]
) -> None:
    """A server that loses its sessions is not made busier than it is."""
    async with setting(start_slapd, tmp_path) as found:
        before = found.first.binds_of(READER)
        fault(found.first)
        answers = await asyncio.gather(*(found.try_login(USERS[number % 6]) for number in range(20)))
        assert answers == [(200, {"succeeded": True})] * 20
        assert found.first.binds_of(READER) == before + 1


async def test_fault_that_stays_makes_no_storm_of_connections(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Twenty logins at once at a server that answers 53 on new connections, too: they share them."""
    async with setting(start_slapd, tmp_path) as found:
        before = found.first.binds_of(READER)
        found.first.answer_searches(53, only=is_login)
        answers = await asyncio.gather(*(found.try_login(USERS[number % 6]) for number in range(20)))
        assert {status for status, _ in answers} == {503}
        assert found.first.binds_of(READER) <= before + 8
        found.first.heal()
        assert await found.client.auth("anna", "Pass-anna")


@pytest.mark.parametrize(
    ("code", "status"),
    [(0, 503), (1, 502), (3, 503), (8, 502), (11, 503), (50, 502), (51, 503), (52, 503), (53, 503), (80, 503)],
)
async def test_fault_that_stays_is_an_error_and_a_problem_of_logins(
    start_slapd: StartSlapd, tmp_path: Path, code: int, status: int
) -> None:
    """New connections give it, too: never `false`, and health tells it beside a good listing until somebody gets in."""
    async with setting(start_slapd, tmp_path) as found:
        assert await found.problems() == []
        found.first.answer_searches(code, only=is_login)
        for password in ("Pass-anna", "wrong"):
            answer_status, answer = await found.try_login("anna", password)
            assert (answer_status, "succeeded" in answer) == (status, False)
            assert found.first.url in answer["message"]
        assert await found.problems() == ["logins_failing"]
        assert len(await found.client.list_users()) == len(USERS)
        found.first.heal()
        assert await found.client.auth("anna", "Pass-anna")
        assert await found.problems() == []


@pytest.mark.parametrize("code", ANOTHER_SERVER.values(), ids=ANOTHER_SERVER.keys())
async def test_answer_about_the_server_sends_the_login_to_the_next_one(
    start_slapd: StartSlapd, tmp_path: Path, code: int
) -> None:
    """Look-up and user bind go to the second server; the connection to the first one stays."""
    async with setting(start_slapd, tmp_path, server_count=2) as found:
        first, second = found.proxies
        opened_count, anna = first.opened_count, f"uid=anna,{PEOPLE}"
        bound_count = first.binds_of(anna)
        first.answer_searches(code, only=is_login)
        for _ in range(2):
            assert await found.client.auth("anna", "Pass-anna")
        assert not await found.client.auth("bert", "wrong")
        assert (first.binds_of(anna), second.binds_of(anna)) == (bound_count, 2)
        assert (first.opened_count, first.binds_of(f"uid=bert,{PEOPLE}")) == (opened_count, 0)
        assert found.is_set_aside(first)
        assert await found.problems() == []


@pytest.mark.parametrize("code", [1, 2, 7, 8, 10, 11, 12, 13, 50, 51, 52, 53, 80])
async def test_answer_to_a_user_bind_that_says_nothing_of_the_password_ends_the_kept_connections(
    start_slapd: StartSlapd, tmp_path: Path, code: int
) -> None:
    """A bind is not repeated, so one login fails; the next one has a new connection, and not another old one."""
    async with setting(start_slapd, tmp_path) as found:
        await warm_binds(found)
        found.first.answer_binds(code, only=lambda dn: dn != READER, which="existing")
        status, _ = await found.try_login("anna")
        assert status in (502, 503)
        for uid in USERS:
            assert await found.client.auth(uid, f"Pass-{uid}")
        assert not await found.client.auth("bert", "wrong")
        assert await found.problems() == []


@pytest.mark.parametrize("code", [2, 7, 8, 12, 13, 50, 53])
async def test_server_that_takes_no_user_binds_is_left_after_one_login(
    start_slapd: StartSlapd, tmp_path: Path, code: int
) -> None:
    """It says that it takes none this way: that is an error once, and the next logins go to the second server."""
    async with setting(start_slapd, tmp_path, server_count=2) as found:
        first, second = found.proxies
        first.answer_binds(code, only=lambda dn: dn != READER)
        status, answer = await found.try_login("bert")
        assert (status, answer["error"]) == (502, "directory_refused")
        assert first.url in answer["message"]
        for uid in USERS:
            assert await found.client.auth(uid, f"Pass-{uid}")
        assert first.binds_of(f"uid=carl,{PEOPLE}") == 0
        assert second.binds_of(f"uid=carl,{PEOPLE}") == 1


async def test_health_tells_of_a_server_that_stays_set_aside(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Its service account is locked at one replica: everything works by the other one, until that goes, too."""
    clock = ManualClock(time.time())
    async with setting(start_slapd, tmp_path, server_count=2, clock=clock) as found:
        first, _ = found.proxies
        first.answer_binds(49, only=READER.__eq__)
        first.close_existing(rst=True)
        assert await found.client.auth("anna", "Pass-anna")
        assert found.is_set_aside(first)
        assert await found.problems() == []
        clock.advance(61)
        assert await found.client.auth("anna", "Pass-anna")
        assert await found.problems() == ["server_failing"]
        (endpoint,) = found.client.service.bridge.health().endpoints
        (problem,) = endpoint.problems
        assert first.url in problem.message
        assert "invalidCredentials (49)" in problem.message
        assert clock.now_s() - problem.since_s == pytest.approx(61, abs=1)
        first.heal()
        found.directory.forgive_refusal()
        found.directory._servers.welcome(found.directory._servers.named(first.url))
        assert await found.problems() == []


def go_away(proxy: LdapProxy) -> None:
    proxy.stop_listening()
    proxy.close_existing(rst=True)


def be_busy(proxy: LdapProxy) -> None:
    proxy.answer_searches(51)


@pytest.mark.parametrize("fail", [go_away, be_busy])
async def test_server_that_is_well_again_is_asked_when_the_last_one_fails(
    start_slapd: StartSlapd, tmp_path: Path, fail: Callable[[LdapProxy], None]
) -> None:
    """The first one was away a moment ago and was not tried since; now the second one fails."""
    async with setting(start_slapd, tmp_path, server_count=2) as found:
        first, second = found.proxies
        go_away(first)
        assert await found.client.auth("anna", "Pass-anna")
        assert found.is_set_aside(first)
        first.listen_again()
        fail(second)
        for uid in USERS:
            assert await found.client.auth(uid, f"Pass-{uid}")


@pytest.mark.parametrize(
    "code",
    (LOST_SESSION | OTHER_REFUSALS | SIZE_LIMIT).values(),
    ids=(LOST_SESSION | OTHER_REFUSALS | SIZE_LIMIT).keys(),
)
async def test_fault_that_stays_at_one_server_sends_logins_to_the_next(
    start_slapd: StartSlapd, tmp_path: Path, code: int
) -> None:
    """A new connection has not helped: the second server is asked for entry and password alike."""
    async with setting(start_slapd, tmp_path, server_count=2) as found:
        first, second = found.proxies
        first.answer_searches(code, only=is_login)
        for _ in range(2):
            assert await found.client.auth("bert", "Pass-bert")
        assert not await found.client.auth("carl", "wrong")
        bert, carl = f"uid=bert,{PEOPLE}", f"uid=carl,{PEOPLE}"
        assert (first.binds_of(bert), second.binds_of(bert), second.binds_of(carl)) == (0, 2, 1)
        assert await found.problems() == []


@pytest.mark.parametrize("code", ANOTHER_SERVER.values(), ids=ANOTHER_SERVER.keys())
async def test_answer_about_every_server_is_asked_for_again_at_the_last_one(
    start_slapd: StartSlapd, tmp_path: Path, code: int
) -> None:
    """Existing connections to both servers give it, and new ones work: the login succeeds, and so do the next ones."""
    async with setting(start_slapd, tmp_path, server_count=2) as found:
        first, second = found.proxies
        first.answer_searches(code, only=is_login)
        assert await found.client.auth("anna", "Pass-anna")
        first.heal()
        for proxy in found.proxies:
            proxy.answer_searches(code, which="existing")
        opened_count = second.opened_count
        for _ in range(3):
            assert await found.client.auth("anna", "Pass-anna")
        assert second.opened_count == opened_count + 1


@pytest.mark.parametrize(
    "code", (ANOTHER_SERVER | OTHER_REFUSALS).values(), ids=(ANOTHER_SERVER | OTHER_REFUSALS).keys()
)
async def test_only_server_that_gives_the_same_answer_on_a_new_connection_has_no_more_of_them(
    start_slapd: StartSlapd, tmp_path: Path, code: int
) -> None:
    """It is busy, or set up wrongly, and not made busier; when it is well, and loses sessions, one is made again."""
    async with setting(start_slapd, tmp_path) as found:
        opened_count = found.first.opened_count
        found.first.answer_searches(code, only=is_login)
        for _ in range(4):
            status, _ = await found.try_login()
            assert status in (502, 503)
        assert found.first.opened_count <= opened_count + 1
        found.first.heal()
        assert await found.client.auth("anna", "Pass-anna")
        assert found.first.opened_count <= opened_count + 1
        found.first.answer_searches(code, only=is_login, which="existing")
        assert await found.client.auth("anna", "Pass-anna")
        assert found.first.opened_count <= opened_count + 2


# Firewalls that forget


async def test_silence_on_kept_bind_connections_costs_one_login(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Six bind connections that lead nowhere: the first time-out makes the others suspect, and no password is lost."""
    async with setting(start_slapd, tmp_path) as found:
        await warm_binds(found)
        found.first.drop_binds(which="existing")
        status, answer = await found.try_login("anna")
        assert (status, answer["error"]) == (503, "outcome_unknown")
        assert found.first.url in answer["message"]
        for uid in (*USERS[1:], "anna"):
            started_s = time.monotonic()
            assert await found.client.auth(uid, f"Pass-{uid}")
            assert time.monotonic() - started_s < AT_ONCE_S
        assert found.first.binds_of(f"uid=bert,{PEOPLE}") == 2


async def test_silence_on_all_connections_costs_no_login(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The morning after: the look-up is asked again within the request's time, and bind connections are not trusted."""
    async with setting(start_slapd, tmp_path) as found:
        await warm_binds(found)
        found.first.black_hole(which="existing")
        started_s = time.monotonic()
        assert await found.client.auth("anna", "Pass-anna")
        assert time.monotonic() - started_s < REQUEST_S
        for uid in USERS[1:]:
            started_s = time.monotonic()
            assert await found.client.auth(uid, f"Pass-{uid}")
            assert time.monotonic() - started_s < AT_ONCE_S


async def test_silence_of_the_first_server_is_none_of_the_second(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """New connections lead nowhere, either: the login is answered by the second server, in its own time."""
    async with setting(start_slapd, tmp_path, server_count=2) as found:
        first, second = found.proxies
        await warm_binds(found)
        first.black_hole()
        started_s = time.monotonic()
        assert await found.client.auth("anna", "Pass-anna")
        assert time.monotonic() - started_s < 2 * REQUEST_S
        for uid in USERS[1:]:
            assert await found.client.auth(uid, f"Pass-{uid}")
        assert second.binds_of(f"uid=bert,{PEOPLE}") == 1


@pytest.mark.parametrize("directory", [TIMEOUTS, "timeouts: {connect: 3s, request: 4s}"])
async def test_server_that_answers_no_user_bind_is_left_after_one_login(
    start_slapd: StartSlapd, tmp_path: Path, directory: str
) -> None:
    """It answers searches and service binds: one login says which server was silent, the others go to the second."""
    async with setting(start_slapd, tmp_path, server_count=2, directory=directory, is_warm=False) as found:
        first, second = found.proxies
        first.drop_binds(only=lambda dn: dn != READER)
        status, answer = await found.try_login("anna")
        assert (status, answer["error"]) == (503, "outcome_unknown")
        assert first.url in answer["message"]
        assert second.url not in answer["message"]
        assert found.is_set_aside(first)
        for uid in USERS:
            assert await found.client.auth(uid, f"Pass-{uid}")
        assert not await found.client.auth("bert", "wrong")
        assert first.binds_of(f"uid=anna,{PEOPLE}") == 1


# Deadlines


def connect_nowhere(proxy: LdapProxy) -> None:
    proxy.close_existing(rst=True)
    proxy.black_hole()


def keep_the_service_bind(proxy: LdapProxy) -> None:
    proxy.close_existing(rst=True)
    proxy.swallow_binds()


def keep_the_look_up(proxy: LdapProxy) -> None:
    proxy.add(Rule(is_login))


def keep_the_user_bind(proxy: LdapProxy) -> None:
    proxy.swallow_binds(only=lambda dn: dn != READER)


SILENCES = [connect_nowhere, keep_the_service_bind, keep_the_look_up, keep_the_user_bind]
DEADLINES = {
    "short": TIMEOUTS,
    "connect nearly as long as request": "timeouts: {connect: 1490ms, request: 1500ms, listing: 4s}",
    "both": "timeouts: {connect: 4480ms, request: 4490ms}",
}


@pytest.mark.parametrize("directory", DEADLINES.values(), ids=DEADLINES.keys())
@pytest.mark.parametrize("silence", SILENCES)
async def test_inner_deadline_ends_first_and_names_the_server(
    start_slapd: StartSlapd, tmp_path: Path, silence: Callable[[LdapProxy], None], directory: str
) -> None:
    """Whatever a server is silent upon: the error says which server it was, and never that the bridge is busy."""
    async with setting(start_slapd, tmp_path, directory=directory) as found:
        silence(found.first)
        started_s = time.monotonic()
        status, answer = await found.try_login()
        assert time.monotonic() - started_s < 9.5
        assert status == 503
        assert answer["error"] == ("outcome_unknown" if silence is keep_the_user_bind else "directory_unavailable")
        assert found.first.url in answer["message"]
        assert found.is_set_aside(found.first)
        found.first.heal()
        found.first.close_existing(rst=True)
        assert await found.client.auth("bert", "Pass-bert")


@pytest.mark.parametrize("silence", SILENCES)
async def test_next_server_is_asked_within_the_time_of_the_login(
    start_slapd: StartSlapd, tmp_path: Path, silence: Callable[[LdapProxy], None]
) -> None:
    """With the longest deadlines that nest: a silent first server leaves time for the second, but for a bind in flight."""
    longest = DEADLINES["both"]
    async with setting(start_slapd, tmp_path, server_count=2, directory=longest) as found:
        silence(found.first)
        started_s = time.monotonic()
        status, answer = await found.try_login()
        assert time.monotonic() - started_s < 9.5
        assert (status == 200) is (silence is not keep_the_user_bind), answer
        started_s = time.monotonic()
        assert await found.client.auth("bert", "Pass-bert")
        assert time.monotonic() - started_s < AT_ONCE_S


@pytest.mark.parametrize("kinds", [{"search"}, {"search", "bind"}], ids=["searches", "searches and binds"])
async def test_slow_server_that_answers_in_time_is_used(
    start_slapd: StartSlapd, tmp_path: Path, kinds: set[Kind]
) -> None:
    """Answers take 70 % of a request's time: all logins are decided, and a search is sent twice at most."""
    directory = TIMEOUTS.replace("connect: 500ms", "connect: 1400ms")
    async with setting(start_slapd, tmp_path, directory=directory) as found:
        found.first.delay(0.7 * REQUEST_S, only=kinds)
        before = len(found.first.searches)
        for _ in range(3):
            assert await found.client.auth("anna", "Pass-anna")
        assert all(await asyncio.gather(*(found.client.auth(uid, f"Pass-{uid}") for uid in USERS)))
        assert len(found.first.searches) - before <= 2 * (3 + len(USERS))
        assert not await found.client.auth("anna", "wrong")
        assert not found.is_set_aside(found.first)


async def test_wrong_password_at_a_slow_server_is_told_within_the_time_of_the_login(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """Look-up, bind and the look at the entry take 3.2 s each: what the entry shows is not waited for too long."""
    async with setting(start_slapd, tmp_path, directory="timeouts: {connect: 3s, request: 4s}") as found:
        found.first.delay(3.2)
        answers = await asyncio.gather(found.try_login("anna", "wrong"), found.try_login("nobody", "wrong"))
        assert answers == [(200, {"succeeded": False})] * 2
        found.first.heal()
        (shown,) = (each for each in found.client.service.bridge.remembered() if each.user_name == "anna")
        assert (shown.failure_count, shown.unknown_count, shown.refused_count) == (0, 1, 0)
        assert await found.client.auth("anna", "Pass-anna")


async def test_search_is_sent_once_while_its_connection_shows_signs_of_life(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """Others are answered on the same connection meanwhile: the server is slow, and the connection well."""
    async with setting(start_slapd, tmp_path) as found:
        before, opened_count = len(found.first.searches), found.first.opened_count
        found.first.delay(0.7 * REQUEST_S, only={"search"})
        slow = asyncio.create_task(found.client.auth("anna", "Pass-anna"))
        await until(lambda: any(connection._held for connection in found.first._connections))
        found.first.delay(0.0)
        assert await found.client.auth("bert", "Pass-bert")
        assert not slow.done()
        assert await slow
        assert len(found.first.searches) == before + 2
        assert found.first.opened_count == opened_count


# Age


async def test_connections_end_when_they_are_idle(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """Look-up and bind connections alike are replaced after `pool.idle`, and used before."""
    clock = ManualClock(time.time())
    pool = f"pool: {{idle: 60s, max_age: 7d}}\n    {TIMEOUTS}"
    async with setting(start_slapd, tmp_path, directory=pool, clock=clock) as found:
        opened_count = found.first.opened_count
        for _ in range(3):
            clock.advance(55)
            assert await found.client.auth("anna", "Pass-anna")
        assert found.first.opened_count == opened_count
        clock.advance(61)
        assert await found.client.auth("anna", "Pass-anna")
        assert found.first.opened_count == opened_count + 2


async def test_connections_end_when_they_are_old(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """However often they are used: `pool.max_age`, a fifth more or less."""
    clock = ManualClock(time.time())
    pool = f"pool: {{idle: 60s, max_age: 15m}}\n    {TIMEOUTS}"
    async with setting(start_slapd, tmp_path, directory=pool, clock=clock) as found:
        opened_count = found.first.opened_count
        for _ in range(14):
            clock.advance(50)  # 700 s in all
            assert await found.client.auth("anna", "Pass-anna")
        assert found.first.opened_count == opened_count
        for _ in range(8):
            clock.advance(50)  # 1100 s
            assert await found.client.auth("anna", "Pass-anna")
        assert found.first.opened_count == opened_count + 2
        await until(lambda: found.first.open_count <= 3)  # the old look-up connection has the time of a request to end


async def test_name_that_moves_is_followed_while_logins_keep_coming(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """The address leads to another server, where the password is another one: within `max_age` that is the one asked."""
    clock = ManualClock(time.time())
    pool = f"pool: {{max_age: 15m}}\n    {TIMEOUTS}"
    async with setting(start_slapd, tmp_path, directory=pool, clock=clock) as found:
        other = start_slapd([person(uid, userPassword=[f"New-{uid}"]) for uid in USERS])
        found.first.target = ("127.0.0.1", other.port)
        assert await found.client.auth("anna", "Pass-anna")
        for _ in range(22):
            clock.advance(50)
            await found.try_login("anna")
        assert await found.client.auth("bert", "New-bert")
        assert not await found.client.auth("bert", "Pass-bert")


def sockets_of(directory: LdapDirectory) -> Iterator[socket.socket]:
    lookups = [opening.result() for opening in directory._lookups._openings.values()]
    binds = [connection for _, connection in chain.from_iterable(directory._binds._idle.values())]
    for connection in (*lookups, *binds):
        assert isinstance(connection, Connection)
        assert connection._transport is not None
        yield connection._transport.get_extra_info("socket")


@pytest.mark.parametrize("scheme", ["ldap", "ldaps", "starttls"])
async def test_sockets_are_kept_alive_by_the_system(
    start_slapd: StartSlapd,
    tmp_path: Path,
    make_certificate: Callable[..., tuple[Path, Path]],
    authority_file: Path,
    scheme: str,
) -> None:
    """A firewall that forgets after a minute sees something sooner, and a peer that is gone is noticed in a minute."""
    slapd = start_slapd(certificate=make_certificate())
    tls = "" if scheme == "ldap" else f"tls: {{ca_file: {authority_file}}}"
    if scheme == "starttls":
        tls += "\n    starttls: required"
    file = configuration(url_of(slapd, scheme.replace("starttls", "ldap")), tmp_path, directory=tls)
    async with running_bridge(file) as client:
        assert await client.auth("anna", "Pass-anna")
        directory = client.service.bridge.directories["company"].source.directory
        assert isinstance(directory, LdapDirectory)
        sockets = list(sockets_of(directory))
        assert len(sockets) == 2
        for each in sockets:
            assert each.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            idle_s, pause_s, count = (
                each.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
            )
            assert idle_s < 60
            assert idle_s + pause_s * count <= 60


@pytest.mark.parametrize("server_count", [1, 2])
async def test_groups_that_are_not_read_in_time_name_the_server(
    start_slapd: StartSlapd, tmp_path: Path, server_count: int
) -> None:
    """The first server answers look-ups, and none of what reads the groups: the login itself goes to the second one."""
    groups, staff = f"ou=groups,{BASE}", f"cn=staff,ou=groups,{BASE}"
    entries = [
        (groups, {"objectClass": ["organizationalUnit"], "ou": ["groups"]}),
        (staff, {"objectClass": ["groupOfNames"], "cn": ["staff"], "member": [f"uid={uid},{PEOPLE}" for uid in USERS]}),
    ]
    slapd = start_slapd([*map(person, USERS), *entries])
    users = f'users: {{bases: ["{PEOPLE}"], groups: {{include: ["{staff}"]}}}}'
    clock = ManualClock(time.time())
    async with AsyncExitStack() as stack:
        address = ("127.0.0.1", slapd.port)
        proxies = [await stack.enter_async_context(LdapProxy(address)) for _ in range(server_count)]
        first = proxies[0]
        file = configuration(first.url, tmp_path, users=users)
        servers = ", ".join(f'"{proxy.url}"' for proxy in proxies)
        file.write_text(file.read_text().replace(f'"{first.url}"', servers))
        client = await stack.enter_async_context(running_bridge(file, clock))
        assert await client.auth("anna", "Pass-anna")
        clock.advance(301.0)
        first.add(Rule(lambda request: request.kind == "search" and request.base.casefold() == staff), "new")
        status, answer = await client.post("cmd=auth&user=anna&pass=Pass-anna")
        if server_count == 1:
            assert status == 503
            assert f"{first.url}): the groups were not read within 6 s" in answer["message"]
            first.heal()
            return
        assert (status, answer) == (200, {"succeeded": True})
        began_s = time.monotonic()
        assert await client.auth("bert", "Pass-bert")
        assert time.monotonic() - began_s < AT_ONCE_S
        assert Setting(client, proxies).is_set_aside(first)
