"""Bind connections: each carries user binds and nothing else, one at a time, and is bound again for the next user."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from bridge.ldap.transport import open_connection

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from bridge.ldap.connection import Connection
    from bridge.ldap.servers import Servers
    from bridge.ldap.settings import LdapSettings, ServerAddress


class BindConnections:
    """Connections that wait for the next user bind, by server, the one used last on top."""

    def __init__(self, settings: LdapSettings, servers: Servers) -> None:
        self._settings = settings
        self._servers = servers
        self._idle: dict[ServerAddress, list[Connection]] = {server: [] for server in settings.servers}
        self._expiries: dict[Connection, asyncio.TimerHandle] = {}

    @asynccontextmanager
    async def borrow(self, timeout_s: float) -> AsyncIterator[tuple[ServerAddress, Connection]]:
        """A connection that is alive, of the first server that can be reached, ours alone inside.

        It is kept afterwards unless an exception left, whatever that was: then nobody knows what it still carries.
        """
        server, connection = await self._servers.first(self._obtain, timeout_s)
        try:
            yield server, connection
        except BaseException:
            connection.abort()
            raise
        self._keep(server, connection)

    async def aclose(self) -> None:
        """No connection is kept any more."""
        for connections in self._idle.values():
            while connections:
                self._forget_expiry(connections[-1])
                connections.pop().close()

    async def _obtain(self, server: ServerAddress) -> tuple[ServerAddress, Connection]:
        idle = self._idle[server]
        while idle:
            connection = idle.pop()
            self._forget_expiry(connection)
            # Security: before a password is written, the connection is known to be alive; afterwards it is too late.
            if await connection.is_alive():
                return server, connection
            connection.close()
        return server, await open_connection(self._settings, server)

    def _keep(self, server: ServerAddress, connection: Connection) -> None:
        if not (self._settings.reuse_bind_connections and connection.is_usable):
            connection.close()
            return
        self._idle[server].append(connection)
        loop = asyncio.get_running_loop()
        self._expiries[connection] = loop.call_later(self._settings.idle_s, self._expire, server, connection)

    def _expire(self, server: ServerAddress, connection: Connection) -> None:
        self._expiries.pop(connection, None)
        self._idle[server].remove(connection)
        connection.close()

    def _forget_expiry(self, connection: Connection) -> None:
        expiry = self._expiries.pop(connection, None)
        if expiry is not None:
            expiry.cancel()
