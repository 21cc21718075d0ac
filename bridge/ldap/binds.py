"""Bind connections: each carries user binds and nothing else, one at a time, and is bound again for the next user."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import TYPE_CHECKING

from bridge.ldap.ages import Ages
from bridge.ldap.transport import open_connection

if TYPE_CHECKING:
    from bridge.clock import Clock
    from bridge.ldap.connection import Connection
    from bridge.ldap.servers import Servers
    from bridge.ldap.settings import LdapSettings, ServerAddress


class BindConnections:
    """Connections that wait for the next user bind, by server, the one used last on top."""

    def __init__(self, settings: LdapSettings, servers: Servers, clock: Clock) -> None:
        self._settings = settings
        self._servers = servers
        self._clock = clock
        self._ages = Ages(settings, clock)
        self._idle: defaultdict[ServerAddress, list[tuple[float, Connection]]] = defaultdict(list)
        """Since when by the clock, and what: the longest first."""
        self._sweep: asyncio.TimerHandle | None = None

    async def take(self, timeout_s: float, url: str | None = None) -> tuple[ServerAddress, Connection]:
        """A connection that is alive, to the server `url` or to the first one that can be reached; nobody else has it.

        It is given back by `keep`, or aborted where an exception came, whatever that was: then nobody knows what it
        still carries.
        """
        servers = self._servers.in_order() if url is None else [self._servers.named(url)]
        if servers and (idle := self._idle[servers[0]]):
            since_s, connection = idle[-1]
            # Security: before a password is written, the connection is known to be alive; afterwards it is too late.
            if self._may_be_used(since_s, connection) and connection.is_idle:
                idle.pop()
                return servers[0], connection
        return await self._servers.first(self._obtain, timeout_s, url, proves=False)

    def suspect(self, server: ServerAddress) -> None:
        """Close what waits for a bind at the server: one of its connections has fallen silent, and seldom alone."""
        for _, connection in self._idle.pop(server, ()):
            connection.close()

    def _may_be_used(self, since_s: float, connection: Connection) -> bool:
        now_s = self._clock.monotonic_s()
        return now_s - since_s < self._settings.idle_s and now_s < connection.ends_at_s

    def keep(self, server: ServerAddress, connection: Connection) -> None:
        """The connection waits for the next user bind, for `idle_s` at most."""
        if not (self._settings.reuse_bind_connections and connection.is_usable):
            connection.close()
            return
        self._idle[server].append((self._clock.monotonic_s(), connection))
        if self._sweep is None:
            loop = asyncio.get_running_loop()
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
            since_s, connection = idle.pop()
            if self._may_be_used(since_s, connection) and await connection.is_alive():  # Security: as above
                return server, connection
            connection.close()
        connection = await open_connection(self._settings, server)
        self._ages.begin(connection)
        return server, connection

    def _close_expired(self) -> None:
        """Closes what nobody has needed for `idle_s`, and comes again when the next one will be due."""
        self._sweep = None
        now_s = self._clock.monotonic_s()
        oldest_s = now_s
        for server, connections in self._idle.items():
            for since_s, connection in connections:
                if not self._may_be_used(since_s, connection):
                    connection.close()
            self._idle[server] = [each for each in connections if self._may_be_used(*each)]
            oldest_s = min((since_s for since_s, _ in self._idle[server]), default=oldest_s)
        if any(self._idle.values()):
            pause_s = max(0.0, oldest_s + self._settings.idle_s - now_s)
            self._sweep = asyncio.get_running_loop().call_later(pause_s, self._close_expired)
