"""What every throttle must do, whatever keeps its memory."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from bridge.authentication.memories import ThrottleRules
from bridge.authentication.memory_throttle import MemoryThrottle
from bridge.authentication.throttle import Attempt, Outcome, Permission, Throttle
from bridge.clock import Clock
from bridge.model import Rejection, Secret
from bridge.sources.directory.login_state import Bar, LoginState
from tests.support.manual_clock import ManualClock

MakeThrottle = Callable[[ThrottleRules, Clock], Throttle]
PasswordMark = tuple[bytes, ...]
RULES = ThrottleRules(remember_failures_s=600.0, max_failure_count=3, window_s=600.0)
MARK: PasswordMark = (b"20260101000000Z",)
LOCK = (Bar(Rejection.ACCOUNT_LOCKED, "pwdaccountlockedtime", (b"20260101000000Z",)),)


class Case:
    """A throttle, its clock, and short words for what is tried."""

    def __init__(self, make: MakeThrottle, rules: ThrottleRules = RULES) -> None:
        self.clock = ManualClock()
        self.throttle = make(rules, self.clock)

    def attempt(
        self,
        password: str,
        *,
        user_id: str = "1",
        name: str = "bob",
        directory: str = "a",
        mark: PasswordMark = MARK,
        server: str = "ldap://one",
        bars: tuple[Bar, ...] = (),
        failure_marks: tuple[bytes, ...] = (),
    ) -> Attempt:
        state = LoginState(bars, (failure_marks,) if failure_marks else (), mark)
        return self.throttle.identify((directory, user_id), name, Secret(password.encode()), server, state)

    def begin(self, password: str, **options: object) -> Permission:
        return self.throttle.begin(self.attempt(password, **options))  # type: ignore[arg-type]

    def settle(
        self,
        password: str,
        outcome: Outcome,
        *,
        is_lasting: bool = False,
        shows_count: bool = False,
        **options: object,
    ) -> None:
        attempt = self.attempt(password, **options)  # type: ignore[arg-type]
        self.throttle.settle(attempt, outcome, is_lasting=is_lasting, shows_count=shows_count)

    def fail(
        self,
        *passwords: str,
        outcome: Outcome = Outcome.WRONG,
        is_lasting: bool = True,
        shows_count: bool = False,
        **options: object,
    ) -> None:
        """Each is bound, and wrong."""
        for password in passwords:
            assert self.begin(password, **options) is Permission.BIND
            self.settle(password, outcome, is_lasting=is_lasting, shows_count=shows_count, **options)

    def succeed(self, server: str) -> None:
        """The right password is bound at the server, and accepted."""
        assert self.begin("right", server=server) is Permission.BIND
        self.settle("right", Outcome.RIGHT, server=server)

    def held(self) -> list[str]:
        return [each.user_id for each in self.throttle.remembered() if each.is_held_back]


@pytest.fixture(params=["memory"])
def make(request: pytest.FixtureRequest) -> MakeThrottle:
    """One throttle after the other."""
    makers: dict[str, MakeThrottle] = {"memory": lambda rules, clock: MemoryThrottle(rules, b"k" * 32, clock)}
    return makers[request.param]


def test_wrong_password_is_refused_from_memory_until_its_time_is_over(make: MakeThrottle) -> None:
    """A mail program that repeats it costs no bind; a directory that doesn't tell of new passwords is asked again."""
    case = Case(make)
    case.fail("wrong", mark=(), is_lasting=False)
    assert case.begin("wrong", mark=()) is Permission.REMEMBERED_FAILURE
    case.clock.advance(599.9)
    assert case.begin("wrong", mark=()) is Permission.REMEMBERED_FAILURE
    case.clock.advance(0.1)
    assert case.begin("wrong", mark=()) is Permission.BIND


def test_wrong_password_that_is_repeated_all_day_stays_wrong_while_the_directory_shows_no_new_one(
    make: MakeThrottle,
) -> None:
    """A bind every ten minutes would lock an account whose failures only a success clears."""
    case = Case(make)
    case.fail("wrong")
    for _ in range(287):
        case.clock.advance(300.0)
        assert case.begin("wrong") is Permission.REMEMBERED_FAILURE
    case.clock.advance(300.0)
    assert case.begin("wrong") is Permission.BIND


