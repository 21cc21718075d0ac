"""The causes that servers give for a refused bind, in the numbers, words and controls of their vendors.

Pure: an answer goes in, a `Cause` or a `Rejection` comes out. What follows from a cause, and from none, is decided in
`bridge.ldap.results`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from bridge.ldap import messages
from bridge.model import Rejection
from bridge.syntax import ber

if TYPE_CHECKING:
    from bridge.ldap.messages import Response

_SUCCESS = 0


class PolicyWarning(NamedTuple):
    """What a server says beside a success: one of the two."""

    grace_count: int | None = None
    """The password has expired, and so many more binds are let through."""
    expires_in_s: int | None = None


class Cause(NamedTuple):
    """What a server names as the cause; without a `rejection` it is none that says anything of the user."""

    rejection: Rejection | None
    remedy: str = "Look into the server's own log."


_LOOK_AT_EVENTS = "Look into the event log of the domain controller."
_REACH_DOMAIN = (
    "Check that the domain controller reaches the domain of the user: its DNS, the trust, and RPC between them."
)

# AD: the cause stands behind "data" in the diagnostic message of result 49, in hexadecimal (MS-ERREF §2.2).
_AD_CAUSE = re.compile(r"\bdata (?=[a-f]*+[0-9])([0-9a-f]++)\b", re.IGNORECASE)
_AD_MESSAGE = re.compile(r"\b(LdapErr|AcceptSecurityContext)\b", re.IGNORECASE)
_AD_CAUSES = {
    0x525: Cause(Rejection.ENTRY_GONE),
    0x52E: Cause(Rejection.WRONG_PASSWORD),
    0x52F: Cause(Rejection.LOGON_NOT_GRANTED),
    0x530: Cause(Rejection.NOT_AT_THIS_TIME),
    0x531: Cause(Rejection.NOT_FROM_THIS_PLACE),
    0x532: Cause(Rejection.PASSWORD_EXPIRED),
    0x533: Cause(Rejection.ACCOUNT_DISABLED),
    0x568: Cause(Rejection.TOO_MANY_GROUPS),
    0x569: Cause(Rejection.LOGON_NOT_GRANTED),
    0x701: Cause(Rejection.ACCOUNT_EXPIRED),
    0x773: Cause(Rejection.MUST_CHANGE_PASSWORD),
    0x775: Cause(Rejection.ACCOUNT_LOCKED),
    # In these the domain controller could not decide, whatever the password is.
    0x51F: Cause(None, _REACH_DOMAIN),  # ERROR_NO_LOGON_SERVERS
    0x576: Cause(None, "Set the clocks of the domain controllers."),  # ERROR_TIME_SKEW
    0x6BA: Cause(None, _REACH_DOMAIN),  # RPC_S_SERVER_UNAVAILABLE
    0x6FB: Cause(None, _REACH_DOMAIN),  # ERROR_NO_TRUST_SAM_ACCOUNT
}
# Samba: older versions name the status instead, as in "Simple Bind Failed: NT_STATUS_ACCOUNT_DISABLED" (MS-ERREF §2.3).
_NT_STATUS = re.compile(r"\bNT_STATUS_([A-Z0-9_]+)")
_NT_REJECTIONS = {
    "NO_SUCH_USER": Rejection.ENTRY_GONE,
    "WRONG_PASSWORD": Rejection.WRONG_PASSWORD,
    "LOGON_FAILURE": Rejection.WRONG_PASSWORD,
    "ACCOUNT_RESTRICTION": Rejection.LOGON_NOT_GRANTED,
    "INVALID_LOGON_HOURS": Rejection.NOT_AT_THIS_TIME,
    "INVALID_WORKSTATION": Rejection.NOT_FROM_THIS_PLACE,
    "PASSWORD_EXPIRED": Rejection.PASSWORD_EXPIRED,
    "ACCOUNT_DISABLED": Rejection.ACCOUNT_DISABLED,
    "TOO_MANY_CONTEXT_IDS": Rejection.TOO_MANY_GROUPS,
    "LOGON_TYPE_NOT_GRANTED": Rejection.LOGON_NOT_GRANTED,
    "ACCOUNT_EXPIRED": Rejection.ACCOUNT_EXPIRED,
    "PASSWORD_MUST_CHANGE": Rejection.MUST_CHANGE_PASSWORD,
    "ACCOUNT_LOCKED_OUT": Rejection.ACCOUNT_LOCKED,
}

# eDirectory: "NDS error: login lockout (-197)"; results 49 and 53 carry the number in brackets (Novell TID 10067240).
_NDS_CAUSE = re.compile(r"\bNDS error\b(?:.*\((-\d+)\))?", re.DOTALL)
_NDS_REJECTIONS = {
    "-197": Rejection.ACCOUNT_LOCKED,
    "-217": Rejection.LOGON_NOT_GRANTED,  # logged in as often at once as may be
    "-218": Rejection.NOT_AT_THIS_TIME,
    "-220": Rejection.ACCOUNT_DISABLED,  # or the account has ended
    "-222": Rejection.PASSWORD_EXPIRED,  # and no grace logins are left
    "-601": Rejection.ENTRY_GONE,  # before 8.8 SP1; since then -669
    "-669": Rejection.WRONG_PASSWORD,
}

# draft-behera-ldap-password-policy-11 §6.2; the numbers from 3 on speak of changing a password.
_PASSWORD_EXPIRED = 0
_POLICY_REJECTIONS = {
    _PASSWORD_EXPIRED: Rejection.PASSWORD_EXPIRED,
    1: Rejection.ACCOUNT_LOCKED,
    2: Rejection.MUST_CHANGE_PASSWORD,
}
_UNREADABLE = -1
_POLICY_WARNING, _POLICY_ERROR = 0xA0, 0x81
_DIGITS_MAX_COUNT = 10
_MOST = 2**31 - 1
_BEFORE_EXPIRATION, _GRACE_REMAINING = 0x80, 0x81

_NAMES = re.compile(r"\[[^\]]*+\]?|(?<![\w.-])[\w.-]++=[^,\s]*+(?:,\s*+[\w.-]++=[^,\s]*+)*+")
# 389 DS 2.3 (measured; its PAM pass-through: pam_ptimpl.c) and FreeIPA (ipa_lockout.c, prepost.c) use sentences.
_IS = r"\b(?:account|user|entry)\b(?: \([^()]*+\))?(?: is| was| has been)?"
_STATES = (
    (
        re.compile(r"\block(?:ed|ed out|out)\b|\btoo many failed\b|\bretry limit\b", re.IGNORECASE),
        Rejection.ACCOUNT_LOCKED,
    ),
    (re.compile(r"\binactivity limit\b", re.IGNORECASE), Rejection.ACCOUNT_DISABLED),
    (re.compile(rf"{_IS} (?:inactivated|disabled|deactivated)\b", re.IGNORECASE), Rejection.ACCOUNT_DISABLED),
    (re.compile(rf"{_IS} expired\b", re.IGNORECASE), Rejection.ACCOUNT_EXPIRED),
    (re.compile(r"\bpassword(?: is| has)? expired\b", re.IGNORECASE), Rejection.PASSWORD_EXPIRED),
)
_CREDENTIALS = re.compile(r"invalid|incorrect|wrong|credential", re.IGNORECASE)
_TROUBLE = re.compile(
    r"\b(?:unavailable|unreachable|timed out|time-?out|can(?:not|'t) contact|internal error)\b", re.IGNORECASE
)
"""What a proxy or a pass-through says in a result 49 for which nobody has looked at the password."""


def find_cause(message: str) -> Cause | None:
    """The cause that a diagnostic message states by the number or name of a vendor, or None where it has none."""
    words = _without_names(message)
    return _ad_cause(words) or _nds_cause(words)


def find_state(message: str) -> Rejection | None:
    """The state of the account that a diagnostic message tells in a sentence."""
    words = _without_names(message)
    return next((rejection for pattern, rejection in _STATES if pattern.search(words) is not None), None)


def speaks_of_credentials(message: str) -> bool:
    """Whether a sentence says that user name and password don't fit, whatever else it adds."""
    return _CREDENTIALS.search(_without_names(message)) is not None


