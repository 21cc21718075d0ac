"""What a server's result codes and controls mean to us: the one place that translates them.

A user bind gives a `BindResult` or, where nothing was decided, an exception; everything else that did not succeed gives
an exception with the remedy. Numbers and names are those of RFC 4511 §4.1.9 and Appendix A.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ldap3.core.results import RESULT_CODES

from bridge.directory import BindResult, Scope
from bridge.errors import (
    DirectoryError,
    DirectoryRefused,
    DirectoryUnavailable,
    OutcomeUnknown,
    SearchIncomplete,
    SearchInvalid,
)
from bridge.ldap.bind_causes import (
    find_cause,
    find_policy_cause,
    find_state,
    read_policy_notice,
    read_policy_rejection,
    speaks_of_credentials,
    speaks_of_trouble,
)
from bridge.ldap.entries import DN_MAX_BYTES, find_long_name
from bridge.ldap.references import server_of
from bridge.model import Rejection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bridge.directory import Entry, SearchRequest
    from bridge.ldap.connection import Connection, Peer
    from bridge.ldap.messages import Response

SUCCESS = 0
OPERATIONS_ERROR = 1
PROTOCOL_ERROR = 2
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
OVERLOADED = frozenset((TIME_LIMIT_EXCEEDED, ADMIN_LIMIT_EXCEEDED, BUSY, UNAVAILABLE))
"""What a server says that has too much to do: another one is asked before it is asked again."""

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

_SIMPLE_BINDS = (
    "Let the server take simple binds of its users (OpenLDAP: neither `disallow bind_simple` nor `restrict bind`), "
    "over TLS where it wants that (389 DS: nsslapd-minssf)."
)
_LOG = "Look into the server's own log."
SLOW_AT_PASSWORDS = "Check the load of the server, and whether it can check passwords itself or asks another for it."
"""What to do where a bind is not answered, ours or a user's."""

_ABOUT_THE_ACCOUNT = frozenset(
    (
        AUTH_METHOD_NOT_SUPPORTED,
        CONSTRAINT_VIOLATION,
        NO_SUCH_OBJECT,
        INVALID_DN_SYNTAX,
        INAPPROPRIATE_AUTHENTICATION,
        INVALID_CREDENTIALS,
        UNWILLING_TO_PERFORM,
    )
)
"""What a bind by SASL ends with where the mechanism or the account is at fault."""
_NOT_TAKEN = {
    PROTOCOL_ERROR: _SIMPLE_BINDS,
    AUTH_METHOD_NOT_SUPPORTED: _SIMPLE_BINDS,
    STRONGER_AUTH_REQUIRED: _ENCRYPT,
    UNAVAILABLE_CRITICAL_EXTENSION: _LOG,
    CONFIDENTIALITY_REQUIRED: _ENCRYPT,
    INSUFFICIENT_ACCESS_RIGHTS: _ACL,
    INAPPROPRIATE_AUTHENTICATION: _SIMPLE_BINDS,  # taken for an anonymous bind (RFC 4513 §5.1.2)
    UNWILLING_TO_PERFORM: _SIMPLE_BINDS,
}
"""The results of a server that doesn't take binds this way and looks at no password, each with its remedy."""
_ANONYMOUS = re.compile(r"\banonymous\b", re.IGNORECASE)
_NEEDS_TLS = re.compile(r"\bSSF\b")  # 389 DS: "Minimum SSF not met.", with result 53


def describe_result(response: Response) -> str:
    """The result by its name and number. What the server adds may name a person, and is the error's to tell apart."""
    return f"{RESULT_CODES.get(response.result_code, 'unknown result')} ({response.result_code})"


def judge_user_bind(response: Response, peer: Peer) -> BindResult:
    """What a server's answer to a user bind says of the password.

    Raises `OutcomeUnknown` where the server may have compared the password and says nothing of it; `DirectoryRefused`
    where it takes no bind this way, and `DirectoryUnavailable` where it was busy or is the wrong one: in neither has it
    looked at the password.
    """
    if response.result_code == SUCCESS and not response.controls:
        return BindResult(peer.server, diagnostic_message=response.diagnostic_message)
    return _judge_bind(response, peer, OutcomeUnknown)


def _judge_bind(response: Response, peer: Peer, unknown: type[DirectoryUnavailable]) -> BindResult:
    """The same, with the error that is raised where the server may have compared the password all the same."""
    if response.result_code == SUCCESS:
        return _result(response, peer, read_policy_rejection(response))
    if response.result_code == INVALID_CREDENTIALS:
        return _judge_invalid_credentials(response, peer, unknown)
    state = _find_account_state(response)
    if state is None:
        raise _bind_error(response, peer, unknown)
    return _result(response, peer, state)


