"""Another server's listing: who waits for the server that last showed them, who stays by its word, who goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from bridge.model import User
from bridge.removals.model import Finding, GuardState, HeldBy, RemovalKind, RemovalPolicy, RemovalReason, Statement
from bridge.removals.review import WITNESS_PATIENCE_S, Baseline, Fresh, Review, review
from bridge.removals.witnesses import find_foreign_losses, witness_of
from bridge.roster.comparison import compare
from tests.support.kept import roster_of

FIRST, SECOND = "ldap://first", "ldap://second"
NOW_S = 1_000_000.0
GONE = Finding(RemovalReason.DELETED, "not found")
STAYS = Finding(None)


def user(name: str, *addresses: str, user_id: str = "") -> User:
    return User(user_id or f"id-{name}", name, f"uid={name}", None, addresses)


PEOPLE = [user(f"u{number:02}", f"u{number:02}@e") for number in range(20)]


def silent(*names: str) -> dict[str, Statement]:
    return {f"id-{name}": Statement(FIRST, None, detail="it is down") for name in names}


def says(finding: Finding, *names: str, shown: User | None = None) -> dict[str, Statement]:
    return {f"id-{name}": Statement(FIRST, finding, shown) for name in names}


def accepted(users: Sequence[User] = PEOPLE, guard: GuardState | None = None, server: str = FIRST) -> Baseline:
    return Baseline(roster_of(users), guard or GuardState(), NOW_S, server)


def judge(
    baseline: Baseline,
    users: Sequence[User],
    statements: Mapping[str, Statement],
    policy: RemovalPolicy | None = None,
    now_s: float = NOW_S,
) -> Review:
    """The review of the second server's listing, in which those who are missing are not found there by their ids."""
    roster = roster_of(users)
    comparison = compare(baseline.roster, roster)
    findings = {baseline.roster[position].id: GONE for position in comparison.missing}
    fresh = Fresh(roster, comparison, findings, (), SECOND, statements)
    return review(baseline, fresh, policy or RemovalPolicy(), now_s)


def after(baseline: Baseline, reviewed: Review, now_s: float = NOW_S) -> Baseline:
    return replace(baseline, roster=reviewed.roster, guard=reviewed.guard, taken_at_s=now_s, server=SECOND)


def held(reviewed: Review) -> list[tuple[str, RemovalKind, HeldBy]]:
    return [(each.removal.user_name, each.removal.kind, each.held_by) for each in reviewed.guard.withheld]


def names(reviewed: Review) -> list[str]:
    return [each.user_name for each in reviewed.roster]


def test_missing_user_waits_for_a_witness_that_is_silent() -> None:
    """The removal is withheld, names the server, and who has shown the user is remembered."""
    reviewed = judge(accepted(), PEOPLE[1:], silent("u00"))
    assert names(reviewed) == [each.user_name for each in PEOPLE]
    assert held(reviewed) == [("u00", RemovalKind.MISSING, HeldBy.WITNESS)]
    detail = reviewed.guard.withheld[0].removal.detail
    assert detail == f"not found; {FIRST} has last shown the user so, and can't be asked: it is down"
    assert reviewed.guard.last_seen_at == {"id-u00": FIRST}
    assert (reviewed.is_tripped, reviewed.guard.is_doubtful) == (False, True)
    later = after(accepted(), reviewed)
    assert (witness_of(later, "id-u00"), witness_of(later, "id-u01")) == (FIRST, SECOND)


def test_missing_user_goes_when_the_witness_says_so() -> None:
    """With the witness's reason; nothing is remembered of who has shown the user."""
    reviewed = judge(accepted(), PEOPLE[1:], says(Finding(RemovalReason.FILTER, "(a=b)"), "u00"))
    assert [(each.user_name, each.reason) for each in reviewed.removed] == [("u00", RemovalReason.FILTER)]
    assert reviewed.guard.last_seen_at == {}


def test_missing_user_whom_the_witness_shows_stays_and_the_listed_server_lags() -> None:
    """It is neither a removal nor an inconsistent listing."""
    reviewed = judge(accepted(), PEOPLE[1:], says(STAYS, "u00", shown=PEOPLE[0]))
    assert (names(reviewed), held(reviewed)) == ([each.user_name for each in PEOPLE], [])
    assert (reviewed.lagging, reviewed.inconsistent) == (("u00",), ())
    assert reviewed.guard.last_seen_at == {"id-u00": FIRST}


def test_server_that_is_known_no_more_is_not_waited_for() -> None:
    """Without its statement the listing's word counts, as it does in a directory of one server."""
    assert names(judge(accepted(), PEOPLE[1:], {})) == [each.user_name for each in PEOPLE[1:]]


@pytest.mark.parametrize(("later_s", "waits"), [(WITNESS_PATIENCE_S - 1, True), (WITNESS_PATIENCE_S, False)])
def test_wait_ends_a_day_after_the_user_was_first_missing(later_s: float, waits: bool) -> None:
    """However often the directory is listed meanwhile."""
    baseline = accepted()
    for now_s in (NOW_S, NOW_S + WITNESS_PATIENCE_S / 2):
        baseline = after(baseline, judge(baseline, PEOPLE[1:], silent("u00"), now_s=now_s), now_s)
    reviewed = judge(baseline, PEOPLE[1:], silent("u00"), now_s=NOW_S + later_s)
    assert ("u00" in names(reviewed)) is waits