def test_wrong_password_that_nobody_repeats_is_forgotten(make: MakeThrottle) -> None:
    """It is asked again after its time, whatever the directory shows."""
    case = Case(make)
    case.fail("wrong")
    case.clock.advance(600.0)
    assert case.begin("wrong") is Permission.BIND


def test_too_many_different_wrong_passwords_hold_the_user_back(make: MakeThrottle) -> None:
    """No further one is bound, not even the right one, until the window has passed since the last."""
    case = Case(make)
    case.fail("w1", "w2", "w3")
    assert case.begin("right") is Permission.HELD_BACK
    case.clock.advance(599.9)
    assert case.begin("right") is Permission.HELD_BACK
    case.clock.advance(0.1)
    assert case.begin("right") is Permission.BIND


def test_failures_far_apart_never_add_up_and_close_ones_always_do(make: MakeThrottle) -> None:
    """A directory counts on until its window has passed since the last failure, and so does the throttle."""
    case = Case(make)
    for number in range(10):
        case.fail(f"w{number}")
        case.clock.advance(600.0)
    for number in range(3):
        case.clock.advance(599.0)
        case.fail(f"v{number}")
    case.clock.advance(599.0)
    assert case.begin("right") is Permission.HELD_BACK


def test_users_are_told_apart_by_directory_and_id_and_by_nothing_else(make: MakeThrottle) -> None:
    """Another spelling is the same user; another directory or id is another one."""
    case = Case(make)
    case.fail("w1", "w2", "w3", name="bob")
    assert case.begin("w4", name="BOB ") is Permission.HELD_BACK
    assert case.begin("w1", name="BOB ") is Permission.REMEMBERED_FAILURE
    assert case.begin("w1", user_id="2") is Permission.BIND
    assert case.begin("w1", directory="b") is Permission.BIND


@pytest.mark.parametrize(
    ("right", "wrong"), [(("ab", "c", "d"), ("a", "bc", "d")), (("a", "b", "cd"), ("a", "bc", "d"))]
)
def test_fingerprints_do_not_run_into_each_other(
    make: MakeThrottle, right: tuple[str, str, str], wrong: tuple[str, str, str]
) -> None:
    """What stands at the end of one part can't be taken for the beginning of the next."""
    case = Case(make)
    one, other = (
        case.attempt(password, user_id=user_id, directory=directory) for directory, user_id, password in (right, wrong)
    )
    assert one.fingerprint != other.fingerprint


def test_right_password_clears_the_failures(make: MakeThrottle) -> None:
    """Directories begin to count anew, too."""
    case = Case(make)
    case.fail("w1", "w2")
    assert case.begin("right") is Permission.BIND
    case.settle("right", Outcome.RIGHT)
    assert case.begin("w1") is Permission.BIND


def test_outage_counts_for_nothing(make: MakeThrottle) -> None:
    """Whoever tries while the directory is down is not held back for it."""
    case = Case(make)
    for _ in range(9):
        assert case.begin("right") is Permission.BIND
        case.settle("right", Outcome.NOTHING)


def test_new_password_in_the_directory_ends_refusals_and_no_count(make: MakeThrottle) -> None:
    """What was wrong before may be right now; the directory goes on counting all the same."""
    case = Case(make)
    case.fail("w1", "soon right")
    changed: PasswordMark = (b"20260202000000Z",)
    assert case.begin("soon right", mark=changed) is Permission.BIND
    case.settle("soon right", Outcome.WRONG, mark=changed)
    assert case.begin("w3", mark=changed) is Permission.HELD_BACK


def test_new_password_gets_one_bind_where_the_directory_shows_that_it_has_forgotten_the_failures(
    make: MakeThrottle,
) -> None:
    """Whoever was held back and got a new password from an administrator is not kept waiting; the count stays."""
    case = Case(make)
    for password in ("w1", "w2", "w3"):
        case.fail(password, shows_count=True, failure_marks=(b"1",))
    changed: PasswordMark = (b"20260202000000Z",)
    assert case.begin("new", failure_marks=(b"3",)) is Permission.HELD_BACK
    assert case.begin("new", mark=changed, failure_marks=(b"3",)) is Permission.HELD_BACK, "they count still"
    assert case.begin("new", mark=changed) is Permission.BIND
    case.settle("new", Outcome.WRONG, mark=changed)
    assert case.begin("other", mark=changed) is Permission.HELD_BACK


