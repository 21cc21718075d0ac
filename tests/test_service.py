"""The bridge over several directories: who has a name, what an answer is made of, what the operator says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from bridge.errors import ApprovalOutdated, BridgeError, DirectoryUnavailable, StateLost, StateUnavailable
from bridge.events import ApprovalExpired, Event, NamesContested, RemovalsApproved, RemovalsReset
from bridge.model import User
from bridge.removals.model import HeldBy, RemovalKind
from bridge.roster.roster import Roster
from bridge.service import Bridge
from bridge.snapshots.memory_store import DraftStore, MemorySnapshotStore
from bridge.snapshots.store import Snapshot, SnapshotStore
from bridge.state.sqlite_store import SqliteSnapshotStore
from tests.support.binds import make_binds
from tests.support.kept import roster_of, snapshot_of
from tests.support.manual_clock import ManualClock
from tests.support.memory_directory import MemoryDirectory, broken, make, person


def bridge_of(
    *directories: MemoryDirectory,
    store: SnapshotStore | None = None,
    clock: ManualClock | None = None,
    events: list[Event] | None = None,
    **options: object,
) -> tuple[Bridge, ManualClock]:
    """A bridge that answers all directories at `/m`."""
    clock = clock or ManualClock()
    bridge = Bridge(
        {"/m": tuple(directory.name for directory in directories)},
        [(found.source, found.policy) for found in (make(directory, **options)[0] for directory in directories)],
        store=store or MemorySnapshotStore(),
        clock=clock,
        make_token=lambda: "t",
        binds=make_binds(clock),
        observe=(events if events is not None else []).append,
    )
    return bridge, clock


async def dns(bridge: Bridge) -> list[str]:
    """The DNs of an answer."""
    listing = await bridge.list_users("/m", compressed=False)
    return [user["distinguishedName"] for user in json.loads(listing.body)]


class FailingStore(MemorySnapshotStore):
    """A store whose next calls fail as they are told to."""

    def __init__(self) -> None:
        super().__init__()
        self.save_failures: list[BaseException] = []
        self.holders_failures: list[BaseException] = []
        self.load_failures: dict[str, BridgeError] = {}

    async def load(self, directory: str) -> Snapshot | None:
        if directory in self.load_failures:
            raise self.load_failures[directory]
        return await super().load(directory)

    async def save(self, snapshot: Snapshot) -> None:
        if self.save_failures:
            raise self.save_failures.pop()
        await super().save(snapshot)

    async def save_holders(self, endpoint: str, holders: Mapping[str, str]) -> None:
        if self.holders_failures:
            raise self.holders_failures.pop()
        await super().save_holders(endpoint, holders)


def two(first: Sequence[str] = (), second: Sequence[str] = ()) -> tuple[MemoryDirectory, MemoryDirectory]:
    """Two directories, `a` before `b`, with people of these names."""
    a = MemoryDirectory(*(person(name, f"a-{name}", base="ou=a,dc=e") for name in first), name="a")
    b = MemoryDirectory(*(person(name, f"b-{name}", base="ou=b,dc=e") for name in second), name="b")
    return a, b


def join(directory: MemoryDirectory, name: str) -> None:
    base = f"ou={directory.name},dc=e"
    directory.entries = [*directory.entries, person(name, f"{directory.name}-{name}", base=base)]


async def test_new_contest_goes_to_the_directory_that_comes_first() -> None:
    """Where nobody had the name before, the endpoint's order decides, and it is told."""
    events: list[Event] = []
    bridge, _ = bridge_of(*two(["max"], ["Max"]), events=events)
    assert await dns(bridge) == ["uid=max,ou=a,dc=e"]
    assert NamesContested("/m", (("max", "a"),)) in events


@pytest.mark.parametrize("order", ["ab", "ba"])
async def test_first_start_gives_names_by_the_order_of_the_endpoint_and_not_of_the_listings(order: str) -> None:
    """Nobody was answered before, so that it must not matter which directory was quicker."""
    bridge, _ = bridge_of(*two(["max"], ["Max", "otto"]))
    for name in order:
        await bridge.refresh(name)
    assert await dns(bridge) == ["uid=max,ou=a,dc=e", "uid=otto,ou=b,dc=e"]


async def test_directory_that_was_alone_is_no_newcomer_after_a_reset() -> None:
    """What was answered before stays: the other directory had the name when the first one was forgotten."""
    a, b = two(["anna"], ["max"])
    bridge, _ = bridge_of(a, b)
    for name in "ba":
        await bridge.refresh(name)
    await bridge.reset("a")
    join(a, "max")
    assert await dns(bridge) == ["uid=anna,ou=a,dc=e", "uid=max,ou=b,dc=e"]


