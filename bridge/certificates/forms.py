"""What a file holds that should hold certificates or a key in PEM, and how it is turned into that.

Looks at bytes alone: nothing is decrypted, and nothing of a key gets into a message.
"""

from __future__ import annotations

import base64
import binascii
import re
import shlex
from dataclasses import dataclass
from pathlib import PurePath

CERTIFICATE_LABELS = frozenset(("CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE"))
_KEY = re.compile(r"((RSA|EC|DSA|ENCRYPTED) )?PRIVATE KEY")
_LABEL = re.compile(rb"^-----BEGIN ([A-Z0-9 ]+)-----", re.MULTILINE)
_BLOCK = re.compile(rb"^-----BEGIN ([A-Z0-9 ]+)-----\s.*?^-----END \1-----", re.MULTILINE | re.DOTALL)
_INDENTED = re.compile(rb"^[ \t]+-----BEGIN [A-Z0-9 ]+-----", re.MULTILINE)
_UTF8_BOM = b"\xef\xbb\xbf"
_JAVA = b"\xfe\xed\xfe\xed"


def _der(pattern: bytes) -> re.Pattern[bytes]:
    """A pattern for the beginning of DER; `L` stands for the octets of a length (X.690 §8.1.3)."""
    return re.compile(pattern.replace(b"L", rb"(?:[\x00-\x80]|\x81.|\x82..|\x83...)"), re.DOTALL)


_DER_FORMS = (
    ("pkcs12", _der(rb"\x30L\x02\x01\x03\x30")),  # RFC 7292 §4
    ("pkcs7", _der(rb"\x30L\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02")),  # RFC 5652 §5.1
    ("key", _der(rb"\x30L\x02\x01[\x00\x01][\x30\x02\x04]")),  # RFC 5208 §5, RFC 8017 A.1.2, RFC 5915 §3
    ("encrypted key", _der(rb"\x30L\x30L\x06.\x2a\x86\x48\x86\xf7\x0d\x01\x05")),  # RFC 5208 §6
    ("request", _der(rb"\x30L\x30L\x02\x01\x00\x30")),  # RFC 2986 §4
    ("certificate", _der(rb"\x30L\x30L(\xa0\x03\x02\x01.)?\x02")),  # RFC 5280 §4.1
)


@dataclass(frozen=True, slots=True)
class Content:
    """What the bytes of a file are."""

    form: str
    """`pem`, `empty`, `utf-16`, `bom`, `indented`, `java`, `der`, `base64` or `unknown`."""
    kind: str = ""
    """For DER and base64: `certificate`, `key`, `pkcs12`, …"""
    labels: tuple[str, ...] = ()
    """For PEM: what stands in each BEGIN line."""

    @property
    def has_certificate(self) -> bool:
        """Whether there is a certificate in PEM, readable or not."""
        return not CERTIFICATE_LABELS.isdisjoint(self.labels)

    @property
    def has_key(self) -> bool:
        """Whether there is a private key in PEM, readable or not."""
        return any(_KEY.fullmatch(label) for label in self.labels)


def recognise(data: bytes) -> Content:
    """What a file with these bytes holds."""
    if not data.strip():
        return Content("empty")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0-\0-" in data[:64] or b"-\0-\0" in data[:64]:
        return Content("utf-16")
    if data.startswith(_UTF8_BOM):
        return Content("bom")
    if labels := tuple(label.decode() for label in _LABEL.findall(data)):
        return Content("pem", labels=labels)
    if _INDENTED.search(data):
        return Content("indented")
    if data.startswith(_JAVA):
        return Content("java")
    if kind := _recognise_der(data):
        return Content("der", kind)
    try:
        kind = _recognise_der(base64.b64decode(b"".join(data.split()), validate=True))
    except binascii.Error:
        kind = ""
    return Content("base64", kind) if kind else Content("unknown")


def _recognise_der(data: bytes) -> str:
    return next((kind for kind, pattern in _DER_FORMS if pattern.match(data)), "")


def certificate_blocks(data: bytes) -> list[bytes]:
    """The certificates of a PEM file, each with its BEGIN and END line."""
    return [found[0] for found in _BLOCK.finditer(data) if found[1].decode() in CERTIFICATE_LABELS]


