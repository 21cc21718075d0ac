"""Opening connections: what is left where somebody gives up in between."""

from __future__ import annotations

import asyncio
import gc
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trustme

from bridge.certificates.contexts import client_context
from bridge.errors import DirectoryUnavailable
from bridge.ldap.settings import LdapSettings, ServerAddress
from bridge.ldap.transport import open_connection
from bridge.renewal import Renewed

_TURNS_COUNT = 20
"""Of the event loop; a connection to an address takes some ten."""


@asynccontextmanager
async def silent_server() -> AsyncIterator[int]:
    """The port of a server that says nothing."""

    async def wait(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.read()
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(wait, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_open_connection_leaves_no_socket_when_it_is_cancelled(host: str) -> None:
    """In whatever turn of the event loop that is: a socket that nobody closes is a warning, and so an error here."""
    async with silent_server() as port:
        server = ServerAddress("ldap", host, port)
        settings = LdapSettings("company", (server,))
        for turn in range(_TURNS_COUNT):
            for _ in range(10):
                opening = asyncio.create_task(open_connection(settings, server))
                for _ in range(turn):
                    await asyncio.sleep(0)
                opening.cancel()
                (outcome,) = await asyncio.gather(opening, return_exceptions=True)
                if not isinstance(outcome, BaseException):
                    outcome.abort()
        (await open_connection(settings, server)).abort()
        await asyncio.sleep(0)
    gc.collect()


async def test_failed_verification_has_the_files_looked_at_before_anything_is_told(tmp_path: Path) -> None:
    """The authorities are changed while the connection is being made: it goes on with the new ones."""
    old, new = trustme.CA(), trustme.CA()
    file = tmp_path / "ca.pem"
    file.write_bytes(old.cert_pem.bytes())
    authorities = Renewed("tls", [str(file)], lambda _contents: client_context(str(file)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    new.issue_cert("127.0.0.1").configure_cert(context)
    hello_count = 0

    def change(*_: object) -> None:
        nonlocal hello_count
        hello_count += 1
        file.write_bytes(new.cert_pem.bytes())

    context.sni_callback = change
    front = await asyncio.start_server(lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with front:
        server = ServerAddress("ldaps", "127.0.0.1", front.sockets[0].getsockname()[1])
        settings = LdapSettings("company", (server,), tls=authorities)
        (await open_connection(settings, server)).abort()
        assert hello_count == 2
        file.write_bytes(old.cert_pem.bytes())
        context.sni_callback = None
        with pytest.raises(DirectoryUnavailable, match="certificate"):
            await open_connection(settings, server)
