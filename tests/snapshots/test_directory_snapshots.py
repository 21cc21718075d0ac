"""Snapshots: fresh, shared, stale, refused."""

from __future__ import annotations

import asyncio
import uuid

import pytest

from bridge.directory import Entry
from bridge.errors import (
    DirectoryUnavailable,
    RemovalsRefused,
    SearchIncomplete,
    SearchInvalid,
)
from bridge.events import Refreshed, RefreshFailed
from bridge.mapping import IdForm
from bridge.model import Status
from bridge.removals.model import RemovalReason
from bridge.service import Bridge
from bridge.snapshots.memory_store import MemorySnapshotStore
from tests.support.binds import make_binds
from tests.support.manual_clock import ManualClock
from tests.support.memory_directory import MemoryDirectory, broken, make, person


async def test_current_is_answered_from_memory_until_the_ttl_has_passed() -> None:
    """Within the TTL the directory isn't asked again."""
    directory = MemoryDirectory(person("a"))
    snapshots, clock, _ = make(directory)
    first = await snapshots.current()
    clock.advance(99)
    assert await snapshots.current() is first
    clock.advance(2)
    assert await snapshots.current() is not first
    assert directory.listing_count == 2


async def test_one_refresh_serves_all_who_wait_and_survives_who_leaves() -> None:
    """However many ask, one listing runs; a caller who gives up doesn't end it."""
    directory = MemoryDirectory(person("a"))
    directory.gate.clear()
    snapshots, _, _ = make(directory)
    waiting = [asyncio.create_task(snapshots.current()) for _ in range(10)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    await asyncio.sleep(0)
    directory.gate.set()
    found = await asyncio.gather(*waiting[1:])
    assert len({id(snapshot) for snapshot in found}) == 1
    assert directory.listing_count == 1


async def test_failed_refresh_answers_the_last_good_listing_while_it_is_young_enough() -> None:
    """Stale if error, and an error once it is too old; then all is well again."""
    directory = MemoryDirectory(person("a"))
    snapshots, clock, events = make(directory)
    good = await snapshots.current()
    clock.advance(500)
    directory.failures = [broken(), broken()]
    assert await snapshots.current() is good
    assert isinstance(events[-1], RefreshFailed)
    assert events[-1].stale_age_s == 500
    assert snapshots.failing_since_s == clock.now_s()
    clock.advance(600)
    directory.failures = [broken(), broken()]
    with pytest.raises(DirectoryUnavailable):
        await snapshots.current()
    assert await snapshots.current() is not good
    assert snapshots.failure is None


async def test_listing_that_breaks_off_begins_anew_once_and_is_never_mixed() -> None:
    """What came before the break counts for nothing."""
    directory = MemoryDirectory(person("a"), person("b"))
    snapshots, _, _ = make(directory)
    directory.failures = [broken()]
    assert len((await snapshots.current()).roster) == 2
    assert directory.listing_count == 2
    directory.failures = [broken(), broken(), broken()]
    with pytest.raises(DirectoryUnavailable):
        await snapshots.refresh()
    assert directory.listing_count == 4


@pytest.mark.parametrize(
    ("entries", "options", "sentence"),
    [
        ((), {}, "the account can bind but sees nobody"),
        ((Entry("cn=x,dc=e", {"entryuuid": [b"1"]}),), {}, "no entry makes a user"),
        ((person("a"),), {"min_user_count": 2}, "1 users came"),
    ],
)
async def test_listing_without_users_is_not_believed(
    entries: tuple[Entry, ...], options: dict[str, object], sentence: str
) -> None:
    """Complete, and wrong all the same: rights are missing, or the filter."""
    snapshots, _, _ = make(MemoryDirectory(*entries), **options)
    with pytest.raises(RemovalsRefused, match=sentence):
        await snapshots.current()


async def test_slow_refresh_does_not_keep_a_caller_who_can_have_an_older_listing() -> None:
    """The older one is answered after a while, and the refresh goes on; without one, the caller waits."""
    directory = MemoryDirectory(person("a"))
    snapshots, clock, _ = make(directory, patience_s=0.01)
    directory.gate.clear()
    waiting = asyncio.create_task(snapshots.current())
    done, _ = await asyncio.wait((waiting,), timeout=0.1)
    assert not done
    directory.gate.set()
    good = await waiting
    directory.gate.clear()
    directory.entries = (person("a"), person("b"))
    clock.advance(500)
    assert await snapshots.current() is good
    directory.gate.set()
    assert len((await snapshots.refresh()).roster) == 2
    assert directory.listing_count == 2


async def test_empty_listing_never_takes_the_place_of_a_full_one() -> None:
    """When rights are taken away overnight, yesterday's users stay in the answer, be they one or many."""
    directory = MemoryDirectory(person("a"))
    snapshots, clock, _ = make(directory)
    good = await snapshots.current()
    directory.entries = ()
    clock.advance(500)
    after = await snapshots.current()
    assert after.roster is good.roster
    assert [each.removal.user_name for each in after.guard.withheld] == ["a"]


async def test_empty_listing_is_believed_where_that_is_configured() -> None:
    """The twin: `allow_empty` says that nobody may be right."""
    snapshots, _, events = make(MemoryDirectory(), allow_empty=True)
    assert (await snapshots.current()).roster.json == b"[]"
    assert isinstance(events[-1], Refreshed)


async def test_entry_without_id_makes_the_listing_invalid_rather_than_shorter() -> None:
    """A service account that may not read the id would lose everybody, one by one."""
    snapshots, _, _ = make(MemoryDirectory(person("a"), Entry("uid=b,dc=e", {"uid": [b"b"]})))
    with pytest.raises(SearchInvalid, match=r"attributes\.id"):
        await snapshots.current()


async def test_entry_under_two_names_makes_the_listing_incomplete() -> None:
    """Somebody was renamed while the directory was being read."""
    snapshots, _, _ = make(MemoryDirectory(person("a", "1"), person("b", "1")))
    with pytest.raises(SearchIncomplete, match="under two user names"):
        await snapshots.current()


async def test_bases_are_asked_for_once_where_none_are_configured() -> None:
    """The default naming context, or an error that names the choices."""
    directory = MemoryDirectory(person("a"))
    snapshots, _, _ = make(directory, bases=())
    await snapshots.current()
    assert snapshots.source.bases == ("dc=e",)
    directory.default_context = None
    other, _, _ = make(directory, bases=())
    with pytest.raises(SearchInvalid, match="dc=e, dc=f"):
        await other.current()


async def test_snapshot_of_the_future_is_not_fresh() -> None:
    """Kept before the clock was set back by years: the directory is asked, and not in years only."""
    directory, store = MemoryDirectory(person("a")), MemorySnapshotStore()
    before, clock, _ = make(directory, store=store)
    await before.current()
    directory.entries = [*directory.entries, person("b")]
    clock.date_s -= 500_000
    after, _, _ = make(directory, store=store, clock=clock)
    directory.failures = [broken(), broken()]
    assert len((await after.current()).roster) == 1, "what was accepted is answered while nothing newer can be had"
    assert len((await after.current()).roster) == 2


@pytest.mark.parametrize("step_s", [-500_000.0, -3600.0, 3600.0, 86_400.0])
async def test_clock_that_is_set_makes_no_listing_older_or_younger(step_s: float) -> None:
    """A listing is as old as the time that has passed, whatever date it bears (a virtual machine that was a day behind)."""
    directory = MemoryDirectory(person("a"))
    snapshots, clock, events = make(directory)
    taken = await snapshots.current()
    clock.date_s += step_s
    clock.advance(99.0)
    assert await snapshots.current() is taken
    assert snapshots.age_s == 99.0
    clock.advance(800.0)
    directory.failures = [broken(), broken()]
    assert await snapshots.current() is taken, "younger than stale_if_error"
    clock.advance(101.0)
    directory.failures = [broken(), broken()]
    with pytest.raises(DirectoryUnavailable):
        await snapshots.current()
    assert [event.duration_s for event in events if isinstance(event, RefreshFailed)] == [0.0, 0.0]


async def test_another_id_attribute_ends_no_refresh() -> None:
    """Ids of the earlier configuration are none of the new attribute: users under their names stay what they are."""
    store, people = MemorySnapshotStore(), [person(f"u{number}") for number in range(30)]
    before, _, _ = make(MemoryDirectory(*people), store=store)
    await before.current()
    for number, entry in enumerate(people):
        people[number] = Entry(entry.dn, {**entry.attributes, "objectguid": [number.to_bytes(16, "big")]})
    after, _, _ = make(MemoryDirectory(*people), store=store, id_attribute="objectGUID", id_form=IdForm.GUID)
    snapshot = await after.refresh()
    assert [user.user_name for user in snapshot.roster] == sorted(f"u{number}" for number in range(30))
    assert {held.removal.reason for held in snapshot.guard.withheld} == {RemovalReason.UNCONFIRMED}
    await after.approve(snapshot.guard.digest or "")
    ids = {user.id for user in (await after.refresh()).roster}
    assert ids == {str(uuid.UUID(bytes_le=number.to_bytes(16, "big"))) for number in range(30)}


async def test_users_known_by_their_dn_are_not_frozen_when_its_spelling_changes() -> None:
    """The entry is there under another id: it is another user of the same name, whose changes must come through."""
    entry = person("a", mail=("a@e",))
    directory = MemoryDirectory(entry)
    snapshots, _, _ = make(directory, id_attribute=None)
    await snapshots.refresh()
    directory.entries = [Entry("UID=a,DC=e", {**entry.attributes, "mail": [b"a@e", b"new@e"]})]
    snapshot = await snapshots.refresh()
    assert [(user.id, user.email_addresses) for user in snapshot.roster] == [("UID=a,DC=e", ("a@e", "new@e"))]


async def test_report_tells_what_came_and_what_was_left_out() -> None:
    """Counts and examples of what made no user."""
    snapshots, _, events = make(MemoryDirectory(person("a"), Entry("cn=x,dc=e", {"entryuuid": [b"x"]})))
    await snapshots.current()
    event = events[-1]
    assert isinstance(event, Refreshed)
    assert (event.report.user_count, event.report.entry_count) == (1, 2)
    assert [(found.reason, found.count, found.examples) for found in event.report.skipped] == [
        ("no_user_name", 1, ("cn=x,dc=e",))
    ]


def make_bridge(*directories: MemoryDirectory) -> tuple[Bridge, ManualClock]:
    clock = ManualClock()
    made = [make(directory)[0] for directory in directories]
    sources = [(found.source, found.policy) for found in made]
    names = tuple(directory.name for directory in directories)
    bridge = Bridge(
        {"/m": names},
        sources,
        store=MemorySnapshotStore(),
        clock=clock,
        make_token=lambda: "t",
        binds=make_binds(clock),
        observe=lambda _: None,
    )
    return bridge, clock


async def test_list_is_of_all_directories_or_of_none() -> None:
    """Side by side, sorted together; one that fails makes the whole answer an error."""
    a, b = MemoryDirectory(person("z"), name="a"), MemoryDirectory(person("a"), name="b")
    bridge, clock = make_bridge(a, b)
    listing = await bridge.list_users("/m", compressed=False)
    assert listing.user_count == 2
    assert await bridge.list_users("/m", compressed=False) == listing
    assert (await bridge.list_users("/m", compressed=True)).encoding == "gzip"
    assert bridge.health().status is Status.OK
    b.failures = [broken("b"), broken("b")]
    clock.advance(2000)
    with pytest.raises(DirectoryUnavailable):
        await bridge.list_users("/m", compressed=False)
    assert bridge.health().status is Status.UNAVAILABLE
    await bridge.aclose()


async def test_health_tells_what_is_wrong_since_when_and_what_to_do() -> None:
    """Starting, well, degraded: with code, directory, message, remedy."""
    directory = MemoryDirectory(person("a"))
    bridge, clock = make_bridge(directory)
    (starting,) = bridge.health().endpoints
    assert (starting.status, starting.problems[0].code) == (Status.UNAVAILABLE, "snapshot_missing")
    await bridge.refresh("memory")
    assert bridge.health().status is Status.OK
    directory.failures = [broken(), broken()]
    clock.advance(200)
    await bridge.list_users("/m", compressed=False)
    (degraded,) = bridge.health().endpoints
    assert (degraded.status, degraded.problems[0].code) == (Status.DEGRADED, "directory_unavailable")
    assert degraded.problems[0].since_s == clock.now_s()
    await bridge.aclose()


async def test_keep_fresh_renews_ahead_of_time_and_backs_off_after_failures() -> None:
    """At four fifths of the TTL; after failures after 5 s, 10 s, 20 s, and back."""
    directory = MemoryDirectory(person("a"))
    bridge, _ = make_bridge(directory)
    directory.failures = [broken() for _ in range(6)]
    pauses: list[float] = []

    async def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await bridge.keep_fresh("memory", wait)
    assert pauses == [5, 10, 20, 80, 80]
    await bridge.aclose()