def test_lock_that_ends_is_a_sign_and_one_that_begins_is_none(make: MakeThrottle) -> None:
    """An administrator unlocks, and what was refused is tried again; a failed bind itself makes a lock appear."""
    case = Case(make)
    case.fail("w1")
    assert case.begin("w1", bars=LOCK) is Permission.REMEMBERED_FAILURE
    assert case.begin("w1") is Permission.BIND
    case.settle("w1", Outcome.WRONG)
    assert case.throttle.remembered()[0].failure_count == 2, "both binds count"


def test_refusal_that_is_not_lasting_is_not_renewed(make: MakeThrottle) -> None:
    """An entry without a mark of its password, or that was locked meanwhile, is asked again after the time."""
    case = Case(make)
    case.fail("wrong", is_lasting=False)
    case.clock.advance(300.0)
    assert case.begin("wrong") is Permission.REMEMBERED_FAILURE
    case.clock.advance(300.0)
    assert case.begin("wrong") is Permission.BIND


def test_refusal_holds_at_the_server_that_has_said_so(make: MakeThrottle) -> None:
    """A server that lags behind knows the old password only; where both show the same one, what one says is enough."""
    case = Case(make, ThrottleRules(600.0, 4, 600.0))
    case.fail("new", mark=(b"old",), server="ldap://two")
    assert case.begin("new", mark=(b"old",), server="ldap://two") is Permission.REMEMBERED_FAILURE
    assert case.begin("new", mark=(b"old",), server="ldap://three") is Permission.REMEMBERED_FAILURE
    assert case.begin("new", mark=(b"new",), server="ldap://one") is Permission.BIND
    case.fail("other", mark=(), server="ldap://two")
    assert case.begin("other", mark=(), server="ldap://one") is Permission.BIND


def test_budget_is_one_over_all_servers(make: MakeThrottle) -> None:
    """Replicas share the lock in the end, whichever of them was bound at."""
    case = Case(make)
    for number in range(3):
        case.fail("w", mark=(), server=f"ldap://{number}", is_lasting=False)
    assert case.begin("w", mark=(), server="ldap://3") is Permission.HELD_BACK


def test_success_has_its_own_server_forget_and_no_other(make: MakeThrottle) -> None:
    """Where servers count for themselves, those that didn't see the success would lock the account."""
    case = Case(make)
    case.fail("w1", server="ldap://one")
    case.fail("w2", outcome=Outcome.UNKNOWN, server="ldap://one")
    case.succeed("ldap://two")
    (found,) = case.throttle.remembered()
    assert (found.failure_count, found.unknown_count, found.refused_count) == (1, 1, 0), "the refusal is over"
    assert case.begin("w1", server="ldap://one") is Permission.REMEMBERED_FAILURE, "one bind is left"
    case.fail("w3", server="ldap://one")
    assert case.begin("right", server="ldap://one") is Permission.UNDECIDED
    case.clock.advance(600.0)
    assert case.begin("right", server="ldap://one") is Permission.BIND


def test_success_at_each_server_ends_every_count(make: MakeThrottle) -> None:
    """Its own failures are forgotten by a server with the next success there, and count no longer than the window."""
    case = Case(make)
    case.fail("w1", server="ldap://one")
    case.clock.advance(300.0)
    case.fail("w2", server="ldap://two")
    for server in ("ldap://two", "ldap://one"):
        case.succeed(server)
        case.clock.advance(200.0)
    assert case.throttle.remembered() == ()
    case.fail("w1", server="ldap://one")
    case.clock.advance(599.0)
    case.fail("w2", server="ldap://two")
    case.succeed("ldap://two")
    case.clock.advance(1.0)
    assert case.throttle.remembered() == (), "the window of what is left began with the last failure there"


