"""Files of certificates and keys: those that work, and the exact words for those that don't."""

from __future__ import annotations

import shlex
import ssl
import subprocess
from pathlib import Path

import pytest

from bridge.certificates.contexts import (
    CertificateError,
    check_authorities,
    client_context,
    listener_context,
    load_chain,
)
from tests.support.slapd import require

_MAKE = """\
openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 30 -subj /CN=x
openssl req -x509 -newkey rsa:2048 -nodes -keyout key2.pem -out cert2.pem -days 30 -subj /CN=y
openssl req -x509 -newkey rsa:1024 -nodes -keyout weakkey.pem -out weak.pem -days 30 -subj /CN=x
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout eckey.pem -out ec.pem -days 30 -subj /CN=x
openssl req -new -key key.pem -subj /CN=x -out request.pem
openssl req -in request.pem -outform DER -out request.der
openssl x509 -in cert.pem -outform DER -out 'my ca.crt'
openssl x509 -in cert.pem -outform DER -out der.pem
openssl pkcs12 -export -in cert.pem -inkey key.pem -passout pass: -out both.p12
openssl crl2pkcs7 -nocrl -certfile cert.pem -out chain.p7b
openssl crl2pkcs7 -nocrl -certfile cert.pem -outform DER -out chain.p7c
openssl pkey -in key.pem -outform DER -out key.der
openssl rsa -in key.pem -traditional -outform DER -out rsa.der
openssl ec -in eckey.pem -outform DER -out ec.der
openssl pkey -in key.pem -aes256 -passout pass:x -out encrypted.pem
openssl rsa -in key.pem -aes256 -traditional -passout pass:x -out old.pem
openssl pkcs8 -topk8 -in key.pem -passout pass:x -outform DER -out encrypted.der
openssl pkey -in key.pem -pubout -out public.pem
ssh-keygen -q -t rsa -N '' -f ssh
iconv -t UTF-16 cert.pem > utf16.crt
iconv -t UTF-16LE cert.pem > utf16le.crt
iconv -t UTF-16 key.pem > utf16.key
(printf '\\357\\273\\277'; cat cert.pem) > bom.pem
: > empty.pem
head -c 500 cert.pem > cut.pem
sed 5s/[a-z]/!/g cert.pem > bad.pem
sed 5,9d key.pem > badkey.pem
cat cert.pem bad.pem > two.pem
cat cert2.pem cert.pem > order.pem
cat cert.pem key.pem > all.pem
grep -v -- ---- cert.pem > base64.txt
echo '<html>404</html>' > page.html
printf '\\376\\355\\376\\355\\0\\0\\0\\2' > trust.jks
sed 's/^/  /' cert.pem > indented.pem
sed 's/^/\\t/' key.pem > indented.key
printf -- '-----BEGIN X509 CRL-----\\nAA==\\n-----END X509 CRL-----\\n' > revoked.crl
mkdir folder
"""
READ = "let the service's user read the file"
NO_KEY = "holds a private key and no certificate; name the file with the certificate"
REQUEST = "holds a request for a certificate; name the certificate that the authority has made of it"
SERVICE = "and let the service's user read it"

