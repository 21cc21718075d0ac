"""What differs between two rosters, against sets and dictionaries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.model import User
from bridge.roster.builder import RosterBuilder
from bridge.roster.comparison import compare
from bridge.roster.roster import Roster

USERS = st.lists(
    st.builds(
        User,
        st.sampled_from([f"id{number}" for number in range(12)]) | st.text("ab\0", min_size=1, max_size=3),
        st.text("abcÄ", min_size=1, max_size=3),
        st.just("cn=x"),
        st.none(),
        st.lists(st.sampled_from(("a@e", "b@e")), unique=True).map(tuple),
    ),
    max_size=12,
    unique_by=lambda user: user.id,
)


def roster_of(users: list[User]) -> Roster:
    builder = RosterBuilder()
    builder.add(users)
    return builder.build().roster


@given(USERS, USERS)
def test_comparison_is_that_of_sets(before: list[User], after: list[User]) -> None:
    """Who is missing, new or changed is what a comparison of dictionaries says, whatever the names are."""
    earlier, later = roster_of(before), roster_of(after)
    old, new = {user.id: user for user in earlier}, {user.id: user for user in later}
    found = compare(earlier, later)
    assert {earlier[position].id for position in found.missing} == set(old) - set(new)
    assert {later[position].id for position in found.added} == set(new) - set(old)
    assert all(earlier[left].id == later[right].id for left, right in found.changed)
    assert {earlier[left].id for left, _ in found.changed} == {
        key for key in set(old) & set(new) if old[key] != new[key]
    }


def test_comparison_finds_one_change_among_thousands() -> None:
    """Stretches that are equal are passed over, those before and behind a change too."""
    users = [User(f"id{number}", f"u{number:05}", "cn=x") for number in range(3000)]
    changed = [*users[:1500], users[1500]._replace(full_name="X"), *users[1501:2000], *users[2001:]]
    changed.append(User("new", "a-new-one", "cn=n"))
    found = compare(roster_of(users), roster_of(changed))
    assert (found.missing, found.added, found.changed) == ((2000,), (0,), ((1500, 1501),))


def test_ids_of_other_lengths_are_other_ids() -> None:
    """Two ids that make the same octets one after the other are told apart."""
    before = [User("ab", "a", "cn=x"), User("c", "b", "cn=x")]
    after = [User("a", "a", "cn=x"), User("bc", "b", "cn=x")]
    found = compare(roster_of(before), roster_of(after))
    assert (found.missing, found.added) == ((0, 1), (0, 1))
