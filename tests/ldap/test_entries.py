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
    assert len(reader._steps) == 1000


def test_reader_does_not_remember_more_headers_than_it_may() -> None:
    """Nor one that sends values of every length."""
    reader = EntryReader()
    for length in range(10_500):
        content = write_entry(b"", [(b"x", [b"v" * length])])
        assert reader.read(content, 0, len(content)).attributes == {"x": [b"v" * length]}
    assert len(reader._steps[b"x"].lengths) == 10_000


plain_entries = st.lists(
    st.tuples(
        st.binary(max_size=40),
        st.lists(
            st.tuples(
                st.sampled_from([b"uid", b"cn", b"mail", b"CN"]),
                st.lists(st.binary(max_size=140), max_size=2) | st.just([b"v"]),
            ),
            max_size=5,
        ),
    ),
    min_size=1,
    max_size=12,
)


@given(plain_entries)
def test_reader_that_has_seen_much_reads_what_a_new_one_reads(
    found: list[tuple[bytes, list[tuple[bytes, list[bytes]]]]],
) -> None:
    """What is remembered saves time and changes nothing, whatever order attributes come in, even twice in one entry."""
    reader = EntryReader()
    for dn, attributes in [*found, *found]:
        content = write_entry(dn, attributes)
        assert reader.read(content, 0, len(content)) == read(content)


@given(plain_entries, st.integers(0, 400), st.integers(0, 255))
def test_reader_that_has_seen_much_refuses_what_a_new_one_refuses(
    found: list[tuple[bytes, list[tuple[bytes, list[bytes]]]]], position: int, octet: int
) -> None:
    """One octet changed gives the same entry or the same refusal as without a memory."""

    def outcome(reader: EntryReader, content: bytes) -> Entry | type[Exception]:
        try:
            return reader.read(content + b"\x30\x03\x04\x01x", 0, len(content))
        except ber.BerError as error:
            return type(error)

    reader = EntryReader()
    for dn, attributes in found:
        content = write_entry(dn, attributes)
        reader.read(content, 0, len(content))
        broken = bytearray(content)
        broken[position % len(broken)] = octet
        assert outcome(reader, bytes(broken)) == outcome(EntryReader(), bytes(broken))


def write_message(content: bytes, message_id: int = 7, controls: bytes = b"") -> bytes:
    operation = ber.write_element(0x64, content)
    return ber.write_element(ber.SEQUENCE, ber.write_integer(message_id), operation, controls)


@given(plain_entries, st.integers(0, 2000))
def test_read_run_takes_the_whole_entries_and_stops_before_a_part(
    found: list[tuple[bytes, list[tuple[bytes, list[bytes]]]]], cut: int
) -> None:
    """Wherever a packet ends, each entry is read once and none is guessed."""
    contents = [write_entry(dn, attributes) for dn, attributes in found]
    messages = [write_message(content) for content in contents]
    data = b"".join(messages)
    end = min(cut, len(data))
    taken: list[Entry] = []
    position = EntryReader().read_run(data[:end], 0, 7, taken, 1000)
    assert taken == [read(content) for content in contents[: len(taken)]]
    assert position == sum(map(len, messages[: len(taken)]))
    assert len(taken) == len(messages) or position + len(messages[len(taken)]) > end


def test_read_run_leaves_everything_else_to_its_caller() -> None:
    """Another search's entry, one with controls, a search's end, one too many, one too large, one that is broken."""
    content = write_entry(b"cn=a", [(b"uid", [b"a"])])
    first = write_message(content)
    done = ber.write_element(
        ber.SEQUENCE, ber.write_integer(7), ber.write_element(0x65, b"\x0a\x01\x00\x04\x00\x04\x00")
    )
    others = [
        write_message(content, 8),
        write_message(content, controls=b"\xa0\x00"),
        done,
        ber.write_element(ber.SEQUENCE, ber.write_integer(7) + b"\x64"),
        write_message(write_entry(b"cn=b", [(b"uid", [b"v" * 300])])),
    ]
    for other in others:
        taken: list[Entry] = []
        data = first + other
        assert EntryReader(200).read_run(data, 0, 7, taken, 1000) == len(first)
        assert taken == [read(content)]
    taken = []
    assert EntryReader().read_run(first * 3, 0, 7, taken, 2) == 2 * len(first)
    assert len(taken) == 2


def test_read_run_refuses_an_entry_that_is_none() -> None:
    """A broken entry is never passed over."""
    data = write_message(b"\x04\x00\x30\x03\x30\x01\x00")
    with pytest.raises(ber.BerError):
        EntryReader().read_run(data, 0, 7, [], 1000)
