"""Each fault of the proxy, between a real slapd and the program's own client or bytes written by hand."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

import pytest

from bridge.directory import Scope, SearchRequest
from bridge.errors import DirectoryRefused, DirectoryUnavailable, SearchIncomplete
from bridge.ldap.directory import LdapDirectory
from bridge.ldap.settings import LdapSettings, ServerAddress
from bridge.model import Rejection, Secret
from bridge.syntax import ber
from bridge.syntax.filters import Equal
from tests.support.ldap_messages import Answer, MessageSplitter, Request, read_answer, write_controls
from tests.support.ldap_proxy import LdapProxy
from tests.support.proxied_connection import Rule
from tests.support.slapd import BASE, PEOPLE, READER, READER_PASSWORD, Slapd, person
from tests.support.waiting import until

pytestmark = pytest.mark.slapd

ANNA, PASSWORD = f"uid=anna,{PEOPLE}", Secret(b"Pass-anna")
BERT = f"uid=bert,{PEOPLE}"
LOOK_UP = SearchRequest(PEOPLE, Scope.SUBTREE, Equal("uid", b"anna"), ("uid",), 2)
LOCKED = write_controls(("1.3.6.1.4.1.42.2.27.8.5.1", bytes.fromhex("3003 81 01 01")))
"""draft-behera-ldap-password-policy-11 §6.2: accountLocked."""
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture(scope="module")
def slapd(
    tmp_path_factory: pytest.TempPathFactory, make_certificate: Callable[..., tuple[Path, Path]]
) -> Iterator[Slapd]:
    """One server for all: no test changes it."""
    folder = tmp_path_factory.mktemp("proxied") / "slapd"
    with Slapd(folder, [person("anna"), person("bert")], certificate=make_certificate()) as server:
        yield server


@pytest.fixture
async def proxy(slapd: Slapd) -> AsyncIterator[LdapProxy]:
    """A proxy before it, which leaves no task behind."""
    async with LdapProxy(("127.0.0.1", slapd.port)) as found:
        yield found
    assert asyncio.all_tasks() == {asyncio.current_task()}


@asynccontextmanager
async def directory(
    proxy: LdapProxy, scheme: str = "ldap", *, start_tls: bool = False, **options: object
) -> AsyncIterator[LdapDirectory]:
    settings = LdapSettings(
        "company",
        (ServerAddress(scheme, "127.0.0.1", proxy.port, start_tls),),
        bind_dn=READER,
        bind_password=Secret(READER_PASSWORD.encode()),
        **{"request_timeout_s": 5.0, **options},  # type: ignore[arg-type]
    )
    found = LdapDirectory(settings, lambda _: None)
    try:
        yield found
    finally:
        await found.aclose()


@asynccontextmanager
async def server(serve: Serve) -> AsyncIterator[tuple[str, int]]:
    """A server that treats each connection in this way; its address."""
    started = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield started.sockets[0].getsockname()[:2]
    finally:
        started.close()


class RawClient:
    """A connection that says and hears bytes."""

    def __init__(self, proxy: LdapProxy) -> None:
        self._port = proxy.port
        self._splitter = MessageSplitter()
        self._messages: list[bytes] = []

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.transport.abort()
        await asyncio.gather(self.writer.wait_closed(), return_exceptions=True)

    def search(self, message_id: int, base: str = "", scope: int = 0) -> None:
        """Ask for entries, by default for the root DSE."""
        operation = ber.write_element(
            0x63,
            ber.write_octets(base.encode()),
            ber.write_integer(scope, ber.ENUMERATED),
            ber.write_integer(0, ber.ENUMERATED),
            ber.write_integer(0),
            ber.write_integer(0),
            ber.write_boolean(False),
            ber.write_octets(b"objectClass", 0x87),
            ber.write_element(ber.SEQUENCE),
        )
        self.writer.write(ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), operation))

    def bind(self, message_id: int, dn: str = "", password: str = "") -> None:
        operation = ber.write_element(
            0x60, ber.write_integer(3), ber.write_octets(dn.encode()), ber.write_octets(password.encode(), 0x80)
        )
        self.writer.write(ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), operation))

    def who_am_i(self, message_id: int) -> None:
        """Ask as whom the connection is bound (RFC 4532)."""
        operation = ber.write_element(0x77, ber.write_octets(b"1.3.6.1.4.1.4203.1.11.3", 0x80))
        self.writer.write(ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), operation))

    async def receive(self) -> Answer | None:
        """Return the next message, or None at the end of the stream."""
        while not self._messages:
            data = await asyncio.wait_for(self.reader.read(65536), 10)
            if not data:
                return None
            self._messages += self._splitter.feed(data)
        return read_answer(self._messages.pop(0))

    async def results(self, count: int) -> list[tuple[int, int | None]]:
        """Return message id and result code of so many operations, in the order in which they end."""
        found: list[tuple[int, int | None]] = []
        while len(found) < count:
            answer = await self.receive()
            assert answer is not None
            if answer.is_last:
                found.append((answer.message_id, answer.result_code))
        return found

    async def is_cut_off(self) -> bool:
        """Wait for what comes next, which should be the end of the connection in either way."""
        try:
            return await self.receive() is None
        except ConnectionResetError:
            return True

    async def silence(self) -> None:
        """Fail where anything comes, the end of the stream too."""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(self.reader.read(1), 0.2)


async def ask(proxy: LdapProxy) -> None:
    """Read the root DSE on a connection of its own."""
    async with RawClient(proxy) as client:
        client.search(1)
        assert await client.results(1) == [(1, 0)]


def of(kind: str) -> Callable[[Request], bool]:
    return lambda request: request.kind == kind


def times_in_log(slapd: Slapd, text: str) -> int:
    return (slapd.folder / "log").read_text().count(text)


async def test_requests_pass_and_are_recorded(proxy: LdapProxy) -> None:
    """A look-up and a user bind have their answers, and no password is kept."""
    async with directory(proxy) as found:
        assert len((await found.look_up(LOOK_UP)).entries) == 1
        assert (await found.bind(ANNA, PASSWORD)).rejection is None
        assert (await found.bind(ANNA, Secret(b"wrong"))).rejection is Rejection.WRONG_PASSWORD
        assert proxy.open_count == 2
    assert proxy.binds_of(ANNA.upper()) == 2
    assert proxy.binds_of(READER) == 1
    search = next(search for search in proxy.searches if search.base)
    assert (search.base, search.scope, search.size_limit_count) == (PEOPLE, 2, 2)
    assert search.filter == bytes.fromhex("a30b 04 03") + b"uid" + bytes.fromhex("04 04") + b"anna"
    assert not any(request.is_password_empty for request in proxy.requests)
    assert "Pass-anna" not in repr(proxy.requests)
    await proxy.wait_for(of("unbind"))
    await until(lambda: proxy.open_count == 0)
    assert proxy.opened_count == 2


async def test_anonymous_bind_is_recorded_as_empty(proxy: LdapProxy) -> None:
    """RFC 4513 §5.1.2: whoever binds with an empty password is nobody, and the server says success."""
    async with RawClient(proxy) as client:
        client.bind(1)
        assert await client.results(1) == [(1, 0)]
    assert [request.is_password_empty for request in proxy.requests] == [True]


async def test_answer_searches_in_place_of_the_server(proxy: LdapProxy) -> None:
    """Only the searches that are meant, and only until it is healed."""
    proxy.answer_searches(51, "too much to do", only=lambda request: request.scope == 2)
    async with directory(proxy) as found:
        with pytest.raises(DirectoryUnavailable, match=r"busy \(51\)") as raised:
            await found.look_up(LOOK_UP)
        assert raised.value.diagnostic_message == "too much to do"
        await found.probe()
        proxy.heal()
        assert len((await found.look_up(LOOK_UP)).entries) == 1
        proxy.answer_searches(0, which="existing")
        assert (await found.look_up(LOOK_UP)).entries == ()


async def test_answer_searches_after_the_entries(proxy: LdapProxy) -> None:
    """The entries come from the server, the end of the search from the proxy, to the program's listing as well."""
    proxy.answer_searches(4, entries=True, only=lambda request: bool(request.base))
    async with RawClient(proxy) as client:
        client.bind(1, READER, READER_PASSWORD)
        assert await client.results(1) == [(1, 0)]
        client.search(2, PEOPLE, scope=2)
        answers = [await client.receive() for _ in range(4)]
        assert [answer and answer.result_code for answer in answers] == [None, None, None, 4]
    async with directory(proxy) as found, found.open_listing() as stream:
        with pytest.raises(SearchIncomplete):
            await anext(aiter(stream.read([LOOK_UP])))


