"""What may still be sent after a service bind was refused, on a clock that the test moves."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.ldap.service_secrets import Answer, Cause, RefusedSecrets
from tests.support.manual_clock import ManualClock

A, B, C = "ldap://a:389", "ldap://b:389", "ldap://c:389"
MINUTE_S, HOUR_S, DAY_S = 60.0, 3_600.0, 86_400.0
WRONG = Answer(Cause.SECRET, "invalidCredentials (49)")
LOCKED = Answer(Cause.ACCOUNT, "invalidCredentials (49), data 775")
NO_TICKET = Answer(Cause.TICKET, "Kerberos failed")
NOT_THIS_WAY = Answer(Cause.SET_UP, "strongerAuthRequired (8)")


class Bench:
    """A service that would bind all the time, and servers that answer by a table."""

    def __init__(self, answers: dict[str, Answer | None]) -> None:
        self.clock = ManualClock()
        self.refused = RefusedSecrets(self.clock)
        self.key = self.refused.key_of("cn=reader,dc=e", b"secret")
        self.answers = answers
        """None accepts."""
        self.binds: list[tuple[float, str]] = []
        self._began_s = self.clock.monotonic_s()

    def try_all(self) -> bool:
        """One operation: the servers in their order, until one accepts."""
        for server, answer in self.answers.items():
            if self.refused.withheld(self.key, server) is not None:
                continue
            self.binds.append(((self.clock.monotonic_s() - self._began_s) / MINUTE_S, server[-5]))
            if answer is None:
                self.refused.note_accepted(self.key, server)
                return True
            self.refused.note_refused(self.key, server, answer)
        return False

    def pass_time(self, minutes: int) -> None:
        """Operations and probes at each half minute."""
        for _ in range(2 * minutes):
            self.clock.advance(MINUTE_S / 2)
            self.try_all()

    def is_withheld(self, server: str) -> bool:
        return self.refused.withheld(self.key, server) is not None


@pytest.mark.parametrize(
    ("answers", "minutes", "binds"),
    [
        pytest.param({A: None}, 60, None, id="accepted: nothing is held back"),
        # One server: 30, 60, 120, 240, 480, 960 minutes, then a day.
        pytest.param({A: WRONG}, 29, ["0 a"], id="one server"),
        pytest.param(
            {A: WRONG},
            4 * 1440,
            [f"{at} a" for at in (0, 30, 90, 210, 450, 930, 1890, 3330, 4770)],
            id="one server, four days",
        ),
        pytest.param({A: WRONG, B: WRONG}, 29, ["0 a", "0 b"], id="two servers: one more is asked"),
        pytest.param(
            {A: WRONG, B: WRONG},
            1000,
            ["0 a", "0 b", "30 a", "90 b", "210 a", "450 b", "930 a"],
            id="two servers: one try at a time, at the one that was not asked for longest",
        ),
        pytest.param({A: WRONG, B: WRONG, C: WRONG}, 26, ["0 a", "0 b"], id="three servers: two are asked"),
        pytest.param(
            {A: WRONG, B: WRONG, C: WRONG}, 80, ["0 a", "0 b", "27 c"], id="three servers: then the one that was not"
        ),
        # 5, 10, 20, 40, 80, 160, 320, 640, 1280 minutes, then a day.
        pytest.param(
            {A: LOCKED, B: LOCKED},
            400,
            ["0 a", "0 b", "5 a", "15 b", "35 a", "75 b", "155 a", "315 b"],
            id="locked: wait, don't spend",
        ),
        pytest.param(
            {A: WRONG, B: LOCKED}, 89, ["0 a", "0 b", "30 a"], id="locked here, wrong there: the longer pause"
        ),
        pytest.param(
            {A: NO_TICKET}, 100, [f"{at} a" for at in (0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 63.5)], id="no ticket"
        ),
        pytest.param({A: NOT_THIS_WAY}, 1, ["0 a", "0.5 a", "1 a"], id="the set-up: 30 s, as it costs nothing"),
    ],
)
def test_binds_that_are_sent_while_everything_asks_all_the_time(
    answers: dict[str, Answer | None], minutes: int, binds: list[str] | None
) -> None:
    """Nothing but what the table says reaches a server, however often somebody wants to."""
    bench = Bench(answers)
    bench.try_all()
    bench.pass_time(minutes)
    found = [f"{at:g} {server}" for at, server in bench.binds]
    assert found == (binds if binds is not None else ["0 a", *(f"{at / 2:g} a" for at in range(1, 2 * minutes + 1))])


def test_what_a_server_is_set_up_for_says_nothing_of_others() -> None:
    """Each of them is asked, and none twice within 30 s."""
    bench = Bench({A: NOT_THIS_WAY, B: NOT_THIS_WAY, C: None})
    for _ in range(3):
        assert bench.try_all()
    assert [server for _, server in bench.binds] == ["a", "b", "c", "c", "c"]


def test_server_that_is_out_of_date_keeps_its_own_pause() -> None:
    """The others accept the secret all day; the one that refuses it is asked less and less often."""
    bench = Bench({A: WRONG, B: None})
    bench.try_all()
    bench.pass_time(1440)
    assert [at for at, server in bench.binds if server == "a"] == [0, 30, 90, 210, 450, 930]
    assert [at for at, server in bench.binds if server == "b"] == [at / 2 for at in range(2881)]
    bench.answers = {B: WRONG, A: WRONG, C: WRONG}
    before = len(bench.binds)
    bench.pass_time(27)
    assert [server for _, server in bench.binds[before:]] == ["b", "c"]


def test_success_ends_what_was_held_back() -> None:
    """The password was put right in the directory: at the next try all is as on the first day."""
    bench = Bench({A: WRONG})
    bench.try_all()
    bench.pass_time(20)
    bench.answers = {A: None}
    bench.pass_time(10)
    assert [at for at, _ in bench.binds] == [0, 30]
    bench.pass_time(1)
    assert len(bench.binds) == 4
    bench.answers = {A: WRONG}
    bench.pass_time(31)
    assert [at for at, _ in bench.binds[4:]] == [31.5, 61.5]


def test_server_that_accepts_what_it_had_refused_speaks_for_all() -> None:
    """The password was put right: the other server, too, is asked at once, and not after the end of its own pause."""
    bench = Bench({A: WRONG, B: WRONG})
    bench.try_all()
    bench.pass_time(1000)
    bench.answers = {A: None, B: None}
    bench.pass_time(1440)
    assert not bench.is_withheld(B)


@pytest.mark.parametrize("cause", Cause)
def test_operator_has_one_more_try(cause: Cause) -> None:
    """One for all servers together; if it is refused, too, the pause is longer than before."""
    bench = Bench({A: Answer(cause, "no")})
    bench.try_all()
    bench.refused.forgive(bench.key)
    bench.try_all()
    bench.try_all()
    assert len(bench.binds) == 2
    assert bench.is_withheld(A)


def test_operator_who_asks_twice_has_one_try_at_a_time() -> None:
    """Two directories of one account are refreshed by one command: two servers have refused, and one is asked."""
    bench = Bench({A: WRONG, B: WRONG})
    bench.try_all()
    for _ in range(2):
        bench.refused.forgive(bench.key)
    bench.try_all()
    assert [server for _, server in bench.binds] == ["a", "b", "a"]
    bench.answers = {B: None}
    bench.refused.forgive(bench.key)
    assert bench.try_all()
    assert bench.try_all()


def test_operator_who_asks_without_need_changes_nothing() -> None:
    """A later refusal is believed as if nobody had asked."""
    bench = Bench({A: WRONG})
    bench.refused.forgive(bench.key)
    bench.try_all()
    bench.try_all()
    assert len(bench.binds) == 1


@pytest.mark.parametrize(
    ("account", "secret", "is_the_same"),
    [
        ("cn=reader,dc=e", b"secret", True),
        ("CN=Reader, DC=E", b"secret", True),
        ("cn=reader,dc=e", b"secret2", False),
        ("cn=reader2,dc=e", b"secret", False),
        ("cn=reader,dc=es", b"ecret", False),
        ("reader@e", b"secret", False),
    ],
)
def test_account_and_secret_are_told_apart(account: str, secret: bytes, is_the_same: bool) -> None:
    """A new password is not held back for the old one; the spelling of a name is no new account."""
    bench = Bench({A: WRONG})
    bench.try_all()
    key = bench.refused.key_of(account, secret)
    assert (bench.refused.withheld(key, A) is not None) == is_the_same


def test_names_that_are_no_dn_are_compared_without_case() -> None:
    """As Active Directory takes them."""
    refused = RefusedSecrets(ManualClock())
    assert refused.key_of("EXAMPLE\\Reader", b"x") == refused.key_of("example\\reader", b"x")
    assert refused.key_of("Reader@Example.com", b"x") == refused.key_of("reader@example.com", b"x")


def test_no_secret_is_kept() -> None:
    """Neither the secret nor the account is anywhere in what is remembered, and each process has another hash."""
    bench = Bench({A: WRONG})
    bench.try_all()
    shown = f"{bench.refused!r} {vars(bench.refused)!r} {bench.refused.withheld(bench.key, A)!r}"
    assert "secret'" not in shown
    assert "reader" not in shown
    assert bench.key != RefusedSecrets(ManualClock()).key_of("cn=reader,dc=e", b"secret")


def test_withheld_tells_who_refused_and_until_when() -> None:
    """For the operator: where, when, what was said, and when it is tried again."""
    bench = Bench({A: WRONG, B: LOCKED})
    began_s = bench.clock.now_s()
    bench.try_all()
    found = bench.refused.withheld(bench.key, C)
    assert found is not None
    assert [(refusal.server, refusal.answer) for refusal in found.refusals] == [(A, WRONG), (B, LOCKED)]
    own = bench.refused.withheld(bench.key, A)
    assert own is not None
    assert own.until_date_s == began_s + 30 * MINUTE_S


def test_clock_that_is_set_shortens_no_pause() -> None:
    """Somebody sets the machine forward by a year."""
    bench = Bench({A: WRONG})
    bench.try_all()
    bench.clock.date_s += 365 * DAY_S
    bench.try_all()
    assert len(bench.binds) == 1


async def bind(bench: Bench, server: str, answered: asyncio.Event, sent: list[str]) -> None:
    """What a connection does, with an answer that comes when the test wants."""
    async with bench.refused.turn(bench.key, server):
        if bench.is_withheld(server):
            return
        sent.append(server)
        await answered.wait()
        bench.refused.note_refused(bench.key, server, WRONG)


async def settle() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def test_connections_that_are_opened_at_once_cost_what_one_costs() -> None:
    """Look-ups, a listing and a probe of two directories at three servers: two binds."""
    bench, answered, sent = Bench({}), asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(bind(bench, server, answered, sent)) for server in (A, A, B, A, B, C, C)]
    await settle()
    assert sent == [A, B]
    answered.set()
    await asyncio.gather(*tasks)
    assert sent == [A, B]


async def test_second_opinion_is_one() -> None:
    """One server has refused: of two that are asked at once, one is sent the secret."""
    bench, answered, sent = Bench({A: WRONG}), asyncio.Event(), list[str]()
    bench.try_all()
    tasks = [asyncio.create_task(bind(bench, server, answered, sent)) for server in (B, C)]
    await settle()
    answered.set()
    await asyncio.gather(*tasks)
    assert sent == [B]


async def test_servers_that_hang_hold_up_no_other_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two don't answer; a third is asked after a moment. Who is cancelled leaves its turn to others."""
    monkeypatch.setattr("bridge.ldap.service_secrets._PATIENCE_S", 0.05)
    bench, answered, sent = Bench({}), asyncio.Event(), list[str]()
    tasks = [asyncio.create_task(bind(bench, server, answered, sent)) for server in (A, B)]
    await settle()
    third = asyncio.create_task(bind(bench, C, answered, sent))
    await settle()
    assert sent == [A, B]
    await asyncio.sleep(0.1)
    assert sent == [A, B, C]
    for task in (*tasks, third):
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    answered.set()
    await asyncio.wait_for(bind(bench, A, answered, sent), 1)
    assert sent == [A, B, C, A]


STEPS = st.lists(
    st.tuples(
        st.sampled_from((A, B, C)),
        st.sampled_from((WRONG, WRONG, LOCKED, NOT_THIS_WAY)),
        st.sampled_from((0.0, 10.0, 29 * MINUTE_S)),
    ),
    max_size=60,
)


@given(STEPS)
def test_wrong_secret_never_costs_more_than_two_binds_in_any_half_hour(
    steps: Sequence[tuple[str, Answer, float]],
) -> None:
    """Whatever servers answer in whatever order, as long as none accepts: 27 minutes, as a third server comes early."""
    bench = Bench({})
    spent: list[float] = []
    for server, answer, pause_s in steps:
        bench.clock.advance(pause_s)
        if not bench.is_withheld(server):
            bench.refused.note_refused(bench.key, server, answer)
            if answer is WRONG:
                spent.append(bench.clock.monotonic_s())
    for early, late in zip(spent, spent[2:], strict=False):
        assert late - early >= 27 * MINUTE_S