def speaks_of_trouble(message: str) -> bool:
    """Whether a sentence says that the server could not ask whoever knows the password."""
    return _TROUBLE.search(_without_names(message)) is not None


def find_policy_cause(response: Response) -> Cause | None:
    """The cause that the controls of a refusal state; without a rejection if it is none that we know or can read."""
    rejection = read_policy_rejection(response)
    if rejection is not None:
        return Cause(rejection)
    error = _read_policy(response)[1]
    return None if error is None else Cause(None)


def _without_names(message: str) -> str:
    """The message without the user's name and DN, which are somebody's words and not the server's."""
    return _NAMES.sub("", message)


def read_policy_rejection(response: Response) -> Rejection | None:
    """What the controls of a bind response refuse, whatever its result code says."""
    error = _read_policy(response)[1]
    if error == _PASSWORD_EXPIRED and response.result_code == _SUCCESS:
        error = None  # grace logins are left: expired, and accepted all the same
    if error is not None and error in _POLICY_REJECTIONS:
        return _POLICY_REJECTIONS[error]
    if messages.PASSWORD_EXPIRED in response.controls:
        # 389 DS: beside result 0 the password was reset and must be changed, beside 49 it has expired.
        succeeded = response.result_code == _SUCCESS
        return Rejection.MUST_CHANGE_PASSWORD if succeeded else Rejection.PASSWORD_EXPIRED
    return None


