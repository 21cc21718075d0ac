from __future__ import annotations

import json
import random
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from bridge.model import User
from bridge.roster.builder import Built, RosterBuilder
from bridge.roster.roster import Roster, fold_user_name

names = st.text(min_size=1, max_size=6).filter(lambda text: "\0" not in text)
users = st.builds(
    User,
    id=st.uuids().map(str),
    user_name=names,
    distinguished_name=st.text(max_size=9),
    full_name=st.none() | st.text(min_size=1, max_size=5),
    email_addresses=st.lists(st.text(min_size=1, max_size=6), max_size=3).map(tuple),
)
unique_users = st.lists(users, max_size=12, unique_by=lambda user: fold_user_name(user.user_name))


def build(found: list[User], previous: Roster | None = None) -> Built:
    builder = RosterBuilder()
    for start in range(0, len(found), 3):
        builder.add(found[start : start + 3])
    return builder.build(previous)


@given(unique_users, st.randoms())
def test_roster_is_the_same_whatever_order_users_came_in(found: list[User], chance: random.Random) -> None:
    """The same users give the same bytes, and come back as they went in, sorted by name."""
    shuffled = list(found)
    chance.shuffle(shuffled)
    first, second = build(found).roster, build(shuffled).roster
    assert first.json == second.json
    assert sorted(found, key=lambda user: fold_user_name(user.user_name).encode()) == list(first)
    assert [user["userName"] for user in json.loads(first.json)] == [user.user_name for user in first]


@given(unique_users)
def test_roster_finds_each_user_in_any_case_and_nobody_else(found: list[User]) -> None:
    """Look-ups by name are exact but for case."""
    roster = build(found).roster
    for user in found:
        assert roster.find(user.user_name) == user
        assert roster.find(user.user_name.swapcase().swapcase()) in (user, None)
    assert roster.find("nobody here") is None


def test_roster_collapses_an_entry_that_overlapping_bases_show_twice() -> None:
    """One id under one name is one user."""
    anna = User("1", "anna", "uid=anna")
    built = build([anna, anna])
    assert list(built.roster) == [anna]
    assert built.collisions == ()


def test_roster_gives_a_name_that_two_entries_claim_to_nobody() -> None:
    """Nobody can tell whose archive it would be; the others stay."""
    built = build([User("1", "Max", "uid=1"), User("2", "max", "uid=2"), User("3", "bert", "uid=3")])
    assert [user.user_name for user in built.roster] == ["bert"]
    assert built.collisions == ("max",)


def test_roster_leaves_a_claimed_name_to_who_held_it_before() -> None:
    """A second entry of the same name doesn't take anybody's archive away."""
    before = build([User("2", "max", "uid=2")]).roster
    built = build([User("1", "Max", "uid=1"), User("2", "max", "uid=2")], before)
    assert [user.id for user in built.roster] == ["2"]
    assert built.collisions == ("max",)


def test_roster_tells_an_entry_that_came_under_two_names() -> None:
    """It was renamed while the directory was being read; such a listing is not believed."""
    assert build([User("1", "a", "uid=a"), User("1", "b", "uid=b")]).repeated_id == "1"
    assert build([User("1", "a", "uid=a"), User("2", "b", "uid=b")]).repeated_id is None


def test_roster_behaves_as_a_sequence() -> None:
    """Slices and negative positions work, and what is not there raises."""
    roster = build([User(str(number), f"u{number}", "x") for number in range(5)]).roster
    assert [user.user_name for user in roster[1:3]] == ["u1", "u2"]
    assert roster[-1].user_name == "u4"
    assert len(roster) == 5
    assert len(Roster()) == 0
    assert Roster().json == b"[]"


def test_roster_leaves_out_what_is_not_known() -> None:
    """Optional keys are absent rather than null or empty."""
    assert build([User("1", "a", "uid=a", None, ())]).roster.json == b'[{"userName":"a","distinguishedName":"uid=a"}]'


def test_roster_of_many_portions_is_that_of_one() -> None:
    """Names that are claimed twice stay together wherever a portion ends, and the order is right across portions."""
    numbers = list(range(20_000))
    random.Random(1).shuffle(numbers)
    found = [User(f"id{number}", f"user{number // 2 * 2 if number % 50 < 2 else number}", "x") for number in numbers]
    builder = RosterBuilder()
    for start in range(0, len(found), 250):
        builder.add(found[start : start + 250])
    builder.add([])
    built = builder.build()
    counts = Counter(user.user_name for user in found)
    assert [user.user_name for user in built.roster] == sorted(name for name, count in counts.items() if count == 1)
    assert sorted(built.collisions) == sorted(name for name, count in counts.items() if count > 1)
    assert built.repeated_id is None
