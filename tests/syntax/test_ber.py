from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.ber import decoder, encoder
from pyasn1.type import univ

from bridge.syntax import ber


@given(st.integers(0, 2**63 - 1))
def test_write_integer_is_that_of_pyasn1(value: int) -> None:
    """Integers have the octets that an independent encoder gives them, and are read back."""
    data = ber.write_integer(value)
    assert data == encoder.encode(univ.Integer(value))
    assert ber.Reader(data).read_integer() == value
    assert int(decoder.decode(data)[0]) == value


@pytest.mark.parametrize("length", [0, 1, 127, 128, 255, 256, 65535, 65536, 70000])
def test_write_octets_is_that_of_pyasn1(length: int) -> None:
    """Octet strings of each length form are written as an independent encoder writes them."""
    value = b"x" * length
    data = ber.write_octets(value)
    assert data == encoder.encode(univ.OctetString(value))
    assert ber.Reader(data).read_octets() == value
    assert ber.message_size(b"\x30" + data[1:]) == len(data)


@pytest.mark.parametrize("value", [True, False])
def test_write_boolean_is_read_back(value: bool) -> None:
    """A truth value comes back."""
    assert ber.Reader(ber.write_boolean(value)).read_boolean() is value


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x04",
        b"\x04\x01",
        b"\x04\x80\x00\x00",
        b"\x04\x85\x00\x00\x00\x00\x01a",
        b"\x04\x82\x01",
        b"\x04\x84\xff\xff\xff\xff",
    ],
)
def test_read_refuses_what_is_cut_off(data: bytes) -> None:
    """Truncated, indefinite and absurd lengths are refused, never guessed."""
    with pytest.raises(ber.BerError):
        ber.Reader(data).read()


@pytest.mark.parametrize("data", [b"\x02\x00", b"\x02\x09" + b"\x01" * 9, b"\x04\x01a"])
def test_read_integer_refuses_what_is_none(data: bytes) -> None:
    """Empty, overlong and other elements are no integers."""
    with pytest.raises(ber.BerError):
        ber.Reader(data).read_integer()


def test_read_boolean_refuses_more_than_one_octet() -> None:
    """A boolean has exactly one octet."""
    with pytest.raises(ber.BerError):
        ber.Reader(b"\x01\x02\x00\x00").read_boolean()


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", None),
        (b"\x30", None),
        (b"\x30\x05", 7),
        (b"\x30\x82\x01", None),
        (b"\x30\x82\x01\x00", 260),
        (b"\x30\x84\x00\x00\x00\x01", 7),
    ],
)
def test_message_size_tells_how_much_must_come(data: bytes, size: int | None) -> None:
    """The size is known once the length octets are there, and not before."""
    assert ber.message_size(data) == size


@pytest.mark.parametrize("data", [b"\x04\x01", b"\x30\x80", b"\x30\x85\x00", b"GET / HTTP/1.1", b"\x16\x03\x01"])
def test_message_size_refuses_what_is_no_message(data: bytes) -> None:
    """Another protocol, or an indefinite length, is refused at once."""
    with pytest.raises(ber.BerError):
        ber.message_size(data)


@given(st.binary(max_size=60))
def test_reader_takes_or_refuses_any_bytes(data: bytes) -> None:
    """Any bytes are read to their end or refused; the reader always moves forward."""
    reader, last = ber.Reader(data), -1
    try:
        while not reader.at_end:
            _, start, stop = reader.read()
            assert last < start <= stop <= len(data)
            last = stop
    except ber.BerError:
        pass
