"""TLS contexts made of files: for a directory's servers, and for the listener.

`CertificateError` says which file is at fault, what it holds and what to do. Nothing else in the program loads
certificates or keys.
"""

from __future__ import annotations

import shlex
import ssl
from pathlib import Path
from typing import NoReturn

from bridge.certificates.forms import certificate_blocks, explain_certificate_file, explain_key_file, recognise

_VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_FILE_MAX_BYTES = 16 * 1024 * 1024
_MISMATCH = frozenset(("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED"))
"""What OpenSSL calls a key of another certificate; the last one is a key of another kind."""
_TOO_WEAK = {
    "EE_KEY_TOO_SMALL": "has a key that is too short for TLS on this system (RSA needs 2048 bits)",
    "CA_KEY_TOO_SMALL": "holds an authority with a key that is too short for TLS on this system (RSA needs 2048 bits)",
    "CA_MD_TOO_WEAK": "is signed with SHA-1 or MD5, which TLS on this system does not take",
}
"""What OpenSSL calls a certificate that its security level does not allow."""


class CertificateError(ValueError):
    """A file can't be used; the message begins with its name and ends with what to do. It holds no part of a key."""

    def __init__(self, key: str, file: str, sentence: str) -> None:
        super().__init__(f"{file} {sentence}")
        self.key = key
        """Which file it is: `ca_file`, `certificate_file` or `key_file`."""
        self.file = file


def client_context(
    ca_file: str | None,
    certificate_file: str | None = None,
    key_file: str | None = None,
    *,
    minimum_version: str = "1.2",
    trusts_any: bool = False,
) -> ssl.SSLContext:
    """A context that checks servers by the authorities in `ca_file` (None: the system's) and shows a certificate.

    `trusts_any`: no authority is asked for; the caller compares the certificate itself. Raises `CertificateError`.
    """
    context = ssl.create_default_context() if ca_file is None else _context_for_authorities(ca_file)
    context.minimum_version = _VERSIONS[minimum_version]
    if trusts_any:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if certificate_file is not None:
        load_chain(context, certificate_file, key_file or certificate_file)
    return context


def listener_context(certificate_file: str, key_file: str, *, minimum_version: str = "1.2") -> ssl.SSLContext:
    """A context that serves a certificate. Raises `CertificateError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[minimum_version]
    load_chain(context, certificate_file, key_file)
    return context


def load_chain(context: ssl.SSLContext, certificate_file: str, key_file: str) -> None:
    """Show another certificate from now on. Raises `CertificateError`; the context keeps its old one then.

    Both files are PEM; the certificate's may hold the authorities between, and may be the key's, too.
    """
    # A context that failed half-way would show a certificate without its key, so that another one tries first.
    check_chain(certificate_file, key_file)
    _load_chain(context, certificate_file, key_file)


def check_chain(certificate_file: str, key_file: str) -> None:
    """Raises `CertificateError` where the files are no certificate with its key."""
    _load_chain(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), certificate_file, key_file)


def check_authorities(ca_file: str) -> None:
    """Raises `CertificateError` where the file holds no certificates that could be trusted."""
    _context_for_authorities(ca_file)


def _load_chain(context: ssl.SSLContext, certificate_file: str, key_file: str) -> None:
    certificates, key = _read("certificate_file", certificate_file), _read("key_file", key_file)
    _refuse_swapped(certificate_file, key_file, certificates, key)
    if sentence := explain_certificate_file(certificate_file, certificates):
        raise CertificateError("certificate_file", certificate_file, sentence)
    if sentence := explain_key_file(key_file, key):
        raise CertificateError("key_file", key_file, sentence)
    try:
        context.load_cert_chain(certificate_file, key_file, password=_no_pass_phrase)
    except (OSError, ValueError) as error:
        _explain_chain(error, certificate_file, key_file, certificates)


def _context_for_authorities(ca_file: str) -> ssl.SSLContext:
    data = _read("ca_file", ca_file)
    if sentence := explain_certificate_file(ca_file, data):
        raise CertificateError("ca_file", ca_file, sentence)
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise CertificateError("ca_file", ca_file, _explain_damage(data)) from error
    if context.cert_store_stats()["x509"] == 0:
        raise CertificateError("ca_file", ca_file, _explain_damage(data))
    return context


def _read(key: str, file: str) -> bytes:
    try:
        with Path(file).open("rb") as stream:
            data = stream.read(_FILE_MAX_BYTES + 1)
    except OSError as error:
        sentence = f"can't be read: {error.strerror}; let the service's user read the file"
        raise CertificateError(key, file, sentence) from error
    if len(data) > _FILE_MAX_BYTES:
        raise CertificateError(key, file, f"holds more than {_FILE_MAX_BYTES >> 20} MiB, which is no certificate")
    return data


def _refuse_swapped(certificate_file: str, key_file: str, certificates: bytes, key: bytes) -> None:
    first, second = recognise(certificates), recognise(key)
    if first.has_key and not first.has_certificate and second.has_certificate and not second.has_key:
        raise CertificateError(
            "certificate_file", certificate_file, f"holds the private key, and {key_file} the certificate; swap the two"
        )


def _explain_chain(error: Exception, certificate_file: str, key_file: str, certificates: bytes) -> NoReturn:
    """Raises the error that says what is wrong with files that look like PEM."""
    reason = error.reason if isinstance(error, ssl.SSLError) else ""
    if reason in _MISMATCH:
        sentence = (
            f"is not the key of the first certificate in {certificate_file}; put the certificate that was made for the "
            "key first, and those of authorities after it"
        )
        raise CertificateError("key_file", key_file, sentence) from error
    if reason in _TOO_WEAK:
        sentence = f"{_TOO_WEAK[reason]}; have the authority make a new one"
        raise CertificateError("certificate_file", certificate_file, sentence) from error
    damage = _find_damage(certificates)
    if damage is not None:
        raise CertificateError("certificate_file", certificate_file, damage) from error
    sentence = "holds a private key that can't be read; copy it again, or check it: "
    raise CertificateError(
        "key_file", key_file, f"{sentence}openssl pkey -noout -in {shlex.quote(key_file)}"
    ) from error


def _explain_damage(data: bytes) -> str:
    return _find_damage(data) or "holds a certificate that can't be read; copy it again"


def _find_damage(data: bytes) -> str | None:
    """Which certificate of a PEM file is damaged; None where each can be read."""
    blocks = certificate_blocks(data)
    for number, block in enumerate(blocks, 1):
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=block.decode("ascii"))
        except (OSError, ValueError):
            which = f"certificate number {number}" if len(blocks) > 1 else "its certificate"
            return f"is damaged: {which} can't be read; copy it again"
    if not blocks or len(blocks) < len([label for label in recognise(data).labels if "CERTIFICATE" in label]):
        return "is damaged: it has no -----END CERTIFICATE----- line for each that begins; copy it again"
    return None


def _no_pass_phrase() -> str:
    # OpenSSL would ask on the terminal otherwise, and wait.
    raise ValueError("keys with pass phrases are not taken")
