"""The words for what keeps a connection from being opened: certificates, TLS, ports, names. Each row is a set-up."""

from __future__ import annotations

import socket
import ssl
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import pytest

from bridge.certificates.contexts import client_context
from bridge.errors import BridgeError
from bridge.ldap.settings import LdapSettings, ServerAddress
from bridge.ldap.transport import open_connection
from bridge.model import Secret
from tests.support.authorities import NOW, Issued, issue, sign_with_sha1
from tests.support.tls_server import Handler, listening, says, speaks_tls, stays_silent

ROOT = issue("Example Root", is_authority=True)
SAME_NAME = issue("Example Root", is_authority=True)
OTHER_ROOT = issue("Other Root", is_authority=True)
BELOW = issue("Example Issuing", ROOT, is_authority=True)
OLD_BELOW = issue("Example Issuing", ROOT, is_authority=True, days=(-30, -1), key=BELOW.key)
OLD_ROOT = issue("Example Root", is_authority=True, days=(-30, -1), key=ROOT.key)
WEAK_ROOT = issue("Weak Root", is_authority=True, bits=1024)
RSA_ROOT = issue("RSA Root", is_authority=True, bits=2048)
SHA1_BELOW = sign_with_sha1(issue("Example Issuing", RSA_ROOT, is_authority=True, key=BELOW.key), RSA_ROOT)
NO_AUTHORITY = issue("a.example", ROOT, names=["a.example"])
FLAT = issue("Flat Root", is_authority=True, path_length=0)
BELOW_FLAT = issue("Deep Issuing", FLAT, is_authority=True)
BOUND = issue("Bound Issuing", ROOT, is_authority=True, permitted="example.org")
CLIENTS = issue("Client Issuing", ROOT, is_authority=True, usage="CLIENT_AUTH")
GOOD = issue("good", ROOT)
SELF_SIGNED = issue("Made By Itself")

YESTERDAY = f"{NOW - timedelta(days=1):%Y-%m-%d %H:%M:%S} UTC"
TOMORROW = f"{NOW + timedelta(days=1):%Y-%m-%d %H:%M:%S} UTC"
ABOUT_NAMES = "Use a name in `servers` that stands in the certificate, or have the certificate made out to this one."
NOT_TRUSTED = "the server's certificate is not trusted: "
FETCH = "into `tls.ca_file`; get it from there, not from this connection."
USE_TLS_PORT = (
    "ldaps:// needs a port that speaks TLS from the first byte, such as 636; ldap:// with StartTLS is for ports such "
    "as 389."
)
USE_LDAPS = "A port that speaks TLS from the first byte, such as 636, needs ldaps:// instead of ldap://."
HUNG_UP = (
    "The server may lack a certificate or its key, or want a client certificate that it takes "
    "(tls.client_certificate_file); its own log says more."
)
NOTHING_IN_COMMON = (
    "Let the server take the ciphers that OpenSSL calls DEFAULT, or show it a certificate that it takes "
    "(tls.client_certificate_file); its own log says more."
)
SHOW = "Name a certificate that the server takes in tls.client_certificate_file, with its tls.client_key_file."


@dataclass(frozen=True)
class SetUp:
    """What a server sends and what the bridge trusts, and the exact words for that; `CA` stands for the file."""

    own: Issued
    detail: str
    remedy: str
    chain: Sequence[Issued] = ()
    trusted: Sequence[Issued] = (ROOT,)