def explain_certificate_file(file: str, data: bytes) -> str | None:
    """What a file is instead of PEM certificates, with what to do; None where it looks like PEM certificates."""
    content, new = recognise(data), _new_name(file)
    if content.has_certificate:
        return None
    sentence = _explain_encoding(file, content, "certificate")
    if sentence is not None:
        return sentence
    old = shlex.quote(file)
    commands = {
        "certificate": ("is a certificate in DER, not in PEM", f"openssl x509 -inform DER -in {old} -out {new}"),
        "pkcs12": ("is a PKCS#12 file, not PEM", f"openssl pkcs12 -in {old} -nokeys -out {new}"),
        "pkcs7": ("is a PKCS#7 file, not PEM", f"openssl pkcs7 -inform DER -print_certs -in {old} -out {new}"),
    }
    if content.form == "der" and content.kind in commands:
        what, command = commands[content.kind]
        return f"{what}; run: {command}"
    if {"PKCS7", "CMS"}.intersection(content.labels):
        return f"is a PKCS#7 file, not a PEM certificate; run: openssl pkcs7 -print_certs -in {old} -out {new}"
    if content.has_key or content.kind in ("key", "encrypted key"):
        return "holds a private key and no certificate; name the file with the certificate"
    if "X509 CRL" in content.labels:
        return "holds a list of revoked certificates and no certificate; name the file with the certificate"
    if "CERTIFICATE REQUEST" in " ".join(content.labels) or content.kind == "request":
        return "holds a request for a certificate; name the certificate that the authority has made of it"
    return "holds no certificate; it must begin with -----BEGIN CERTIFICATE-----"


def explain_key_file(file: str, data: bytes) -> str | None:
    """What a file is instead of a private key in PEM, with what to do; None where it looks like one."""
    content, new, old = recognise(data), _new_name(file, is_key=True), shlex.quote(file)
    if "ENCRYPTED PRIVATE KEY" in content.labels or (content.has_key and b"Proc-Type: 4,ENCRYPTED" in data):
        return (
            "is encrypted with a pass phrase, which nobody can type here; "
            f"run: (umask 077; openssl pkey -in {old} -out {new}), and let the service's user read it"
        )
    if content.has_key:
        return None
    sentence = _explain_encoding(file, content, "key")
    if sentence is not None:
        return sentence
    commands = {
        "key": ("is a private key in DER, not in PEM", f"openssl pkey -inform DER -in {old} -out {new}"),
        "encrypted key": ("is an encrypted key in DER, not in PEM", f"openssl pkey -inform DER -in {old} -out {new}"),
        "pkcs12": ("is a PKCS#12 file, not PEM", f"openssl pkcs12 -in {old} -nocerts -nodes -out {new}"),
    }
    if content.form == "der" and content.kind in commands:
        what, command = commands[content.kind]
        return f"{what}; run: (umask 077; {command}), and let the service's user read it"
    if "OPENSSH PRIVATE KEY" in content.labels:
        return f"is a key of OpenSSH, not in PEM; on a copy of it, run: ssh-keygen -p -m PEM -f {old}"
    if "PUBLIC KEY" in " ".join(content.labels):
        return "holds a public key; name the file with the private key"
    if content.has_certificate or content.kind == "certificate":
        return "holds a certificate and no private key; name the file with the key"
    return "holds no private key; it must begin with -----BEGIN PRIVATE KEY-----"


def _explain_encoding(file: str, content: Content, wanted: str) -> str | None:
    """What is the same for certificates and keys."""
    new, old = _new_name(file), shlex.quote(file)
    match content.form:
        case "empty":
            return f"is empty; write the {wanted} in PEM into it"
        case "utf-16":
            command = f"iconv -f UTF-16 -t ASCII {old} > {new}"
            command = f"(umask 077; {command})" if wanted == "key" else command
            return f"is text in UTF-16, not in ASCII; run: {command}"
        case "bom":
            return (
                f"begins with a byte order mark, which hides its first line; run: sed -i '1s/^\\xEF\\xBB\\xBF//' {old}"
            )
        case "indented":
            return f"has blanks before its lines; run: sed -i 's/^[[:blank:]]*//' {old}"
        case "java":
            target = shlex.quote(str(PurePath(file).with_suffix(".p12")))
            command = f"keytool -importkeystore -srckeystore {old} -destkeystore {target} -deststoretype PKCS12"
            return f"is a key store of Java, not PEM; run: {command}, and make PEM of that by openssl pkcs12"
        case "base64":
            label = "CERTIFICATE" if wanted == "certificate" else "PRIVATE KEY"
            return f"lacks the lines around its base64; put -----BEGIN {label}----- and -----END {label}----- there"
    return None


def _new_name(file: str, *, is_key: bool = False) -> str:
    """The name of the PEM file that is made of another one; a key gets another name than its certificate."""
    path = PurePath(file)
    if is_key and not path.stem.endswith("key"):
        path = path.with_stem(f"{path.stem}-key")
    elif path.suffix == ".pem":
        path = path.with_stem(f"{path.stem}-new")
    return shlex.quote(str(path.with_suffix(".pem")))
