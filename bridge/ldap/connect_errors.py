"""What went wrong while a connection was opened, in words: the DNS, the network, TLS, or who answers there.

Knows error numbers and the first bytes of other protocols; opens nothing.
"""

from __future__ import annotations

import errno
import socket
import ssl
from enum import Enum
from typing import TYPE_CHECKING

from bridge.certificates.verification import Words
from bridge.errors import system_words
from bridge.ldap.host_names import name_servers

if TYPE_CHECKING:
    from bridge.ldap.settings import LdapSettings, ServerAddress


class Stage(Enum):
    """What a connection that is being opened waits for."""

    NAME = 1
    NETWORK = 2
    START_TLS = 3
    HANDSHAKE = 4


_PLAIN_PORTS, _TLS_PORTS = frozenset((389, 3268)), frozenset((636, 3269))
_USE_TLS_PORT = (
    "ldaps:// needs a port that speaks TLS from the first byte, such as 636; ldap:// with StartTLS is for ports such "
    "as 389."
)
_USE_LDAPS = "A port that speaks TLS from the first byte, such as 636, needs ldaps:// instead of ldap://."
_NO_CERTIFICATE = (
    "The server may lack a certificate or its key, or want a client certificate that it takes "
    "(tls.client_certificate_file); its own log says more."
)
_SHOWN_BYTES_COUNT = 60
_TLS_ALERT, _TLS_MAJOR = 0x15, 3  # RFC 8446 §5.1
_MISTAKEN = frozenset(
    (
        "WRONG_VERSION_NUMBER",
        "UNKNOWN_PROTOCOL",
        "HTTP_REQUEST",
        "PACKET_LENGTH_TOO_LONG",
        "RECORD_LAYER_FAILURE",
        "UNEXPECTED_MESSAGE",
        "BAD_RECORD_TYPE",
    )
)
"""What OpenSSL says of bytes that are no TLS."""
_OTHER_VERSION = frozenset(("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "NO_PROTOCOLS_AVAILABLE"))
_NOTHING_IN_COMMON = frozenset(
    ("SSLV3_ALERT_HANDSHAKE_FAILURE", "TLSV1_ALERT_INSUFFICIENT_SECURITY", "NO_SHARED_CIPHER", "WRONG_CIPHER_RETURNED")
)
_WANTS_CERTIFICATE = frozenset(("TLSV13_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_NO_CERTIFICATE"))
_REJECTS_CERTIFICATE = {
    "SSLV3_ALERT_BAD_CERTIFICATE": "it is damaged, or there is none",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it is of the wrong kind",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it was revoked",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it can't be checked",
    "TLSV1_ALERT_UNKNOWN_CA": "its authority is not known there",
    "TLSV1_ALERT_ACCESS_DENIED": "it may not connect",
    "TLSV1_ALERT_DECRYPT_ERROR": "its signature is not right",
}
"""What a server says of a client's certificate (RFC 8446 §6.2)."""
_WEAK_EXCHANGE = frozenset(("DH_KEY_TOO_SMALL", "BAD_DH_VALUE", "EE_KEY_TOO_SMALL"))
_OLD_WAYS = frozenset(
    ("UNSAFE_LEGACY_RENEGOTIATION_DISABLED", "WRONG_SIGNATURE_TYPE", "LEGACY_SIGALG_DISALLOWED_OR_UNSUPPORTED")
)
_SHOW_CERTIFICATE = (
    "Name a certificate that the server takes in tls.client_certificate_file, with its tls.client_key_file."
)


def explain_timeout(stage: Stage, server: ServerAddress, timeout_s: float) -> Words:
    """What has taken all of its time."""
    match stage:
        case Stage.NAME:
            return explain_silent_dns(server, timeout_s)
        case Stage.START_TLS:
            return Words(f"connected, but StartTLS was not answered within {timeout_s:g} s", _USE_LDAPS)
        case Stage.HANDSHAKE:
            remedy = _NO_CERTIFICATE if server.start_tls else _USE_TLS_PORT
            return Words(f"connected, but TLS was not agreed upon within {timeout_s:g} s", remedy)
    return Words(f"no connection within {timeout_s:g} s", "Check the address, the firewall, and that the server runs.")


def explain_silent_dns(server: ServerAddress, timeout_s: float) -> Words:
    """The DNS, or what else the system asks for names, has not answered."""
    return Words(
        f"the name {server.host} could not be resolved within {timeout_s:.3g} s: the DNS does not answer "
        f"({name_servers()})",
        f"Check these name servers, and ask by `getent ahosts {server.host}`; or write an address into `servers`.",
    )


def explain_no_name(error: socket.gaierror, server: ServerAddress) -> Words:
    """The system has no address for the server's name."""
    host = server.host
    if server.is_address:
        return Words(f"the address {host} can't be used on this machine: {error.strerror}", "Check its interface (%…).")
    ask = f"ask by `getent ahosts {host}`"
    if error.errno == socket.EAI_NONAME:
        return Words(f"there is no host of the name {host}", f"Check the spelling in `servers`, and {ask}.")
    if error.errno == getattr(socket, "EAI_NODATA", None):
        return Words(f"the DNS knows the name {host}, and has no address for it", f"Check `servers`, and {ask}.")
    detail = f"the name {host} could not be resolved: {(error.strerror or str(error)).lower()} ({name_servers()})"
    return Words(detail, f"Check these name servers, and {ask}.")


def explain_os_error(stage: Stage, error: OSError, server: ServerAddress) -> Words:
    """The system's own error, or a connection that has ended while TLS was begun."""
    if isinstance(error, socket.gaierror):
        return explain_no_name(error, server)
    if stage is Stage.HANDSHAKE and isinstance(error, ConnectionError):
        return _explain_end_in_handshake(server)
    if isinstance(error, ConnectionRefusedError | FileNotFoundError):
        what = "nothing listens there" if isinstance(error, ConnectionRefusedError) else "there is no such socket"
        return Words(f"the connection was refused: {what}", "Check that the server runs and listens there.")
    if isinstance(error, PermissionError):
        return Words("the connection may not be opened: permission denied", "Let the service's user connect there.")
    if error.errno in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        what = "this network" if error.errno == errno.ENETUNREACH else "this host"
        return Words(f"there is no route to {what}", "Check the address, the network and the firewall.")
    reason = errno.errorcode.get(error.errno or 0, "")
    said = system_words(error) or reason or type(error).__name__
    return Words(f"the connection failed: {said}", "Check the address and the network.")


def explain_tls_error(error: ssl.SSLError, settings: LdapSettings, server: ServerAddress) -> Words:
    """What OpenSSL says of a handshake, or of the first bytes after it, other than of the server's certificate."""
    reason = error.reason or ""
    if reason in _MISTAKEN:
        return Words(f"what answers at port {server.port} does not speak TLS", _USE_TLS_PORT)
    if isinstance(error, ssl.SSLEOFError) or reason == "UNEXPECTED_EOF_WHILE_READING":
        return _explain_end_in_handshake(server)
    if reason in _OTHER_VERSION:
        wanted = settings.minimum_tls_version
        lower = ', or set tls.minimum_version: "1.2"' if wanted == "1.3" else ""
        detail = f"the server speaks no version of TLS that is taken: it must be {wanted} or newer"
        return Words(detail, f"Have the server speak TLS {wanted}{lower}.")
    if reason in _NOTHING_IN_COMMON:
        detail = "the server refuses TLS: it shares no cipher with this machine, or wants a client certificate"
        remedy = (
            "Let the server take the ciphers that OpenSSL calls DEFAULT, or show it a certificate that it takes "
            "(tls.client_certificate_file); its own log says more."
        )
        return Words(detail, remedy)
    if reason in _WANTS_CERTIFICATE:
        return Words("the server wants a client certificate, and was shown none", _SHOW_CERTIFICATE)
    if reason in _REJECTS_CERTIFICATE:
        return _explain_rejected(reason, settings)
    if reason == "TLSV1_UNRECOGNIZED_NAME":
        return Words(f"the server has no certificate for the name {server.tls_name}", "Use another name in `servers`.")
    if reason in _WEAK_EXCHANGE:
        detail = f"the server's keys are too short ({_plain(reason)})"
        return Words(detail, "Have the server use RSA and Diffie-Hellman with 2048 bits at least.")
    if reason in _OLD_WAYS:
        return Words(f"the server's TLS is too old ({_plain(reason)})", "Have the server's TLS library renewed.")
    detail = f"TLS could not be begun: {_plain(reason or str(error))}"
    return Words(detail, "Look into the server's own log; `openssl s_client` shows what it offers.")


def explain_first_bytes(data: bytes) -> tuple[Words, str] | None:
    """Who answers where LDAP was expected, and what it says, by the first bytes; None where they may be LDAP."""
    if len(data) > 1 and data[0] == _TLS_ALERT and data[1] == _TLS_MAJOR:
        return Words("the server answers in TLS where plain LDAP was spoken", _USE_LDAPS), ""
    text = data[:_SHOWN_BYTES_COUNT].split(b"\r")[0].split(b"\n")[0].decode("ascii", "replace").strip()
    if len(text) >= 4 and text.isprintable() and text.isascii():  # noqa: PLR2004 - the shortest greeting is "+OK "
        words = Words("what answers there is no LDAP server", "Check the port in `servers`.")
        return words, f'it says "{text}"'
    return None


def explain_silence(server: ServerAddress, settings: LdapSettings) -> str:
    """What to do where a server has never said anything to LDAP: not before it has hung up, and not at all."""
    if server.scheme == "ldapi":
        return "Check what listens at that socket."
    if not server.uses_tls:
        return _USE_LDAPS
    if settings.shows_certificate:
        return "It may not take the bridge's certificate (tls.client_certificate_file); its own log says more."
    return f"It may want a client certificate: {_SHOW_CERTIFICATE[0].lower()}{_SHOW_CERTIFICATE[1:]}"


def _explain_end_in_handshake(server: ServerAddress) -> Words:
    detail = "the server closed the connection when TLS was begun"
    if server.start_tls or server.port in _TLS_PORTS:
        return Words(detail, _NO_CERTIFICATE)
    if server.port in _PLAIN_PORTS:
        return Words(detail, _USE_TLS_PORT)
    return Words(detail, f"{_USE_TLS_PORT} {_NO_CERTIFICATE}")


def _explain_rejected(reason: str, settings: LdapSettings) -> Words:
    if not settings.shows_certificate:
        return Words("the server wants a client certificate, and was shown none", _SHOW_CERTIFICATE)
    detail = f"the server does not take the bridge's certificate: {_REJECTS_CERTIFICATE[reason]}"
    return Words(detail, "Check tls.client_certificate_file, and which authorities the server trusts for clients.")


def _plain(reason: str) -> str:
    return reason.replace("_", " ").lower()