def read_policy_warning(response: Response) -> PolicyWarning | None:
    """The grace logins that remain, or the time until the password expires, where an answer tells it."""
    warning = _read_policy(response)[0]
    seconds = response.controls.get(messages.PASSWORD_EXPIRING)
    if warning is None and seconds is not None and seconds.isdigit() and len(seconds) <= _DIGITS_MAX_COUNT:
        warning = PolicyWarning(expires_in_s=int(seconds))
    return warning


def read_policy_notice(response: Response) -> str | None:
    """The same in words."""
    match read_policy_warning(response):
        case None:
            return None
        case PolicyWarning(grace_count=None, expires_in_s=seconds):
            return f"the password expires in {seconds} s"
        case PolicyWarning(grace_count=count):
            return f"{count} grace logins remain"


def _ad_cause(message: str) -> Cause | None:
    if (number := _AD_CAUSE.search(message)) is not None:
        return _AD_CAUSES.get(int(number[1], 16), Cause(None, _LOOK_AT_EVENTS))
    if (status := _NT_STATUS.search(message)) is not None:
        return Cause(_NT_REJECTIONS.get(status[1]), _LOOK_AT_EVENTS)
    return Cause(None, _LOOK_AT_EVENTS) if _AD_MESSAGE.search(message) is not None else None


def _nds_cause(message: str) -> Cause | None:
    cause = _NDS_CAUSE.search(message)
    return Cause(_NDS_REJECTIONS.get(cause[1])) if cause is not None else None


def _read_policy(response: Response) -> tuple[PolicyWarning | None, int | None]:
    """The warning and the error of a password policy response control; the error is negative if it can't be read.

    A result code that says success stays one: the control only adds a reason.
    """
    value = response.controls.get(messages.PASSWORD_POLICY)
    if value is None:
        return None, None
    try:
        return _read_policy_value(ber.Reader(value).read_inner())
    except ber.BerError:
        return None, _UNREADABLE


def _read_policy_value(reader: ber.Reader) -> tuple[PolicyWarning | None, int | None]:
    found, error = None, None
    if reader.peek_tag() == _POLICY_WARNING:
        warning = reader.read_inner(_POLICY_WARNING)
        if warning.peek_tag() == _GRACE_REMAINING:
            found = PolicyWarning(grace_count=_read_count(warning, _GRACE_REMAINING))
        else:
            found = PolicyWarning(expires_in_s=_read_count(warning, _BEFORE_EXPIRATION))
    if reader.peek_tag() == _POLICY_ERROR:
        error = reader.read_integer(_POLICY_ERROR)
    return found, error


def _read_count(reader: ber.Reader, tag: int) -> int:
    """A number from 0 to maxInt (RFC 4511 §4.1.1)."""
    number = reader.read_integer(tag)
    if not 0 <= number <= _MOST:
        raise ber.BerError("a number of a password policy is out of its range")
    return number
