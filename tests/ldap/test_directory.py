"""Connections and servers on a bad day: closed, hanging, refused, too many."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from bridge.demo import wire
from bridge.demo.server import EmbeddedServer, Session
from bridge.directory import Scope, SearchRequest
from bridge.errors import DirectoryRefused, DirectoryUnavailable, SearchIncomplete
from bridge.events import Event, OperationEnded, ServerSetAside
from bridge.ldap.directory import LdapDirectory
from bridge.ldap.settings import LdapSettings, ServerAddress
from bridge.model import Rejection, Secret
from bridge.syntax import ber
from bridge.syntax.filters import Equal
from tests.faults.server import FaultyServer, FaultySession, small_directory
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD, free_port

LOOK_UP = SearchRequest(PEOPLE, Scope.SUBTREE, Equal("uid", b"anna"), ("uid",), 2)
ANNA, PASSWORD = f"uid=anna,{PEOPLE}", Secret(b"Pass-anna")


def address(server: EmbeddedServer, *, start_tls: bool = False) -> ServerAddress:
    return ServerAddress("ldap", "127.0.0.1", server.port, start_tls)


@asynccontextmanager
async def directory(*servers: ServerAddress, **options: object) -> AsyncIterator[tuple[LdapDirectory, list[Event]]]:
    limits = {"request_timeout_s": 2.0, "connect_timeout_s": 1.0, **options}
    settings = LdapSettings(
        "company",
        servers,
        bind_dn=READER,
        bind_password=Secret(READER_PASSWORD.encode()),
        **limits,  # type: ignore[arg-type]
    )
    events: list[Event] = []
    found = LdapDirectory(settings, events.append)
    try:
        yield found, events
    finally:
        await found.aclose()


def set_aside(events: list[Event]) -> list[str]:
    return [event.server for event in events if isinstance(event, ServerSetAside)]


async def hang(_session: Session, _message: wire.Message, _request: object) -> bool:
    await asyncio.Event().wait()
    return True


async def test_look_up_over_a_connection_that_dies_is_asked_once_more() -> None:
    """Servers close idle connections, sometimes just as we ask; a search may be repeated."""
    count = 0

    async def on_search(session: Session, _message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        nonlocal count
        count += 1
        if count == 2:
            session._writer.close()
            return True
        return False

    async with FaultyServer(small_directory("anna"), on_search=on_search) as server:
        async with directory(address(server)) as (found, events):
            for _ in range(2):
                assert len((await found.look_up(LOOK_UP)).entries) == 1
            assert count == 3
            assert set_aside(events) == []


async def test_look_ups_share_one_connection() -> None:
    """A hundred at once are one service bind, each with its own answer."""
    uids = [f"u{number}" for number in range(100)]
    async with (
        FaultyServer(small_directory(*uids)) as server,
        directory(address(server), queue_limit_count=100) as (found, _),
    ):
        searches = [SearchRequest(PEOPLE, Scope.SUBTREE, Equal("uid", uid.encode()), ("uid",), 2) for uid in uids]
        answers = await asyncio.gather(*map(found.look_up, searches))
        assert [answer.entries[0].attributes["uid"] for answer in answers] == [[uid.encode()] for uid in uids]
        assert server.binds == [READER]


async def test_look_up_goes_to_the_next_server_when_one_hangs() -> None:
    """The first may take its share of the time, then the second answers; next time it is asked first."""
    async with (
        FaultyServer(small_directory("anna"), on_search=hang) as hanging,
        FaultyServer(small_directory("anna")) as good,
        directory(address(hanging), address(good), request_timeout_s=1.0) as (found, events),
    ):
        assert len((await found.look_up(LOOK_UP)).entries) == 1
        assert set_aside(events) == [f"ldap://127.0.0.1:{hanging.port}"]
        assert len((await found.look_up(LOOK_UP)).entries) == 1
        assert len(hanging.searches) == 1


async def test_operations_go_to_the_next_server_when_one_is_gone() -> None:
    """Connection refused: look-ups, binds and the root DSE come from the second server."""
    gone = ServerAddress("ldap", "127.0.0.1", free_port())
    async with FaultyServer(small_directory("anna")) as good:
        for operation in ("look_up", "bind", "probe"):
            async with directory(gone, address(good)) as (found, events):
                if operation == "look_up":
                    assert len((await found.look_up(LOOK_UP)).entries) == 1
                elif operation == "bind":
                    assert (await found.bind(ANNA, PASSWORD)).rejection is None
                else:
                    assert (await found.probe()).server == good.url
                assert set_aside(events) == [gone.url]


async def test_wrong_password_is_an_answer_that_no_other_server_is_asked_for() -> None:
    """Result 49 ends it, and so does a bind that says nothing."""
    async with (
        FaultyServer(small_directory("anna")) as first,
        FaultyServer(small_directory("anna")) as second,
        directory(address(first), address(second)) as (found, _),
    ):
        assert (await found.bind(ANNA, Secret(b"wrong"))).rejection is Rejection.WRONG_PASSWORD
        assert second.binds == []
        first.on_bind = hang
        with pytest.raises(DirectoryUnavailable):
            await found.bind(ANNA, PASSWORD)
        assert second.binds == []


async def test_all_servers_gone_are_named_with_what_is_wrong() -> None:
    """One message tells of each."""
    gone = [ServerAddress("ldap", "127.0.0.1", free_port()) for _ in range(2)]
    async with directory(*gone) as (found, _):
        with pytest.raises(DirectoryUnavailable) as caught:
            await found.look_up(LOOK_UP)
        assert all(server.url in caught.value.message for server in gone)
        assert "runs and listens" in caught.value.message


async def test_requests_beyond_the_queue_are_turned_away() -> None:
    """Two places and one chair: the fourth caller is told to come again, the others get their answer."""
    release = asyncio.Event()

    async def on_bind(_session: Session, _message: wire.Message, request: wire.ReceivedBind) -> bool:
        if request.dn != READER:
            await release.wait()
        return False

    async with FaultyServer(small_directory("anna"), on_bind=on_bind) as server:
        async with directory(address(server), bind_connection_count=2, queue_limit_count=1) as (found, _):
            tasks = [asyncio.create_task(found.bind(ANNA, PASSWORD)) for _ in range(3)]
            await asyncio.sleep(0.1)
            with pytest.raises(DirectoryUnavailable, match="1 requests wait already"):
                await found.bind(ANNA, PASSWORD)
            release.set()
            assert [result.rejection for result in await asyncio.gather(*tasks)] == [None] * 3
            assert found._bind_limiter.waiting_count == 0


@pytest.mark.parametrize("options", [{"reuse_bind_connections": False}, {"idle_s": 0.01}])
async def test_bind_connections_are_closed_when_they_are_not_to_be_kept(options: dict[str, object]) -> None:
    """After each bind, or after their time of leisure."""
    async with FaultyServer(small_directory("anna")) as server, directory(address(server), **options) as (found, _):
        assert (await found.bind(ANNA, PASSWORD)).rejection is None
        await asyncio.wait_for(server.until_empty(), 5)
        assert (await found.bind(ANNA, PASSWORD)).rejection is None


async def test_server_that_accepts_and_says_nothing_is_unavailable_in_time() -> None:
    """A connect time-out counts for the service bind, too."""
    async with FaultyServer(small_directory("anna"), on_bind=hang) as server:
        async with directory(address(server), connect_timeout_s=0.1) as (found, _):
            with pytest.raises(DirectoryUnavailable, match="service bind was not answered"):
                await found.look_up(LOOK_UP)


async def test_reference_in_a_look_up_is_incomplete_unless_ignored() -> None:
    """Somebody of that name may live elsewhere; nothing is followed."""

    async def on_search(session: Session, message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        content = ber.write_element(wire.SEARCH_REFERENCE, ber.write_octets(b"ldap://elsewhere/"))
        session._writer.write(ber.write_element(ber.SEQUENCE, ber.write_integer(message.id), content))
        return False

    async with FaultyServer(small_directory("anna"), on_search=on_search) as server:
        async with directory(address(server)) as (found, _):
            with pytest.raises(SearchIncomplete, match=r"refers to ldap://elsewhere\. ") as caught:
                await found.look_up(LOOK_UP)
            assert caught.value.subject == "ldap://elsewhere/"
        async with directory(address(server), ignore_references=True) as (found, _):
            assert len((await found.look_up(LOOK_UP)).entries) == 1


@pytest.mark.parametrize("is_first", [True, False])
async def test_root_dse_that_comes_with_another_entry_is_none(is_first: bool) -> None:
    """It has one entry (RFC 4512 §5.1); of two nobody knows which one says where the entries are. The next server is asked."""

    async def script(session: FaultySession, message: wire.Message) -> bool:
        if not (isinstance(message.operation, wire.ReceivedSearch) and message.operation.base == ""):
            return False
        right, other = await session.right_answer(message), wire.write_entry(message.id, "uid=x,dc=x", ())
        session.writer.write(b"".join((other, *right) if is_first else (*right[:-1], other, right[-1])))
        return True

    async with FaultyServer(small_directory("anna")) as odd, FaultyServer(small_directory("anna")) as good:
        odd.on_request = script
        async with directory(address(odd)) as (found, _):
            with pytest.raises(SearchIncomplete, match="one entry was asked for, and 2 came"):
                await found.probe()
        async with directory(address(odd), address(good)) as (found, _):
            assert (await found.probe()).naming_contexts


async def test_start_tls_that_is_refused_sends_no_password() -> None:
    """No fall-back to clear text: the error says what to do."""
    async with FaultyServer(small_directory("anna")) as server:
        tls = ssl.create_default_context()
        async with directory(address(server, start_tls=True), tls=tls) as (found, _):
            for operation in (found.look_up(LOOK_UP), found.bind(ANNA, PASSWORD)):
                with pytest.raises(DirectoryRefused, match="StartTLS was refused"):
                    await operation
        assert server.binds == []


@pytest.mark.parametrize(
    "words",
    [
        b"\x30\x50\x02\x01\x02",
        b"\x30",
        wire.write_result(1, wire.EXTENDED_RESPONSE, 0),
        wire.write_result(1, wire.BIND_RESPONSE, 0),
        wire.write_result(2, wire.BIND_RESPONSE, 0),
        wire.write_entry(1, ANNA, [("uid", [b"anna"])]),
        wire.write_notice(52, "going down"),
        b"HTTP/1.1 200 OK\r\n",
    ],
)
async def test_words_between_start_tls_and_the_handshake_are_not_believed(
    authority: trustme.CA, make_certificate: Callable[..., tuple[Path, Path]], words: bytes
) -> None:
    """Whoever sits in between could put an answer there in clear text (RFC 4511 §4.14.2)."""
    ended = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(wire.write_result(1, wire.EXTENDED_RESPONSE, 0) + words)
        with contextlib.suppress(ConnectionError):
            await reader.read(1000)
        writer.close()
        ended.set()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        tls = ssl.create_default_context()
        authority.configure_trust(tls)
        async with directory(ServerAddress("ldap", "127.0.0.1", port, True), tls=tls) as (found, _):
            sentence = r"in clear text|broke the protocol|ended the connection"
            with pytest.raises(DirectoryUnavailable, match=sentence) as caught:
                await found.bind(ANNA, PASSWORD)
            assert caught.value.remedy
        await asyncio.wait_for(ended.wait(), 5)


async def test_server_that_speaks_no_tls_is_told_apart() -> None:
    """An ldaps:// address that meets plain LDAP fails with a word about TLS."""
    async with FaultyServer(small_directory("anna")) as server:
        tls = ssl.create_default_context()
        async with directory(ServerAddress("ldaps", "127.0.0.1", server.port), tls=tls) as (found, _):
            with pytest.raises(DirectoryUnavailable, match="TLS"):
                await found.look_up(LOOK_UP)


