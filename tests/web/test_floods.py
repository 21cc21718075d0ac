"""Callers in great numbers, over plain HTTP and TLS: nobody who is in the right is kept out, and nothing grows."""

from __future__ import annotations

import asyncio
import contextlib
import re
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from bridge.events import ConnectionDropped, Event
from bridge.web.limits import WebLimits
from bridge.web.places import Places
from bridge.web.server import Listener, SocketAddress
from tests.faults.server import FaultyServer, small_directory
from tests.support.bridges import configuration
from tests.support.floods import (
    RightCaller,
    client_hello,
    connect,
    flood,
    is_closed,
    kept_flood,
    many_descriptors,
    open_count,
    pass_by,
    resident_kib,
)
from tests.support.serve_process import ServeProcess
from tests.support.slapd import free_port
from tests.support.waiting import until

pytestmark = pytest.mark.processes

SOFT_1024 = ("sh", "-c", 'ulimit -Sn 1024 && exec "$@"', "sh")
HARD_1024 = ("sh", "-c", 'ulimit -n 1024 && exec "$@"', "sh")
NO_CREDENTIALS = b"POST /mailstore HTTP/1.1\r\nHost: bridge\r\nContent-Length: 8\r\n\r\ncmd=list"
MakeCertificate = Callable[..., tuple[Path, Path]]


@pytest.fixture(autouse=True)
def _descriptors() -> Iterator[None]:
    with many_descriptors():
        yield


class Serving:
    """A `serve` of its own, with what asks it."""

    def __init__(self, process: ServeProcess, port: int, file: Path, tls: ssl.SSLContext | None) -> None:
        self.process, self.port, self.file, self.tls = process, port, file, tls
        self.caller = RightCaller(port, tls)

    @property
    def resident_kib(self) -> int:
        return resident_kib(self.process.process.pid)

    @property
    def descriptor_limits(self) -> tuple[str, str]:
        """The soft limit and the hard one."""
        text = Path(f"/proc/{self.process.process.pid}/limits").read_text()
        ((soft, hard),) = re.findall(r"Max open files +(\w+) +(\w+)", text)
        return soft, hard

    def lines(self, event: str) -> list[dict[str, object]]:
        return [line for line in self.process.lines if line["event"] == event]

    async def dropped(self, reason: str, listener: str = "server") -> int:
        """How many the metrics have counted."""
        text = (await self.admin("/metrics")).decode()
        found = re.search(rf'connections_dropped_total{{listener="{listener}",reason="{reason}"}} ([0-9.e+]+)', text)
        return int(float(found[1])) if found else 0

    async def admin(self, path: str) -> bytes:
        port = int(re.findall(r'admin: \{listen: "127.0.0.1:(\d+)"', self.file.read_text())[0])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        return answer


@asynccontextmanager
async def serving(
    folder: Path,
    certificate: tuple[Path, Path] | None = None,
    authority: Path | None = None,
    *,
    before: Sequence[str] = (),
) -> AsyncIterator[Serving]:
    async with FaultyServer(small_directory("anna")) as directory:
        file = configuration(directory.url, folder)
        text = file.read_text().replace(
            'admin: {listen: "127.0.0.1:0"}', f'admin: {{listen: "127.0.0.1:{free_port()}"}}'
        )
        text = text.replace("cache: {refresh_ahead: false}", "log: {level: info}")
        context = None
        if certificate is not None:
            tls = f'server: {{listen: "127.0.0.1:0", tls: {{certificate_file: {certificate[0]}, key_file: {certificate[1]}}}}}'
            text = text.replace('server: {listen: "127.0.0.1:0"}', tls)
            context = ssl.create_default_context(cafile=authority)
        file.write_text(text)
        async with ServeProcess(file, before=before) as process:
            found = Serving(process, await process.port(), file, context)
            try:
                for _ in range(3):
                    assert await found.caller.ask() == 200
                yield found
            finally:
                found.caller.close()


@pytest.fixture(params=["plain", "tls"])
def pair(
    request: pytest.FixtureRequest, make_certificate: MakeCertificate, authority_file: Path
) -> tuple[tuple[Path, Path] | None, Path]:
    """What `serving` needs for plain HTTP, and for TLS."""
    return (make_certificate() if request.param == "tls" else None), authority_file


async def test_health_checks_of_a_load_balancer_cost_nothing(
    tmp_path: Path, make_certificate: MakeCertificate, authority_file: Path
) -> None:
    """2,000 connections that are closed at once leave neither memory nor log lines, and are counted."""
    async with serving(tmp_path, make_certificate(), authority_file) as found:
        await pass_by(found.port, 200)
        assert await found.caller.ask() == 200
        before_kib, line_count = found.resident_kib, len(found.process.lines)
        await pass_by(found.port, 2000)
        assert await found.caller.ask() == 200
        assert found.resident_kib < before_kib * 1.1
        assert len(found.process.lines) <= line_count + 2
        assert await found.dropped("gone") == 2200


