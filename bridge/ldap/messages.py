"""LDAP messages as bytes: requests written, answers read (RFC 4511).

The bind and search requests, which every login needs, are written here; what is rare is encoded by ldap3. Answers are
read strictly: ldap3's fast decoder takes a truncated message for a shorter one and knows no referral in a bind
response, and a listing must be proven complete. Nothing here holds a socket.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache, lru_cache
from typing import TYPE_CHECKING

from ldap3.operation.abandon import abandon_operation
from ldap3.operation.extended import extended_operation
from ldap3.operation.unbind import unbind_operation
from ldap3.protocol.rfc2696 import paged_search_control
from ldap3.protocol.rfc4511 import LDAPMessage, MessageID, ProtocolOp
from ldap3.utils.asn1 import encode  # type: ignore[attr-defined]  # the stubs lack it

from bridge.syntax import ber
from bridge.syntax.filter_ber import encode_filter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bridge.directory import SearchRequest
    from bridge.model import Secret

BIND_RESPONSE = 0x61
SEARCH_ENTRY = 0x64
SEARCH_DONE = 0x65
SEARCH_REFERENCE = 0x73
EXTENDED_RESPONSE = 0x78
INTERMEDIATE_RESPONSE = 0x79

PAGED_RESULTS = "1.2.840.113556.1.4.319"
"""RFC 2696."""
START_TLS = "1.3.6.1.4.1.1466.20037"
"""RFC 4511 §4.14."""
PASSWORD_POLICY = "1.3.6.1.4.1.42.2.27.8.5.1"  # noqa: S105 - an object identifier
"""draft-behera-ldap-password-policy-11 §6.1."""
PASSWORD_EXPIRED = "2.16.840.1.113730.3.4.4"  # noqa: S105 - an object identifier
"""draft-vchu-ldap-pwd-policy-00 §2."""
PASSWORD_EXPIRING = "2.16.840.1.113730.3.4.5"  # noqa: S105 - an object identifier
"""draft-vchu-ldap-pwd-policy-00 §2; the value is a number of seconds in decimal digits."""

_BIND_REQUEST = 0x60
_SEARCH_REQUEST = 0x63
_SIMPLE = 0x80
_SASL = 0xA3
_CONTROLS = 0xA0
_REFERRAL = 0xA3
_SASL_CREDENTIALS = 0x87
_RESPONSE_NAME = 0x8A
_RESPONSE_VALUE = 0x8B
_VERSION_3 = ber.write_integer(3)
_NEVER_DEREFERENCE = ber.write_integer(0, ber.ENUMERATED)
_VALUES_TOO = ber.write_boolean(False)
_PLAIN_SUCCESS = (
    ber.write_integer(0, ber.ENUMERATED)  # the result code
    + ber.write_octets(b"")  # the matched DN
    + ber.write_octets(b"")  # the diagnostic message
)
_DIAGNOSTIC_MAX_BYTES = 1024
"""Words for people, which are searched for causes and shown: the longest that servers are known to send have 300."""
_NO_ATTRIBUTES = "1.1"
"""RFC 4511 §4.5.1.8."""

ASK_FOR_PASSWORD_POLICY = ber.write_element(
    _CONTROLS, ber.write_element(ber.SEQUENCE, ber.write_octets(PASSWORD_POLICY.encode()))
)
"""The controls of a user bind: the server may say why it refuses, or that grace logins remain."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer that ends an operation (LDAPResult, RFC 4511 §4.1.9)."""

    kind: int
    result_code: int
    diagnostic_message: str = ""
    referrals: tuple[str, ...] = ()
    controls: Mapping[str, bytes | None] = field(default_factory=dict)
    """Values by object identifier."""
    sasl_credentials: bytes | None = None
    """What the server has to say in a bind by SASL."""


def write_bind(message_id: int, dn: str, password: Secret, controls: bytes = b"") -> bytes:
    """A simple bind (RFC 4511 §4.2), the password byte for byte."""
    operation = ber.write_element(
        _BIND_REQUEST, _VERSION_3, ber.write_octets(_encode_dn(dn)), ber.write_octets(password.reveal(), _SIMPLE)
    )
    return ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), operation, controls)


def write_sasl_bind(message_id: int, mechanism: str, credentials: bytes) -> bytes:
    """A bind by SASL (RFC 4511 §4.2), with an initial or a further response of the client."""
    sasl = ber.write_element(_SASL, ber.write_octets(mechanism.encode()), ber.write_octets(credentials))
    operation = ber.write_element(_BIND_REQUEST, _VERSION_3, ber.write_octets(b""), sasl)
    return ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), operation)


def write_search(message_id: int, search: SearchRequest, controls: bytes = b"") -> bytes:
    """A search (RFC 4511 §4.5.1) that follows no alias and sets no time limit, since our own deadline rules."""
    beginning = _write_beginning(search.base, search.scope, search.size_limit_count)
    attributes = _write_attributes(search.attributes or (_NO_ATTRIBUTES,))
    operation = ber.write_element(_SEARCH_REQUEST, beginning, encode_filter(search.filter), attributes)
    return ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), operation, controls)


