"""The listener's certificate renewed: every new connection is shown the new one, whatever kind its key is of."""

from __future__ import annotations

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
import trustme

from bridge.ops.tls import ServerCertificate
from bridge.renewal import Look


def issue(authority: trustme.CA, kind: trustme.KeyType, certificate: Path, key: Path) -> bytes:
    """Write a new certificate with a key of this kind; what it is in DER."""
    issued = authority.issue_cert("localhost", key_type=kind)
    certificate.write_bytes(issued.cert_chain_pems[0].bytes())
    key.write_bytes(issued.private_key_pem.bytes())
    return ssl.PEM_cert_to_DER_cert(certificate.read_text())


def shown(port: int, authority: trustme.CA, version: ssl.TLSVersion, name: str | None) -> bytes | None:
    """What a client is shown that speaks this version alone, and may name the host (RFC 6066 §3) or not."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as client,
    ):
        return client.getpeercert(binary_form=True)


@pytest.mark.parametrize("name", ["localhost", None])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda each: each.name)
async def test_new_certificate_is_shown_although_its_key_is_of_another_kind(
    tmp_path: Path, version: ssl.TLSVersion, name: str | None
) -> None:
    """A context of OpenSSL has a certificate for each kind of key: an old one must not be shown beside the new one."""
    authority = trustme.CA()
    files = tmp_path / "cert.pem", tmp_path / "key.pem"
    ecdsa, rsa = trustme.KeyType.ECDSA, trustme.KeyType.RSA
    expected = issue(authority, ecdsa, *files)
    certificate = ServerCertificate(str(files[0]), str(files[1]), "1.2")
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=certificate.read())
    port = server.sockets[0].getsockname()[1]
    async with server:
        assert await asyncio.to_thread(shown, port, authority, version, name) == expected
        for kind in (rsa, rsa, ecdsa, ecdsa):
            expected = issue(authority, kind, *files)
            assert certificate.look() is Look.RENEWED
            assert await asyncio.to_thread(shown, port, authority, version, name) == expected
        files[1].write_text("broken")
        assert certificate.look() is Look.FAILED
        assert await asyncio.to_thread(shown, port, authority, version, name) == expected
