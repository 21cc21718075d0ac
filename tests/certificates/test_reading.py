"""Certificates that a server sends and that depart from RFC 5280: they are left out, and nothing breaks."""

from __future__ import annotations

import ssl

import pytest
import trustme

from bridge.certificates.reading import read_certificates


def made_for(*names: str) -> bytes:
    certificate = trustme.CA().issue_cert(*names).cert_chain_pems[0].bytes()
    return ssl.PEM_cert_to_DER_cert(certificate.decode())


def test_certificate_in_order_is_read() -> None:
    """The twin of those below."""
    (found,) = read_certificates([made_for("ldap.example.com", "192.0.2.1")])
    assert found.names == ("ldap.example.com", "192.0.2.1")
    assert "serverAuth" in found.usages


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x03"),  # a version that there isn't
        (b"\x06\x03\x55\x04\x0a\x0c", b"\x06\x03\x55\x04\x0a\x03"),  # a BIT STRING for an organisation
    ],
)
def test_certificate_that_cannot_be_read_is_left_out(old: bytes, new: bytes) -> None:
    """Nobody knows what is in it; what came before it stays."""
    whole = made_for("ldap.example.com")
    broken = whole.replace(old, new)
    assert broken != whole
    assert len(read_certificates([whole, broken, whole])) == 1


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"\x06\x03\x55\x1d\x25", b"\x06\x03\x55\x1d\x13"),  # extendedKeyUsage becomes a second basicConstraints
        (b"\x82\x10ldap.example.com", b"\xa3\x10ldap.example.com"),  # the name becomes an X.400 address
    ],
)
def test_extensions_that_cannot_be_read_are_as_if_they_were_not_there(old: bytes, new: bytes) -> None:
    """The rest of it still tells whose it is."""
    whole = made_for("ldap.example.com")
    assert old in whole
    (found,) = read_certificates([whole.replace(old, new)])
    assert found.names == ()
    assert found.subject
