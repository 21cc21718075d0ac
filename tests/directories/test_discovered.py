"""A bridge before real OpenLDAP servers that a DNS server on loopback names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.directory import Scope, SearchRequest
from bridge.events import Event
from bridge.ldap.directory import LdapDirectory
from bridge.ldap.settings import DiscoverySettings, LdapSettings
from bridge.model import Secret
from bridge.syntax.filters import Equal
from tests.conftest import StartSlapd
from tests.support.bridges import configuration, running_bridge
from tests.support.dns_server import DnsServer
from tests.support.slapd import PEOPLE, READER, READER_PASSWORD, Slapd
from tests.support.waiting import until

pytestmark = pytest.mark.slapd

MakeCertificate = Callable[..., tuple[Path, Path]]


def discovering(dns: DnsServer, folder: Path, authority: Path, *, more: str = "") -> Path:
    lines = f'discover: {{domain: example.com, nameservers: "127.0.0.1:{dns.port}"{more}}}'
    lines += f"\n    tls: {{ca_file: {authority}}}\n    timeouts: {{connect: 1s, request: 3s}}"
    file = configuration("ldaps://unused", folder, directory=lines, more="cache: {refresh_ahead: false, ttl: 0s}")
    file.write_text(file.read_text().replace('    servers: ["ldaps://unused"]\n', ""))
    return file


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
async def test_discovered_servers_are_asked_in_order(
    start_slapd: StartSlapd, tmp_path: Path, authority_file: Path, make_certificate: MakeCertificate, scheme: str
) -> None:
    """The first by priority; when it is gone, the next; each must have a certificate for the name in the record."""
    servers = [start_slapd(certificate=make_certificate(f"ldap{number}.example.com")) for number in (1, 2)]
    async with DnsServer().running() as dns:
        ports = [server.tls_port if scheme == "ldaps" else server.port for server in servers]
        records = (f"{number}0 0 {port} ldap{number}.example.com." for number, port in enumerate(ports, 1))
        dns.set_servers(f"_{scheme}._tcp.example.com", *records)
        for number in (1, 2):
            dns.zone[f"ldap{number}.example.com", "A"] = ["127.0.0.1"]
        async with running_bridge(discovering(dns, tmp_path, authority_file)) as client:
            assert len(await client.list_users()) == 3
            assert await client.auth("anna", "Pass-anna")
            assert f"{scheme}://ldap1.example.com:{ports[0]}" in client.log.getvalue()
            assert "uid=anna" not in (servers[1].folder / "log").read_text()
            servers[0].stop()
            dns.is_silent = True
            assert await client.auth("anna", "Pass-anna")
            assert not await client.auth("anna", "wrong")
            assert len(await client.list_users()) == 3


@pytest.mark.parametrize("host", ["example.com", "ldap2.example.com", "127.0.0.1"])
async def test_certificate_must_be_for_the_name_in_the_record(
    start_slapd: StartSlapd, tmp_path: Path, authority_file: Path, make_certificate: MakeCertificate, host: str
) -> None:
    """Neither the domain's, nor another server's, nor the address's will do, and no password is sent."""
    slapd: Slapd = start_slapd(certificate=make_certificate(host))
    async with DnsServer().running() as dns:
        dns.set_servers("_ldaps._tcp.example.com", f"0 0 {slapd.tls_port} ldap1.example.com.")
        dns.zone["ldap1.example.com", "A"] = ["127.0.0.1"]
        async with running_bridge(discovering(dns, tmp_path, authority_file)) as client:
            for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna"):
                status, answer = await client.post(body)
                assert (status, answer["error"]) == (503, "directory_unavailable")
                assert "certificate is not made out to ldap1.example.com" in answer["message"]
    log = (slapd.folder / "log").read_text()
    assert "ACCEPT" in log
    assert " BIND " not in log


async def test_dns_that_is_down_is_unavailable_and_says_so(tmp_path: Path, authority_file: Path) -> None:
    """No login is `false`; the message names the record."""
    async with DnsServer().running() as dns:
        dns.is_silent = True
        async with running_bridge(discovering(dns, tmp_path, authority_file)) as client:
            for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna"):
                status, answer = await client.post(body)
                assert (status, answer["error"]) == (503, "directory_unavailable")
                assert "_ldaps._tcp.example.com" in answer["message"]


async def test_new_order_takes_effect_without_a_restart(start_slapd: StartSlapd) -> None:
    """Look-ups and user binds go to the new first server, and the connections to the old one end."""
    first, second = start_slapd(), start_slapd()
    woken, asleep = asyncio.Event(), asyncio.Event()

    async def sleep(_pause_s: float) -> None:
        asleep.set()
        await woken.wait()
        woken.clear()

    async with DnsServer().running() as dns:
        dns.zone["ldap.example.com", "A"] = ["127.0.0.1"]
        dns.set_servers("_ldap._tcp.example.com", f"0 0 {first.port} ldap.example.com.")
        discovery = DiscoverySettings("example.com", "ldap", start_tls=False, nameservers=(("127.0.0.1", dns.port),))
        account = {"bind_dn": READER, "bind_password": Secret(READER_PASSWORD.encode())}
        settings = LdapSettings("company", (), discovery, request_timeout_s=0.2, **account)  # type: ignore[arg-type]
        events: list[Event] = []
        found = LdapDirectory(settings, events.append, sleep=sleep)
        search = SearchRequest(PEOPLE, Scope.SUBTREE, Equal("uid", b"anna"), ("uid",), 2)
        for server in (first, second):
            assert len((await found.look_up(search)).entries) == 1
            result = await found.bind(f"uid=anna,{PEOPLE}", Secret(b"Pass-anna"))
            assert result.server == f"ldap://ldap.example.com:{server.port}"
            dns.set_servers("_ldap._tcp.example.com", f"0 0 {second.port} ldap.example.com.")
            await asyncio.wait_for(asleep.wait(), 5)
            asleep.clear()
            woken.set()
            await asyncio.wait_for(asleep.wait(), 5)
        await until(lambda: " UNBIND" in (first.folder / "log").read_text())
        await found.aclose()
