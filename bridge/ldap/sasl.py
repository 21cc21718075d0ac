"""Service binds by SASL: EXTERNAL (RFC 4422 Appendix A) and GSSAPI, which is Kerberos (RFC 4752).

No security layer is taken: TLS protects the connection. Knows nothing of what the account may do.
"""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from bridge.errors import DirectoryRefused
from bridge.ldap.results import SASL_BIND_IN_PROGRESS, SASL_LAYER_REMEDY, SUCCESS

if TYPE_CHECKING:
    from bridge.ldap.connection import Connection
    from bridge.ldap.messages import Response
    from bridge.ldap.settings import SaslSettings

_NO_LAYER = 1
"""RFC 4752 §3.3: the bit of "no security layer" in the first octet."""
_ROUNDS_MAX_COUNT = 10
# <krb5.h>: KRB5_KDC_UNREACH and KRB5_REALM_CANT_RESOLVE, as GSS-API gives them, without a sign.
_KDC_AWAY = frozenset(code % 2**32 for code in (-1765328228, -1765328230))
_KERBEROS_REMEDY = "Check bind.principal, bind.keytab, the clocks of the machines, and krb5.conf."


class SaslBinds:
    """Binds connections by SASL, and keeps the tickets that this needs."""

    def __init__(self, settings: SaslSettings) -> None:
        self._settings = settings
        self._cache_name = _new_cache_name()
        # Of its own, and one: a KDC that hangs would take the threads that everything else shares.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="kerberos")

    @property
    def mechanism(self) -> str:
        """Its name (RFC 4422 §3.1)."""
        return self._settings.mechanism

    async def bind(self, connection: Connection, host: str) -> Response:
        """The last answer to a bind at the server `host`: a success, or what the server has against it.

        Raises `DirectoryRefused` where Kerberos has something against it, and `DirectoryUnavailable`.
        """
        if self._settings.mechanism == "EXTERNAL":
            # Empty, not absent: an absent response has the server ask for one (RFC 4422 Appendix A).
            return await connection.bind_by_sasl("EXTERNAL", b"")
        response = await self._bind_by_gssapi(connection, host)
        if response.result_code != SUCCESS:
            self._cache_name = _new_cache_name()  # the server may have another key, and tickets hold for hours
        return response

    async def _bind_by_gssapi(self, connection: Connection, host: str) -> Response:
        """RFC 4752 §3.1. What asks the KDC blocks, so that it runs in a thread."""
        context = await self._step(connection, self._begin, host)
        token: bytes | None = None
        has_agreed = False
        for _ in range(_ROUNDS_MAX_COUNT):
            if context.complete:
                answer = await self._step(connection, _agree, connection, context, token or b"")
                has_agreed = True
            else:
                answer = await self._step(connection, context.step, token) or b""
            response = await connection.bind_by_sasl("GSSAPI", answer)
            if response.result_code == SUCCESS and not has_agreed:
                raise _refused(connection, "the server accepted before it had shown who it is")
            if response.result_code == SUCCESS:
                connection.bound_for_s = await self._step(connection, _lifetime_of, context)
            if response.result_code != SASL_BIND_IN_PROGRESS:
                return response
            token = response.sasl_credentials
        raise _refused(connection, f"Kerberos came to no end within {_ROUNDS_MAX_COUNT} rounds")

    def _begin(self, host: str) -> Any:
        """A security context towards the server `host`, with tickets that are had by the key in the key table."""
        import gssapi  # noqa: PLC0415 - an extra that most don't install

        store = {"client_keytab": f"FILE:{self._settings.keytab}", "ccache": self._cache_name}
        account = gssapi.Name(self._settings.principal, gssapi.NameType.kerberos_principal)
        credentials = gssapi.Credentials(name=account, usage="initiate", store=store)
        flags = gssapi.RequirementFlag.mutual_authentication | gssapi.RequirementFlag.integrity
        service = gssapi.Name(f"ldap@{host}", gssapi.NameType.hostbased_service)
        mechanism = gssapi.MechType.kerberos
        return gssapi.SecurityContext(name=service, creds=credentials, flags=flags, mech=mechanism, usage="initiate")

    async def _step(self, connection: Connection, function: Any, *arguments: Any) -> Any:
        """What the function returns, from the thread; errors of GSS-API are ours from here on."""
        from gssapi.exceptions import GSSError  # noqa: PLC0415 - as above

        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
        except GSSError as error:
            detail = f"Kerberos failed: {error}"
            if error.min_code in _KDC_AWAY:
                remedy = "Check that the KDC runs, and krb5.conf."
                raise connection.peer.unavailable(detail, remedy=remedy) from error
            raise _refused(connection, detail) from error


def _new_cache_name() -> str:
    """A name for tickets in memory that nothing else in this process uses."""
    return f"MEMORY:mailstore-bridge-{secrets.token_hex(8)}"


def _agree(connection: Connection, context: Any, token: bytes) -> bytes:
    """The answer to the server's offer of security layers: none of them, no size, no other identity."""
    from gssapi import RequirementFlag  # noqa: PLC0415 - as above

    if not context.actual_flags & RequirementFlag.mutual_authentication:
        raise _refused(connection, "the server did not show who it is")
    offer = context.unwrap(token).message
    if len(offer) != 4 or not offer[0] & _NO_LAYER:  # noqa: PLR2004 - RFC 4752 §3.1: one octet of bits, three of size
        raise _refused(connection, "the server insists on signing or sealing by SASL", SASL_LAYER_REMEDY)
    agreed: bytes = context.wrap(bytes((_NO_LAYER, 0, 0, 0)), encrypt=False).message
    return agreed


def _lifetime_of(context: Any) -> float | None:
    """How many seconds the ticket still holds, by which the server may end the bind; None where it has no end."""
    lifetime_s: int | None = context.lifetime
    return lifetime_s


def _refused(connection: Connection, detail: str, remedy: str = _KERBEROS_REMEDY) -> DirectoryRefused:
    peer = connection.peer
    return DirectoryRefused(detail, directory=peer.directory, server=peer.server, remedy=remedy)