async def test_answer_binds_with_controls_for_one_dn(proxy: LdapProxy) -> None:
    """Others are judged by the server."""
    proxy.answer_binds(49, controls=LOCKED, only=lambda dn: dn == ANNA)
    async with directory(proxy) as found:
        assert (await found.bind(ANNA, PASSWORD)).rejection is Rejection.ACCOUNT_LOCKED
        assert (await found.bind(BERT, Secret(b"Pass-bert"))).rejection is None
        assert proxy.binds_of(ANNA) == 1


async def test_answer_binds_of_the_service_account(proxy: LdapProxy) -> None:
    """On new connections alone, while the old one goes on."""
    async with directory(proxy) as found:
        await found.look_up(LOOK_UP)
        proxy.answer_binds(49, which="new")
        await found.look_up(LOOK_UP)
        with pytest.raises(DirectoryRefused):
            await found.probe()


@pytest.mark.parametrize(("fault", "judged_count"), [("swallow_binds", 1), ("drop_binds", 0)])
async def test_binds_without_an_answer(proxy: LdapProxy, slapd: Slapd, fault: str, judged_count: int) -> None:
    """The server has judged a bind that is swallowed, and not one that is dropped."""
    bound = f'BIND dn="{ANNA}" method=128'
    before_count = times_in_log(slapd, bound)
    getattr(proxy, fault)(only=lambda dn: dn == ANNA)
    async with directory(proxy, request_timeout_s=0.4) as found:
        with pytest.raises(DirectoryUnavailable):
            await found.bind(ANNA, PASSWORD)
        assert (await found.bind(BERT, Secret(b"Pass-bert"))).rejection is None
    assert proxy.binds_of(ANNA) == 1
    assert times_in_log(slapd, bound) == before_count + judged_count