async def test_silent_connections_keep_nobody_out(tmp_path: Path, pair: tuple[tuple[Path, Path] | None, Path]) -> None:
    """2,500 that say nothing: new callers are answered, the log has one line, and each is counted."""
    async with serving(tmp_path, *pair) as found:
        before_kib = found.resident_kib
        async with flood(found.port, 2500) as held:
            assert len(held) == 2500
            assert [await found.caller.ask() for _ in range(5)] == [200] * 5
            assert found.resident_kib < before_kib * (1.2 if pair[0] else 1.6)
            assert len(found.lines("connections.refused")) == 1
            assert await found.dropped("displaced") >= 1500
        assert not found.lines("library.logged")
        assert len(found.process.lines) < 30


@pytest.mark.parametrize("before", [SOFT_1024, HARD_1024], ids=["soft", "hard"])
async def test_limit_of_descriptors_is_not_reached(
    tmp_path: Path, pair: tuple[tuple[Path, Path] | None, Path], before: Sequence[str]
) -> None:
    """1,140 connections where 1,024 descriptors are allowed: answered, and no error of accept(2) is logged.

    The soft limit is raised to the hard one.
    """
    async with serving(tmp_path, *pair, before=before) as found:
        assert len(set(found.descriptor_limits)) == 1
        async with flood(found.port, 1140):
            assert [await found.caller.ask() for _ in range(5)] == [200] * 5
            assert await found.dropped("descriptors") == 0
        assert not found.lines("library.logged")
        assert len(found.process.lines) < 30


async def test_kept_connections_of_one_address_lock_nobody_out(
    tmp_path: Path, pair: tuple[tuple[Path, Path] | None, Path]
) -> None:
    """1,100 (over TLS 800) with a request each and no credentials: another caller is answered throughout, and keeps its connection."""
    async with serving(tmp_path, *pair) as found:
        assert await found.caller.ask(keep=True) == 200
        asking = asyncio.create_task(found.caller.keep_asking())
        try:
            async with kept_flood(found.port, 800 if found.tls else 1100, NO_CREDENTIALS, found.tls):
                await asyncio.sleep(0.5)
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        assert len(found.caller.statuses) > 10
        assert set(found.caller.statuses) == {200}
        assert found.caller.connection_count == 1
        assert 1 <= len(found.lines("connections.refused")) <= 2


async def test_watchers_and_commands_are_answered_while_all_places_are_at_work(tmp_path: Path) -> None:
    """The admin listener and the control socket have some of their own; whoever is being answered is not cut off."""
    entered_count, leave = 0, asyncio.Event()

    async def work(_request: web.BaseRequest) -> web.Response:
        nonlocal entered_count
        entered_count += 1
        await leave.wait()
        return web.Response()

    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(text="here")

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        try:
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()

    limits, path = WebLimits(), str(tmp_path / "control.sock")
    places = Places(limits)
    server = Listener(work, limits, places.make_pool("server"))
    admin = Listener(answer, limits, places.make_pool("admin", is_reserved=True))
    control = Listener(answer, limits, places.make_pool("control", is_reserved=True))
    await server.start((SocketAddress("127.0.0.1", 0),))
    await admin.start((SocketAddress("127.0.0.1", 0),))
    await control.start((SocketAddress(path=path),))
    port, says = server.addresses[0][1], b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    try:
        async with flood(port, 800, says=says), flood(port, 400, says=says, source="127.0.0.3"):
            await until(lambda: entered_count == 1000 - 2 * 32, 10)
            for _ in range(3):
                assert b"200 OK" in await ask(*await asyncio.open_connection("127.0.0.1", admin.addresses[0][1]))
                assert b"200 OK" in await ask(*await asyncio.open_unix_connection(path))
            with pytest.raises(ConnectionError):
                await ask(*await asyncio.open_connection("127.0.0.1", port))
            assert entered_count == 1000 - 2 * 32
            leave.set()
    finally:
        leave.set()
        for each in (server, admin, control):
            await each.aclose()


async def test_failed_handshakes_leave_no_memory(
    tmp_path: Path, make_certificate: MakeCertificate, authority_file: Path
) -> None:
    """5,000 that begin TLS: those who leave in the middle of it, and those who send what is no TLS after all."""
    hello, broken = client_hello(), b"\x16\x03\x01\x00\x05hello"
    async with serving(tmp_path, make_certificate(), authority_file) as found:
        await pass_by(found.port, 300, says=hello, wait=True)
        await pass_by(found.port, 300, says=broken, wait=True)
        before_kib, line_count = found.resident_kib, len(found.process.lines)
        await pass_by(found.port, 2500, says=hello, wait=True)
        await pass_by(found.port, 2500, says=broken, wait=True)
        assert await found.caller.ask() == 200
        assert found.resident_kib < before_kib * 1.15
        assert len(found.process.lines) <= line_count + 2
        assert await found.dropped("handshake") >= 5600


async def test_other_bytes_than_those_of_tls_are_not_taken(
    tmp_path: Path, make_certificate: MakeCertificate, authority_file: Path
) -> None:
    """Plain HTTP at the HTTPS port is closed at once, and counted."""
    async with serving(tmp_path, make_certificate(), authority_file) as found:
        async with flood(found.port, 5, says=NO_CREDENTIALS) as held:
            await until(lambda: all(map(is_closed, held)), 5)
        assert await found.dropped("not_tls") == 5


