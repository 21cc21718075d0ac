"""Connections bound as the service account, which looks users up and lists them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bridge.errors import DirectoryRefused
from bridge.ldap.results import SUCCESS, service_bind_error
from bridge.ldap.transport import open_connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from bridge.ldap.connection import Connection
    from bridge.ldap.settings import LdapSettings, ServerAddress


class ServiceAccount:
    """Opens connections and binds them. A refused bind is not repeated for a while.

    Security: every look-up would otherwise send the wrong password again, and the directory would lock the account.
    """

    def __init__(self, settings: LdapSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._refusals: dict[ServerAddress, tuple[DirectoryRefused, float]] = {}
        """Until when each server's refusal counts. One that fails may have an old password; the others work on."""

    async def connect(self, server: ServerAddress) -> Connection:
        """A new connection, bound.

        Raises `DirectoryRefused` where the account is not taken, or was not taken a moment ago, and
        `DirectoryUnavailable`.
        """
        self._raise_remembered_refusal(server)
        due_s = asyncio.get_running_loop().time() + self._settings.connect_timeout_s
        connection = await open_connection(self._settings, server)
        try:
            async with asyncio.timeout_at(due_s):
                await self._bind(connection, server)
        except TimeoutError as error:
            connection.abort()
            detail = f"the service bind was not answered within {self._settings.connect_timeout_s:g} s"
            raise connection.peer.unavailable(detail) from error
        except BaseException:
            connection.close()
            raise
        return connection

    async def _bind(self, connection: Connection, server: ServerAddress) -> None:
        dn, password = self._settings.bind_dn, self._settings.bind_password
        if dn is None or password is None:
            return  # RFC 4513 §4: a new connection is anonymous already
        response = await connection.bind(dn, password)
        if response.result_code == SUCCESS:
            return
        error = service_bind_error(response, connection.peer)
        if isinstance(error, DirectoryRefused):
            self._refusals[server] = error, self._clock() + self._settings.limits.refusal_pause_s
        raise error

    def _raise_remembered_refusal(self, server: ServerAddress) -> None:
        known, until_s = self._refusals.get(server, (None, 0.0))
        if known is not None and self._clock() < until_s:
            raise DirectoryRefused(
                known.detail,
                directory=known.directory,
                server=known.server,
                result_code=known.result_code,
                diagnostic_message=known.diagnostic_message,
                remedy=known.remedy,
            ) from known
        self._refusals.pop(server, None)
