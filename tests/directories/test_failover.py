"""A bridge before two servers, the first of which has a bad day: real OpenLDAP, stopped, hanging, resetting, slow."""

from __future__ import annotations

import asyncio
import os
import signal
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import pytest

from bridge.deadlines import LOGIN_S
from bridge.demo import wire
from bridge.demo.server import Session
from bridge.directory import Scope, SearchRequest
from bridge.errors import DirectoryUnavailable
from bridge.events import CertificateSeen, Event, ServerRestored, ServerSetAside
from bridge.ldap.directory import LdapDirectory
from bridge.ldap.settings import LdapSettings, ServerAddress
from bridge.model import Rejection, Secret
from bridge.syntax.filters import Equal
from tests.conftest import StartSlapd
from tests.faults.server import FaultyServer, small_directory
from tests.support.accepting import accepting, connected
from tests.support.bridges import Client, configuration, running_bridge
from tests.support.recording_proxy import RecordingProxy
from tests.support.slapd import BASE, PEOPLE, READER, READER_PASSWORD, Slapd, person
from tests.support.waiting import until, wait_until_stopped

pytestmark = pytest.mark.slapd

Outage = Callable[[Slapd], AbstractContextManager[None]]
TIMEOUTS = "timeouts: {connect: 500ms, request: 1500ms, listing: 4s}"


@contextmanager
def stopped(slapd: Slapd) -> Iterator[None]:
    """The server is gone meanwhile."""
    slapd.stop()
    try:
        yield
    finally:
        slapd.start()


@contextmanager
def hanging(slapd: Slapd) -> Iterator[None]:
    """The server takes connections, and says nothing, meanwhile: the kernel accepts them for it."""
    assert slapd.process is not None
    os.kill(slapd.process.pid, signal.SIGSTOP)
    wait_until_stopped(slapd.process.pid)
    try:
        yield
    finally:
        os.kill(slapd.process.pid, signal.SIGCONT)