AUTHORITIES = {
    "my ca.crt": "is a certificate in DER, not in PEM; run: openssl x509 -inform DER -in 'my ca.crt' -out 'my ca.pem'",
    "der.pem": "is a certificate in DER, not in PEM; run: openssl x509 -inform DER -in der.pem -out der-new.pem",
    "both.p12": "is a PKCS#12 file, not PEM; run: openssl pkcs12 -in both.p12 -nokeys -out both.pem",
    "chain.p7b": "is a PKCS#7 file, not a PEM certificate; run: openssl pkcs7 -print_certs -in chain.p7b -out chain.pem",
    "chain.p7c": "is a PKCS#7 file, not PEM; run: openssl pkcs7 -inform DER -print_certs -in chain.p7c -out chain.pem",
    "trust.jks": "is a key store of Java, not PEM; run: keytool -importkeystore -srckeystore trust.jks -destkeystore "
    "trust.p12 -deststoretype PKCS12, and make PEM of that by openssl pkcs12",
    "key.pem": NO_KEY,
    "key.der": NO_KEY,
    "encrypted.der": NO_KEY,
    "request.pem": REQUEST,
    "request.der": REQUEST,
    "utf16.crt": "is text in UTF-16, not in ASCII; run: iconv -f UTF-16 -t ASCII utf16.crt > utf16.pem",
    "utf16le.crt": "is text in UTF-16, not in ASCII; run: iconv -f UTF-16 -t ASCII utf16le.crt > utf16le.pem",
    "bom.pem": r"begins with a byte order mark, which hides its first line; run: sed -i '1s/^\xEF\xBB\xBF//' bom.pem",
    "empty.pem": "is empty; write the certificate in PEM into it",
    "cut.pem": "is damaged: it has no -----END CERTIFICATE----- line for each that begins; copy it again",
    "bad.pem": "is damaged: its certificate can't be read; copy it again",
    "two.pem": "is damaged: certificate number 2 can't be read; copy it again",
    "base64.txt": "lacks the lines around its base64; put -----BEGIN CERTIFICATE----- and -----END CERTIFICATE----- "
    "there",
    "page.html": "holds no certificate; it must begin with -----BEGIN CERTIFICATE-----",
    "indented.pem": "has blanks before its lines; run: sed -i 's/^[[:blank:]]*//' indented.pem",
    "revoked.crl": "holds a list of revoked certificates and no certificate; name the file with the certificate",
    "folder": f"can't be read: Is a directory; {READ}",
    "missing.pem": f"can't be read: No such file or directory; {READ}",
}
FITS_NOT = (
    "is not the key of the first certificate in {}; put the certificate that was made for the key first, and those of "
    "authorities after it"
)
CHAINS = {
    ("cert.pem", "key2.pem"): ("key_file", FITS_NOT.format("cert.pem")),
    ("cert.pem", "eckey.pem"): ("key_file", FITS_NOT.format("cert.pem")),
    ("order.pem", "key.pem"): ("key_file", FITS_NOT.format("order.pem")),
    ("key.pem", "cert.pem"): ("certificate_file", "holds the private key, and cert.pem the certificate; swap the two"),
    ("both.p12", "key.pem"): ("certificate_file", AUTHORITIES["both.p12"]),
    ("two.pem", "key.pem"): ("certificate_file", AUTHORITIES["two.pem"]),
    ("weak.pem", "weakkey.pem"): (
        "certificate_file",
        "has a key that is too short for TLS on this system (RSA needs 2048 bits); have the authority make a new one",
    ),
    ("cert.pem", "cert.pem"): ("key_file", "holds a certificate and no private key; name the file with the key"),
    ("cert.pem", "empty.pem"): ("key_file", "is empty; write the key in PEM into it"),
    ("cert.pem", "missing.pem"): ("key_file", f"can't be read: No such file or directory; {READ}"),
    ("cert.pem", "key.der"): (
        "key_file",
        (
            "is a private key in DER, not in PEM; "
            f"run: (umask 077; openssl pkey -inform DER -in key.der -out key.pem), {SERVICE}"
        ),
    ),
    ("cert.pem", "rsa.der"): (
        "key_file",
        (
            "is a private key in DER, not in PEM; "
            f"run: (umask 077; openssl pkey -inform DER -in rsa.der -out rsa-key.pem), {SERVICE}"
        ),
    ),
    ("cert.pem", "ec.der"): (
        "key_file",
        f"is a private key in DER, not in PEM; run: (umask 077; openssl pkey -inform DER -in ec.der -out ec-key.pem), {SERVICE}",
    ),
    ("cert.pem", "encrypted.pem"): (
        "key_file",
        (
            "is encrypted with a pass phrase, which nobody can type here; "
            f"run: (umask 077; openssl pkey -in encrypted.pem -out encrypted-key.pem), {SERVICE}"
        ),
    ),
    ("cert.pem", "old.pem"): (
        "key_file",
        (
            "is encrypted with a pass phrase, which nobody can type here; "
            f"run: (umask 077; openssl pkey -in old.pem -out old-key.pem), {SERVICE}"
        ),
    ),
    ("cert.pem", "encrypted.der"): (
        "key_file",
        (
            "is an encrypted key in DER, not in PEM; "
            f"run: (umask 077; openssl pkey -inform DER -in encrypted.der -out encrypted-key.pem), {SERVICE}"
        ),
    ),
    ("cert.pem", "both.p12"): (
        "key_file",
        f"is a PKCS#12 file, not PEM; run: (umask 077; openssl pkcs12 -in both.p12 -nocerts -nodes -out both-key.pem), {SERVICE}",
    ),
    ("cert.pem", "utf16.key"): (
        "key_file",
        "is text in UTF-16, not in ASCII; run: (umask 077; iconv -f UTF-16 -t ASCII utf16.key > utf16.pem)",
    ),
    ("cert.pem", "indented.key"): (
        "key_file",
        "has blanks before its lines; run: sed -i 's/^[[:blank:]]*//' indented.key",
    ),
    ("cert.pem", "public.pem"): ("key_file", "holds a public key; name the file with the private key"),
    ("cert.pem", "ssh"): (
        "key_file",
        "is a key of OpenSSH, not in PEM; on a copy of it, run: ssh-keygen -p -m PEM -f ssh",
    ),
    ("cert.pem", "badkey.pem"): (
        "key_file",
        "holds a private key that can't be read; copy it again, or check it: openssl pkey -noout -in badkey.pem",
    ),
    ("cert.pem", "page.html"): ("key_file", "holds no private key; it must begin with -----BEGIN PRIVATE KEY-----"),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with certificates and keys in every form in which they are handed over."""
    folder = tmp_path_factory.mktemp("forms")
    for program in ("openssl", "ssh-keygen", "iconv"):
        require(program)
    subprocess.run(["sh", "-ec", _MAKE], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture(autouse=True)
def here(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """That folder is the current one."""
    monkeypatch.chdir(made)


def test_files_in_order_are_taken() -> None:
    """The twin of each fault: PEM, in one file or in two, with more certificates or without."""
    assert client_context("cert.pem").verify_mode is ssl.CERT_REQUIRED
    assert client_context(None, "cert.pem", "key.pem", minimum_version="1.3").minimum_version is ssl.TLSVersion.TLSv1_3
    listener_context("all.pem", "all.pem")
    listener_context("ec.pem", "eckey.pem")
    check_authorities("order.pem")


@pytest.mark.parametrize(("file", "sentence"), AUTHORITIES.items())
def test_authorities_that_are_no_pem_are_named_with_what_to_do(file: str, sentence: str) -> None:
    """The file, what it holds, and the command that makes PEM of it."""
    with pytest.raises(CertificateError) as caught:
        client_context(file)
    assert (caught.value.key, str(caught.value)) == ("ca_file", f"{file} {sentence}")


@pytest.mark.parametrize(("files", "expected"), CHAINS.items(), ids=lambda found: found[1])
def test_chain_that_cannot_be_shown_is_told_by_the_file_at_fault(
    files: tuple[str, str], expected: tuple[str, str]
) -> None:
    """The same for what the bridge shows itself, as a client and as a server; nothing asks for a pass phrase."""
    key, sentence = expected
    file = files[0] if key == "certificate_file" else files[1]
    for attempt in (lambda: listener_context(*files), lambda: client_context("cert.pem", *files)):
        with pytest.raises(CertificateError) as caught:
            attempt()
        assert (caught.value.key, str(caught.value)) == (key, f"{file} {sentence}")


@pytest.mark.parametrize("file", ["my ca.crt", "der.pem", "both.p12", "chain.p7b", "chain.p7c", "utf16.crt"])
def test_command_in_the_message_makes_a_file_that_is_taken(file: str) -> None:
    """Whoever types what the message says has what is needed."""
    with pytest.raises(CertificateError, match="run: ") as caught:
        check_authorities(file)
    command = str(caught.value).split("; run: ")[1]
    subprocess.run(["sh", "-ec", command.replace("pkcs12 ", "pkcs12 -passin pass: ")], check=True, capture_output=True)
    check_authorities(shlex.split(command)[-1])


def test_chain_that_cannot_be_loaded_leaves_the_old_one(tmp_path: Path) -> None:
    """A context in use isn't half changed."""
    context = listener_context("cert.pem", "key.pem")
    with pytest.raises(CertificateError):
        load_chain(context, "cert2.pem", "key.pem")
    client, server = client_context("cert.pem"), ssl.MemoryBIO()
    client.check_hostname = False
    to_server = ssl.MemoryBIO()
    one, other = client.wrap_bio(server, to_server), context.wrap_bio(to_server, server, server_side=True)
    for _ in range(3):
        for side in (one, other):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    assert one.getpeercert() is not None
