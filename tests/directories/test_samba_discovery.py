"""A Samba that its own DNS names, and at which the service account is known by its Kerberos key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.directories.test_samba import bridge
from tests.support.bridges import Client, configuration, running_bridge
from tests.support.kdc import require_gssapi
from tests.support.samba import HOST, PEOPLE, READER, READER_PASSWORD, REALM, Samba, account

pytestmark = pytest.mark.samba

DOMAIN = REALM.lower()
SERVER = f"ldap://{HOST}.{DOMAIN}:389"


@pytest.fixture(scope="module")
def named(
    make_certificate: Callable[..., tuple[Path, Path]],
    authority_file: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Samba]:
    """A domain controller of which only the DNS knows the address, and that takes Kerberos over TLS."""
    certificate = make_certificate(f"{HOST}.{DOMAIN}")
    folder = tmp_path_factory.mktemp("samba")
    with Samba(folder, certificate, authority_file, dns=True, strong_auth="allow_sasl_over_tls") as server:
        server.change(add=[account("anna"), account("bert")])
        yield server


@pytest.fixture
def by_key(named: Samba, monkeypatch: pytest.MonkeyPatch) -> str:
    """The `bind` of a reader that has a key table instead of a password."""
    require_gssapi()
    monkeypatch.setenv("KRB5_CONFIG", str(named.kerberos_configuration()))
    return f"{{method: gssapi, principal: reader@{REALM}, keytab: {named.export_key('reader')}}}"


def discovering(samba: Samba, folder: Path, *, bind: str | None = None) -> Path:
    """A configuration that names the domain and its DNS, and no server."""
    lines = f'discover: {{domain: {DOMAIN}, nameservers: "{samba.address}"}}\n    tls: {{ca_file: {samba.authority}}}'
    users = f'users: {{bases: ["{PEOPLE}"]}}'
    file = configuration(
        "ldaps://unused", folder, preset="samba", reader=(READER, READER_PASSWORD), users=users, directory=lines
    )
    text = file.read_text().replace('    servers: ["ldaps://unused"]\n', "")
    if bind is not None:
        before, _, rest = text.partition("    bind: ")
        text = f"{before}    bind: {bind}\n{rest.partition(chr(10))[2]}"
    file.write_text(text)
    return file


async def check_all(client: Client) -> None:
    """Everybody is listed, and passwords are told apart, at the server that the DNS names."""
    assert [user["userName"] for user in await client.list_users()] == ["anna", "bert", "reader"]
    assert await client.auth("anna", "Pass-anna-1")
    assert not await client.auth("bert", "Pass-anna-1")
    assert client.last_login()["server"] == SERVER


async def test_server_is_found_in_the_dns_of_samba(named: Samba, tmp_path: Path) -> None:
    """Samba names _ldap._tcp alone, so that StartTLS is used."""
    async with running_bridge(discovering(named, tmp_path)) as client:
        await check_all(client)


async def test_gssapi_binds_by_a_key_that_samba_exported(named: Samba, tmp_path: Path, by_key: str) -> None:
    """Over StartTLS, without a layer by SASL, which Samba allows there by its setting allow_sasl_over_tls."""
    named.add_service_name()
    async with running_bridge(discovering(named, tmp_path, bind=by_key)) as client:
        await check_all(client)


async def test_setting_for_gssapi_leaves_passwords_over_plain_ldap_refused(named: Samba, tmp_path: Path) -> None:
    """Only SASL over TLS is allowed more by allow_sasl_over_tls."""
    async with bridge(named, tmp_path, url=f"ldap://{named.address}", directory="starttls: off") as client:
        status, answer = await client.post("cmd=list")
        assert (status, answer["error"]) == (502, "directory_refused")
        assert "(8)" in answer["message"]


async def test_gssapi_that_samba_does_not_take_over_tls_says_so(named: Samba, tmp_path: Path, by_key: str) -> None:
    """By its default it insists on a layer by SASL; the message says what to set there, and no login is `false`."""
    named.restart(strong_auth="yes")
    try:
        async with running_bridge(discovering(named, tmp_path, bind=by_key)) as client:
            for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna-1"):
                status, answer = await client.post(body)
                assert (status, answer["error"]) == (502, "directory_refused")
                assert "SASL GSSAPI" in answer["message"]
                assert "(8)" in answer["message"]
                assert "allow_sasl_over_tls" in answer["message"]
    finally:
        named.restart(strong_auth="allow_sasl_over_tls")
