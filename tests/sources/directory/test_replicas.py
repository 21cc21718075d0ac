"""Several servers in memory: which is no replica, which listing is believed, and who is a witness of whom."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from bridge.directory import Entry
from bridge.errors import (
    DirectoryError,
    DirectoryRefused,
    DirectoryUnavailable,
    NoReplica,
    RemovalsRefused,
    SearchIncomplete,
)
from bridge.removals.model import HeldBy
from bridge.roster.roster import Roster
from bridge.snapshots.directory_snapshots import DirectorySnapshots
from bridge.sources.directory.listing import take_listing
from bridge.sources.directory.replicas import choose_sample, count_known
from tests.support.kept import people as roster_of_people
from tests.support.memory_directory import MemoryDirectory, MemoryServers, make, person

ONE, TWO, THREE = "ldap://one", "ldap://two", "ldap://three"


def people(count: int, kind: str = "id") -> list[Entry]:
    return [person(f"u{number:02}", f"{kind}-{number:02}", mail=(f"u{number:02}@e",)) for number in range(count)]


def servers(*entries: Sequence[Entry]) -> tuple[MemoryServers, list[MemoryDirectory]]:
    made = [MemoryDirectory(*each, url=url) for each, url in zip(entries, (ONE, TWO, THREE), strict=False)]
    return MemoryServers(*made), made


def names(snapshots: DirectorySnapshots) -> list[str]:
    assert snapshots.last_good is not None
    return [user.user_name for user in snapshots.last_good.roster]


async def checked(snapshots: DirectorySnapshots) -> None:
    """The other servers have been asked, as they are after each listing."""
    if snapshots._checking is not None:
        await snapshots._checking


def incomplete(detail: str = "no control") -> SearchIncomplete:
    return SearchIncomplete(detail, directory="memory")


def refused() -> DirectoryRefused:
    return DirectoryRefused("no rights", directory="memory")


@pytest.mark.parametrize("error", [incomplete, refused])
async def test_listing_goes_on_at_the_next_server_whatever_the_error(error: type) -> None:
    """What came of the first one counts for nothing, and it is set aside with its error once another one has listed."""
    both, (one, _two) = servers(people(3), people(5))
    one.failures = [error()]
    snapshots, _, _ = make(both)
    snapshot = await snapshots.refresh()
    assert (len(snapshot.roster), snapshot.report.server) == (5, TWO)
    assert both.servers == (TWO, ONE)


async def test_server_that_breaks_off_is_tried_once_more_when_all_have_failed() -> None:
    """One that says no is not."""
    both, (one, two) = servers(people(3), people(3))
    one.failures, two.failures = [incomplete()], [DirectoryUnavailable("it broke", directory="memory")]
    snapshots, _, _ = make(both)
    assert (await snapshots.refresh()).report.server == TWO
    assert (one.listing_count, two.listing_count) == (1, 2)


async def test_error_names_each_server_unless_all_say_the_same() -> None:
    """Two kinds are an outage, one kind is that kind."""
    both, (one, two) = servers(people(3), people(3))
    one.failures, two.failures = [incomplete("x")], [refused()]
    source = make(both)[0].source
    clock = source.clock
    with pytest.raises(DirectoryUnavailable, match=f"{ONE}: x; {TWO}: no rights"):
        await take_listing(source, None, clock)
    one.failures, two.failures = [incomplete("x")], [incomplete("y")]
    with pytest.raises(SearchIncomplete, match=f"{ONE}.*x"):
        await take_listing(source, None, clock)
    assert not both.aside


async def test_nobody_is_no_better_than_an_error() -> None:
    """At the first listing an empty server gives way to one with people; where none has any, that is what is told."""
    both, (one, two) = servers([], people(3))
    snapshots, _, _ = make(both)
    assert (await snapshots.refresh()).report.server == TWO
    both, (one, two) = servers([], people(3))
    two.failures = [incomplete("x")]
    snapshots, _, _ = make(both, allow_empty=True)
    with pytest.raises(DirectoryUnavailable, match=f"{ONE}: the account can bind but sees nobody; {TWO}: x"):
        await snapshots.refresh()
    both.down = {TWO}
    assert len((await snapshots.refresh()).roster) == 0
    both, (one, two) = servers([], [])
    snapshots, _, _ = make(both)
    with pytest.raises(RemovalsRefused, match="sees nobody"):
        await snapshots.refresh()
    assert (one.listing_count, two.listing_count) == (1, 1)


async def test_too_few_at_every_server_that_can_be_asked_is_no_outage() -> None:
    """`min_users` says so where one server is down, too; with enough at the second, that one is taken."""
    both, _ = servers(people(1), people(3))
    snapshots, _, _ = make(both, min_user_count=2)
    assert (await snapshots.refresh()).report.server == TWO
    both.down = {TWO}
    with pytest.raises(RemovalsRefused, match="1 users came"):
        await snapshots.refresh()


@pytest.mark.parametrize("others", [people(9, "other"), []])
@pytest.mark.parametrize("id_attribute", ["entryUUID", None])
async def test_server_that_knows_nobody_is_set_aside_until_it_does(
    others: list[Entry], id_attribute: str | None
) -> None:
    """Before its own listing is believed, or after another one's; the trial is that it knows those who are listed."""
    if id_attribute is None:
        others = [entry._replace(dn=entry.dn.replace("dc=e", "ou=other,dc=e")) for entry in others]
    both, (one, two) = servers(people(9), people(9))
    snapshots, clock, _ = make(both, id_attribute=id_attribute)
    assert (await snapshots.refresh()).report.server == ONE
    await checked(snapshots)
    assert not snapshots.replicas.strangers
    one.entries = others
    assert (await snapshots.refresh()).report.server == TWO
    stranger = snapshots.replicas.strangers[ONE]
    assert stranger.since_s == clock.now_s()
    by = id_attribute or "DN"
    assert f"it is no replica: it knows none of 5 listed users by their {by}" in stranger.error.message
    await both.restore()
    assert both.servers == (TWO, ONE)
    both.down = {TWO}
    with pytest.raises(DirectoryUnavailable):
        await snapshots.refresh()
    both.down = set()
    one.entries = people(9)
    await both.restore()
    assert (await snapshots.refresh()).report.server == ONE
    assert not snapshots.replicas.strangers
    two.entries = others
    await snapshots.refresh()
    await checked(snapshots)
    assert list(snapshots.replicas.strangers) == [TWO]
    assert names(snapshots) == [f"u{number:02}" for number in range(9)]


