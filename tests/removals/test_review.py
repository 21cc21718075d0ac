"""The guard's decisions, case by case, and the laws that hold for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bridge.model import User
from bridge.removals.model import Finding, GuardState, HeldBy, RemovalKind, RemovalPolicy, RemovalReason
from bridge.removals.review import CONFIRMED_MAX_COUNT, Baseline, Fresh, Review, review
from bridge.roster.builder import RosterBuilder
from bridge.roster.comparison import compare
from bridge.roster.roster import Roster, fold_user_name

GONE = Finding(RemovalReason.DELETED)
TIGHT = RemovalPolicy(max_percent=10, max_count=1)
NOW_S = 1_000_000.0


def user(name: str, user_id: str = "", *addresses: str) -> User:
    return User(user_id or f"id-{name}", name, f"uid={name}", None, addresses)


def roster_of(users: Sequence[User], holders: Roster | None = None) -> tuple[Roster, tuple[str, ...]]:
    builder = RosterBuilder()
    builder.add(users)
    built = builder.build(holders)
    return built.roster, built.collisions


def accepted(users: Sequence[User], guard: GuardState | None = None, taken_at_s: float = NOW_S) -> Baseline:
    return Baseline(roster_of(users)[0], guard or GuardState(), taken_at_s)


def judge(
    previous: Baseline,
    users: Sequence[User],
    policy: RemovalPolicy = TIGHT,
    findings: Mapping[str, Finding] | None = None,
    now_s: float = NOW_S,
) -> Review:
    """The review of a listing, in which the missing ones are deleted unless `findings` says otherwise."""
    roster, contested = roster_of(users, previous.roster)
    comparison = compare(previous.roster, roster)
    ids = [previous.roster[position].id for position in comparison.missing]
    found = {user_id: (findings or {}).get(user_id, GONE) for user_id in ids} if len(ids) <= CONFIRMED_MAX_COUNT else {}
    return review(previous, Fresh(roster, comparison, found, contested), policy, now_s)


def after(previous: Baseline, reviewed: Review, now_s: float = NOW_S) -> Baseline:
    return replace(previous, roster=reviewed.roster, guard=reviewed.guard, taken_at_s=now_s)


def names(reviewed: Review) -> list[str]:
    return [each.user_name for each in reviewed.roster]


def withheld(reviewed: Review) -> list[tuple[str, RemovalKind, HeldBy]]:
    return [(each.removal.user_name, each.removal.kind, each.held_by) for each in reviewed.guard.withheld]


PEOPLE = [user(f"u{number:02}") for number in range(20)]


def test_few_removals_go_through() -> None:
    """Within the limits the listing is the directory's."""
    reviewed = judge(accepted(PEOPLE), PEOPLE[1:], RemovalPolicy())
    assert names(reviewed) == [each.user_name for each in PEOPLE[1:]]
    assert [(each.user_name, each.reason) for each in reviewed.removed] == [("u00", RemovalReason.DELETED)]
    assert not reviewed.guard.withheld


def test_too_many_removals_are_withheld_and_the_rest_goes_through() -> None:
    """Who is missing stays, who is new comes, who has changed has changed."""
    changed = PEOPLE[19]._replace(full_name="New Name")
    reviewed = judge(accepted(PEOPLE), [*PEOPLE[3:19], changed, user("zoe")])
    assert names(reviewed) == [*(each.user_name for each in PEOPLE), "zoe"]
    assert reviewed.roster.find("u19") == changed
    assert withheld(reviewed) == [(f"u0{number}", RemovalKind.MISSING, HeldBy.LIMIT) for number in range(3)]
    assert reviewed.is_tripped


@pytest.mark.parametrize(("percent", "count", "trips"), [(10, 0, True), (15, 0, False), (10, 3, False), (10, 2, True)])
def test_both_limits_must_be_exceeded(percent: float, count: int, trips: bool) -> None:
    """Three of twenty: 15 %, and three in number; reaching a limit is not exceeding it."""
    policy = RemovalPolicy(max_percent=percent, max_count=count)
    assert judge(accepted(PEOPLE), PEOPLE[3:], policy).is_tripped is trips


