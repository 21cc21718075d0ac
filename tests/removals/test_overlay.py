"""A fresh roster with some users kept: everybody once, in order, and no name twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from bridge.model import User
from bridge.removals.overlay import Overlay
from bridge.roster.roster import Roster, fold_user_name
from tests.support.kept import roster_of


def user(name: str, user_id: str = "", remark: str | None = None) -> User:
    return User(user_id or f"id-{name}", name, f"uid={name}", remark)


def names(roster: Roster) -> list[tuple[str, str]]:
    return [(each.user_name, each.id) for each in roster]


FRESH = roster_of([user("b"), user("d"), user("f")])


def nobody(position: int) -> None:
    """Who stands there has no earlier name."""


def test_layout_without_a_difference_is_the_fresh_roster_itself() -> None:
    """Nothing is built anew."""
    overlay = Overlay(FRESH)
    assert overlay.settle(nobody) == []
    assert overlay.build() is FRESH


def test_retained_users_stand_in_order_at_the_ends_and_between() -> None:
    """Wherever a name belongs, the others stay as they are."""
    overlay = Overlay(FRESH)
    for name in ("e", "A", "g", "c"):
        overlay.retain(user(name))
    assert overlay.settle(nobody) == []
    assert "".join(name for name, _ in names(overlay.build())) == "Abcdefg"
    assert overlay.decided_names == {"a", "c", "e", "g"}


def test_replaced_user_stands_under_the_other_name_alone() -> None:
    """The fresh name is free; another spelling of it is no other name."""
    overlay = Overlay(FRESH)
    overlay.replace(0, user("z", "id-b"))
    overlay.replace(1, user("D", "id-d"))
    assert overlay.settle(nobody) == []
    assert names(overlay.build()) == [("D", "id-d"), ("f", "id-f"), ("z", "id-b")]
    assert overlay.decided_names == {"z"}


def test_name_of_a_retained_user_is_taken_from_whoever_claims_it() -> None:
    """The claimant is left out, or listed under the earlier name, or not touched where it claims another one."""
    overlay = Overlay(FRESH)
    overlay.retain(user("D", "kept"))
    assert overlay.settle(nobody) == ["d"]
    assert names(overlay.build()) == [("b", "id-b"), ("D", "kept"), ("f", "id-f")]
    assert [overlay.drops(position) for position in range(3)] == [False, True, False]
    overlay = Overlay(FRESH)
    overlay.retain(user("d", "kept"))
    assert overlay.settle(lambda position: user("old", "id-d")) == ["d"]
    assert names(overlay.build()) == [("b", "id-b"), ("d", "kept"), ("f", "id-f"), ("old", "id-d")]


def test_chain_of_claims_is_followed_to_its_end() -> None:
    """Who must have the earlier name back takes it from the next one; the last one, who is new, is left out."""
    earlier = {1: user("b", "id-d"), 0: user("f", "id-b")}
    overlay = Overlay(FRESH)
    overlay.retain(user("d", "kept"))
    assert overlay.settle(earlier.get) == ["b", "d", "f"]
    assert names(overlay.build()) == [("b", "id-d"), ("d", "kept"), ("f", "id-b")]


def test_name_is_free_where_nobody_claims_or_has_it() -> None:
    """Neither in the fresh roster nor among those who are kept."""
    overlay = Overlay(FRESH)
    overlay.retain(user("Kept"))
    assert [overlay.is_free(name) for name in ("b", "kept", "x")] == [False, False, True]


LETTERS = st.sampled_from("aAbBcdeéßs")


@given(
    st.dictionaries(LETTERS.map(fold_user_name), LETTERS, max_size=8), st.sets(LETTERS.map(fold_user_name), max_size=8)
)
def test_layout_has_everybody_who_is_kept_and_no_name_twice(fresh: dict[str, str], kept: set[str]) -> None:
    """Those who are kept are there; of the others, exactly those whose names are not held."""
    roster = roster_of([user(name, f"fresh-{name}") for name in fresh])
    overlay = Overlay(roster)
    for name in kept:
        overlay.retain(user(name, f"kept-{name}", "x"))
    claimed = overlay.settle(nobody)
    built = overlay.build()
    folded = [fold_user_name(each.user_name) for each in built]
    assert folded == sorted(set(folded))
    assert {each.id for each in built} == {f"kept-{name}" for name in kept} | {
        f"fresh-{name}" for name in fresh if name not in kept
    }
    assert claimed == sorted(kept & fresh.keys())