async def test_stranger_that_is_not_configured_any_more_is_told_no_more() -> None:
    """Or it would stand in the health for ever."""
    both, (_, two) = servers(people(9), [])
    snapshots, _, _ = make(both)
    await snapshots.refresh()
    await checked(snapshots)
    assert list(snapshots.replicas.strangers) == [TWO]
    both.members.remove(two)
    assert not snapshots.replicas.strangers


async def test_where_no_server_knows_anybody_the_guard_judges() -> None:
    """The first one's listing is taken, none is set aside."""
    both, (one, two) = servers(people(9), people(9))
    snapshots, _, _ = make(both, max_count=1)
    await snapshots.refresh()
    one.entries, two.entries = people(9, "new"), people(9, "new")
    snapshot = await snapshots.refresh()
    assert (snapshot.report.server, snapshot.guard.is_tripped, len(snapshot.roster)) == (ONE, True, 9)
    one.entries, two.entries = [], []
    snapshot = await snapshots.refresh()
    assert (snapshot.guard.is_tripped, len(snapshot.roster)) == (True, 9)


async def test_server_that_cannot_be_asked_is_not_called_a_stranger() -> None:
    """An error is no answer."""
    both, (_, two) = servers(people(9), people(9))
    snapshots, _, _ = make(both)
    two.look_up_failures = [incomplete()]
    await snapshots.refresh()
    await checked(snapshots)
    assert not snapshots.replicas.strangers
    assert not two.look_up_failures


async def test_one_user_says_nothing_of_a_server() -> None:
    """They may be gone; and a directory of one server is asked nothing."""
    both, (_, two) = servers(people(1), [])
    snapshots, _, _ = make(both)
    await snapshots.refresh()
    await checked(snapshots)
    assert two.look_up_count == 0
    alone = MemoryDirectory(*people(9))
    snapshots, _, _ = make(alone)
    for _ in range(2):
        await snapshots.refresh()
    assert alone.look_up_count == 0


