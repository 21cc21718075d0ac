"""Connections opened: TCP, TLS, StartTLS or a local socket, with the certificate checked before anything is said.

Knows addresses and certificates, nothing of binds or searches.
"""

from __future__ import annotations

import asyncio
import hashlib
import ssl
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from aiohappyeyeballs import start_connection

from bridge.certificates.reading import read_authorities, read_certificates
from bridge.certificates.verification import Evidence, explain_verification
from bridge.errors import DirectoryError, DirectoryRefused, DirectoryUnavailable
from bridge.ldap.connect_errors import Stage, explain_os_error, explain_silence, explain_timeout, explain_tls_error
from bridge.ldap.connection import Connection, Peer
from bridge.ldap.host_names import numeric_addresses
from bridge.ldap.results import (
    ASK_ANOTHER_SERVER,
    OPERATIONS_ERROR,
    PROTOCOL_ERROR,
    SUCCESS,
    UNAVAILABLE,
    describe_result,
)
from bridge.renewal import Renewed, current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.certificates.verification import Words
    from bridge.ldap.messages import Response
    from bridge.ldap.settings import LdapSettings, ServerAddress

_HAPPY_EYEBALLS_DELAY_S = 0.25
"""RFC 8305 §5: when a host's next address is tried beside the first one."""
_LOOK_MAX_S = 1.0
"""For a second look at a certificate that was not trusted."""


async def open_connection(settings: LdapSettings, server: ServerAddress) -> Connection:
    """A connection to `server`, encrypted as configured, on which nobody is bound yet.

    Raises `DirectoryUnavailable`, or `DirectoryRefused` where the server doesn't offer StartTLS.
    """
    opening = _Opening(settings, server)
    peer, due_s = opening.connection.peer, asyncio.get_running_loop().time() + settings.connect_timeout_s
    try:
        async with asyncio.timeout_at(due_s):
            try:
                await opening.run()
            except ssl.SSLCertVerificationError:
                if not opening.has_news():
                    raise
                opening.connection.abort()
                opening = _Opening(settings, server)
                await opening.run()
    except OSError as error:  # TLS's errors and time-outs among them
        opening.connection.abort()
        words = await _explain(error, opening.stage, settings, server, due_s)
        # aiohappyeyeballs 2.7: a frame of the traceback holds the error, and so all that the error has passed through.
        error.__traceback__ = None
        raise peer.unavailable(words.detail, remedy=words.remedy) from error
    except BaseException:
        opening.connection.abort()
        raise
    return opening.connection


async def _explain(error: OSError, stage: Stage, settings: LdapSettings, server: ServerAddress, due_s: float) -> Words:
    """What is wrong, in words."""
    _suspect(settings)  # a server that takes another client certificate may say so by an alert, or by hanging up
    match error:
        case ssl.SSLCertVerificationError():
            return await _explain_certificate(error, settings, server, due_s)
        case ssl.SSLError():
            return explain_tls_error(error, settings, server)
        case TimeoutError():
            return explain_timeout(stage, server, settings.connect_timeout_s)
    return explain_os_error(stage, error, server)


def _suspect(settings: LdapSettings) -> None:
    """Have the files of certificates read again for the next connection, whatever their time stamps say."""
    if isinstance(settings.tls, Renewed):
        settings.tls.suspect()


class _Opening:
    """A connection that is being opened, and what it waits for."""

    def __init__(self, settings: LdapSettings, server: ServerAddress) -> None:
        self._settings = settings
        self._server = server
        self.connection = Connection(Peer(settings.directory, server.url), settings.limits)
        self.connection.silence_remedy = explain_silence(server, settings)
        self.connection.explain_alert = partial(explain_tls_error, settings=settings, server=server)
        self.connection.on_silent_end = partial(_suspect, settings)  # with TLS 1.3 a refusal comes behind the handshake
        self.stage = Stage.NETWORK
        self._tls: ssl.SSLContext | None = None
        """By what the server is verified."""

    def has_news(self) -> bool:
        """Whether the files of certificates have changed while the server was verified by what they held before."""
        _suspect(self._settings)
        return self._tls is not None and self._context() is not self._tls

    def _context(self) -> ssl.SSLContext:
        """What the files of certificates hold now; connections that are there keep what they were made with."""
        assert self._settings.tls is not None  # noqa: S101 - the configuration makes a context wherever TLS is used
        context = current(self._settings.tls)
        self._tls = self._tls or context
        return context

    async def run(self) -> None:
        """Connect, with TLS where it is configured."""
        settings, server, connection = self._settings, self._server, self.connection
        loop = asyncio.get_running_loop()
        if server.scheme == "ldapi":
            await loop.create_unix_connection(lambda: connection, server.host)
            return
        addresses = numeric_addresses(server)
        if not addresses:
            self.stage = Stage.NAME
            addresses = await settings.names.resolve(server)
            self.stage = Stage.NETWORK
        # asyncio's own way of trying several addresses loses the socket where it is cancelled in between.
        connected = await start_connection(addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY_S)
        tls, host = None, None
        if server.scheme == "ldaps":
            self.stage = Stage.HANDSHAKE
            tls, host = self._context(), server.tls_name
        await loop.create_connection(lambda: connection, sock=connected, ssl=tls, server_hostname=host)
        connection.keep_alive()
        if server.start_tls:
            await self._start_tls()
        if settings.fingerprints and server.uses_tls:
            _check_fingerprint(connection, settings.fingerprints)

    async def _start_tls(self) -> None:
        settings, server, connection = self._settings, self._server, self.connection
        self.stage = Stage.START_TLS
        connection.silence_remedy = explain_silence(replace(server, start_tls=False), settings)
        response = await connection.start_tls()
        if response.result_code != SUCCESS:
            raise _refused_tls(response, settings.directory, server)
        self.stage = Stage.HANDSHAKE
        transport = await asyncio.get_running_loop().start_tls(
            connection.begin_handshake(), connection, self._context(), server_hostname=server.tls_name
        )
        if transport is None:
            raise connection.peer.unavailable("the connection was lost while TLS was begun")
        connection.end_handshake(transport)
        connection.silence_remedy = explain_silence(server, settings)


