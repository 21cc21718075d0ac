"""Names of hosts: asked for, shown to the server and compared with its certificate in one form."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from pathlib import Path

import pytest

from bridge.certificates.contexts import client_context
from bridge.config.values import parse_server_url
from bridge.errors import DirectoryUnavailable
from bridge.ldap.host_names import HostNames, numeric_addresses
from bridge.ldap.settings import LdapSettings, ServerAddress
from bridge.ldap.transport import open_connection
from tests.support.authorities import issue
from tests.support.tls_server import listening, speaks_tls

ROOT = issue("Example Root", is_authority=True)


def address(url: str, port: int, *, known: tuple[str, ...] = ()) -> ServerAddress:
    """A server as the configuration makes it, at the port of a test."""
    found = parse_server_url(url)
    return ServerAddress(found.scheme, found.host, port, addresses=known, is_absolute=found.is_absolute)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("ldaps://localhost", "localhost"),
        ("ldaps://localhost.", "localhost"),
        ("ldaps://LOCALHOST", "localhost"),
        ("ldaps://ldap.müller.example", "ldap.xn--mller-kva.example"),
        ("ldaps://LDAP.straße.example.", "ldap.xn--strae-oqa.example"),
        ("ldaps://dc_1.example.com", "dc_1.example.com"),
    ],
)
async def test_server_is_shown_and_verified_by_the_name_that_tls_knows(url: str, name: str, tmp_path: Path) -> None:
    """No dot at the end, A-labels, lower case: in SNI, and where the certificate is compared."""
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    context, shown = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), []
    context.load_cert_chain(*issue("x", ROOT, names=[name]).write(tmp_path / "server"))
    context.sni_callback = lambda _socket, sni, _context: shown.append(sni)
    async with listening(speaks_tls(context)) as port:
        server = address(url, port, known=() if name == "localhost" else ("127.0.0.1",))
        settings = LdapSettings("d", (server,), tls=client_context(str(tmp_path / "ca.pem")))
        (await open_connection(settings, server)).abort()
    assert shown == [name]
    assert server.url == f"ldaps://{name}:{port}"


async def test_certificate_for_another_host_is_refused_however_the_name_is_written(tmp_path: Path) -> None:
    """The twin: a dot at the end makes nothing of nothing."""
    (tmp_path / "ca.pem").write_bytes(ROOT.pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*issue("x", ROOT, names=["ldap.example.com"]).write(tmp_path / "server"))
    async with listening(speaks_tls(context)) as port:
        server = address("ldaps://localhost.", port)
        settings = LdapSettings("d", (server,), tls=client_context(str(tmp_path / "ca.pem")))
        with pytest.raises(DirectoryUnavailable, match=r"not made out to localhost, but to ldap\.example\.com"):
            await open_connection(settings, server)


@pytest.mark.parametrize(
    ("url", "detail"),
    [
        ("ldap://nobody.invalid", "there is no host of the name nobody.invalid"),
        ("ldap://[fe80::1%nobody0]", "the address fe80::1%nobody0 can't be used on this machine"),
    ],
)
async def test_name_that_has_no_address_is_told_apart_from_a_dns_that_is_silent(url: str, detail: str) -> None:
    """A slip in the configuration, or an interface that is not there."""
    server = address(url, 389)
    with pytest.raises(DirectoryUnavailable) as caught:
        await open_connection(LdapSettings("d", (server,)), server)
    if "resolved" in caught.value.detail:
        pytest.skip("this machine's own DNS does not answer")
    assert caught.value.detail.startswith(detail)


def test_addresses_ask_nobody() -> None:
    """IPv4, IPv6, with an interface; and those that the DNS has named."""
    interface = socket.if_nameindex()[0][1]
    found = numeric_addresses(address(f"ldap://[fe80::1%25{interface}]", 389))
    assert [item[4][:2] for item in found] == [("fe80::1", 389)]
    assert found[0][4][3] == socket.if_nametoindex(interface)  # type: ignore[misc]  # four parts for IPv6
    assert [item[4][:2] for item in numeric_addresses(address("ldap://192.0.2.1", 3))] == [("192.0.2.1", 3)]
    known = address("ldap://ldap.example.com", 3, known=("192.0.2.7", "2001:db8::7"))
    assert [item[4][0] for item in numeric_addresses(known)] == ["192.0.2.7", "2001:db8::7"]
    assert numeric_addresses(address("ldap://ldap.example.com", 3)) == ()


async def test_questions_that_are_the_same_are_asked_once_and_outlive_who_gives_up() -> None:
    """However many wait, there is one thread; whoever is cancelled takes nobody's answer away."""
    names, server = HostNames(), ServerAddress("ldap", "localhost", 389)
    before = threading.active_count()
    waiting = [asyncio.create_task(names.resolve(server)) for _ in range(50)]
    await asyncio.sleep(0)
    assert threading.active_count() <= before + 1
    waiting[0].cancel()
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(found[0], asyncio.CancelledError)
    assert all(isinstance(each, list) and each for each in found[1:])
    assert not names.is_asking(server)
