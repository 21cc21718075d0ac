"""Addresses of servers: one form of each host, for the DNS, for TLS and for messages."""

from __future__ import annotations

import pytest

from bridge.config.values import parse_domain, parse_host, parse_server_url

ADDRESSES = {
    "ldaps://LDAP.Example.COM": ("ldaps://ldap.example.com:636", False),
    "ldaps://ldap.example.com.": ("ldaps://ldap.example.com:636", True),
    "ldap://ldap.example.com.:3389": ("ldap://ldap.example.com:3389", True),
    "ldap://ldap": ("ldap://ldap:389", False),
    "ldaps://müller.example": ("ldaps://xn--mller-kva.example:636", False),
    "ldaps://MÜLLER.Example": ("ldaps://xn--mller-kva.example:636", False),
    "ldaps://XN--MLLER-KVA.example": ("ldaps://xn--mller-kva.example:636", False),
    "ldaps://straße.example": ("ldaps://xn--strae-oqa.example:636", False),  # IDNA 2003 had strasse.example
    "ldaps://mu\u0308ller.example": ("ldaps://xn--mller-kva.example:636", False),  # a letter and its dots apart
    "ldaps://ldap。例え。テスト。": ("ldaps://ldap.xn--r8jz45g.xn--zckzah:636", True),
    "ldaps://dc_1.müller.example": ("ldaps://dc_1.xn--mller-kva.example:636", False),
    "ldaps://_ldap.example.com": ("ldaps://_ldap.example.com:636", False),
    "ldaps://192.0.2.1": ("ldaps://192.0.2.1:636", False),
    "ldaps://[2001:DB8:0:0::1]": ("ldaps://[2001:db8::1]:636", False),
    "ldap://[FE80::1%eth0]:3389": ("ldap://[fe80::1%eth0]:3389", False),
    "ldap://[fe80::1%25Eth0]": ("ldap://[fe80::1%Eth0]:389", False),  # RFC 6874
}
FAULTS = {
    "ldaps://a..example": "letters, digits, - and _",
    "ldaps://-a.example": "letters, digits, - and _",
    f"ldaps://{'a' * 64}.example": "letters, digits, - and _",
    f"ldaps://{'a.' * 130}example": "letters, digits, - and _",
    "ldaps://ldap%2Eexample.com": "letters, digits, - and _",
    "ldaps://ldap example.com": "letters, digits, - and _",
    "ldaps://127.1": "an address such as 192.0.2.1",
    "ldaps://192.0.2.256": "an address such as 192.0.2.1",
    "ldaps://[2001:db8::1": "a host and a port and nothing else",
    "ldaps://😀.example": "by IDNA 2008",
    "ldaps://xn--a-ecp.example": "by IDNA 2008",
    "ldaps://xn--.example": "by IDNA 2008",
    "ldaps://.": "must name a host",
}


@pytest.mark.parametrize(("text", "expected"), ADDRESSES.items())
def test_host_has_one_form_however_it_is_written(text: str, expected: tuple[str, bool]) -> None:
    """IDNA 2008, lower case, no dot at the end, which is remembered."""
    found = parse_server_url(text)
    assert (str(found), found.is_absolute) == expected
    assert parse_host(found.host) == found.host


@pytest.mark.parametrize(("text", "sentence"), FAULTS.items())
def test_host_that_is_none_is_refused(text: str, sentence: str) -> None:
    """What nothing could resolve or verify is told when the configuration is read."""
    with pytest.raises(ValueError, match=r"must|IDNA") as caught:
        parse_server_url(text)
    assert sentence in str(caught.value)


def test_domain_may_be_written_in_its_own_letters() -> None:
    """The domain of `discover` follows the same rule as hosts."""
    assert parse_domain("Müller.Example.") == "xn--mller-kva.example"
