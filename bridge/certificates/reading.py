"""What a certificate says, for messages about it (RFC 5280).

`cryptography` is loaded where something is wrong, and then alone: the service would hold ten MiB of it otherwise.
"""

from __future__ import annotations

import hashlib
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bridge.certificates.forms import certificate_blocks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from cryptography import x509

_WEAK_RSA_BITS, _WEAK_EC_BITS = 2048, 224
"""What TLS takes at OpenSSL's security level 2, which most systems have."""
_FILE_MAX_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Certificate:
    """What matters of a certificate where it was not trusted."""

    der: bytes
    subject: str
    """As it is shown: its common name, or the whole of it where there is none."""
    issuer: str
    subject_name: bytes
    """The whole of it in DER, to be compared."""
    issuer_name: bytes
    names: tuple[str, ...]
    """The hosts and addresses that it is made out to."""
    not_before: datetime
    not_after: datetime
    is_authority: bool
    key: str
    """Its kind and length, such as `RSA, 1024 bits`."""
    key_is_weak: bool
    signature_hash: str
    """In upper case, such as `SHA1`; empty where the signature has none of its own."""
    usages: tuple[str, ...]
    """What it may be used for, by the names of OpenSSL (`clientAuth`); empty for everything."""

    @property
    def is_self_signed(self) -> bool:
        """Whether it names itself as its issuer."""
        return self.subject_name == self.issuer_name

    @property
    def fingerprint(self) -> str:
        """Its SHA-256, as `openssl x509 -fingerprint -sha256` shows it."""
        return hashlib.sha256(self.der).hexdigest().upper()


def read_certificates(found: Iterable[bytes]) -> tuple[Certificate, ...]:
    """Certificates in DER, read; the first that can't be read ends them."""
    certificates = []
    for der in found:
        try:
            certificates.append(_read(der))
        except Exception:  # noqa: BLE001 - cryptography raises whatever it likes, and words alone depend on it
            break
    return tuple(certificates)


def _unreadable() -> tuple[type[Exception], ...]:
    """What cryptography raises for an extension that is missing, or departs from RFC 5280."""
    from cryptography import x509  # noqa: PLC0415 - see above

    return ValueError, x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType


def read_authorities(ca_file: str | None) -> tuple[Certificate, ...]:
    """The certificates of a file; none where it can't be read, or where there is none."""
    if ca_file is None:
        return ()
    try:
        with Path(ca_file).open("rb") as stream:
            blocks = certificate_blocks(stream.read(_FILE_MAX_BYTES))
        return read_certificates([ssl.PEM_cert_to_DER_cert(_as_certificate(block)) for block in blocks])
    except (OSError, ValueError):
        return ()


def _as_certificate(block: bytes) -> str:
    return block.decode("ascii").replace("X509 CERTIFICATE", "CERTIFICATE").strip()


def _read(der: bytes) -> Certificate:
    from cryptography import x509  # noqa: PLC0415 - see above

    found = x509.load_der_x509_certificate(der)
    key, key_is_weak = _describe_key(found)
    return Certificate(
        der=der,
        subject=_show_name(found.subject),
        issuer=_show_name(found.issuer),
        subject_name=found.subject.public_bytes(),
        issuer_name=found.issuer.public_bytes(),
        names=_names_of(found),
        not_before=found.not_valid_before_utc,
        not_after=found.not_valid_after_utc,
        is_authority=_is_authority(found),
        key=key,
        key_is_weak=key_is_weak,
        signature_hash=_hash_of(found),
        usages=_usages_of(found),
    )


def _show_name(name: x509.Name) -> str:
    from cryptography.x509.oid import NameOID  # noqa: PLC0415 - see above

    common = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    shown = f"CN={common[0].value!s}" if common else name.rfc4514_string()
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in shown[:200])


def _names_of(found: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509  # noqa: PLC0415 - see above

    try:
        extension = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except _unreadable():
        return ()
    hosts = [name for name in extension.get_values_for_type(x509.DNSName) if name.isprintable()]
    return (*hosts, *map(str, extension.get_values_for_type(x509.IPAddress)))


def _is_authority(found: x509.Certificate) -> bool:
    from cryptography import x509  # noqa: PLC0415 - see above

    try:
        return found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except _unreadable():
        return False


def _usages_of(found: x509.Certificate) -> tuple[str, ...]:
    from cryptography import x509  # noqa: PLC0415 - see above

    try:
        usages = found.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except _unreadable():
        return ()
    return tuple(usage._name if usage._name != "Unknown OID" else usage.dotted_string for usage in usages)  # noqa: SLF001


def _describe_key(found: x509.Certificate) -> tuple[str, bool]:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415 - see above

    try:
        key = found.public_key()
    except (UnsupportedAlgorithm, ValueError):
        return "of an unknown kind", False
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA, {key.key_size} bits", key.key_size < _WEAK_RSA_BITS
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"{key.curve.name}, {key.key_size} bits", key.key_size < _WEAK_EC_BITS
    return type(key).__name__, False


def _hash_of(found: x509.Certificate) -> str:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - see above

    try:
        algorithm = found.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return "unknown"
    return algorithm.name.upper() if algorithm is not None else ""
