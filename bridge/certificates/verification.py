"""Why a server's certificate was not trusted, and what to do about it.

OpenSSL's code says what is wrong; the chain that the server sends and the file with the authorities say with which
certificate. Knows no sockets: without a chain, the words are those of the code alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bridge.certificates.reading import Certificate

_SHOWN_NAMES_COUNT = 5
_OWN = "the server's certificate"


class Words(NamedTuple):
    """What happened, and what to do about it."""

    detail: str
    remedy: str


class Suspect(NamedTuple):
    """A certificate that may be at fault."""

    what: str
    """What it is called in a sentence."""
    where: str
    """Where it is: `on the server`, or in which file."""
    certificate: Certificate


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of a certificate that was not trusted."""

    host: str
    """The name or the address that the certificate must have."""
    message: str
    """OpenSSL's words for the code."""
    ca_file: str | None
    """The file with the authorities; None for those of the system."""
    sent: Sequence[Certificate] = ()
    """What the server sends, its own certificate first; empty where nobody knows."""
    trusted: Sequence[Certificate] = ()
    """What the file holds."""

    @property
    def chain(self) -> tuple[Certificate, ...]:
        """The certificates from the server's own upwards, as far as the server sends them."""
        if not self.sent:
            return ()
        chain, left = [self.sent[0]], list(self.sent[1:])
        while not chain[-1].is_self_signed:
            above = next((each for each in left if each.subject_name == chain[-1].issuer_name), None)
            if above is None:
                break
            left.remove(above)
            chain.append(above)
        return tuple(chain)

    @property
    def authorities(self) -> str:
        """Whose certificates are trusted, as messages say it."""
        return "the authorities of this system" if self.ca_file is None else self.ca_file

    def suspects(self) -> Iterator[Suspect]:
        """Each certificate that may be at fault, the server's own first."""
        for position, each in enumerate(self.chain):
            what = _OWN if position == 0 else f"the certificate of the authority {each.subject}"
            yield Suspect(what, "on the server", each)
        top = self.chain[-1] if self.chain else None
        for each in self.trusted:
            if top is not None and each.subject_name == top.issuer_name and each.der != top.der:
                where = f"in {self.ca_file}"
                yield Suspect(f"the certificate of the authority {each.subject} {where}", where, each)


def explain_verification(code: int, evidence: Evidence) -> Words:
    """The words for a code of OpenSSL (X509_V_ERR_* in x509_vfy.h)."""
    explain = _BY_CODE.get(code)
    if explain is not None:
        return explain(evidence)
    return Words(f"{_OWN} is not trusted: {evidence.message}", "Look at what the server sends by openssl s_client.")


def _explain_expired(evidence: Evidence) -> Words:
    from datetime import UTC, datetime  # noqa: PLC0415 - as rare as the rest

    now = datetime.now(UTC)
    for what, where, each in evidence.suspects():
        if each.not_after < now:
            detail = f"{what} has expired: it was good until {_show_time(each.not_after)}"
            return Words(detail, f"Renew it {where}.")
    return Words(f"{_OWN}, or that of an authority above it, has expired", "Renew it on the server.")


def _explain_not_yet_valid(evidence: Evidence) -> Words:
    from datetime import UTC, datetime  # noqa: PLC0415 - as above

    now = datetime.now(UTC)
    for what, _, each in evidence.suspects():
        if each.not_before > now:
            detail = f"{what} is not valid yet: it is good from {_show_time(each.not_before)}"
            return Words(detail, "Check the clocks of both machines.")
    return Words(f"{_OWN} is not valid yet", "Check the clocks of both machines.")


def _explain_name(evidence: Evidence) -> Words:
    remedy = "Use a name in `servers` that stands in the certificate, or have the certificate made out to this one."
    wrong = f"{_OWN} is not made out to {evidence.host}"
    if not evidence.sent:
        return Words(wrong, remedy)
    own = evidence.sent[0]
    if not own.names:
        detail = f"{wrong}: it names no host (subjectAltName), and its subject is {own.subject}"
        return Words(detail, f"Have the certificate made out to {evidence.host} as a subjectAltName.")
    shown = ", ".join(own.names[:_SHOWN_NAMES_COUNT])
    more = len(own.names) - _SHOWN_NAMES_COUNT
    return Words(f"{wrong}, but to {shown}{f' and {more} more' if more > 0 else ''}", remedy)


