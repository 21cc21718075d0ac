"""What the answers of servers to a bind mean, those that no test can ask a real server for among them."""

from __future__ import annotations

import pytest

from bridge.errors import BridgeError, DirectoryRefused, DirectoryUnavailable, OutcomeUnknown
from bridge.ldap import messages
from bridge.ldap.connection import Peer
from bridge.ldap.messages import Response
from bridge.ldap.results import judge_user_bind, refuses_secret, service_bind_error
from bridge.mailstore import render_error
from bridge.model import Rejection
from bridge.syntax import ber

PEER = Peer("company", "ldaps://ldap.example.com")
AD = "80090308: LdapErr: DSID-0C0903A9, comment: AcceptSecurityContext error, data {}, v1db1"
POLICY = messages.PASSWORD_POLICY


def answer(code: int, message: str = "", **controls: bytes | None) -> Response:
    return Response(messages.BIND_RESPONSE, code, message, controls={POLICY: controls["policy"]} if controls else {})


def policy(error: int | None = None) -> bytes:
    """A password policy response control without a warning (draft-behera-ldap-password-policy-11 §6.2)."""
    return ber.write_element(ber.SEQUENCE, b"" if error is None else ber.write_integer(error, 0x81))


@pytest.mark.parametrize(
    ("code", "message", "expected"),
    [
        (49, "NDS error: failed authentication (-669)", Rejection.WRONG_PASSWORD),
        (49, "NDS error: bad password (-222)", Rejection.PASSWORD_EXPIRED),
        (49, "NDS error: no such entry (-601)", Rejection.ENTRY_GONE),
        (53, "NDS error: login lockout (-197)", Rejection.ACCOUNT_LOCKED),
        (53, "NDS error: maximum logins exceeded or Q stn not server (-217)", Rejection.LOGON_NOT_GRANTED),
        (53, "NDS error: log account expired (-220)", Rejection.ACCOUNT_DISABLED),
        (53, "NDS error: bad login time or Q halted (-218)", Rejection.NOT_AT_THIS_TIME),
        (0, "NDS error: password expired (-223)", None),
    ],
)
def test_edirectory_names_the_cause_in_brackets(code: int, message: str, expected: Rejection | None) -> None:
    """The number decides; -223 comes with success, as a grace login is left."""
    assert judge_user_bind(answer(code, message), PEER).rejection is expected


@pytest.mark.parametrize(
    "found",
    [
        answer(49),
        answer(49, policy=policy()),
        answer(49, AD.format("52e")),
        answer(49, AD.format("52E").upper().replace("DATA", "data")),
        answer(49, "Simple Bind Failed: NT_STATUS_LOGON_FAILURE"),
        answer(49, "NDS error: failed authentication (-669)"),
        answer(49, "Invalid credentials"),
        answer(49, "Invalid PAM password for user id [anna], bind DN [uid=anna,dc=example,dc=com]"),
        answer(49, "INVALID_CREDENTIALS: Bind failed: ERR_229 Cannot authenticate user uid=locked,dc=example,dc=com"),
        answer(49, "wrong user name or password, or the account is locked"),
        answer(49, "cannot authenticate user uid=locked,dc=example,dc=com"),
        answer(49, "no match for user id [server unavailable data 51f], bind DN [uid=NDS error,dc=example,dc=com]"),
        answer(49, "no match for user id [server unavailable data 51f"),
    ],
)
def test_result_49_without_another_cause_is_about_the_password(found: Response) -> None:
    """Bare, with 52e or its kin, or with a sentence that says no more than the result does."""
    result = judge_user_bind(found, PEER)
    assert result.rejection is Rejection.WRONG_PASSWORD
    assert result.may_have_counted
    assert refuses_secret(found, PEER)


