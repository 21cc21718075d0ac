"""Connections bound as the service account, which looks users up and lists them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bridge.errors import DirectoryError, DirectoryRefused, SecretWithheld
from bridge.ldap import messages
from bridge.ldap.results import (
    SUCCESS,
    UNWILLING_TO_PERFORM,
    describe_result,
    judge_user_bind,
    refuses_secret,
    service_bind_error,
)
from bridge.ldap.sasl import SaslBinds
from bridge.ldap.service_secrets import Answer, Cause
from bridge.ldap.transport import open_connection
from bridge.model import Rejection

if TYPE_CHECKING:
    from bridge.ldap.connection import Connection, Peer
    from bridge.ldap.messages import Response
    from bridge.ldap.service_secrets import Refusal, RefusedSecrets, Withheld
    from bridge.ldap.settings import LdapSettings, ServerAddress

_TRY_AT_ONCE = (
    "Then restart the service if bind or its password has changed, or have the account tried at once by "
    "`mailstore-bridge refresh`."
)
_NOT_OF_THE_ACCOUNT = frozenset((None, Rejection.NO_PASSWORD, Rejection.ENTRY_GONE))
"""What a directory neither counts nor ends by itself."""


class ServiceAccount:
    """Opens connections and binds them, as far as what was refused before allows it.

    Security: every look-up would otherwise send a wrong password again, and the directory would lock the account.
    """

    def __init__(self, settings: LdapSettings, refused: RefusedSecrets) -> None:
        """`refused` is shared by everything in the process that binds."""
        self._settings = settings
        self._refused = refused
        self._sasl = SaslBinds(settings.sasl) if settings.sasl is not None else None

    async def connect(self, server: ServerAddress) -> Connection:
        """A new connection, bound.

        Raises `DirectoryRefused` where the account is not taken, its kin `SecretWithheld` where it was not taken before
        and isn't bound now, and `DirectoryUnavailable`.
        """
        key = self._key()
        self._raise_if_withheld(key, server)
        due_s = asyncio.get_running_loop().time() + self._settings.connect_timeout_s
        connection = await open_connection(self._settings, server)
        try:
            async with asyncio.timeout_at(due_s):
                await self._bind(key, connection, server)
        except TimeoutError as error:
            connection.abort()
            detail = f"the service bind was not answered within {self._settings.connect_timeout_s:g} s"
            raise connection.silent(detail) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def forgive_refusal(self) -> None:
        """The account is bound once more, as the operator asks for it."""
        if (key := self._key()) is not None:
            self._refused.forgive(key)

    def _key(self) -> bytes | None:
        """What stands for the account and its secret; None where nobody is bound."""
        settings = self._settings
        if settings.sasl is not None:
            return self._refused.key_of(
                f"{settings.sasl.mechanism} {settings.sasl.principal or settings.directory}", b""
            )
        if settings.bind_dn is None or settings.bind_password is None:
            return None
        return self._refused.key_of(settings.bind_dn, settings.bind_password.reveal())

    async def _bind(self, key: bytes | None, connection: Connection, server: ServerAddress) -> None:
        if key is None:
            return  # RFC 4513 §4: a new connection is anonymous already
        async with self._refused.turn(key, server.url):
            self._raise_if_withheld(key, server)
            try:
                response = await self._send(connection, server.host)
            except DirectoryRefused as error:  # Kerberos has said so, and no server
                self._refused.note_refused(key, server.url, Answer(Cause.TICKET, error.detail, error.remedy))
                raise
            if response.result_code != SUCCESS:
                raise self._failure(key, response, connection.peer)
            self._refused.note_accepted(key, server.url)

    async def _send(self, connection: Connection, host: str) -> Response:
        dn, password = self._settings.bind_dn, self._settings.bind_password
        if self._sasl is not None:
            return await self._sasl.bind(connection, host)
        assert dn is not None  # noqa: S101 - there is a key
        assert password is not None  # noqa: S101
        # Without the control OpenLDAP says of a locked account what it says of a wrong password.
        return await connection.bind(dn, password, messages.ASK_FOR_PASSWORD_POLICY)

    def _failure(self, key: bytes, response: Response, peer: Peer) -> DirectoryError:
        """The error for a bind that did not succeed; a refusal is remembered."""
        mechanism = self._sasl.mechanism if self._sasl is not None else None
        error = service_bind_error(response, peer, mechanism)
        if isinstance(error, DirectoryRefused):
            cause = Cause.TICKET if mechanism is not None else _find_cause(response, peer)
            code, message = response.result_code, response.diagnostic_message
            said = describe_result(response) if cause in (Cause.SECRET, Cause.ACCOUNT) else error.detail
            answer = Answer(cause, said, error.remedy, code, message)
            self._refused.note_refused(key, peer.server, answer)
        return error

    def _raise_if_withheld(self, key: bytes | None, server: ServerAddress) -> None:
        found = self._refused.withheld(key, server.url) if key is not None else None
        if found is None:
            return
        answer = found.refusals[-1].answer
        error = SecretWithheld(
            _explain(found),
            directory=self._settings.directory,
            server=server.url,
            result_code=answer.result_code,
            diagnostic_message=answer.diagnostic_message,
            remedy=f"{answer.remedy} {_TRY_AT_ONCE}",
        )
        error.refused_at = tuple(refusal.server for refusal in found.refusals)
        raise error


def _find_cause(response: Response, peer: Peer) -> Cause:
    """What a refused simple bind is about: the password, the account, or how the server is set up."""
    if refuses_secret(response, peer):
        return Cause.SECRET
    try:
        rejection = judge_user_bind(response, peer).rejection
    except DirectoryError:
        return Cause.SET_UP
    # 53 says "locked" of an account in words alone; otherwise the server takes no simple binds at all, or none now.
    is_unwilling = response.result_code == UNWILLING_TO_PERFORM and rejection is not Rejection.ACCOUNT_LOCKED
    return Cause.SET_UP if is_unwilling or rejection in _NOT_OF_THE_ACCOUNT else Cause.ACCOUNT


def _explain(found: Withheld) -> str:
    """What was refused where and when, and how long the account is not bound."""
    is_secret = any(refusal.answer.cause is Cause.SECRET for refusal in found.refusals)
    places = " and ".join(map(_place, found.refusals))
    return (
        f"the service account is not bound before {_render_time(found.until_date_s)}, "
        f"{'so that the directory does not lock it' if is_secret else 'as it would be refused again'}: "
        f"{'its password' if is_secret else 'it'} was refused by {places}"
    )


def _place(refusal: Refusal) -> str:
    return f"{refusal.server} at {_render_time(refusal.date_s)} ({refusal.answer.said})"


def _render_time(date_s: float) -> str:
    return datetime.fromtimestamp(date_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
