"""Certificates in every state in which an administrator meets them: by whom, for whom, until when, how strong."""

from __future__ import annotations

import ipaddress
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.slapd import require

NOW = datetime.now(UTC).replace(microsecond=0)
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Key

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        return self.certificate.fingerprint(hashes.SHA256()).hex().upper()

    def write(self, folder: Path, *chain: Issued) -> tuple[Path, Path]:
        """The files of the certificate, with others after it, and of the key."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "cert.pem").write_bytes(b"".join(each.pem for each in (self, *chain)))
        pem = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (folder / "key.pem").write_bytes(pem)
        return folder / "cert.pem", folder / "key.pem"


def issue(
    name: str,
    signed_by: Issued | None = None,
    *,
    names: Sequence[str] = ("127.0.0.1",),
    is_authority: bool = False,
    days: tuple[float, float] = (-1, 30),
    bits: int = 0,
    usage: str | None = None,
    path_length: int | None = None,
    permitted: str | None = None,
    key: Key | None = None,
) -> Issued:
    """A certificate: `bits` of RSA, or of an elliptic curve where it is 0; signed by itself without `signed_by`."""
    key = key or (rsa.generate_private_key(65537, bits) if bits else ec.generate_private_key(ec.SECP256R1()))
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    signer = signed_by.key if signed_by is not None else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signed_by.certificate.subject if signed_by is not None else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW + timedelta(days=days[0]))
        .not_valid_after(NOW + timedelta(days=days[1]))
        .add_extension(x509.BasicConstraints(is_authority, path_length if is_authority else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    if is_authority:
        usages = {name: name in ("key_cert_sign", "crl_sign") for name in _KEY_USAGES}
        builder = builder.add_extension(x509.KeyUsage(**usages), critical=True)
    elif names:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
    if usage is not None:
        builder = builder.add_extension(x509.ExtendedKeyUsage([getattr(ExtendedKeyUsageOID, usage)]), critical=False)
    if permitted is not None:
        constraint = x509.NameConstraints([x509.DNSName(permitted)], None)
        builder = builder.add_extension(constraint, critical=True)
    return Issued(builder.sign(signer, hashes.SHA256()), key)


def sign_with_sha1(made: Issued, signed_by: Issued) -> Issued:
    """The same certificate with a signature of RSA by SHA-1, which `cryptography` doesn't make any more."""
    sha256, sha1 = (bytes.fromhex(f"2a864886f70d0101{last}") for last in ("0b", "05"))  # RFC 8017 A.2.4
    assert isinstance(signed_by.key, rsa.RSAPrivateKey)
    size = signed_by.key.key_size // 8
    signed = made.certificate.tbs_certificate_bytes.replace(sha256, sha1)
    whole = made.certificate.public_bytes(Encoding.DER).replace(sha256, sha1)
    with TemporaryDirectory() as folder:
        _, key = signed_by.write(Path(folder))
        command = [require("openssl"), "dgst", "-sha1", "-sign", str(key)]
        signature = subprocess.run(command, input=signed, check=True, capture_output=True).stdout
    return Issued(x509.load_der_x509_certificate(whole[:-size] + signature), made.key)


_KEY_USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
