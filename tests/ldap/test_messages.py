from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ldap3 import ANONYMOUS, BASE, DEREF_NEVER, LEVEL, SASL, SIMPLE, SUBTREE
from ldap3.operation.bind import bind_operation, bind_response_to_dict_fast
from ldap3.operation.search import search_operation
from ldap3.protocol.rfc2696 import paged_search_control
from ldap3.protocol.rfc4511 import Controls, LDAPMessage, MessageID, ProtocolOp
from ldap3.strategy.base import BaseStrategy
from ldap3.utils.asn1 import decode_message_fast, encode, ldap_result_to_dict_fast

from bridge.directory import Scope, SearchRequest
from bridge.ldap import messages
from bridge.ldap.messages import Response
from bridge.model import Secret
from bridge.syntax import ber
from bridge.syntax.filters import parse_filter

ids = st.integers(1, 2**31 - 1)
dns = st.text(min_size=1, max_size=30)
SCOPES = {Scope.BASE: BASE, Scope.ONE: LEVEL, Scope.SUBTREE: SUBTREE}
FILTERS = [
    "(objectClass=*)",
    "(uid=anna)",
    "(&(objectClass=person)(!(uid=x)))",
    "(|(uid=a)(mail=a@b))",
    "(cn=M*ll*r)",
    "(cn=*x)",
    "(age>=5)",
    "(age<=5)",
    "(cn~=x)",
    "(userAccountControl:1.2.840.113556.1.4.803:=2)",
    "(ou:dn:=x)",
    r"(cn=a\2ab\28\29)",
    "(cn=Müller)",
]


def by_ldap3(message_id: int, name: str, request: object, controls: Controls | None = None) -> bytes:
    message = LDAPMessage()
    message["messageID"] = MessageID(message_id)
    message["protocolOp"] = ProtocolOp().setComponentByName(name, request)
    if controls is not None:
        message["controls"] = controls
    return bytes(encode(message))


@given(ids, dns, st.binary(min_size=1, max_size=200))
def test_write_bind_is_that_of_ldap3(message_id: int, dn: str, password: bytes) -> None:
    """A simple bind has the bytes that ldap3 gives it, whatever DN and password are."""
    expected = by_ldap3(message_id, "bindRequest", bind_operation(3, SIMPLE, dn, password))
    assert messages.write_bind(message_id, dn, Secret(password)) == expected


@pytest.mark.parametrize("credentials", [b"\x00token", b"x" * 300])
def test_write_sasl_bind_is_that_of_ldap3(credentials: bytes) -> None:
    """Mechanism and response have the bytes that ldap3 gives them."""
    theirs = bind_operation(3, SASL, "", sasl_mechanism="GSSAPI", sasl_credentials=credentials)
    assert messages.write_sasl_bind(7, "GSSAPI", credentials) == by_ldap3(7, "bindRequest", theirs)


def test_write_sasl_bind_sends_an_empty_response_where_there_is_nothing_to_say() -> None:
    """Absent, it would make the server ask for one first (RFC 4422 Appendix A)."""
    assert messages.write_sasl_bind(1, "EXTERNAL", b"").endswith(b"\x04\x08EXTERNAL\x04\x00")


def test_read_response_keeps_what_the_server_says_in_a_bind_by_sasl() -> None:
    """Result 14 and the credentials, which may be empty."""
    for credentials in (b"challenge", b""):
        content = (
            ber.write_integer(14, ber.ENUMERATED) + ber.write_octets(b"") * 2 + ber.write_octets(credentials, 0x87)
        )
        response = messages.read_response(content, messages.BIND_RESPONSE, 0, len(content), len(content))
        assert (response.result_code, response.sasl_credentials) == (14, credentials)


def test_write_bind_leaves_the_password_as_it_was_typed() -> None:
    """No SASLprep: compatibility characters reach the server as they are."""
    password = "m²-ﬁ-Ⅷ\u00ad ".encode()
    assert password in messages.write_bind(1, "cn=a", Secret(password))


