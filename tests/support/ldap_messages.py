"""LDAP messages as a proxy needs them: a stream cut into messages, requests read, answers written (RFC 4511).

Knows no socket, and nothing of `bridge.ldap`, whose reading and writing it is there to test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from bridge.syntax import ber

Kind = Literal["bind", "search", "unbind", "abandon", "extended", "other"]

START_TLS = "1.3.6.1.4.1.1466.20037"
"""RFC 4511 §4.14.1."""
NOTICE_OF_DISCONNECTION = "1.3.6.1.4.1.1466.20036"
"""RFC 4511 §4.4.1."""

_BIND, _SEARCH, _UNBIND, _ABANDON, _EXTENDED = 0x60, 0x63, 0x42, 0x50, 0x77
_BIND_RESPONSE, _SEARCH_DONE, _EXTENDED_RESPONSE = 0x61, 0x65, 0x78
_SEARCH_ENTRY, _SEARCH_REFERENCE, _INTERMEDIATE = 0x64, 0x73, 0x79
_SIMPLE, _SASL = 0x80, 0xA3
_REQUEST_NAME, _RESPONSE_NAME, _CONTROLS = 0x80, 0x8A, 0xA0

_KINDS: dict[int | None, Kind] = {
    _BIND: "bind",
    _SEARCH: "search",
    _UNBIND: "unbind",
    _ABANDON: "abandon",
    _EXTENDED: "extended",
    _BIND_RESPONSE: "bind",
    _SEARCH_ENTRY: "search",
    _SEARCH_REFERENCE: "search",
    _SEARCH_DONE: "search",
    _EXTENDED_RESPONSE: "extended",
}


@dataclass(frozen=True)
class Request:
    """A request as it arrived; the password of a bind is never kept."""

    connection: int
    """Connections are numbered from 1 on."""
    message_id: int
    kind: Kind
    dn: str = ""
    """Of a bind."""
    is_password_empty: bool = False
    """Of a simple bind."""
    mechanism: str = ""
    """Of a bind by SASL."""
    base: str = ""
    scope: int = -1
    """0 base, 1 one level, 2 subtree (RFC 4511 §4.5.1.2); -1 where this is no search."""
    size_limit_count: int = 0
    filter: bytes = b""
    """The whole element, as it came."""
    name: str = ""
    """The object identifier of an extended request."""
    abandoned_id: int = 0


@dataclass(frozen=True)
class Answer:
    """The part of a server's message that decides where it goes."""

    message_id: int = 0
    kind: Kind = "other"
    is_last: bool = False
    """Whether it ends the operation."""
    result_code: int | None = None
    """None where it does not end the operation."""


class MessageSplitter:
    """Cuts a stream of bytes into LDAP messages. From the first byte that begins none on, everything passes as it is."""

    def __init__(self) -> None:
        self._pending = bytearray()
        self.is_transparent = False
        """Whether the bytes are no LDAP messages: TLS, for example."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield each message that is complete."""
        self._pending += data
        while (size := self._next_size()) is not None:
            message = bytes(self._pending[:size])
            del self._pending[:size]
            yield message

    def take_rest(self) -> bytes:
        """Return the beginning of a message that has not been completed."""
        rest = bytes(self._pending)
        self._pending.clear()
        return rest

    def _next_size(self) -> int | None:
        if not self.is_transparent:
            try:
                size = ber.message_size(self._pending)
            except ber.BerError:
                self.is_transparent = True
            else:
                return size if size is not None and size <= len(self._pending) else None
        return len(self._pending) or None


def read_request(connection: int, message: bytes) -> Request:
    """Read a client's message; what breaks a rule, or is of no interest, is of the kind `other`."""
    message_id = 0
    try:
        content = ber.Reader(message).read_inner()
        message_id, tag = content.read_integer(), content.peek_tag()
        if tag == _BIND:
            return _read_bind(connection, message_id, content.read_inner(_BIND))
        if tag == _SEARCH:
            return _read_search(connection, message_id, content.read_inner(_SEARCH))
        if tag == _EXTENDED:
            name = content.read_inner(_EXTENDED).read_octets(_REQUEST_NAME)
            return Request(connection, message_id, "extended", name=_text(name))
        if tag == _ABANDON:
            return Request(connection, message_id, "abandon", abandoned_id=content.read_integer(_ABANDON))
        return Request(connection, message_id, "unbind" if tag == _UNBIND else "other")
    except ber.BerError:
        return Request(connection, message_id, "other")


