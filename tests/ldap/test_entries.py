from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3.operation.search import search_result_entry_response_to_dict_fast
from ldap3.utils.asn1 import decode_message_fast

from bridge.directory import Entry
from bridge.ldap.entries import EntryReader
from bridge.syntax import ber

names = st.from_regex(r"[a-zA-Z][a-zA-Z0-9-]{0,20}(;[a-zA-Z0-9-]{1,9})?", fullmatch=True)
values = st.lists(st.binary(max_size=300), max_size=4)


def write_entry(dn: bytes, attributes: list[tuple[bytes, list[bytes]]]) -> bytes:
    parts = [
        ber.write_element(
            ber.SEQUENCE,
            ber.write_octets(name),
            ber.write_element(ber.SET, *(ber.write_octets(value) for value in found)),
        )
        for name, found in attributes
    ]
    return ber.write_octets(dn) + ber.write_element(ber.SEQUENCE, *parts)


def read(content: bytes) -> Entry:
    return EntryReader().read(content, 0, len(content))


@given(st.text(max_size=60), st.dictionaries(names, values, max_size=6))
def test_read_says_what_ldap3_says(dn: str, attributes: dict[str, list[bytes]]) -> None:
    """DN, attribute descriptions and values, in their order, are those that ldap3 decodes."""
    unique = {name.lower(): (name.encode(), found) for name, found in attributes.items()}
    content = write_entry(dn.encode(), list(unique.values()))
    ours = read(content)
    message = ber.write_element(ber.SEQUENCE, ber.write_integer(2), ber.write_element(0x64, content))
    theirs = search_result_entry_response_to_dict_fast(decode_message_fast(message)["payload"], None, {}, False)
    assert ours.dn == theirs["dn"]
    their_values = {name.lower(): found or [] for name, found in theirs["raw_attributes"].items()}
    assert {name: list(found) for name, found in ours.attributes.items()} == their_values


def test_read_lowers_attribute_descriptions_and_keeps_the_order_of_values() -> None:
    """The first mail is the primary one, so the order of values is meaning."""
    content = write_entry(b"cn=a", [(b"Mail", [b"z@e", b"a@e"]), (b"CN;Lang-DE", [b"x"])])
    assert read(content) == Entry("cn=a", {"mail": [b"z@e", b"a@e"], "cn;lang-de": [b"x"]})


def test_read_joins_an_attribute_that_comes_twice() -> None:
    """RFC 4511 §4.1.7 forbids it; no value is lost all the same."""
    content = write_entry(b"cn=a", [(b"mail", [b"1"]), (b"MAIL", [b"2"])])
    assert read(content).attributes == {"mail": [b"1", b"2"]}


def test_read_keeps_a_dn_that_is_no_text() -> None:
    """Bytes that are no UTF-8 are kept so that they can be sent back."""
    assert read(write_entry(b"cn=\xff", [])).dn.encode("utf-8", "surrogateescape") == b"cn=\xff"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x04",
        b"\x04\x05cn=a",
        b"\x04\x00",
        b"\x04\x00\x30\x80\x00\x00",
        b"\x04\x00\x30\x01",
        b"\x04\x00\x30\x00\x00",
        b"\x04\x00\x31\x00",
        b"\x04\x00\x30\x02\x30\x05",
        b"\x04\x00\x30\x05\x30\x03\x04\x01\xff",
        b"\x04\x00\x30\x07\x30\x05\x04\x01\xff\x31\x00",
        b"\x04\x00\x30\x0a\x30\x08\x04\x01a\x31\x00\x04\x01b",
        b"\x04\x00\x30\x0a\x30\x08\x04\x01a\x31\x03\x04\x05b",
        b"\x04\x00\x30\x0a\x30\x08\x04\x01a\x31\x03\x02\x01b",
        b"\x04\x00\x30\x0b\x30\x09\x04\x01a\x31\x04\x04\x80\x00\x00",
    ],
)
def test_read_refuses_what_breaks_the_rules(content: bytes) -> None:
    """Truncated and overlapping elements raise; an entry never loses values silently."""
    with pytest.raises(ber.BerError):
        read(content)


@given(st.dictionaries(names, values, max_size=3), st.data())
def test_read_refuses_every_truncation(attributes: dict[str, list[bytes]], data: st.DataObject) -> None:
    """Whatever is missing at the end is noticed."""
    content = write_entry(b"cn=a", [(name.encode(), found) for name, found in attributes.items()])
    cut = data.draw(st.integers(0, len(content) - 1))
    with pytest.raises(ber.BerError):
        read(content[:cut])


@given(st.binary(max_size=80))
def test_read_takes_or_refuses_any_bytes(content: bytes) -> None:
    """Any bytes are an entry or raise BerError."""
    with contextlib.suppress(ber.BerError):
        read(content)


def test_reader_does_not_remember_more_descriptions_than_it_may() -> None:
    """A server that invents names without end can't fill our memory."""
    reader = EntryReader()
    for number in range(1200):
        content = write_entry(b"", [(b"x%d" % number, [])])
        assert reader.read(content, 0, len(content)).attributes == {f"x{number}": []}
    assert len(reader._descriptions) == 1000