@pytest.mark.parametrize("restarts", [False, True])
async def test_name_stays_with_the_directory_that_had_it(restarts: bool) -> None:
    """A newcomer in a directory that comes first takes nobody's archive, before and after a restart."""
    a, b = two(["anna"], ["max"])
    store = MemorySnapshotStore()
    bridge, clock = bridge_of(a, b, store=store)
    assert await dns(bridge) == ["uid=anna,ou=a,dc=e", "uid=max,ou=b,dc=e"]
    if restarts:
        bridge, _ = bridge_of(a, b, store=store, clock=clock)
    join(a, "max")
    clock.advance(500)
    assert await dns(bridge) == ["uid=anna,ou=a,dc=e", "uid=max,ou=b,dc=e"]
    bridge, _ = bridge_of(a, b, store=store, clock=clock)
    assert await dns(bridge) == ["uid=anna,ou=a,dc=e", "uid=max,ou=b,dc=e"]


async def test_name_is_released_when_its_holder_leaves() -> None:
    """The twin: the other one gets it then, and keeps it when the first one is back."""
    a, b = two(["max"], ["max"])
    bridge, clock = bridge_of(a, b, max_count=5, allow_empty=True)
    assert await dns(bridge) == ["uid=max,ou=a,dc=e"]
    gone, a.entries = a.entries, ()
    clock.advance(500)
    assert await dns(bridge) == ["uid=max,ou=b,dc=e"]
    a.entries = gone
    clock.advance(500)
    assert await dns(bridge) == ["uid=max,ou=b,dc=e"]


async def test_directory_that_joins_takes_no_names() -> None:
    """A directory that is put before the others brings its own users, and leaves theirs alone."""
    a, b = two(["max", "neu"], ["max", "otto"])
    store = MemorySnapshotStore()
    bridge, clock = bridge_of(b, store=store)
    assert await dns(bridge) == ["uid=max,ou=b,dc=e", "uid=otto,ou=b,dc=e"]
    bridge, _ = bridge_of(a, b, store=store, clock=clock)
    assert await dns(bridge) == ["uid=max,ou=b,dc=e", "uid=neu,ou=a,dc=e", "uid=otto,ou=b,dc=e"]


async def test_directory_that_was_reset_has_the_names_that_it_had() -> None:
    """What was recorded of a contested name outlives the listing."""
    a, b = two(["max"], [])
    bridge, clock = bridge_of(a, b, allow_empty=True)
    await dns(bridge)
    join(b, "max")
    clock.advance(500)
    assert await dns(bridge) == ["uid=max,ou=a,dc=e"]
    await bridge.reset("a")
    assert await dns(bridge) == ["uid=max,ou=a,dc=e"]


async def test_process_that_ends_after_a_save_changes_nobodys_name() -> None:
    """A listing is kept, and the process is killed before it has said who gets the names in it."""
    a, b = two([], ["max"])
    store = FailingStore()
    bridge, clock = bridge_of(a, b, store=store, allow_empty=True)
    assert await dns(bridge) == ["uid=max,ou=b,dc=e"]
    join(a, "max")
    clock.advance(500)
    await bridge.directories["a"].refresh()  # and no answer was made of it
    bridge, _ = bridge_of(a, b, store=store, clock=clock, allow_empty=True)
    assert await dns(bridge) == ["uid=max,ou=b,dc=e"]


async def test_name_that_could_not_be_noted_stays_where_it_is() -> None:
    """The disk is full while a contest begins: the newer listing waits, and nobody loses the name."""
    a, b = two([], ["max"])
    store = FailingStore()
    bridge, clock = bridge_of(a, b, store=store, allow_empty=True)
    await dns(bridge)
    join(a, "max")
    clock.advance(500)
    store.holders_failures = [StateUnavailable("the disk is full")]
    assert await dns(bridge) == ["uid=max,ou=b,dc=e"]
    clock.advance(500)
    assert await dns(bridge) == ["uid=max,ou=b,dc=e"]
    assert len((await bridge.directories["a"].current()).roster) == 1


async def test_directories_that_are_listed_side_by_side_settle_their_names_one_after_the_other() -> None:
    """Whichever is kept first has the name, though neither knew of the other when its listing began."""
    a, b = two([], [])
    bridge, clock = bridge_of(a, b, allow_empty=True)
    await dns(bridge)
    join(a, "max")
    join(b, "max")
    clock.advance(500)
    a.gate.clear()
    slow = asyncio.create_task(bridge.directories["a"].refresh())
    await asyncio.sleep(0)
    await bridge.refresh("b")
    a.gate.set()
    await slow
    assert await dns(bridge) == ["uid=max,ou=b,dc=e"]