async def test_delay_makes_answers_late_in_their_order(proxy: LdapProxy) -> None:
    """Those of one kind; entries stay before the end of their search."""
    async with RawClient(proxy) as client:
        proxy.delay(0.2, only=["search"])
        client.search(1)
        client.who_am_i(2)
        started_s = asyncio.get_running_loop().time()
        assert await client.results(1) == [(2, 0)]
        entry, end = await client.receive(), await client.receive()
        assert (entry, end) == (Answer(1, "search"), Answer(1, "search", is_last=True, result_code=0))
        assert asyncio.get_running_loop().time() - started_s >= 0.2


async def test_heal_sends_what_is_late(proxy: LdapProxy) -> None:
    """Nobody waits for the rest of the time."""
    async with RawClient(proxy) as client:
        proxy.delay(1000)
        client.search(1)
        await proxy.wait_for(of("search"))
        await client.silence()
        proxy.heal()
        assert await client.results(1) == [(1, 0)]


async def test_refuse_resets_new_connections(proxy: LdapProxy) -> None:
    """Existing ones go on."""
    async with RawClient(proxy) as existing:
        await until(lambda: proxy.open_count == 1)
        proxy.refuse()
        with pytest.raises(ConnectionResetError):
            await ask(proxy)
        existing.search(1)
        assert await existing.results(1) == [(1, 0)]
        assert (proxy.opened_count, proxy.refused_count) == (1, 1)
        proxy.heal()
        await ask(proxy)


async def test_stop_listening_and_listen_again_on_the_same_port(proxy: LdapProxy) -> None:
    """As often as a test likes; whoever is connected stays."""
    async with RawClient(proxy) as existing:
        await until(lambda: proxy.open_count == 1)
        for message_id in (1, 2):
            proxy.stop_listening()
            proxy.stop_listening()
            with pytest.raises(ConnectionRefusedError):
                await ask(proxy)
            existing.search(message_id)
            assert await existing.results(1) == [(message_id, 0)]
            proxy.listen_again()
            await ask(proxy)
        proxy.stop_listening()
        proxy.heal()
        await ask(proxy)


