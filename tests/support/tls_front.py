"""TLS in front of a server without it: the certificate, and whose clients are taken, can be changed while it runs."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Self

import trustme


class TlsFront:
    """Listens on a port of 127.0.0.1, wants a certificate of each client, and passes everything on to `port`."""

    def __init__(self, port: int, authority: trustme.CA) -> None:
        self._server_port = port
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
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
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, ssl=self.context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted_count += 1
        server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._server_port)
        try:
            await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))
        finally:
            self._tasks.discard(task)
            server_writer.close()
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError, ssl.SSLError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