async def test_lost_listing_of_one_directory_keeps_no_other_from_being_listed() -> None:
    """One directory's earlier users are unknown: it is not answered, and its neighbour is refreshed all the same."""
    a, b = two(["anna"], ["bert"])
    store = FailingStore()
    bridge, _ = bridge_of(a, b, store=store)
    store.load_failures["a"] = StateLost("it was damaged")
    with pytest.raises(StateLost):
        await dns(bridge)
    assert len((await bridge.directories["b"].refresh()).roster) == 1


async def test_answer_is_of_the_newest_listings_when_one_directory_was_slow() -> None:
    """While one directory is being listed, the other is listed anew: the answer has what is new there."""
    a, b = two(["anna"], ["bert"])
    bridge, clock = bridge_of(a, b)
    await dns(bridge)
    clock.advance(99)
    await bridge.refresh("a")
    clock.advance(2)
    b.gate.clear()
    answer = asyncio.create_task(dns(bridge))
    await asyncio.sleep(0)
    join(a, "carl")
    await bridge.refresh("a")
    b.gate.set()
    assert await answer == ["uid=anna,ou=a,dc=e", "uid=bert,ou=b,dc=e", "uid=carl,ou=a,dc=e"]


async def test_approval_lets_exactly_what_was_shown_go() -> None:
    """The digest of what is withheld, one refresh later; any other one is refused."""
    events: list[Event] = []
    directory = MemoryDirectory(*(person(f"u{number}") for number in range(20)))
    bridge, _ = bridge_of(directory, events=events)
    await bridge.refresh("memory")
    directory.entries = directory.entries[:2]
    report = await bridge.refresh("memory")
    snapshot = bridge.directories["memory"].last_good
    assert snapshot is not None
    assert report.withheld_count == 18
    digest = snapshot.guard.digest or ""
    with pytest.raises(ApprovalOutdated):
        await bridge.approve(digest[::-1])
    assert await bridge.approve(digest) == ("memory", 18)
    assert RemovalsApproved("memory", digest, 18) in events
    assert (await bridge.refresh("memory")).approved_digest == digest
    assert len(await dns(bridge)) == 2
    assert [each.approved_digest for each in await bridge.reports("memory")] == [digest, None, None]
    with pytest.raises(ApprovalOutdated):
        await bridge.approve(digest)


async def test_approval_ends_when_the_set_changes_and_does_not_come_back_with_it() -> None:
    """One more is missing, and then the same ones as before: they need a new approval, with `on_trip: refuse`, too."""
    for refuse in (False, True):
        events: list[Event] = []
        everybody = [person(f"u{number}") for number in range(20)]
        directory = MemoryDirectory(*everybody)
        bridge, _ = bridge_of(directory, events=events, max_count=1, refuse=refuse)
        await bridge.refresh("memory")
        for count in (15, 14, 15):
            directory.entries = everybody[:count]
            if refuse:
                with pytest.raises(BridgeError, match="removals at once"):
                    await bridge.refresh("memory")
            else:
                await bridge.refresh("memory")
            snapshot = bridge.directories["memory"].last_good
            assert snapshot is not None
            assert len(snapshot.roster) == 20, "nobody has left"
            if len(events) == 2:
                await bridge.approve(snapshot.guard.digest or "")
        assert sum(isinstance(event, ApprovalExpired) for event in events) == 1


async def test_lost_listing_of_one_directory_keeps_nothing_from_being_approved() -> None:
    """The operator brings one directory in order after the other."""
    a, b = two(["anna"], [f"u{number}" for number in range(20)])
    store = FailingStore()
    bridge, _ = bridge_of(a, b, store=store, max_count=1)
    await bridge.refresh("b")
    b.entries = b.entries[:10]
    await bridge.refresh("b")
    snapshot = bridge.directories["b"].last_good
    assert snapshot is not None
    bridge, _ = bridge_of(a, b, store=store)
    store.load_failures["a"] = StateLost("it was damaged")
    with pytest.raises(StateLost):
        await bridge.approve("0" * 16)
    assert await bridge.approve(snapshot.guard.digest or "") == ("b", 10)


async def test_equal_sets_of_two_directories_are_approved_one_after_the_other() -> None:
    """Two views of one server withhold the same; each of them is approved by an approval of its own."""
    views = [MemoryDirectory(*(person(f"u{number}") for number in range(20)), name=name) for name in "ab"]
    bridge, _ = bridge_of(*views, max_count=1)
    for view in views:
        await bridge.refresh(view.name)
        view.entries = view.entries[:10]
        await bridge.refresh(view.name)
    snapshot = bridge.directories["a"].last_good
    assert snapshot is not None
    digest = snapshot.guard.digest or ""
    assert [await bridge.approve(digest) for _ in range(3)] == [("a", 10), ("b", 10), ("a", 10)]