def test_small_steps_count_together_within_the_window() -> None:
    """One an hour is withheld from the third on, as two of twenty are ten percent; after a day all begins anew."""
    snapshot, users = accepted(PEOPLE), list(PEOPLE)
    outcomes = []
    for hour in range(4):
        users.pop()
        reviewed = judge(snapshot, users, now_s=NOW_S + 3600 * hour)
        outcomes.append(len(reviewed.guard.withheld))
        snapshot = after(snapshot, reviewed)
    assert outcomes == [0, 0, 1, 2]
    assert len(snapshot.roster) == 18
    later = judge(accepted(PEOPLE[:18], GuardState(recent=snapshot.guard.recent)), PEOPLE[:17], now_s=NOW_S + 90_000)
    assert not later.guard.withheld


def test_who_comes_back_does_not_count_any_more() -> None:
    """A user who flaps all day is no mass removal."""
    snapshot = accepted(PEOPLE)
    for _ in range(5):
        snapshot = after(snapshot, judge(snapshot, PEOPLE[1:]))
        assert len(snapshot.roster) == 19
        snapshot = after(snapshot, judge(snapshot, PEOPLE))
        assert len(snapshot.roster) == 20


def test_who_comes_back_under_another_name_counts_as_before() -> None:
    """The archive of the former name is gone: to leave and come back is no way around the limit for renames."""
    snapshot, users = accepted(PEOPLE), list(PEOPLE)
    for position in range(6):
        gone = users.pop(position)
        snapshot = after(snapshot, judge(snapshot, users))
        users.insert(position, gone._replace(user_name=f"{gone.user_name}-new"))
        snapshot = after(snapshot, judge(snapshot, users))
    kept = {each.user_name for each in snapshot.roster} & {each.user_name for each in PEOPLE}
    assert len(kept) == 18
    assert [held.removal.kind for held in snapshot.guard.withheld] == [RemovalKind.RENAMED] * 4


def test_clock_that_was_set_back_keeps_nobody_longer_than_the_policy_says() -> None:
    """Times of the future are times of now: a grace of none ends at once, and a window ends one window later."""
    snapshot = accepted(PEOPLE, GuardState(recent={"x": NOW_S + 1e9}), taken_at_s=NOW_S + 1e9)
    reviewed = judge(snapshot, PEOPLE[1:])
    assert len(reviewed.roster) == 19
    assert reviewed.guard.recent == {"x": NOW_S, "id-u00": NOW_S}
    policy = replace(TIGHT, grace_s=1000)
    snapshot = after(snapshot, judge(snapshot, PEOPLE[1:], policy), NOW_S)
    assert len(snapshot.roster) == 20
    assert len(judge(snapshot, PEOPLE[1:], policy, now_s=NOW_S + 999).roster) == 20
    assert len(judge(snapshot, PEOPLE[1:], policy, now_s=NOW_S + 1000).roster) == 19


@pytest.mark.parametrize(
    ("policy", "gone", "left"),
    [
        (RemovalPolicy(max_percent=0, max_count=0), 1, 20),
        (RemovalPolicy(max_percent=0, max_count=1), 1, 19),
        (RemovalPolicy(max_percent=100, max_count=0), 19, 1),
        (RemovalPolicy(max_percent=100, max_count=0), 20, 20),
        (RemovalPolicy(max_percent=100, max_count=0, allow_empty=True), 20, 0),
    ],
)
def test_limits_at_their_ends(policy: RemovalPolicy, gone: int, left: int) -> None:
    """Nobody may leave; one; everybody but the last; and the last one where an empty directory may be right."""
    assert len(judge(accepted(PEOPLE), PEOPLE[gone:], policy).roster) == left


def test_window_of_no_time_lets_each_listing_have_the_whole_limit() -> None:
    """What was removed before counts no more; with a window it would."""
    policy = replace(TIGHT, window_s=0)
    snapshot, users = accepted(PEOPLE), list(PEOPLE)
    for _ in range(5):
        users.pop()
        snapshot = after(snapshot, judge(snapshot, users, policy))
    assert len(snapshot.roster) == 15


