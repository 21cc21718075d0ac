"""How logins fare, apart from listings."""

from __future__ import annotations

from bridge.authentication.login_health import LoginHealth
from bridge.errors import DirectoryUnavailable
from tests.support.manual_clock import ManualClock

ERROR = DirectoryUnavailable("no answer", directory="a", server="ldap://one", remedy="Look.")


def codes(health: LoginHealth, directory: str = "a") -> list[str]:
    return [problem.code for problem in health.problems(directory)]


def test_failing_logins_are_told_until_one_is_decided() -> None:
    """Since when, how many, and why; another directory fares well."""
    clock = ManualClock()
    health = LoginHealth(clock)
    since_s = clock.now_s()
    for _ in range(3):
        health.note_failure("a", ERROR)
        clock.advance(10.0)
    (problem,) = health.problems("a")
    assert (problem.code, problem.directory, problem.since_s) == ("logins_failing", "a", since_s)
    assert "3 since then" in problem.message
    assert "ldap://one" in problem.message
    assert codes(health, "b") == []
    health.note_answer("a")
    assert codes(health) == []


def test_failure_after_which_nobody_has_come_is_told_for_a_while_only() -> None:
    """At night nobody logs in, and nobody is to be woken for what may be over."""
    clock = ManualClock()
    health = LoginHealth(clock)
    health.note_failure("a", ERROR)
    clock.advance(899.0)
    assert codes(health) == ["logins_failing"]
    clock.advance(1.0)
    assert codes(health) == []


def test_many_users_with_wrong_passwords_and_none_with_a_right_one_are_an_outage() -> None:
    """The sixth within a minute makes it one; since when is said, so that what was remembered can be taken back."""
    clock = ManualClock()
    health = LoginHealth(clock)
    for number in range(5):
        assert health.note_refused("a", f"u{number}") is None
        clock.advance(10.0)
    assert health.note_refused("a", "u0") is None, "the same user again"
    assert not health.is_outage("a")
    assert health.note_refused("a", "u6") == 40.0
    assert health.is_outage("a")
    assert codes(health) == ["logins_refused"]
    assert health.note_refused("a", "u7") is None, "it was told"
    health.note_accepted("a")
    assert not health.is_outage("a")
    assert codes(health) == []


def test_wrong_passwords_over_a_longer_time_are_no_outage() -> None:
    """The twin: six users in six minutes make mistakes."""
    clock = ManualClock()
    health = LoginHealth(clock)
    for number in range(12):
        assert health.note_refused("a", f"u{number}") is None
        clock.advance(15.0)


def test_somebody_who_is_accepted_shows_that_passwords_are_compared() -> None:
    """However many others are wrong: the count begins anew."""
    health = LoginHealth(ManualClock())
    for number in range(30):
        assert health.note_refused("a", f"u{number}") is None
        if number % 5 == 4:
            health.note_accepted("a")
