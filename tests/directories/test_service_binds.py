"""The service account without a password, at a real OpenLDAP: client certificate, local socket, Kerberos."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trustme

from bridge.errors import DirectoryRefused
from bridge.ldap.service_account import ServiceAccount
from bridge.ldap.service_secrets import RefusedSecrets
from bridge.ldap.settings import LdapSettings, SaslSettings, ServerAddress
from tests.conftest import StartSlapd
from tests.support.bridges import Client, configuration, running_bridge
from tests.support.kdc import REALM, Kdc, require_gssapi
from tests.support.manual_clock import ManualClock
from tests.support.slapd import READER, Slapd

pytestmark = pytest.mark.slapd

MakeCertificate = Callable[..., tuple[Path, Path]]


def client_certificate(folder: Path, name: str, authority: trustme.CA) -> str:
    """The keys of `tls` for a client certificate of this common name."""
    made = authority.issue_cert(f"{name}.example.com", common_name=name)
    made.cert_chain_pems[0].write_to_path(str(folder / f"{name}.pem"))
    made.private_key_pem.write_to_path(str(folder / f"{name}.key"))
    return f"client_certificate_file: {folder}/{name}.pem, client_key_file: {folder}/{name}.key"


def without_password(server: str, folder: Path, bind: str, more: str = "") -> Path:
    """A configuration whose service account binds by `bind`."""
    file = configuration(server, folder, directory=more)
    before, _, rest = file.read_text().partition("    bind: ")
    file.write_text(f"{before}    bind: {bind}\n{rest.partition(chr(10))[2]}")
    return file


async def check_all(client: Client) -> None:
    """Everybody is listed, and passwords are told apart."""
    assert [user["userName"] for user in await client.list_users()] == ["anna", "bert", "carl"]
    assert await client.auth("anna", "Pass-anna")
    assert not await client.auth("anna", "wrong")


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
async def test_external_binds_by_client_certificate(
    start_slapd: StartSlapd,
    tmp_path: Path,
    authority: trustme.CA,
    authority_file: Path,
    make_certificate: MakeCertificate,
    scheme: str,
) -> None:
    """Over ldaps and StartTLS; the server maps the certificate's subject to the account."""
    overlays = f"""TLSCACertificateFile {authority_file}
TLSVerifyClient try
authz-regexp "^cn=reader,ou=[^,]+,o=[^,]+$" "{READER}"
"""
    slapd = start_slapd(certificate=make_certificate(), overlays=overlays)
    url = f"ldaps://127.0.0.1:{slapd.tls_port}" if scheme == "ldaps" else slapd.url
    for name, is_reader in (("reader", True), ("stranger", False)):
        tls = f"tls: {{ca_file: {authority_file}, {client_certificate(tmp_path, name, authority)}}}"
        more = tls if scheme == "ldaps" else f"{tls}\n    starttls: required"
        folder = tmp_path / name
        folder.mkdir()
        async with running_bridge(without_password(url, folder, "{method: external}", more)) as client:
            if is_reader:
                await check_all(client)
                assert "mech=EXTERNAL" in (slapd.folder / "log").read_text()
            else:
                status, answer = await client.post("cmd=list")
                assert status >= 500, answer


async def test_external_without_what_the_server_wants_is_refused(
    start_slapd: StartSlapd,
    tmp_path: Path,
    authority: trustme.CA,
    authority_file: Path,
    make_certificate: MakeCertificate,
) -> None:
    """A server that asks for no certificate offers no EXTERNAL: 502, and what to look at."""
    slapd = start_slapd(certificate=make_certificate())
    more = f"tls: {{ca_file: {authority_file}, {client_certificate(tmp_path, 'reader', authority)}}}"
    file = without_password(f"ldaps://127.0.0.1:{slapd.tls_port}", tmp_path, "{method: external}", more)
    async with running_bridge(file) as client:
        for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna"):
            status, answer = await client.post(body)
            assert (status, answer["error"]) == (502, "directory_refused")
            assert "SASL EXTERNAL" in answer["message"]


