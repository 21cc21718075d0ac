"""Look-ups: small searches by the service account that share one connection per server, many at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bridge.errors import DirectoryUnavailable, SearchIncomplete
from bridge.ldap.ranges import complete_ranges
from bridge.ldap.references import find_needed
from bridge.ldap.results import SIZE_LIMIT_EXCEEDED, SUCCESS, search_error

if TYPE_CHECKING:
    from collections.abc import Collection

    from bridge.directory import Entry, SearchRequest
    from bridge.ldap.connection import Connection
    from bridge.ldap.service_account import ServiceAccount
    from bridge.ldap.settings import LdapSettings, ServerAddress


class LookupConnections:
    """One bound connection for each server that is in use, opened when it is needed."""

    def __init__(self, settings: LdapSettings, account: ServiceAccount) -> None:
        self._settings = settings
        self._account = account
        self._openings: dict[ServerAddress, asyncio.Task[Connection]] = {}

    async def search(self, server: ServerAddress, search: SearchRequest) -> tuple[Entry, ...]:
        """The entries that match at `server`, at most `size_limit_count`.

        Raises `SearchIncomplete` and its kin where they may not be all; `TimeoutError` comes from outside and retires
        the connection, as it may hang.
        """
        connection, is_fresh = await self._connection(server)
        try:
            return await self._search_on(connection, search)
        except DirectoryUnavailable:
            if is_fresh or connection.is_usable:
                raise
        # The server had closed the kept connection, as servers do; a search may be asked again.
        connection, _ = await self._connection(server)
        return await self._search_on(connection, search)

    def retain(self, servers: Collection[ServerAddress]) -> None:
        """No connection is kept to other servers than these; what is in flight has the time of a request to end."""
        for gone in self._openings.keys() - set(servers):
            self._openings.pop(gone).add_done_callback(self._close_later)

    async def aclose(self) -> None:
        """Every connection is closed, those that are being opened too."""
        openings, self._openings = list(self._openings.values()), {}
        for opening in openings:
            opening.cancel()
        for outcome in await asyncio.gather(*openings, return_exceptions=True):
            if not isinstance(outcome, BaseException):
                outcome.close()

    async def _search_on(self, connection: Connection, search: SearchRequest) -> tuple[Entry, ...]:
        exchange = connection.send_search(search)
        try:
            response = await connection.wait(exchange)
        except asyncio.CancelledError:
            self._retire(connection)
            raise
        reached_limit = response.result_code == SIZE_LIMIT_EXCEEDED and (
            len(exchange.entries) >= search.size_limit_count > 0
        )
        if response.result_code != SUCCESS and not reached_limit:
            raise search_error(response, connection.peer, search.base)
        needed = find_needed(exchange.references, self._settings) if exchange.references else None
        if needed is not None:
            raise SearchIncomplete(
                f"the search below {search.base!r} refers to {needed}",
                directory=self._settings.directory,
                server=connection.peer.server,
                remedy="Configure that server as a directory, or set `referrals: ignore` if nobody in there matters.",
            )
        entries = exchange.entries
        if connection.has_ranges:
            entries = await complete_ranges(entries, connection, self._settings.limits)
        return tuple(entries)

    async def _connection(self, server: ServerAddress) -> tuple[Connection, bool]:
        """The shared connection, and whether it is new.

        However many ask, it is opened once, whoever of them goes away meanwhile.
        """
        opening = self._openings.get(server)
        if opening is not None and opening.done() and _is_usable(opening):
            return opening.result(), False
        is_fresh = opening is None or not opening.done()
        if opening is None or opening.done():
            is_fresh = True
            opening = self._openings[server] = asyncio.create_task(self._account.connect(server))
            opening.add_done_callback(_is_usable)  # fetches its exception, where everybody has gone away
        return await asyncio.shield(opening), is_fresh

    def _close_later(self, opening: asyncio.Task[Connection]) -> None:
        if _is_usable(opening):
            asyncio.get_running_loop().call_later(self._settings.request_timeout_s, opening.result().close)

    def _retire(self, connection: Connection) -> None:
        """No further look-up uses the connection, as it may hang; those in flight have the time of a request to end."""
        for server, opening in self._openings.items():
            if opening.done() and _is_usable(opening) and opening.result() is connection:
                self._close_later(self._openings.pop(server))
                return


def _is_usable(opening: asyncio.Task[Connection]) -> bool:
    """Whether a connection came of it that may be used."""
    return not opening.cancelled() and opening.exception() is None and opening.result().is_usable
