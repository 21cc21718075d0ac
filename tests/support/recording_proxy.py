"""A proxy between the bridge and a directory that lets every byte pass and writes down each bind."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from typing import Self

from bridge.syntax import ber
from tests.support.accepting import accepting, connected
from tests.support.slapd import READER

_BIND_REQUEST, _SIMPLE = 0x60, 0x80


@dataclass(frozen=True)
class Bind:
    """A bind request as it went by."""

    dn: str
    password: bytes


class RecordingProxy:
    """Listens on a port of its own, and speaks to the server at `port`."""

    def __init__(self, port: int) -> None:
        self._server_port = port
        self._stack = AsyncExitStack()
        self._port = 0
        self.binds: list[Bind] = []
        self.byte_count = 0
        """How much has gone to the server."""

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self._port}"

    def user_binds(self) -> list[Bind]:
        """All but those of the service account."""
        return [bind for bind in self.binds if bind.dn != READER]

    async def __aenter__(self) -> Self:
        self._port = await self._stack.enter_async_context(accepting(self._carry))
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._stack.aclose()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with connected(self._server_port) as (server_reader, server_writer):
            back = asyncio.create_task(_copy(server_reader, writer))
            try:
                await self._forward(reader, server_writer)
                await back
            finally:
                back.cancel()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pending = bytearray()
        while data := await reader.read(65536):
            self.byte_count += len(data)
            pending += data
            while (size := ber.message_size(pending)) is not None and size <= len(pending):
                self._record(bytes(pending[:size]))
                del pending[:size]
            writer.write(data)
            await writer.drain()
        writer.write_eof()

    def _record(self, message: bytes) -> None:
        content = ber.Reader(message).read_inner()
        content.read_integer()
        if content.peek_tag() != _BIND_REQUEST:
            return
        request = content.read_inner(_BIND_REQUEST)
        assert request.read_integer() == 3
        self.binds.append(Bind(request.read_octets().decode(), request.read_octets(_SIMPLE)))


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
        writer.write_eof()