CERTIFICATES = {
    "expired": SetUp(
        issue("old", ROOT, days=(-30, -1)),
        f"the server's certificate has expired: it was good until {YESTERDAY}",
        "Renew it on the server.",
    ),
    "authority sent that has expired": SetUp(
        issue("x", BELOW),
        f"the certificate of the authority CN=Example Issuing has expired: it was good until {YESTERDAY}",
        "Renew it on the server.",
        chain=(OLD_BELOW,),
    ),
    "authority in the file that has expired": SetUp(
        issue("x", OLD_ROOT),
        f"the certificate of the authority CN=Example Root in CA has expired: it was good until {YESTERDAY}",
        "Renew it in CA.",
        trusted=(OLD_ROOT,),
    ),
    "not yet valid": SetUp(
        issue("new", ROOT, days=(1, 30)),
        f"the server's certificate is not valid yet: it is good from {TOMORROW}",
        "Check the clocks of both machines.",
    ),
    "other names": SetUp(
        issue("x", ROOT, names=["a.example", "*.b.example", "192.0.2.1"]),
        "the server's certificate is not made out to 127.0.0.1, but to a.example, *.b.example, 192.0.2.1",
        ABOUT_NAMES,
    ),
    "many other names": SetUp(
        issue("x", ROOT, names=[f"h{number}.example" for number in range(8)]),
        "the server's certificate is not made out to 127.0.0.1, but to "
        "h0.example, h1.example, h2.example, h3.example, h4.example and 3 more",
        ABOUT_NAMES,
    ),
    "no names": SetUp(
        issue("ldap.example.com", ROOT, names=()),
        "the server's certificate is not made out to 127.0.0.1: it names no host (subjectAltName), and its subject is "
        "CN=ldap.example.com",
        "Have the certificate made out to 127.0.0.1 as a subjectAltName.",
    ),
    "signed by itself": SetUp(
        SELF_SIGNED,
        f"{NOT_TRUSTED}it is signed by itself, and is not among the authorities of CA (CN=Example Root)",
        "Name a file with this very certificate in `tls.ca_file`, or its fingerprint in `tls.fingerprint_sha256`, once "
        f"you have compared it on the server: SHA-256 {SELF_SIGNED.fingerprint}.",
    ),
    "intermediate missing": SetUp(
        issue("x", BELOW),
        f"{NOT_TRUSTED}CN=Example Issuing signed it, which is not among the authorities of CA (CN=Example Root), and "
        "the server sends no certificate of it",
        "If CN=Example Issuing is an authority below another one, have the server send its certificate after its own; "
        "otherwise put the certificate of CN=Example Issuing into `tls.ca_file`.",
    ),
    "wrong intermediate sent": SetUp(
        issue("x", BELOW),
        f"{NOT_TRUSTED}CN=Example Issuing signed it, which is not among the authorities of CA (CN=Example Root), and "
        "the server sends no certificate of it",
        "If CN=Example Issuing is an authority below another one, have the server send its certificate after its own; "
        "otherwise put the certificate of CN=Example Issuing into `tls.ca_file`.",
        chain=(BOUND,),
    ),
    "another authority, with its chain": SetUp(
        issue("x", BELOW),
        f"{NOT_TRUSTED}what the server sends ends with CN=Example Issuing, signed by CN=Example Root, which is not "
        "among the authorities of CA (CN=Other Root)",
        f"Put the certificate of CN=Example Root {FETCH}",
        chain=(BELOW,),
        trusted=(OTHER_ROOT,),
    ),
    "another authority, with its root": SetUp(
        issue("x", BELOW),
        f"{NOT_TRUSTED}its authority CN=Example Root is not among the authorities of CA (CN=Other Root)",
        f"Put the certificate of CN=Example Root {FETCH}",
        chain=(BELOW, ROOT),
        trusted=(OTHER_ROOT,),
    ),
    "another authority of that name": SetUp(
        GOOD,
        f"{NOT_TRUSTED}CA holds another certificate of the name CN=Example Root, whose key has not signed what the "
        "server sends",
        "Put the certificate of CN=Example Root into `tls.ca_file` that is in use now.",
        trusted=(SAME_NAME,),
    ),
    "certificate of another server as authority": SetUp(
        GOOD,
        f"{NOT_TRUSTED}CA holds no authority, but the certificate of CN=a.example",
        f"Put the certificate of CN=Example Root {FETCH}",
        trusted=(NO_AUTHORITY,),
    ),
    "authority without CA:TRUE": SetUp(
        issue("x", NO_AUTHORITY),
        f"{NOT_TRUSTED}the certificate of the authority CN=a.example is none of an authority (basicConstraints has no "
        "CA:TRUE)",
        "Have CN=a.example made anew as an authority, with basicConstraints CA:TRUE.",
        chain=(NO_AUTHORITY,),
    ),
    "too many authorities": SetUp(
        issue("x", issue("Deeper", BELOW_FLAT, is_authority=True, key=BELOW.key)),
        f"{NOT_TRUSTED}an authority above it may have no authorities below itself (pathlen)",
        "Have the certificate made by the authority itself, or the authority made anew.",
        chain=(issue("Deeper", BELOW_FLAT, is_authority=True, key=BELOW.key), BELOW_FLAT),
        trusted=(FLAT,),
    ),
    "for clients": SetUp(
        issue("x", ROOT, usage="CLIENT_AUTH"),
        "the server's certificate is not made for servers: it is for clientAuth",
        "Have it made anew, with extendedKeyUsage serverAuth.",
    ),
    "authority for clients": SetUp(
        issue("x", CLIENTS),
        "the certificate of the authority CN=Client Issuing is not made for servers: it is for clientAuth",
        "Have it made anew, with extendedKeyUsage serverAuth.",
        chain=(CLIENTS,),
    ),
    "weak key": SetUp(
        issue("x", ROOT, bits=1024),
        "the server's certificate has a key that is too short: RSA, 1024 bits",
        "Have it made anew with a longer key; RSA needs 2048 bits.",
    ),
    "authority with a weak key": SetUp(
        issue("x", WEAK_ROOT),
        "the certificate of the authority CN=Weak Root in CA has a key that is too short: RSA, 1024 bits",
        "Have it made anew with a longer key; RSA needs 2048 bits.",
        trusted=(WEAK_ROOT,),
    ),
    "signed with SHA-1": SetUp(
        sign_with_sha1(issue("x", RSA_ROOT), RSA_ROOT),
        "the server's certificate is signed with SHA-1, which is no longer safe",
        "Have it signed anew with SHA-256.",
        trusted=(RSA_ROOT,),
    ),
    "authority signed with SHA-1": SetUp(
        issue("x", BELOW),
        "the certificate of the authority CN=Example Issuing is signed with SHA-1, which is no longer safe",
        "Have it signed anew with SHA-256.",
        chain=(SHA1_BELOW,),
        trusted=(RSA_ROOT,),
    ),
    "outside of the authority's names": SetUp(
        issue("x", BOUND, names=["127.0.0.1", "ldap.example.com"]),
        f"{NOT_TRUSTED}CN=Bound Issuing may not sign for ldap.example.com, 127.0.0.1 (nameConstraints)",
        "Have the certificate made by an authority that may sign for this name.",
        chain=(BOUND,),
    ),
}


