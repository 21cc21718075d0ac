"""Secrets and certificates are read again when they were refused, although nothing shows that their files have changed.

Network file systems show the time stamps of before for a while; here each file keeps those that it was first seen with.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

import bridge.renewal
from tests.conftest import StartSlapd
from tests.support.bridges import CALLER, Client, configuration, running_bridge
from tests.support.slapd import READER, Slapd
from tests.support.tls_front import TlsFront

pytestmark = pytest.mark.slapd

EACH_TIME_ANEW = "cache: {refresh_ahead: false, ttl: 0s, stale_if_error: 0s}"


@pytest.fixture(autouse=True)
def states_that_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every file is old, and as it was first seen."""
    look, seen = bridge.renewal._state, dict[str, bridge.renewal.FileState]()
    monkeypatch.setattr(bridge.renewal, "_state", lambda file: seen.setdefault(file, look(file)._replace(changed_ns=0)))


@pytest.fixture
def slapd(start_slapd: StartSlapd) -> Slapd:
    return start_slapd()


async def list_status(client: Client) -> int:
    """The status of a listing, which takes a new connection."""
    return (await client.post("cmd=list"))[0]


async def test_password_of_the_caller_that_is_unknown_has_its_file_read(slapd: Slapd, tmp_path: Path) -> None:
    """MailStore's first request with the new one is answered."""
    async with running_bridge(configuration(slapd.url, tmp_path)) as client:
        assert await list_status(client) == 200
        (tmp_path / "caller.password").write_text("next")
        assert (await client.curl("-u", f"{CALLER}:next", "-d", "cmd=list"))[0] == 200


async def test_password_of_the_service_account_that_is_refused_has_its_file_read(slapd: Slapd, tmp_path: Path) -> None:
    """The very request that meets the refusal is answered by the new one."""
    async with running_bridge(configuration(slapd.url, tmp_path, more=EACH_TIME_ANEW)) as client:
        assert await list_status(client) == 200
        slapd.replace([READER], "userPassword", "next")
        (tmp_path / "reader.password").write_text("next")
        assert await list_status(client) == 200


class Certificates:
    """The files of one authority for the servers, and of a certificate that is shown to them."""

    def __init__(self, folder: Path, authority: trustme.CA) -> None:
        self.authorities, self.own = folder / "ca.pem", folder / "client.pem"
        self.trust(authority)
        self.show(authority)
        names = {"ca_file": self.authorities, "client_certificate_file": self.own, "client_key_file": self.own}
        self.line = f"tls: {{{', '.join(f'{key}: {file}' for key, file in names.items())}}}"

    def trust(self, authority: trustme.CA) -> None:
        self.authorities.write_bytes(authority.cert_pem.bytes())

    def show(self, authority: trustme.CA) -> None:
        self.own.write_bytes(authority.issue_cert("bridge").private_key_and_cert_chain_pem.bytes())


AUTHORITY, OTHER = trustme.CA(), trustme.CA()


@pytest_asyncio.fixture
async def front(slapd: Slapd) -> AsyncIterator[TlsFront]:
    """TLS in front of the directory: signed by, and for clients of, `AUTHORITY`."""
    async with TlsFront(slapd.port, AUTHORITY) as found:
        yield found


async def test_server_that_is_not_trusted_has_the_authorities_read(front: TlsFront, tmp_path: Path) -> None:
    """The very connection that meets the new certificate is opened."""
    files = Certificates(tmp_path, AUTHORITY)
    file = configuration(f"ldaps://127.0.0.1:{front.port}", tmp_path, directory=files.line, more=EACH_TIME_ANEW)
    async with running_bridge(file) as client:
        assert await list_status(client) == 200
        files.trust(OTHER)
        front.present(OTHER)
        assert await list_status(client) == 200
        assert "server.set_aside" not in client.log.getvalue()


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_client_certificate_that_is_refused_is_read(
    front: TlsFront, tmp_path: Path, version: ssl.TLSVersion
) -> None:
    """By an alert in the handshake, or, with TLS 1.3, behind it; the next connection shows the new one."""
    front.context.maximum_version = version
    files = Certificates(tmp_path, AUTHORITY)
    files.show(OTHER)
    file = configuration(f"ldaps://127.0.0.1:{front.port}", tmp_path, directory=files.line, more=EACH_TIME_ANEW)
    async with running_bridge(file) as client:
        assert await list_status(client) == 503
        files.show(AUTHORITY)
        assert await list_status(client) == 200