async def test_reset_makes_the_next_listing_the_first_one() -> None:
    """Whatever it says is taken, but nobody at all; a directory that isn't configured any more can be reset, too."""
    events: list[Event] = []
    directory = MemoryDirectory(*(person(f"u{number}") for number in range(20)))
    store = MemorySnapshotStore()
    await store.save(snapshot_of(roster_of([User("1", "x", "cn=x")]), "former"))
    bridge, _ = bridge_of(directory, store=store, events=events)
    await bridge.refresh("memory")
    assert await bridge.strangers() == ("former",)
    await bridge.reset("former")
    assert await bridge.strangers() == ()
    directory.entries = directory.entries[:1]
    await bridge.reset("memory")
    assert RemovalsReset("memory") in events
    directory.failures = [broken(), broken()]
    with pytest.raises(DirectoryUnavailable):
        await dns(bridge)
    assert len(await dns(bridge)) == 1


async def test_bridge_ends_while_an_answer_is_being_made() -> None:
    """Nothing is left running, and nobody touches the store after its end."""

    class SlowStore(MemorySnapshotStore):
        is_slow = False
        reached = asyncio.Event()

        async def save_holders(self, endpoint: str, holders: Mapping[str, str]) -> None:
            if self.is_slow:
                self.reached.set()
                await asyncio.Event().wait()
            await super().save_holders(endpoint, holders)

    store, (a, b) = SlowStore(), two(["max"], ["max"])
    bridge, _ = bridge_of(a, b, store=store, allow_empty=True)
    await dns(bridge)
    a.entries = ()
    await bridge.directories["a"].refresh()
    store.is_slow = True
    waiting = asyncio.create_task(bridge.list_users("/m", compressed=True))
    await store.reached.wait()
    waiting.cancel()
    await bridge.aclose()
    await asyncio.gather(waiting, return_exceptions=True)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_draft_begins_with_what_is_kept_and_keeps_nothing() -> None:
    """What is saved in a draft is seen there alone; the store beneath stays as it was."""
    kept = MemorySnapshotStore()
    before = snapshot_of(roster_of([User("1", "x", "cn=x")]))
    await kept.save(before)
    await kept.save_holders("/m", {"max": "a"})
    draft = DraftStore(kept)
    assert await draft.load("company") is before
    assert await draft.load_holders("/m") == {"max": "a"}
    later = snapshot_of(Roster(), number=2.0)
    await draft.save(later)
    await draft.save_holders("/m", {"max": "b"})
    assert await draft.load("company") is later
    assert await draft.load_holders("/m") == {"max": "b"}
    assert await draft.load("other") is None
    assert await kept.load("company") is before
    assert await kept.load_holders("/m") == {"max": "a"}
    await draft.aclose()


async def test_rename_to_a_name_that_is_taken_can_be_approved_and_loses_nobody() -> None:
    """Approving a rename says nothing of losing the user: while somebody has the new name, the old one stays."""
    one, other = person("one", "1"), person("other", "2")
    directory = MemoryDirectory(one, other)
    bridge, _ = bridge_of(directory)
    await bridge.refresh("memory")
    directory.entries, directory.hidden = [person("other", "1")], [other]
    await bridge.refresh("memory")
    snapshot = bridge.directories["memory"].last_good
    assert snapshot is not None
    assert [(held.removal.kind, held.held_by) for held in snapshot.guard.withheld] == [
        (RemovalKind.RENAMED, HeldBy.NAME)
    ]
    await bridge.approve(snapshot.guard.digest or "")
    await bridge.refresh("memory")
    assert {user.id for user in (await bridge.directories["memory"].current()).roster} == {"1", "2"}


async def test_store_outlives_the_bridge(tmp_path: Path) -> None:
    """Another bridge goes on with it, and answers what was accepted, as a configuration that is read anew has to."""
    store = SqliteSnapshotStore.open(tmp_path)
    try:
        bridge, clock = bridge_of(MemoryDirectory(person("max")), store=store)
        accepted = await dns(bridge)
        await bridge.aclose()
        gone = MemoryDirectory()
        gone.failures = [broken()]
        bridge, _ = bridge_of(gone, store=store, clock=clock)
        await bridge.load()
        assert await dns(bridge) == accepted == ["uid=max,dc=e"]
        await bridge.aclose()
    finally:
        await store.aclose()
