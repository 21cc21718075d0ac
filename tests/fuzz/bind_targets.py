"""What servers answer to binds: result codes, the words of vendors, the controls of password policies."""

from __future__ import annotations

from bridge.directory import Scope, SearchRequest
from bridge.errors import DirectoryError
from bridge.ldap import messages
from bridge.ldap.account_notices import AccountNotices
from bridge.ldap.bind_causes import find_cause, find_state, read_policy_warning, speaks_of_credentials
from bridge.ldap.connection import Peer
from bridge.ldap.messages import Response
from bridge.ldap.results import SUCCESS, judge_user_bind, refuses_secret, search_error, service_bind_error
from bridge.syntax.filters import Present
from tests.fuzz import readers
from tests.fuzz.inputs import cut, said_of, split_off
from tests.support.manual_clock import ManualClock

_TELLING_CHARACTERS = 20
"""What is shorter may stand in our own words, too."""
_PEER = Peer("company", "ldap://h")
_SEARCH = SearchRequest("dc=e", Scope.SUBTREE, Present("uid"), ())


def judge_bind(data: bytes) -> bool:
    """A result that is no success accepts nobody; every other answer is a verdict or an error with this server's name."""
    head, rest = split_off(data, 3)
    said, *values = cut(rest, head[1:])
    names = (messages.PASSWORD_POLICY, messages.PASSWORD_EXPIRED, messages.PASSWORD_EXPIRING)
    controls: dict[str, bytes | None] = {name: value for name, value in zip(names, values, strict=False) if value}
    response = Response(
        messages.BIND_RESPONSE, head[0], said_of(said), ("ldap://other/cn=x",) * (head[0] == 10), controls
    )
    _check_policy(response)
    for error in (service_bind_error(response, _PEER), service_bind_error(response, _PEER, "GSSAPI")):
        assert error.server == _PEER.server
    assert search_error(response, _PEER, _SEARCH).result_code == head[0]
    try:
        result = judge_user_bind(response, _PEER)
    except DirectoryError as error:
        assert not refuses_secret(response, _PEER)
        assert error.result_code == head[0]
        assert len(response.diagnostic_message) < _TELLING_CHARACTERS or response.diagnostic_message not in error.detail
        return False
    assert result.rejection is not None or head[0] == SUCCESS
    return True


def _check_policy(response: Response) -> None:
    """Numbers are those of pyasn1, and none is negative or larger than maxInt."""
    warning, value = read_policy_warning(response), response.controls.get(messages.PASSWORD_POLICY)
    notices = AccountNotices("company", ManualClock(), lambda _event: None)
    notices.note_accepted(b"key", "h", response)
    if warning is None:
        return
    number = warning.expires_in_s if warning.grace_count is None else warning.grace_count
    assert number is not None and 0 <= number <= 10**10
    theirs = readers.read_policy(value) if value is not None else None
    if theirs is not None and theirs[0] is not None:
        assert theirs[0] == (("expires", number) if warning.grace_count is None else ("graces", number))


def find_causes(data: bytes) -> bool:
    """What a message says of the account never comes from what it quotes: a name in brackets, or a DN."""
    text = said_of(data)
    quoted = f"[{text.replace(']', '')}]"
    assert find_cause(quoted) is None
    assert find_state(quoted) is None
    assert not speaks_of_credentials(quoted)
    return any((find_cause(text), find_state(text), speaks_of_credentials(text)))


TARGETS = {"bind-answer": judge_bind, "diagnostic": find_causes}
