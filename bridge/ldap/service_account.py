"""Connections bound as the service account, which looks users up and lists them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from bridge.errors import DirectoryError, DirectoryRefused, SecretWithheld
from bridge.ldap import messages
from bridge.ldap.results import (
    SLOW_AT_PASSWORDS,
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
from bridge.renewal import Renewed, current

if TYPE_CHECKING:
    from bridge.ldap.account_notices import AccountNotices
    from bridge.ldap.connection import Connection, Peer
    from bridge.ldap.messages import Response
    from bridge.ldap.service_secrets import Refusal, RefusedSecrets, Withheld
    from bridge.ldap.settings import LdapSettings, ServerAddress
    from bridge.model import Secret

_TRY_AT_ONCE = (
    "A file of the password that has changed counts at once. Restart the service if the configuration itself has "
    "changed, or have the account tried at once by `mailstore-bridge refresh`."
)
_NOT_OF_THE_ACCOUNT = frozenset((None, Rejection.NO_PASSWORD, Rejection.ENTRY_GONE))
"""What a directory neither counts nor ends by itself."""


@dataclass(frozen=True, slots=True)
class _Credentials:
    """What the account is bound with, as it is now."""

    key: bytes
    """What stands for the account and its secret."""
    password: Secret | None
    """None for a bind by SASL."""


class ServiceAccount:
    """Opens connections and binds them, as far as what was refused before allows it.

    Security: every look-up would otherwise send a wrong password again, and the directory would lock the account.
    The secret is read for each bind: a file that has changed holds another one, of which nothing was refused yet. While
    a server refuses that, and took the one from before, the one from before goes on being used there.
    """

    def __init__(self, settings: LdapSettings, refused: RefusedSecrets, notices: AccountNotices | None = None) -> None:
        """`refused` is shared by everything in the process that binds."""
        self._settings = settings
        self._refused = refused
        self._notices = notices
        self._sasl = SaslBinds(settings.sasl) if settings.sasl is not None else None
        self._taken: dict[str, _Credentials] = {}
        """What each server has accepted last, by its URL."""

    async def connect(self, server: ServerAddress) -> Connection:
        """A new connection, bound.

        Raises `DirectoryRefused` where the account is not taken, its kin `SecretWithheld` where it was not taken before
        and isn't bound now, and `DirectoryUnavailable`.
        """
        now, before = self._credentials(), self._taken.get(server.url)
        try:
            return await self._connect(now, server)
        except DirectoryRefused as error:
            if now is None or not self._is_about_secret(now, server):
                raise
            refusal = error
        newest = self._credentials()  # a refusal suggests a look: the file may have changed while it was asked
        if newest is not None and newest.key != now.key:
            return await self._connect(newest, server)
        if before is None or before.key == now.key:
            raise refusal
        return await self._connect_as_before(before, now, server)

    async def _connect_as_before(self, before: _Credentials, now: _Credentials, server: ServerAddress) -> Connection:
        """A connection by what the server took until now, as the directory's password is not the file's yet.

        If that is refused, the directory's password was changed meanwhile: the new one has one more try.
        """
        try:
            connection, _ = await self._open(before, server)
        except SecretWithheld:
            return await self._connect(now, server)  # perhaps another connection has found out the same meanwhile
        except DirectoryRefused:
            if not self._is_about_secret(before, server):
                raise
            self._taken.pop(server.url, None)
            self._refused.forgive(now.key)
            return await self._connect(now, server)
        if self._notices is not None:
            self._notices.note_outdated(server.url)
        return connection

    async def _connect(self, credentials: _Credentials | None, server: ServerAddress) -> Connection:
        """A new connection, and what the server took noted."""
        connection, response = await self._open(credentials, server)
        if credentials is not None and response is not None:
            self._taken[server.url] = credentials
            if self._notices is not None:
                self._notices.note_accepted(credentials.key, server.url, response)
        return connection

    async def _open(
        self, credentials: _Credentials | None, server: ServerAddress
    ) -> tuple[Connection, Response | None]:
        """A new connection, and the answer to its bind; None where nobody is bound."""
        self._raise_if_withheld(credentials, server)
        due_s = asyncio.get_running_loop().time() + self._settings.connect_timeout_s
        connection = await open_connection(self._settings, server)
        try:
            async with asyncio.timeout_at(due_s):
                # RFC 4513 §4: a new connection is anonymous already
                response = await self._bind(credentials, connection, server) if credentials is not None else None
        except TimeoutError as error:
            connection.abort()
            detail = f"the service bind was not answered within {self._settings.connect_timeout_s:g} s"
            raise connection.peer.unavailable(detail, remedy=SLOW_AT_PASSWORDS) from error
        except BaseException:
            connection.close()
            raise
        return connection, response

    def forgive_refusal(self) -> None:
        """The account is bound once more, as the operator asks for it."""
        if (credentials := self._credentials()) is not None:
            self._refused.forgive(credentials.key)

    def _credentials(self) -> _Credentials | None:
        """The account with its secret as it is now; None where nobody is bound. Reads the file if it has changed."""
        settings = self._settings
        if settings.sasl is not None:
            account = f"{settings.sasl.mechanism} {settings.sasl.principal or settings.directory}"
            return _Credentials(self._refused.key_of(account, self._fingerprint()), None)
        if settings.bind_dn is None or settings.bind_password is None:
            return None
        password = current(settings.bind_password)
        return _Credentials(self._refused.key_of(settings.bind_dn, password.reveal()), password)

    def _fingerprint(self) -> bytes:
        """What changes with the key table or the client certificate, by which a bind by SASL is made."""
        assert self._settings.sasl is not None  # noqa: S101 - the caller has looked
        sources: tuple[object, ...] = (self._settings.sasl.key, self._settings.tls)
        renewed = [source for source in sources if isinstance(source, Renewed)]
        for source in renewed:
            source.look()
        return b"".join(fingerprint for source in renewed for fingerprint in source.fingerprints)

    async def _bind(self, credentials: _Credentials, connection: Connection, server: ServerAddress) -> Response:
        key = credentials.key
        async with self._refused.turn(key, server.url):
            self._raise_if_withheld(credentials, server)
            try:
                response = await self._send(credentials.password, connection, server.host)
            except DirectoryRefused as error:  # Kerberos has said so, and no server
                self._refused.note_refused(key, server.url, Answer(Cause.TICKET, error.detail, error.remedy))
                raise
            if response.result_code != SUCCESS:
                raise self._failure(key, response, connection.peer)
            self._refused.note_accepted(key, server.url)
        return response

    async def _send(self, password: Secret | None, connection: Connection, host: str) -> Response:
        if self._sasl is not None:
            return await self._sasl.bind(connection, host)
        dn = self._settings.bind_dn
        assert dn is not None  # noqa: S101 - there are credentials
        assert password is not None  # noqa: S101
        # Without the control OpenLDAP says of a locked account what it says of a wrong password.
        return await connection.bind(dn, password, messages.ASK_FOR_PASSWORD_POLICY)

    def _is_about_secret(self, credentials: _Credentials, server: ServerAddress) -> bool:
        """Whether a server was not asked, or has refused, because of the password itself."""
        found = self._refused.withheld(credentials.key, server.url)
        return found is not None and any(refusal.answer.cause is Cause.SECRET for refusal in found.refusals)

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
            if cause is Cause.SECRET and isinstance(self._settings.bind_password, Renewed):
                self._settings.bind_password.suspect()
        return error

    def _raise_if_withheld(self, credentials: _Credentials | None, server: ServerAddress) -> None:
        found = self._refused.withheld(credentials.key, server.url) if credentials is not None else None
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
        error.quoting = _explain(found, quote=True)
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


def _explain(found: Withheld, *, quote: bool = False) -> str:
    """What was refused where and when, and how long the account is not bound; servers' own words if `quote` says so."""
    is_secret = any(refusal.answer.cause is Cause.SECRET for refusal in found.refusals)
    places = " and ".join(_place(refusal, quote=quote) for refusal in found.refusals)
    return (
        f"the service account is not bound before {_render_time(found.until_date_s)}, "
        f"{'so that the directory does not lock it' if is_secret else 'as it would be refused again'}: "
        f"{'its password' if is_secret else 'it'} was refused by {places}"
    )


def _place(refusal: Refusal, *, quote: bool) -> str:
    answer = refusal.answer
    said = f"{answer.said}, {answer.diagnostic_message}" if quote and answer.diagnostic_message else answer.said
    return f"{refusal.server} at {_render_time(refusal.date_s)} ({said})"


def _render_time(date_s: float) -> str:
    return datetime.fromtimestamp(date_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
