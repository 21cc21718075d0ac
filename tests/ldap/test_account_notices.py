"""What is made of the controls beside a successful service bind, by server and by secret."""

from __future__ import annotations

import pytest

from bridge.events import AccountWarned, Event
from bridge.ldap.account_notices import AccountNotices
from bridge.ldap.messages import BIND_RESPONSE, PASSWORD_EXPIRED, PASSWORD_EXPIRING, PASSWORD_POLICY, Response
from bridge.syntax import ber
from tests.support.manual_clock import ManualClock

FIRST, SECOND = "ldap://first", "ldap://second"
OLD, NEW = b"old", b"new"
DAY_S = 86_400


def policy(*, grace: int | None = None, expires_s: int | None = None, error: int | None = None) -> Response:
    """draft-behera-ldap-password-policy-11 §6.2."""
    parts = []
    for tag, number in ((0x81, grace), (0x80, expires_s)):
        if number is not None:
            parts.append(ber.write_element(0xA0, ber.write_integer(number, tag)))
    if error is not None:
        parts.append(ber.write_element(0x81, bytes((error,))))
    return Response(BIND_RESPONSE, 0, controls={PASSWORD_POLICY: ber.write_element(ber.SEQUENCE, *parts)})


def control(oid: str, value: bytes) -> Response:
    return Response(BIND_RESPONSE, 0, controls={oid: value})


def notices() -> tuple[AccountNotices, ManualClock, list[Event]]:
    clock, told = ManualClock(), list[Event]()
    return AccountNotices("company", clock, told.append), clock, told


@pytest.mark.parametrize(
    ("response", "code", "words"),
    [
        (policy(grace=2), "service_password_expired", "let through all the same: 2."),
        (policy(grace=0, error=0), "service_password_expired", "let through all the same: 0."),
        (policy(expires_s=DAY_S), "service_password_ends", "ends at 1970-01-13 13:46 UTC."),
        (control(PASSWORD_EXPIRING, b"86400"), "service_password_ends", "ends at 1970-01-13 13:46 UTC."),
        (control(PASSWORD_EXPIRING, b"9999999999"), "service_password_ends", "ends at 2"),
        (policy(error=2), "service_password_must_change", "must be changed"),
        (control(PASSWORD_EXPIRED, b"0"), "service_password_must_change", "must be changed"),
    ],
)
def test_each_control_is_told_in_words(response: Response, code: str, words: str) -> None:
    """By the policy control, and by the two of Netscape's that 389 DS sends."""
    found, _, told = notices()
    found.note_accepted(OLD, FIRST, response)
    (problem,) = found.problems
    assert (problem.code, problem.directory) == (code, "company")
    assert words in problem.message
    assert problem.remedy
    assert told == [AccountWarned("company", FIRST, code, problem.message, problem.remedy)]


@pytest.mark.parametrize(
    "response",
    [
        Response(BIND_RESPONSE, 0),
        policy(),
        control(PASSWORD_EXPIRING, b"soon"),
        control(PASSWORD_EXPIRING, b"9" * 5000),
        control(PASSWORD_POLICY, b"\x30\x80"),
    ],
)
def test_what_says_nothing_or_can_not_be_read_is_no_warning(response: Response) -> None:
    """A success is one, whatever stands beside it."""
    found, _, told = notices()
    found.note_accepted(OLD, FIRST, response)
    assert (found.problems, told) == ((), [])


@pytest.mark.parametrize("number", [b"\xff", b"\x00\x80\x00\x00\x00", b"\x00" * 9])
@pytest.mark.parametrize("tag", [0x80, 0x81])
def test_number_that_a_policy_cannot_have_is_not_told(tag: int, number: bytes) -> None:
    """Less than nothing, or more than maxInt (RFC 4511 §4.1.1): no sentence says that -1 binds are left."""
    found, _, told = notices()
    warning = ber.write_element(0xA0, ber.write_octets(number, tag))
    found.note_accepted(OLD, FIRST, control(PASSWORD_POLICY, ber.write_element(ber.SEQUENCE, warning)))
    assert (found.problems, told) == ((), [])


def test_same_of_every_bind_and_server_is_told_once() -> None:
    """And again when it has ended in between; the number in it may change."""
    found, clock, told = notices()
    began_s = clock.now_s()
    for grace in (5, 4, 3):
        for server in (FIRST, SECOND):
            found.note_accepted(OLD, server, policy(grace=grace))
            clock.advance(60)
    (problem,) = found.problems
    assert (len(told), problem.since_s, "same: 3" in problem.message) == (1, began_s, True)
    found.note_accepted(OLD, FIRST, policy())
    assert len(found.problems) == 1
    found.note_accepted(OLD, SECOND, policy())
    assert found.problems == ()
    found.note_accepted(OLD, SECOND, policy(grace=2))
    assert len(told) == 2


def test_new_secret_ends_what_was_said_of_the_old_one_at_every_server() -> None:
    """The second server may not be asked for days."""
    found, _, _ = notices()
    found.note_accepted(OLD, FIRST, policy(grace=2))
    found.note_accepted(OLD, SECOND, policy(grace=2))
    found.note_accepted(NEW, FIRST, policy())
    assert found.problems == ()