def _refused_tls(response: Response, directory: str, server: ServerAddress) -> DirectoryError:
    """The error for an answer to StartTLS that is no success (RFC 4511 §4.14.2)."""
    kind = DirectoryUnavailable if response.result_code in ASK_ANOTHER_SERVER else DirectoryRefused
    remedy = {
        PROTOCOL_ERROR: "The server offers no StartTLS: give it a certificate, or use an ldaps:// address.",
        OPERATIONS_ERROR: "Look into the server's own log.",
        UNAVAILABLE: "The server may lack a certificate or its key; its own log says more.",
    }.get(response.result_code, "Give the server a certificate, or use an ldaps:// address.")
    return kind(
        f"StartTLS was refused: {describe_result(response)}",
        directory=directory,
        server=server.url,
        result_code=response.result_code,
        diagnostic_message=response.diagnostic_message,
        remedy=remedy,
    )


def _check_fingerprint(connection: Connection, wanted: frozenset[bytes]) -> None:
    """Raises `DirectoryUnavailable` where the server's own certificate is none of those that are wanted."""
    certificate = connection.ssl_object.getpeercert(binary_form=True) if connection.ssl_object is not None else None
    found = hashlib.sha256(certificate or b"").digest()
    if found not in wanted:
        raise connection.peer.unavailable(
            f"the server's certificate is none of tls.fingerprint_sha256; it has {found.hex(':').upper()}",
            remedy="If it was renewed, compare that with the certificate on the server itself before you add it.",
        )


async def _explain_certificate(
    error: ssl.SSLCertVerificationError, settings: LdapSettings, server: ServerAddress, due_s: float
) -> Words:
    """What is wrong with the server's certificate, by what it sends where that can be seen in the time that is left."""
    sent = await _look_at_chain(settings, server, due_s)
    evidence = Evidence(
        server.tls_name,
        error.verify_message,
        settings.ca_file,
        sent=read_certificates(sent),
        trusted=read_authorities(settings.ca_file),
    )
    return explain_verification(error.verify_code, evidence)


async def _look_at_chain(settings: LdapSettings, server: ServerAddress, due_s: float) -> Sequence[bytes]:
    """What the server sends as its certificates, in DER; empty where it can't be seen.

    Security: nothing is said on this connection but what begins TLS, and it serves for words alone. Python shows no
    certificate of a handshake that has failed.
    """
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname, blind.verify_mode = False, ssl.CERT_NONE
    blind.set_ciphers("DEFAULT:@SECLEVEL=0")  # a certificate that is too weak can be seen
    opening = _Opening(replace(settings, tls=blind, fingerprints=frozenset()), server)
    now_s = asyncio.get_running_loop().time()
    try:
        async with asyncio.timeout_at(min(due_s, now_s + _LOOK_MAX_S)):
            await opening.run()
        return _sent_chain(opening.connection.ssl_object)
    except (OSError, DirectoryError):  # TimeoutError among them
        return ()
    finally:
        opening.connection.abort()


def _sent_chain(tls: ssl.SSLObject | None) -> Sequence[bytes]:
    if tls is None:
        return ()
    own = tls.getpeercert(binary_form=True)
    # Python 3.11, 3.12: the chain is there under a name of Python's own; 3.13 has made it public.
    inner = tls if hasattr(tls, "get_unverified_chain") else getattr(tls, "_sslobj", None)
    show = getattr(inner, "get_unverified_chain", None)
    found = [_to_der(each) for each in show() or ()] if show is not None else []
    return found or ([own] if own else [])


def _to_der(certificate: object) -> bytes:
    if isinstance(certificate, bytes):
        return certificate
    der: bytes = certificate.public_bytes(2)  # type: ignore[attr-defined]  # _ssl.ENCODING_DER
    return der