def _judge_invalid_credentials(response: Response, peer: Peer, unknown: type[DirectoryUnavailable]) -> BindResult:
    """What a result 49 says: without any cause, that the password is wrong."""
    cause = find_cause(response.diagnostic_message) or find_policy_cause(response)
    if cause is not None and cause.rejection is None:
        raise _error(unknown, "the server could not decide:", response, peer, cause.remedy)
    if cause is not None:
        return _result(response, peer, cause.rejection)
    message = response.diagnostic_message
    if not message or speaks_of_credentials(message):
        return _result(response, peer, Rejection.WRONG_PASSWORD)
    if (state := find_state(message)) is not None:
        # Nobody knows in what order a server that is strange to us looks at states and passwords.
        return _result(response, peer, state, was_compared=True)
    if speaks_of_trouble(message):
        raise _error(unknown, "the server could not decide:", response, peer, _LOG)
    return _result(response, peer, Rejection.WRONG_PASSWORD)


def _find_account_state(response: Response) -> Rejection | None:
    """What a result other than 0 and 49 says of the account; None where it speaks of something else."""
    code, message = response.result_code, response.diagnostic_message
    if code in (NO_SUCH_OBJECT, INVALID_DN_SYNTAX):
        return Rejection.ENTRY_GONE
    if code not in (CONSTRAINT_VIOLATION, INAPPROPRIATE_AUTHENTICATION, UNWILLING_TO_PERFORM):
        return None
    if (cause := find_cause(message)) is not None:
        return cause.rejection
    # 389 DS: the policy control calls a disabled account locked, so the words come first.
    state = find_state(message) or read_policy_rejection(response)
    if state is not None:
        return state
    if code == INAPPROPRIATE_AUTHENTICATION:
        return None if _ANONYMOUS.search(message) is not None else Rejection.NO_PASSWORD
    return Rejection.ACCOUNT_LOCKED if _begins_lock(response) else None


def _begins_lock(response: Response) -> bool:
    """Whether this very password was wrong and has locked the account: there is nothing left to be counted.

    389 DS says so by a bare result 19 with `passwordLegacyPolicy: off`; of an older lock it tells by text and control.
    """
    is_bare = not (response.diagnostic_message or response.controls)
    return response.result_code == CONSTRAINT_VIOLATION and is_bare


def _result(response: Response, peer: Peer, rejection: Rejection | None, *, was_compared: bool = False) -> BindResult:
    notice = read_policy_notice(response)
    code, message = response.result_code, response.diagnostic_message
    return BindResult(peer.server, rejection, notice, code, message, was_compared)


def refuses_secret(response: Response, peer: Peer) -> bool:
    """Whether an answer to a bind says that the password is wrong and nothing else, as a bare 49 and `data 52e` do."""
    try:
        result = judge_user_bind(response, peer)
    except DirectoryError:
        return False
    return result.rejection is Rejection.WRONG_PASSWORD


def service_bind_error(response: Response, peer: Peer, mechanism: str | None = None) -> DirectoryError:
    """Why the service account could not bind, by a mechanism of SASL or by its password."""
    if mechanism is not None:
        return _sasl_bind_error(response, peer, mechanism)
    try:
        _judge_bind(response, peer, DirectoryUnavailable)
    except DirectoryError as error:
        return error
    remedy = (
        "Check bind.dn and the password of the service account, and that the account is neither locked nor expired."
    )
    return _error(DirectoryRefused, "the service account is refused", response, peer, remedy)


def _sasl_bind_error(response: Response, peer: Peer, mechanism: str) -> DirectoryError:
    if response.result_code in (STRONGER_AUTH_REQUIRED, CONFIDENTIALITY_REQUIRED):
        happened = f"the server does not take SASL {mechanism} this way:"
        return _error(DirectoryRefused, happened, response, peer, SASL_LAYER_REMEDY)
    if response.result_code in _ABOUT_THE_ACCOUNT:
        remedy = f"Check that the server offers SASL {mechanism}, and to which entry it maps the account."
        return _error(DirectoryRefused, "the service account is refused", response, peer, remedy)
    return _bind_error(response, peer, DirectoryUnavailable)


def describe_place(search: SearchRequest) -> tuple[str, str]:
    """Where a search looks, in words, and whom that names: bases are configured, an entry read alone is somebody's."""
    return ("at one entry", search.base) if _is_of_one_entry(search) else (f"below {search.base!r}", "")


def _is_of_one_entry(search: SearchRequest) -> bool:
    return search.scope is Scope.BASE and bool(search.base)


