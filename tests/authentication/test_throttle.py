"""The throttle of one process: held against a simple model, and to its bounds."""

from __future__ import annotations

import os
import tracemalloc

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.authentication.memory_throttle import MemoryThrottle, ThrottleRules
from bridge.authentication.throttle import Outcome, PasswordMark, Permission
from bridge.model import Secret
from tests.support.manual_clock import ManualClock

USERS_TRIED_COUNT = int(os.environ.get("BRIDGE_TEST_THROTTLE_USERS", "60000"))
DAY_S = 86_400.0
USERS = st.sampled_from(["1", "2"])
PASSWORDS = st.sampled_from(["p1", "p2", "p3", "p4", "p5", "p6"])


class Model(RuleBasedStateMachine):
    """The throttle beside a list of all that has ever happened, from which each answer is worked out anew."""

    def __init__(self) -> None:
        super().__init__()
        self.elapsed_s = 5_000.0
        self.rules = ThrottleRules(60.0, 3, 60.0, 20.0)
        self.throttle = MemoryThrottle(self.rules, b"k" * 32, self)
        self.marks: dict[str, int] = {"1": 0, "2": 0}
        self.has_marks = {"1": True, "2": False}
        self.running: list[tuple[str, str]] = []
        self.happened: list[tuple[str, str, Outcome, float]] = []
        self.asked: dict[tuple[str, str], float] = {}

    def now_s(self) -> float:
        return 0.0

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def mark(self, user: str) -> PasswordMark:
        return (str(self.marks[user]).encode(),) if self.has_marks[user] else ()

    def failures(self, user: str) -> dict[str, float]:
        """The wrong passwords since the last right one, each with its last bind."""
        found: dict[str, float] = {}
        for who, password, outcome, at_s in self.happened:
            if who == user and outcome is Outcome.RIGHT:
                found = {}
            elif who == user and outcome is Outcome.WRONG:
                found.pop(password, None)
                found[password] = at_s
        return found

    def counted(self, user: str) -> int:
        """The different wrong passwords back to the last gap of a whole window."""
        chain: set[str] = set()
        last_s = self.elapsed_s
        for who, password, outcome, at_s in reversed(self.happened):
            if who != user or outcome is Outcome.UNKNOWN:
                continue
            if outcome is Outcome.RIGHT or last_s - at_s >= self.rules.window_s:
                break
            chain.add(password)
            last_s = at_s
        return len(chain)

    def expected(self, user: str, password: str) -> Permission:
        last = [event for event in self.happened if event[0] == user and event[2] is not Outcome.UNKNOWN]
        if last and last[-1][2] is Outcome.RIGHT and last[-1][1] == password and self.elapsed_s - last[-1][3] < 20.0:
            return Permission.REMEMBERED_SUCCESS
        bound_s = self.failures(user).get(password)
        if bound_s is not None:
            is_renewed = self.has_marks[user] and self.elapsed_s - self.asked[user, password] < 60.0
            if self.elapsed_s - bound_s < 60.0 or (is_renewed and self.elapsed_s - bound_s < DAY_S):
                return Permission.REMEMBERED_FAILURE
        running = [found for who, found in self.running if who == user]
        if password in running:
            return Permission.SHARE
        if self.counted(user) + len(running) >= self.rules.max_failure_count:
            return Permission.WAIT if running else Permission.HELD_BACK
        return Permission.BIND

    @rule(user=USERS, password=PASSWORDS)
    def begin(self, user: str, password: str) -> None:
        """An attempt comes in."""
        expected = self.expected(user, password)
        attempt = self.throttle.identify("d", user, user, Secret(password.encode()), self.mark(user))
        assert self.throttle.begin(attempt) is expected
        if expected is Permission.BIND:
            self.running.append((user, password))
        if expected is Permission.REMEMBERED_FAILURE:
            self.asked[user, password] = self.elapsed_s

    @precondition(lambda self: self.running)
    @rule(at=st.integers(0, 9), outcome=st.sampled_from([Outcome.WRONG, Outcome.WRONG, Outcome.RIGHT, Outcome.UNKNOWN]))
    def settle(self, at: int, outcome: Outcome) -> None:
        """An attempt that was bound gets its answer."""
        user, password = self.running.pop(at % len(self.running))
        attempt = self.throttle.identify("d", user, user, Secret(password.encode()), self.mark(user))
        self.throttle.settle(attempt, outcome)
        self.happened.append((user, password, outcome, self.elapsed_s))
        self.asked[user, password] = self.elapsed_s

    @rule(seconds=st.sampled_from([1.0, 15.0, 30.0, 59.0, 60.0, 600.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.elapsed_s += seconds

    @rule(user=USERS)
    def release(self, user: str) -> None:
        """The operator frees a user."""
        self.throttle.release(user)
        if self.failures(user):
            self.happened = [event for event in self.happened if event[0] != user]

    @precondition(lambda self: not self.running)
    @rule()
    def change_password(self) -> None:
        """The next attempt shows that a password was set: all that is remembered of it is past."""
        self.marks["1"] += 1
        self.happened = [event for event in self.happened if event[0] != "1"]
        self.begin("1", "p1")

    @invariant()
    def held_are_those_who_are_counted_out(self) -> None:
        """What an operator is shown is what would be answered."""
        counts = {user: self.counted(user) for user in ("1", "2")}
        expected = {user: count for user, count in counts.items() if count >= self.rules.max_failure_count}
        assert {held.user_id: held.failure_count for held in self.throttle.held()} == expected


TestThrottleAgainstItsModel = Model.TestCase
TestThrottleAgainstItsModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_memory_is_bounded_whoever_is_tried() -> None:
    """After the first ten thousand, each further user takes the place of another."""
    clock = ManualClock()
    rules = ThrottleRules(users_max_count=10_000)
    throttle = MemoryThrottle(rules, b"k" * 32, clock)

    def fail(user_id: str, *passwords: bytes) -> None:
        for password in passwords:
            attempt = throttle.identify("d", user_id, user_id, Secret(password), ())
            if throttle.begin(attempt) is Permission.BIND:
                throttle.settle(attempt, Outcome.WRONG)

    tracemalloc.start()
    try:
        for number in range(10_000):
            fail(f"early{number}", b"1", b"2", b"3", b"4", b"5")
        full_bytes = tracemalloc.get_traced_memory()[0]
        for number in range(USERS_TRIED_COUNT):
            fail(f"late{number}", b"1")
        fail("last", b"1", b"2", b"3", b"4", b"5")
        assert tracemalloc.get_traced_memory()[0] < full_bytes * 1.05
    finally:
        tracemalloc.stop()
    assert len(throttle._memories) == 10_000
    assert throttle._running == {}
    assert [held.user_id for held in throttle.held()] == ["last"]


def test_one_user_takes_little_whatever_is_tried() -> None:
    """Even where failures are remembered for much longer than they count."""
    clock = ManualClock()
    throttle = MemoryThrottle(ThrottleRules(DAY_S, 4, 1.0), b"k" * 32, clock)
    for number in range(5_000):
        clock.advance(0.3)
        attempt = throttle.identify("d", "1", "bob", Secret(str(number).encode()), ())
        if throttle.begin(attempt) is Permission.BIND:
            throttle.settle(attempt, Outcome.WRONG)
    assert len(throttle._memories["d", "1"].failures) == 16


def test_what_is_over_makes_room_by_itself() -> None:
    """Users who had trouble an hour ago are forgotten when others have some."""
    clock = ManualClock()
    throttle = MemoryThrottle(ThrottleRules(remember_successes_s=60.0), b"k" * 32, clock)
    for number in range(100):
        attempt = throttle.identify("d", str(number), "x", Secret(b"p"), ())
        assert throttle.begin(attempt) is Permission.BIND
        throttle.settle(attempt, Outcome.RIGHT if number % 2 else Outcome.WRONG)
    clock.advance(3600.0)
    for number in range(100, 160):
        attempt = throttle.identify("d", str(number), "x", Secret(b"p"), ())
        assert throttle.begin(attempt) is Permission.BIND
        throttle.settle(attempt, Outcome.WRONG)
    assert len(throttle._memories) == 60


def test_nothing_of_a_password_is_kept() -> None:
    """The memory holds hashes that another key would make otherwise."""
    one, other = (MemoryThrottle(ThrottleRules(), key * 32, ManualClock()) for key in (b"a", b"b"))
    attempts = [throttle.identify("d", "1", "bob", Secret(b"canary"), ()) for throttle in (one, other)]
    assert attempts[0].fingerprint != attempts[1].fingerprint
    assert "canary" not in repr(attempts)


def test_long_spellings_of_a_name_take_no_room() -> None:
    """A directory takes `bob` with sixty thousand blanks behind it for bob; the memory keeps the beginning."""
    throttle = MemoryThrottle(ThrottleRules(max_failure_count=2), b"k" * 32, ManualClock())
    typed = "bob" + " " * 60_000
    for password in (b"1", b"2", b"2"):
        attempt = throttle.identify("d", "1", typed, Secret(password), ())
        if throttle.begin(attempt) is Permission.BIND:
            throttle.settle(attempt, Outcome.WRONG)
    (held,) = throttle.held()
    assert len(held.user_name) == 200
    assert throttle.release("bob") == 1
