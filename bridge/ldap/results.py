"""What a server's result codes and controls mean to us: the one place that translates them.

A user bind gives a `BindResult` or, where nothing was decided, an exception; everything else that did not succeed gives
an exception with the remedy. Numbers and names are those of RFC 4511 §4.1.9 and Appendix A.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ldap3.core.results import RESULT_CODES

from bridge.directory import BindResult
from bridge.errors import DirectoryError, DirectoryRefused, DirectoryUnavailable, SearchIncomplete, SearchInvalid
from bridge.ldap import messages
from bridge.model import Rejection
from bridge.syntax import ber

if TYPE_CHECKING:
    from bridge.ldap.connection import Peer
    from bridge.ldap.messages import Response

SUCCESS = 0
OPERATIONS_ERROR = 1
TIME_LIMIT_EXCEEDED = 3
SIZE_LIMIT_EXCEEDED = 4
AUTH_METHOD_NOT_SUPPORTED = 7
STRONGER_AUTH_REQUIRED = 8
REFERRAL = 10
ADMIN_LIMIT_EXCEEDED = 11
UNAVAILABLE_CRITICAL_EXTENSION = 12
CONFIDENTIALITY_REQUIRED = 13
SASL_BIND_IN_PROGRESS = 14
CONSTRAINT_VIOLATION = 19
NO_SUCH_OBJECT = 32
INVALID_DN_SYNTAX = 34
INAPPROPRIATE_AUTHENTICATION = 48
INVALID_CREDENTIALS = 49
INSUFFICIENT_ACCESS_RIGHTS = 50
BUSY = 51
UNAVAILABLE = 52
UNWILLING_TO_PERFORM = 53
OTHER = 80

ASK_ANOTHER_SERVER = frozenset((BUSY, UNAVAILABLE, OTHER))
"""What one server says of itself, so that the next one may know better."""
LOST_SESSION = frozenset(
    (OPERATIONS_ERROR, STRONGER_AUTH_REQUIRED, INSUFFICIENT_ACCESS_RIGHTS, UNWILLING_TO_PERFORM, OTHER)
)
"""What an answer on a kept connection may say because the server has forgotten who is bound there."""

SASL_LAYER_REMEDY = (
    "Use ldaps:// or StartTLS, and let the server take SASL without a layer of its own over TLS "
    "(Samba: ldap server require strong auth = allow_sasl_over_tls)."
)
_ENCRYPT = "Use ldaps:// or StartTLS; Active Directory with LDAP signing refuses passwords over plain LDAP, too."
_RIGHTS = "Give the service account the right to search and read below the configured bases."
_LIMITS = (
    "Raise the server's limits for the service account (OpenLDAP: limits … size.prtotal=unlimited; "
    "389 DS: nsslapd-pagedlookthroughlimit, or nsPagedLookThroughLimit in its entry), or lower page_size."
)
_SEARCH_WRONG = "Check users.bases, users.filter and attributes of this directory."
_ACL = "Let users authenticate themselves (OpenLDAP: access to attrs=userPassword by anonymous auth)."

_BIND_REJECTIONS = {
    CONSTRAINT_VIOLATION: Rejection.ACCOUNT_LOCKED,  # 389 DS: too many failures
    NO_SUCH_OBJECT: Rejection.ENTRY_GONE,
    INVALID_DN_SYNTAX: Rejection.ENTRY_GONE,
    INAPPROPRIATE_AUTHENTICATION: Rejection.NO_PASSWORD,
    INVALID_CREDENTIALS: Rejection.WRONG_PASSWORD,
    UNWILLING_TO_PERFORM: Rejection.ACCOUNT_DISABLED,  # 389 DS: nsAccountLock
}
# FreeIPA: "Entry permanently locked." comes with the result that 389 DS gives to disabled accounts.
_LOCKED = re.compile(r"\blocked\b", re.IGNORECASE)

# AD: the cause stands behind "data" in the diagnostic message of result 49, in hexadecimal (MS-ERREF §2.2).
_AD_CAUSE = re.compile(r"\bdata ([0-9a-f]{1,8})\b", re.IGNORECASE)
_AD_REJECTIONS = {
    0x525: Rejection.ENTRY_GONE,
    0x52E: Rejection.WRONG_PASSWORD,
    0x52F: Rejection.LOGON_NOT_GRANTED,
    0x530: Rejection.NOT_AT_THIS_TIME,
    0x531: Rejection.NOT_FROM_THIS_PLACE,
    0x532: Rejection.PASSWORD_EXPIRED,
    0x533: Rejection.ACCOUNT_DISABLED,
    0x568: Rejection.TOO_MANY_GROUPS,
    0x569: Rejection.LOGON_NOT_GRANTED,
    0x701: Rejection.ACCOUNT_EXPIRED,
    0x773: Rejection.MUST_CHANGE_PASSWORD,
    0x775: Rejection.ACCOUNT_LOCKED,
}
# Samba: older versions name the status instead, as in "Simple Bind Failed: NT_STATUS_ACCOUNT_DISABLED" (MS-ERREF §2.3).
_NT_STATUS = re.compile(r"\bNT_STATUS_([A-Z_]+)")
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

# eDirectory: "NDS error: login lockout (-197)"; results 49 and 53 alike carry the cause in brackets.
_NDS_CAUSE = re.compile(r"\bNDS error: .*\((-\d{3})\)")
_NDS_REJECTIONS = {
    "-197": Rejection.ACCOUNT_LOCKED,
    "-218": Rejection.NOT_AT_THIS_TIME,
    "-220": Rejection.ACCOUNT_DISABLED,  # or the account has ended
    "-222": Rejection.PASSWORD_EXPIRED,  # and no grace logins are left
    "-669": Rejection.WRONG_PASSWORD,
}

# draft-behera-ldap-password-policy-11 §6.2; the numbers from 3 on speak of changing a password.
_PASSWORD_EXPIRED = 0
_POLICY_REJECTIONS = {
    _PASSWORD_EXPIRED: Rejection.PASSWORD_EXPIRED,
    1: Rejection.ACCOUNT_LOCKED,
    2: Rejection.MUST_CHANGE_PASSWORD,
}
_POLICY_WARNING, _POLICY_ERROR = 0xA0, 0x81
_BEFORE_EXPIRATION, _GRACE_REMAINING = 0x80, 0x81


def describe_result(response: Response) -> str:
    """The result in words: its name, its number, and what the server added."""
    name = RESULT_CODES.get(response.result_code, "unknown result")
    added = f", {response.diagnostic_message}" if response.diagnostic_message else ""
    return f"{name} ({response.result_code}){added}"


def judge_user_bind(response: Response, peer: Peer) -> BindResult:
    """What a server's answer to a user bind says of the password.

    Raises `DirectoryRefused` where our set-up keeps it from saying anything, and `DirectoryUnavailable` where it has
    decided nothing.
    """
    code = response.result_code
    if code == SUCCESS and not response.controls:
        return BindResult(peer.server, diagnostic_message=response.diagnostic_message)
    if code == SUCCESS:
        rejection = _policy_rejection(response)
    elif code == UNWILLING_TO_PERFORM:
        # 389 DS: the policy control calls a disabled account locked, so the result speaks first.
        is_locked = _LOCKED.search(response.diagnostic_message) is not None
        rejection = _nds_rejection(response) or (Rejection.ACCOUNT_LOCKED if is_locked else Rejection.ACCOUNT_DISABLED)
    elif code in _BIND_REJECTIONS:
        rejection = (
            _ad_rejection(response) or _nds_rejection(response) or _policy_rejection(response) or _BIND_REJECTIONS[code]
        )
    else:
        raise _bind_error(response, peer)
    return BindResult(peer.server, rejection, _policy_notice(response), code, response.diagnostic_message)


def service_bind_error(response: Response, peer: Peer, mechanism: str | None = None) -> DirectoryError:
    """Why the service account could not bind, by a mechanism of SASL or by its password."""
    if mechanism is not None and response.result_code in (STRONGER_AUTH_REQUIRED, CONFIDENTIALITY_REQUIRED):
        happened = f"the server does not take SASL {mechanism} this way:"
        return _error(DirectoryRefused, happened, response, peer, SASL_LAYER_REMEDY)
    if response.result_code in _BIND_REJECTIONS or response.result_code == AUTH_METHOD_NOT_SUPPORTED:
        remedy = (
            "Check bind.dn and the password of the service account, and that the account is neither locked nor expired."
            if mechanism is None
            else f"Check that the server offers SASL {mechanism}, and to which entry it maps the account."
        )
        return _error(DirectoryRefused, "the service account is refused", response, peer, remedy)
    return _bind_error(response, peer)


def search_error(response: Response, peer: Peer, base: str) -> DirectoryError:
    """Why a search below `base` gave no complete result."""
    code = response.result_code
    place = f"the search below {base!r} ended with"
    if code in (SIZE_LIMIT_EXCEEDED, TIME_LIMIT_EXCEEDED, ADMIN_LIMIT_EXCEEDED):
        return _error(SearchIncomplete, place, response, peer, _LIMITS)
    if code == REFERRAL:
        remedy = f"Referrals are never followed. Configure the server that holds the entries: {_places(response)}."
        return _error(SearchIncomplete, place, response, peer, remedy)
    if code == NO_SUCH_OBJECT:
        remedy = "Check users.bases, and that the service account may see this entry."
        return _error(
            SearchInvalid, f"the search base {base!r} does not exist or can't be seen:", response, peer, remedy
        )
    if code == INSUFFICIENT_ACCESS_RIGHTS:
        return _error(DirectoryRefused, place, response, peer, _RIGHTS)
    if code in (STRONGER_AUTH_REQUIRED, CONFIDENTIALITY_REQUIRED):
        return _error(DirectoryRefused, place, response, peer, _ENCRYPT)
    if code in ASK_ANOTHER_SERVER:
        return _error(DirectoryUnavailable, place, response, peer, "Look into the server's own log.")
    if code in (UNWILLING_TO_PERFORM, UNAVAILABLE_CRITICAL_EXTENSION, SUCCESS):
        return _error(SearchIncomplete, place, response, peer, "Look into the server's own log.")
    return _error(SearchInvalid, place, response, peer, _SEARCH_WRONG)


def _bind_error(response: Response, peer: Peer) -> DirectoryError:
    """Why a bind has decided nothing."""
    code = response.result_code
    if code in (STRONGER_AUTH_REQUIRED, CONFIDENTIALITY_REQUIRED):
        return _error(DirectoryRefused, "the server takes no password this way:", response, peer, _ENCRYPT)
    if code == INSUFFICIENT_ACCESS_RIGHTS:
        return _error(DirectoryRefused, "the server lets nobody bind:", response, peer, _ACL)
    if code == REFERRAL:
        remedy = f"Referrals are never followed. Configure the server that holds the entry: {_places(response)}."
        return _error(DirectoryUnavailable, "the bind ended with", response, peer, remedy)
    return _error(DirectoryUnavailable, "the bind ended with", response, peer, "Look into the server's own log.")


def _error(kind: type[DirectoryError], happened: str, response: Response, peer: Peer, remedy: str) -> DirectoryError:
    return kind(
        f"{happened} {describe_result(response)}",
        directory=peer.directory,
        server=peer.server,
        result_code=response.result_code,
        diagnostic_message=response.diagnostic_message,
        remedy=remedy,
    )


def _places(response: Response) -> str:
    return ", ".join(response.referrals) or "the server named none"


def _ad_rejection(response: Response) -> Rejection | None:
    message = response.diagnostic_message
    if response.result_code != INVALID_CREDENTIALS or not message:
        return None
    if (cause := _AD_CAUSE.search(message)) is not None:
        return _AD_REJECTIONS.get(int(cause[1], 16))
    status = _NT_STATUS.search(message)
    return _NT_REJECTIONS.get(status[1]) if status else None


def _nds_rejection(response: Response) -> Rejection | None:
    cause = _NDS_CAUSE.search(response.diagnostic_message)
    return _NDS_REJECTIONS.get(cause[1]) if cause else None


def _policy_rejection(response: Response) -> Rejection | None:
    """What the controls of a bind response refuse, whatever its result code says."""
    error = _read_policy(response)[1]
    if error == _PASSWORD_EXPIRED and response.result_code == SUCCESS:
        error = None  # grace logins are left: expired, and accepted all the same
    if error is not None and error in _POLICY_REJECTIONS:
        return _POLICY_REJECTIONS[error]
    if messages.PASSWORD_EXPIRED in response.controls:
        # 389 DS: beside result 0 the password was reset and must be changed, beside 49 it has expired.
        succeeded = response.result_code == SUCCESS
        return Rejection.MUST_CHANGE_PASSWORD if succeeded else Rejection.PASSWORD_EXPIRED
    return None


def _policy_notice(response: Response) -> str | None:
    notice = _read_policy(response)[0]
    seconds = response.controls.get(messages.PASSWORD_EXPIRING)
    if notice is None and seconds is not None and seconds.isdigit():
        notice = f"the password expires in {int(seconds)} s"
    return notice


def _read_policy(response: Response) -> tuple[str | None, int | None]:
    """The warning and the error of a password policy response control; what can't be read counts as absent.

    The result code has decided already where the control is broken: the control only adds a reason.
    """
    value = response.controls.get(messages.PASSWORD_POLICY)
    if value is None:
        return None, None
    try:
        return _read_policy_value(ber.Reader(value).read_inner())
    except ber.BerError:
        return None, None


def _read_policy_value(reader: ber.Reader) -> tuple[str | None, int | None]:
    notice, error = None, None
    if reader.peek_tag() == _POLICY_WARNING:
        warning = reader.read_inner(_POLICY_WARNING)
        if warning.peek_tag() == _GRACE_REMAINING:
            notice = f"{warning.read_integer(_GRACE_REMAINING)} grace logins remain"
        else:
            notice = f"the password expires in {warning.read_integer(_BEFORE_EXPIRATION)} s"
    if reader.peek_tag() == _POLICY_ERROR:
        error = reader.read_integer(_POLICY_ERROR)
    return notice, error