@pytest.mark.parametrize(
    "found",
    [
        *(answer(49, AD.format(number)) for number in ("51f", "576", "6ba", "6fb", "5", "1f", "0", "57", "80090346")),
        answer(49, "8009030C: LdapErr: DSID-0C0905FF, comment: AcceptSecurityContext error, v23f0"),
        answer(49, "Simple Bind Failed: NT_STATUS_NO_LOGON_SERVERS"),
        answer(49, "Simple Bind Failed: NT_STATUS_IO_TIMEOUT"),
        answer(49, "NDS error: something new (-999)"),
        answer(49, "NDS error: system failure (-1642)"),
        answer(49, "NDS error"),
        answer(49, policy=policy(3)),
        answer(49, policy=policy(9)),
        answer(49, policy=b""),
        answer(49, policy=b"\x30\x03\x81\x02\x01"),
        answer(49, "the authentication service is unavailable"),
        answer(49, "Can't contact LDAP server"),
        answer(1),
        answer(1, "Unknown PAM error [System error] for user id [anna], bind DN [uid=anna,dc=example,dc=com]"),
        answer(3),
        answer(11),
        answer(14),
        answer(19, "some rule of the server's own"),
        answer(80),
        answer(80, "internal error"),
        answer(118),
    ],
)
def test_answer_that_says_nothing_of_the_password_is_an_unknown_outcome(found: Response) -> None:
    """MS-ERREF §2.2: no logon server, a clock that is wrong, RPC that fails. Others: numbers that we don't know."""
    with pytest.raises(OutcomeUnknown) as caught:
        judge_user_bind(found, PEER)
    assert caught.value.remedy
    assert caught.value.result_code == found.result_code
    reply = render_error(caught.value, "id")
    assert (reply.status, b"outcome_unknown" in reply.body) == (503, True)
    assert ("Retry-After", "30") in reply.headers
    assert not refuses_secret(found, PEER)


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("525", Rejection.ENTRY_GONE),
        ("52f", Rejection.LOGON_NOT_GRANTED),
        ("530", Rejection.NOT_AT_THIS_TIME),
        ("531", Rejection.NOT_FROM_THIS_PLACE),
        ("532", Rejection.PASSWORD_EXPIRED),
        ("533", Rejection.ACCOUNT_DISABLED),
        ("568", Rejection.TOO_MANY_GROUPS),
        ("569", Rejection.LOGON_NOT_GRANTED),
        ("701", Rejection.ACCOUNT_EXPIRED),
        ("773", Rejection.MUST_CHANGE_PASSWORD),
        ("775", Rejection.ACCOUNT_LOCKED),
    ],
)
def test_causes_of_active_directory_that_are_not_about_the_password(number: str, expected: Rejection) -> None:
    """MS-ERREF §2.2: each is a state of the account, and counts nothing."""
    result = judge_user_bind(answer(49, AD.format(number)), PEER)
    assert result.rejection is expected
    assert not result.may_have_counted


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (answer(53, "Account inactivated. Contact system administrator."), Rejection.ACCOUNT_DISABLED),
        (
            answer(53, "Account inactivated. Contact system administrator.", policy=policy(1)),
            Rejection.ACCOUNT_DISABLED,
        ),
        (answer(53, "Too many failed logins.\n"), Rejection.ACCOUNT_LOCKED),
        (answer(53, "Entry permanently locked.\n"), Rejection.ACCOUNT_LOCKED),
        (answer(53, "Account (Kerberos principal) is expired"), Rejection.ACCOUNT_EXPIRED),
        (
            answer(53, "Access denied for PAM user id [anna] - see administrator", policy=policy(1)),
            Rejection.ACCOUNT_LOCKED,
        ),
        (answer(53, "the account has been disabled"), Rejection.ACCOUNT_DISABLED),
        (answer(19, "Exceed password retry limit. Please try later.", policy=policy(1)), Rejection.ACCOUNT_LOCKED),
        (answer(19, "Exceed password retry limit. Contact system administrator to reset."), Rejection.ACCOUNT_LOCKED),
        (answer(19, "Authentication retry limit exceeded in PAM for user id [anna]"), Rejection.ACCOUNT_LOCKED),
        (
            answer(19, "Account inactivity limit exceeded. Contact system administrator to reset."),
            Rejection.ACCOUNT_DISABLED,
        ),
        (answer(32), Rejection.ENTRY_GONE),
        (answer(34, "invalid DN"), Rejection.ENTRY_GONE),
        (answer(48), Rejection.NO_PASSWORD),
        (answer(49, "password expired!", policy=policy(0)), Rejection.PASSWORD_EXPIRED),
        (answer(49, policy=policy(1)), Rejection.ACCOUNT_LOCKED),
        (answer(49, policy=policy(2)), Rejection.MUST_CHANGE_PASSWORD),
    ],
)
def test_state_of_the_account_in_words_or_controls_is_a_refusal_that_counts_nothing(
    found: Response, expected: Rejection
) -> None:
    """As 389 DS, its PAM pass-through, FreeIPA and slapd say it."""
    result = judge_user_bind(found, PEER)
    assert result.rejection is expected
    assert not result.may_have_counted
    assert not refuses_secret(found, PEER)


