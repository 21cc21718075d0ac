"""The messages of the proxy, compared with bytes written by hand."""

from __future__ import annotations

import pytest

from bridge.syntax import ber
from tests.support.ldap_messages import (
    NOTICE_OF_DISCONNECTION,
    START_TLS,
    Answer,
    MessageSplitter,
    Request,
    read_answer,
    read_request,
    write_bind_response,
    write_controls,
    write_extended_response,
    write_notice,
    write_search_done,
)

BIND = bytes.fromhex("3014 02 01 07 60 0f 02 01 03 04 04") + b"cn=a" + bytes.fromhex("80 04") + b"pass"
ANONYMOUS = bytes.fromhex("300c 02 01 01 60 07 02 01 03 04 00 80 00")
EXTERNAL = bytes.fromhex("3016 02 01 02 60 11 02 01 03 04 00 a3 0a 04 08") + b"EXTERNAL"
FILTER = bytes.fromhex("87 0b") + b"objectClass"
SEARCH = (
    bytes.fromhex("302a 02 02 01 00 63 24 04 04")
    + b"dc=x"
    + bytes.fromhex("0a 01 02 0a 01 00 02 01 05 02 01 00 01 01 00")
    + FILTER
    + bytes.fromhex("30 00")
)
UNBIND = bytes.fromhex("3005 02 01 09 42 00")
ABANDON = bytes.fromhex("3006 02 01 09 50 01 08")
TLS_REQUEST = bytes.fromhex("301d 02 01 01 77 18 80 16") + START_TLS.encode()
COMPARE = bytes.fromhex("3005 02 01 04 6e 00")
ENTRY = bytes.fromhex("3009 02 01 03 64 04 04 00 30 00")


@pytest.mark.parametrize(
    ("message", "request_read"),
    [
        (BIND, Request(1, 7, "bind", dn="cn=a")),
        (ANONYMOUS, Request(1, 1, "bind", is_password_empty=True)),
        (EXTERNAL, Request(1, 2, "bind", mechanism="EXTERNAL")),
        (SEARCH, Request(1, 256, "search", base="dc=x", scope=2, size_limit_count=5, filter=FILTER)),
        (UNBIND, Request(1, 9, "unbind")),
        (ABANDON, Request(1, 9, "abandon", abandoned_id=8)),
        (TLS_REQUEST, Request(1, 1, "extended", name=START_TLS)),
        (COMPARE, Request(1, 4, "other")),
        (bytes.fromhex("3005 02 01 04 60 00"), Request(1, 4, "other")),
        (b"\x30\x00", Request(1, 0, "other")),
    ],
)
def test_read_request_reads_what_a_test_asks_for(message: bytes, request_read: Request) -> None:
    """Each kind of request, one that is empty inside, and one without a message id."""
    assert read_request(1, message) == request_read


def test_request_never_holds_the_password() -> None:
    """What is kept of a bind is printed when a test fails."""
    assert "pass" not in repr(read_request(1, BIND)).replace("is_password_empty", "")


def test_write_search_done_is_an_ldap_result() -> None:
    """RFC 4511 §4.1.9: result code, matched DN, diagnostic message."""
    assert write_search_done(2, 51, "busy") == bytes.fromhex("3010 02 01 02 65 0b 0a 01 33 04 00 04 04") + b"busy"


def test_write_bind_response_carries_controls() -> None:
    """The controls stand behind the operation, inside the message."""
    controls = write_controls(("1.2", b"v"), ("1.3", None))
    assert controls == bytes.fromhex("a011 3008 04 03") + b"1.2" + bytes.fromhex("04 01") + b"v" + (
        bytes.fromhex("3005 04 03") + b"1.3"
    )
    message = write_bind_response(1, 49, controls=controls)
    assert message == bytes.fromhex("301f 02 01 01 61 07 0a 01 31 04 00 04 00") + controls


def test_write_notice_has_no_message_id() -> None:
    """RFC 4511 §4.4.1: message id 0, and the name of the notice."""
    name = NOTICE_OF_DISCONNECTION.encode()
    assert write_notice(52) == bytes.fromhex("3024 02 01 00 78 1f 0a 01 34 04 00 04 00 8a 16") + name


def test_write_extended_response_may_have_no_name() -> None:
    """A long diagnostic message takes a long length, and a name is optional."""
    message = write_extended_response(300, 2, "x" * 200)
    assert message == bytes.fromhex("3081d7 02 02 01 2c 78 81 d0 0a 01 02 04 00 04 81 c8") + b"x" * 200
    assert read_answer(message) == Answer(300, "extended", is_last=True, result_code=2)


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (ENTRY, Answer(3, "search")),
        (write_search_done(3, 4), Answer(3, "search", is_last=True, result_code=4)),
        (write_bind_response(1, 0), Answer(1, "bind", is_last=True, result_code=0)),
        (b"\x30\x00", Answer()),
        (b"\x30\x03\x02\x01\x05", Answer()),
    ],
)
def test_read_answer_tells_what_ends_an_operation(message: bytes, answer: Answer) -> None:
    """An entry doesn't; a broken message answers nothing."""
    assert read_answer(message) == answer


@pytest.mark.parametrize("size_bytes", [1, 3, 1000])
def test_splitter_gives_whole_messages(size_bytes: int) -> None:
    """In whatever portions the bytes come."""
    splitter, stream = MessageSplitter(), BIND + SEARCH + write_search_done(1, 0, "x" * 300) + UNBIND[:-1]
    portions = [stream[start : start + size_bytes] for start in range(0, len(stream), size_bytes)]
    found = [message for portion in portions for message in splitter.feed(portion)]
    assert found == [BIND, SEARCH, write_search_done(1, 0, "x" * 300)]
    assert (splitter.take_rest(), splitter.take_rest()) == (UNBIND[:-1], b"")


def test_splitter_passes_what_is_no_message() -> None:
    """The messages before it stay whole, and all that follows passes as it comes."""
    splitter, hello = MessageSplitter(), b"\x16\x03\x01\x00"
    assert list(splitter.feed(UNBIND + hello)) == [UNBIND, hello]
    assert splitter.is_transparent
    assert list(splitter.feed(b"\x30")) == [b"\x30"]


def test_written_lengths_agree_with_the_reader() -> None:
    """Whatever is written is one message."""
    for message in (write_notice(52, "ü" * 70), write_bind_response(2**31 - 1, 49), write_search_done(1, 0)):
        assert ber.message_size(message) == len(message)