@pytest.mark.parametrize(("old", "new"), [("straße", "STRASSE"), ("İda", "i\u0307da"), ("ﬁnn", "FINN")])
def test_names_that_fold_to_the_same_are_one_name(old: str, new: str) -> None:
    """The user is not renamed, and nobody else gets the name while the user is kept; full-width letters are others."""
    snapshot = accepted([*PEOPLE, user(old, "1")])
    assert not judge(snapshot, [*PEOPLE, user(new, "1")]).removed
    kept = judge(snapshot, [*PEOPLE, user(new, "2")], findings={"1": Finding(None)})
    assert ([each.id for each in kept.roster if each.user_name == old], kept.collisions) == (
        ["1"],
        (fold_user_name(old),),
    )
    wide = judge(snapshot, [*PEOPLE, user("ｕ00", "2")], findings={"1": Finding(None)})
    assert len(wide.roster) == 22


@pytest.mark.timeout(100)
def test_many_who_are_renamed_at_once_are_laid_out_in_time() -> None:
    """Tens of thousands keep their names, each between others; a step for each pair of them would take minutes."""
    count = 60_000
    people = [user(f"u{number:06}") for number in range(count)]
    renamed = [each._replace(user_name=f"{each.user_name}-new") for each in people]
    reviewed = judge(accepted(people), renamed)
    assert len(reviewed.roster) == count
    assert reviewed.roster.json == roster_of(people)[0].json


def test_withheld_removals_stay_withheld_when_their_number_falls() -> None:
    """Half of the missing are back: the other half is not let go for being few now."""
    snapshot = accepted(PEOPLE)
    snapshot = after(snapshot, judge(snapshot, PEOPLE[4:]))
    reviewed = judge(snapshot, PEOPLE[1:])
    assert withheld(reviewed) == [("u00", RemovalKind.MISSING, HeldBy.LIMIT)]
    assert not judge(after(snapshot, reviewed), PEOPLE).guard.withheld


def test_approval_is_for_exactly_this_set() -> None:
    """The right digest lets them go, once; a set that has changed lets nobody go and ends the approval."""
    snapshot = accepted(PEOPLE)
    snapshot = after(snapshot, judge(snapshot, PEOPLE[4:]))
    approved = replace(snapshot, guard=replace(snapshot.guard, approved=snapshot.guard.digest))
    reviewed = judge(approved, PEOPLE[4:])
    assert len(reviewed.roster) == 16
    assert reviewed.approved == snapshot.guard.digest
    assert not reviewed.guard.withheld
    assert not reviewed.guard.recent
    other = judge(approved, PEOPLE[5:])
    assert len(other.roster) == 20
    assert (other.approved, other.expired, other.guard.approved) == (None, snapshot.guard.digest, None)


def test_digest_forgets_why_and_remembers_what() -> None:
    """A reason that is found out later leaves the digest; another address changes it."""
    snapshot = accepted(PEOPLE)
    first = judge(snapshot, PEOPLE[4:]).guard.digest
    moved = {f"id-u{number:02}": Finding(RemovalReason.MOVED) for number in range(4)}
    assert judge(snapshot, PEOPLE[4:], findings=moved).guard.digest == first
    assert judge(snapshot, PEOPLE[3:]).guard.digest != first
    assert len(first or "") == 16


def test_nobody_at_all_trips_whatever_the_limits_are() -> None:
    """Rights taken away from the service account leave an empty listing with result code 0."""
    three = accepted(PEOPLE[:3])
    assert names(judge(three, [], RemovalPolicy())) == ["u00", "u01", "u02"]
    assert names(judge(three, [], RemovalPolicy(allow_empty=True))) == []


def test_more_than_can_be_confirmed_trips_whatever_the_limits_are() -> None:
    """A thousand and one of many are not asked for one by one, so the operator is asked."""
    many = [user(f"u{number:05}") for number in range(CONFIRMED_MAX_COUNT + 2)]
    reviewed = judge(accepted(many), many[:1], RemovalPolicy(max_percent=100))
    assert len(reviewed.roster) == len(many)
    assert {each.removal.reason for each in reviewed.guard.withheld} == {RemovalReason.UNCONFIRMED}


