"""What people and servers write as text: DNs, filters, references, mapping items, times, addresses, and names to be shown."""

from __future__ import annotations

import ipaddress
import json
import math
import string
from contextlib import suppress
from datetime import datetime
from urllib.parse import unquote_to_bytes, urlsplit

from ldap3.protocol.formatters.formatters import format_ad_timestamp, format_time

from bridge.config.values import (
    parse_domain,
    parse_duration_s,
    parse_fingerprint,
    parse_listen_address,
    parse_name_server,
    parse_server_url,
)
from bridge.ldap.references import find_needed, is_ignored, server_of
from bridge.ldap.settings import LdapSettings
from bridge.mapping import AddressRules, MappingError, parse_item
from bridge.mapping.items import Placeholder
from bridge.syntax.attributes import is_attribute_description
from bridge.syntax.controls import escape_controls, escape_in_json
from bridge.syntax.dn import (
    DNError,
    dn_key,
    escape_attribute_value,
    is_at_or_below,
    normalize_dn,
    parse_dn,
    render_dn,
)
from bridge.syntax.times import IntervalForm, TimeForm, parse_interval_s, parse_time_s
from bridge.web.addresses import SITE_BITS, UNIX, Troublemakers, parse_address
from tests.fuzz import readers
from tests.fuzz.inputs import split_off, strict_text_of, text_of

_IGNORED = ("CN=Configuration", "DC=DomainDnsZones")
_SETTINGS = LdapSettings("company", (), ignored_references=_IGNORED)
_RULES = (AddressRules(), AddressRules(frozenset(("example.com", "münchen.example")), lowercase=True))


def read_dn(data: bytes) -> bool:
    """A name that was read is written so that it reads the same; ldap3 sees the same attributes where it takes it."""
    text = text_of(data)
    try:
        name = parse_dn(text)
    except DNError:
        assert dn_key(text) == f"\0{text}" or not text.isprintable()
        return False
    written = render_dn(name)
    assert parse_dn(written) == name
    assert normalize_dn(written) == normalize_dn(text)
    assert dn_key(written) == dn_key(text)
    assert is_at_or_below(f"cn=x,{text}" if name else "cn=x", written)
    theirs = readers.read_dn(written)
    if name and theirs is not None:
        assert [kind for rdn in name for kind, _ in rdn] == [kind for kind, _, _ in theirs]
    _agree_with_ldap3(text, name)
    return True


def _agree_with_ldap3(text: str, name: tuple[tuple[tuple[str, bytes], ...], ...]) -> None:
    """What ldap3 takes: no quotes, no `;`, no blanks that count; it reads what is escaped otherwise, and no UTF-8."""
    theirs = readers.read_dn(text)
    if theirs is None or not name or any(sign in text for sign in '";\\#') or not text.isprintable():
        return
    assert [(kind, value.decode()) for rdn in name for kind, value in rdn] == [
        (kind.strip(" "), value.strip(" ")) for kind, value, _ in theirs
    ]


def compare_dns(data: bytes) -> bool:
    """Two texts have one key exactly where they are one name, and what isn't a name is like itself alone."""
    one, other = map(text_of, (*data.split(b"\n", 1), b"")[:2])
    try:
        is_same = normalize_dn(one) == normalize_dn(other)
    except DNError:
        if "\udc80" <= max(one + other + " ") <= "\udcff":  # no UTF-8: such names may differ in case
            return one == other and dn_key(one) == dn_key(other)
        is_same = one == other
    assert (dn_key(one) == dn_key(other)) is is_same
    return is_same


def escape_dn_value(data: bytes) -> bool:
    """Any text is one value of a DN, and comes back as it was; for ldap3 it is one component, too."""
    value = strict_text_of(data)
    if value is None:
        return False
    text = f"cn={escape_attribute_value(value)}+sn=x,dc=e"
    assert parse_dn(text) == ((("cn", value.encode()), ("sn", b"x")), (("dc", b"e"),))
    theirs = readers.read_dn(text)
    assert theirs is None or [kind for kind, _, _ in theirs] == ["cn", "sn", "dc"]
    return True


def read_reference(data: bytes) -> bool:
    """What is passed over names a partition of a domain by urllib's reading, too; what is shown is no part of a DN."""
    uri = data.decode("utf-8", "replace")
    shown, needed = server_of(uri), find_needed([uri], _SETTINGS)
    assert needed is None or (uri.startswith(needed.removesuffix("…")) and len(needed) <= 201)
    assert shown == "another server" or (uri.startswith(shown) and not set(shown[8:]) & set("/?#=@ "))
    if not is_ignored(uri, _IGNORED):
        assert needed is not None
        return False
    assert needed is None
    path = urlsplit(uri.partition("?")[0].replace("#", "%23"))
    assert path.scheme in ("ldap", "ldaps")
    first, *domain = parse_dn(unquote_to_bytes(path.path[1:]).decode())
    assert render_dn((first,)).casefold() in map(str.casefold, _IGNORED) or dn_key(render_dn((first,))) in map(
        dn_key, _IGNORED
    )
    assert domain and all(kind.lower() == "dc" for rdn in domain for kind, _ in rdn)
    return True