@pytest.mark.parametrize("rst", [True, False])
async def test_close_existing(proxy: LdapProxy, rst: bool) -> None:
    """With RST the client's read fails, with FIN it ends; new connections are let in."""
    async with RawClient(proxy) as client:
        client.search(1)
        await client.results(1)
        proxy.close_existing(rst=rst)
        assert proxy.open_count == 0
        if rst:
            with pytest.raises(ConnectionResetError):
                await client.receive()
        else:
            assert await client.receive() is None
    async with directory(proxy) as found:
        await found.probe()


@pytest.mark.parametrize(
    ("send", "reason"),
    [
        (lambda proxy: proxy.send_notice(52, "maintenance"), r"ended the connection \(result 52\)"),
        (lambda proxy: proxy.garbage(), "no LDAP server"),
        (lambda proxy: proxy.close_existing(rst=True), "closed the connection without a word"),
    ],
)
async def test_existing_connection_ends_amid_a_bind(
    proxy: LdapProxy, send: Callable[[LdapProxy], None], reason: str
) -> None:
    """The fault meets a request that is under way, and the client tells which one it was; then it connects anew."""
    async with directory(proxy) as found:
        proxy.on_request = lambda request: send(proxy) if request.dn == ANNA else None
        with pytest.raises(DirectoryUnavailable, match=reason):
            await found.bind(ANNA, PASSWORD)
        proxy.on_request = None
        assert (await found.bind(ANNA, PASSWORD)).rejection is None
        assert (proxy.binds_of(ANNA), proxy.opened_count) == (2, 2)


async def test_black_hole_swallows_in_silence(proxy: LdapProxy, slapd: Slapd) -> None:
    """Existing connections alone; revived, they pass messages again, and what was swallowed is lost."""
    async with RawClient(proxy) as client, RawClient(proxy) as other:
        client.search(1)
        other.search(1)
        assert await client.results(1) == await other.results(1) == [(1, 0)]
        proxy.black_hole("existing")
        client.search(2)
        await proxy.wait_for(lambda request: request.message_id == 2)
        await client.silence()
        async with directory(proxy) as found:
            assert len((await found.look_up(LOOK_UP)).entries) == 1
        proxy.heal()
        client.search(3)
        await client.silence()
        proxy.heal(revive_black_holed=True)
        client.search(4)
        assert await client.results(1) == [(4, 0)]


async def test_black_hole_on_new_connections_never_reaches_the_server(slapd: Slapd) -> None:
    """Not even that nobody listens there is noticed."""
    async with LdapProxy(("127.0.0.1", 1)) as proxy:
        proxy.black_hole("new")
        async with RawClient(proxy) as client:
            client.search(1)
            await proxy.wait_for(of("search"))
            await client.silence()
            proxy.target = ("127.0.0.1", slapd.port)
            proxy.heal(revive_black_holed=True)
            client.search(2)
            with pytest.raises(ConnectionResetError):  # the target of a connection is settled when it is accepted
                await client.receive()


async def test_black_hole_hides_the_end_of_either_side(start_slapd: Callable[..., Slapd]) -> None:
    """The server stops, the client knows nothing; revived, the connection is reset."""
    slapd = start_slapd()
    async with LdapProxy(("127.0.0.1", slapd.port)) as proxy, RawClient(proxy) as client, RawClient(proxy) as leaver:
        client.search(1)
        leaver.search(1)
        assert await client.results(1) == await leaver.results(1)
        assert not proxy.silent_connections
        proxy.black_hole()
        assert proxy.silent_connections == {1, 2}
        leaver.writer.close()
        slapd.stop()
        await until(lambda: proxy.open_count == 1)
        assert proxy.silent_connections == {1}
        await client.silence()
        proxy.heal(revive_black_holed=True)
        with pytest.raises(ConnectionResetError):
            await client.receive()


