"""The throttle of one process: held against a simple model, and to its bounds."""

from __future__ import annotations

import os
import tracemalloc

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from bridge.authentication.memories import ThrottleRules
from bridge.authentication.memory_throttle import MemoryThrottle
from bridge.authentication.throttle import Outcome, Permission
from bridge.model import Secret
from bridge.sources.directory.login_state import LoginState
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
        self.ended_successes: set[str] = set()
        self.ended: set[tuple[str, str]] = set()
        """Users and passwords whose refusal a new password has ended."""

    def now_s(self) -> float:
        return 0.0

    def monotonic_s(self) -> float:
        return self.elapsed_s

    def state(self, user: str) -> LoginState:
        return LoginState(password_mark=(str(self.marks[user]).encode(),) if self.has_marks[user] else ())

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

    def tried(self, user: str) -> dict[str, float]:
        """The wrong passwords that were never right since, each with its last bind, also those before a right one."""
        found: dict[str, float] = {}
        for who, password, outcome, at_s in self.happened:
            if who == user and outcome is Outcome.RIGHT:
                found.pop(password, None)
            elif who == user and outcome is Outcome.WRONG:
                found[password] = at_s
        return found

    def counted(self, user: str) -> tuple[int, int]:
        """The wrong and the unknown binds back to the last gap of a whole window."""
        chain: list[Outcome] = []
        last_s = self.elapsed_s
        for who, _, outcome, at_s in reversed(self.happened):
            if who != user or outcome is Outcome.NOTHING:
                continue
            if outcome is Outcome.RIGHT or last_s - at_s >= self.rules.window_s:
                break
            chain.append(outcome)
            last_s = at_s
        return chain.count(Outcome.WRONG), chain.count(Outcome.UNKNOWN)

    def expected(self, user: str, password: str) -> Permission:
        last = [event for event in self.happened if event[0] == user and event[2] is not Outcome.NOTHING]
        is_success = bool(last) and last[-1][2] is Outcome.RIGHT and last[-1][1] == password
        if is_success and user not in self.ended_successes and self.elapsed_s - last[-1][3] < 20.0:
            return Permission.REMEMBERED_SUCCESS
        bound_s = self.failures(user).get(password)
        if bound_s is not None and (user, password) not in self.ended:
            is_renewed = self.has_marks[user] and self.elapsed_s - self.asked[user, password] < 60.0
            if self.elapsed_s - bound_s < 60.0 or (is_renewed and self.elapsed_s - bound_s < DAY_S):
                return Permission.REMEMBERED_FAILURE
        running = [found for who, found in self.running if who == user]
        if password in running:
            return Permission.SHARE
        wrong, unknown = self.counted(user)
        count = wrong + unknown + len(running)
        if count >= self.rules.max_failure_count:
            held = Permission.UNDECIDED if unknown else Permission.HELD_BACK
            return Permission.WAIT if running else held
        tried_s = self.tried(user).get(password)
        is_tried = tried_s is not None and self.elapsed_s - tried_s < DAY_S
        if count == self.rules.max_failure_count - 1 and is_tried and (user, password) not in self.ended:
            return Permission.REMEMBERED_FAILURE
        return Permission.BIND

    @rule(user=USERS, password=PASSWORDS)
    def begin(self, user: str, password: str) -> None:
        """An attempt comes in."""
        expected = self.expected(user, password)
        attempt = self.throttle.identify(("d", user), user, Secret(password.encode()), "s", self.state(user))
        assert self.throttle.begin(attempt) is expected
        if expected is Permission.BIND:
            self.running.append((user, password))
        if expected is Permission.REMEMBERED_FAILURE:
            self.asked[user, password] = self.elapsed_s

    @precondition(lambda self: self.running)
    @rule(at=st.integers(0, 9), outcome=st.sampled_from([*[Outcome.WRONG] * 3, *Outcome]))
    def settle(self, at: int, outcome: Outcome) -> None:
        """An attempt that was bound gets its answer."""
        user, password = self.running.pop(at % len(self.running))
        attempt = self.throttle.identify(("d", user), user, Secret(password.encode()), "s", self.state(user))
        self.throttle.settle(attempt, outcome, is_lasting=self.has_marks[user])
        self.happened.append((user, password, outcome, self.elapsed_s))
        if outcome is Outcome.RIGHT:
            self.ended_successes.discard(user)
        if outcome is Outcome.WRONG:
            self.ended.discard((user, password))
            self.asked[user, password] = self.elapsed_s

    @rule(seconds=st.sampled_from([1.0, 15.0, 30.0, 59.0, 60.0, 600.0]))
    def wait(self, seconds: float) -> None:
        """Time passes."""
        self.elapsed_s += seconds

    @rule(user=USERS)
    def release(self, user: str) -> None:
        """The operator frees a user."""
        self.throttle.release(user)
        if self.tried(user) or any(self.counted(user)):
            self.happened = [event for event in self.happened if event[0] != user]

    @precondition(lambda self: not self.running)
    @rule()
    def change_password(self) -> None:
        """The next attempt shows that a password was set: refusals are past, and the binds count."""
        self.marks["1"] += 1
        self.ended_successes.add("1")
        self.ended |= {("1", password) for password in self.tried("1")}
        self.begin("1", "p1")

    @invariant()
    def held_are_those_who_are_counted_out(self) -> None:
        """What an operator is shown is what would be answered."""
        counts = {user: self.counted(user) for user in ("1", "2")}
        expected = {user: count for user, count in counts.items() if sum(count) >= self.rules.max_failure_count}
        held = [each for each in self.throttle.remembered() if each.is_held_back]
        assert {each.user_id: (each.failure_count, each.unknown_count) for each in held} == expected