def write_authorities(folder: Path, trusted: Sequence[Issued]) -> Path:
    file = folder / "ca.pem"
    file.write_bytes(b"".join(each.pem for each in trusted))
    return file


def server_context(folder: Path, own: Issued = GOOD, *chain: Issued) -> ssl.SSLContext:
    """A context that serves whatever it is given, be it weak."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.load_cert_chain(*own.write(folder / "server", *chain))
    return context


async def refusal(settings: LdapSettings, server: ServerAddress, *, bind: bool = False) -> BridgeError:
    """The error of an attempt to connect, or to bind on the connection."""
    try:
        connection = await open_connection(settings, server)
    except BridgeError as error:
        return error
    assert bind, "connected"
    with pytest.raises(BridgeError) as caught:
        await connection.bind("cn=x", Secret(b"x"))
    connection.abort()
    return caught.value


@pytest.mark.parametrize("scheme", ["ldaps", "starttls"])
@pytest.mark.parametrize("name", CERTIFICATES)
async def test_certificate_that_is_not_trusted_is_told_with_its_remedy(name: str, scheme: str, tmp_path: Path) -> None:
    """What is wrong, with which certificate, and what to do, for TLS at once and by StartTLS."""
    made, is_plain = CERTIFICATES[name], scheme == "starttls"
    ca_file = write_authorities(tmp_path, made.trusted)
    context = server_context(tmp_path, made.own, *made.chain)
    async with listening(speaks_tls(context, after_start_tls=is_plain)) as port:
        server = ServerAddress("ldap" if is_plain else "ldaps", "127.0.0.1", port, is_plain)
        tls = client_context(str(ca_file))
        error = await refusal(LdapSettings("d", (server,), tls=tls, ca_file=str(ca_file)), server)
    assert (error.code, error.detail.replace(str(ca_file), "CA"), error.remedy.replace(str(ca_file), "CA")) == (
        "directory_unavailable",
        made.detail,
        made.remedy,
    )


@pytest.mark.parametrize("is_plain", [False, True])
async def test_certificate_in_order_is_taken(is_plain: bool, tmp_path: Path) -> None:
    """The twin of every row: with a root, with an authority between, and the server's own where it signs itself."""
    for own, chain, trusted in ((GOOD, (), ROOT), (issue("x", BELOW), (BELOW,), ROOT), (SELF_SIGNED, (), SELF_SIGNED)):
        tls = client_context(str(write_authorities(tmp_path, (trusted,))))
        context = server_context(tmp_path, own, *chain)
        async with listening(speaks_tls(context, after_start_tls=is_plain)) as port:
            server = ServerAddress("ldap" if is_plain else "ldaps", "127.0.0.1", port, is_plain)
            (await open_connection(LdapSettings("d", (server,), tls=tls), server)).abort()