def test_binds_of_unknown_outcome_count_and_are_never_a_refusal(make: MakeThrottle) -> None:
    """A server that answers too late may have counted each of them; a success forgets them."""
    case = Case(make)
    case.fail("right", "right", outcome=Outcome.UNKNOWN)
    case.fail("right", outcome=Outcome.UNKNOWN)
    assert case.begin("right") is Permission.UNDECIDED
    assert case.begin("other") is Permission.UNDECIDED
    (found,) = case.throttle.remembered()
    assert (found.failure_count, found.unknown_count, found.is_held_back) == (0, 3, True)
    case.clock.advance(200.0)
    assert (case.throttle.wait_s(("a", "1")), case.throttle.wait_s(("a", "2"))) == (400.0, 0.0)
    case.clock.advance(400.0)
    assert case.begin("right") is Permission.BIND
    case.settle("right", Outcome.RIGHT)
    assert case.throttle.remembered() == ()


def test_unknown_outcome_among_failures_is_undecided(make: MakeThrottle) -> None:
    """What is refused from memory stays refused; what would need a bind is not known."""
    case = Case(make)
    case.fail("w1", "w2")
    case.fail("right", outcome=Outcome.UNKNOWN)
    assert case.begin("w1") is Permission.REMEMBERED_FAILURE
    assert case.begin("right") is Permission.UNDECIDED


def test_last_bind_is_kept_for_a_password_that_was_never_tried(make: MakeThrottle) -> None:
    """Two programs with old passwords use up the binds of each window; the person gets one all the same."""
    case = Case(make, ThrottleRules(600.0, 2, 600.0))
    case.fail("tablet", "mail program", mark=(), is_lasting=False)
    assert case.begin("right", mark=()) is Permission.HELD_BACK
    case.clock.advance(600.0)
    case.fail("tablet", mark=(), is_lasting=False)
    assert case.begin("mail program", mark=()) is Permission.REMEMBERED_FAILURE
    assert case.begin("right", mark=()) is Permission.BIND


@pytest.mark.parametrize("mark", [MARK, ()], ids=["marked", "unmarked"])
@pytest.mark.parametrize("server", ["ldap://one", "ldap://two"])
def test_success_leaves_what_was_tried_for_the_last_bind(make: MakeThrottle, mark: PasswordMark, server: str) -> None:
    """Each program is bound once more after it, but for the last bind; the password that was right is none of them."""
    case = Case(make, ThrottleRules(600.0, 2, 600.0))
    case.fail("tablet", "right", mark=mark, is_lasting=bool(mark))
    case.clock.advance(600.0)
    assert case.begin("right", mark=mark, server=server) is Permission.BIND
    case.settle("right", Outcome.RIGHT, mark=mark, server=server)
    assert case.throttle.remembered() == ()
    case.fail("mail program", mark=mark, is_lasting=bool(mark))
    assert case.begin("tablet", mark=mark) is Permission.REMEMBERED_FAILURE
    assert case.begin("tablet", mark=(b"later",)) is Permission.BIND, "a password was set"
    case.settle("tablet", Outcome.NOTHING, mark=(b"later",))
    assert case.begin("right", mark=mark) is Permission.BIND
    case.settle("right", Outcome.RIGHT, mark=mark)
    assert case.throttle.release("bob") == 0, "nobody was held back"
    case.fail("tablet", "mail program", mark=mark)


def test_each_directory_has_its_own_budget(make: MakeThrottle) -> None:
    """One that locks after three gets two binds, and its own window; others have the rule."""
    case = Case(make)
    case.throttle.set_budget("a", 2, 1200.0)
    case.fail("w1", "w2")
    assert case.begin("w3") is Permission.HELD_BACK
    case.fail("w1", "w2", "w3", directory="b")
    case.clock.advance(600.0)
    assert case.begin("w3") is Permission.HELD_BACK
    assert case.begin("w4", directory="b") is Permission.BIND
    case.clock.advance(600.0)
    assert case.begin("w3") is Permission.BIND


def test_doubt_takes_back_that_passwords_are_wrong_and_keeps_the_count(make: MakeThrottle) -> None:
    """An outage that looked like wrong passwords: nobody is refused for it, and nobody is bound too often."""
    case = Case(make)
    case.fail("early")
    case.clock.advance(100.0)
    case.fail("right", mark=())
    case.fail("w1", directory="b")
    case.throttle.doubt("a", 60.0)
    assert case.begin("early") is Permission.REMEMBERED_FAILURE
    assert case.begin("w1", directory="b") is Permission.REMEMBERED_FAILURE
    case.fail("right", mark=(), outcome=Outcome.UNKNOWN)
    assert case.begin("right", mark=()) is Permission.UNDECIDED