TestThrottleAgainstItsModel = Model.TestCase
TestThrottleAgainstItsModel.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


def test_memory_is_bounded_whoever_is_tried() -> None:
    """After the first ten thousand, each further user takes the place of another."""
    clock = ManualClock()
    rules = ThrottleRules(users_max_count=10_000)
    throttle = MemoryThrottle(rules, b"k" * 32, clock)

    def fail(user_id: str, *passwords: bytes) -> None:
        for password in passwords:
            attempt = throttle.identify(("d", user_id), user_id, Secret(password), "s", LoginState())
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
    assert [each.user_id for each in throttle.remembered() if each.is_held_back] == ["last"]


def test_one_user_takes_little_whatever_is_tried() -> None:
    """Even where failures are remembered for much longer than they count."""
    clock = ManualClock()
    throttle = MemoryThrottle(ThrottleRules(DAY_S, 4, 1.0), b"k" * 32, clock)
    for number in range(5_000):
        clock.advance(0.3)
        attempt = throttle.identify(("d", "1"), "bob", Secret(str(number).encode()), "s", LoginState())
        if throttle.begin(attempt) is Permission.BIND:
            throttle.settle(attempt, Outcome.WRONG)
    assert len(throttle._memories["d", "1"].failures) == 16


def test_what_is_over_makes_room_by_itself() -> None:
    """Users who had trouble an hour ago are forgotten when others have some."""
    clock = ManualClock()
    throttle = MemoryThrottle(ThrottleRules(remember_successes_s=60.0), b"k" * 32, clock)
    for number in range(100):
        attempt = throttle.identify(("d", str(number)), "x", Secret(b"p"), "s", LoginState())
        assert throttle.begin(attempt) is Permission.BIND
        throttle.settle(attempt, Outcome.RIGHT if number % 2 else Outcome.WRONG)
    clock.advance(DAY_S)
    for number in range(100, 160):
        attempt = throttle.identify(("d", str(number)), "x", Secret(b"p"), "s", LoginState())
        assert throttle.begin(attempt) is Permission.BIND
        throttle.settle(attempt, Outcome.WRONG)
    assert len(throttle._memories) == 60


def test_nothing_of_a_password_is_kept() -> None:
    """The memory holds hashes that another key would make otherwise."""
    one, other = (MemoryThrottle(ThrottleRules(), key * 32, ManualClock()) for key in (b"a", b"b"))
    attempts = [throttle.identify(("d", "1"), "bob", Secret(b"canary"), "s", LoginState()) for throttle in (one, other)]
    assert attempts[0].fingerprint != attempts[1].fingerprint
    assert "canary" not in repr(attempts)


def test_long_spellings_of_a_name_take_no_room() -> None:
    """A directory takes `bob` with sixty thousand blanks behind it for bob; the memory keeps the beginning."""
    throttle = MemoryThrottle(ThrottleRules(max_failure_count=2), b"k" * 32, ManualClock())
    typed = "bob" + " " * 60_000
    for password in (b"1", b"2", b"2"):
        attempt = throttle.identify(("d", "1"), typed, Secret(password), "s", LoginState())
        if throttle.begin(attempt) is Permission.BIND:
            throttle.settle(attempt, Outcome.WRONG)
    (held,) = throttle.remembered()
    assert len(held.user_name) == 200
    assert throttle.release("bob") == 1