@pytest.mark.skipif(
    bool(ssl.create_default_context().verify_flags & ssl.VerifyFlags.VERIFY_X509_PARTIAL_CHAIN),
    reason="Python 3.13 and newer take any certificate of the file for the end of a chain",
)
async def test_own_certificate_given_as_authority_is_told(tmp_path: Path) -> None:
    """Whoever put the server's certificate there learns whose it must be."""
    ca_file = write_authorities(tmp_path, (GOOD,))
    async with listening(speaks_tls(server_context(tmp_path))) as port:
        server = ServerAddress("ldaps", "127.0.0.1", port)
        tls = client_context(str(ca_file))
        error = await refusal(LdapSettings("d", (server,), tls=tls, ca_file=str(ca_file)), server)
    assert error.detail == (
        f"{NOT_TRUSTED}{ca_file} holds this certificate itself, not that of CN=Example Root, which signed it"
    )
    assert error.remedy == "Put the certificate of CN=Example Root into `tls.ca_file`."


async def test_certificate_is_told_by_the_code_alone_where_the_server_shows_it_once(tmp_path: Path) -> None:
    """A second look may fail, and must not change who is trusted."""
    ca_file = write_authorities(tmp_path, (ROOT,))
    context, seen = server_context(tmp_path, issue("x", BELOW)), []

    def once(connection: socket.socket) -> None:
        seen.append(connection)
        if len(seen) == 1:
            speaks_tls(context)(connection)

    async with listening(once) as port:
        server = ServerAddress("ldaps", "127.0.0.1", port)
        tls = client_context(str(ca_file))
        error = await refusal(LdapSettings("d", (server,), tls=tls, ca_file=str(ca_file)), server)
    assert error.detail == (f"{NOT_TRUSTED}who signed it is not among the authorities of {ca_file} (CN=Example Root)")
    assert len(seen) == 2


@dataclass(frozen=True)
class Answering:
    """Who answers, how it is spoken to, and the exact words; `PORT` stands for the port."""

    make: Callable[[Path], Handler]
    scheme: str
    detail: str
    remedy: str
    kind: str = "directory_unavailable"
    bind: bool = False
    said: str | None = None
    """Its own words, which are kept apart; None where they are not looked at."""
    options: dict[str, object] = field(default_factory=dict)


def with_versions(
    lowest: ssl.TLSVersion, highest: ssl.TLSVersion, ciphers: str = "ALL:@SECLEVEL=0"
) -> Callable[[Path], Handler]:
    def make(folder: Path) -> Handler:
        context = server_context(folder)
        context.set_ciphers(ciphers)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version, context.maximum_version = lowest, highest
        return speaks_tls(context)

    return make