async def test_cancelled_look_up_leaves_its_connection_clean() -> None:
    """Others on the same connection get their own answers, and the server is told to forget it."""
    release = asyncio.Event()
    asked = asyncio.Event()

    async def on_search(_session: Session, _message: wire.Message, _request: wire.ReceivedSearch) -> bool:
        if not asked.is_set():
            asked.set()
            await release.wait()
        return False

    async with FaultyServer(small_directory("anna"), on_search=on_search) as server:
        async with directory(address(server)) as (found, _):
            first = asyncio.create_task(found.look_up(LOOK_UP))
            await asyncio.wait_for(asked.wait(), 5)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
            release.set()
            assert len((await found.look_up(LOOK_UP)).entries) == 1


async def test_operations_are_told_with_their_outcome_and_duration() -> None:
    """What metrics count: directory, server, operation, outcome."""
    async with FaultyServer(small_directory("anna")) as server, directory(address(server)) as (found, events):
        await found.look_up(LOOK_UP)
        await found.bind(ANNA, PASSWORD)
        told = [(event.operation, event.outcome) for event in events if isinstance(event, OperationEnded)]
        assert told == [("look_up", "ok"), ("user_bind", "ok")]
        assert all(event.duration_s >= 0 for event in events if isinstance(event, OperationEnded))