def _explain_self_signed(evidence: Evidence) -> Words:
    detail = f"{_OWN} is not trusted: it is signed by itself, and is not among {_trusted(evidence)}"
    remedy = "Name a file with this very certificate in `tls.ca_file`, or its fingerprint in `tls.fingerprint_sha256`"
    if not evidence.sent:
        return Words(detail, f"{remedy}, once you have compared it with the one on the server.")
    shown = evidence.sent[0].fingerprint
    return Words(detail, f"{remedy}, once you have compared it on the server: SHA-256 {shown}.")


def _explain_unknown_issuer(evidence: Evidence) -> Words:
    """Nothing that is trusted has signed the last certificate that the server sends."""
    chain = evidence.chain
    if not chain:
        detail = f"{_OWN} is not trusted: who signed it is not among {_trusted(evidence)}"
        return Words(detail, _name_authority(None))
    own, top = chain[0], chain[-1]
    if any(each.der == own.der for each in evidence.trusted):
        detail = f"{_OWN} is not trusted: {evidence.ca_file} holds this certificate itself, not that of {own.issuer}"
        return Words(f"{detail}, which signed it", f"Put the certificate of {own.issuer} into `tls.ca_file`.")
    namesakes = [each for each in evidence.trusted if each.subject_name == top.issuer_name]
    if namesakes and not top.is_self_signed:
        detail = f"{_OWN} is not trusted: {evidence.ca_file} holds another certificate of the name {top.issuer}"
        return Words(
            f"{detail}, whose key has not signed what the server sends",
            f"Put the certificate of {top.issuer} into `tls.ca_file` that is in use now.",
        )
    if evidence.trusted and not any(each.is_authority for each in evidence.trusted):
        held = evidence.trusted[0].subject
        detail = f"{_OWN} is not trusted: {evidence.ca_file} holds no authority, but the certificate of {held}"
        return Words(detail, _name_authority(top))
    if top.is_self_signed:
        detail = f"{_OWN} is not trusted: its authority {top.subject} is not among {_trusted(evidence)}"
        return Words(detail, _name_authority(top))
    if len(chain) == 1:
        return Words(
            f"{_OWN} is not trusted: {own.issuer} signed it, which is not among {_trusted(evidence)}, and the server "
            "sends no certificate of it",
            f"If {own.issuer} is an authority below another one, have the server send its certificate after its own; "
            f"otherwise put the certificate of {own.issuer} into `tls.ca_file`.",
        )
    detail = f"{_OWN} is not trusted: what the server sends ends with {top.subject}, signed by {top.issuer}"
    return Words(f"{detail}, which is not among {_trusted(evidence)}", _name_authority(top))


def _explain_no_authority(evidence: Evidence) -> Words:
    for what, _, each in list(evidence.suspects())[1:]:
        if not each.is_authority:
            detail = f"{_OWN} is not trusted: {what} is none of an authority (basicConstraints has no CA:TRUE)"
            return Words(detail, f"Have {each.subject} made anew as an authority, with basicConstraints CA:TRUE.")
    detail = f"{_OWN} is not trusted: it was signed with a certificate that is none of an authority"
    return Words(detail, "Have the authority made anew, with basicConstraints CA:TRUE.")


def _explain_usage(evidence: Evidence) -> Words:
    for what, _, each in evidence.suspects():
        if each.usages and "serverAuth" not in each.usages:
            detail = f"{what} is not made for servers: it is for {', '.join(each.usages)}"
            return Words(detail, "Have it made anew, with extendedKeyUsage serverAuth.")
    detail = f"{_OWN}, or that of an authority above it, is not made for this use ({evidence.message})"
    return Words(detail, "Have it made anew, with extendedKeyUsage serverAuth.")


def _explain_authority_usage(evidence: Evidence) -> Words:
    detail = f"{_OWN} is not trusted: the authority that signed it may not sign certificates"
    return Words(f"{detail} ({evidence.message})", "Have the authority made anew, with keyUsage keyCertSign.")