class Gateway:
    """Stands before a server and lets everything pass, or resets each connection at the first word, or drips."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self.mode = "pass"
        self.port = 0

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with connected(self._server_port) as (server_reader, server_writer):
            await asyncio.gather(self._copy(reader, server_writer, writer), self._copy(server_reader, writer, writer))

    async def _copy(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, client: asyncio.StreamWriter
    ) -> None:
        with suppress(ConnectionError):
            while data := await source.read(65536):
                if self.mode == "reset":
                    client.transport.abort()
                    break
                if self.mode == "slow":
                    for position in range(len(data)):
                        sink.write(data[position : position + 1])
                        await asyncio.sleep(0.2)
                else:
                    sink.write(data)
                    await sink.drain()
        sink.close()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Gateway]:
        async with accepting(self._carry) as self.port:
            yield self


def two_servers(tmp_path: Path, first: str, second: str, more: str = "") -> Path:
    file = configuration(first, tmp_path, directory=TIMEOUTS, more=more or "cache: {refresh_ahead: false, ttl: 0s}")
    file.write_text(file.read_text().replace(f'["{first}"]', f'["{first}", "{second}"]'))
    return file


async def log_in_and_list(client: Client, *, within_s: float = 4.5) -> None:
    """Right and wrong passwords are told apart, and everybody is listed, in time."""
    started_s = time.monotonic()
    assert await client.auth("anna", "Pass-anna")
    assert not await client.auth("anna", f"wrong {started_s}")
    assert not await client.auth("nobody", "Pass-anna")
    assert [user["userName"] for user in await client.list_users()] == ["anna", "bert", "carl"]
    assert time.monotonic() - started_s < within_s


@pytest.mark.parametrize("outage", [stopped, hanging])
async def test_bridge_goes_on_with_the_second_server_and_comes_back_to_the_first(
    start_slapd: StartSlapd, tmp_path: Path, outage: Outage
) -> None:
    """Stopped or hanging from one moment to the next: no login is `false` that would be true, nobody is missing."""
    first, second = start_slapd(), start_slapd()
    async with running_bridge(two_servers(tmp_path, first.url, second.url)) as client:
        await log_in_and_list(client)
        assert "uid=anna" not in (second.folder / "log").read_text()
        with outage(first):
            await log_in_and_list(client)
            await log_in_and_list(client)
            assert f'"server": "{second.url}"' in client.log.getvalue().replace('":"', '": "')
        await until(lambda: "server.restored" in client.log.getvalue())
        with stopped(second):
            await log_in_and_list(client)


@pytest.mark.parametrize("mode", ["reset", "slow"])
async def test_bridge_goes_on_when_the_first_server_resets_connections_or_drips(
    start_slapd: StartSlapd, tmp_path: Path, mode: str
) -> None:
    """A deadline is a total: an octet now and then does not lengthen it."""
    first, second = start_slapd(), start_slapd()
    async with Gateway(first.port).running() as gateway:
        file = two_servers(tmp_path, f"ldap://127.0.0.1:{gateway.port}", second.url)
        async with running_bridge(file) as client:
            await log_in_and_list(client)
            gateway.mode = mode
            await log_in_and_list(client)
            gateway.mode = "pass"
            await until(lambda: "server.restored" in client.log.getvalue())
            with stopped(second):
                await log_in_and_list(client)


@pytest.mark.parametrize("outage", [stopped, hanging])
async def test_outage_of_both_is_unavailable_and_never_a_wrong_password(
    start_slapd: StartSlapd, tmp_path: Path, outage: Outage
) -> None:
    """503 within the time of a request, and both are named; one that comes back is asked at once."""
    first, second = start_slapd(), start_slapd()
    async with running_bridge(two_servers(tmp_path, first.url, second.url)) as client:
        await log_in_and_list(client)
        with outage(first):
            with outage(second):
                for _ in range(3):
                    started_s = time.monotonic()
                    status, answer = await client.post("cmd=auth&user=anna&pass=Pass-anna")
                    assert (status, answer["error"]) == (503, "directory_unavailable")
                    assert time.monotonic() - started_s < 3
            assert await client.auth("anna", "Pass-anna")


async def test_list_of_two_directories_needs_both_or_one_that_was_listed_before(
    start_slapd: StartSlapd, tmp_path: Path
) -> None:
    """503 without a listing of one of them, also after a restart; a stale one that is young enough is answered."""
    company, branch = start_slapd([person("anna")]), start_slapd([person("bert")])
    file = configuration(company.url, tmp_path, directory=TIMEOUTS, more="cache: {refresh_ahead: false, ttl: 1ms}")
    text = file.read_text()
    section = text[text.index("  - name: company") : text.index("cache:")]
    second = section.replace("company", "branch").replace(company.url, branch.url)
    file.write_text(text.replace(section, section + second))
    with stopped(branch):
        async with running_bridge(file) as client:
            status, answer = await client.post("cmd=list")
            assert (status, answer["error"]) == (503, "directory_unavailable")
            assert branch.url in answer["message"]
    async with running_bridge(file) as client:
        assert [user["userName"] for user in await client.list_users()] == ["anna", "bert"]
    with stopped(branch):
        async with running_bridge(file) as client:
            assert [user["userName"] for user in await client.list_users()] == ["anna", "bert"]
            assert await client.auth("anna", "Pass-anna")
            status, _ = await client.post("cmd=auth&user=bert&pass=Pass-bert")
            assert status == 503
        file.write_text(file.read_text().replace("ttl: 1ms", "ttl: 1ms, stale_if_error: 1ms"))
        async with running_bridge(file) as client:
            status, answer = await client.post("cmd=list")
            assert (status, answer["error"]) == (503, "directory_unavailable")


async def test_hanging_directory_delays_no_logins_of_another(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """It comes first, and those of the second log in at once all the same, or are told that a password is wrong."""
    company, branch = start_slapd([person("anna")]), start_slapd([person("bert")])
    file = configuration(company.url, tmp_path, more="cache: {refresh_ahead: false}")
    text = file.read_text()
    section = text[text.index("  - name: company") : text.index("cache:")]
    second = section.replace("company", "branch").replace(company.url, branch.url)
    file.write_text(text.replace(section, section + second))
    async with running_bridge(file) as client:
        assert len(await client.list_users()) == 2
        with hanging(company):
            started_s = time.monotonic()
            for _ in range(5):
                assert await client.auth("bert", "Pass-bert")
            assert time.monotonic() - started_s < 5
            for password in ("wrong", "another wrong one"):
                started_s = time.monotonic()
                assert not await client.auth("bert", password)
                assert time.monotonic() - started_s < LOGIN_S


@asynccontextmanager
async def directory(*ports: int, **options: object) -> AsyncIterator[tuple[LdapDirectory, list[Event]]]:
    limits = {"request_timeout_s": 1.0, "connect_timeout_s": 0.5, "listing_timeout_s": 4.0, **options}
    servers = tuple(ServerAddress("ldap", "127.0.0.1", port) for port in ports)
    account = {"bind_dn": READER, "bind_password": Secret(READER_PASSWORD.encode())}
    events: list[Event] = []
    found = LdapDirectory(LdapSettings("company", servers, **account, **limits), events.append)  # type: ignore[arg-type]
    try:
        yield found, events
    finally:
        await found.aclose()


@pytest.mark.parametrize("outage", [stopped, hanging])
async def test_listing_that_breaks_off_starts_anew_within_one_deadline(
    start_slapd: StartSlapd, tmp_path: Path, outage: Outage
) -> None:
    """Everybody comes from one server: the second knows other people, and none of the first are among them."""
    first = start_slapd([person(f"first{number}") for number in range(60)])
    second = start_slapd([person(f"second{number}") for number in range(60)])
    file = two_servers(tmp_path, first.url, second.url)
    file.write_text(file.read_text().replace("timeouts:", "page_size: 5\n    timeouts:"))
    async with running_bridge(file) as client, AsyncExitStack() as stack:
        seen = client.service.bridge.directories["company"].source
        original = seen.attribute_map
        count = 0

        class Counting:
            """The mapping, which ends the first server when it has mapped some."""

            def __getattr__(self, name: str) -> object:
                return getattr(original, name)

            def map_entry(self, entry: object) -> object:
                nonlocal count
                count += 1
                if count == 12:
                    stack.enter_context(outage(first))
                return original.map_entry(entry)  # type: ignore[arg-type]

        seen.attribute_map = Counting()  # type: ignore[assignment]
        started_s = time.monotonic()
        users = await client.list_users()
        assert {user["userName"] for user in users} == {f"second{number}" for number in range(60)}
        assert time.monotonic() - started_s < 4.5
        assert f'"server":"{first.url}"' in client.log.getvalue().replace('": "', '":"')


async def test_bind_whose_outcome_is_unknown_is_not_repeated_and_its_server_is_set_aside(
    start_slapd: StartSlapd,
) -> None:
    """The user tries again, and is answered by the second server."""
    first, second = start_slapd(), start_slapd()
    async with RecordingProxy(first.port) as one, RecordingProxy(second.port) as two:
        ports = [int(proxy.url.rpartition(":")[2]) for proxy in (one, two)]
        async with directory(*ports) as (found, events):
            dn, password = f"uid=anna,{PEOPLE}", Secret(b"Pass-anna")
            assert (await found.bind(dn, password)).rejection is None
            with hanging(first):
                with pytest.raises(DirectoryUnavailable, match="was not answered within"):
                    await found.bind(dn, password)
                assert (len(one.user_binds()), len(two.user_binds())) == (2, 0)
                assert [event.server for event in events if isinstance(event, ServerSetAside)] == [one.url]
                assert (await found.bind(dn, Secret(b"wrong"))).rejection is Rejection.WRONG_PASSWORD
                assert (len(one.user_binds()), len(two.user_binds())) == (2, 1)


async def test_idle_connections_that_the_server_closes_cost_nobody_a_login(start_slapd: StartSlapd) -> None:
    """OpenLDAP ends by `idletimeout` both kinds of connections between two logins."""
    slapd = start_slapd(overlays="idletimeout 1")
    async with directory(slapd.port) as (found, events):
        search = SearchRequest(BASE, Scope.SUBTREE, Equal("uid", b"anna"), ("uid",), 2)
        for _ in range(2):
            assert len((await found.look_up(search)).entries) == 1
            assert (await found.bind(f"uid=anna,{PEOPLE}", Secret(b"Pass-anna"))).rejection is None
            await until(lambda: "closed (idletimeout)" in (slapd.folder / "log").read_text())
            idle = [connection for _, connection in found._binds._idle[found._settings.servers[0]]]
            await until(lambda idle=idle: not any(connection.is_usable for connection in idle))  # type: ignore[misc]
        assert not [event for event in events if isinstance(event, ServerSetAside)]


async def test_service_account_that_is_refused_at_a_trial_is_bound_at_the_other_servers() -> None:
    """The first server comes back with an old password: it stays away, and the second takes new connections."""
    woken = asyncio.Event()

    async def sleep(_pause_s: float) -> None:
        await woken.wait()
        woken.clear()

    async def on_bind(session: Session, message: wire.Message, _request: wire.ReceivedBind) -> bool:
        session._writer.write(wire.write_result(message.id, wire.BIND_RESPONSE, 49))
        return True

    async with FaultyServer(small_directory("anna"), on_bind=on_bind) as first:
        async with FaultyServer(small_directory("anna")) as second:
            servers = tuple(ServerAddress("ldap", "127.0.0.1", port) for port in (first.port, second.port))
            account = {"bind_dn": READER, "bind_password": Secret(READER_PASSWORD.encode())}
            events: list[Event] = []
            found = LdapDirectory(LdapSettings("company", servers, **account), events.append, sleep=sleep)  # type: ignore[arg-type]
            first.refuses = True
            assert (await found.probe()).server == second.url
            first.refuses = False
            woken.set()
            await until(lambda: first.binds == [READER])
            await until(lambda: len([event for event in events if isinstance(event, ServerSetAside)]) == 2)
            assert (await found.probe()).server == second.url
            assert (first.binds, len(second.binds)) == ([READER], 2)
            await found.aclose()


async def test_expiry_of_a_certificate_is_told_where_it_was_checked(
    start_slapd: StartSlapd, authority_file: Path, make_certificate: Callable[..., tuple[Path, Path]]
) -> None:
    """Each time that the service account connects; a certificate known by its fingerprint alone has none that counts."""
    slapd = start_slapd(certificate=make_certificate())
    server = ServerAddress("ldaps", "127.0.0.1", slapd.tls_port)
    checked, unchecked = ssl.create_default_context(cafile=str(authority_file)), ssl.create_default_context()
    unchecked.check_hostname, unchecked.verify_mode = False, ssl.CERT_NONE
    for tls, count in ((checked, 1), (unchecked, 0)):
        events: list[Event] = []
        found = LdapDirectory(LdapSettings("company", (server,), tls=tls), events.append)
        await found.probe()
        await found.aclose()
        expiries = [event.expires_at_s for event in events if isinstance(event, CertificateSeen)]
        assert len(expiries) == count
        assert all(expiry_s > time.time() for expiry_s in expiries)


async def test_busy_server_is_left_for_the_next_and_tried_in_the_background() -> None:
    """51 to the service bind: the second server answers; the first is asked again when it takes the account."""
    is_busy = True

    async def on_bind(session: Session, message: wire.Message, _request: wire.ReceivedBind) -> bool:
        if is_busy:
            session._writer.write(wire.write_result(message.id, wire.BIND_RESPONSE, 51))
        return is_busy

    woken = asyncio.Event()

    async def sleep(_pause_s: float) -> None:
        await woken.wait()
        woken.clear()

    async with FaultyServer(small_directory("anna"), on_bind=on_bind) as first:
        async with FaultyServer(small_directory("anna")) as second:
            servers = tuple(ServerAddress("ldap", "127.0.0.1", port) for port in (first.port, second.port))
            settings = LdapSettings("company", servers, bind_dn=READER, bind_password=Secret(READER_PASSWORD.encode()))
            events: list[Event] = []
            found = LdapDirectory(settings, events.append, sleep=sleep)
            search = SearchRequest(PEOPLE, Scope.SUBTREE, Equal("uid", b"anna"), ("uid",), 2)
            assert len((await found.look_up(search)).entries) == 1
            assert len(second.searches) == 1
            woken.set()
            await until(lambda: len([event for event in events if isinstance(event, ServerSetAside)]) == 2)
            is_busy = False
            woken.set()
            await until(lambda: any(isinstance(event, ServerRestored) for event in events))
            assert len((await found.look_up(search)).entries) == 1
            assert (len(first.searches), len(second.searches)) == (1, 1)
            await found.aclose()
