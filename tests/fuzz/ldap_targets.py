"""What servers send, as bytes: BER, messages, entries, controls, the answers to binds.

A target raises `AssertionError`, or whatever a parser lets out, where its property does not hold. It returns whether the
input was taken, so that a test sees that both happens.
"""

from __future__ import annotations

from random import Random
from typing import Any

from bridge.directory import Entry
from bridge.ldap import messages
from bridge.ldap.discovery import Record, order_records
from bridge.ldap.entries import DN_MAX_BYTES, EntryReader
from bridge.ldap.messages import Response, read_paging_cookie, read_reference, read_response
from bridge.syntax import ber
from bridge.syntax.ber import BerError, Reader
from tests.fuzz import readers
from tests.fuzz.inputs import cut, said_of, split_off

_RECORDS_MAX_COUNT = 20
_LENGTHS_COUNT = 8
"""Octets that a header may have, and more."""
_DEPTH_LIMIT = 20
_ANSWERS = (messages.BIND_RESPONSE, messages.SEARCH_DONE, messages.EXTENDED_RESPONSE)
_MOST = 2**31 - 1
"""RFC 4511 §4.1.1: maxInt."""


def read_ber(data: bytes) -> bool:
    """Elements lie inside each other and say what pyasn1 says; a part of a message never has another length."""
    told = {_size_of(data[:count]) for count in range(1, min(len(data), _LENGTHS_COUNT) + 1)} - {None}
    assert len(told) <= 1
    try:
        tag, start, stop = ber.read_header(data, 0, len(data))
        value = _value_of(tag, data, start, stop, 0)
    except BerError:
        return False
    assert 0 < start <= stop <= len(data)
    assert tag != ber.SEQUENCE or told == {stop}
    again = ber.write_element(tag, data[start:stop])
    assert ber.read_header(again, 0, len(again)) == (tag, len(again) - (stop - start), len(again))
    if value is not None:
        assert _plain(readers.read_asn1(data[:stop])) == value
        if isinstance(value, int) and value >= 0 and tag == ber.INTEGER:
            assert ber.Reader(ber.write_integer(value)).read_integer() == value
    return True


def _size_of(data: bytes) -> int | str | None:
    try:
        return ber.message_size(data)
    except BerError:
        return "refused"


def _value_of(tag: int, data: bytes, start: int, stop: int, depth: int) -> Any:
    """What an element holds, or None where some of it has a tag that says nothing by itself."""
    whole = ber.write_element(tag, data[start:stop])
    match tag:
        case ber.INTEGER | ber.ENUMERATED:
            return Reader(whole).read_integer(tag)
        case ber.BOOLEAN:
            return Reader(whole).read_boolean()
        case ber.OCTET_STRING:
            return Reader(whole).read_octets()
        case ber.SEQUENCE | ber.SET if depth < _DEPTH_LIMIT:
            reader, found = Reader(data, start, stop), []
            while not reader.at_end:
                inner, first, last = reader.read()
                assert start < first <= last <= stop
                found.append(_value_of(inner, data, first, last, depth + 1))
            return None if None in found or (depth and not found) else found  # pyasn1 loses empty ones inside
    return None


def _plain(value: Any) -> Any:
    """A value of pyasn1's, which makes None of an empty sequence."""
    match type(value).__name__:
        case "NoneType":
            return []
        case "Sequence" | "SequenceOf" | "Set" | "SetOf":
            return [_plain(value[position]) for position in range(len(value))]
        case "OctetString":
            return bytes(value)
    return int(value)


def read_answer(data: bytes) -> bool:
    """An answer with its controls says what pyasn1 says by the ASN.1 of RFC 4511, which takes whatever we take."""
    try:
        kind, start, stop, end = _find_operation(data)
        if kind == messages.SEARCH_REFERENCE:
            return _agree_on_reference(data[:end], read_reference(data, start, stop))
        if kind not in _ANSWERS:
            return False
        response = read_response(data, kind, start, stop, end)
    except BerError:
        return False
    theirs = readers.read_message(data[:end])
    assert theirs is not None
    assert _facts_of(response) == _their_facts(theirs)
    return True


def _find_operation(data: bytes) -> tuple[int, int, int, int]:
    """The tag, start and stop of a message's operation, and the end of the message."""
    _, start, end = ber.read_header(data, 0, len(data))
    if data[0] != ber.SEQUENCE:
        raise BerError
    reader = Reader(data, start, end)
    if not 0 <= reader.read_integer() <= _MOST:
        raise BerError
    kind, start, stop = reader.read()
    return kind, start, stop, end