def read_item(data: bytes) -> bool:
    """An item has the literals and the fields that Python's own reader of such texts sees, and its values are texts."""
    text = strict_text_of(data)
    if text is None:
        return False
    try:
        item = parse_item(text)
    except MappingError:
        return False
    assert all(map(is_attribute_description, item.attributes))
    entry = {name.lower(): [" SMTP:Anna@example.com", "", "b"] for name in item.attributes}
    assert all(isinstance(value, str) for value in item.values(entry))
    assert item.values({}) == []
    if "{" in text:
        literals, fields = "", []
        for literal, name, _, _ in string.Formatter().parse(text):
            literals += literal
            fields += [name] if name is not None else []
        assert "".join(part for part in item.parts if isinstance(part, str)) == literals
        assert [field.partition("|")[0].strip() for field in fields] == list(item.attributes)
        assert len(fields) == sum(isinstance(part, Placeholder) for part in item.parts)
    return True


def read_time(data: bytes) -> bool:
    """A time is finite, and the one that ldap3 reads; ldap3 takes no other forms than we do."""
    text = data.decode("utf-8", "replace")
    intervals_s = [parse_interval_s(text, form) for form in IntervalForm]
    times_s = {form: parse_time_s(text, form) for form in TimeForm}
    found = [number for number in (*intervals_s, *times_s.values()) if number is not None]
    assert all(map(math.isfinite, found))
    assert all(number >= 0 for number in intervals_s if number is not None)
    _agree_on_time(times_s[TimeForm.GENERALIZED_TIME], format_time(text))
    if times_s[TimeForm.FILETIME] is not None:
        _agree_on_time(times_s[TimeForm.FILETIME], format_ad_timestamp(text.encode()))
    return bool(found)


def _agree_on_time(found_s: float | None, theirs: object) -> None:
    """ldap3 has no leap seconds, and no years beyond those of Python."""
    if isinstance(theirs, datetime):
        with suppress(OverflowError):
            assert found_s is not None and abs(found_s - theirs.timestamp()) <= 1
    else:
        assert found_s is None or not -62_135_596_800 <= found_s < 253_402_300_800


def choose_addresses(data: bytes) -> bool:
    """Each address stood in a value, has one part on either side of the @, and comes once."""
    head, rest = split_off(data, 1)
    rules = _RULES[head[0] % len(_RULES)]
    values = rest.decode("utf-8", "replace").split("\n")
    found, unusable_count = rules.choose(values)
    assert 0 <= unusable_count <= len(values) - len(found) + sum(value == "" for value in values)
    folded = [address.lower() for address in found]
    assert len(set(folded)) == len(folded)
    for address in found:
        local, sign, domain = address.rpartition("@")
        assert local and sign and domain and "@" not in domain
        assert address.isprintable() or not any(letter < " " or letter == "\x7f" for letter in address)
        assert any(address.lower() in value.lower() for value in values)
    return bool(found)


def read_setting(data: bytes) -> bool:
    """Addresses, durations, domains and prints are refused by `ValueError` alone, and read the same once written."""
    text = strict_text_of(data)
    if text is None:
        return False
    taken = False
    for parse in (parse_duration_s, parse_fingerprint, parse_domain, parse_listen_address, parse_name_server):
        with suppress(ValueError):
            found = parse(text)
            taken = True
            assert not isinstance(found, float) or (found >= 0 and math.isfinite(found))
            assert parse is not parse_domain or parse_domain(str(found)) == found
            assert parse is not parse_listen_address or parse_listen_address(str(found)) == found
    try:
        server = parse_server_url(text)
    except ValueError as error:
        assert not isinstance(error, UnicodeError)
        return taken
    if server.scheme != "ldapi":
        assert parse_server_url(str(server)) == (type(server)(server.scheme, server.host, server.port))
        assert 0 <= server.port <= 65535
        assert server.host.isascii()
    return True


def read_remote(data: bytes) -> bool:
    """The address of a caller is one for ipaddress, too, or that of a Unix socket; neighbours under IPv6 are one."""
    text = strict_text_of(data)
    address = parse_address(text)
    troublemakers = Troublemakers()
    troublemakers.of(text)
    (key,) = troublemakers._troubles
    if address is None:
        assert key == UNIX
        return False
    assert address.version == ipaddress.ip_address(str(address)).version
    assert key == str(address) or ipaddress.ip_network(key).prefixlen == SITE_BITS
    return True


def show_text(data: bytes) -> bool:
    """What is shown is printable, and JSON means the same as before."""
    text = data.decode("utf-8", "surrogateescape")
    shown = escape_controls(text)
    assert all(letter.isprintable() or letter in "\u200c\u200d" or letter.isspace() for letter in shown)
    assert not any(letter < " " or "\x7f" <= letter <= "\x9f" or letter in "\u2028\u2029" for letter in shown)
    assert escape_controls(shown) == shown
    for written in (json.dumps(text), json.dumps(text, ensure_ascii=False)):
        harmless = escape_in_json(written)
        assert json.loads(harmless) == text
        assert not any(letter < " " or "\x7f" <= letter <= "\x9f" for letter in harmless)
    return shown != text


TARGETS = {
    "dn": read_dn,
    "dn-pair": compare_dns,
    "dn-value": escape_dn_value,
    "reference": read_reference,
    "item": read_item,
    "time": read_time,
    "addresses": choose_addresses,
    "setting": read_setting,
    "remote-address": read_remote,
    "shown-text": show_text,
}