@pytest.mark.parametrize("text", FILTERS)
@pytest.mark.parametrize("scope", SCOPES)
def test_write_search_is_that_of_ldap3(text: str, scope: Scope) -> None:
    """A search has the bytes that ldap3 gives it, for each kind of filter and each scope."""
    request = SearchRequest("ou=Müller,dc=example", scope, parse_filter(text), ("mail", "cn;lang-de"), 2)
    theirs = search_operation(
        request.base, text, SCOPES[scope], DEREF_NEVER, ["mail", "cn;lang-de"], 2, 0, False, False, None, None
    )
    assert messages.write_search(7, request) == by_ldap3(7, "searchRequest", theirs)


def test_write_search_asks_for_no_attributes_where_none_are_named() -> None:
    """An empty list would ask for all of them (RFC 4511 §4.5.1.8)."""
    request = SearchRequest("", Scope.BASE, parse_filter("(a=*)"), ())
    assert b"\x04\x031.1" in messages.write_search(1, request)


@given(st.integers(1, 100_000), st.binary(max_size=200))
def test_write_paging_is_that_of_ldap3(size_count: int, cookie: bytes) -> None:
    """The paged-results control has ldap3's bytes, and its cookie is read back from them."""
    controls = Controls()
    controls.setComponentByPosition(0, paged_search_control(True, size_count, cookie))
    request = SearchRequest("dc=e", Scope.SUBTREE, parse_filter("(a=*)"), ("a",))
    theirs = search_operation("dc=e", "(a=*)", SUBTREE, DEREF_NEVER, ["a"], 0, 0, False, False, None, None)
    written = messages.write_search(3, request, messages.write_paging(size_count, cookie))
    assert written == by_ldap3(3, "searchRequest", theirs, controls)


def test_write_unbind_abandon_and_start_tls_are_messages() -> None:
    """The rare requests are whole messages with the tags of RFC 4511 Appendix B."""
    for data, tag in (
        (messages.write_unbind(1), 0x42),
        (messages.write_abandon(2, 1), 0x50),
        (messages.write_start_tls(3), 0x77),
    ):
        inner = ber.Reader(data).read_inner()
        inner.read_integer()
        assert inner.peek_tag() == tag
    assert b"1.3.6.1.4.1.1466.20037" in messages.write_start_tls(1)


controls_st = st.dictionaries(st.sampled_from(["1.2.3", "2.16.840.1.113730.3.4.4"]), st.none() | st.binary(max_size=9))


def build_result(
    kind: int,
    code: int,
    texts: tuple[str, str],
    referrals: tuple[str, ...] = (),
    controls: dict[str, bytes | None] | None = None,
) -> tuple[bytes, int, int, int]:
    parts = [ber.write_integer(code, ber.ENUMERATED), *(ber.write_octets(text.encode()) for text in texts)]
    if referrals:
        parts.append(ber.write_element(0xA3, *(ber.write_octets(uri.encode()) for uri in referrals)))
    operation = ber.write_element(kind, *parts)
    tail = b""
    if controls:
        items = [
            ber.write_element(
                ber.SEQUENCE,
                ber.write_octets(name.encode()),
                ber.write_boolean(True),
                b"" if value is None else ber.write_octets(value),
            )
            for name, value in controls.items()
        ]
        tail = ber.write_element(0xA0, *items)
    data = ber.write_element(ber.SEQUENCE, ber.write_integer(5), operation, tail)
    outer = ber.Reader(data).read_inner()
    outer.read_integer()
    _, start, stop = outer.read()
    return data, start, stop, len(data)


@given(
    st.sampled_from([messages.SEARCH_DONE, messages.BIND_RESPONSE]),
    st.sampled_from([0, 4, 32, 49, 53]),
    st.text(max_size=10),
    st.text(max_size=20).map(lambda text: text.rstrip("\0")),
    controls_st,
)
def test_read_response_says_what_ldap3_says(
    kind: int, code: int, matched: str, diagnostic: str, controls: dict[str, bytes | None]
) -> None:
    """Result code, diagnostic message and controls are those that ldap3 decodes."""
    data, start, stop, end = build_result(kind, code, (matched, diagnostic), (), controls)
    ours = messages.read_response(data, kind, start, stop, end)
    decoded = decode_message_fast(data)
    to_dict = bind_response_to_dict_fast if kind == messages.BIND_RESPONSE else ldap_result_to_dict_fast
    theirs = to_dict(decoded["payload"])
    assert (ours.result_code, ours.diagnostic_message) == (theirs["result"], theirs["message"])
    their_controls = dict(BaseStrategy.decode_control_fast(control[3]) for control in decoded["controls"] or ())
    assert ours.controls == {name: control["value"] for name, control in their_controls.items()}


