"""The wrong port of real servers: each hangs up in its own way, and the words are those of what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bridge.certificates.contexts import client_context
from bridge.errors import BridgeError
from bridge.ldap.settings import LdapSettings, ServerAddress
from bridge.ldap.transport import open_connection
from bridge.model import Secret
from tests.conftest import StartSlapd
from tests.support.samba import Samba

USE_LDAPS = "A port that speaks TLS from the first byte, such as 636, needs ldaps:// instead of ldap://."
USE_TLS_PORT = "ldaps:// needs a port that speaks TLS from the first byte, such as 636; ldap:// with StartTLS is for "


async def refusal(server: ServerAddress, authority_file: Path) -> BridgeError:
    """The error of connecting, or of the first bind."""
    tls = client_context(str(authority_file))
    settings = LdapSettings("d", (server,), tls=tls, ca_file=str(authority_file))
    try:
        connection = await open_connection(settings, server)
    except BridgeError as error:
        return error
    with pytest.raises(BridgeError) as caught:
        await connection.bind("cn=x", Secret(b"x"))
    connection.abort()
    return caught.value


@pytest.mark.slapd
async def test_openldap_at_the_wrong_port_is_told_with_the_right_one(
    start_slapd: StartSlapd, make_certificate: Callable[..., tuple[Path, Path]], authority_file: Path
) -> None:
    """TLS at the plain port, and plain LDAP, with StartTLS or without, at the port of TLS."""
    slapd = start_slapd(certificate=make_certificate())
    error = await refusal(ServerAddress("ldaps", "127.0.0.1", slapd.port), authority_file)
    assert error.detail == "the server closed the connection when TLS was begun"
    assert error.remedy.startswith(USE_TLS_PORT)
    for start_tls in (True, False):
        error = await refusal(ServerAddress("ldap", "127.0.0.1", slapd.tls_port, start_tls), authority_file)
        assert (error.detail, error.remedy) == ("the server closed the connection without a word", USE_LDAPS)


@pytest.mark.slapd
async def test_openldap_that_wants_a_client_certificate_is_told(
    start_slapd: StartSlapd, make_certificate: Callable[..., tuple[Path, Path]], authority_file: Path
) -> None:
    """It hangs up after TLS was begun and says nothing of why."""
    slapd = start_slapd(certificate=make_certificate(), overlays="TLSVerifyClient demand\n")
    for server in (
        ServerAddress("ldaps", "127.0.0.1", slapd.tls_port),
        ServerAddress("ldap", "127.0.0.1", slapd.port, start_tls=True),
    ):
        error = await refusal(server, authority_file)
        assert error.detail == "the server closed the connection without a word"
        assert error.remedy == (
            "It may want a client certificate: name a certificate that the server takes in "
            "tls.client_certificate_file, with its tls.client_key_file."
        )


@pytest.mark.slapd
async def test_openldap_that_wants_a_client_certificate_by_tls_1_2_is_told(
    start_slapd: StartSlapd, make_certificate: Callable[..., tuple[Path, Path]], authority_file: Path
) -> None:
    """It hangs up in the middle of the handshake, as a server without a certificate does."""
    settings = "TLSVerifyClient demand\nTLSCipherSuite NORMAL:-VERS-TLS1.3\n"
    slapd = start_slapd(certificate=make_certificate(), overlays=settings)
    for server in (
        ServerAddress("ldaps", "127.0.0.1", slapd.tls_port),
        ServerAddress("ldap", "127.0.0.1", slapd.port, start_tls=True),
    ):
        error = await refusal(server, authority_file)
        assert error.detail == "the server closed the connection when TLS was begun"
        assert error.remedy.endswith(
            "The server may lack a certificate or its key, or want a client certificate that it takes "
            "(tls.client_certificate_file); its own log says more."
        )


@pytest.mark.slapd
async def test_openldap_without_a_certificate_is_told(start_slapd: StartSlapd, authority_file: Path) -> None:
    """It doesn't know StartTLS then."""
    error = await refusal(ServerAddress("ldap", "127.0.0.1", start_slapd().port, start_tls=True), authority_file)
    assert error.code == "directory_refused"
    assert error.full_detail == "StartTLS was refused: protocolError (2), unsupported extended operation"
    assert error.remedy == "The server offers no StartTLS: give it a certificate, or use an ldaps:// address."


@pytest.mark.samba
async def test_samba_at_the_wrong_port_is_told_with_the_right_one(samba: Samba, authority_file: Path) -> None:
    """It resets the connection."""
    error = await refusal(ServerAddress("ldaps", samba.address, 389), authority_file)
    assert error.detail == "the server closed the connection when TLS was begun"
    assert error.remedy == f"{USE_TLS_PORT}ports such as 389."
    error = await refusal(ServerAddress("ldap", samba.address, 636, start_tls=True), authority_file)
    assert error.remedy == USE_LDAPS