def test_equal_attempts_share_and_different_ones_wait_near_the_limit(make: MakeThrottle) -> None:
    """However many come at once, no more wrong ones are bound than may be."""
    case = Case(make)
    case.fail("w1")
    assert [case.begin(password) for password in ("w2", "w2", "w3", "w4", "w3")] == [
        Permission.BIND,
        Permission.SHARE,
        Permission.BIND,
        Permission.WAIT,
        Permission.SHARE,
    ]
    case.settle("w2", Outcome.WRONG)
    assert case.begin("w4") is Permission.WAIT
    case.settle("w3", Outcome.NOTHING)
    assert case.begin("w4") is Permission.BIND
    case.settle("w4", Outcome.WRONG)
    assert case.begin("w5") is Permission.HELD_BACK


def test_held_tells_who_until_when_and_release_frees(make: MakeThrottle) -> None:
    """The operator sees whom it concerns, and can let them in by name, by id or by what the listing knows."""
    case = Case(make)
    case.fail("w1", "w2", "w3", name="Bob")
    case.clock.advance(10.0)
    case.fail("w1", "w2", "w3", user_id="2", name="eve")
    case.fail("w1", user_id="3", name="fay")
    first, second = (each for each in case.throttle.remembered() if each.is_held_back)
    assert (first.directory, first.user_id, first.user_name, first.failure_count) == ("a", "1", "Bob", 3)
    assert first.until_s == case.clock.now_s() + 590.0
    assert second.user_name == "eve"
    assert case.throttle.release("nobody") == 0
    assert case.throttle.release(" bob") == 1
    assert case.begin("right") is Permission.BIND
    assert case.throttle.release("listed as", {("a", "2")}) == 1
    assert case.throttle.release("3") == 1
    assert case.throttle.remembered() == ()


def test_successes_are_not_remembered_by_default(make: MakeThrottle) -> None:
    """Each login asks the directory."""
    case = Case(make)
    for _ in range(2):
        assert case.begin("right") is Permission.BIND
        case.settle("right", Outcome.RIGHT)
    assert case.throttle.remembered_successes("a") == frozenset()


def test_remembered_success_is_accepted_until_its_time_is_over(make: MakeThrottle) -> None:
    """The right password of the right user, and nothing else."""
    case = Case(make, ThrottleRules(remember_successes_s=60.0))
    assert case.begin("right") is Permission.BIND
    case.settle("right", Outcome.RIGHT)
    assert case.begin("right", name="BOB") is Permission.REMEMBERED_SUCCESS
    for options in ({"user_id": "2"}, {"directory": "b"}):
        assert case.begin("right", **options) is Permission.BIND
    assert case.begin("Right") is Permission.BIND
    assert case.throttle.remembered_successes("a") == {"1"}
    case.clock.advance(60.0)
    assert case.begin("right") is Permission.BIND


@pytest.mark.parametrize("how", ["failure", "forgotten", "new password"])
def test_remembered_success_is_forgotten(make: MakeThrottle, how: str) -> None:
    """On a failure, when the listing says so, and when the directory shows a new password."""
    case = Case(make, ThrottleRules(remember_successes_s=60.0))
    assert case.begin("right") is Permission.BIND
    case.settle("right", Outcome.RIGHT)
    if how == "failure":
        case.fail("wrong")
    elif how == "forgotten":
        case.throttle.forget_successes("a", ["1", "unknown"])
    mark = (b"later",) if how == "new password" else MARK
    assert case.begin("right", mark=mark) is Permission.BIND


def test_remembered_success_is_none_while_the_entry_shows_a_lock(make: MakeThrottle) -> None:
    """Another program may have locked the account, and the lock may be over: the server knows, and memory doesn't."""
    case = Case(make, ThrottleRules(remember_successes_s=60.0))
    assert case.begin("right") is Permission.BIND
    case.settle("right", Outcome.RIGHT)
    assert case.begin("right", bars=LOCK) is Permission.BIND
    case.settle("right", Outcome.NOTHING, bars=LOCK)
    assert case.begin("right") is Permission.REMEMBERED_SUCCESS