def _explain_weak_key(evidence: Evidence) -> Words:
    for what, _, each in evidence.suspects():
        if each.key_is_weak:
            detail = f"{what} has a key that is too short: {each.key}"
            return Words(detail, "Have it made anew with a longer key; RSA needs 2048 bits.")
    detail = f"{_OWN}, or that of an authority above it, has a key that is too short"
    return Words(detail, "Have it made anew with a longer key; RSA needs 2048 bits.")


def _explain_weak_hash(evidence: Evidence) -> Words:
    for what, _, each in evidence.suspects():
        if each.signature_hash in _WEAK_HASHES and not (each.is_self_signed and each.der != evidence.sent[0].der):
            detail = f"{what} is signed with {_WEAK_HASHES[each.signature_hash]}, which is no longer safe"
            return Words(detail, "Have it signed anew with SHA-256.")
    detail = f"{_OWN}, or that of an authority above it, is signed with SHA-1 or MD5, which is no longer safe"
    return Words(detail, "Have it signed anew with SHA-256.")


def _explain_constraint(evidence: Evidence) -> Words:
    signer = evidence.chain[0].issuer if evidence.chain else "its authority"
    detail = f"{_OWN} is not trusted: {signer} may not sign for {_made_out_to(evidence)} (nameConstraints)"
    return Words(detail, "Have the certificate made by an authority that may sign for this name.")


def _explain_path(_evidence: Evidence) -> Words:
    detail = f"{_OWN} is not trusted: an authority above it may have no authorities below itself (pathlen)"
    return Words(detail, "Have the certificate made by the authority itself, or the authority made anew.")


def _explain_signature(evidence: Evidence) -> Words:
    detail = f"{_OWN} is not trusted: a signature in its chain is wrong"
    remedy = f"Compare what the server sends with {evidence.authorities}: an authority may have been made anew."
    return Words(detail, remedy)


def _trusted(evidence: Evidence) -> str:
    """The authorities after "is not among", with what the file holds."""
    if evidence.ca_file is None:
        return evidence.authorities
    held = ", ".join(dict.fromkeys(each.subject for each in evidence.trusted[:_SHOWN_NAMES_COUNT]))
    return f"the authorities of {evidence.ca_file} ({held})" if held else f"the authorities of {evidence.ca_file}"


def _name_authority(top: Certificate | None) -> str:
    name = "the authority that signed it" if top is None else (top.subject if top.is_self_signed else top.issuer)
    return f"Put the certificate of {name} into `tls.ca_file`; get it from there, not from this connection."


def _made_out_to(evidence: Evidence) -> str:
    names = evidence.sent[0].names if evidence.sent else ()
    return ", ".join(names[:_SHOWN_NAMES_COUNT]) or evidence.host


def _show_time(moment: object) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


_WEAK_HASHES = {"SHA1": "SHA-1", "MD5": "MD5", "MD4": "MD4"}
_BY_CODE: dict[int, Callable[[Evidence], Words]] = {
    2: _explain_unknown_issuer,  # UNABLE_TO_GET_ISSUER_CERT
    7: _explain_signature,  # CERT_SIGNATURE_FAILURE
    9: _explain_not_yet_valid,
    10: _explain_expired,
    18: _explain_self_signed,  # DEPTH_ZERO_SELF_SIGNED_CERT
    19: _explain_unknown_issuer,  # SELF_SIGNED_CERT_IN_CHAIN
    20: _explain_unknown_issuer,  # UNABLE_TO_GET_ISSUER_CERT_LOCALLY
    21: _explain_unknown_issuer,  # UNABLE_TO_VERIFY_LEAF_SIGNATURE
    24: _explain_no_authority,  # INVALID_CA of OpenSSL 1.1
    25: _explain_path,  # PATH_LENGTH_EXCEEDED
    26: _explain_usage,  # INVALID_PURPOSE
    32: _explain_authority_usage,  # KEYUSAGE_NO_CERTSIGN
    47: _explain_constraint,  # PERMITTED_VIOLATION
    48: _explain_constraint,  # EXCLUDED_VIOLATION
    62: _explain_name,  # HOSTNAME_MISMATCH
    64: _explain_name,  # IP_ADDRESS_MISMATCH
    66: _explain_weak_key,  # EE_KEY_TOO_SMALL
    67: _explain_weak_key,  # CA_KEY_TOO_SMALL
    68: _explain_weak_hash,  # CA_MD_TOO_WEAK
    79: _explain_no_authority,  # INVALID_CA
}