@asynccontextmanager
async def listening(
    limits: WebLimits, certificate: tuple[Path, Path] | None = None, events: list[Event] | None = None
) -> AsyncIterator[tuple[Listener, int]]:
    async def answer(_request: web.BaseRequest) -> web.Response:
        return web.Response(text="here")

    tls = None
    if certificate is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*certificate)
    pool = Places(limits, (events if events is not None else list[Event]()).append).make_pool("server")
    listener = Listener(answer, limits, pool)
    await listener.start((SocketAddress("127.0.0.1", 0),), tls)
    try:
        yield listener, listener.addresses[0][1]
    finally:
        await listener.aclose()


@pytest.mark.parametrize("says", [b"", b"\x16", client_hello()], ids=["nothing", "a byte", "a greeting"])
async def test_handshake_must_end_within_its_time(make_certificate: MakeCertificate, says: bytes) -> None:
    """From the connection on, however much of it has come; aiohttp's time for headers begins afterwards."""
    async with listening(WebLimits(handshake_timeout_s=0.3), make_certificate()) as (_, port):
        async with flood(port, 3, says=says) as held:

            def are_ended() -> bool:
                for each in held:
                    with contextlib.suppress(OSError):
                        each.recv(65536)
                return all(map(is_closed, held))

            await until(are_ended, 5)


@pytest.mark.parametrize(
    "says",
    [b"", b"\x16", client_hello(), NO_CREDENTIALS],
    ids=["nothing", "a byte", "a greeting", "a request"],
)
async def test_descriptors_are_as_before(pair: tuple[tuple[Path, Path] | None, Path], says: bytes) -> None:
    """Once a flood is over, whatever it has sent, and however it was ended."""
    limits = WebLimits(connection_count=50)
    before_count = open_count()
    async with listening(limits, pair[0]) as (_, port):
        await pass_by(port, 100, says=says)
        listening_count = before_count + 1
        await until(lambda: open_count() <= listening_count)
        async with flood(port, 200, says=says):
            pass
        await until(lambda: open_count() <= listening_count)
        held = [await connect(port) for _ in range(20)]
    await until(lambda: all(map(is_closed, held)), 5)
    for each in held:
        each.close()
    await until(lambda: open_count() <= before_count)


def reasons(events: list[Event]) -> list[str]:
    return [event.reason for event in events if isinstance(event, ConnectionDropped)]


async def test_end_waits_for_no_handshake(make_certificate: MakeCertificate) -> None:
    """Callers that have begun TLS and go no further don't keep the service from ending."""
    async with listening(WebLimits(handshake_timeout_s=60), make_certificate()) as (listener, port):
        async with flood(port, 5, says=client_hello()) as held:
            for each in held:
                await asyncio.wait_for(asyncio.get_running_loop().sock_recv(each, 1), 5)
            await asyncio.wait_for(listener.aclose(), 2)


async def test_caller_that_does_not_trust_the_certificate_is_counted(make_certificate: MakeCertificate) -> None:
    """With TLS 1.3 its alert comes when the handshake is over for us."""
    events: list[Event] = []
    async with listening(WebLimits(), make_certificate(), events) as (_, port):
        with pytest.raises(ssl.SSLCertVerificationError):
            await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context())
        await until(lambda: reasons(events) == ["handshake"], 5)


async def test_lack_of_descriptors_is_told_once_and_passes() -> None:
    """Where something else has taken them all, callers wait in the kernel until there are some again."""
    events: list[Event] = []
    async with listening(WebLimits(), None, events) as (_, port):
        found = socket.socket()
        found.setblocking(False)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (1, hard))
        try:
            await asyncio.get_running_loop().sock_connect(found, ("127.0.0.1", port))
            await until(lambda: "descriptors" in reasons(events), 5)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await asyncio.get_running_loop().sock_sendall(found, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(found, 4096), 5)
        assert answer.startswith(b"HTTP/1.1 200")
        assert len(reasons(events)) <= 2
        found.close()


@pytest.mark.parametrize(
    "says",
    [
        NO_CREDENTIALS[:40],
        NO_CREDENTIALS.replace(b"Length: 8", b"Length: 99"),
        NO_CREDENTIALS.replace(b"/mailstore", b"/elsewhere").replace(b"Length: 8", b"Length: 99"),
    ],
    ids=["headers", "body", "body that nobody reads"],
)
async def test_request_that_does_not_end_holds_no_place(says: bytes) -> None:
    """It goes in favour of a new caller, whether its headers, its body, or what is left of that is waited for."""
    async with listening(WebLimits(connection_count=20)) as (_, port):
        async with flood(port, 20, says=says):
            await asyncio.sleep(0.05)
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 200")
            writer.close()
        tasks = asyncio.all_tasks()
        await until(lambda: all(each.done() or each is asyncio.current_task() for each in tasks), 5)