def test_user_whom_the_listing_forgot_stays() -> None:
    """Asked by id, the entry is there and matches: the listing was inconsistent, and it is no removal."""
    reviewed = judge(accepted(PEOPLE), PEOPLE[1:], findings={"id-u00": Finding(None)})
    assert len(reviewed.roster) == 20
    assert reviewed.inconsistent == ("u00",)
    assert not reviewed.guard.withheld


def test_unconfirmed_removal_waits_for_its_confirmation() -> None:
    """Where the directory could not be asked, one user alone is kept, and let go once it says so."""
    snapshot = accepted(PEOPLE)
    reviewed = judge(snapshot, PEOPLE[1:], findings={"id-u00": Finding(RemovalReason.UNCONFIRMED, "down")})
    assert withheld(reviewed) == [("u00", RemovalKind.MISSING, HeldBy.CONFIRMATION)]
    assert not reviewed.is_tripped
    assert len(judge(after(snapshot, reviewed), PEOPLE[1:]).roster) == 19


def test_lost_addresses_count_and_are_kept() -> None:
    """A user without the last address can't be given mail; addresses differ in more than case."""
    people = [user(f"u{number}", "", f"u{number}@e", f"Alias{number}@e") for number in range(10)]
    bare = [each._replace(email_addresses=("new@e", f"alias{at}@E")) for at, each in enumerate(people)]
    reviewed = judge(accepted(people), [*bare[:3], *people[3:]])
    assert withheld(reviewed) == [(f"u{number}", RemovalKind.ADDRESSES, HeldBy.LIMIT) for number in range(3)]
    assert [each.removal.lost for each in reviewed.guard.withheld] == [(f"u{number}@e",) for number in range(3)]
    kept = reviewed.roster.find("u0")
    assert kept is not None
    assert kept.email_addresses == ("new@e", "alias0@E", "u0@e")
    again = judge(after(accepted(people), reviewed), [*bare[:3], *people[3:]])
    assert again.roster.json == reviewed.roster.json
    few = judge(accepted(people), [*bare[:1], *people[1:]])
    assert few.roster.find("u0") == bare[0]


RENAMED = [each._replace(user_name=f"new-{each.user_name}") for each in PEOPLE]


def test_rename_is_reported_and_counts_as_a_removal() -> None:
    """Few go through; many keep their names, for the new ones would be new, empty archives."""
    one = judge(accepted(PEOPLE), [*RENAMED[:1], *PEOPLE[1:]])
    assert one.roster.find("new-u00") is not None
    assert [(each.kind, each.new_name) for each in one.removed] == [(RemovalKind.RENAMED, "new-u00")]
    many = judge(accepted(PEOPLE), [*RENAMED[:3], *PEOPLE[3:]])
    assert names(many) == [each.user_name for each in PEOPLE]
    assert withheld(many) == [(f"u0{number}", RemovalKind.RENAMED, HeldBy.LIMIT) for number in range(3)]
    assert many.guard.decided_names == {"u00", "u01", "u02"}


def test_case_of_a_name_is_no_rename() -> None:
    """MailStore does not tell `Bob` from `bob`."""
    shouting = [each._replace(user_name=each.user_name.upper()) for each in PEOPLE]
    reviewed = judge(accepted(PEOPLE), shouting)
    assert names(reviewed) == [each.user_name for each in shouting]
    assert not reviewed.removed


