"""Logins that must not lock an account: shared, one after the other, remembered, and alike in time."""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Callable, Sequence

import pytest

from bridge.authentication import login_health
from bridge.authentication.memories import ThrottleRules
from bridge.demo import wire
from bridge.demo.server import Session
from bridge.demo.store import Store
from bridge.errors import DirectoryUnavailable, OutcomeUnknown
from bridge.events import UserAuthenticated
from bridge.model import Rejected, Rejection, Secret
from bridge.syntax.filters import parse_filter_template
from tests.faults.server import FaultyServer, OnBind, small_directory
from tests.support.logins import Setting, answers, policy, setting
from tests.support.ranks import mann_whitney_p
from tests.support.slapd import PEOPLE, READER

BY_MAIL_TOO = parse_filter_template("(|(uid={user})(mail={user}))")


def person(store: Store, uid: str, **more: Sequence[str]) -> None:
    """An entry more, whose password is `Pass-…` but for `more`."""
    common = {"objectClass": ["inetOrgPerson"], "uid": [uid], "cn": [uid], "userPassword": [f"Pass-{uid}"]}
    store.add(f"uid={uid},{PEOPLE}", {**common, **more})


def held_up(release: asyncio.Event) -> OnBind:
    """User binds are answered when `release` says so."""

    async def on_bind(_session: Session, _message: wire.Message, request: wire.ReceivedBind) -> bool:
        if request.dn != READER:
            await release.wait()
        return False

    return on_bind


def slow(seconds: float) -> OnBind:
    """User binds take their time."""

    async def on_bind(_session: Session, _message: wire.Message, request: wire.ReceivedBind) -> bool:
        if request.dn != READER:
            await asyncio.sleep(seconds)
        return False

    return on_bind


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110 - what is waited for happens in a server that tells nobody
        await asyncio.sleep(0.001)


async def test_wrong_password_is_bound_once_however_often_and_however_spelt() -> None:
    """Twenty repeats of one wrong password are one bind; the right one still works."""
    async with FaultyServer(small_directory("bob")) as server, setting([server]) as found:
        reasons = [await found.auth(name, "old") for name in ["bob", "Bob", "BOB", " bob "] * 5]
        assert reasons == [Rejection.WRONG_PASSWORD] + [Rejection.REMEMBERED_FAILURE] * 19
        assert server.user_binds() == [f"uid=bob,{PEOPLE}"]
        assert await found.auth("bob", "Pass-bob") == "a"
        event = found.events[-2]
        assert isinstance(event, UserAuthenticated)
        assert (event.server, event.result_code) == (None, None)


async def test_different_wrong_passwords_are_bound_until_there_are_too_many() -> None:
    """The user is held back then, with the right password too; the operator sees and frees them."""
    async with FaultyServer(small_directory("bob")) as server, setting([server]) as found:
        reasons = [await found.auth("Bob", f"wrong{number}") for number in range(7)]
        assert reasons == [Rejection.WRONG_PASSWORD] * 4 + [Rejection.HELD_BACK] * 3
        assert await found.auth("bob", "Pass-bob") is Rejection.HELD_BACK
        assert len(server.user_binds()) == 4
        (held,) = found.bridge.remembered()
        assert (held.directory, held.user_name, held.failure_count) == ("a", "Bob", 4)
        assert held.until_s == found.clock.now_s() + 1800.0
        assert found.bridge.release("nobody") == 0
        assert found.bridge.release("bob") == 1
        assert await found.auth("bob", "Pass-bob") == "a"


async def test_release_knows_the_listed_user_name() -> None:
    """Whoever types a mail address is freed by the name that MailStore shows."""
    async with FaultyServer(small_directory("bob")) as server:
        async with setting([server], login_template=BY_MAIL_TOO) as found:
            await found.bridge.list_users("/m", compressed=False)
            for number in range(4):
                await found.auth("bob@example.com", f"wrong{number}")
            assert await found.auth("bob@example.com", "Pass-bob") is Rejection.HELD_BACK
            assert found.bridge.release("BOB") == 1
            assert await found.auth("bob@example.com", "Pass-bob") == "a"


