"""Connections bound as the service account, which looks users up and lists them."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from bridge.errors import DirectoryRefused
from bridge.ldap.results import SUCCESS, service_bind_error
from bridge.ldap.sasl import SaslBinds
from bridge.ldap.transport import open_connection

if TYPE_CHECKING:
    from bridge.clock import Clock
    from bridge.ldap.connection import Connection
    from bridge.ldap.settings import LdapSettings, ServerAddress


class ServiceAccount:
    """Opens connections and binds them. A refused bind is not repeated for a while.

    Security: every look-up would otherwise send the wrong password again, and the directory would lock the account.
    """

    def __init__(self, settings: LdapSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._sasl = SaslBinds(settings.sasl) if settings.sasl is not None else None
        self._refusal: DirectoryRefused | None = None
        self._refused_until_s = 0.0

    async def connect(self, server: ServerAddress, *, is_trial: bool = False) -> Connection:
        """A new connection, bound.

        Where it `is_trial`, a refusal says nothing of other servers: the one that is tried may be out of date.
        Raises `DirectoryRefused` where the account is not taken, or was not taken a moment ago, and
        `DirectoryUnavailable`.
        """
        self._raise_remembered_refusal()
        due_s = asyncio.get_running_loop().time() + self._settings.connect_timeout_s
        connection = await open_connection(self._settings, server)
        try:
            async with asyncio.timeout_at(due_s):
                await self._bind(connection, server.host, is_trial=is_trial)
        except TimeoutError as error:
            connection.abort()
            detail = f"the service bind was not answered within {self._settings.connect_timeout_s:g} s"
            raise connection.peer.unavailable(detail) from error
        except BaseException:
            connection.close()
            raise
        return connection

    async def _bind(self, connection: Connection, host: str, *, is_trial: bool) -> None:
        try:
            await self._authenticate(connection, host)
        except DirectoryRefused as error:
            if not is_trial:
                self._refusal = error
                self._refused_until_s = self._clock.monotonic_s() + self._settings.limits.refusal_pause_s
            raise

    async def _authenticate(self, connection: Connection, host: str) -> None:
        dn, password, sasl = self._settings.bind_dn, self._settings.bind_password, self._sasl
        if sasl is not None:
            response = await sasl.bind(connection, host)
        elif dn is not None and password is not None:
            response = await connection.bind(dn, password)
        else:
            return  # RFC 4513 §4: a new connection is anonymous already
        if response.result_code != SUCCESS:
            raise service_bind_error(response, connection.peer, sasl.mechanism if sasl is not None else None)

    def _raise_remembered_refusal(self) -> None:
        if self._refusal is not None and self._clock.monotonic_s() < self._refused_until_s:
            known = self._refusal
            raise DirectoryRefused(
                known.detail,
                directory=known.directory,
                server=known.server,
                result_code=known.result_code,
                diagnostic_message=known.diagnostic_message,
                remedy=known.remedy,
            ) from known
        self._refusal = None