def wants_certificate(version: ssl.TLSVersion, trusted: Issued = ROOT) -> Callable[[Path], Handler]:
    def make(folder: Path) -> Handler:
        context = server_context(folder)
        context.minimum_version = context.maximum_version = version
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cadata=trusted.pem.decode())
        return speaks_tls(context)

    return make


def plain(handler: Handler) -> Callable[[Path], Handler]:
    return lambda _folder: handler


V1, V1_1, V1_2, V1_3 = (getattr(ssl.TLSVersion, name) for name in ("TLSv1", "TLSv1_1", "TLSv1_2", "TLSv1_3"))
HTTP = says(b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n")
SSH = says(b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", first=True)
HANGS_UP = says(b"")
NO_LDAP = "what answers there is no LDAP server"
NO_TLS = "what answers at port PORT does not speak TLS"
CLOSED = "the server closed the connection when TLS was begun"
NO_CERTIFICATE_SHOWN = "the server wants a client certificate, and was shown none"
REFUSED = {2: "300c02010178070a010204000400", 52: "300c02010178070a013404000400", 53: "300c02010178070a013504000400"}

ANSWERING = {
    "ldaps, and HTTP answers": Answering(plain(HTTP), "ldaps", NO_TLS, USE_TLS_PORT),
    "ldaps, and SSH answers": Answering(plain(SSH), "ldaps", NO_TLS, USE_TLS_PORT),
    "ldaps, and LDAP answers": Answering(plain(says(bytes.fromhex(REFUSED[2]))), "ldaps", NO_TLS, USE_TLS_PORT),
    "ldaps, and it hangs up": Answering(plain(HANGS_UP), "ldaps", CLOSED, f"{USE_TLS_PORT} {HUNG_UP}"),
    "ldaps, and it is silent": Answering(
        plain(stays_silent), "ldaps", "connected, but TLS was not agreed upon within 0.5 s", USE_TLS_PORT
    ),
    "starttls, and HTTP answers": Answering(
        plain(HTTP),
        "starttls",
        NO_LDAP,
        "Check the port in `servers`.",
        said='it says "HTTP/1.1 400 Bad Request"',
    ),
    "starttls, and SSH answers": Answering(
        plain(SSH),
        "starttls",
        NO_LDAP,
        "Check the port in `servers`.",
        said='it says "SSH-2.0-OpenSSH_9.2p1 Debian-2"',
    ),
    "starttls at a port of TLS, with an alert": Answering(
        plain(says(bytes.fromhex("15030300020246"))),
        "starttls",
        "the server answers in TLS where plain LDAP was spoken",
        USE_LDAPS,
    ),
    "plain at a port of TLS": Answering(
        lambda folder: speaks_tls(server_context(folder)),
        "ldap",
        "the server closed the connection without a word",
        USE_LDAPS,
        bind=True,
    ),
    "starttls at a port of TLS": Answering(
        lambda folder: speaks_tls(server_context(folder)),
        "starttls",
        "the server closed the connection without a word",
        USE_LDAPS,
    ),
    "starttls, and it hangs up": Answering(
        plain(HANGS_UP), "starttls", "the server closed the connection without a word", USE_LDAPS
    ),
    "starttls, and it is silent": Answering(
        plain(stays_silent), "starttls", "connected, but StartTLS was not answered within 0.5 s", USE_LDAPS
    ),
    "starttls is not known": Answering(
        plain(says(bytes.fromhex(REFUSED[2]))),
        "starttls",
        "StartTLS was refused: protocolError (2)",
        "The server offers no StartTLS: give it a certificate, or use an ldaps:// address.",
        kind="directory_refused",
    ),
    "starttls is not available": Answering(
        plain(says(bytes.fromhex(REFUSED[52]))),
        "starttls",
        "StartTLS was refused: unavailable (52)",
        "The server may lack a certificate or its key; its own log says more.",
    ),
    "starttls is not wanted": Answering(
        plain(says(bytes.fromhex(REFUSED[53]))),
        "starttls",
        "StartTLS was refused: unwillingToPerform (53)",
        "Give the server a certificate, or use an ldaps:// address.",
        kind="directory_refused",
    ),
    "TLS 1.0 and 1.1 alone": Answering(
        with_versions(V1, V1_1),
        "ldaps",
        "the server speaks no version of TLS that is taken: it must be 1.2 or newer",
        "Have the server speak TLS 1.2.",
    ),
    "TLS 1.2 alone where 1.3 is wanted": Answering(
        with_versions(V1_2, V1_2),
        "ldaps",
        "the server speaks no version of TLS that is taken: it must be 1.3 or newer",
        'Have the server speak TLS 1.3, or set tls.minimum_version: "1.2".',
        options={"minimum_version": "1.3"},
    ),
    "no cipher in common": Answering(
        with_versions(V1_2, V1_2, "NULL-SHA256:@SECLEVEL=0"),
        "ldaps",
        "the server refuses TLS: it shares no cipher with this machine, or wants a client certificate",
        NOTHING_IN_COMMON,
    ),
    "client certificate wanted by TLS 1.3": Answering(
        wants_certificate(V1_3), "ldaps", NO_CERTIFICATE_SHOWN, SHOW, bind=True
    ),
    "client certificate wanted by TLS 1.2": Answering(
        wants_certificate(V1_2),
        "ldaps",
        "the server refuses TLS: it shares no cipher with this machine, or wants a client certificate",
        NOTHING_IN_COMMON,
    ),
    "client certificate of another authority": Answering(
        wants_certificate(V1_3, OTHER_ROOT),
        "ldaps",
        "the server does not take the bridge's certificate: its authority is not known there",
        "Check tls.client_certificate_file, and which authorities the server trusts for clients.",
        bind=True,
        options={"shows": True},
    ),
}


@pytest.mark.parametrize("name", ANSWERING)
async def test_server_that_cannot_be_spoken_to_is_told_with_its_remedy(name: str, tmp_path: Path) -> None:
    """The wrong port, the wrong protocol, the wrong version: what answers, and what to write instead."""
    made = ANSWERING[name]
    ca_file = str(write_authorities(tmp_path, (ROOT,)))
    own: tuple[str, ...] = ()
    if made.options.get("shows"):
        own = tuple(map(str, issue("bridge", ROOT, usage="CLIENT_AUTH").write(tmp_path / "client")))
    lowest = str(made.options.get("minimum_version", "1.2"))
    tls = client_context(ca_file, *own, minimum_version=lowest)
    async with listening(made.make(tmp_path)) as port:
        server = ServerAddress(made.scheme.replace("starttls", "ldap"), "127.0.0.1", port, made.scheme == "starttls")
        settings = LdapSettings(
            "d",
            (server,),
            tls=tls,
            ca_file=ca_file,
            shows_certificate=bool(own),
            minimum_tls_version=lowest,
            connect_timeout_s=0.5,
        )
        error = await refusal(settings, server, bind=made.bind)
    assert (error.code, error.detail, error.remedy) == (made.kind, made.detail.replace("PORT", str(port)), made.remedy)
    assert made.said in (None, error.diagnostic_message)


def test_table_has_twenty_set_ups_and_more() -> None:
    """As many as were promised, of each kind."""
    assert len(CERTIFICATES) >= 20
    assert len(ANSWERING) >= 20


async def test_port_without_a_server_is_told(tmp_path: Path) -> None:
    """Refused, by TCP and at a socket's path."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        server = ServerAddress("ldap", "127.0.0.1", taken.getsockname()[1])
        error = await refusal(LdapSettings("d", (server,)), server)
    assert error.detail == "the connection was refused: nothing listens there"
    missing = ServerAddress("ldapi", str(tmp_path / "ldapi"), 0)
    error = await refusal(LdapSettings("d", (missing,)), missing)
    assert error.detail == "the connection was refused: there is no such socket"