def _agree_on_reference(message: bytes, uris: tuple[str, ...]) -> bool:
    theirs = readers.read_message(message)
    if theirs is None:  # RFC 4511 §4.5.3 wants one URI at least; controls behind it are passed over unread
        return True
    found = theirs["protocolOp"].getComponent()
    assert uris == tuple(said_of(bytes(uri)) for uri in found)
    return True


def _facts_of(response: Response) -> tuple[object, ...]:
    return response.result_code, response.diagnostic_message, response.referrals, dict(response.controls)


def _their_facts(message: Any) -> tuple[object, ...]:
    result = message["protocolOp"].getComponent()
    controls = {}
    if message["controls"].isValue:
        for control in message["controls"]:
            value = control["controlValue"]
            controls[said_of(bytes(control["controlType"]))] = bytes(value) if value.isValue else None
    referrals = [said_of(bytes(uri)) for uri in result["referral"]] if result["referral"].isValue else []
    said = bytes(result["diagnosticMessage"])[:1024]
    return int(result["resultCode"]), said_of(said), tuple(referrals), controls


def read_paging_control(data: bytes) -> bool:
    """A cookie is the one that pyasn1 reads, and nothing is behind it."""
    try:
        cookie = read_paging_cookie(data)
    except BerError:
        return False
    theirs = readers.read_paging(data)
    assert theirs is None or theirs[1] == cookie  # pyasn1 takes no negative size, and all of them are passed over
    return True


def read_entries(data: bytes) -> bool:
    """Entries are those of a plain strict reader and of ldap3, whatever the connection has remembered before."""
    lengths, rest = split_off(data, 4)
    reader, taken = EntryReader(), False
    for content in cut(rest, lengths):
        expected = _read_plainly(content)
        for each in (reader, EntryReader(), reader):
            try:
                found: Entry | None = each.read(content, 0, len(content))
            except BerError:
                found = None
            assert found == expected
        if expected is None:
            continue
        taken = True
        assert reader.has_ranges or not any(";range=" in name for name in expected.attributes)
        assert reader.has_long_names or len(expected.dn) <= DN_MAX_BYTES
        _agree_on_entry(content, expected)
    return taken


def _read_plainly(content: bytes) -> Entry | None:
    attributes: dict[str, list[bytes]] = {}
    try:
        outer = Reader(content)
        dn = outer.read_octets()
        parts = outer.read_inner()
        while not parts.at_end:
            part = parts.read_inner()
            name = part.read_octets().decode("ascii").lower()
            values = part.read_inner(ber.SET)
            found = attributes.setdefault(name, [])
            while not values.at_end:
                found.append(values.read_octets())
            _expect_end(part)
        _expect_end(outer)
    except (BerError, UnicodeDecodeError):
        return None
    return Entry(dn.decode("utf-8", "surrogateescape"), attributes)


def _expect_end(reader: Reader) -> None:
    if not reader.at_end:
        raise BerError


def _agree_on_entry(content: bytes, entry: Entry) -> None:
    """ldap3 keeps the last of two attributes of one name, and of one in capitals: such entries aren't compared."""
    message = ber.write_element(ber.SEQUENCE, ber.write_integer(1), ber.write_element(messages.SEARCH_ENTRY, content))
    theirs = readers.read_entry(message)
    if theirs is None:
        return
    dn, attributes = theirs
    names = [bytes(name) for name in _names_of(content)]
    if len({name.lower() for name in names}) < len(names) or not entry.dn.isprintable():
        return
    assert {name: list(values) for name, values in entry.attributes.items()} == attributes
    assert dn == entry.dn or any("\ud800" <= letter <= "\udfff" for letter in entry.dn)


def _names_of(content: bytes) -> list[bytes]:
    outer, names = Reader(content), []
    outer.read_octets()
    parts = outer.read_inner()
    while not parts.at_end:
        names.append(parts.read_inner().read_octets())
    return names


def order_servers(data: bytes) -> bool:
    """Every record of the DNS is there once, those of lower priority first (RFC 2782)."""
    head, rest = split_off(data, 1)
    numbers = [rest[position : position + 6] for position in range(0, len(rest) - 5, 6)][:_RECORDS_MAX_COUNT]
    records = [
        Record(int.from_bytes(each[:2]), int.from_bytes(each[2:4]), int.from_bytes(each[4:5]), f"h{each[5]}")
        for each in numbers
    ]
    ordered = order_records(records, Random(head[0]))
    assert sorted(ordered) == sorted(records)
    assert [record.priority for record in ordered] == sorted(record.priority for record in records)
    return bool(records)


TARGETS = {
    "ber": read_ber,
    "answer": read_answer,
    "paging-control": read_paging_control,
    "entry": read_entries,
    "srv": order_servers,
}