def search_error(response: Response, peer: Peer, search: SearchRequest) -> DirectoryError:
    """Why a search gave no complete result."""
    where, subject = describe_place(search)
    error = _judge_search(response, peer, search, where)
    error.subject = ", ".join(filter(None, (subject, error.subject)))
    return error


def _judge_search(response: Response, peer: Peer, search: SearchRequest, where: str) -> DirectoryError:
    code, place = response.result_code, f"the search {where} ended with"
    if code in (SIZE_LIMIT_EXCEEDED, TIME_LIMIT_EXCEEDED, ADMIN_LIMIT_EXCEEDED):
        return _error(SearchIncomplete, place, response, peer, _LIMITS)
    if code == REFERRAL:
        remedy = f"Referrals are never followed. Configure the server that holds the entries: {_places(response)}."
        return _error(SearchIncomplete, place, response, peer, remedy)
    if code == NO_SUCH_OBJECT:
        remedy = "Check users.bases, and that the service account may see this entry."
        missing = "the entry" if _is_of_one_entry(search) else f"the search base {search.base!r}"
        return _error(SearchInvalid, f"{missing} does not exist or can't be seen:", response, peer, remedy)
    if code == INSUFFICIENT_ACCESS_RIGHTS:
        return _error(DirectoryRefused, place, response, peer, _RIGHTS)
    if code in (STRONGER_AUTH_REQUIRED, CONFIDENTIALITY_REQUIRED):
        return _error(DirectoryRefused, place, response, peer, _ENCRYPT)
    if code in ASK_ANOTHER_SERVER:
        return _error(DirectoryUnavailable, place, response, peer, _LOG)
    if code in (UNWILLING_TO_PERFORM, UNAVAILABLE_CRITICAL_EXTENSION, SUCCESS):
        return _error(SearchIncomplete, place, response, peer, _LOG)
    return _error(SearchInvalid, place, response, peer, _SEARCH_WRONG)


def check_entries(entries: Sequence[Entry], search: SearchRequest, connection: Connection) -> None:
    """Raise `SearchIncomplete` where several came for one, or a DN is longer than may be; it is never shortened."""
    if search.scope is Scope.BASE and len(entries) > 1:
        where, subject = describe_place(search)
        detail = f"one entry was asked for, and {len(entries)} came ({where})"  # RFC 4511 §4.5.1.2
        raise _incomplete(detail, subject, _LOG, connection.peer)
    beginning = find_long_name(entries) if connection.has_long_names else None
    if beginning is not None:
        detail = f"the DN of an entry is longer than {DN_MAX_BYTES} bytes"
        remedy = "Leave this entry out by users.filter or users.bases."
        raise _incomplete(detail, f"{beginning}…", remedy, connection.peer)


def check_repetition(entries: Sequence[Entry], search: SearchRequest, connection: Connection) -> None:
    """Raise `SearchIncomplete` where an entry came twice: a small search tells by their number whether it is one."""
    if len({entry.dn for entry in entries}) < len(entries):
        where, subject = describe_place(search)
        raise _incomplete(f"an entry came twice ({where})", subject, _LOG, connection.peer)


def _incomplete(detail: str, subject: str, remedy: str, peer: Peer) -> SearchIncomplete:
    return SearchIncomplete(detail, subject=subject, directory=peer.directory, server=peer.server, remedy=remedy)


def _bind_error(response: Response, peer: Peer, unknown: type[DirectoryUnavailable]) -> DirectoryError:
    """Why a bind has decided nothing: `unknown` where the server may have compared the password all the same."""
    code = response.result_code
    if code in _NOT_TAKEN:
        needs_tls = code == UNWILLING_TO_PERFORM and _NEEDS_TLS.search(response.diagnostic_message) is not None
        remedy = _ENCRYPT if needs_tls else _NOT_TAKEN[code]
        return _error(DirectoryRefused, "the server takes no password this way:", response, peer, remedy)
    if code == REFERRAL:
        remedy = f"Referrals are never followed. Configure the server that holds the entry: {_places(response)}."
        return _error(DirectoryUnavailable, "the bind ended with", response, peer, remedy)
    kind = DirectoryUnavailable if code in (BUSY, UNAVAILABLE) else unknown
    return _error(kind, "the bind ended with", response, peer, _LOG)


def _error(kind: type[DirectoryError], happened: str, response: Response, peer: Peer, remedy: str) -> DirectoryError:
    return kind(
        f"{happened} {describe_result(response)}",
        directory=peer.directory,
        server=peer.server,
        result_code=response.result_code,
        diagnostic_message=response.diagnostic_message,
        remedy=remedy,
        subject=", ".join(response.referrals),
    )


def _places(response: Response) -> str:
    return ", ".join(dict.fromkeys(map(server_of, response.referrals))) or "the server named none"
