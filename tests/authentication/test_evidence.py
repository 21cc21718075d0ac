"""What a refused bind says of the password, by the entry before and after it."""

from __future__ import annotations

import pytest

from bridge.authentication.evidence import Evidence, judge_refusal
from bridge.authentication.throttle import Outcome
from bridge.model import Rejection
from bridge.sources.directory.login_state import Bar, LoginState

LOCK = Bar(Rejection.ACCOUNT_LOCKED, "pwdaccountlockedtime", (b"20260101000000Z",))
NEWER = LOCK._replace(values=(b"20260101000100Z",))
DISABLED = Bar(Rejection.ACCOUNT_DISABLED, "nsaccountlock", (b"true",))
ADMIN_LOCK = Bar(Rejection.ACCOUNT_DISABLED, "pwdaccountlockedtime", (b"000001010000Z",), is_uncompared=True)
WRONG, LOCKED = Rejection.WRONG_PASSWORD, Rejection.ACCOUNT_LOCKED


def state(*bars: Bar, failures: int | None = None, mark: bytes = b"set") -> LoginState:
    return LoginState(bars, ((str(failures).encode(),),) if failures is not None else (), (mark,) if mark else ())


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (state(failures=0), state(failures=1), Evidence(Outcome.WRONG, is_lasting=True, shows_count=True)),
        (state(), state(), Evidence(Outcome.WRONG, is_lasting=True)),
        (state(mark=b""), state(mark=b""), Evidence(Outcome.WRONG)),
        # The server shows failures and has not counted this one: wrong, and for no longer than the window.
        (state(failures=2), state(failures=2), Evidence(Outcome.WRONG)),
        # Locked or barred: nothing was compared, whatever the result says.
        (state(LOCK), state(LOCK), Evidence(Outcome.UNKNOWN, reason=LOCKED)),
        (state(LOCK, failures=5), state(LOCK, failures=5), Evidence(Outcome.NOTHING, reason=LOCKED)),
        (state(ADMIN_LOCK), state(ADMIN_LOCK), Evidence(Outcome.NOTHING, reason=Rejection.ACCOUNT_DISABLED)),
        (state(), state(ADMIN_LOCK), Evidence(Outcome.UNKNOWN, reason=Rejection.ACCOUNT_DISABLED)),
        (state(DISABLED), state(DISABLED), Evidence(Outcome.UNKNOWN, reason=Rejection.ACCOUNT_DISABLED)),
        # A lock that is over leaves its mark, and a failure that is counted beside it was compared.
        (state(LOCK, failures=5), state(LOCK, failures=6), Evidence(Outcome.WRONG, reason=LOCKED, shows_count=True)),
        # Somebody's failure has locked the account meanwhile: perhaps ours, perhaps another one's before it.
        (state(failures=4), state(LOCK, failures=5), Evidence(Outcome.UNKNOWN, reason=LOCKED)),
        (state(LOCK, failures=5), state(NEWER, failures=6), Evidence(Outcome.UNKNOWN, reason=LOCKED)),
        # A lock that has ended in between: what the bind met, nobody knows; the entry shows none.
        (state(LOCK, failures=5), state(failures=1), Evidence(Outcome.WRONG, is_lasting=True, shows_count=True)),
        # An administrator has unlocked the account in between, together with its failures: ours is not among them.
        (state(LOCK, failures=5), state(failures=0), Evidence(Outcome.UNKNOWN, reason=LOCKED)),
        (state(LOCK, failures=5), state(), Evidence(Outcome.UNKNOWN, reason=LOCKED)),
        (state(LOCK), state(), Evidence(Outcome.UNKNOWN, reason=LOCKED)),
    ],
)
def test_refusal_is_judged_by_the_entry_before_and_after(
    before: LoginState, after: LoginState, expected: Evidence
) -> None:
    """An account that is barred is refused like a wrong password; only what the server counts tells them apart."""
    assert judge_refusal(before, after) == expected