async def test_external_binds_by_the_user_of_this_process(start_slapd: StartSlapd, tmp_path: Path) -> None:
    """At ldapi, the kernel tells the server who asks."""
    mapped = f'authz-regexp "^gidNumber=.*,cn=peercred,cn=external,cn=auth$" "{READER}"'
    slapd = start_slapd(overlays=mapped)
    async with running_bridge(without_password(f"ldapi://{slapd.ldapi}", tmp_path, "{method: external}")) as client:
        await check_all(client)


@pytest.fixture
def kdc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kdc]:
    require_gssapi()
    with Kdc(tmp_path / "kdc") as found:
        for name, value in found.environment.items():
            monkeypatch.setenv(name, value)
        yield found


@pytest.fixture
def kerberized(
    start_slapd: StartSlapd, tmp_path: Path, kdc: Kdc, make_certificate: MakeCertificate
) -> Callable[..., Slapd]:
    """Starts a server with a key for ldap/localhost."""

    def start(properties: str = "none") -> Slapd:
        (tmp_path / "sasl").mkdir()
        (tmp_path / "sasl" / "slapd.conf").write_text("mech_list: GSSAPI EXTERNAL\n")
        key = kdc.export_key("ldap/localhost", "ldap.keytab")
        return start_slapd(
            certificate=make_certificate("localhost"),
            overlays=f"""sasl-host localhost
sasl-secprops {properties}
authz-regexp "^uid=reader,(cn=[^,]+,)?cn=gssapi,cn=auth$" "{READER}"
""",
            environment={"KRB5_KTNAME": str(key), "SASL_CONF_PATH": str(tmp_path / "sasl")},
        )

    return start


@pytest.mark.parametrize("scheme", ["ldaps", "ldap"])
async def test_gssapi_binds_by_the_key_in_a_keytab(
    kerberized: Callable[..., Slapd], tmp_path: Path, kdc: Kdc, authority_file: Path, scheme: str
) -> None:
    """Over ldaps and StartTLS; a ticket that is there is used while the KDC is down."""
    slapd = kerberized()
    keytab = kdc.export_key("reader", "reader.keytab")
    url = f"{scheme}://localhost:{slapd.tls_port if scheme == 'ldaps' else slapd.port}"
    more = f"tls: {{ca_file: {authority_file}}}" + ("" if scheme == "ldaps" else "\n    starttls: required")
    bind = f"{{method: gssapi, principal: reader@{REALM}, keytab: {keytab}}}"
    file = without_password(url, tmp_path, bind, more)
    file.write_text(file.read_text().replace("cache: {", "cache: {ttl: 1ms, "))
    async with running_bridge(file) as client:
        await check_all(client)
        kdc.stop()
        await check_all(client)
        assert "refresh.failed" not in client.log.getvalue()
    assert "mech=GSSAPI" in (slapd.folder / "log").read_text()


async def test_connection_ends_with_the_ticket_of_its_bind(
    kerberized: Callable[..., Slapd], tmp_path: Path, kdc: Kdc, authority_file: Path
) -> None:
    """However long `max_age` is: a server may end what was bound by a ticket that holds no longer."""
    slapd = kerberized()
    keytab = kdc.export_key("reader", "reader.keytab")
    krb5 = kdc.folder / "krb5.conf"
    krb5.write_text(krb5.read_text().replace("[libdefaults]", "[libdefaults]\n ticket_lifetime = 10m"))
    more = f"tls: {{ca_file: {authority_file}}}\n    pool: {{idle: 1d, max_age: 7d}}"
    bind = f"{{method: gssapi, principal: reader@{REALM}, keytab: {keytab}}}"
    file = without_password(f"ldaps://localhost:{slapd.tls_port}", tmp_path, bind, more)
    clock = ManualClock(time.time())

    def bound_count() -> int:
        return (slapd.folder / "log").read_text().count("mech=GSSAPI bind_ssf")

    async with running_bridge(file, clock) as client:
        await check_all(client)
        before = bound_count()
        assert before > 0
        clock.advance(500)
        assert await client.auth("anna", "Pass-anna")
        assert bound_count() == before
        clock.advance(110)
        assert await client.auth("anna", "Pass-anna")
        assert bound_count() == before + 1