@pytest.mark.parametrize("kind", [messages.SEARCH_DONE, messages.BIND_RESPONSE, messages.EXTENDED_RESPONSE])
def test_read_response_keeps_referrals_of_each_kind(kind: int) -> None:
    """Referrals are read from a bind response too, where ldap3's fast decoder raises KeyError."""
    data, start, stop, end = build_result(kind, 10, ("", ""), ("ldap://a/", "ldap://b/"))
    assert messages.read_response(data, kind, start, stop, end) == Response(kind, 10, "", ("ldap://a/", "ldap://b/"))


def test_read_response_passes_over_the_name_of_an_extended_response() -> None:
    """A notice of disconnection has one (RFC 4511 §4.4.1), and its message id says enough."""
    parts = (ber.write_integer(52, ber.ENUMERATED), ber.write_octets(b""), ber.write_octets(b"bye"))
    name = ber.write_octets(b"1.3.6.1.4.1.1466.20036", 0x8A)
    content = b"".join((*parts, name, ber.write_octets(b"x", 0x8B)))
    found = messages.read_response(content, messages.EXTENDED_RESPONSE, 0, len(content), len(content))
    assert (found.result_code, found.diagnostic_message) == (52, "bye")


def test_read_response_skips_sasl_credentials() -> None:
    """What a server adds to a bind response for SASL is no fault."""
    parts = (ber.write_integer(0, ber.ENUMERATED), ber.write_octets(b""), ber.write_octets(b""))
    content = b"".join((*parts, ber.write_octets(b"x", 0x87)))
    assert messages.read_response(content, messages.BIND_RESPONSE, 0, len(content), len(content)).result_code == 0


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x0a\x01\x00",
        b"\x0a\x01\x00\x04\x00\x04\x00\x04\x00",
        b"\x02\x01\x00\x04\x00\x04\x00",
        b"\x0a\x01\x00\x04\x00\x04\x05a",
    ],
)
def test_read_response_refuses_what_is_cut_off(content: bytes) -> None:
    """A truncated answer is never taken for a shorter one, which could turn a failure into a success."""
    with pytest.raises(ber.BerError):
        messages.read_response(content, messages.SEARCH_DONE, 0, len(content), len(content))


@pytest.mark.parametrize(("inside", "behind"), [(b"\x04\x00", b""), (b"", b"\x04\x00")])
def test_read_response_refuses_what_stands_behind_a_control(inside: bytes, behind: bytes) -> None:
    """RFC 4511 §4.1.11: a control ends with its value, and a message with its controls."""
    result = ber.write_integer(0, ber.ENUMERATED) + ber.write_octets(b"") * 2
    control = ber.write_element(ber.SEQUENCE, ber.write_octets(b"1.2.3"), ber.write_octets(b"value"), inside)
    data = result + ber.write_element(0xA0, control) + behind
    with pytest.raises(ber.BerError):
        messages.read_response(data, messages.SEARCH_DONE, 0, len(result), len(data))


@given(st.binary(max_size=60))
def test_read_response_takes_or_refuses_any_bytes(content: bytes) -> None:
    """Any bytes are an answer or raise BerError."""
    for kind in (messages.SEARCH_DONE, messages.BIND_RESPONSE, messages.EXTENDED_RESPONSE):
        try:
            messages.read_response(content, kind, 0, len(content), len(content))
        except ber.BerError:
            continue


@pytest.mark.parametrize(
    "value", [None, b"", b"\x30\x00", b"\x30\x03\x02\x01\x00", b"\x30\x07\x02\x01\x00\x04\x00\x05\x00"]
)
def test_read_paging_cookie_refuses_what_is_no_control(value: bytes | None) -> None:
    """A broken paged-results control proves nothing."""
    with pytest.raises(ber.BerError):
        messages.read_paging_cookie(value)


def test_anonymous_bind_of_ldap3_shows_what_we_never_send() -> None:
    """An anonymous bind is the bind with an empty password: the bytes differ from ours in nothing else."""
    expected = by_ldap3(1, "bindRequest", bind_operation(3, ANONYMOUS))
    assert messages.write_bind(1, "", Secret(b"")) == expected