async def test_client_gives_up_a_connection_in_a_black_hole(proxy: LdapProxy) -> None:
    """A look-up goes on a new connection, in the time of one request; where new ones stay silent too, it ends."""
    async with directory(proxy, request_timeout_s=0.4) as found:
        await found.look_up(LOOK_UP)
        proxy.black_hole("existing")
        assert len((await found.look_up(LOOK_UP)).entries) == 1
        assert proxy.opened_count == 2
        proxy.black_hole("all")
        with pytest.raises(DirectoryUnavailable, match=f":{proxy.port}.*took longer"):
            await found.look_up(LOOK_UP)


async def test_on_request_may_stop_the_server(start_slapd: Callable[..., Slapd]) -> None:
    """At the moment when the request has arrived, before the server gets it."""
    slapd = start_slapd()

    def stop(request: Request) -> None:
        if request.base:
            slapd.stop()

    async with LdapProxy(("127.0.0.1", slapd.port), on_request=stop) as proxy, RawClient(proxy) as client:
        client.search(1)
        assert await client.results(1) == [(1, 0)]
        client.search(2, BASE)
        assert await client.is_cut_off()
        with pytest.raises(ConnectionResetError):  # the server is down
            await ask(proxy)


async def test_on_request_may_put_a_fault_before_its_own_request(proxy: LdapProxy) -> None:
    """What happens to a request is decided after the hook."""
    proxy.on_request = lambda request: proxy.answer_searches(request.message_id)
    async with RawClient(proxy) as client:
        for message_id in (51, 52):
            client.search(message_id)
            assert await client.results(1) == [(message_id, message_id)]


async def test_failing_hook_fails_the_test(slapd: Slapd) -> None:
    """It is raised where the proxy is left, and the connection ends at once."""

    def fail(_request: Request) -> None:
        raise LookupError("a hook")

    proxy = await LdapProxy(("127.0.0.1", slapd.port), on_request=fail).__aenter__()
    async with RawClient(proxy) as client:
        client.search(1)
        assert await client.is_cut_off()
    with pytest.raises(LookupError, match="a hook"):
        await proxy.__aexit__(None)


async def test_rule_of_a_test_s_own(proxy: LdapProxy) -> None:
    """Any answer to any request; the rule put in last goes first."""
    proxy.answer_searches(52)
    proxy.add(Rule(of("search"), lambda request: b"\xff" * request.message_id))
    async with RawClient(proxy) as client:
        client.search(3)
        assert await client.reader.readexactly(3) == b"\xff\xff\xff"


async def test_target_changes_for_new_connections(proxy: LdapProxy) -> None:
    """A connection keeps the server that it has."""

    async def greet(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"another")
        writer.close()

    async with RawClient(proxy) as old, server(greet) as address:
        old.search(1)
        await old.results(1)
        proxy.target = address
        async with RawClient(proxy) as client:
            assert await client.reader.read() == b"another"
        old.search(2)
        assert await old.results(1) == [(2, 0)]


@pytest.mark.parametrize("start_tls", [True, False])
async def test_tls_passes_unread(slapd: Slapd, proxy: LdapProxy, authority_file: Path, start_tls: bool) -> None:
    """From its first byte on, or from StartTLS on."""
    tls = ssl.create_default_context(cafile=str(authority_file))
    if not start_tls:
        proxy.target = ("127.0.0.1", slapd.tls_port)
    async with directory(proxy, "ldap" if start_tls else "ldaps", start_tls=start_tls, tls=tls) as found:
        assert len((await found.look_up(LOOK_UP)).entries) == 1
        assert [request.kind for request in proxy.requests] == (["extended"] if start_tls else [])
        proxy.close_existing(rst=True)
        assert len((await found.look_up(LOOK_UP)).entries) == 1