def test_kept_user_names_are_those_of_the_first_listing() -> None:
    """Also for who has left and comes back, unless somebody else has the name by then."""
    policy = RemovalPolicy(keep_user_names=True)
    snapshot = accepted(PEOPLE)
    reviewed = judge(snapshot, [*RENAMED[:5], *PEOPLE[5:]], policy)
    assert names(reviewed) == [each.user_name for each in PEOPLE]
    assert not reviewed.guard.withheld
    left = after(snapshot, judge(after(snapshot, reviewed), [*RENAMED[1:5], *PEOPLE[5:]], policy))
    assert left.roster.find("u00") is None
    back = judge(left, [*RENAMED[:5], *PEOPLE[5:]], policy)
    assert back.roster.find("u00") == PEOPLE[0]
    taken = judge(left, [*RENAMED[:5], *PEOPLE[5:], user("u00", "other")], policy)
    assert (taken.roster.find("u00") or PEOPLE[0]).id == "other"
    assert (taken.roster.find("new-u00") or PEOPLE[0]).id == "id-u00"


def test_name_of_a_kept_user_is_not_given_to_anybody_else() -> None:
    """A newcomer under it is left out and reported; who was renamed to it keeps the old name."""
    policy = RemovalPolicy(keep_user_names=True)
    snapshot = after(accepted(PEOPLE), judge(accepted(PEOPLE), [*RENAMED[:1], *PEOPLE[1:]], policy))
    newcomer = judge(snapshot, [*RENAMED[:1], *PEOPLE[1:], user("U00", "newcomer")], policy)
    assert (newcomer.roster.find("u00") or PEOPLE[1]).id == "id-u00"
    assert len(newcomer.roster) == 20
    assert newcomer.collisions == ("u00",)
    many = accepted(PEOPLE)
    chain = [PEOPLE[3]._replace(user_name="u00"), user("u03", "newcomer"), *PEOPLE[4:]]
    reviewed = judge(many, chain)
    assert names(reviewed) == [each.user_name for each in PEOPLE]
    assert {each.id for each in reviewed.roster} == {each.id for each in PEOPLE}
    assert reviewed.collisions == ("u03",)


def test_rename_to_a_name_that_is_held_does_not_lose_the_user() -> None:
    """One rename alone, to the name of somebody whom the listing forgot: both stay as they were."""
    users = [PEOPLE[1]._replace(user_name="u00"), *PEOPLE[2:]]
    reviewed = judge(accepted(PEOPLE), users, findings={"id-u00": Finding(None)})
    assert names(reviewed) == [each.user_name for each in PEOPLE]
    assert withheld(reviewed) == [("u01", RemovalKind.RENAMED, HeldBy.NAME)]


def test_two_who_swap_names_swap_them() -> None:
    """Nobody is kept, so nobody is in the way."""
    users = [PEOPLE[0]._replace(user_name="u01"), PEOPLE[1]._replace(user_name="u00"), *PEOPLE[2:]]
    reviewed = judge(accepted(PEOPLE), users, RemovalPolicy())
    assert (reviewed.roster.find("u00") or PEOPLE[0]).id == "id-u01"
    assert len(reviewed.removed) == 2


def test_grace_keeps_each_missing_user_for_a_while() -> None:
    """From when the user was last seen, whatever the numbers are; then it counts like any other removal."""
    policy = RemovalPolicy(grace_s=1000)
    snapshot = accepted(PEOPLE)
    for at_s, expected in ((500, 20), (999, 20), (1000, 19)):
        reviewed = judge(snapshot, PEOPLE[1:], policy, now_s=NOW_S + at_s)
        assert (at_s, len(reviewed.roster)) == (at_s, expected)
        snapshot = after(snapshot, reviewed, NOW_S + at_s)
    assert snapshot.guard.recent == {"id-u00": NOW_S + 1000}


def test_grace_ends_when_the_user_is_back() -> None:
    """The next absence has its own time."""
    policy = RemovalPolicy(grace_s=1000)
    snapshot = accepted(PEOPLE)
    snapshot = after(snapshot, judge(snapshot, PEOPLE[1:], policy, now_s=NOW_S + 900), NOW_S + 900)
    snapshot = after(snapshot, judge(snapshot, PEOPLE, policy, now_s=NOW_S + 950), NOW_S + 950)
    assert len(judge(snapshot, PEOPLE[1:], policy, now_s=NOW_S + 1900).roster) == 20


