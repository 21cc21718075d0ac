"""The server's side of LDAP messages: requests read, answers written (RFC 4511)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bridge.syntax import ber
from bridge.syntax.filter_ber import decode_filter

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bridge.syntax.filters import Filter

PAGED_RESULTS = "1.2.840.113556.1.4.319"
START_TLS = "1.3.6.1.4.1.1466.20037"
NOTICE_OF_DISCONNECTION = "1.3.6.1.4.1.1466.20036"

BIND_RESPONSE, SEARCH_ENTRY, SEARCH_DONE, SEARCH_REFERENCE = 0x61, 0x64, 0x65, 0x73
EXTENDED_RESPONSE = 0x78

_ANSWERS = {0x66: 0x67, 0x68: 0x69, 0x4A: 0x6B, 0x6C: 0x6D, 0x6E: 0x6F}
"""modify, add, delete, modifyDN and compare with their answers."""


@dataclass(frozen=True, slots=True)
class ReceivedBind:
    """RFC 4511 §4.2; `password` None is SASL."""

    dn: str
    password: bytes | None


@dataclass(frozen=True, slots=True)
class ReceivedSearch:
    """RFC 4511 §4.5.1."""

    base: str
    scope: int
    size_limit: int
    types_only: bool
    filter: Filter
    attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ReceivedExtended:
    """RFC 4511 §4.12."""

    name: str


@dataclass(frozen=True, slots=True)
class ReceivedOther:
    """A request that this server carries out for nobody; `answer` is the tag of its answer, None for none."""

    answer: int | None
    ends_connection: bool = False


Operation = ReceivedBind | ReceivedSearch | ReceivedExtended | ReceivedOther


@dataclass(frozen=True, slots=True)
class Message:
    """A request with its id and its controls: criticality and value by object identifier."""

    id: int
    operation: Operation
    controls: Mapping[str, tuple[bool, bytes]] = field(default_factory=dict)


def read_message(data: bytes) -> Message:
    """The request that `data` holds. Raises `bridge.syntax.ber.BerError`."""
    outer = ber.Reader(data).read_inner()
    message_id = outer.read_integer()
    tag, start, stop = outer.read()
    operation = _read_operation(tag, ber.Reader(data, start, stop))
    return Message(message_id, operation, {} if outer.at_end else _read_controls(outer.read_inner(0xA0)))


def _read_operation(tag: int, reader: ber.Reader) -> Operation:
    match tag:
        case 0x60:
            reader.read_integer()
            dn = _text(reader.read_octets())
            return ReceivedBind(dn, reader.read_octets(0x80) if reader.peek_tag() == 0x80 else None)  # noqa: PLR2004
        case 0x63:
            return _read_search(reader)
        case 0x77:
            return ReceivedExtended(_text(reader.read_octets(0x80)))
        case 0x42:
            return ReceivedOther(None, ends_connection=True)
        case 0x50:
            return ReceivedOther(None)
    if tag not in _ANSWERS:
        raise ber.BerError(f"no request has the tag 0x{tag:02x}")
    return ReceivedOther(_ANSWERS[tag])


def _read_search(reader: ber.Reader) -> ReceivedSearch:
    base = _text(reader.read_octets())
    scope = reader.read_integer(ber.ENUMERATED)
    reader.read_integer(ber.ENUMERATED)  # aliases: there are none
    size_limit = reader.read_integer()
    reader.read_integer()  # time limit: nothing here takes a second
    types_only = reader.read_boolean()
    tree = decode_filter(reader)
    names, attributes = reader.read_inner(), []
    while not names.at_end:
        attributes.append(_text(names.read_octets()))
    return ReceivedSearch(base, scope, size_limit, types_only, tree, tuple(attributes))


def _read_controls(reader: ber.Reader) -> dict[str, tuple[bool, bytes]]:
    controls = {}
    while not reader.at_end:
        control = reader.read_inner()
        name = _text(control.read_octets())
        critical = control.read_boolean() if control.peek_tag() == ber.BOOLEAN else False
        controls[name] = (critical, b"" if control.at_end else control.read_octets())
    return controls


def read_paging(value: bytes) -> tuple[int, bytes]:
    """Page size and cookie of a paged-results control (RFC 2696 §2)."""
    reader = ber.Reader(value).read_inner()
    return reader.read_integer(), reader.read_octets()


def write_paging(cookie: bytes) -> bytes:
    """The controls of a page's answer."""
    value = ber.write_element(ber.SEQUENCE, ber.write_integer(0), ber.write_octets(cookie))
    control = ber.write_element(ber.SEQUENCE, ber.write_octets(PAGED_RESULTS.encode()), ber.write_octets(value))
    return ber.write_element(0xA0, control)


def write_result(
    message_id: int, tag: int, result_code: int, message: str = "", *, tail: bytes = b"", controls: bytes = b""
) -> bytes:
    """An answer that ends an operation (RFC 4511 §4.1.9); `tail` stands behind the result."""
    parts = (
        ber.write_integer(result_code, ber.ENUMERATED),
        ber.write_octets(b""),
        ber.write_octets(message.encode()),
        tail,
    )
    return ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), ber.write_element(tag, *parts), controls)


def write_notice(result_code: int, message: str) -> bytes:
    """The notice of disconnection (RFC 4511 §4.4.1)."""
    name = ber.write_octets(NOTICE_OF_DISCONNECTION.encode(), 0x8A)
    return write_result(0, EXTENDED_RESPONSE, result_code, message, tail=name)


def write_entry(message_id: int, dn: str, attributes: Sequence[tuple[str, Sequence[bytes]]]) -> bytes:
    """A search result entry (RFC 4511 §4.5.2)."""
    parts = [
        ber.write_element(
            ber.SEQUENCE, ber.write_octets(name.encode()), ber.write_element(ber.SET, *map(ber.write_octets, values))
        )
        for name, values in attributes
    ]
    content = (ber.write_octets(dn.encode()), ber.write_element(ber.SEQUENCE, *parts))
    return ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), ber.write_element(SEARCH_ENTRY, *content))


def _text(octets: bytes) -> str:
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise ber.BerError("a name is not UTF-8") from error
