"""TLS in front of a server without it: the certificate, and whose clients are taken, can be changed while it runs."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import AsyncExitStack, suppress
from typing import Self

import trustme

from tests.support.accepting import accepting, connected


class TlsFront:
    """Listens on a port of 127.0.0.1, wants a certificate of each client, and passes everything on to `port`."""

    def __init__(self, port: int, authority: trustme.CA) -> None:
        self._server_port = port
        self._stack = AsyncExitStack()
        self.port = 0
        self.accepted_count = 0
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.verify_mode = ssl.CERT_REQUIRED
        self.trust(authority)
        self.present(authority)

    def present(self, authority: trustme.CA) -> None:
        """New connections see another certificate, signed by that authority."""
        authority.issue_cert("127.0.0.1").configure_cert(self.context)

    def trust(self, authority: trustme.CA) -> None:
        """Clients of that authority are taken, too."""
        authority.configure_trust(self.context)

    async def __aenter__(self) -> Self:
        self.port = await self._stack.enter_async_context(accepting(self._carry, self.context))
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted_count += 1
        async with connected(self._server_port) as (server_reader, server_writer):
            await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