@pytest.mark.parametrize("delay_s", [0.0, 0.1])
async def test_half_close_leaves_the_other_half(delay_s: float) -> None:
    """The server answers after the client has ended its stream, whole messages and the beginning of one."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.read()
        writer.write(b"\x30\x05\x02\x01\x01\x42\x00" + asked)
        writer.close()

    async with server(serve) as address, LdapProxy(address) as proxy, RawClient(proxy) as client:
        proxy.delay(delay_s)
        client.writer.write(b"\x30\x10half")
        client.writer.write_eof()
        assert await asyncio.wait_for(client.reader.read(), 10) == b"\x30\x05\x02\x01\x01\x42\x00\x30\x10half"
        assert proxy.open_count == 0


async def test_end_of_the_server_leaves_the_client_s_half() -> None:
    """What the client says afterwards still reaches the server."""
    heard: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write_eof()
        heard.set_result(await reader.read())
        writer.close()

    async with server(serve) as address, LdapProxy(address) as proxy, RawClient(proxy) as client:
        assert await client.receive() is None
        client.writer.write(b"\x30\x00")
        client.writer.write_eof()
        assert await asyncio.wait_for(heard, 10) == b"\x30\x00"


async def test_slow_reader_holds_the_server_back() -> None:
    """The proxy doesn't gather what a client leaves unread, and loses none of it."""
    message, count, sent_count = b"\x30\x83\x01\x00\x00" + bytes(65536), 1000, 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent_count
        for _ in range(count):
            writer.write(message)
            await writer.drain()
            sent_count += 1
        writer.close()

    async with server(serve) as address, LdapProxy(address) as proxy, RawClient(proxy) as client:
        previous_count = -1
        while sent_count != previous_count:
            previous_count = sent_count
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.Event().wait(), 0.1)
        assert sent_count < count / 2
        assert await client.reader.readexactly(len(message) * count) == message * count
        assert await client.reader.read() == b""


async def test_many_connections(proxy: LdapProxy) -> None:
    """Each has its own answers, and none is left."""

    async def ask_often() -> None:
        async with RawClient(proxy) as client:
            for message_id in range(1, 6):
                client.search(message_id)
            assert sorted(await client.results(5)) == [(message_id, 0) for message_id in range(1, 6)]

    await asyncio.gather(*(ask_often() for _ in range(200)))
    assert (proxy.opened_count, len(proxy.searches)) == (200, 1000)
    await until(lambda: proxy.open_count == 0)


async def test_leaving_ends_whatever_is_open(slapd: Slapd) -> None:
    """Connections that work, that hold answers, that are in a black hole, and one that nobody has accepted yet."""
    async with LdapProxy(("127.0.0.1", slapd.port)) as proxy:
        clients = [await RawClient(proxy).__aenter__() for _ in range(4)]
        await until(lambda: proxy.open_count == 4)
        proxy.delay(1000)
        clients[0].search(1)
        await proxy.wait_for(of("search"))
        await clients[0].silence()
        proxy.black_hole()
        clients[1].writer.write_eof()
        late = await RawClient(proxy).__aenter__()
    assert asyncio.all_tasks() == {asyncio.current_task()}
    for client in (*clients, late):
        with pytest.raises(ConnectionResetError):
            await client.receive()
        await client.__aexit__()


async def test_leaving_ends_what_is_still_connecting(proxy: LdapProxy) -> None:
    """A server whose queue is full lets connecting take minutes; the client can be sent away meanwhile."""
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())
        proxy.target = full.getsockname()
        async with RawClient(proxy) as sent_away, RawClient(proxy) as left:
            await until(lambda: proxy.open_count == 2)
            proxy.close_existing(rst=False)
            assert await sent_away.is_cut_off()
            assert await left.is_cut_off()
        async with RawClient(proxy):
            await until(lambda: proxy.open_count == 1)
            await proxy.__aexit__(None)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_reset_passes_through(proxy: LdapProxy) -> None:
    """From the server to the client, and from the client to the server."""
    async with LdapProxy(("127.0.0.1", proxy.port)) as outer, RawClient(outer) as client, RawClient(outer) as leaver:
        await until(lambda: proxy.open_count == 2)
        leaver.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        leaver.writer.transport.abort()
        await until(lambda: proxy.open_count == outer.open_count == 1)
        proxy.close_existing(rst=True)
        with pytest.raises(ConnectionResetError):
            await client.receive()
        await until(lambda: outer.open_count == 0)
