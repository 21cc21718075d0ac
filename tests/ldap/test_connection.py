from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from bridge.directory import Scope, SearchRequest
from bridge.errors import DirectoryUnavailable
from bridge.ldap.connection import Connection
from bridge.ldap.settings import LdapSettings, ServerAddress
from bridge.ldap.transport import open_connection
from bridge.syntax.ber import message_size, read_header, write_element
from bridge.syntax.filters import Present

SEARCH = SearchRequest("dc=example,dc=com", Scope.SUBTREE, Present("uid"), ("uid",))
SEARCH_TAG, ABANDON_TAG, UNBIND_TAG = 0x63, 0x50, 0x42


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, asyncio.StreamReader]]:
    """A connection, and what its server reads."""
    arrived: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()
    writers: list[asyncio.StreamWriter] = []

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        await arrived.put(reader)

    server = await asyncio.start_server(take, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    address = ServerAddress("ldap", "127.0.0.1", port, False)
    connection = await open_connection(LdapSettings("company", (address,)), address)
    try:
        yield connection, await arrived.get()
    finally:
        connection.abort()
        for writer in writers:
            writer.close()
        server.close()
        await server.wait_closed()


def tags_of(data: bytes) -> list[int]:
    """The operations of the messages in `data`, by their tags."""
    found, position = [], 0
    while (size := message_size(data, position)) is not None and position + size <= len(data):
        _, inner, end = read_header(data, position, len(data))
        _, _, inner = read_header(data, inner, end)
        found.append(data[inner])
        position += size
    assert position == len(data)
    return found


async def test_searches_of_one_turn_leave_together() -> None:
    """Fifty logins at once cost one call of the system, not fifty."""
    async with connected() as (connection, reader):
        for _ in range(5):
            connection.send_search(SEARCH)
        assert tags_of(await asyncio.wait_for(reader.read(65536), 5)) == [SEARCH_TAG] * 5


async def test_search_that_is_given_up_at_once_is_abandoned_behind_itself() -> None:
    """An abandon request that came before its search would leave the server working for nobody (RFC 4511 §4.11)."""
    async with connected() as (connection, reader):
        waiting = asyncio.create_task(connection.wait(connection.send_search(SEARCH)))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        exchange = connection.send_search(SEARCH)
        connection.abandon(exchange)
        data = b""
        while len(tags_of(data)) < 3:
            data += await asyncio.wait_for(reader.read(65536), 5)
        assert [tag for tag in tags_of(data) if tag == SEARCH_TAG] == [SEARCH_TAG, SEARCH_TAG]
        assert tags_of(data)[-1] == ABANDON_TAG


async def test_what_was_gathered_is_not_sent_over_a_connection_that_has_ended() -> None:
    """A connection dropped in the same turn carries nothing more."""
    async with connected() as (connection, reader):
        exchange = connection.send_search(SEARCH)
        connection.abort()
        with pytest.raises(Exception, match="dropped"):
            await connection.wait(exchange)
        with contextlib.suppress(ConnectionResetError):
            assert await asyncio.wait_for(reader.read(65536), 5) == b""


@pytest.mark.parametrize("message_id", ["040101", "0200", "0209000000000000000001", "010101"])
async def test_message_without_an_id_ends_the_connection(message_id: str) -> None:
    """RFC 4511 §4.1.1: a number up to maxInt; whose answer anything else would be, nobody knows."""
    async with connected() as (connection, reader):
        exchange = connection.send_search(SEARCH)
        await reader.read(100)
        operation = write_element(0x65, bytes.fromhex("0a010004000400"))
        reader._transport.write(write_element(0x30, bytes.fromhex(message_id), operation))  # type: ignore[attr-defined]
        with pytest.raises(DirectoryUnavailable, match="broke the protocol"):
            await asyncio.wait_for(connection.wait(exchange), 5)


async def test_message_id_may_have_more_octets_than_it_needs() -> None:
    """The twin: X.690 §8.3.2 forbids it, and the number is plain all the same."""
    async with connected() as (connection, reader):
        exchange = connection.send_search(SEARCH)
        await reader.read(100)
        message_id, operation = (
            bytes.fromhex("02080000000000000001"),
            write_element(0x65, bytes.fromhex("0a010004000400")),
        )
        reader._transport.write(write_element(0x30, message_id, operation))  # type: ignore[attr-defined]
        assert (await asyncio.wait_for(connection.wait(exchange), 5)).result_code == 0


async def test_close_does_not_wait_for_the_servers_farewell_under_tls(
    make_certificate: Callable[..., tuple[Path, Path]], authority_file: Path
) -> None:
    """Samba, one process that may be busy, answers no close_notify for a while; RFC 8446 §6.1 needs nobody to wait."""
    server_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_tls.load_cert_chain(*make_certificate())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = asyncio.create_task(asyncio.to_thread(_shake_hands, listener, server_tls))
        address = ServerAddress("ldaps", "127.0.0.1", listener.getsockname()[1])
        client_tls = ssl.create_default_context(cafile=str(authority_file))
        connection = await open_connection(LdapSettings("company", (address,), tls=client_tls), address)
        transport = connection._transport
        assert transport is not None
        client = transport.get_extra_info("socket")
        with await accepting as peer:
            connection.close()
            for _ in range(3):  # turns of the event loop, and no time
                await asyncio.sleep(0)
            assert client.fileno() == -1
            assert tags_of(await asyncio.to_thread(peer.recv, 100)) == [UNBIND_TAG]


def _shake_hands(listener: socket.socket, tls: ssl.SSLContext) -> ssl.SSLSocket:
    return tls.wrap_socket(listener.accept()[0], server_side=True)
