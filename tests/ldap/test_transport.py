"""Opening connections: what is left where somebody gives up in between."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from bridge.ldap.settings import LdapSettings, ServerAddress
from bridge.ldap.transport import open_connection

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