async def test_held_back_user_is_free_when_the_window_has_passed() -> None:
    """Until then no password is bound."""
    async with FaultyServer(small_directory("bob")) as server, setting([server]) as found:
        for number in range(4):
            await found.auth("bob", f"wrong{number}")
        found.clock.advance(1799.0)
        assert await found.auth("bob", "Pass-bob") is Rejection.HELD_BACK
        found.clock.advance(1.0)
        assert await found.auth("bob", "Pass-bob") == "a"


async def test_new_password_in_the_directory_works_at_once_even_where_it_was_wrong_before() -> None:
    """The look-up of each login shows when the password was set."""
    store = small_directory()
    person(store, "bob", pwdChangedTime=["20260101000000Z"])
    async with FaultyServer(store) as server, setting([server]) as found:
        for password in ("new", "w2", "w3"):
            assert await found.auth("bob", password) is Rejection.WRONG_PASSWORD
        assert await found.auth("bob", "new") is Rejection.REMEMBERED_FAILURE
        entry = store.find(f"uid=bob,{PEOPLE}")
        assert entry is not None
        entry.attributes["userpassword"][0] = b"new"  # type: ignore[index]
        entry.attributes["pwdchangedtime"][0] = b"20260202000000Z"  # type: ignore[index]
        assert await found.auth("bob", "new") == "a"
        assert await found.auth("bob", "Pass-bob") is Rejection.WRONG_PASSWORD
        assert len(server.user_binds()) == 5


async def test_listing_is_not_asked_when_passwords_were_set() -> None:
    """What only logins need is asked for by logins."""
    async with FaultyServer(small_directory("bob")) as server, setting([server]) as found:
        await found.bridge.list_users("/m", compressed=False)
        await found.auth("bob", "x")
        listing, *login = server.searches
        assert "pwdChangedTime" not in listing.attributes
        assert len(login) == 2, "before the bind, and after it has failed"
        assert all("pwdChangedTime" in search.attributes for search in login)


async def test_equal_logins_at_once_share_one_bind() -> None:
    """Several connections of one mail program ask in the same moment."""
    release = asyncio.Event()
    async with FaultyServer(small_directory("bob"), on_bind=held_up(release)) as server, setting([server]) as found:
        logins = [
            asyncio.create_task(found.auth(name, password))
            for password in ("Pass-bob", "wrong")
            for name in ["bob", "BOB"] * 3
        ]
        await until(lambda: len(server.user_binds()) == 2)
        release.set()
        assert await asyncio.gather(*logins) == ["a"] * 6 + [Rejection.WRONG_PASSWORD] * 6
        assert len(server.user_binds()) == 2