def test_clock_that_is_set_back_lets_nobody_go() -> None:
    """A date in the future counts as now."""
    baseline = accepted()
    baseline = after(baseline, judge(baseline, PEOPLE[1:], silent("u00"), now_s=NOW_S + 10 * WITNESS_PATIENCE_S))
    assert held(judge(baseline, PEOPLE[1:], silent("u00")))


def test_those_who_wait_do_not_trip_the_guard_and_count_once_they_go() -> None:
    """Nine of ten are missing at a server that lags: they wait; when the first one says so, too, they are too many."""
    policy = RemovalPolicy(max_percent=10, max_count=2)
    missing = [each.user_name for each in PEOPLE[:18]]
    reviewed = judge(accepted(), PEOPLE[18:], silent(*missing), policy)
    assert {held_by for _, _, held_by in held(reviewed)} == {HeldBy.WITNESS}
    reviewed = judge(after(accepted(), reviewed), PEOPLE[18:], says(GONE, *missing), policy)
    assert {held_by for _, _, held_by in held(reviewed)} == {HeldBy.LIMIT}
    assert len(reviewed.roster) == 20


def test_what_the_limit_holds_is_held_by_it_beside_those_who_wait() -> None:
    """Three whom the first server has given up are too many; one more waits."""
    statements = says(GONE, "u00", "u01", "u02") | silent("u03")
    reviewed = judge(accepted(), PEOPLE[4:], statements, RemovalPolicy(max_percent=10, max_count=2))
    assert [held_by for _, _, held_by in held(reviewed)] == [HeldBy.LIMIT] * 3 + [HeldBy.WITNESS]


def test_operator_lets_go_of_those_who_wait() -> None:
    """The digest is that of all that is withheld."""
    first = judge(accepted(), PEOPLE[1:], silent("u00"))
    guard = replace(first.guard, approved=first.guard.digest)
    reviewed = judge(replace(after(accepted(), first), guard=guard), PEOPLE[1:], silent("u00"))
    assert (names(reviewed), reviewed.approved) == ([each.user_name for each in PEOPLE[1:]], first.guard.digest)


OLD = user("anna", "a@e", "b@e")
NEW = user("berta", "b@e", "c@e", user_id="id-anna")
KEPT = ("anna", {"a@e", "b@e", "c@e"})


@pytest.mark.parametrize(
    ("statement", "answered", "is_held", "is_lagging"),
    [
        (silent("anna"), KEPT, True, False),
        (says(STAYS, "anna", shown=OLD), KEPT, False, True),
        (says(STAYS, "anna", shown=user("anna", "b@e")), KEPT, False, True),
        (says(STAYS, "anna", shown=NEW), ("berta", {"b@e", "c@e"}), False, False),
        (says(GONE, "anna"), ("berta", {"b@e", "c@e"}), False, False),
        ({}, ("berta", {"b@e", "c@e"}), False, False),
    ],
)
def test_lost_addresses_and_names_need_the_witness_too(
    statement: dict[str, Statement], answered: tuple[str, set[str]], is_held: bool, is_lagging: bool
) -> None:
    """Silent: withheld. Still shown: kept. Shown no more, or the entry is gone: an ordinary change."""
    reviewed = judge(accepted([OLD, *PEOPLE]), [NEW, *PEOPLE], statement)
    (found,) = [each for each in reviewed.roster if each.id == "id-anna"]
    assert (found.user_name, set(found.email_addresses)) == answered
    assert {held_by for _, _, held_by in held(reviewed)} == ({HeldBy.WITNESS} if is_held else set())
    assert reviewed.lagging == (("anna",) if is_lagging else ())
    assert ("id-anna" in reviewed.guard.last_seen_at) is (is_held or is_lagging)


def foreign(baseline: Baseline, users: Sequence[User], server: str, count: int = 100) -> dict[str, list[str]]:
    roster = roster_of(users)
    comparison = compare(baseline.roster, roster)
    findings = {baseline.roster[position].id: GONE for position in comparison.missing}
    found = find_foreign_losses(
        baseline, Fresh(roster, comparison, findings, (), server), keeps_name=False, max_count=count
    )
    return {url: [each.user_name for each in shown] for url, shown in found.items()}


def test_only_losses_that_another_server_has_shown_are_asked_about() -> None:
    """By the server that has shown each; a change in which nothing is lost is none."""
    changed = [PEOPLE[2]._replace(full_name="X"), PEOPLE[3]._replace(email_addresses=())]
    users = [*changed, *PEOPLE[4:]]
    assert foreign(accepted(), users, FIRST) == {}
    assert foreign(accepted(), users, SECOND) == {FIRST: ["u00", "u01", "u03"]}
    assert foreign(accepted(), users, SECOND, count=2) == {FIRST: ["u00", "u01"]}
    guard = GuardState(last_seen_at={"id-u00": SECOND, "id-u01": "ldap://third"})
    assert foreign(accepted(guard=guard), users, FIRST) == {SECOND: ["u00"], "ldap://third": ["u01"]}
    assert foreign(accepted(guard=guard), users, SECOND) == {"ldap://third": ["u01"], FIRST: ["u03"]}
