"""Bind connections: each carries user binds and nothing else, one at a time, and is bound again for the next user."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

from bridge.ldap.transport import open_connection

if TYPE_CHECKING:
    from bridge.ldap.connection import Connection
    from bridge.ldap.servers import Servers
    from bridge.ldap.settings import LdapSettings, ServerAddress


class BindConnections:
    """Connections that wait for the next user bind, by server, the one used last on top."""

    def __init__(self, settings: LdapSettings, servers: Servers) -> None:
        self._settings = settings
        self._servers = servers
        self._idle: defaultdict[ServerAddress, list[tuple[float, Connection]]] = defaultdict(list)
        """Since when by the loop's clock, and what: the longest first."""
        self._sweep: asyncio.TimerHandle | None = None

    async def take(self, timeout_s: float) -> tuple[ServerAddress, Connection]:
        """A connection that is alive, of the first server that can be reached; nobody else has it.

        It is given back by `keep`, or aborted where an exception came, whatever that was: then nobody knows what it
        still carries.
        """
        servers = self._servers.in_order()
        if servers and (idle := self._idle[servers[0]]) and idle[-1][1].is_idle:
            # Security: before a password is written, the connection is known to be alive; afterwards it is too late.
            return servers[0], idle.pop()[1]
        return await self._servers.first(self._obtain, timeout_s, proves=False)

    def keep(self, server: ServerAddress, connection: Connection) -> None:
        """The connection waits for the next user bind, for `idle_s` at most."""
        if not (self._settings.reuse_bind_connections and connection.is_usable):
            connection.close()
            return
        loop = asyncio.get_running_loop()
        self._idle[server].append((loop.time(), connection))
        if self._sweep is None:
            self._sweep = loop.call_later(self._settings.idle_s, self._close_expired)

    async def aclose(self) -> None:
        """No connection is kept any more."""
        if self._sweep is not None:
            self._sweep.cancel()
        for connections in self._idle.values():
            while connections:
                connections.pop()[1].close()

    async def _obtain(self, server: ServerAddress) -> tuple[ServerAddress, Connection]:
        idle = self._idle[server]
        while idle:
            _, connection = idle.pop()
            if await connection.is_alive():  # Security: as above
                return server, connection
            connection.close()
        return server, await open_connection(self._settings, server)

    def _close_expired(self) -> None:
        """Closes what nobody has needed for `idle_s`, and comes again when the next one will be due."""
        self._sweep = None
        loop = asyncio.get_running_loop()
        expired_s = loop.time() - self._settings.idle_s
        oldest_s = None
        for connections in self._idle.values():
            while connections and connections[0][0] <= expired_s:
                connections.pop(0)[1].close()
            if connections:
                oldest_s = min(connections[0][0], oldest_s or connections[0][0])
        if oldest_s is not None:
            self._sweep = loop.call_at(oldest_s + self._settings.idle_s, self._close_expired)
