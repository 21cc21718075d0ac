"""Connections opened: TCP, TLS, StartTLS or a local socket, with the certificate checked before anything is said.

Knows addresses and certificates, nothing of binds or searches.
"""

from __future__ import annotations

import asyncio
import hashlib
import ipaddress
import socket
import ssl
from typing import TYPE_CHECKING

from aiohappyeyeballs import start_connection

from bridge.errors import DirectoryRefused, DirectoryUnavailable
from bridge.ldap.connection import Connection, Peer
from bridge.ldap.results import SUCCESS, describe_result
from bridge.renewal import Renewed, current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aiohappyeyeballs import AddrInfoType

    from bridge.ldap.settings import LdapSettings, ServerAddress

_HAPPY_EYEBALLS_DELAY_S = 0.25
"""RFC 8305 §5: when a host's next address is tried beside the first one."""


async def open_connection(settings: LdapSettings, server: ServerAddress) -> Connection:
    """A connection to `server`, encrypted as configured, on which nobody is bound yet.

    Raises `DirectoryUnavailable`, or `DirectoryRefused` where the server doesn't offer StartTLS.
    """
    peer = Peer(settings.directory, server.url)
    connection = Connection(peer, settings.limits)
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            await _connect(connection, settings, server)
    except ssl.SSLCertVerificationError as error:
        connection.abort()
        _suspect(settings)
        detail, remedy = _explain_certificate(error, server)
        raise peer.unavailable(detail, remedy=remedy) from error
    except ssl.SSLError as error:
        connection.abort()
        _suspect(settings)  # a server that wants another client certificate says so by an alert
        remedy = "Check that the address and the port speak TLS, and which TLS versions the server offers."
        raise peer.unavailable(f"TLS could not be begun: {_tls_reason(error)}", remedy=remedy) from error
    except TimeoutError as error:
        connection.abort()
        raise peer.unavailable(
            f"no connection within {settings.connect_timeout_s:g} s",
            remedy="Check the address, the firewall, and that the server runs.",
        ) from error
    except OSError as error:
        connection.abort()
        raise peer.unavailable(f"the connection failed: {_os_reason(error)}", remedy=_remedy(error)) from error
    except BaseException:
        connection.abort()
        raise
    return connection


def _suspect(settings: LdapSettings) -> None:
    """Have the files of certificates read again for the next connection, whatever their time stamps say."""
    if isinstance(settings.tls, Renewed):
        settings.tls.suspect()


async def _connect(connection: Connection, settings: LdapSettings, server: ServerAddress) -> None:
    loop = asyncio.get_running_loop()
    if server.scheme == "ldapi":
        await loop.create_unix_connection(lambda: connection, server.host)
        return
    use_tls = server.scheme == "ldaps"
    tls, host = (_tls(settings), server.host) if use_tls else (None, None)
    # asyncio's own way of trying several addresses loses the socket where it is cancelled in between.
    addresses = await _find_addresses(server)
    connected = await start_connection(addresses, happy_eyeballs_delay=_HAPPY_EYEBALLS_DELAY_S)
    await loop.create_connection(lambda: connection, sock=connected, ssl=tls, server_hostname=host)
    connection.keep_alive()
    if server.start_tls:
        await _start_tls(connection, settings, server)
    if settings.fingerprints and server.uses_tls:
        _check_fingerprint(connection, settings.fingerprints)


def _tls(settings: LdapSettings) -> ssl.SSLContext:
    """What the files of certificates hold now; connections that are there keep what they were made with."""
    assert settings.tls is not None  # noqa: S101 - the configuration makes a context wherever TLS is used
    return current(settings.tls)


async def _find_addresses(server: ServerAddress) -> Sequence[AddrInfoType]:
    """The addresses of a server, as `getaddrinfo` gives them; the system is asked for those of a name."""
    known = server.addresses or ((server.host,) if _is_address(server.host) else ())
    if not known:
        return await asyncio.get_running_loop().getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    found: list[AddrInfoType] = []
    for address in known:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        found.append((family, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, server.port)))
    return found


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _start_tls(connection: Connection, settings: LdapSettings, server: ServerAddress) -> None:
    response = await connection.start_tls()
    if response.result_code != SUCCESS:
        raise DirectoryRefused(
            f"StartTLS was refused: {describe_result(response)}",
            directory=settings.directory,
            server=server.url,
            result_code=response.result_code,
            diagnostic_message=response.diagnostic_message,
            remedy="Give the server a certificate, or use an ldaps:// address.",
        )
    transport = await asyncio.get_running_loop().start_tls(
        connection.begin_handshake(), connection, _tls(settings), server_hostname=server.host
    )
    if transport is None:
        raise DirectoryUnavailable(
            "the connection was lost while TLS was begun", directory=settings.directory, server=server.url
        )
    connection.end_handshake(transport)


def _check_fingerprint(connection: Connection, wanted: frozenset[bytes]) -> None:
    """Raises `DirectoryUnavailable` where the server's own certificate is none of those that are wanted."""
    certificate = connection.ssl_object.getpeercert(binary_form=True) if connection.ssl_object is not None else None
    found = hashlib.sha256(certificate or b"").digest()
    if found not in wanted:
        raise connection.peer.unavailable(
            f"the server's certificate is none of tls.fingerprint_sha256; it has {found.hex(':').upper()}",
            remedy="If it was renewed, compare that with the certificate on the server itself before you add it.",
        )


def _explain_certificate(error: ssl.SSLCertVerificationError, server: ServerAddress) -> tuple[str, str]:
    """What is wrong with the server's certificate; the numbers are X509_V_ERR_* of OpenSSL."""
    host = server.host
    if error.verify_code == 10:  # noqa: PLR2004 - X509_V_ERR_CERT_HAS_EXPIRED
        return "the server's certificate has expired", "Renew it on the server."
    if error.verify_code == 9:  # noqa: PLR2004 - X509_V_ERR_CERT_NOT_YET_VALID
        return "the server's certificate is not valid yet", "Check the clocks of both machines."
    if error.verify_code in (62, 64):  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return (
            f"the server's certificate is not made out to {host}",
            "Use a name in `servers` that stands in the certificate, or have the certificate made out to this one.",
        )
    return (
        f"the server's certificate is not trusted: {error.verify_message}",
        "Name the certificate of the authority that signed it in `tls.ca_file`.",
    )


def _tls_reason(error: ssl.SSLError) -> str:
    return (error.reason or str(error)).replace("_", " ").lower()


def _os_reason(error: OSError) -> str:
    """The system's words; several addresses that all failed come as one error without a number."""
    return error.strerror or str(error)


def _remedy(error: OSError) -> str:
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        return "Check that the server runs and listens there."
    return "Check the address, the name resolution and the network."
