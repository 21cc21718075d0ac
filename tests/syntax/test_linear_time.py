"""No text of somebody else's takes a parser more than its length: twice as much text, about twice the time."""

from __future__ import annotations

import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import product

import pytest

from bridge.config.values import (
    parse_domain,
    parse_duration_s,
    parse_fingerprint,
    parse_listen_address,
    parse_name_server,
    parse_server_url,
)
from bridge.demo import wire
from bridge.directory import Entry, Scope, SearchRequest
from bridge.errors import BridgeError
from bridge.ldap.bind_causes import find_cause, find_state, speaks_of_credentials, speaks_of_trouble
from bridge.ldap.connection import Peer
from bridge.ldap.entries import EntryReader
from bridge.ldap.messages import BIND_RESPONSE, read_reference, read_response
from bridge.ldap.references import is_ignored
from bridge.ldap.results import describe_result, judge_user_bind, search_error
from bridge.mailstore import parse_caller, parse_command
from bridge.mapping import AttributeMap, parse_item
from bridge.mapping.addresses import AddressRules, fold_domain
from bridge.roster.roster import fold_user_name
from bridge.sources.directory.groups import primary_group_sid
from bridge.syntax import ber
from bridge.syntax.attributes import is_attribute_description
from bridge.syntax.ber import read_header
from bridge.syntax.dn import dn_key, escape_attribute_value, is_at_or_below, normalize_dn, parse_dn, render_dn
from bridge.syntax.filter_ber import encode_filter
from bridge.syntax.filters import Present, parse_filter, parse_filter_template, render_filter
from bridge.syntax.times import IntervalForm, TimeForm, parse_interval_s, parse_time_s

pytestmark = pytest.mark.processes

SHORTEST_CHARACTERS, LONGEST_CHARACTERS = 2_000, 8_000
SLOW_S = 0.004
"""What takes less for the longest text is no trouble, and too short to be compared."""
MOST = 3.2
"""Twice the text, linear: 2; quadratic: 4."""

FRAGMENTS = [
    *' \\=,+"#<>;:@.-_/%&|!*()[]{}0a\0\n\té’',
    "\\ ",
    "\\\\",
    "a=b,",
    "a=b+",
    " ,",
    "a.",
    "a ",
    "%20",
    "%5C",
    "\\20",
    "(a=b)",
    "(&",
    "{a}",
    "{{",
    "a@b",
    "a@",
    "xn--a",
    "smtp:",
    "NDS error: ",
    "NDS error (",
    "data ",
    "data 5",
    "NT_STATUS_",
    "[a",
    "a=b, ",
    "is locked ",
    "too many ",
    "account is ",
    "account (",
    "&a=b",
    "user=a&",
    ";range=0-1",
    "0123456789",
    "#04",
]
AROUND = [("", ""), ("uid=x", ""), ("uid=x", "!"), ("#", ""), ("smtp:", ""), ("xn--", "")]
PEER = Peer("company", "ldap://h")
SEARCH = SearchRequest("dc=e", Scope.SUBTREE, Present("uid"), ())
MAP = AttributeMap(
    "entryUUID",
    (parse_item("uid"),),
    (parse_item("cn"), parse_item("{uid|lower} {cn|trim}")),
    (parse_item("mail"), parse_item("{uid|localpart}@example.com")),
)
TEMPLATE = parse_filter_template("(|(uid={user})(mail={user}))")


def read_bind_response(text: str) -> None:
    message = wire.write_result(1, BIND_RESPONSE, 49, text)
    _, position, end = read_header(message, 0, len(message))
    _, _, position = read_header(message, position, end)
    kind, start, stop = read_header(message, position, end)
    response = read_response(message, kind, start, stop, end)
    describe_result(response)
    search_error(response, PEER, SEARCH)
    judge_user_bind(response, PEER)


def read_words(text: str) -> None:
    """A server's own words, however long they are."""
    for read in (find_cause, find_state, speaks_of_credentials, speaks_of_trouble):
        read(text)


