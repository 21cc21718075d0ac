"""Filters: as text, as templates that are filled with what somebody typed, and as they travel."""

from __future__ import annotations

from contextlib import suppress

from bridge.demo.matching import matches
from bridge.demo.wire import read_message as read_request
from bridge.syntax import ber
from bridge.syntax.attributes import is_attribute_description
from bridge.syntax.ber import BerError, Reader
from bridge.syntax.filter_ber import decode_filter, encode_filter
from bridge.syntax.filters import (
    And,
    FilterError,
    Not,
    Or,
    attributes_of,
    parse_filter,
    parse_filter_template,
    render_filter,
)
from tests.fuzz import readers
from tests.fuzz.inputs import strict_text_of

_TEMPLATE = parse_filter_template("(&(objectClass=person)(|(uid={user})(mail={user}@*)(!(cn>=x{user}))(a:dn:={user})))")


def read_filter_bytes(data: bytes) -> bool:
    """A filter that was read is written back as one that reads the same; a single assertion is one for pyasn1, too."""
    try:
        tree = decode_filter(Reader(data))
    except BerError:
        return False
    written = encode_filter(tree)
    assert decode_filter(Reader(written)) == tree
    if not isinstance(tree, And | Or | Not):  # pyasn1 can't follow ldap3's types into filters inside of filters
        assert readers.read_filter_ber(data[: ber.message_size(b"\x30" + data[1:])]) is not None
    attributes_of(tree)
    render_filter(tree)
    return True


def read_demo_request(data: bytes) -> bool:
    """The sample directory answers any request, or says that it is none."""
    try:
        message = read_request(data)
    except BerError:
        return False
    tree = getattr(message.operation, "filter", None)
    if tree is not None:
        matches(tree, {"uid": [b"anna"], "age": [b"-7", b"10"], "cn": [b"Anna  Berg", b"\xff"]})
    return True


def read_filter(data: bytes) -> bool:
    """A filter is written back as one that reads the same, in text and on the wire; ldap3 sends the same octets."""
    text = strict_text_of(data)
    if text is None:
        return False
    try:
        tree = parse_filter(text)
    except FilterError as error:
        assert 0 <= error.position <= len(text)
        return False
    assert parse_filter(render_filter(tree)) == tree
    written = encode_filter(tree)
    assert decode_filter(ber.Reader(written)) == tree
    assert all(map(is_attribute_description, attributes_of(tree)))
    with suppress(FilterError):
        parse_filter_template(text)
    theirs = readers.encode_filter_text(render_filter(tree))
    if theirs is not None and _is_sent_alike(text):
        assert theirs == written
    return True


def _is_sent_alike(text: str) -> bool:
    """ldap3 takes off blanks at the ends of values, sends FALSE for `dn`, which is the default, and knows no `(&)`."""
    return not any(map(str.isspace, text)) and ":=" not in text and "(&)" not in text and "(|)" not in text


def fill_template(data: bytes) -> bool:
    """Whatever was typed as a user name is a value, and nothing of it becomes a part of the filter."""
    user_name = strict_text_of(data)
    if user_name is None:
        return False
    filled = _TEMPLATE.fill(user_name)
    assert decode_filter(ber.Reader(encode_filter(filled))) == filled
    assert parse_filter(render_filter(filled)) == filled
    assert attributes_of(filled) == attributes_of(_TEMPLATE.tree)
    assert render_filter(filled).count("(") == render_filter(_TEMPLATE.tree).count("(")
    return True


TARGETS = {
    "filter-ber": read_filter_bytes,
    "demo-request": read_demo_request,
    "filter": read_filter,
    "filter-template": fill_template,
}