def test_unchanged_listing_is_the_roster_that_is_there_already() -> None:
    """What was made of it, the compressed answer for one, stays good; so it does while removals are withheld."""
    snapshot = accepted(PEOPLE)
    assert judge(snapshot, PEOPLE).roster is snapshot.roster
    snapshot = after(snapshot, judge(snapshot, PEOPLE[5:]))
    assert judge(snapshot, PEOPLE[5:]).roster is snapshot.roster


IDS = st.integers(0, 7)
NAMES = st.sampled_from(["a", "B", "b", "c", "D", "é"])
ADDRESSES = st.lists(st.sampled_from(["a@e", "A@e", "b@e"]), max_size=2, unique=True).map(tuple)
DIRECTORY = st.dictionaries(IDS, st.tuples(NAMES, ADDRESSES), max_size=8).map(
    lambda found: [user(name, f"id{key}", *addresses) for key, (name, addresses) in found.items()]
)
FINDINGS = st.sampled_from([GONE, Finding(None), Finding(RemovalReason.UNCONFIRMED), Finding(RemovalReason.NAME_TAKEN)])
POLICIES = st.builds(
    RemovalPolicy,
    max_percent=st.sampled_from([0, 10, 50, 100]),
    max_count=st.integers(0, 3),
    window_s=st.just(1000.0),
    grace_s=st.sampled_from([0.0, 500.0]),
    allow_empty=st.booleans(),
    keep_user_names=st.booleans(),
)
STEPS = st.lists(
    st.tuples(
        DIRECTORY, st.dictionaries(IDS.map(lambda key: f"id{key}"), FINDINGS), st.booleans(), st.integers(1, 600)
    ),
    min_size=1,
    max_size=8,
)


@given(POLICIES, STEPS)
def test_laws_of_the_guard(
    policy: RemovalPolicy, steps: list[tuple[list[User], dict[str, Finding], bool, int]]
) -> None:
    """Whatever a directory does: nothing disappears silently, names are unique, the limit holds over the window."""
    snapshot, now_s = accepted([]), NOW_S
    for users, findings, approves, seconds in steps:
        now_s += seconds
        if approves:
            snapshot = replace(snapshot, guard=replace(snapshot.guard, approved=snapshot.guard.digest))
        reviewed = judge(snapshot, users, policy, findings, now_s)
        again = judge(snapshot, users, policy, findings, now_s)
        assert (reviewed.roster.json, reviewed.guard) == (again.roster.json, again.guard)
        check_laws(snapshot, reviewed, users, policy, now_s)
        snapshot = after(snapshot, reviewed, now_s)


def check_laws(before: Baseline, reviewed: Review, users: list[User], policy: RemovalPolicy, now_s: float) -> None:
    old, new = {each.id: each for each in before.roster}, {each.id: each for each in reviewed.roster}
    folded = [fold_user_name(each.user_name) for each in reviewed.roster]
    assert folded == sorted(set(folded))
    lost = {each.user_id for each in reviewed.removed}
    approved = {each.removal.user_id for each in before.guard.withheld} if reviewed.approved else set()
    for user_id, was in old.items():
        now = new.get(user_id)
        is_less = (
            now is None
            or fold_user_name(now.user_name) != fold_user_name(was.user_name)
            or not {each.lower() for each in was.email_addresses} <= {each.lower() for each in now.email_addresses}
        )
        assert not is_less or user_id in lost, (was, now)
    unapproved = lost - approved
    if unapproved:
        recent = set(reviewed.guard.recent)
        total = len(set(old) | recent)  # with those who had left, even if they are back under another name
        assert len(recent) <= policy.max_count or len(recent) * 100 <= policy.max_percent * total
    listed = {fold_user_name(each.user_name): each.id for each in reviewed.roster}
    claims: dict[str, set[str]] = {}
    for each in users:
        claims.setdefault(fold_user_name(each.user_name), set()).add(each.id)
    for each in users:
        name = fold_user_name(each.user_name)
        if each.id not in old and len(claims[name]) == 1:
            assert each.id in new or listed.get(name) in old, "who is new appears, unless the name is somebody's"