async def test_sample_is_spread_and_leaves_out_who_did_not_come() -> None:
    """Five of a hundred, from end to end; those who are kept although they are missing say nothing."""
    source = make(MemoryDirectory())[0].source
    roster = roster_of_people(100)
    sample = choose_sample(source, roster, ())
    places = [roster.position_of(user.user_name) for user in sample]
    assert places == [0, 20, 40, 60, 80]
    absent = {roster[position].id for position in range(60)}
    places = [roster.position_of(user.user_name) for user in choose_sample(source, roster, absent)]
    assert places == [60, 80]
    assert choose_sample(source, roster, {roster[at].id for at in range(99)}) == ()
    assert [len(choose_sample(source, roster_of_people(count), ())) for count in range(7)] == [0, 0, 2, 3, 4, 5, 5]
    assert choose_sample(source, Roster(), ()) == ()


async def test_people_are_known_wherever_they_are() -> None:
    """Outside of the bases, too, as far as the account may look; what it may not is nobody."""
    both, (one, _) = servers([person("a"), person("b", base="ou=x,dc=e")], [])
    snapshots, _, _ = make(both, bases=("ou=people,dc=e",))
    users = [user for entry in one.entries if (user := snapshots.source.attribute_map.map_entry(entry).user)]
    assert await count_known(snapshots.source, users, ONE) == 2
    assert await count_known(snapshots.source, users, TWO) == 0
    with pytest.raises(DirectoryUnavailable):
        await count_known(snapshots.source, users, THREE)


async def test_nobody_is_lost_while_servers_take_turns() -> None:
    """Back and forth between a server and one that lags; a user who is new at either, and one who has really gone."""
    both, (one, two) = servers(people(9), people(7))
    snapshots, clock, _ = make(both)
    everybody = [f"u{number:02}" for number in range(9)]
    for _ in range(3):
        both.down = set()
        assert (await snapshots.refresh()).report.server == ONE
        assert names(snapshots) == everybody
        both.down = {ONE}
        clock.advance(1000)
        snapshot = await snapshots.refresh()
        assert (snapshot.report.server, snapshot.report.server_before) == (TWO, ONE)
        assert (names(snapshots), snapshot.report.witness_count) == (everybody, 2)
        assert {held.held_by for held in snapshot.guard.withheld} == {HeldBy.WITNESS}
    two.entries = [*people(7), person("zoe")]
    await snapshots.refresh()
    both.down = set()
    one.entries = people(8)
    snapshot = await snapshots.refresh()
    assert names(snapshots) == [*everybody[:8], "zoe"]
    assert (snapshot.report.server, snapshot.report.lagging, snapshot.report.removed_count) == (ONE, ("zoe",), 1)
    assert snapshot.guard.last_seen_at == {"id-zoe": TWO}
    two.entries = people(7)
    await snapshots.refresh()
    assert names(snapshots) == everybody[:8]


async def test_witness_that_was_made_anew_is_waited_for() -> None:
    """It lacks everybody, and knows nothing of those whom it has shown."""
    both, (one, _) = servers(people(9), people(7))
    snapshots, _, _ = make(both)
    await snapshots.refresh()
    one.entries = []
    snapshot = await snapshots.refresh()
    assert (snapshot.report.server, snapshot.report.witness_count) == (TWO, 2)
    assert "it is no replica" in snapshot.guard.withheld[0].removal.detail


async def test_what_differs_is_compared_with_the_word_of_the_witness() -> None:
    """`diff` says what the next refresh would make of it, and from which servers both are."""
    both, _ = servers(people(9), people(7))
    snapshots, _, _ = make(both)
    await snapshots.refresh()
    both.aside = {ONE: incomplete()}
    found = await snapshots.compare_now()
    assert found.review is not None
    assert (found.server_before, found.review.lagging) == (ONE, ("u07", "u08"))
    await snapshots.aclose()


async def test_checks_of_other_servers_end_with_the_directory() -> None:
    """Nothing is asked once it is left."""
    both, _ = servers(people(9), people(9))
    snapshots, _, _ = make(both)
    started = asyncio.Event()

    async def hang(_server: str) -> None:
        started.set()
        await asyncio.Event().wait()

    snapshots.replicas.check_others = hang  # type: ignore[method-assign]
    await snapshots.refresh()
    await started.wait()
    await snapshots.refresh()
    await snapshots.aclose()
    assert snapshots._checking is not None
    assert snapshots._checking.cancelled()


def test_error_of_a_stranger_is_a_directory_error() -> None:
    """It has a code of its own, which health shows."""
    error = NoReplica("x", directory="company", server=ONE)
    assert (isinstance(error, DirectoryError), error.code) == (True, "no_replica")