@lru_cache(maxsize=64)
def _write_beginning(base: str, scope: int, size_limit_count: int) -> bytes:
    """What stands before the filter, which is the same for each look-up in a directory."""
    return b"".join(
        (
            ber.write_octets(_encode_dn(base)),
            ber.write_integer(scope, ber.ENUMERATED),
            _NEVER_DEREFERENCE,
            ber.write_integer(size_limit_count),
            ber.write_integer(0),
            _VALUES_TOO,
        )
    )


@lru_cache(maxsize=64)
def _write_attributes(wanted: tuple[str, ...]) -> bytes:
    """The list of attribute descriptions, which is the same for each search of a directory."""
    return ber.write_element(ber.SEQUENCE, *(ber.write_octets(attribute.encode()) for attribute in wanted))


def write_paging(size_count: int, cookie: bytes) -> bytes:
    """The controls that ask for one page and nothing but a page (RFC 2696 §3, marked critical)."""
    control = paged_search_control(criticality=True, size=size_count, cookie=cookie)
    return ber.write_element(_CONTROLS, bytes(encode(control)))


def write_start_tls(message_id: int) -> bytes:
    """The request to begin TLS (RFC 4511 §4.14.1)."""
    return _write(message_id, "extendedReq", extended_operation(START_TLS))


def write_abandon(message_id: int, abandoned_id: int) -> bytes:
    """The request to forget an operation (RFC 4511 §4.11); it has no answer."""
    return _write(message_id, "abandonRequest", abandon_operation(abandoned_id))  # type: ignore[no-untyped-call]


def write_unbind(message_id: int) -> bytes:
    """The farewell (RFC 4511 §4.3); it has no answer."""
    return _write(message_id, "unbindRequest", unbind_operation())  # type: ignore[no-untyped-call]


def read_response(data: bytes, kind: int, start: int, stop: int, end: int) -> Response:
    """The answer whose operation lies between `start` and `stop`, with its controls up to `end`.

    Raises `bridge.syntax.ber.BerError`.
    """
    if stop == end and data[start:stop] == _PLAIN_SUCCESS:  # most answers: nothing is told beside the success
        return _success(kind)
    reader = ber.Reader(data, start, stop)
    result_code = reader.read_integer(ber.ENUMERATED)
    reader.read_octets()  # matchedDN: nothing asks for it
    diagnostic_message = _text(reader.read_octets()[:_DIAGNOSTIC_MAX_BYTES])
    referrals = _read_uris(reader.read_inner(_REFERRAL)) if reader.peek_tag() == _REFERRAL else ()
    sasl_credentials = None
    if kind == BIND_RESPONSE and reader.peek_tag() == _SASL_CREDENTIALS:
        sasl_credentials = reader.read_octets(_SASL_CREDENTIALS)
    if kind == EXTENDED_RESPONSE and reader.peek_tag() == _RESPONSE_NAME:
        reader.read()
    if kind == EXTENDED_RESPONSE and reader.peek_tag() == _RESPONSE_VALUE:
        reader.read()
    if not reader.at_end:
        raise ber.BerError("an answer holds more than it should")
    controls = _read_controls(data, stop, end)
    return Response(kind, result_code, diagnostic_message, referrals, controls, sasl_credentials)


@cache
def _success(kind: int) -> Response:
    return Response(kind, 0)


def read_reference(data: bytes, start: int, stop: int) -> tuple[str, ...]:
    """The URIs of a continuation reference (RFC 4511 §4.5.3), which lead to the same place."""
    return _read_uris(ber.Reader(data, start, stop))


def read_paging_cookie(value: bytes | None) -> bytes:
    """The cookie of a paged-results control (RFC 2696 §2); empty on the last page."""
    inner = ber.Reader(value or b"").read_inner()
    inner.read_integer()  # an estimate of the size, which servers may leave at 0
    cookie = inner.read_octets()
    if not inner.at_end:
        raise ber.BerError("a paged-results control holds more than it should")
    return cookie


def _write(message_id: int, name: str, request: object) -> bytes:
    message = LDAPMessage()
    message["messageID"] = MessageID(message_id)
    message["protocolOp"] = ProtocolOp().setComponentByName(name, request)
    return bytes(encode(message))


def _encode_dn(dn: str) -> bytes:
    """The DN as it came: a server's bytes that were no UTF-8 travel back unchanged."""
    return dn.encode("utf-8", "surrogateescape")


def _read_controls(data: bytes, start: int, end: int) -> dict[str, bytes | None]:
    if start == end:
        return {}
    controls: dict[str, bytes | None] = {}
    outer = ber.Reader(data, start, end)
    inner = outer.read_inner(_CONTROLS)
    while not inner.at_end:
        control = inner.read_inner()
        name = _text(control.read_octets())
        if control.peek_tag() == ber.BOOLEAN:
            control.read_boolean()
        value = None if control.at_end else control.read_octets()
        if not control.at_end:
            raise ber.BerError("a control holds more than it should")
        if controls.setdefault(name, value) != value:
            raise ber.BerError("a control came twice, and says two things")
    if not outer.at_end:
        raise ber.BerError("a message holds more than it should")
    return controls


def _read_uris(reader: ber.Reader) -> tuple[str, ...]:
    uris = []
    while not reader.at_end:
        uris.append(_text(reader.read_octets()))
    return tuple(uris)


def _text(octets: bytes) -> str:
    """Text that a server sent for people; Active Directory ends some of it in NUL."""
    return octets.decode("utf-8", "replace").rstrip("\0")