def _read_bind(connection: int, message_id: int, bind: ber.Reader) -> Request:
    bind.read_integer()  # the version
    dn = _text(bind.read_octets())
    if bind.peek_tag() == _SASL:
        mechanism = _text(bind.read_inner(_SASL).read_octets())
        return Request(connection, message_id, "bind", dn=dn, mechanism=mechanism)
    _, start, stop = bind.read(_SIMPLE)
    return Request(connection, message_id, "bind", dn=dn, is_password_empty=start == stop)


def _read_search(connection: int, message_id: int, search: ber.Reader) -> Request:
    base, scope = _text(search.read_octets()), search.read_integer(ber.ENUMERATED)
    search.read(ber.ENUMERATED)  # derefAliases
    size_limit_count = search.read_integer()
    search.read(ber.INTEGER)  # timeLimit
    _, _, filter_start = search.read(ber.BOOLEAN)  # typesOnly
    _, _, filter_stop = search.read()
    return Request(
        connection,
        message_id,
        "search",
        base=base,
        scope=scope,
        size_limit_count=size_limit_count,
        filter=search.data[filter_start:filter_stop],
    )


def read_answer(message: bytes) -> Answer:
    """Read a server's message; one that breaks a rule answers no request."""
    try:
        content = ber.Reader(message).read_inner()
        message_id, tag = content.read_integer(), content.peek_tag()
        kind = _KINDS.get(tag, "other")
        if tag in (_SEARCH_ENTRY, _SEARCH_REFERENCE, _INTERMEDIATE):
            return Answer(message_id, kind)
        return Answer(
            message_id, kind, is_last=True, result_code=content.read_inner(tag or 0).read_integer(ber.ENUMERATED)
        )
    except ber.BerError:
        return Answer()


def write_search_done(message_id: int, result_code: int, diagnostic: str = "", controls: bytes = b"") -> bytes:
    """The end of a search (RFC 4511 §4.5.2)."""
    return _write_answer(message_id, _SEARCH_DONE, _write_result(result_code, diagnostic), controls)


def write_bind_response(message_id: int, result_code: int, diagnostic: str = "", controls: bytes = b"") -> bytes:
    """The answer to a bind (RFC 4511 §4.2.2)."""
    return _write_answer(message_id, _BIND_RESPONSE, _write_result(result_code, diagnostic), controls)


def write_extended_response(message_id: int, result_code: int, diagnostic: str = "", name: str = "") -> bytes:
    """The answer to an extended request (RFC 4511 §4.12), without a value."""
    named = ber.write_octets(name.encode(), _RESPONSE_NAME) if name else b""
    return _write_answer(message_id, _EXTENDED_RESPONSE, _write_result(result_code, diagnostic) + named)


def write_notice(result_code: int, diagnostic: str = "") -> bytes:
    """The notice of disconnection, which answers no request (RFC 4511 §4.4.1)."""
    return write_extended_response(0, result_code, diagnostic, NOTICE_OF_DISCONNECTION)


def write_controls(*controls: tuple[str, bytes | None]) -> bytes:
    """The controls of a message (RFC 4511 §4.1.11), each with its object identifier and value; none is critical."""
    return ber.write_element(_CONTROLS, *(_write_control(name, value) for name, value in controls))


def _write_control(name: str, value: bytes | None) -> bytes:
    written = b"" if value is None else ber.write_octets(value)
    return ber.write_element(ber.SEQUENCE, ber.write_octets(name.encode()), written)


def _write_result(result_code: int, diagnostic: str) -> bytes:
    """The beginning of an LDAPResult (RFC 4511 §4.1.9): the matched DN is empty."""
    code = ber.write_integer(result_code, ber.ENUMERATED)
    return code + ber.write_octets(b"") + ber.write_octets(diagnostic.encode())


def _write_answer(message_id: int, tag: int, operation: bytes, controls: bytes = b"") -> bytes:
    return ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), ber.write_element(tag, operation), controls)


def _text(octets: bytes) -> str:
    return octets.decode("utf-8", "surrogateescape")