async def test_kdc_that_hangs_holds_up_nothing_else(
    kerberized: Callable[..., Slapd], tmp_path: Path, kdc: Kdc, authority_file: Path
) -> None:
    """503 in time for each of many, and the threads that others need are free: the library waits for many seconds."""
    slapd = kerberized()
    keytab = kdc.export_key("reader", "reader.keytab")
    kdc.stop()
    more = f"tls: {{ca_file: {authority_file}}}\n    timeouts: {{connect: 200ms, request: 1s}}"
    bind = f"{{method: gssapi, principal: reader@{REALM}, keytab: {keytab}}}"
    with socket.create_server(("127.0.0.1", kdc.port)):
        file = without_password(f"ldaps://localhost:{slapd.tls_port}", tmp_path, bind, more)
        async with running_bridge(file) as client:
            for _ in range(12):
                status, answer = await client.post("cmd=auth&user=anna&pass=Pass-anna")
                assert (status, answer["error"]) == (503, "directory_unavailable")
            await asyncio.wait_for(asyncio.to_thread(str), 1)


async def test_server_with_a_new_key_is_taken_again(
    kerberized: Callable[..., Slapd], tmp_path: Path, kdc: Kdc, authority_file: Path
) -> None:
    """The ticket for the old one holds for hours and is forgotten when the server refuses it; the next try succeeds."""
    slapd = kerberized()
    keytab = kdc.export_key("reader", "reader.keytab")
    peer = ServerAddress("ldaps", "localhost", slapd.tls_port)
    tls = ssl.create_default_context(cafile=str(authority_file))
    sasl = SaslSettings("GSSAPI", f"reader@{REALM}", str(keytab))
    clock = ManualClock()
    account = ServiceAccount(LdapSettings("company", (peer,), tls=tls, sasl=sasl), RefusedSecrets(clock))
    connection = await account.connect(peer)
    assert connection.bound_for_s is not None
    assert 0 < connection.bound_for_s <= 86_400, "no longer than the ticket"
    connection.close()
    slapd.stop()
    kdc.replace_key("ldap/localhost", "ldap.keytab")
    slapd.start()
    with pytest.raises(DirectoryRefused, match="SASL GSSAPI"):
        await account.connect(peer)
    clock.advance(100.0)
    (await account.connect(peer)).close()


@pytest.mark.parametrize(
    ("fault", "status", "sentence"),
    [
        ("old key", 502, "Kerberos failed"),
        ("unknown principal", 502, "Kerberos failed"),
        ("no KDC", 503, "Check that the KDC runs"),
        ("layer wanted", 502, "insists on signing or sealing"),
    ],
)
async def test_gssapi_that_fails_says_why(
    kerberized: Callable[..., Slapd],
    tmp_path: Path,
    kdc: Kdc,
    authority_file: Path,
    fault: str,
    status: int,
    sentence: str,
) -> None:
    """No login is `false` for it; an outage of the KDC is 503, what the administrator must mend 502."""
    slapd = kerberized("minssf=200" if fault == "layer wanted" else "none")
    principal = "stranger" if fault == "unknown principal" else f"reader-{fault.replace(' ', '-')}"
    keytab = kdc.export_key(principal, "reader.keytab")
    if fault == "old key":
        kdc.export_key(principal, "newer.keytab")
    if fault == "unknown principal":
        principal = "nobody"
    if fault == "no KDC":
        kdc.stop()
    bind = f"{{method: gssapi, principal: {principal}@{REALM}, keytab: {keytab}}}"
    more = f"tls: {{ca_file: {authority_file}}}"
    # Under TLS, OpenLDAP takes that for strength enough; others don't.
    url = f"ldap://localhost:{slapd.port}" if fault == "layer wanted" else f"ldaps://localhost:{slapd.tls_port}"
    file = without_password(url, tmp_path, bind, more)
    async with running_bridge(file) as client:
        for body in ("cmd=list", "cmd=auth&user=anna&pass=Pass-anna"):
            found, answer = await client.post(body)
            assert found == status, answer
            assert sentence in answer["message"]
