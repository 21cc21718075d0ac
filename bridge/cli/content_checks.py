"""What `check` finds in files that can be used, and that will make trouble: certificates that end, odd passwords."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from bridge.certificates.reading import read_authorities
from bridge.cli.findings import Check
from bridge.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bridge.certificates.reading import Certificate
    from bridge.config.loading import Loaded

CERTIFICATE_WARNING_DAYS = 21
_OWN_CERTIFICATES = ("certificate_file", "client_certificate_file")
_ORDER_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_RENEW = (
    "Make a new one, and write it and its key over the files: nothing needs a restart. docs/operations.md has more."
)


def check_contents(loaded: Loaded) -> Iterator[Check]:
    """What is odd about passwords, and which certificates of ours end; what can't be read is told elsewhere."""
    for secret in loaded.secrets.values():
        if secret.named.key not in ("password_file", "password_credential"):
            continue
        try:
            oddity = _find_oddity(secret.read().reveal())
        except ConfigurationError:
            continue
        if oddity:
            message = f"{secret.named.prefix}{secret.named.value} {oddity}, which counts as part of the password"
            remedy = "Write the password alone into the file, as UTF-8, in one line."
            yield Check("file", "", "", "warning", message, remedy)
    for named in loaded.files:
        if named.path and named.path[-1] in _OWN_CERTIFICATES:
            for certificate in read_authorities(named.file):
                yield from _check_dates(f"{named.prefix}{named.file}", certificate)


def _find_oddity(password: bytes) -> str:
    """What few mean who write a password into a file; nothing where there is nothing odd."""
    if password.startswith(_ORDER_MARKS):
        return "begins with a byte order mark"
    if b"\n" in password or b"\r" in password:
        return "holds more than one line"
    if b"\0" in password:
        return "holds a zero byte"
    return "begins or ends with a blank" if password != password.strip() else ""


def _check_dates(place: str, certificate: Certificate) -> Iterator[Check]:
    """Whether a certificate is good now, and for some time."""
    now = datetime.now(UTC)
    what = f"{place}: the certificate of {certificate.subject}"
    if certificate.not_after < now:
        message = f"{what} has expired: it was good until {_show(certificate.not_after)}"
        yield Check("file", "", "", "failed", message, _RENEW)
    elif certificate.not_before > now:
        message = f"{what} is not valid yet: it is good from {_show(certificate.not_before)}"
        yield Check("file", "", "", "failed", message, "Check the clock of this machine, or wait.")
    elif certificate.not_after < now + timedelta(days=CERTIFICATE_WARNING_DAYS):
        message = f"{what} ends at {_show(certificate.not_after)}"
        yield Check("file", "", "", "warning", message, _RENEW)


def _show(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