@pytest.mark.parametrize(("found", "is_counted"), [(answer(19), False), (answer(49, "your account is locked"), True)])
def test_lock_may_come_with_a_password_that_was_compared(found: Response, is_counted: bool) -> None:
    """389 DS, `passwordLegacyPolicy: off`: a bare 19 has locked already; of strange servers nobody knows."""
    result = judge_user_bind(found, PEER)
    assert result.rejection is Rejection.ACCOUNT_LOCKED
    assert result.may_have_counted is is_counted


@pytest.mark.parametrize(
    ("code", "message", "remedy"),
    [
        (2, "decoding error", "simple binds"),
        (7, "only SASL is taken", "simple binds"),
        (8, "BindSimple: Transport encryption required.", "ldaps://"),
        (13, "confidentiality required", "ldaps://"),
        (48, "anonymous bind disallowed", "simple binds"),
        (50, "", "by anonymous auth"),
        (53, "", "simple binds"),
        (53, "unwilling to perform simple authentication", "disallow bind_simple"),
        (53, "operation restricted", "restrict bind"),
        (53, "Minimum SSF not met.", "ldaps://"),
        (53, "unauthenticated bind (DN with no password) disallowed", "simple binds"),
        (53, "simple binds are disabled", "simple binds"),
        (53, "NDS error: something new (-999)", "simple binds"),
    ],
)
def test_server_that_takes_no_bind_this_way_is_refused_with_the_remedy(code: int, message: str, remedy: str) -> None:
    """Nobody has looked at the password, and no word is said of the account."""
    with pytest.raises(DirectoryRefused) as caught:
        judge_user_bind(answer(code, message), PEER)
    assert remedy in caught.value.remedy
    assert render_error(caught.value, "id").status == 502


@pytest.mark.parametrize("code", [10, 51, 52])
def test_server_that_passes_the_bind_on_or_is_busy_has_certainly_not_counted(code: int) -> None:
    """A referral, busy, unavailable: 503, and no unknown outcome."""
    with pytest.raises(DirectoryUnavailable) as caught:
        judge_user_bind(answer(code), PEER)
    assert not isinstance(caught.value, OutcomeUnknown)


@pytest.mark.parametrize(
    ("found", "kind", "remedy"),
    [
        (answer(49), DirectoryRefused, "bind.dn"),
        (answer(49, AD.format("775")), DirectoryRefused, "neither locked"),
        (answer(49, AD.format("51f")), DirectoryUnavailable, "the trust"),
        (answer(53, "Account inactivated. Contact system administrator."), DirectoryRefused, "bind.dn"),
        (answer(53, "unwilling to perform simple authentication"), DirectoryRefused, "disallow bind_simple"),
        (answer(7), DirectoryRefused, "simple binds"),
        (answer(8), DirectoryRefused, "ldaps://"),
        (answer(1), DirectoryUnavailable, "own log"),
        (answer(52), DirectoryUnavailable, "own log"),
    ],
)
def test_service_bind_that_fails_says_why_and_is_no_unknown_outcome(
    found: Response, kind: type[BridgeError], remedy: str
) -> None:
    """Nobody's login hangs on it, and a domain controller in trouble says nothing against the account."""
    error = service_bind_error(found, PEER)
    assert type(error) is kind
    assert remedy in error.remedy