def read_entry(text: str) -> Entry:
    values = [text.encode()] * 2
    names = [f"a{number}" for number in range(len(text) // 50)]
    message = wire.write_entry(1, text, [("uid", values), *((name, values[:0]) for name in names), ("mail", values)])
    _, position, end = read_header(message, 0, len(message))
    _, _, position = read_header(message, position, end)
    _, start, stop = read_header(message, position, end)
    return EntryReader().read(message, start, stop)


def map_entry(text: str) -> None:
    value = text.encode()
    entry = Entry(
        f"uid={text},dc=e", {"uid": [value], "cn": [value], "mail": [value, value + b"x"], "entryuuid": [value]}
    )
    MAP.map_entry(entry)


def read_group_of(text: str) -> None:
    primary_group_sid(Entry("uid=a", {"primarygroupid": [text.encode()], "objectsid": [b"\1" * 28]}))


def read_reference_of(text: str) -> None:
    content = ber.write_octets(text.encode())
    (uri,) = read_reference(content, 0, len(content))
    is_ignored(uri, ["CN=Configuration"])


PARSERS: dict[str, Callable[[str], object]] = {
    "parse_dn": parse_dn,
    "render_dn": lambda text: render_dn(parse_dn(text)),
    "normalize_dn": normalize_dn,
    "dn_key": dn_key,
    "is_at_or_below": lambda text: is_at_or_below(text, text),
    "escape_attribute_value": escape_attribute_value,
    "continuation reference": lambda text: is_ignored(f"ldap://h/{text}", ["CN=Configuration"]),
    "continuation reference, whole": read_reference_of,
    "parse_filter": lambda text: encode_filter(parse_filter(f"(uid={text})")),
    "parse_filter, whole": lambda text: render_filter(parse_filter(text)),
    "filter template": lambda text: encode_filter(TEMPLATE.fill(text)),
    "attribute description": is_attribute_description,
    "generalized time": lambda text: parse_time_s(text, TimeForm.GENERALIZED_TIME),
    "fraction of a time": lambda text: parse_time_s(f"20260131120000.{text}Z", TimeForm.GENERALIZED_TIME),
    "file time": lambda text: parse_time_s(text, TimeForm.FILETIME),
    "interval": lambda text: parse_interval_s(text, IntervalForm.SECONDS),
    "addresses": lambda text: AddressRules().choose([text, f"{text}@example.com"]),
    "addresses of domains": lambda text: AddressRules(frozenset(("example.com",))).choose([f"a@{text}", text]),
    "fold_domain": fold_domain,
    "mapping item": parse_item,
    "map_entry": map_entry,
    "fold_user_name": fold_user_name,
    "primary group": read_group_of,
    "bind response": read_bind_response,
    "server's words": read_words,
    "entry": read_entry,
    "form": lambda text: parse_command(text.encode(), None),
    "form, user": lambda text: parse_command(b"cmd=auth&pass=x&user=" + text.encode(), None),
    "content type": lambda text: parse_command(b"cmd=list", f"application/x-www-form-urlencoded;{text}"),
    "Basic": lambda text: parse_caller(f"Basic {b64encode(text.encode()).decode()}"),
    "Basic, raw": lambda text: parse_caller(f"Basic {text}"),
    "server": parse_server_url,
    "server, host": lambda text: parse_server_url(f"ldaps://{text}"),
    "domain": parse_domain,
    "duration": parse_duration_s,
    "fingerprint": parse_fingerprint,
    "listen": parse_listen_address,
    "name server": parse_name_server,
}


def make(kind: tuple[str, str, str], length: int) -> str:
    """A text of about this length."""
    beginning, fragment, ending = kind
    return beginning + fragment * (length // len(fragment)) + ending


def measure_s(parse: Callable[[str], object], text: str, times: int = 1) -> float:
    """The least processor time of some tries; whether the text is taken or refused doesn't matter."""
    found = []
    for _ in range(times):
        began_s = time.thread_time()
        with suppress(ValueError, BridgeError):
            parse(text)
        found.append(time.thread_time() - began_s)
    return min(found)


@pytest.fixture(autouse=True)
def untraced() -> Iterator[None]:
    """Measures the program, and not what counts its lines."""
    before = sys.gettrace()
    sys.settrace(None)
    yield
    sys.settrace(before)


@pytest.mark.parametrize("name", PARSERS)
def test_time_grows_with_the_text_and_no_faster(name: str) -> None:
    """Whatever is repeated in it: the event loop is not held up for a minute by one line of a server."""
    parse, slow = PARSERS[name], []
    for (beginning, ending), fragment in product(AROUND, FRAGMENTS):
        kind = beginning, fragment, ending
        length = SHORTEST_CHARACTERS
        while length < LONGEST_CHARACTERS and measure_s(parse, make(kind, length)) < SLOW_S:
            length *= 2
        if length >= LONGEST_CHARACTERS:
            continue
        once_s, twice_s = (measure_s(parse, make(kind, each), 3) for each in (length, 2 * length))
        if twice_s > MOST * once_s:
            slow.append((*kind, length, round(twice_s / once_s, 1)))
    assert slow == []