async def test_logins_that_share_a_bind_share_its_outage() -> None:
    """Nobody takes it for a wrong password, and nobody tries again behind the user's back."""
    release = asyncio.Event()

    async def on_bind(session: Session, _message: wire.Message, request: wire.ReceivedBind) -> bool:
        if request.dn == READER:
            return False
        await release.wait()
        session._writer.transport.abort()
        return True

    async with FaultyServer(small_directory("bob"), on_bind=on_bind) as server, setting([server]) as found:
        logins = [asyncio.create_task(found.auth("bob", "Pass-bob")) for _ in range(3)]
        await until(lambda: len(server.searches) == 3 and bool(server.user_binds()))
        await asyncio.sleep(0.01)
        release.set()
        outcomes = await asyncio.gather(*logins, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [OutcomeUnknown] * 3
        assert len(server.user_binds()) == 1


async def test_login_whose_bind_was_given_up_by_another_binds_for_itself() -> None:
    """A caller that hangs up takes nobody with it."""
    release = asyncio.Event()
    async with FaultyServer(small_directory("bob"), on_bind=held_up(release)) as server, setting([server]) as found:
        logins = [asyncio.create_task(found.auth("bob", "Pass-bob"))]
        await until(lambda: len(server.user_binds()) == 1)
        logins += [asyncio.create_task(found.auth("bob", "Pass-bob")) for _ in range(3)]
        await until(lambda: len(server.searches) == 4)
        await asyncio.sleep(0.01)
        logins[0].cancel()
        logins[1].cancel()
        await until(lambda: len(server.user_binds()) == 2)
        release.set()
        assert await asyncio.gather(*logins[2:]) == ["a", "a"]
        assert len(server.user_binds()) == 2


async def test_different_logins_at_once_are_never_more_than_may_be_wrong() -> None:
    """Fifty wrong passwords in one moment are four binds."""
    async with FaultyServer(small_directory("bob"), on_bind=slow(0.01)) as server, setting([server]) as found:
        outcomes = await asyncio.gather(*(found.auth("bob", f"wrong{number}") for number in range(50)))
        assert outcomes.count(Rejection.WRONG_PASSWORD) == 4
        assert outcomes.count(Rejection.HELD_BACK) == 46
        assert len(server.user_binds()) == 4


async def test_right_login_among_wrong_ones_gets_through_where_its_turn_comes() -> None:
    """Near the limit one goes after the other, and a right one clears what was counted."""
    async with FaultyServer(small_directory("bob"), on_bind=slow(0.01)) as server, setting([server]) as found:
        for number in range(3):
            await found.auth("bob", f"early{number}")
        outcomes = await asyncio.gather(found.auth("bob", "Pass-bob"), found.auth("bob", "late"))
        assert outcomes == ["a", Rejection.WRONG_PASSWORD]
        assert len(server.user_binds()) == 5


async def test_outage_holds_nobody_back() -> None:
    """Ten tries while binds are answered with busy, and the eleventh works."""
    async with FaultyServer(small_directory("bob"), on_bind=answers(51)) as server, setting([server]) as found:
        for _ in range(10):
            with pytest.raises(DirectoryUnavailable):
                await found.auth("bob", "Pass-bob")
        server.on_bind = None
        assert await found.auth("bob", "Pass-bob") == "a"


async def test_locked_account_is_asked_each_time_as_the_lock_may_be_over() -> None:
    """Only wrong passwords count: a lock says nothing of this one."""
    async with FaultyServer(small_directory("bob"), on_bind=answers(19)) as server, setting([server]) as found:
        for _ in range(6):
            assert await found.auth("bob", "Pass-bob") is Rejection.ACCOUNT_LOCKED
        server.on_bind = None
        assert await found.auth("bob", "Pass-bob") == "a"


async def test_endpoints_share_what_they_know_of_a_user() -> None:
    """An account that locks is one account, whichever MailStore asks."""
    async with FaultyServer(small_directory("bob")) as server, setting([server], endpoints=("/m", "/n")) as found:
        assert await found.auth("bob", "old") is Rejection.WRONG_PASSWORD
        verdict = await found.bridge.authenticate("/n", "bob", Secret(b"old"))
        assert isinstance(verdict, Rejected)
        assert verdict.reason is Rejection.REMEMBERED_FAILURE
        assert len(server.user_binds()) == 1


# Right passwords from memory


@pytest.mark.parametrize("gone", [False, True])
async def test_remembered_success_needs_no_bind_until_the_listing_shows_the_user_gone(gone: bool) -> None:
    """Who leaves the directory and comes back is asked for the password by the directory."""
    store = small_directory("anna", "bob")
    rules = ThrottleRules(remember_successes_s=600.0)
    async with FaultyServer(store) as server, setting([server], rules=rules) as found:
        for _ in range(3):
            assert await found.auth("bob", "Pass-bob") == "a"
        assert len(server.user_binds()) == 1
        bob = next(entry for entry in store._entries if entry.dn == f"uid=bob,{PEOPLE}")
        classes = bob.attributes["objectclass"]
        bob.attributes["objectclass"] = [b"device"] if gone else classes  # type: ignore[index]
        await found.bridge.refresh("a")
        bob.attributes["objectclass"] = classes  # type: ignore[index]
        await found.bridge.refresh("a")
        assert await found.auth("bob", "Pass-bob") == "a"
        assert len(server.user_binds()) == (2 if gone else 1)


async def test_remembered_success_of_a_disabled_user_is_refused_and_forgotten() -> None:
    """The look-up shows the lock at once; afterwards the directory is asked."""
    store = small_directory("bob")
    rules = ThrottleRules(remember_successes_s=600.0)
    async with FaultyServer(store) as server, setting([server], rules=rules) as found:
        assert await found.auth("bob", "Pass-bob") == "a"
        entry = store.find(f"uid=bob,{PEOPLE}")
        assert entry is not None
        entry.attributes["pwdaccountlockedtime"] = [b"000001010000Z"]  # type: ignore[index]
        entry.names["pwdaccountlockedtime"] = "pwdAccountLockedTime"  # type: ignore[index]
        assert await found.auth("bob", "Pass-bob") is Rejection.ACCOUNT_DISABLED
        del entry.attributes["pwdaccountlockedtime"]  # type: ignore[attr-defined]
        assert await found.auth("bob", "Pass-bob") == "a"
        assert len(server.user_binds()) == 2


async def test_disabled_account_is_refused_even_where_nobody_knows_what_came_of_its_binds() -> None:
    """The directory refuses it like a wrong password, and shows no failures: unknown, counted, and `false` all the same."""
    store = small_directory("bob")
    async with FaultyServer(store, on_bind=answers(49)) as server, setting([server]) as found:
        entry = store.find(f"uid=bob,{PEOPLE}")
        assert entry is not None
        entry.attributes["pwdaccountlockedtime"] = [b"000001010000Z"]  # type: ignore[index]
        entry.names["pwdaccountlockedtime"] = "pwdAccountLockedTime"  # type: ignore[index]
        for _ in range(7):
            assert await found.auth("bob", "Pass-bob") is Rejection.ACCOUNT_DISABLED
        assert len(server.user_binds()) == 4
        del entry.attributes["pwdaccountlockedtime"]  # type: ignore[attr-defined]
        with pytest.raises(OutcomeUnknown):
            await found.auth("bob", "Pass-bob")


async def test_password_that_must_be_changed_is_no_success_to_remember() -> None:
    """The bind has succeeded, and the login is refused each time."""
    rules = ThrottleRules(remember_successes_s=600.0)
    on_bind = answers(0, controls=policy(error=2))
    async with FaultyServer(small_directory("bob"), on_bind=on_bind) as server, setting([server], rules=rules) as found:
        for _ in range(3):
            assert await found.auth("bob", "Pass-bob") is Rejection.MUST_CHANGE_PASSWORD
        assert len(server.user_binds()) == 3


# Time


async def times_of(found: Setting, cases: Sequence[tuple[str, str, str]]) -> dict[str, list[float]]:
    """How long each kind of refusal took, all kinds mixed, ten at a time."""
    times: dict[str, list[float]] = {}
    queue = list(cases)

    async def work() -> None:
        while queue:
            kind, user, password = queue.pop()
            started_s = time.perf_counter()
            await found.auth(user, password)
            times.setdefault(kind, []).append(time.perf_counter() - started_s)

    await asyncio.gather(*(work() for _ in range(10)))
    return times


async def measure(count: int, *, fast_refusals: bool) -> tuple[float, float]:
    """The p-values of unknown users, and of passwords known to be wrong, against wrong ones; `count` of each."""
    uids = [f"u{number}" for number in range(count)]
    store = small_directory(*uids, "held")
    async with FaultyServer(store, on_bind=slow(0.05)) as server:
        async with setting([server], fast_refusals=fast_refusals, bind_connection_count=10) as found:
            await asyncio.gather(*(found.auth(uid, "known") for uid in uids[:10]))
            for number in range(4):
                await found.auth("held", f"wrong{number}")
            cases = [("wrong", uid, "wrong") for uid in uids]
            cases += [("unknown", f"x{number}", "wrong") for number in range(count)]
            cases += [("remembered", uids[number % 10], "known") for number in range(count // 2)]
            cases += [("remembered", "held", f"new{number}") for number in range(count // 2)]
            random.Random(5).shuffle(cases)
            times = await times_of(found, cases)
            assert len(server.user_binds()) == 10 + 4 + 2 * count
    return tuple(mann_whitney_p(times[kind], times["wrong"]) for kind in ("unknown", "remembered"))  # type: ignore[return-value]


async def test_time_does_not_tell_unknown_wrong_and_remembered_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a bind of 50 ms, 500 refusals of each kind look alike (Mann-Whitney, p > 0.05).

    What is alike looks different one time in twenty: so there are three tries, which must all fail to tell them apart
    by chance alone once in 8,000 runs.
    """
    monkeypatch.setattr(login_health, "_OUTAGE_USERS_COUNT", 10_000)  # nobody is accepted here
    found = []
    for _ in range(3):
        found.append(await measure(500, fast_refusals=False))
        if all(max(each[kind] for each in found) > 0.05 for kind in (0, 1)):
            return
    pytest.fail(f"p-values of unknown and of remembered: {found}")


async def test_fast_refusals_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The twin: where the administrator has asked for it, memory answers without waiting, and can be told apart."""
    monkeypatch.setattr(login_health, "_OUTAGE_USERS_COUNT", 10_000)
    unknown, remembered = await measure(100, fast_refusals=True)
    assert remembered < 1e-6
    assert unknown > 1e-6


async def test_refusal_waits_for_what_a_wrong_password_costs_even_where_nobody_is_found_sooner() -> None:
    """A server that refuses unknown DNs at once tells nothing through us."""

    async def on_bind(_session: Session, _message: wire.Message, request: wire.ReceivedBind) -> bool:
        if request.dn.startswith("uid="):
            await asyncio.sleep(0.05)
        return False

    async with FaultyServer(small_directory("bob"), on_bind=on_bind) as server:
        async with setting([server], fast_refusals=False) as found:
            await found.auth("bob", "wrong")
            started_s = time.perf_counter()
            await found.auth("nobody", "wrong")
            assert time.perf_counter() - started_s >= 0.05


# Several directories


async def test_user_name_that_is_listed_comes_before_what_else_a_filter_finds() -> None:
    """An alias in the first directory doesn't take the userName of somebody in the second."""
    first, second = small_directory(), small_directory("bob")
    person(first, "ann", mail=["bob"])
    async with FaultyServer(first) as a, FaultyServer(second) as b:
        async with setting([a, b], login_template=BY_MAIL_TOO) as found:
            assert await found.auth("bob", "Pass-bob") == "b"
            assert await found.auth("bob", "Pass-ann") is Rejection.WRONG_PASSWORD
            assert a.user_binds() == []
            assert await found.auth("ann", "Pass-ann") == "a"


async def test_name_belongs_to_whoever_is_listed_by_it() -> None:
    """An entry that makes no user, or a disabled one, holds no userName; where disabled ones are listed, it does."""
    first, second = small_directory(), small_directory("bob", "carl")
    person(first, "bob", pwdAccountLockedTime=["000001010000Z"])
    first.add(f"cn=carl,{PEOPLE}", {"objectClass": ["inetOrgPerson"], "uid": ["carl "], "userPassword": ["Pass-carl"]})
    async with FaultyServer(first) as a, FaultyServer(second) as b:
        async with setting([a, b]) as found:
            assert await found.auth("bob", "Pass-bob") == "b"
            assert a.user_binds() == []
            assert await found.auth("carl", "Pass-carl") == "b"
            assert a.user_binds() == []
        async with setting([a, b], list_disabled=True) as found:
            assert await found.auth("bob", "Pass-bob") is Rejection.ACCOUNT_DISABLED
            assert len(a.user_binds()) == 1
            assert len(b.user_binds()) == 2


async def test_holder_of_a_name_keeps_it_when_another_entry_claims_it() -> None:
    """As in the listing: who had the userName before goes on logging in, the newcomer can't."""
    store = small_directory("bob", "anna")
    async with FaultyServer(store) as server, setting([server]) as found:
        await found.bridge.refresh("a")
        store.add(
            f"cn=other,{PEOPLE}",
            {"objectClass": ["inetOrgPerson"], "cn": ["other"], "uid": ["bob"], "userPassword": ["other"]},
        )
        assert await found.auth("bob", "Pass-bob") == "a"
        assert await found.auth("bob", "other") is Rejection.WRONG_PASSWORD
        assert server.user_binds() == [f"uid=bob,{PEOPLE}"] * 2
    async with FaultyServer(store) as server, setting([server]) as found:  # nobody held it before
        await found.bridge.refresh("a")
        assert await found.auth("bob", "Pass-bob") is Rejection.AMBIGUOUS_USER


async def test_outage_spares_names_known_to_be_another_directorys_and_no_others() -> None:
    """With a filter that finds people by mail, too, an address could be somebody's in the directory that is down."""
    async with FaultyServer(small_directory("bob")) as b:
        async with FaultyServer(small_directory("anna")) as a, setting([a, b], login_template=BY_MAIL_TOO) as found:
            await found.bridge.list_users("/m", compressed=False)
            await a.__aexit__()
            assert await found.auth("bob", "Pass-bob") == "b"
            with pytest.raises(DirectoryUnavailable):
                await found.auth("bob@example.com", "Pass-bob")
            with pytest.raises(DirectoryUnavailable):
                await found.auth("anna", "Pass-anna")


async def test_outage_of_a_later_directory_leaves_the_earlier_ones_alone() -> None:
    """Whatever the second one holds, a userName of the first is the first one's."""
    async with FaultyServer(small_directory("bob")) as a, FaultyServer(small_directory("bob")) as b:
        async with setting([a, b], login_template=BY_MAIL_TOO) as found:
            await b.__aexit__()
            assert await found.auth("bob", "Pass-bob") == "a"


async def test_spelling_does_not_get_around_an_outage() -> None:
    """The directory that is up matches ` bob ` to its own entry; the one that is down holds bob by its listing."""
    async with FaultyServer(small_directory("bob")) as b:
        async with FaultyServer(small_directory("bob")) as a, setting([a, b]) as found:
            await found.bridge.list_users("/m", compressed=False)
            await a.__aexit__()
            for spelling in ("bob", "BOB", " bob "):
                with pytest.raises(DirectoryUnavailable):
                    await found.auth(spelling, "Pass-bob")
        assert b.user_binds() == []


async def test_unknown_name_is_bound_in_one_directory_the_same_each_time() -> None:
    """If it were always the first one, the time of another would tell who exists."""
    async with FaultyServer(small_directory()) as a, FaultyServer(small_directory()) as b, setting([a, b]) as found:
        for number in range(30):
            before = len(a.user_binds()), len(b.user_binds())
            for spelling in (f"nobody{number}", f"NOBODY{number} "):
                assert await found.auth(spelling, "x") is Rejection.UNKNOWN_USER
            after = len(a.user_binds()), len(b.user_binds())
            assert sorted((after[0] - before[0], after[1] - before[1])) == [0, 2]
        assert len(a.user_binds()) > 0
        assert len(b.user_binds()) > 0


def test_mann_whitney_tells_samples_apart_that_differ_and_no_others() -> None:
    """The measure itself: U is 0 where 8 is expected, the variance 4 * 4 * 9 / 12, so z is 7.5 / sqrt(12)."""
    assert mann_whitney_p([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(math.erfc(7.5 / math.sqrt(12) / math.sqrt(2)))
    assert mann_whitney_p([5, 6, 7, 8], [1, 2, 3, 4]) == mann_whitney_p([1, 2, 3, 4], [5, 6, 7, 8])
    assert mann_whitney_p([1, 2, 2, 3], [1, 2, 2, 3]) == 1.0
    assert mann_whitney_p(list(range(100)), list(range(100, 200))) < 1e-30


async def test_contested_name_is_checked_where_the_listing_has_it_and_nowhere_else() -> None:
    """Who had the name in the answers keeps it, and the login goes there, even where the other directory comes first."""
    first, second = small_directory("anna"), small_directory("bob")
    async with FaultyServer(first) as a, FaultyServer(second) as b, setting([a, b]) as found:
        await found.bridge.list_users("/m", compressed=False)
        person(first, "bob")
        for name in "ab":
            await found.bridge.refresh(name)
        listed = (await found.bridge.list_users("/m", compressed=False)).body
        assert listed.count(b'"userName":"bob"') == 1
        for spelling in ("bob", "BOB", " bob "):
            assert await found.auth(spelling, "Pass-bob") == "b", spelling
        assert await found.auth("bob", "wrong") is Rejection.WRONG_PASSWORD
        assert a.user_binds() == []
        await b.__aexit__()
        for spelling in ("bob", " bob "):
            with pytest.raises(DirectoryUnavailable):
                await found.auth(spelling, "Pass-bob")
        assert a.user_binds() == []
